//! What was measured, and what it comes to.

use std::fmt;
use std::time::Duration;

use crate::burst::Burst;
use crate::servers::SERVERS;
use crate::workload::Workload;

/// One server under one load, once.
pub(crate) struct Sample {
    /// The server's processor time a message, if the system tells it.
    cpu_us: Option<f64>,
    /// The part of one processor that the server had, in per cent.
    busy_percent: Option<f64>,
    messages_per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Sample {
    pub(crate) fn new(burst: &Burst, cpu: Option<Duration>) -> Self {
        let messages = burst.latencies.len() as f64;
        let seconds = burst.elapsed.as_secs_f64();
        let quantile = |q| burst.latencies.value_at_quantile(q) as f64 / 1e3;
        Self {
            cpu_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / messages),
            busy_percent: cpu.map(|cpu| cpu.as_secs_f64() * 100.0 / seconds),
            messages_per_second: messages / seconds,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
        }
    }
}

/// All samples; as text, a table in Markdown.
pub(crate) struct Table<'a> {
    workloads: &'a [&'static Workload],
    /// By workload, server and round.
    samples: Vec<Vec<Vec<Sample>>>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(workloads: &'a [&'static Workload]) -> Self {
        let servers = || SERVERS.iter().map(|_| Vec::new()).collect();
        Self { workloads, samples: workloads.iter().map(|_| servers()).collect() }
    }

    /// The sample of the next round.
    pub(crate) fn add(&mut self, workload: usize, server: usize, sample: Sample) {
        self.samples[workload][server].push(sample);
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| workload | server | CPU µs/message | ratio | busy % | messages/s | ratio | p50 µs \
             | ratio | p99 µs | ratio |"
        )?;
        writeln!(f, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for (workload, samples) in self.workloads.iter().zip(&self.samples) {
            for (server, own) in SERVERS.iter().zip(samples) {
                // The title stands beside the first server.
                let is_first = server.name == SERVERS[0].name;
                let title = if is_first { workload.title } else { "" };
                writeln!(f, "| {title} | {} | {} |", server.name, cells(own, &samples[0]))?;
            }
        }
        Ok(())
    }
}

/// One of a sample's figures.
type Figure = fn(&Sample) -> Option<f64>;

/// The figures of a server; `reference` has the same rounds of another.
fn cells(own: &[Sample], reference: &[Sample]) -> String {
    let mut cells = Vec::new();
    let figures: [(Figure, usize); 4] = [
        (|sample| sample.cpu_us, 2),
        (|sample| Some(sample.messages_per_second), 0),
        (|sample| Some(sample.p50_us), 0),
        (|sample| Some(sample.p99_us), 0),
    ];
    for (column, (figure, digits)) in figures.into_iter().enumerate() {
        cells.push(number(median(own.iter().filter_map(figure).collect()), digits));
        let pairs = own.iter().zip(reference);
        let ratios = pairs.filter_map(|(own, other)| Some(figure(own)? / figure(other)?));
        cells.push(ratio(ratios.collect(), column == 0));
        if column == 0 {
            let busy = own.iter().filter_map(|sample| sample.busy_percent).collect();
            cells.push(number(median(busy), 0));
        }
    }
    cells.join(" | ")
}

/// The median, and the range if it is wanted and there is one.
fn ratio(ratios: Vec<f64>, with_range: bool) -> String {
    let least = ratios.iter().copied().reduce(f64::min);
    let greatest = ratios.iter().copied().reduce(f64::max);
    let middle = number(median(ratios), 2);
    match least.zip(greatest) {
        Some((least, greatest)) if with_range && least < greatest => {
            format!("{middle} ({least:.2}–{greatest:.2})")
        }
        _ => middle,
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// `None` of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}
