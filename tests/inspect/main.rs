//! The recorder, its warnings and its page, over real sockets.

#[expect(dead_code, reason = "shared with tests that read other values")]
#[path = "../examples/json.rs"]
mod json;
mod recorder;
mod rig;
mod warnings;
