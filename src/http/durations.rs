//! How long exchanges took, as a histogram of fixed buckets.

use std::fmt::Write;
use std::time::Duration;

/// Upper bounds of the buckets, in milliseconds; the last bucket has none. The loop's clock is
/// 1 ms fine, so that a smaller bound would say nothing.
const BOUNDS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// How many were in each bucket, and in no smaller one.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Durations {
    pub(super) fn add(&mut self, duration: Duration) {
        let is_within = |bound: &u64| duration <= Duration::from_millis(*bound);
        let bucket = BOUNDS.iter().position(is_within).unwrap_or(BOUNDS.len());
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// Writes the histogram in the form of OpenMetrics.
    pub(super) fn write_to(&self, text: &mut String) {
        const NAME: &str = "waterwheel_http_duration_seconds";
        let _ = write!(text, "# TYPE {NAME} histogram\n# UNIT {NAME} seconds\n# HELP {NAME} ");
        text.push_str("From the head of a request to the end of its answer.\n");
        let mut count = 0;
        for (at, found) in self.counts.iter().enumerate() {
            count += found;
            // Bounds are floating-point numbers in their canonical form.
            let bound = BOUNDS.get(at).map(|&bound| Duration::from_millis(bound).as_secs_f64());
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
            let _ = writeln!(text, "{NAME}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(text, "{NAME}_count {count}\n{NAME}_sum {:?}", self.sum.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_every_bucket_that_it_fits() {
        let mut durations = Durations::default();
        for ms in [0, 1, 2, 3, 10_000, 10_001] {
            durations.add(Duration::from_millis(ms));
        }
        let mut text = String::new();
        durations.write_to(&mut text);
        for (bound, count) in [
            ("0.001", 2),
            ("0.002", 3),
            ("0.005", 4),
            ("1.0", 4),
            ("5.0", 4),
            ("10.0", 5),
            ("+Inf", 6),
        ] {
            let line =
                format!("\nwaterwheel_http_duration_seconds_bucket{{le=\"{bound}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(
            text.ends_with("_count 6\nwaterwheel_http_duration_seconds_sum 20.007\n"),
            "{text}"
        );
    }
}
