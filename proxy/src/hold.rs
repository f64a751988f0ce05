//! Requests that found no ready instance wait here for one (design rule 6): up to 5 s, 1,024 of a route at most.
//!
//! Not here: who may serve (see `pick`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use fairway_config::names::RouteId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pick::Tried;
use crate::reason::Reason;
use crate::table::{RouteEntry, RouteTable, TableHandle};

/// Longest wait.
pub const HOLD: Duration = Duration::from_secs(5);
/// Most requests of one route that wait at a time.
pub const HELD_MAX: u32 = 1024;

/// Why a wait ended without an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// [`HELD_MAX`] requests of the route wait already.
    #[error("{HELD_MAX} requests of the route wait already")]
    Full,
    /// The deadline came first.
    #[error("no instance became ready in time")]
    Expired,
}

impl NotHeld {
    /// The word for it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Full => Reason::HoldFull,
            Self::Expired => Reason::NoReadyInstance,
        }
    }
}

/// Waits until the route has an instance that may serve and that is not among `tried`, and gives the route's entry in
/// the table that says so. A route that is gone may come back before the deadline, usually [`HOLD`] after the request
/// came. May be dropped at any time.
pub async fn hold(
    handle: &TableHandle,
    route: &RouteId,
    tried: &Tried,
    deadline: Instant,
) -> Result<Arc<RouteEntry>, NotHeld> {
    let held = handle.holds.enter(route)?;
    loop {
        // Armed before the look, so that a table that comes between the two is not missed.
        let mut woken = std::pin::pin!(held.queue.woken.notified());
        woken.as_mut().enable();
        if let Some(entry) = handle.load().by_id(route).filter(|entry| entry.has_instance_beside(tried)) {
            return Ok(entry.clone());
        }
        if tokio::time::timeout_at(deadline, woken).await.is_err() {
            return Err(NotHeld::Expired);
        }
    }
}

/// The routes that requests wait for.
#[derive(Debug, Default)]
pub(crate) struct Holds(DashMap<RouteId, Arc<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    held: AtomicU32,
    woken: Notify,
}

/// One request that waits.
struct Held<'a> {
    holds: &'a Holds,
    route: &'a RouteId,
    queue: Arc<Queue>,
}

impl Holds {
    fn enter<'a>(&'a self, route: &'a RouteId) -> Result<Held<'a>, NotHeld> {
        // Counted under the map's lock, as leaving is: an empty queue is removed, and nobody must enter a removed one.
        let queue = self.0.entry(route.clone()).or_default();
        if queue.held.load(Ordering::Relaxed) >= HELD_MAX {
            return Err(NotHeld::Full);
        }
        queue.held.fetch_add(1, Ordering::Relaxed);
        Ok(Held { holds: self, route, queue: queue.clone() })
    }

    /// Wakes those whose route has an instance in the new table; the others sleep on.
    pub(crate) fn wake(&self, table: &RouteTable) {
        for queue in &self.0 {
            let route = table.by_id(queue.key());
            if route.is_some_and(|entry| entry.has_instance_beside(&Tried::default())) {
                queue.woken.notify_waiters();
            }
        }
    }

    /// How many requests wait, of all routes.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|queue| queue.held.load(Ordering::Relaxed) as usize).sum()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.holds.0.remove_if(self.route, |_, queue| queue.held.fetch_sub(1, Ordering::Relaxed) == 1);
    }
}
