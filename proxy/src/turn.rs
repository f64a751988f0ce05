//! The time as of the start of the present turn of a connection's task: one reading of the clock, however many limits and
//! durations depend on it.
//!
//! A turn is what a task does between being woken and waiting again: some dozen microseconds, a few milliseconds at most
//! (tokio makes a busy task yield). Limits are in whole seconds and latencies in whole turns, so nothing is lost.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::Instant;

thread_local! {
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// When the present turn started; the time itself outside of [`by_turns`].
pub(crate) fn now() -> Instant {
    STARTED.get().unwrap_or_else(Instant::now)
}

/// Does this work, with the clock read once in each of its turns, and keeps `kept` until it has ended.
pub(crate) fn by_turns<F: Future, K>(work: F, kept: K) -> ByTurns<F, K> {
    ByTurns { work, _kept: kept }
}

pin_project! {
    /// See [`by_turns`]. Written out, because an `async fn` around another future has room for it twice, and there is one
    /// of these for each idle connection.
    pub(crate) struct ByTurns<F, K> {
        #[pin]
        work: F,
        _kept: K,
    }
}

impl<F: Future, K> Future for ByTurns<F, K> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _turn = Turn::start();
        self.project().work.poll(cx)
    }
}

/// Forgets the time when the turn ends, in a panic too.
struct Turn;

impl Turn {
    fn start() -> Self {
        STARTED.set(Some(Instant::now()));
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        STARTED.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_stands_still_within_a_turn_and_moves_on_between_turns() {
        let work = async {
            let first = now();
            while Instant::now() <= first {}
            assert_eq!(now(), first);
            tokio::task::yield_now().await;
            assert!(now() > first);
        };
        by_turns(work, ()).await;
    }
}
