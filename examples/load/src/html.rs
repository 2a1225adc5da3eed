//! The report as a page that needs nothing but itself: a plot of the percentiles and the tables.

use std::fmt::{self, Write};

use crate::report::{Figure, QUANTILES, Report, Series};
use crate::units::{grouped, latency};

const STYLE: &str = "\
:root { color-scheme: light dark; --page: #fcfcfb; --ink: #1b1b1a; --faint: #6a6a66;
  --grid: #e2e2de; --one: #1f66c1; --two: #c05a00; --three: #23804a; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #161615; --ink: #ecebe7;
  --faint: #a3a29c; --grid: #33332f; --one: #6aa9f7; --two: #f0944d; --three: #5cc48a;
  --bad: #ff8a80; } }
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 2rem auto; max-width: 56rem; padding: 0 1rem; }
h1 { font-size: 1.2rem; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; }
.bad { color: var(--bad); }
svg { display: block; height: auto; width: 100%; }
svg text { fill: var(--faint); font-size: 13px; }
svg .grid { stroke: var(--grid); }
svg path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.one { color: var(--one); } .two { color: var(--two); } .three { color: var(--three); }
svg path, svg circle { stroke: currentColor; }
svg circle { fill: var(--page); stroke-width: 2; }
.key { display: inline-block; margin-right: 1.5rem; }
.key b { background: currentColor; display: inline-block; height: 3px; margin-right: .4rem;
  vertical-align: middle; width: 1.4rem; }
.key span { color: var(--ink); }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; margin-top: .5rem; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid var(--grid); font-weight: normal; padding: .25rem 1rem .25rem 0;
  text-align: right; white-space: nowrap; }
th { color: var(--faint); }
td:first-child, th:first-child { text-align: left; }
td.text { text-align: left; white-space: normal; }";

/// The classes of the series, in order; a report has three at the most.
const COLORS: [&str; 3] = ["one", "two", "three"];

pub(crate) fn page(report: &Report) -> String {
    let mut page = String::new();
    write(&mut page, report).expect("a string takes all that is written");
    page
}

fn write(page: &mut String, report: &Report) -> fmt::Result {
    let title = escape(&report.title);
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n",
    )?;
    if report.interrupted {
        page.write_str("<p class=\"bad\">Interrupted: this is what there was until then.</p>\n")?;
    }
    for failure in &report.failures {
        writeln!(page, "<p class=\"bad\">Failed: {}</p>", escape(failure))?;
    }
    if !report.series.is_empty() {
        page.write_str("<h2>Latency by percentile</h2>\n")?;
        legend(page, &report.series)?;
        Plot::new(&report.series).write(page, &report.series)?;
        latencies(page, &report.series)?;
    }
    figures(page, "Figures", &report.figures)?;
    faults(page, report)?;
    figures(page, "Settings", &report.settings)?;
    page.write_str("</body>\n</html>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn legend(page: &mut String, series: &[Series]) -> fmt::Result {
    page.write_str("<p>")?;
    for (series, color) in series.iter().zip(COLORS) {
        let label = escape(series.label);
        write!(page, "<span class=\"key {color}\"><b></b><span>{label}</span></span>")?;
    }
    page.write_str("</p>\n")
}

fn latencies(page: &mut String, series: &[Series]) -> fmt::Result {
    page.write_str("<div class=\"wide\"><table>\n<tr><th>latency</th><th>count</th>")?;
    for (_, name, _) in QUANTILES {
        write!(page, "<th>{name}</th>")?;
    }
    page.write_str("<th>max</th></tr>\n")?;
    for series in series {
        let (label, count) = (escape(series.label), grouped(series.times.len()));
        write!(page, "<tr><td>{label}</td><td>{count}</td>")?;
        for cell in series.cells() {
            write!(page, "<td>{cell}</td>")?;
        }
        page.write_str("</tr>\n")?;
    }
    page.write_str("</table></div>\n")
}

fn figures(page: &mut String, title: &str, figures: &[Figure]) -> fmt::Result {
    write!(page, "<h2>{title}</h2>\n<table>\n")?;
    for figure in figures {
        let (label, value) = (escape(figure.label), escape(&figure.value.text()));
        writeln!(page, "<tr><td>{label}</td><td>{value}</td></tr>")?;
    }
    page.write_str("</table>\n")
}

fn faults(page: &mut String, report: &Report) -> fmt::Result {
    page.write_str("<h2>Errors</h2>\n")?;
    if report.faults.is_empty() {
        return page.write_str("<p>None.</p>\n");
    }
    page.write_str("<table>\n<tr><th>kind</th><th>count</th><th>the first</th></tr>\n")?;
    for fault in &report.faults {
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>",
            escape(&fault.kind),
            grouped(fault.count),
            escape(&fault.example),
        )?;
    }
    page.write_str("</table>\n")
}

/// The plot's frame, in units of the drawing.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 828.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 372.0;

/// Points of a line between 0 % and the maximum.
const STEPS: u32 = 240;

/// The scales of a plot: across, nines (the logarithm of 1 / (1 - p)), so that the tail has the
/// room it deserves; up, the logarithm of the latency.
struct Plot {
    most_nines: f64,
    /// Logarithms of the lowest and the highest latency.
    low: f64,
    high: f64,
}

impl Plot {
    fn new(series: &[Series]) -> Self {
        let times = || series.iter().map(|series| &series.times);
        let count = times().map(|times| times.len()).max().unwrap_or(1);
        let min = times().map(|times| times.min()).min().unwrap_or(1);
        let max = times().map(|times| times.max()).max().unwrap_or(1);
        // Some room above and below, and a scale also where all times are one.
        let low = (min.max(1) as f64).log10() - 0.05;
        let high = (max.max(1) as f64).log10() + 0.05;
        Self { most_nines: (count as f64).log10().max(1.0), low, high: high.max(low + 0.5) }
    }

    fn x(&self, nines: f64) -> f64 {
        LEFT + nines / self.most_nines * (RIGHT - LEFT)
    }

    fn y(&self, nanos: u64) -> f64 {
        let share = ((nanos.max(1) as f64).log10() - self.low) / (self.high - self.low);
        BOTTOM - share * (BOTTOM - TOP)
    }

    fn write(&self, page: &mut String, series: &[Series]) -> fmt::Result {
        page.write_str(
            "<svg viewBox=\"0 0 860 424\" role=\"img\" \
             aria-label=\"Latency by percentile, both axes logarithmic\">\n",
        )?;
        self.percentile_axis(page)?;
        self.latency_axis(page)?;
        for (series, color) in series.iter().zip(COLORS) {
            self.line(page, series, color)?;
        }
        page.write_str("</svg>\n")
    }

    fn percentile_axis(&self, page: &mut String) -> fmt::Result {
        let mut ticks = vec![(0.0, "0 %".to_owned()), (2f64.log10(), "50 %".to_owned())];
        for nines in 1..=self.most_nines.floor() as usize {
            let label = match nines {
                1 => "90 %".to_owned(),
                2 => "99 %".to_owned(),
                _ => format!("99.{} %", "9".repeat(nines - 2)),
            };
            ticks.push((nines as f64, label));
        }
        for (nines, label) in ticks {
            let x = self.x(nines);
            writeln!(
                page,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                BOTTOM + 20.0,
            )?;
        }
        writeln!(
            page,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">percentile, on a scale of \
             1 / (1 − p)</text>",
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 44.0,
        )
    }

    fn latency_axis(&self, page: &mut String) -> fmt::Result {
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        // Over many decades the steps between would be too dense to read.
        let steps: &[u64] = if last - first > 4 { &[1] } else { &[1, 2, 5] };
        for exponent in first.max(0)..=last {
            for step in steps {
                let nanos = step * 10u64.pow(exponent as u32);
                let log = (nanos as f64).log10();
                if log < self.low || log > self.high {
                    continue;
                }
                let y = self.y(nanos);
                writeln!(
                    page,
                    "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" \
                     y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    LEFT - 8.0,
                    y + 4.5,
                    tick(nanos),
                )?;
            }
        }
        Ok(())
    }

    fn line(&self, page: &mut String, series: &Series, color: &str) -> fmt::Result {
        let times = &series.times;
        let most = (times.len() as f64).log10();
        write!(page, "<g class=\"{color}\"><path d=\"")?;
        for step in 0..=STEPS {
            let nines = most * f64::from(step) / f64::from(STEPS);
            let nanos = times.value_at_quantile(1.0 - 10f64.powf(-nines));
            let command = if step == 0 { 'M' } else { 'L' };
            write!(page, "{command}{:.1} {:.1}", self.x(nines), self.y(nanos))?;
        }
        writeln!(page, "\"/>")?;
        let told = QUANTILES.iter().map(|(_, name, quantile)| (*name, *quantile));
        let told = told.map(|(name, quantile)| {
            (name, -(1.0 - quantile).log10(), times.value_at_quantile(quantile))
        });
        for (name, nines, nanos) in told.chain([("max", most, times.max())]) {
            if nines <= most {
                let (x, y) = (self.x(nines), self.y(nanos));
                writeln!(
                    page,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{}, {name}: {}</title>\
                     </circle>",
                    escape(series.label),
                    latency(nanos),
                )?;
            }
        }
        page.write_str("</g>\n")
    }
}

/// A round latency, without decimals.
fn tick(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{} µs", nanos / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", nanos / 1_000_000),
        _ => format!("{} s", nanos / 1_000_000_000),
    }
}
