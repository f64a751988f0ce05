//! The figures of a release as people read them.

use std::time::Duration;

use crate::comparison::{ALPHA, Sample};

/// The quantiles that are told.
pub const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// What both sides did, and how strong the evidence against the canary is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// The target.
    pub canary: Sample,
    /// The other versions of the route in the same seconds.
    pub stable: Sample,
    /// The natural logarithm of the evidence that the canary is worse.
    pub log: f64,
}

/// The evidence from which on a canary is taken back: so many to one.
pub const NEEDED: f64 = 1.0 / ALPHA;
/// Larger evidence is told as this.
const TELLING: f64 = 1e9;

impl Figures {
    /// So many to one against the canary.
    pub fn odds(&self) -> f64 {
        self.log.exp().min(TELLING)
    }

    /// `canary: 12 of 240 requests failed (5.0 %), ...; stable: ...; evidence 310:1 (125:1 needed)`
    pub fn text(&self) -> String {
        let odds = self.odds();
        let odds = if odds < 10.0 { format!("{odds:.2}") } else { format!("{odds:.0}") };
        format!(
            "canary: {}; stable: {}; evidence against it {odds}:1 ({NEEDED:.0}:1 needed)",
            side(&self.canary),
            side(&self.stable)
        )
    }
}

fn side(sample: &Sample) -> String {
    let Sample { requests, failures, latencies } = sample;
    if *requests == 0 {
        return "no requests".to_owned();
    }
    let percent = *failures as f64 / *requests as f64 * 100.0;
    let times: Vec<String> =
        QUANTILES.iter().filter_map(|quantile| latencies.quantile(*quantile)).map(millis).collect();
    let times = match times.is_empty() {
        true => String::new(),
        false => format!(", p50/p90/p99 {} ms", times.join("/")),
    };
    format!("{failures} of {requests} requests failed ({percent:.2} %){times}")
}

fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.1}") } else { format!("{millis:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_one_line_with_both_sides_and_the_evidence() {
        let mut figures = Figures::default();
        figures.canary.requests = 240;
        figures.canary.failures = 12;
        (0..228).for_each(|_| figures.canary.latencies.count(Duration::from_millis(20)));
        figures.log = 310f64.ln();
        assert_eq!(
            figures.text(),
            "canary: 12 of 240 requests failed (5.00 %), p50/p90/p99 20/20/20 ms; stable: no requests; \
             evidence against it 310:1 (125:1 needed)"
        );
        figures.log = f64::INFINITY;
        assert_eq!(figures.odds(), 1e9);
    }
}
