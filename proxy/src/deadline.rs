//! Time limits of one connection with one timer: moving a limit into the future costs a comparison.
//!
//! The timer is armed for the earliest limit so far and left there when limits move on; when it fires too early it is armed
//! again. So a connection that goes from request to request touches the timer wheel about once a minute.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::reason::Reason;
use crate::turn;

/// The one timer of a connection.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// It is armed, and wakes the one task that polls it: no need to look at it before it has fired.
    armed: bool,
}

impl Timer {
    /// Armed for later than any limit that is likely to come first.
    pub(crate) fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(turn::now() + Duration::from_secs(75))), armed: false }
    }

    /// Ready when `limit` has passed. Always polled by the same task.
    pub(crate) fn poll_passed(&mut self, cx: &mut Context<'_>, limit: Instant) -> Poll<()> {
        loop {
            if limit < self.sleep.deadline() {
                self.sleep.as_mut().reset(limit);
                self.armed = false;
            }
            if self.armed && !self.sleep.is_elapsed() {
                return Poll::Pending;
            }
            self.armed = self.sleep.as_mut().poll(cx).is_pending();
            if self.armed {
                return Poll::Pending;
            }
            if limit <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(limit);
        }
    }

    /// What `work` gives, unless the limit passes first.
    pub(crate) async fn within<F: Future>(&mut self, limit: Instant, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_passed(cx, limit).map(|()| None),
        })
        .await
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

/// What one direction of an exchange waits for, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    /// When it becomes a failure; `None`: somebody else keeps the time.
    pub limit: Option<Instant>,
    /// Which failure.
    pub reason: Reason,
}

/// The limits of an exchange: of its two directions and of the whole.
#[derive(Debug)]
pub(crate) struct Waits {
    /// Of the request's way up.
    pub up: Cell<Wait>,
    /// Of the answer's way down.
    pub down: Cell<Wait>,
    /// Of the whole.
    pub total: Option<Instant>,
    /// When to look at the client, if nothing else happens: no limit.
    pub look: Cell<Option<Instant>>,
}

impl Waits {
    /// Nothing is waited for yet.
    pub(crate) fn new(total: Option<Instant>) -> Self {
        let none = Wait { limit: None, reason: Reason::TotalTimeout };
        Self { up: Cell::new(none), down: Cell::new(none), total, look: Cell::new(None) }
    }

    /// The limit that comes first, and what it means.
    pub(crate) fn first(&self) -> Option<(Instant, Reason)> {
        let whole = Wait { limit: self.total, reason: Reason::TotalTimeout };
        let look = Wait { limit: self.look.get(), reason: Reason::ClientLeft };
        let limits = [self.up.get(), self.down.get(), whole, look];
        limits.into_iter().filter_map(|wait| Some((wait.limit?, wait.reason))).min_by_key(|(limit, _)| *limit)
    }
}

/// Sets what a direction waits for.
pub(crate) fn wait(cell: &Cell<Wait>, limit: Duration, reason: Reason) {
    cell.set(Wait { limit: Some(turn::now() + limit), reason });
}

/// The direction waits for nothing.
pub(crate) fn wait_no_longer(cell: &Cell<Wait>) {
    cell.set(Wait { limit: None, ..cell.get() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_limit_passes_at_its_own_time_whatever_the_timer_was_armed_for() {
        let mut timer = Timer::new();
        for millis in [30, 5, 60] {
            let limit = Instant::now() + Duration::from_millis(millis);
            assert!(timer.within(limit, std::future::pending::<()>()).await.is_none());
            assert!(Instant::now() >= limit, "{millis} ms");
        }
        assert_eq!(timer.within(Instant::now() + Duration::from_secs(60), async { 7 }).await, Some(7));
    }
}
