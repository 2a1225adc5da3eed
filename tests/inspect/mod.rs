//! The recorder, its warnings and its page, over real sockets.

#[path = "../examples/json.rs"]
mod json;
mod lanes;
mod page;
mod recorder;
mod rig;
mod warnings;
