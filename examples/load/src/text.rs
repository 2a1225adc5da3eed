//! The report on a terminal.

use std::fmt::Write;

use crate::report::{QUANTILES, Report, Series};
use crate::units::{grouped, latency};

/// Columns of the longest bar.
const BAR_COLUMNS: usize = 44;

/// Lines of the histogram at the most.
const MOST_LINES: usize = 20;

pub(crate) fn table(report: &Report) -> String {
    let mut text = format!("\n{}\n", report.title);
    if report.interrupted {
        text += "interrupted: what follows is what there was until then\n";
    }
    text.push('\n');
    let width = widest(report.figures.iter().map(|figure| figure.label));
    for figure in &report.figures {
        line(&mut text, format_args!("  {:width$}  {:>14}", figure.label, figure.value.text()));
    }
    latencies(&mut text, &report.series);
    if let Some(series) = report.series.first() {
        histogram(&mut text, series);
    }
    faults(&mut text, report);
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes all that is written");
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

fn latencies(text: &mut String, series: &[Series]) {
    if series.is_empty() {
        return;
    }
    let width = widest(series.iter().map(|series| series.label).chain(["latency"]));
    let names = QUANTILES.iter().map(|(_, name, _)| *name).chain(["max"]);
    let names: String = names.map(|name| format!("{name:>10}")).collect();
    line(text, format_args!("\n  {:width$}{names}", "latency"));
    for series in series {
        let cells = series.cells();
        let cells: String = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        line(text, format_args!("  {:width$}{cells}", series.label));
    }
}

/// One line for each bucket between the shortest and the longest time; the buckets are evenly
/// spaced on a logarithmic scale.
fn histogram(text: &mut String, series: &Series) {
    let times = &series.times;
    let edges = edges(times.min_nz().max(1), times.max().max(1));
    let counts: Vec<u64> =
        edges.windows(2).map(|edge| times.count_between(edge[0], edge[1] - 1)).collect();
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    line(text, format_args!("\n  {}, {} times", series.label, grouped(times.len())));
    for (edge, count) in edges.windows(2).zip(counts) {
        let share = count as f64 / times.len() as f64 * 100.0;
        let bar = bar(count as f64 / most as f64 * BAR_COLUMNS as f64);
        let (low, high) = (latency(edge[0]), latency(edge[1]));
        line(text, format_args!("  {low:>8} to {high:>8}  {bar:BAR_COLUMNS$} {share:6.2} %"));
    }
}

/// The buckets' edges: ten, five, three, two or one a decade, as many as fit.
fn edges(min: u64, max: u64) -> Vec<u64> {
    for a_decade in [10.0, 5.0, 3.0, 2.0, 1.0] {
        let first = ((min as f64).log10() * a_decade).floor() as i32;
        let last = ((max as f64).log10() * a_decade).floor() as i32 + 1;
        if (last - first) as usize <= MOST_LINES || a_decade == 1.0 {
            let edge = |step: i32| 10f64.powf(f64::from(step) / a_decade).round() as u64;
            return (first..=last).map(edge).collect();
        }
    }
    Vec::new()
}

/// A bar of so many columns, drawn in eighths; what is not zero shows.
fn bar(columns: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (columns * 8.0).ceil() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

fn faults(text: &mut String, report: &Report) {
    if report.faults.is_empty() && report.failures.is_empty() {
        *text += "\n  no errors\n";
        return;
    }
    *text += "\n  errors\n";
    for fault in &report.faults {
        let count = grouped(fault.count);
        line(text, format_args!("  {count:>10}  {} (first {})", fault.kind, fault.example));
    }
    for failure in &report.failures {
        line(text, format_args!("  failed: {failure}"));
    }
}
