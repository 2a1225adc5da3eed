#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/models/corpus/frame.rs"]
mod frame;
#[path = "../../tests/models/frame_model.rs"]
mod frame_model;
#[allow(dead_code)] // Others use more of it.
#[path = "../../src/tests/fuzzing/input.rs"]
mod input;

fuzz_target!(|bytes: &[u8]| frame::run(bytes));
