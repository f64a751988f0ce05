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

use crate::endpoint::EndpointState;
use crate::pick::Tried;
use crate::reason::Reason;
use crate::table::{RouteEntry, RouteTable, TableHandle};
use crate::turn;

/// Longest wait.
pub const HOLD: Duration = Duration::from_secs(5);
/// Most requests of one route that wait at a time.
pub const HELD_MAX: u32 = 1024;

/// How long the news may take that an instance stops, or is gone.
pub(crate) const NEWS: Duration = Duration::from_secs(1);

/// How often a request that waits for one instance to listen looks whether it does.
const LOOK: Duration = Duration::from_millis(25);

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

/// The same for somebody whom the route's instances failed though they serve by the table of now: as long as the `news` may
/// take that they do no more, if any may come, and then on if none serves. `None`: some do, so the failure stands.
pub(crate) async fn hold_for_another(
    handle: &TableHandle,
    route: &RouteId,
    tried: &Tried,
    news: bool,
    deadline: Instant,
) -> Result<Option<Arc<RouteEntry>>, NotHeld> {
    let stands = |entry: &Arc<RouteEntry>| entry.has_serving() && !entry.has_instance_beside(tried);
    let stands = || handle.load().by_id(route).is_some_and(stands);
    if !news && stands() {
        return Ok(None);
    }
    let soon = if news { deadline.min(turn::now() + NEWS) } else { deadline };
    match hold(handle, route, tried, soon).await {
        Err(_) if stands() => Ok(None),
        Err(NotHeld::Expired) => hold(handle, route, tried, deadline).await.map(Some),
        held => held.map(Some),
    }
}

/// Waits until there is news of the route, or it is the caller's turn to ask whether this instance listens by now, which
/// has just started. May be dropped at any time.
pub(crate) async fn until_listening(
    handle: &TableHandle,
    route: &RouteId,
    state: &EndpointState,
    deadline: Instant,
) -> Result<(), NotHeld> {
    let held = handle.holds.enter(route)?;
    loop {
        let mut woken = std::pin::pin!(held.queue.woken.notified());
        woken.as_mut().enable();
        let now = Instant::now();
        if now >= deadline {
            return Err(NotHeld::Expired);
        }
        if state.standing.may_knock(now.into_std()) {
            return Ok(());
        }
        if tokio::time::timeout_at(deadline.min(now + LOOK), woken).await.is_ok() {
            return Ok(());
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::metrics::Metrics;
    use crate::table::fixture::*;

    const ROUTE: &str = "shop.test/";

    fn table_with(instances: &[Is]) -> (Arc<TableHandle>, fairway_catalog::Catalog) {
        let (handle, mut catalog) = (TableHandle::new(Metrics::new(1)), catalog());
        put(&mut catalog, ROUTE, &[version("v1", instances)]);
        handle.apply(&catalog);
        (handle, catalog)
    }

    fn route() -> RouteId {
        ROUTE.parse().expect("a route")
    }

    fn soon() -> Instant {
        Instant::now() + HOLD
    }

    #[tokio::test]
    async fn a_held_request_goes_on_as_soon_as_a_table_has_an_instance_for_it() {
        let (handle, mut catalog) = table_with(&[UNHEALTHY]);
        let (id, tried) = (route(), Tried::default());
        let mut held = pin!(hold(&handle, &id, &tried, soon()));
        assert!(poll_once(held.as_mut()).is_pending());
        put(&mut catalog, "other.test/", &[version("v1", &[READY])]);
        handle.apply(&catalog);
        assert!(poll_once(held.as_mut()).is_pending(), "another route's instance is none of its own");
        put(&mut catalog, ROUTE, &[version("v1", &[READY])]);
        handle.apply(&catalog);
        let entry = held.await.expect("an instance came");
        assert_eq!(entry.versions()[0].serving().len(), 1);
        assert!(handle.holds.0.is_empty(), "nobody waits any more");
    }

    #[tokio::test]
    async fn a_held_request_outlives_its_route_and_takes_it_when_it_is_back() {
        let (handle, mut catalog) = table_with(&[UNHEALTHY]);
        let (id, tried) = (route(), Tried::default());
        let mut held = pin!(hold(&handle, &id, &tried, soon()));
        assert!(poll_once(held.as_mut()).is_pending());
        remove(&mut catalog, ROUTE);
        handle.apply(&catalog);
        assert!(poll_once(held.as_mut()).is_pending());
        put(&mut catalog, ROUTE, &[version("v2", &[READY])]);
        handle.apply(&catalog);
        assert!(held.await.is_ok());
    }

    #[tokio::test]
    async fn an_instance_that_failed_the_request_is_not_what_it_waits_for() {
        let (handle, mut catalog) = table_with(&[READY]);
        let (id, mut tried) = (route(), Tried::default());
        let fields = crate::request::FieldList::default();
        let asked = request("shop.test", "/", &fields);
        let now = std::time::Instant::now();
        let entry = handle.load().by_id(&id).expect("it is there").clone();
        let failed = entry.pick(&asked, &tried, &mut fastrand::Rng::with_seed(1), now).expect("there is one");
        tried.add(&failed);
        let mut held = pin!(hold(&handle, &id, &tried, soon()));
        assert!(poll_once(held.as_mut()).is_pending());
        put(&mut catalog, ROUTE, &[version("v1", &[READY, READY])]);
        handle.apply(&catalog);
        let entry = held.await.expect("another instance came");
        let again =
            entry.pick(&asked, &tried, &mut fastrand::Rng::with_seed(1), now).expect("there is another");
        assert_ne!(again.endpoint.key, failed.endpoint.key);
    }

    #[tokio::test]
    async fn a_failure_of_which_no_news_can_come_stands_at_once() {
        let (handle, mut catalog) = table_with(&[READY]);
        let (id, mut tried) = (route(), Tried::default());
        let fields = crate::request::FieldList::default();
        let asked = request("shop.test", "/", &fields);
        let entry = handle.load().by_id(&id).expect("it is there").clone();
        let now = std::time::Instant::now();
        let failed = entry.pick(&asked, &tried, &mut fastrand::Rng::with_seed(1), now).expect("there is one");
        tried.add(&failed);
        let mut without = pin!(hold_for_another(&handle, &id, &tried, false, soon()));
        assert!(matches!(poll_once(without.as_mut()), Poll::Ready(Ok(None))));
        let mut awaited = pin!(hold_for_another(&handle, &id, &tried, true, soon()));
        assert!(poll_once(awaited.as_mut()).is_pending());
        // Nobody serves any more: somebody may come.
        put(&mut catalog, ROUTE, &[version("v1", &[UNHEALTHY])]);
        handle.apply(&catalog);
        let mut held = pin!(hold_for_another(&handle, &id, &tried, false, soon()));
        assert!(poll_once(held.as_mut()).is_pending());
        put(&mut catalog, ROUTE, &[version("v1", &[READY, READY])]);
        handle.apply(&catalog);
        assert!(matches!(poll_once(held.as_mut()), Poll::Ready(Ok(Some(_)))));
        assert!(matches!(poll_once(awaited.as_mut()), Poll::Ready(Ok(Some(_)))));
    }

    #[tokio::test]
    async fn the_deadline_ends_the_wait() {
        let (handle, _) = table_with(&[UNHEALTHY]);
        let ended = hold(&handle, &route(), &Tried::default(), Instant::now()).await;
        assert_eq!(ended.err(), Some(NotHeld::Expired));
    }

    #[tokio::test]
    async fn no_more_than_the_limit_wait_for_one_route_and_a_place_is_free_again_when_one_leaves() {
        let (handle, _) = table_with(&[UNHEALTHY]);
        let (id, tried) = (route(), Tried::default());
        let mut waiting: Vec<_> =
            (0..HELD_MAX).map(|_| Box::pin(hold(&handle, &id, &tried, soon()))).collect();
        assert!(waiting.iter_mut().all(|held| poll_once(held.as_mut()).is_pending()));
        assert_eq!(handle.holds.len(), HELD_MAX as usize);
        assert_eq!(hold(&handle, &id, &tried, soon()).await.err(), Some(NotHeld::Full));
        let other: RouteId = "other.test/".parse().expect("a route");
        let mut elsewhere = pin!(hold(&handle, &other, &tried, soon()));
        assert!(poll_once(elsewhere.as_mut()).is_pending(), "another route has places of its own");
        waiting.pop();
        assert!(poll_once(pin!(hold(&handle, &id, &tried, soon()))).is_pending());
    }

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }
}
