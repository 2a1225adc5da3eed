//! Counters as a text that monitoring reads: OpenMetrics.

use std::fmt::Write;

use super::durations::{Durations, write_lengths};
use super::response::Response;
use super::stats::HttpStats;
use crate::base::stats::Stats;

/// The media type of OpenMetrics.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names of counters, and where their values are.
macro_rules! counters {
    ($stats:ident: $($field:ident $help:literal),* $(,)?) => {
        [$((stringify!($field), $help, $stats.$field)),*]
    };
}

/// Writes the counters of a reactor and of a server.
fn open_metrics(loop_stats: &Stats, http: &HttpStats, durations: Option<&Durations>) -> String {
    let mut text = String::with_capacity(4_096);
    let counters = counters!(loop_stats:
        turns "Turns of the loop",
        events "Readiness events",
        accepted "Connections accepted",
        refused "Connections refused",
        handshakes_failed "Handshakes that failed",
        accept_errors "Errors of accept",
        connected "Outgoing connections that came up",
        connect_failures "Outgoing connections that failed",
        closed "Connections that ended",
        closed_idle "Connections ended by an idle limit",
        closed_timeout "Connections ended by a deadline or a rate",
        closed_broken "Connections reset or broken",
        closed_overflow "Connections over a cap",
        reads "Reads that returned bytes",
        writes "Writes that the kernel took",
        bytes_read "Bytes read",
        bytes_written "Bytes written",
        bytes_unsent "Bytes accepted and lost",
        timers_fired "Timers that fired",
        messages "Messages from other threads",
        panics "Callbacks that panicked",
        slow_turns "Turns of the loop of a tenth of a second and more",
    );
    // Writing to a `String` does not fail.
    for (name, help, value) in counters {
        let _ = counter(&mut text, name, help, value);
    }
    let counters = counters!(http:
        requests "Requests that were well-formed",
        refused "Requests that were malformed or over a limit",
        timed_out "Requests that came too slowly",
        upgraded "Connections that went on with another protocol",
        gone "Exchanges whose client went before the answer",
        unanswered "Requests that a handler left without an answer",
    );
    for (name, help, value) in counters {
        let _ = counter(&mut text, &format!("http_{name}"), help, value);
    }
    text.push_str("# TYPE waterwheel_http_answers counter\n");
    text.push_str("# HELP waterwheel_http_answers Answers by the class of their status.\n");
    for (class, value) in (1..).zip(http.answers) {
        let _ = writeln!(text, "waterwheel_http_answers_total{{class=\"{class}xx\"}} {value}");
    }
    for (name, help, value) in [
        ("connections", "Connections now", loop_stats.connections),
        ("connections_peak", "The most connections at once", loop_stats.connections_peak),
    ] {
        let _ = writeln!(text, "# TYPE waterwheel_{name} gauge");
        let _ = writeln!(text, "# HELP waterwheel_{name} {help}.\nwaterwheel_{name} {value}");
    }
    let (turns, callbacks) = (&loop_stats.turn_times, &loop_stats.callback_times);
    write_lengths(&mut text, "turn", "How long turns of the loop took", turns);
    if callbacks.count() > 0 {
        let help = "How long callbacks took while an observer was installed";
        write_lengths(&mut text, "callback", help, callbacks);
    }
    if let Some(durations) = durations {
        durations.write_to(&mut text);
    }
    text.push_str("# EOF\n");
    text
}

fn counter(text: &mut String, name: &str, help: &str, value: u64) -> std::fmt::Result {
    writeln!(text, "# TYPE waterwheel_{name} counter")?;
    writeln!(text, "# HELP waterwheel_{name} {help}.")?;
    writeln!(text, "waterwheel_{name}_total {value}")
}

impl<A: 'static> Response<'_, A> {
    /// Answers with the counters of the reactor and of this server, as OpenMetrics text, which
    /// Prometheus reads.
    ///
    /// All names begin with `waterwheel_`, such as `waterwheel_http_requests_total`; each has a
    /// line `# HELP`. Counters begin at 0 when the reactor or the server is made. Three histograms
    /// are in seconds:
    ///
    /// | histogram | what it counts | it is there |
    /// |---|---|---|
    /// | `waterwheel_turn_seconds` | turns, as [`turn_times`] does | always |
    /// | `waterwheel_callback_seconds` | callbacks | with an [observer](crate::observer) |
    /// | `waterwheel_http_duration_seconds` | complete answers | with [`on_finish`] |
    ///
    /// No text of a peer is part of the answer. The answer is not protected: every client that
    /// reaches the path can read it. In a [`Fleet`](crate::fleet::Fleet) it has the counters of the
    /// one reactor that answers.
    ///
    /// [`on_finish`]: super::Server::on_finish
    /// [`turn_times`]: crate::Stats::turn_times
    ///
    /// # Examples
    /// ```
    /// use waterwheel::http::Router;
    /// let routes: Router<()> = Router::new().get("/metrics", |_, _, res| res.metrics());
    /// # let _ = routes;
    /// ```
    pub fn metrics(&mut self) {
        let durations = self.shared.durations.as_deref();
        let text = open_metrics(&self.conn.context().stats(), &self.shared.stats, durations);
        self.bytes(MEDIA_TYPE, text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_its_type_before_its_value_and_the_text_its_end() {
        let http = HttpStats { requests: 7, answers: [0, 5, 0, 2, 0], ..HttpStats::default() };
        let text = open_metrics(&Stats::default(), &http, Some(&Durations::default()));
        assert!(text.contains("\nwaterwheel_http_requests_total 7\n"), "{text}");
        assert!(text.contains("\nwaterwheel_http_answers_total{class=\"4xx\"} 2\n"), "{text}");
        assert!(text.ends_with("\n# EOF\n"));
        let mut known = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(!known.contains(&name), "{name} is there twice");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                known.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let ends = ["_total", "_bucket", "_count", "_sum"];
                let ends = ends.iter().find_map(|end| name.strip_suffix(end));
                let name = ends.unwrap_or(name);
                assert_eq!(known.last(), Some(&name), "{line}");
            }
        }
    }
}
