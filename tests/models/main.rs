//! The pure parts against models that are too simple to be wrong. No socket, and no clock.

mod corpus;
mod frame;
mod frame_model;
mod frame_rules;
#[allow(dead_code, reason = "the fuzzed rooms that are not public use more of it")]
#[path = "../../src/tests/fuzzing/input.rs"]
mod input;
mod wheel;
mod wheel_model;
