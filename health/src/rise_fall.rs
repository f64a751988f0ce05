//! From single answers to a condition: rise 2, fall 3, and the proof of a fresh instance. Pure: no clock, no I/O.
//!
//! Not here: the attempts (see `attempt`), the pauses between them (see `task`).

use fairway_catalog::Condition;

/// Successes in a row that make an unhealthy instance ready.
const RISE: u32 = 2;
/// Failures in a row that make a ready instance unhealthy.
const FALL: u32 = 3;
/// Successes in a row that make a fresh instance ready.
const PROOF: u32 = 1;
/// Successes in a row that make an instance ready which ignored its stop signal (design rule 6).
const PROOF_AFTER_STOP: u32 = 3;

/// What one attempt says of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It answers as it should.
    Success,
    /// It does not.
    Failure,
    /// A failure that is believed to be the prober's own: it counts, but lets no instance fall.
    Suspect,
    /// Nothing.
    Nothing,
    /// It cannot be asked.
    Impossible,
}

/// The condition of one life of an instance, as its probe sees it.
#[derive(Debug, Clone)]
pub(crate) struct RiseFall {
    condition: Condition,
    proof: u32,
    successes: u32,
    failures: u32,
}

impl RiseFall {
    /// An instance of which nothing is known.
    pub(crate) fn new(overdue: bool) -> Self {
        let proof = if overdue { PROOF_AFTER_STOP } else { PROOF };
        Self { condition: Condition::Pending, proof, successes: 0, failures: 0 }
    }

    /// An instance that is probed in another way from now on, its condition known.
    pub(crate) fn resume(condition: Condition, overdue: bool) -> Self {
        Self { condition, ..Self::new(overdue) }
    }

    /// Pending until the first success (before it nothing falls, there is nothing to lose), then ready or unhealthy;
    /// unknown while it cannot be asked.
    pub(crate) fn condition(&self) -> Condition {
        self.condition
    }

    /// Whether it waits for its first success, when the probe repeats faster.
    pub(crate) fn is_unproven(&self) -> bool {
        self.condition == Condition::Pending && self.proof == PROOF
    }

    /// Whether it would have fallen, had its failures not been suspect.
    pub(crate) fn is_held(&self) -> bool {
        self.condition == Condition::Ready && self.failures >= FALL
    }

    /// Takes one answer in.
    pub(crate) fn see(&mut self, signal: Signal) {
        match signal {
            Signal::Success => self.rise(),
            Signal::Failure => self.fall(true),
            Signal::Suspect => self.fall(false),
            Signal::Nothing => {}
            Signal::Impossible => {
                *self = Self { condition: Condition::Unknown, successes: 0, failures: 0, ..self.clone() };
            }
        }
    }

    fn rise(&mut self) {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        let enough = match self.condition {
            Condition::Unhealthy => RISE,
            Condition::Unknown => 1,
            _ => self.proof,
        };
        if self.successes >= enough {
            self.condition = Condition::Ready;
        }
    }

    fn fall(&mut self, may_fall: bool) {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        if may_fall && self.failures >= FALL && self.condition != Condition::Pending {
            self.condition = Condition::Unhealthy;
        }
    }
}

#[cfg(test)]
mod tests {
    use Signal::{Failure, Impossible, Nothing, Success, Suspect};

    use super::*;

    fn after(mut health: RiseFall, signals: &[Signal]) -> Condition {
        signals.iter().for_each(|signal| health.see(*signal));
        health.condition()
    }

    fn fresh(signals: &[Signal]) -> Condition {
        after(RiseFall::new(false), signals)
    }

    #[test]
    fn one_success_proves_a_fresh_instance_however_often_it_failed_before() {
        assert_eq!(fresh(&[]), Condition::Pending);
        assert_eq!(fresh(&[Failure; 10]), Condition::Pending);
        assert_eq!(fresh(&[Failure, Failure, Failure, Failure, Success]), Condition::Ready);
    }

    #[test]
    fn a_ready_instance_falls_at_the_third_failure_in_a_row() {
        assert_eq!(fresh(&[Success, Failure, Failure]), Condition::Ready);
        assert_eq!(fresh(&[Success, Failure, Failure, Failure]), Condition::Unhealthy);
        assert_eq!(fresh(&[Success, Failure, Failure, Success, Failure, Failure]), Condition::Ready);
    }

    #[test]
    fn an_unhealthy_instance_rises_at_the_second_success_in_a_row() {
        let fallen = after_falling();
        assert_eq!(after(fallen.clone(), &[Success]), Condition::Unhealthy);
        assert_eq!(after(fallen.clone(), &[Success, Failure, Success]), Condition::Unhealthy);
        assert_eq!(after(fallen, &[Success, Success]), Condition::Ready);
    }

    fn after_falling() -> RiseFall {
        let mut health = RiseFall::new(false);
        for signal in [Success, Failure, Failure, Failure] {
            health.see(signal);
        }
        health
    }

    #[test]
    fn one_that_ignored_its_stop_signal_needs_three_successes_in_a_row() {
        let overdue = RiseFall::new(true);
        assert_eq!(
            after(overdue.clone(), &[Success, Success, Failure, Success, Success]),
            Condition::Pending
        );
        assert_eq!(after(overdue, &[Success, Success, Success]), Condition::Ready);
    }

    #[test]
    fn an_attempt_that_says_nothing_neither_breaks_nor_lengthens_a_row() {
        assert_eq!(fresh(&[Success, Failure, Failure, Nothing, Nothing]), Condition::Ready);
        assert_eq!(fresh(&[Success, Failure, Failure, Nothing, Failure]), Condition::Unhealthy);
    }

    #[test]
    fn suspect_failures_hold_until_one_is_believed() {
        let mut health = RiseFall::new(false);
        for signal in [Success, Suspect, Suspect, Suspect, Suspect] {
            health.see(signal);
        }
        assert_eq!(health.condition(), Condition::Ready);
        assert!(health.is_held());
        assert_eq!(after(health.clone(), &[Failure]), Condition::Unhealthy);
        health.see(Success);
        assert!(!health.is_held());
    }

    #[test]
    fn one_that_cannot_be_asked_is_unknown_until_it_answers() {
        assert_eq!(fresh(&[Impossible]), Condition::Unknown);
        assert_eq!(fresh(&[Success, Failure, Failure, Impossible, Failure]), Condition::Unknown);
        assert_eq!(fresh(&[Impossible, Success]), Condition::Ready);
        assert_eq!(fresh(&[Impossible, Failure, Failure, Failure]), Condition::Unhealthy);
    }

    #[test]
    fn a_probe_that_was_changed_goes_on_from_the_condition_known() {
        assert_eq!(after(RiseFall::resume(Condition::Ready, false), &[Failure, Failure]), Condition::Ready);
        assert_eq!(after(RiseFall::resume(Condition::Unhealthy, false), &[Success]), Condition::Unhealthy);
    }
}
