#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)] // Others use more of it.
#[path = "../../src/tests/fuzzing/input.rs"]
mod input;
#[path = "../../tests/models/corpus/wheel.rs"]
mod wheel;
#[path = "../../tests/models/wheel_model.rs"]
mod wheel_model;

fuzz_target!(|bytes: &[u8]| wheel::run(bytes));
