//! How long exchanges took, as a histogram of fixed buckets; and histograms as text.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::base::histogram::Histogram;

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
        let bounds = BOUNDS.map(Duration::from_millis).into_iter();
        let help = "From the head of a request to the end of its answer";
        write_histogram(text, "http_duration", help, bounds, &self.counts);
        let sum = self.sum.as_secs_f64();
        let count: u64 = self.counts.iter().sum();
        let name = "waterwheel_http_duration_seconds";
        let _ = writeln!(text, "{name}_count {count}\n{name}_sum {sum:?}");
    }
}

/// The buckets of a [`Histogram`] that end at these powers of two are written: from 1 µs to 17 s.
/// What is shorter counts to the first one.
const SHOWN_POWERS: RangeInclusive<usize> = 10..=34;

/// Writes a histogram of the loop in the form of OpenMetrics, which has no sum.
pub(super) fn write_lengths(text: &mut String, name: &str, help: &str, lengths: &Histogram) {
    let (first, last) = (*SHOWN_POWERS.start(), *SHOWN_POWERS.end());
    let counts = lengths.counts();
    // Bucket `n` ends at the power `n` + 1.
    let mut shown = counts[first - 1..=last].to_vec();
    shown[0] += counts[..first - 1].iter().sum::<u64>();
    shown[last - first + 1] += counts[last + 1..].iter().sum::<u64>();
    let bounds = SHOWN_POWERS.map(|power| Duration::from_nanos(1 << power));
    write_histogram(text, name, help, bounds, &shown);
}

/// Writes a histogram. The last of the buckets has no bound.
fn write_histogram(
    text: &mut String,
    name: &str,
    help: &str,
    mut bounds: impl Iterator<Item = Duration>,
    counts: &[u64],
) {
    let name = format!("waterwheel_{name}_seconds");
    // Writing to a `String` does not fail.
    let _ = write!(text, "# TYPE {name} histogram\n# UNIT {name} seconds\n# HELP {name} {help}.\n");
    let mut count = 0;
    for found in counts {
        count += found;
        // Bounds are floating-point numbers in their canonical form.
        let bound = bounds.next().map(|bound| format!("{:?}", bound.as_secs_f64()));
        let bound = bound.as_deref().unwrap_or("+Inf");
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_the_loop_are_counted_to_the_last_one() {
        let mut lengths = Histogram::default();
        for nanos in [3, 1_023, 1_024, 50_000_000, u64::MAX / 4] {
            lengths.add_nanos(nanos);
        }
        let mut text = String::new();
        write_lengths(&mut text, "turn", "Turns", &lengths);
        for (bound, count) in [
            ("1.024e-6", 2),
            ("2.048e-6", 3),
            ("0.033554432", 3),
            ("0.067108864", 4),
            ("17.179869184", 4),
            ("+Inf", 5),
        ] {
            let line = format!("\nwaterwheel_turn_seconds_bucket{{le=\"{bound}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert_eq!(text.matches("_bucket").count(), 26);
    }

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
