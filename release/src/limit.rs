//! A failure rate that the canary may not exceed, whatever the stable versions do.
//!
//! Two failures of three requests are no rate of 67 %, so here, too, evidence is gathered: that the rate is above the limit
//! rather than at it. For one rate above the limit the product of the ratios of the two binomial probabilities is an
//! e-process (see `evidence`), here a mean over rates whose odds are [`ODDS`] times those of the limit, and over the second
//! from which on it is exceeded. A canary that keeps to its limit is taken back with a probability of at most [`ALPHA`]; one
//! that fails always is after three requests or so.

use crate::comparison::Sample;
use crate::evidence::log_add;

/// Highest probability that a canary within its limit is ever found above it.
pub const ALPHA: f64 = 0.001;

/// How many times the odds of the limit are looked for.
const ODDS: [f64; 6] = [1.2, 1.6, 2.5, 5.0, 20.0, 100.0];

/// How long a release may be watched before nothing is left for later breaks, in seconds.
const SECONDS: f64 = 3600.0;

/// Evidence that a failure rate is above a limit.
#[derive(Debug, Clone)]
pub struct Limit {
    rate: f64,
    /// For each of the odds: the logarithm of the weighted mean over the starts so far.
    started: [f64; ODDS.len()],
    /// Weight of the starts that are still to come, of 1.
    to_come: f64,
}

impl Limit {
    /// Nothing is known yet. `rate` is above 0 and below 1.
    pub fn new(rate: f64) -> Self {
        Self { rate, started: [0.5f64.ln(); ODDS.len()], to_come: 0.5 }
    }

    /// The limit.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes in one second of the canary.
    pub fn observe(&mut self, canary: &Sample) {
        if canary.requests == 0 {
            return;
        }
        let starting = (0.5 / SECONDS).min(self.to_come);
        self.to_come -= starting;
        let failures = canary.failures.min(canary.requests) as f64;
        let others = canary.requests as f64 - failures;
        for (log, odds) in self.started.iter_mut().zip(ODDS) {
            if starting > 0.0 {
                *log = log_add(*log, starting.ln());
            }
            // The rate with so many times the odds of the limit, over the limit; the same for what does not fail.
            let whole = 1.0 - self.rate + odds * self.rate;
            *log += failures * (odds / whole).ln() - others * whole.ln();
        }
    }

    /// Whether it is exceeded, for certain enough.
    pub fn is_exceeded(&self) -> bool {
        let started = self.started.iter().fold(f64::NEG_INFINITY, |sum, log| log_add(sum, *log));
        log_add(self.to_come.ln(), started - (ODDS.len() as f64).ln()) >= -ALPHA.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(limit: &mut Limit, requests: u64, failures: u64, most: u64) -> Option<u64> {
        let second = Sample { requests, failures, ..Sample::default() };
        (1..=most).find(|_| {
            limit.observe(&second);
            limit.is_exceeded()
        })
    }

    #[test]
    fn a_canary_that_always_fails_is_found_after_a_few_requests() {
        for rate in [0.01, 0.05, 0.2] {
            let found = seconds(&mut Limit::new(rate), 1, 1, 20);
            assert!(found.is_some_and(|at| at <= 8), "{rate}: {found:?}");
        }
    }

    #[test]
    fn one_at_its_limit_is_left_alone_and_one_a_little_above_is_found_in_time() {
        assert_eq!(seconds(&mut Limit::new(0.05), 20, 1, 3600), None);
        let found = seconds(&mut Limit::new(0.05), 100, 7, 600);
        assert!(found.is_some_and(|at| at <= 60), "{found:?}");
        let found = seconds(&mut Limit::new(0.05), 10, 2, 600);
        assert!(found.is_some_and(|at| at <= 30), "{found:?}");
    }

    #[test]
    fn a_late_break_is_not_outweighed_by_the_good_time_before() {
        let mut limit = Limit::new(0.05);
        assert_eq!(seconds(&mut limit, 50, 0, 1200), None);
        let found = seconds(&mut limit, 50, 25, 60);
        assert!(found.is_some_and(|at| at <= 2), "{found:?}");
    }

    #[test]
    fn canaries_within_their_limit_hardly_ever_exceed_it() {
        let mut found = 0;
        for seed in 0..1000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut limit = Limit::new(0.05);
            for _ in 0..300 {
                let failures = (0..20).filter(|_| rng.f64() < 0.05).count() as u64;
                limit.observe(&Sample { requests: 20, failures, ..Sample::default() });
                if limit.is_exceeded() {
                    found += 1;
                    break;
                }
            }
        }
        assert!(found <= 5, "{found} of 1000");
    }
}
