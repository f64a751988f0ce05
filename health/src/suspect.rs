//! When every probe fails at once with an error of this machine, the prober is the suspect: nothing falls, and a problem
//! says so.
//!
//! Out of file descriptors, out of memory, no network: such errors say nothing about the instances. Timeouts and refused
//! connections never count: those may be the instances' own.

use std::sync::Arc;

use fairway_catalog::Problem;
use fairway_catalog::config::labels::Severity;
use tokio::sync::watch;

/// Fewer probed instances than this prove nothing: one that is alone may well be gone with its network.
const ENOUGH: usize = 3;

/// What the last attempt says of the prober.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// Nothing: no attempt yet, or none that got as far as the instance.
    None,
    /// It works: an instance was reached, or refused.
    Works,
    /// It failed with an error of this machine.
    Local,
}

/// All probed instances, counted.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Tally {
    /// Those whose last attempt says something.
    counted: usize,
    /// Those of them whose last attempt failed with an error of this machine.
    local: usize,
    /// Those that would have fallen.
    held: usize,
    /// The last such error.
    error: Option<Arc<str>>,
}

impl Tally {
    fn is_suspect(&self) -> bool {
        self.counted >= ENOUGH && self.local == self.counted
    }

    /// The problem to show, once an instance is held up by it.
    pub(crate) fn problem(&self) -> Option<Problem> {
        if !self.is_suspect() || self.held == 0 {
            return None;
        }
        let error = self.error.as_deref().unwrap_or("unknown");
        let text = format!(
            "every probe fails with an error of this machine ({error}); the instances keep their conditions"
        );
        let remedy =
            "raise the limit of open files (`ulimit -n`), free memory, or repair this machine's network";
        Some(Problem::new("prober-suspect", Severity::Error, "health", text, remedy))
    }
}

/// Where the probe tasks say what they saw.
#[derive(Debug, Clone)]
pub(crate) struct Census(Arc<watch::Sender<Tally>>);

impl Census {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Tally::default())))
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Tally> {
        self.0.subscribe()
    }

    /// One more probed instance, for as long as the seat lives.
    pub(crate) fn seat(&self) -> Seat {
        Seat { census: self.clone(), evidence: Evidence::None, held: false }
    }

    /// Takes the old out and the new in; wakes the follower only if the sum changed.
    fn recount(&self, change: impl FnOnce(&mut Tally)) {
        self.0.send_if_modified(|tally| {
            let before = tally.clone();
            change(tally);
            *tally != before
        });
    }
}

/// One probed instance in the [`Census`].
#[derive(Debug)]
pub(crate) struct Seat {
    census: Census,
    evidence: Evidence,
    held: bool,
}

impl Seat {
    /// Says what the last attempt saw; true if every other one saw an error of this machine too.
    pub(crate) fn saw(&mut self, evidence: Evidence, detail: &Arc<str>) -> bool {
        let old = std::mem::replace(&mut self.evidence, evidence);
        self.census.recount(|tally| {
            tally.counted -= usize::from(old != Evidence::None);
            tally.local -= usize::from(old == Evidence::Local);
            tally.counted += usize::from(evidence != Evidence::None);
            tally.local += usize::from(evidence == Evidence::Local);
            if evidence == Evidence::Local {
                tally.error = Some(detail.clone());
            }
        });
        evidence == Evidence::Local && self.census.0.borrow().is_suspect()
    }

    /// Says whether the instance would have fallen.
    pub(crate) fn hold(&mut self, held: bool) {
        let old = std::mem::replace(&mut self.held, held);
        if old != held {
            self.census.recount(|tally| tally.held = tally.held + usize::from(held) - usize::from(old));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hold(false);
        self.saw(Evidence::None, &"".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_files() -> Arc<str> {
        "too many open files".into()
    }

    #[test]
    fn three_that_fail_together_with_local_errors_put_the_prober_under_suspicion() {
        let census = Census::new();
        let mut seats = [census.seat(), census.seat(), census.seat()];
        assert!(!seats[0].saw(Evidence::Local, &no_files()));
        assert!(!seats[1].saw(Evidence::Local, &no_files()));
        assert!(seats[2].saw(Evidence::Local, &no_files()));
        assert_eq!(census.follow().borrow().problem(), None, "nobody would have fallen yet");
        seats[2].hold(true);
        let problem = census.follow().borrow().problem().expect("one is held");
        assert_eq!(problem.kind, "prober-suspect");
        assert!(problem.text.contains("too many open files"), "{}", problem.text);
    }

    #[test]
    fn a_single_instance_that_is_reached_clears_the_prober() {
        let census = Census::new();
        let mut seats = [census.seat(), census.seat(), census.seat(), census.seat()];
        for seat in &mut seats {
            seat.saw(Evidence::Local, &no_files());
        }
        seats[0].hold(true);
        assert!(census.follow().borrow().problem().is_some());
        seats[3].saw(Evidence::Works, &"".into());
        assert!(!seats[0].saw(Evidence::Local, &no_files()));
        assert_eq!(census.follow().borrow().problem(), None);
    }

    #[test]
    fn two_instances_are_too_few_and_silent_or_gone_ones_do_not_count() {
        let census = Census::new();
        let mut seats = vec![census.seat(), census.seat(), census.seat()];
        assert!(!seats[0].saw(Evidence::Local, &no_files()));
        assert!(!seats[1].saw(Evidence::Local, &no_files()), "the third has said nothing");
        assert!(seats[2].saw(Evidence::Local, &no_files()));
        seats.pop();
        assert!(!seats[0].saw(Evidence::Local, &no_files()));
        seats.clear();
        assert_eq!((census.follow().borrow().counted, census.follow().borrow().local), (0, 0));
    }
}
