//! The parts of the engine, each alone.

mod cork;
mod late_turns;
mod mailbox;
mod ready;
mod turn_ends;
mod window;
