//! How long what does not come is waited for.

use std::time::Duration;

use crate::patience::{LONGEST_SILENCE, SHORTEST_SILENCE, is_over};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_silence_is_longer_than_the_answers_take() {
    assert!(!is_over(secs(5), secs(1), secs(0), false));
    assert!(is_over(secs(5), SHORTEST_SILENCE, secs(0), false));
    assert!(!is_over(secs(5), secs(5), secs(3), false));
    assert!(is_over(secs(6), secs(6), secs(3), false));
    assert!(is_over(secs(60), LONGEST_SILENCE, secs(100), false));
}

#[test]
fn held_connections_are_asked_for_as_long_as_answers_come() {
    assert!(!is_over(secs(3_600), secs(1), secs(0), false));
    assert!(!is_over(secs(9), secs(1), secs(0), true));
    assert!(is_over(secs(10), secs(1), secs(0), true));
}
