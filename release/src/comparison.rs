//! Compares a canary with the stable versions of its route, second by second, in four respects: failures, and how many
//! requests take longer than the stable versions' median, ninth decile and 99th percentile.
//!
//! All four are questions of the same kind, whether more of the canary's requests are bad, so all are answered in the same
//! way (see `evidence`). Too long is clearly longer than the quantile: where most requests take about as long, all of the canary's
//! may be beyond it for a tenth of a millisecond, which is nothing to take a release back for. How long that is comes from the seconds before, never from the one that is judged: otherwise
//! the counts would be judged by a bound that was drawn from them. The weighted mean of the four e-processes is one e-process:
//! there is one chance of a false alarm, of [`ALPHA`], for the whole of a release. Half of the weight is that of failures, which are
//! the rarest and matter most.

use std::time::Duration;

use crate::evidence::{Evidence, log_add};
use crate::latency::{Latencies, bucket_of};
use crate::odds::Counts;

/// Highest probability that a canary which is no worse is ever found worse, over a whole release.
pub const ALPHA: f64 = 0.008;

/// The quantiles of the stable versions that the canary's requests are held against.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// Requests of the stable versions that make up the past. Twice as many are halved.
const REMEMBERED: u64 = 20_000;

/// So many buckets beyond that of the quantile are too long: a third to a half longer.
const CLEARLY: usize = 2;

/// And so much longer at least.
const AT_LEAST: Duration = Duration::from_millis(2);

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
    const WEIGHTS: [f64; 4] = [1.0 / 2.0, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0];

    /// What is wrong with the canary then, for people.
    pub fn as_text(self) -> &'static str {
        match self {
            Self::Failures => "more of its requests fail",
            Self::Median => "more of its requests take clearly longer than the others' median",
            Self::Decile => "more of its requests take clearly longer than nine of ten of the others'",
            Self::Tail => "more of its requests take clearly longer than 99 of 100 of the others'",
        }
    }
}

impl Sample {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.latencies.add(&other.latencies);
    }
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
                let Some(bucket) = too_long(&self.past, quantile) else { continue };
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
        (self.log() >= -ALPHA.ln()).then(|| self.strongest())
    }

    /// The natural logarithm of the evidence that the canary is worse in any respect: 0 at the start, [`Comparison::worse`]
    /// from `ln(1 / ALPHA)` on.
    pub fn log(&self) -> f64 {
        let weighted =
            self.evidence.iter().zip(Respect::WEIGHTS).map(|(one, weight)| one.log() + weight.ln());
        weighted.fold(f64::NEG_INFINITY, log_add)
    }

    /// The respect in which there is most evidence, however little that is.
    pub fn strongest(&self) -> Respect {
        let logs = self.evidence.each_ref().map(Evidence::log).into_iter().zip(Respect::ALL);
        let strongest = logs.max_by(|(a, _), (b, _)| a.total_cmp(b));
        strongest.map_or(Respect::Failures, |(_, respect)| respect)
    }
}

/// The first bucket of what takes too long, by the quantile of the past.
fn too_long(past: &Latencies, quantile: f64) -> Option<usize> {
    let least = bucket_of(past.quantile(quantile)? + AT_LEAST) + 1;
    past.above(quantile).map(|bucket| (bucket + CLEARLY).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(requests: u64, micros: u64) -> Sample {
        let mut sample = Sample { requests, ..Sample::default() };
        (0..requests).for_each(|_| sample.latencies.count(Duration::from_micros(micros)));
        sample
    }

    fn found(stable_micros: u64, canary_micros: u64) -> Option<Respect> {
        let mut comparison = Comparison::default();
        (0..60).find_map(|_| {
            comparison.observe(&sample(10, canary_micros), &sample(190, stable_micros));
            comparison.worse()
        })
    }

    #[test]
    fn a_little_slower_is_nothing_to_take_a_release_back_for_however_even_the_others_are() {
        for (stable, canary) in [(800, 1_000), (800, 2_500), (20_000, 24_000), (400_000, 480_000)] {
            assert_eq!(found(stable, canary), None, "{stable} and {canary} us");
        }
        for (stable, canary) in [(800, 4_000), (20_000, 40_000), (400_000, 900_000)] {
            assert!(found(stable, canary).is_some(), "{stable} and {canary} us");
        }
    }
}
