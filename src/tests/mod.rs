//! What is tested from within: the connection by scripts, and the targets of the fuzzers.

#[cfg(test)]
mod connection;
pub mod fuzzing;
