//! What is tested from within: the connection by scripts, and the targets of the fuzzers.

#[cfg(test)]
mod connection;
pub mod fuzzing;

use crate::stream::connection::{Connection, Flags, Phase, WriteSide};

/// Each flag that mirrors something says what is so.
#[track_caller]
fn check_flags<S>(connection: &Connection<S>) {
    let has_output = !connection.output().is_empty() || connection.has_files();
    for (flag, expected) in [
        (Flags::NOT_OPEN, !matches!(connection.phase(), Phase::Open)),
        (Flags::WRITE_SHUT, connection.write_side() != WriteSide::Open),
        (Flags::HAS_OUTPUT, has_output),
        (Flags::HAS_INPUT, !connection.input().is_empty()),
        (Flags::HAS_COLD, connection.has_cold()),
    ] {
        assert_eq!(connection.flags.has(flag), expected, "{flag:?} of {:?}", connection.flags);
    }
    let is_empty = connection.output_left() == 0;
    assert_eq!(is_empty, !has_output, "an empty file, or an account of bytes that is wrong");
    let is_sent = connection.write_side() == WriteSide::FinSent;
    assert!(!is_sent || !has_output, "output behind FIN");
}
