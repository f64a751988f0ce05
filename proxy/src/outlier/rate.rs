//! Whether an instance fails more often than its peers, and not by chance. Pure arithmetic.
//!
//! A likelihood ratio test: how much better "it fails at a rate of its own" explains the counts of one window than "all
//! fail alike" does. Twice the logarithm of that ratio is chi-square distributed with one degree of freedom if they do
//! (Wilks 1938), so [`EVIDENCE`] stands for one false ejection in 10^7 windows of an instance. Envoy compares success
//! rates with mean - 1.9 standard deviations over the instances instead: that needs five of them at least, and among
//! five the bound cannot be reached by one that is alone in failing unless it fails very much.
//!
//! A difference that is certain may still be small: it must be [`MORE`], and twice the peers' rate.

/// The logarithm of the likelihood ratio from which on it is not chance.
const EVIDENCE: f64 = 14.0;
/// The least difference of failure rates that is worth an ejection.
const MORE: f64 = 0.05;
/// Fewer requests than this prove nothing, of the instance or of its peers.
const ENOUGH: f64 = 20.0;

/// Requests of one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Those that were answered, whatever with below 500.
    pub(crate) good: u32,
    /// Those that failed, or were answered with 5xx.
    pub(crate) bad: u32,
}

impl Count {
    fn total(self) -> f64 {
        f64::from(self.good) + f64::from(self.bad)
    }

    pub(crate) fn rate(self) -> f64 {
        f64::from(self.bad) / self.total().max(1.0)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
    }
}

/// Whether `own` stands out against `peers`.
pub(crate) fn stands_out(own: Count, peers: Count) -> bool {
    let (rate, usual) = (own.rate(), peers.rate());
    let matters = rate >= usual + MORE && rate >= 2.0 * usual;
    if !matters || own.total() < ENOUGH || peers.total() < ENOUGH {
        return false;
    }
    let pooled = own.and(peers).rate();
    surprise(own, pooled) + surprise(peers, pooled) >= EVIDENCE
}

/// By how much the rate that was seen explains these counts better than this one does, as a logarithm.
fn surprise(count: Count, rate: f64) -> f64 {
    let term = |part: f64, seen: f64, expected: f64| {
        if part == 0.0 { 0.0 } else { part * (seen / expected).ln() }
    };
    let seen = count.rate();
    term(f64::from(count.bad), seen, rate) + term(f64::from(count.good), 1.0 - seen, 1.0 - rate)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    fn count(bad: u32, total: u32) -> Count {
        Count { good: total - bad, bad }
    }

    #[test]
    fn what_stands_out_is_certain_and_large() {
        for (own, peers, want) in [
            (count(20, 20), count(0, 20), true),
            (count(8, 20), count(0, 100), true),
            (count(5, 20), count(0, 100), false),
            (count(19, 19), count(0, 1000), false),
            (count(1000, 1000), count(0, 19), false),
            (count(60, 1000), count(0, 4000), true),
            // Certain, but too little to be worth it.
            (count(4_000, 100_000), count(0, 100_000), false),
            (count(500, 1000), count(2000, 5000), false),
            // All alike.
            (count(500, 1000), count(500, 1000), false),
            (count(1000, 1000), count(1000, 1000), false),
            (count(0, 1000), count(0, 1000), false),
        ] {
            assert_eq!(stands_out(own, peers), want, "{own:?} {peers:?}");
        }
    }

    /// 200,000 windows of instances that all fail alike; at one in 10^7 none stands out, more than two never.
    #[test]
    fn instances_that_fail_alike_hardly_ever_stand_out() {
        let mut rng = Rng::with_seed(11);
        let mut draw = |requests: u32, rate: f64| {
            let bad = (0..requests).filter(|_| rng.f64() < rate).count();
            count(u32::try_from(bad).expect("few"), requests)
        };
        let mut false_ones = 0;
        for rate in [0.01, 0.1, 0.3, 0.5] {
            for _ in 0..10_000 {
                let counts: Vec<Count> = (0..5).map(|_| draw(40, rate)).collect();
                for at in 0..counts.len() {
                    let others = counts.iter().enumerate().filter(|(other, _)| *other != at);
                    let peers = others.fold(Count::default(), |sum, (_, count)| sum.and(*count));
                    false_ones += u32::from(stands_out(counts[at], peers));
                }
            }
        }
        assert!(false_ones <= 2, "{false_ones} of 200,000");
    }
}
