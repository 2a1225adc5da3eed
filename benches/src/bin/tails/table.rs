//! What the runs come to.

use crate::disturb::Disturbance;
use crate::probe::Found;
use crate::servers::SERVERS;

/// The figures of one run.
pub(crate) struct Sample {
    /// p50, p99, p99.9 and the longest time, in microseconds.
    times: [f64; 4],
    /// What the disturbance has done in a second, in its unit.
    work: f64,
    /// How late the probe has sent one message in a thousand, in microseconds.
    lateness: f64,
}

impl Sample {
    pub(crate) fn new(found: &Found, work: f64) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| micros(found.times.value_at_quantile(quantile));
        let times = [at(0.5), at(0.99), at(0.999), micros(found.times.max())];
        let lateness = micros(found.lateness.value_at_quantile(0.999));
        Self { times, work, lateness }
    }
}

pub(crate) const HEAD: &str = "\
| beside | server | p50 µs | p99 µs | ratio | p99.9 µs | max µs | work | probe late µs |
|---|---|--:|--:|--:|--:|--:|--:|--:|";

/// The lines of one disturbance. `samples`: by server, and then by round.
pub(crate) fn rows(disturbance: &Disturbance, samples: &[Vec<Sample>]) -> String {
    let mut text = String::new();
    for (at, (server, own)) in SERVERS.iter().zip(samples).enumerate() {
        let title = if at == 0 { disturbance.title } else { "" };
        let of = |figure: fn(&Sample) -> f64| median(own.iter().map(figure));
        let [p50, p99, p999, max] = [
            of(|sample| sample.times[0]),
            of(|sample| sample.times[1]),
            of(|sample| sample.times[2]),
            of(|sample| sample.times[3]),
        ];
        let pairs = own.iter().zip(&samples[0]);
        let ratio = median(pairs.map(|(own, first)| own.times[1] / first.times[1]));
        let (work, late) = (of(|sample| sample.work), of(|sample| sample.lateness));
        let work = match disturbance.unit {
            "" => String::new(),
            _ if work == 0.0 => "none in this time".to_owned(),
            unit => format!("{work:.0} {unit}"),
        };
        text += &format!(
            "| {title} | {} | {p50:.0} | {p99:.0} | {ratio:.2} | {p999:.0} | {max:.0} | {work} \
             | {late:.0} |\n",
            server.name
        );
    }
    text
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
