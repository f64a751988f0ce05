//! Evidence that the canary is worse in one respect, gathered second by second, and valid whenever it is looked at.
//!
//! For one odds ratio, the product of the ratios of [`odds`](crate::odds) over all seconds is a nonnegative
//! supermartingale that starts at 1, as long as the canary is not worse: an e-process. By Ville's inequality (Ville 1939;
//! Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences") the
//! probability that it ever reaches `1 / alpha` is then at most `alpha`, however often and for how long it is looked at.
//! A weighted mean of such processes is one again. Here it is taken over
//!
//! - odds ratios from [`ODDS`], because nobody knows how much worse a bad version is, and
//! - the second from which on it is worse: half of the weight says from the start, the other half any later second, evenly
//!   over [`SECONDS`]. So a version that breaks after ten good minutes is not judged by these.
//!
//! "Not worse" means: odds at most [`MARGIN`] times those of the stable versions. Below that a difference is nothing to take
//! a release back for, and with enough requests any difference would be found.
//!
//! Not here: what counts as bad (see `comparison`).

use crate::odds::Counts;

/// Odds ratios that are looked for.
const ODDS: [f64; 6] = [1.7, 2.5, 4.0, 8.0, 20.0, 60.0];

/// Odds ratio up to which the canary counts as no worse.
pub const MARGIN: f64 = 1.1;

/// How long a release may be watched before nothing is left for later breaks, in seconds: an hour.
const SECONDS: f64 = 3600.0;

/// Evidence in one respect.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// For each odds ratio: the logarithm of the weighted mean over the starts so far.
    started: [f64; ODDS.len()],
    /// Weight of the starts that are still to come, of 1.
    to_come: f64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { started: [0.5f64.ln(); ODDS.len()], to_come: 0.5 }
    }
}

impl Evidence {
    /// Takes in one second. One in which nothing could be learned changes nothing.
    pub fn observe(&mut self, counts: &Counts) {
        if counts.is_silent() {
            return;
        }
        let starting = (0.5 / SECONDS).min(self.to_come);
        self.to_come -= starting;
        for (log, ratio) in self.started.iter_mut().zip(counts.log_ratios(ODDS, MARGIN)) {
            if starting > 0.0 {
                *log = log_add(*log, starting.ln());
            }
            *log += ratio;
        }
    }

    /// The logarithm of the e-process: at least `ln(1 / alpha)` with a probability of at most `alpha`, ever, unless the
    /// canary is worse.
    pub fn log(&self) -> f64 {
        let mut sum = self.to_come.ln();
        for log in self.started {
            sum = log_add(sum, log - (ODDS.len() as f64).ln());
        }
        sum
    }
}

/// `ln(exp(a) + exp(b))`
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let (small, great) = if a < b { (a, b) } else { (b, a) };
    if small == f64::NEG_INFINITY { great } else { great + (small - great).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(canary_bad: u64, stable_bad: u64) -> Counts {
        Counts { canary: 10, canary_bad, stable: 190, stable_bad }
    }

    #[test]
    fn it_starts_at_one_and_silence_says_nothing() {
        let mut evidence = Evidence::default();
        assert!(evidence.log().abs() < 1e-12);
        evidence.observe(&second(0, 0));
        assert_eq!(evidence, Evidence::default());
    }

    #[test]
    fn failures_at_the_canary_alone_are_evidence_and_the_share_it_ought_to_have_is_none() {
        let mut evidence = Evidence::default();
        for _ in 0..10 {
            evidence.observe(&second(1, 0));
        }
        assert!(evidence.log() > 15.0, "{}", evidence.log());
        let mut even = Evidence::default();
        for _ in 0..10 {
            even.observe(&second(1, 19));
        }
        assert!(even.log() < 0.0, "{}", even.log());
    }

    #[test]
    fn a_late_break_is_not_judged_by_the_good_time_before() {
        let mut evidence = Evidence::default();
        for _ in 0..600 {
            evidence.observe(&second(0, 2));
        }
        assert!(evidence.log() < 0.0 && evidence.log() > -2.0, "{}", evidence.log());
        let mut seconds = 0;
        while evidence.log() < 5.3 {
            evidence.observe(&second(2, 2));
            seconds += 1;
        }
        assert!(seconds <= 15, "{seconds}");
    }
}
