//! Requests whose instances are all at their limit of requests in flight wait here for a place, as many and as long as
//! `[limits]` says, the earliest deadline first.
//!
//! A place that frees is handed to a waiting request and never counted as free, so that no newcomer takes it. Nothing is
//! locked and nobody woken as long as nobody waits: a request that ends reads one number beside the one that it changes.
//!
//! No place is missed: who begins to wait is counted at the instances first and looks for a free place then; who leaves
//! a place frees it first and looks for the count then, all in one order (`SeqCst`). One of the two sees the other.
//!
//! Not here: who may serve (see `pick`), requests that found no ready instance (see `hold`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fairway_config::file::Limits;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::endpoint::{EndpointState, InFlight};
use crate::pick::{Crowded, Tried};
use crate::table::RouteEntry;
use crate::turn;

/// How many requests wait, and how long; replaced by a reload.
#[derive(Debug)]
pub(crate) struct QueueLimits {
    most: AtomicU32,
    longest_ms: AtomicU64,
}

impl Default for QueueLimits {
    fn default() -> Self {
        let limits = Self { most: AtomicU32::new(0), longest_ms: AtomicU64::new(0) };
        limits.set(&Limits::default());
        limits
    }
}

impl QueueLimits {
    /// From the configuration.
    pub(crate) fn set(&self, limits: &Limits) {
        self.most.store(limits.queued_per_route, Ordering::Relaxed);
        let millis = u64::try_from(limits.queue_time.as_millis()).unwrap_or(u64::MAX);
        self.longest_ms.store(millis, Ordering::Relaxed);
    }

    /// Most requests of one route that wait at a time.
    pub(crate) fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }

    /// Longest wait.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.load(Ordering::Relaxed))
    }
}

/// What a waiting request is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// It has this place.
    Place(InFlight),
    /// The route has changed: choose again.
    Look,
}

/// As many wait already as may.
#[derive(Debug)]
pub(crate) struct QueueFull;

/// The requests of one route that wait; outlives the entries of its route.
#[derive(Debug, Default)]
pub(crate) struct RouteQueue {
    waiting: Mutex<Waiting>,
    /// How many wait.
    count: AtomicU32,
}

/// When a request's wait ends, and which of several with the same end came first.
type Turn = (Instant, u64);
/// Those that wait for the same version, or for any.
type Lane = (Option<Arc<str>>, BTreeMap<Turn, Waiter>);

#[derive(Debug, Default)]
struct Waiting {
    /// As many as there are versions, at most.
    lanes: Vec<Lane>,
    next: u64,
    /// The entry whose instances tell this queue of free places, and these instances.
    entry: Weak<RouteEntry>,
    watched: Vec<Arc<EndpointState>>,
}

#[derive(Debug)]
struct Waiter {
    /// Instances that have failed the request.
    avoids: Box<[u64]>,
    told: oneshot::Sender<Told>,
}

impl RouteQueue {
    /// How many requests wait.
    pub(crate) fn len(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many of them take a place of this version only.
    pub(crate) fn waiting_for(&self, version: &Arc<str>) -> u32 {
        if self.len() == 0 {
            return 0;
        }
        let waiting = self.lock();
        let lane = waiting.lanes.iter().find(|(name, _)| name.as_ref() == Some(version));
        lane.map_or(0, |(_, lane)| u32::try_from(lane.len()).unwrap_or(u32::MAX))
    }

    /// Begins to wait for a place at the instances of this entry that would do, until the deadline. The caller looks once
    /// more whether there is one before it waits.
    pub(crate) fn enter(
        self: &Arc<Self>,
        entry: &Arc<RouteEntry>,
        crowded: Crowded,
        tried: &Tried,
        deadline: Instant,
        most: u32,
    ) -> Result<Place, QueueFull> {
        let version = crowded.version.and_then(|index| entry.versions().get(index));
        let lane = version.map(|version| version.name.clone());
        let (told, awaited) = oneshot::channel();
        let turn = {
            let mut waiting = self.lock();
            if self.count.load(Ordering::Relaxed) >= most {
                return Err(QueueFull);
            }
            self.count.fetch_add(1, Ordering::Relaxed);
            let turn = (deadline, waiting.next);
            waiting.next += 1;
            waiting.lane(&lane).insert(turn, Waiter { avoids: tried.uids().into(), told });
            waiting.watch(self, entry);
            turn
        };
        fence(Ordering::SeqCst);
        Ok(Place { queue: self.clone(), lane, turn, awaited })
    }

    /// Tells everybody that the route has changed.
    pub(crate) fn look_again(&self) {
        if self.len() == 0 {
            return;
        }
        let lanes = {
            let mut waiting = self.lock();
            self.count.store(0, Ordering::Relaxed);
            waiting.unwatch(self);
            std::mem::take(&mut waiting.lanes)
        };
        for (_, waiter) in lanes.into_iter().flat_map(|(_, lane)| lane) {
            // Who has left needs no news.
            let _ = waiter.told.send(Told::Look);
        }
    }

    /// The turn of the request that a place at this instance of this version is for, if any waits. Nobody is offered a place
    /// that would not be taken: it would go from one to the next for ever.
    fn first(&self, version: &Arc<str>, uid: u64) -> Option<Turn> {
        let entry = self.lock().entry.upgrade();
        let better =
            entry.map_or_else(Vec::new, |entry| entry.better_than(version, uid, turn::now().into_std()));
        let waiting = self.lock();
        let turns = waiting.lanes_of(version).filter_map(|(_, lane)| first_of(lane, uid, &better));
        turns.min()
    }

    /// Takes out the request whose turn this is, if it still waits.
    fn take(&self, version: &Arc<str>, turn: Turn) -> Option<Waiter> {
        let mut waiting = self.lock();
        let lane =
            waiting.lanes.iter_mut().find(|(name, lane)| serves(name, version) && lane.contains_key(&turn));
        let waiter = lane.and_then(|(_, lane)| lane.remove(&turn))?;
        self.left(&mut waiting);
        Some(waiter)
    }

    /// One waits no longer.
    fn left(&self, waiting: &mut Waiting) {
        if self.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            waiting.unwatch(self);
            waiting.lanes.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether those who wait in the lane of this name take places of this version.
fn serves(lane: &Option<Arc<str>>, version: &Arc<str>) -> bool {
    lane.as_ref().is_none_or(|name| name == version)
}

/// The first in the lane that the instance has not failed, and that has been at all the `better` ones.
fn first_of(lane: &BTreeMap<Turn, Waiter>, uid: u64, better: &[u64]) -> Option<Turn> {
    let takes = |waiter: &Waiter| {
        !waiter.avoids.contains(&uid) && better.iter().all(|better| waiter.avoids.contains(better))
    };
    lane.iter().find(|(_, waiter)| takes(waiter)).map(|(turn, _)| *turn)
}

impl Waiting {
    fn lane(&mut self, name: &Option<Arc<str>>) -> &mut BTreeMap<Turn, Waiter> {
        let known = self.lanes.iter().position(|(other, _)| other == name);
        let index = known.unwrap_or_else(|| {
            self.lanes.push((name.clone(), BTreeMap::new()));
            self.lanes.len() - 1
        });
        &mut self.lanes[index].1
    }

    fn lanes_of(&self, version: &Arc<str>) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(move |(name, _)| serves(name, version))
    }

    /// Has the instances of this entry tell the queue of free places.
    fn watch(&mut self, queue: &Arc<RouteQueue>, entry: &Arc<RouteEntry>) {
        if self.entry.as_ptr() == Arc::as_ptr(entry) {
            return;
        }
        self.unwatch(queue);
        self.entry = Arc::downgrade(entry);
        for version in entry.versions() {
            for endpoint in entry.endpoints_in_turn(version) {
                endpoint.state.crowd.add(&version.name, queue);
                self.watched.push(endpoint.state.clone());
            }
        }
    }

    fn unwatch(&mut self, queue: &RouteQueue) {
        self.entry = Weak::new();
        for state in self.watched.drain(..) {
            state.crowd.remove(queue);
        }
    }
}

/// A request's place in a queue, left when it is dropped.
pub(crate) struct Place {
    queue: Arc<RouteQueue>,
    lane: Option<Arc<str>>,
    turn: Turn,
    awaited: oneshot::Receiver<Told>,
}

impl Place {
    /// Waits for news; `None`: the deadline came first.
    pub(crate) async fn told(&mut self) -> Option<Told> {
        match tokio::time::timeout_at(self.turn.0, &mut self.awaited).await {
            Ok(told) => Some(told.unwrap_or(Told::Look)),
            // It may have come at the same moment.
            Err(_) => self.awaited.try_recv().ok(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        let lane = waiting.lanes.iter_mut().find(|(name, _)| *name == self.lane);
        if lane.is_some_and(|(_, lane)| lane.remove(&self.turn).is_some()) {
            self.queue.left(&mut waiting);
        }
        // A place at an instance that was handed over meanwhile goes on when `awaited` is dropped, after the lock.
    }
}

/// The queues that wait for a place at one instance.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    count: AtomicU32,
    queues: Mutex<Vec<(Arc<str>, Arc<RouteQueue>)>>,
}

impl Crowd {
    /// Whether anybody waits: all that a request looks at on its way out.
    pub(crate) fn is_there(&self) -> bool {
        self.count.load(Ordering::SeqCst) != 0
    }

    fn add(&self, version: &Arc<str>, queue: &Arc<RouteQueue>) {
        self.lock().push((version.clone(), queue.clone()));
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn remove(&self, queue: &RouteQueue) {
        let mut queues = self.lock();
        if let Some(at) = queues.iter().position(|(_, other)| std::ptr::eq(&raw const **other, queue)) {
            queues.swap_remove(at);
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The request whose turn is first, and where it waits. Queues are locked one after the other, after the list of them:
    /// a queue is locked first where both are.
    fn first(&self, uid: u64) -> Option<(Turn, Arc<str>, Arc<RouteQueue>)> {
        let queues = self.lock().clone();
        let turn = |(version, queue): (Arc<str>, Arc<RouteQueue>)| {
            queue.first(&version, uid).map(|turn| (turn, version, queue))
        };
        queues.into_iter().filter_map(turn).min_by_key(|(turn, ..)| *turn)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<str>, Arc<RouteQueue>)>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands on the free places of instances whose standing among one another has changed: a place that nobody wanted there may
/// be wanted now.
pub(crate) fn look_for_places(states: &[Arc<EndpointState>]) {
    states.iter().filter(|state| state.crowd.is_there()).for_each(hand_on);
}

/// Hands the free places of an instance to those who wait for one.
#[cold]
pub(crate) fn hand_on(state: &Arc<EndpointState>) {
    while state.take_place() {
        let Some((turn, version, queue)) = state.crowd.first(state.uid) else {
            state.put_place_back();
            // Who came between the look and now saw no free place.
            if state.crowd.first(state.uid).is_none() {
                return;
            }
            continue;
        };
        let place = state.guard();
        if let Some(waiter) = queue.take(&version, turn) {
            // Who has left meanwhile leaves the place behind, which is handed on when it is dropped.
            let _ = waiter.told.send(Told::Place(place));
        }
    }
}

#[cfg(test)]
mod tests;
