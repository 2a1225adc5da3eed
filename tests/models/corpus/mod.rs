//! The corpora of the fuzzers: what they found worth keeping passes. Here are the public rooms,
//! under `src/tests/fuzzing/` the others.

mod frame;
mod wheel;

use crate::input;

#[test]
fn the_corpus_of_the_wheel_passes() {
    input::replay("wheel", wheel::run);
}

#[test]
fn the_corpus_of_the_frames_passes() {
    input::replay("frame", frame::run);
}
