//! The least speed of a client: how slowly it may send a body.
//!
//! Only the time that is spent waiting for the client counts, so that a slow instance costs no client its request. One that
//! is fast at first may be slow later for as long as its average holds.
//!
//! Not here: silence as such (see `deadline`). Answers have no least speed: what the system has taken for the client is not
//! what the client has taken, and a client that takes nothing is silent.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// How fast one direction of one exchange has been so far.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Octets per second, at least; not 0.
    rate: u32,
    /// How long it may take beside what the rate allows.
    grace: Duration,
    waited: Cell<Duration>,
    octets: Cell<u64>,
    since: Cell<Option<Instant>>,
}

impl Pace {
    /// `None` when any speed will do.
    pub(crate) fn new(rate: u32, grace: Duration) -> Option<Self> {
        let (waited, octets, since) = <(Cell<Duration>, Cell<u64>, Cell<Option<Instant>>)>::default();
        (rate > 0).then_some(Self { rate, grace, waited, octets, since })
    }

    /// The client is waited for from now on; for this long at most.
    pub(crate) fn begin(&self, now: Instant) -> Duration {
        self.since.set(Some(now));
        let earned = Duration::try_from_secs_f64(self.octets.get() as f64 / f64::from(self.rate));
        self.grace.saturating_add(earned.unwrap_or(Duration::MAX)).saturating_sub(self.waited.get())
    }

    /// The wait is over.
    pub(crate) fn end(&self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited.set(self.waited.get() + now.duration_since(since));
        }
    }

    /// It moved so many octets.
    pub(crate) fn moved(&self, octets: usize) {
        self.octets.set(self.octets.get() + octets as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_bounded_by_grace_and_octets_together() {
        let secs = Duration::from_secs;
        let start = Instant::now();
        let pace = Pace::new(100, secs(10)).expect("a rate");
        assert_eq!(pace.begin(start), secs(10));
        pace.end(start + secs(4));
        assert_eq!(pace.begin(start + secs(4)), secs(6));
        pace.end(start + secs(4));
        pace.moved(300);
        // Time that passes between two waits is somebody else's.
        assert_eq!(pace.begin(start + secs(60)), secs(9));
        pace.end(start + secs(80));
        assert_eq!(pace.begin(start + secs(80)), Duration::ZERO);
        assert!(Pace::new(0, secs(10)).is_none());
    }
}
