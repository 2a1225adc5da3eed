//! The parts of the engine, each alone.

mod cork;
mod mailbox;
mod ready;
mod turn_ends;
mod window;
