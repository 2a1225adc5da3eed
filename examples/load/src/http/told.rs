//! What a report tells of HTTP besides what it tells of all messages.

use crate::plan::{Mode, Plan};
use crate::report::{Figure, Value, figure};
use crate::tally::Tally;

pub(crate) fn settings(plan: &Plan) -> Vec<Figure> {
    let Some(http) = &plan.http else { return Vec::new() };
    let count = |key, label, value: usize| figure(key, label, Value::Count(value as u64));
    let text = |key, label, text: &str| figure(key, label, Value::Text(text.to_owned()));
    let mut list = vec![
        text("method", "method", &http.method),
        text("url", "URL", &http.url),
        count("request_body_bytes", "body of a request, bytes", http.body_bytes),
        count("status", "status to come", http.status.into()),
    ];
    if plan.mode == Mode::Open {
        list.push(count("depth", "in flight on each", plan.depth));
    }
    list
}

/// What messages are called in a report, and what they are here.
const LABELS: [(&str, &str); 7] = [
    ("messages", "requests answered"),
    ("messages in all", "requests in all"),
    ("messages due", "requests due"),
    ("messages sent", "requests sent"),
    ("messages of the active", "requests of the active"),
    ("message size, bytes", "request size, bytes"),
    ("payload, each way", "requests, with their heads"),
];

/// The same figures in the words of HTTP.
pub(crate) fn reworded(plan: &Plan, mut list: Vec<Figure>) -> Vec<Figure> {
    for figure in list.iter_mut().filter(|_| plan.http.is_some()) {
        let found = LABELS.iter().find(|(label, _)| *label == figure.label);
        figure.label = found.map_or(figure.label, |(_, label)| label);
    }
    list
}

pub(crate) fn figures(plan: &Plan, tally: &Tally) -> Vec<Figure> {
    if plan.http.is_none() {
        return Vec::new();
    }
    let window = tally.window.as_secs_f64();
    let rate = if window > 0.0 { tally.body_bytes as f64 / window / 1e6 } else { 0.0 };
    vec![
        figure("body_megabytes_per_second", "bodies of answers", Value::MegabytesPerSecond(rate)),
        figure("wrong", "wrong answers", Value::Count(tally.wrong)),
        figure("reconnects", "connections made again", Value::Count(tally.reconnects)),
    ]
}
