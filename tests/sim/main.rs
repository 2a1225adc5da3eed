//! The reactor in simulated worlds, by seeds.

mod datagrams;
#[cfg(feature = "http")]
mod http;
mod pool;
mod seeds;
mod simulation;
mod world;
