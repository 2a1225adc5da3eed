//! How often something may be tried.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Names that are remembered at once. With more that have tried lately all others wait.
const MAX_NAMES: usize = 10_000;

/// Allows so many tries at once, and one more each interval, for each name. Clones are the same,
/// so that the reactors of a fleet count together.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    burst: Duration,
    interval: Duration,
    /// Until when the tries of each name are paid for.
    paid: Arc<Mutex<HashMap<String, Duration>>>,
}

impl Limiter {
    pub(super) fn new((tries, interval): (u32, Duration)) -> Self {
        Self { burst: interval * (tries - 1), interval, paid: Arc::default() }
    }

    /// Counts a try at this time; whether it is allowed.
    pub(super) fn allows(&self, name: &str, now: Duration) -> bool {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        if paid.len() >= MAX_NAMES && !paid.contains_key(name) {
            paid.retain(|_, until| *until > now);
            if paid.len() >= MAX_NAMES {
                return false;
            }
        }
        let until = paid.entry(name.to_owned()).or_default();
        let begin = (*until).max(now);
        let is_allowed = begin <= now + self.burst;
        if is_allowed {
            *until = begin + self.interval;
        }
        is_allowed
    }
}
