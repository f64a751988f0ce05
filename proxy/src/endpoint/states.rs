//! The states of all instances that some route has, each kept from table to table for as long as its instance lives.
//!
//! Not here: one of them (see the module above), when a life is over (see `table`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use fairway_catalog::InstanceKey;
use tokio::sync::watch;

use super::{EndpointState, IN_FLIGHT_MAX};
use crate::outlier::{Book, Ejections, Peers};
use crate::pick::stable_hash::BuildStable;

/// The state of every instance that some route has.
#[derive(Debug)]
pub struct EndpointStates {
    known: DashMap<InstanceKey, Arc<EndpointState>, BuildStable>,
    in_flight_max: AtomicU32,
    pub(crate) book: Arc<Book>,
    /// How many drains have ended, and how many instances were cut off.
    ends: watch::Sender<u64>,
    /// How many instances were told to stop.
    stops: watch::Sender<u64>,
}

/// What the catalog says of one life of an instance that its state has to know.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    /// Its labels' limit of requests in flight.
    pub(crate) in_flight_max: Option<u32>,
    /// Its drain has ended.
    pub(crate) ended: bool,
    /// It was told to stop.
    pub(crate) stops: bool,
}

impl Default for EndpointStates {
    fn default() -> Self {
        let in_flight_max = AtomicU32::new(IN_FLIGHT_MAX);
        let (ends, stops) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { known: DashMap::default(), in_flight_max, book: Arc::default(), ends, stops }
    }
}

impl EndpointStates {
    /// Sets how many requests may be in flight at each instance whose labels do not say it, of all workers;
    /// [`IN_FLIGHT_MAX`] at first.
    pub fn set_in_flight_max(&self, most: u32) {
        self.in_flight_max.store(most, Ordering::SeqCst);
        let states: Vec<_> = self.known.iter().map(|state| state.clone()).collect();
        states.iter().for_each(|state| state.renew_max(&self.in_flight_max));
    }

    /// The state of this life of an instance, a new one among `peers` if it is not known, with what is told of it now.
    pub(crate) fn of(&self, key: &InstanceKey, told: Told, peers: &Arc<Peers>) -> Arc<EndpointState> {
        let Told { in_flight_max, ended, stops } = told;
        let new = || {
            let most = self.in_flight_max.load(Ordering::SeqCst);
            let state = Arc::new(EndpointState::new(key, peers, most));
            peers.join(&state);
            state
        };
        let state = self.known.entry(key.clone()).or_insert_with(new).clone();
        let own = in_flight_max.unwrap_or(0);
        if state.own_max.swap(own, Ordering::SeqCst) != own {
            state.renew_max(&self.in_flight_max);
        }
        if state.ended.swap(ended, Ordering::Relaxed) != ended && ended {
            self.ends.send_modify(|count| *count += 1);
        }
        if state.stops.swap(stops, Ordering::Relaxed) != stops && stops {
            state.deaf.store(false, Ordering::Relaxed);
            self.stops.send_modify(|count| *count += 1);
        }
        state
    }

    /// Follows who is ejected now.
    pub fn ejections(&self) -> watch::Receiver<Ejections> {
        self.book.follow()
    }

    /// Ends the ejection of an instance before its time; none if it is not ejected.
    pub fn end_ejection(&self, key: &InstanceKey) {
        if let Some(state) = self.get(key) {
            state.peers.end(&state, Instant::now());
        }
    }

    /// Changes whenever a drain has ended or an instance was cut off: whoever is at an instance looks whether it is that one.
    pub(crate) fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }

    /// Changes whenever an instance was told to stop: idle connections to it are to be closed.
    pub(crate) fn stops(&self) -> watch::Receiver<u64> {
        self.stops.subscribe()
    }

    /// The state of this life of an instance.
    pub fn get(&self, key: &InstanceKey) -> Option<Arc<EndpointState>> {
        self.known.get(key).map(|state| state.clone())
    }

    /// Forgets this life of an instance and marks its state retired; `cut_off` if the instance goes on without its address.
    pub(crate) fn retire(&self, key: &InstanceKey, cut_off: bool) {
        if let Some((_, state)) = self.known.remove(key) {
            state.retired.store(true, Ordering::Release);
            if cut_off {
                state.cut_off.store(true, Ordering::Relaxed);
                self.ends.send_modify(|count| *count += 1);
            }
            self.book.over(key);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}
