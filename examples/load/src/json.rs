//! The report for machines: one JSON object.
//!
//! ```text
//! {"mode": "closed", "title": "…", "interrupted": false, "ok": true,
//!  "settings": {"target": "127.0.0.1:7000", "size_bytes": 64, …},
//!  "figures": {"messages_per_second": 151234.5, …},
//!  "latency": {"exchange": {"count": 1209876, "min_us": 21.5, "mean_us": 40.25, "p50_us": …}},
//!  "errors": [{"kind": "lost: reset by the peer", "count": 3, "example": "…"}],
//!  "failures": ["3 connections: lost"]}
//! ```
//!
//! Units are in the keys; a key that is there stays, with its meaning.

use std::fmt::{self, Display, Write};

use crate::report::{Figure, QUANTILES, Report, Series, Value};

/// As much of JSON as a report needs.
enum Json {
    Flag(bool),
    Whole(u64),
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

pub(crate) fn object(report: &Report) -> String {
    let series = report.series.iter();
    let errors = report.faults.iter().map(|fault| {
        Json::Object(vec![
            pair("kind", text(&fault.kind)),
            pair("count", Json::Whole(fault.count)),
            pair("example", text(&fault.example)),
        ])
    });
    let object = Json::Object(vec![
        pair("mode", text(report.mode.name())),
        pair("title", text(&report.title)),
        pair("interrupted", Json::Flag(report.interrupted)),
        pair("ok", Json::Flag(report.failures.is_empty())),
        pair("settings", figures(&report.settings)),
        pair("figures", figures(&report.figures)),
        pair("latency", Json::Object(series.map(times).collect())),
        pair("errors", Json::List(errors.collect())),
        pair("failures", Json::List(report.failures.iter().map(|failure| text(failure)).collect())),
    ]);
    object.to_string()
}

fn pair(key: &str, value: Json) -> (String, Json) {
    (key.to_owned(), value)
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

fn figures(figures: &[Figure]) -> Json {
    let value = |figure: &Figure| match &figure.value {
        Value::Count(count) => Json::Whole(*count),
        Value::PerSecond(value)
        | Value::Percent(value)
        | Value::MegabytesPerSecond(value)
        | Value::Seconds(value) => Json::Number(*value),
        Value::Text(value) => text(value),
    };
    Json::Object(figures.iter().map(|figure| pair(figure.key, value(figure))).collect())
}

fn times(series: &Series) -> (String, Json) {
    let times = &series.times;
    let micros = |nanos: u64| Json::Number(nanos as f64 / 1e3);
    let mut members = vec![
        pair("count", Json::Whole(times.len())),
        pair("min_us", micros(times.min())),
        pair("mean_us", Json::Number(times.mean() / 1e3)),
    ];
    for (key, _, quantile) in QUANTILES {
        members.push(pair(key, micros(times.value_at_quantile(quantile))));
    }
    members.push(pair("max_us", micros(times.max())));
    pair(series.key, Json::Object(members))
}

impl Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Whole(number) => write!(f, "{number}"),
            // JSON has no word for what is not finite.
            Self::Number(number) if number.is_finite() => write!(f, "{number:.3}"),
            Self::Number(_) => f.write_str("null"),
            Self::Text(text) => quote(f, text),
            Self::List(values) => {
                f.write_char('[')?;
                for (index, value) in values.iter().enumerate() {
                    separate(f, index)?;
                    value.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::Object(members) => {
                f.write_char('{')?;
                for (index, (key, value)) in members.iter().enumerate() {
                    separate(f, index)?;
                    quote(f, key)?;
                    f.write_str(": ")?;
                    value.fmt(f)?;
                }
                f.write_char('}')
            }
        }
    }
}

fn separate(f: &mut fmt::Formatter<'_>, index: usize) -> fmt::Result {
    if index > 0 { f.write_str(", ") } else { Ok(()) }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for char in text.chars() {
        match char {
            '"' | '\\' => write!(f, "\\{char}")?,
            '\n' => f.write_str("\\n")?,
            ..' ' => write!(f, "\\u{:04x}", char as u32)?,
            _ => f.write_char(char)?,
        }
    }
    f.write_char('"')
}
