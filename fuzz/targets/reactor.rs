#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/sim/program/mod.rs"]
mod program;

fuzz_target!(|bytes: &[u8]| {
    program::run(bytes);
});
