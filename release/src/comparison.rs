//! Compares a canary with the stable versions of its route, second by second, in four respects: failures, and how many
//! requests take longer than the stable versions' median, ninth decile and 99th percentile.
//!
//! All four are questions of the same kind, whether more of the canary's requests are bad, so all are answered in the same
//! way (see `evidence`). How long is too long comes from the seconds before, never from the one that is judged: otherwise
//! the counts would be judged by a bound that was drawn from them. The mean of the four e-processes is one e-process: there is
//! one chance of a false alarm, of [`ALPHA`], for the whole of a release.

use crate::evidence::{Evidence, log_add};
use crate::latency::Latencies;
use crate::odds::Counts;

/// Highest probability that a canary which is no worse is ever found worse, over a whole release.
pub const ALPHA: f64 = 0.008;

/// The quantiles of the stable versions that the canary's requests are held against.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// Requests of the stable versions that make up the past. Twice as many are halved.
const REMEMBERED: u64 = 20_000;

/// Fewest of them that say how long is too long.
const ENOUGH: u64 = 100;

/// What one side did in one second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests that ended.
    pub requests: u64,
    /// Failures among them.
    pub failures: u64,
    /// How long those took that were answered.
    pub latencies: Latencies,
}

/// In what a canary is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Respect {
    /// More of its requests fail.
    Failures,
    /// More of its requests are slower than the stable versions' median.
    Median,
    /// More are slower than nine of ten of theirs.
    Decile,
    /// More are slower than 99 of 100 of theirs.
    Tail,
}

impl Respect {
    const ALL: [Self; 4] = [Self::Failures, Self::Median, Self::Decile, Self::Tail];
}

/// What is known so far.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    evidence: [Evidence; Respect::ALL.len()],
    past: Latencies,
}

impl Comparison {
    /// Takes in one second.
    pub fn observe(&mut self, canary: &Sample, stable: &Sample) {
        let [failures, slow @ ..] = &mut self.evidence;
        failures.observe(&Counts {
            canary: canary.requests,
            canary_bad: canary.failures,
            stable: stable.requests,
            stable_bad: stable.failures,
        });
        if self.past.total() >= ENOUGH {
            for (evidence, quantile) in slow.iter_mut().zip(QUANTILES) {
                let Some(bucket) = self.past.above(quantile) else { continue };
                evidence.observe(&Counts {
                    canary: canary.latencies.total(),
                    canary_bad: canary.latencies.from(bucket),
                    stable: stable.latencies.total(),
                    stable_bad: stable.latencies.from(bucket),
                });
            }
        }
        self.past.add(&stable.latencies);
        if self.past.total() > 2 * REMEMBERED {
            self.past.fade();
        }
    }

    /// In what the canary is worse, once that is certain enough.
    pub fn worse(&self) -> Option<Respect> {
        let logs = self.evidence.each_ref().map(Evidence::log);
        let sum = logs.into_iter().fold(f64::NEG_INFINITY, log_add);
        let mean = sum - (logs.len() as f64).ln();
        if mean < -ALPHA.ln() {
            return None;
        }
        let strongest = logs.into_iter().zip(Respect::ALL).max_by(|(a, _), (b, _)| a.total_cmp(b));
        strongest.map(|(_, respect)| respect)
    }
}
