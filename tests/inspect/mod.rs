//! The recorder, its warnings and its page, over real sockets.

#[path = "../examples/json.rs"]
mod json;
mod lanes;
#[path = "../support/logged.rs"]
mod logged;
mod page;
mod recorder;
mod rig;
mod warnings;
