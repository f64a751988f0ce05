//! New connections to instances that have not answered yet, of one worker: an instance that serves few connections at a time may
//! keep them waiting because other workers have theirs idle.
//!
//! Pools belong to workers, and nobody looks into another's. So a request that waits for long on a new connection asks for room:
//! whoever has a connection to that instance, idle or just done with, closes one (see `pool`). Asked at most once in a tick by each
//! worker, for an instance may be slow for any other reason. Not here: the tick (see `worker`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::EndpointState;
use crate::turn;

/// After this long it is no usual answer that is waited for.
const LONG: Duration = Duration::from_millis(500);

/// Those of one worker.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    waiting: RefCell<HashMap<u64, (Arc<EndpointState>, Instant)>>,
    next: Cell<u64>,
}

impl Newcomers {
    /// One more, until the instance answers it.
    pub(crate) fn enter(self: &Rc<Self>, state: &Arc<EndpointState>) -> Newcomer {
        let number = self.next.get();
        self.next.set(number + 1);
        self.waiting.borrow_mut().insert(number, (state.clone(), turn::now()));
        Newcomer { among: self.clone(), number }
    }

    /// Asks for room at the instances that have let one wait for long.
    pub(crate) fn ask_for_room(&self, now: Instant) {
        for (state, since) in self.waiting.borrow().values() {
            if now.saturating_duration_since(*since) >= LONG {
                state.wants_room();
            }
        }
    }
}

/// A connection without an answer.
pub(crate) struct Newcomer {
    among: Rc<Newcomers>,
    number: u64,
}

impl fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Newcomer({})", self.number)
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.among.waiting.borrow_mut().remove(&self.number);
    }
}
