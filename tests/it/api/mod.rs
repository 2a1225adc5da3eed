//! What the public types say and default to, and what a wrong key does.

mod defaults;
mod display;
mod foreign_keys;
mod kinds;
mod options;
mod states;
mod timers;
mod writes;
