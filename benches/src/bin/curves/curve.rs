//! A curve: what was measured, and whether it bends.

use std::fmt::Write;
use std::time::Duration;

/// From here on a point is dearer than those before it, and not only noise.
pub(crate) const KNEE: f64 = 1.5;

pub(crate) struct Curve {
    /// What grows.
    pub(crate) size: &'static str,
    /// What the cost is of.
    pub(crate) cost: &'static str,
    /// The size, and nanoseconds.
    pub(crate) points: Vec<(usize, f64)>,
}

/// How points are measured.
pub(crate) struct Measure {
    repeat: usize,
}

impl Measure {
    pub(crate) fn new(repeat: usize) -> Self {
        Self { repeat }
    }

    /// Measures one point after the other: `run` says how much CPU time so many operations took.
    pub(crate) fn curve(
        &self,
        (size, cost): (&'static str, &'static str),
        sizes: &[usize],
        mut run: impl FnMut(usize) -> (Duration, usize),
    ) -> Curve {
        let mut least = |size| {
            let costs = (0..self.repeat).map(|_| {
                let (took, operations) = run(size);
                took.as_nanos() as f64 / operations as f64
            });
            costs.fold(f64::INFINITY, f64::min)
        };
        Curve { size, cost, points: sizes.iter().map(|&size| (size, least(size))).collect() }
    }
}

impl Curve {
    /// How many times the cheapest point before it each point costs.
    fn growth(&self) -> impl Iterator<Item = f64> {
        let mut cheapest = f64::INFINITY;
        self.points.iter().map(move |&(_, cost)| {
            let growth = if cheapest.is_finite() { cost / cheapest } else { 1.0 };
            cheapest = cheapest.min(cost);
            growth
        })
    }

    pub(crate) fn table(&self, name: &str) -> String {
        let mut text = format!("\n{name}: ns {}, by {}\n", self.cost, self.size);
        for (&(size, cost), growth) in self.points.iter().zip(self.growth()) {
            let knee = if growth > KNEE { format!("  {growth:.1} times") } else { String::new() };
            let _ = writeln!(text, "{size:>10} {cost:>10.1}{knee}");
        }
        text
    }
}
