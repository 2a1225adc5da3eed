//! How long what does not come is waited for.

use std::time::Duration;

/// The shortest silence, in the end, after which answers that are still to come are given up.
pub(crate) const SHORTEST_SILENCE: Duration = Duration::from_secs(2);

/// The longest one.
pub(crate) const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// How long answers are waited for in the end while some still come.
const LONGEST_FINISH: Duration = Duration::from_secs(10);

/// Whether answers that are still to come are given up. `is_bounded` says that all of them were on
/// their way when the end began: held connections are asked some at a time, so that only a silence
/// ends it there.
pub(crate) fn is_over(
    finishing_for: Duration,
    silent_for: Duration,
    longest_exchange: Duration,
    is_bounded: bool,
) -> bool {
    // A server whose answers take seconds is not silent between two of them.
    let silence = (longest_exchange * 2).clamp(SHORTEST_SILENCE, LONGEST_SILENCE);
    silent_for >= silence || (is_bounded && finishing_for >= LONGEST_FINISH)
}
