//! What the rounds come to.

/// The figures of both servers, by round.
#[derive(Default)]
pub(crate) struct Pairs(Vec<[f64; 2]>);

impl Pairs {
    pub(crate) fn add(&mut self, pair: [f64; 2]) {
        self.0.push(pair);
    }

    pub(crate) fn medians(&self) -> [f64; 2] {
        [0, 1].map(|at| quartiles(self.0.iter().map(|pair| pair[at]).collect())[1])
    }

    /// The first server against the second: the median, and the quartiles.
    pub(crate) fn ratio(&self) -> String {
        let ratios = self.0.iter().map(|[own, other]| own / other).collect();
        let [lower, middle, upper] = quartiles(ratios);
        format!("{middle:.2} ({lower:.2}–{upper:.2})")
    }
}

/// Lower quartile, median, upper quartile, between two values where they fall there.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|part| {
        let place = part * (values.len() - 1) as f64;
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        values[below] + (values[above] - values[below]) * place.fract()
    })
}
