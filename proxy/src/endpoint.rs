//! An instance as the balancer sees it: its address, how requests travel to it, and the numbers that change with each.
//!
//! Not here: who is chosen (see `pick`), opening and keeping connections (see `upstream`).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use fairway_catalog::{Instance, InstanceKey};
use fairway_config::labels::{Balance, Protocol, Transport};

use crate::pick::peak_ewma::PeakEwma;
use crate::pick::stable_hash::BuildStable;

/// Most requests in flight at one instance.
pub const IN_FLIGHT_MAX: u32 = 1024;

/// One address that requests of a route can be sent to. The same instance in another route is another endpoint with
/// the same [`EndpointState`].
#[derive(Debug)]
pub struct Endpoint {
    /// Which life of which instance.
    pub key: InstanceKey,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Its part of what its version gets, relative to the version's other instances; at least 1.
    pub weight: u16,
    /// How requests travel to it.
    pub settings: Arc<UpstreamSettings>,
    /// The numbers that change with every request.
    pub state: Arc<EndpointState>,
    /// What the catalog says of it.
    pub instance: Arc<Instance>,
}

impl Endpoint {
    /// `None` while the instance has no address.
    pub(crate) fn new(
        instance: &Arc<Instance>,
        settings: &Arc<UpstreamSettings>,
        states: &EndpointStates,
    ) -> Option<Arc<Self>> {
        let key = instance.key()?;
        Some(Arc::new(Self {
            address: key.address,
            weight: instance.unit.weight.get().max(1),
            settings: settings.clone(),
            state: states.of(&key),
            instance: instance.clone(),
            key,
        }))
    }
}

/// How requests travel to the instances of a backend: its labels, with the defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSettings {
    /// What is spoken.
    pub protocol: Protocol,
    /// How an instance is chosen.
    pub balance: Balance,
    /// Longest wait for a connection; default 1 s.
    pub connect_timeout: Duration,
    /// Longest wait for the response head once the request is sent; default 60 s.
    pub first_byte_timeout: Duration,
    /// Longest silence in a body, and longest life of an idle pooled connection; default 90 s.
    pub idle_timeout: Duration,
    /// Longest time for the whole exchange; default none.
    pub total_timeout: Option<Duration>,
    /// How often a request may be sent to another instance after a failure; default 1.
    pub retries: u8,
}

impl UpstreamSettings {
    /// From the backend's labels.
    pub fn new(transport: &Transport) -> Self {
        let secs = Duration::from_secs;
        Self {
            protocol: transport.protocol.unwrap_or_default(),
            balance: transport.balance.clone().unwrap_or_default(),
            connect_timeout: transport.connect_timeout.unwrap_or(secs(1)),
            first_byte_timeout: transport.first_byte_timeout.unwrap_or(secs(60)),
            idle_timeout: transport.idle_timeout.unwrap_or(secs(90)),
            total_timeout: transport.total_timeout,
            retries: transport.retries.unwrap_or(1),
        }
    }
}

/// What changes with every request to one life of an instance; handed from table to table.
pub struct EndpointState {
    /// Unique in this process: pooled connections belong to it rather than to an address.
    pub uid: u64,
    in_flight: AtomicU32,
    latency: PeakEwma,
    retired: AtomicBool,
}

impl EndpointState {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            uid: NEXT.fetch_add(1, Ordering::Relaxed),
            in_flight: AtomicU32::new(0),
            latency: PeakEwma::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// Counts one more request in flight; `None` at the limit of [`IN_FLIGHT_MAX`].
    pub fn begin(self: &Arc<Self>) -> Option<InFlight> {
        // Taken first and given back if it was one too many: one atomic operation on the usual way.
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < IN_FLIGHT_MAX {
            return Some(InFlight(self.clone()));
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Requests in flight now, of all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the limit of requests in flight is reached.
    pub fn is_full(&self) -> bool {
        self.in_flight() >= IN_FLIGHT_MAX
    }

    /// Takes in how long an answer took, from the choice of the instance to the first byte of the response head.
    pub fn observe(&self, latency: Duration, now: Instant) {
        self.latency.observe(latency, now);
    }

    /// Takes in a failure of the instance: no connection, no answer, or one that says "not me" (502, 503, 504).
    pub fn observe_failure(&self, took: Duration, now: Instant) {
        self.latency.observe_failure(took, now);
    }

    /// The peak-sensitive average of its latency; `None` before the first answer.
    pub fn latency(&self, now: Instant) -> Option<Duration> {
        self.latency.micros(now).map(|micros| Duration::from_secs_f32(micros / 1e6))
    }

    /// What one more request would cost here: average latency times the requests in flight with it. Before the first
    /// answer nothing is known: the first request is welcome, the next ones go elsewhere until it is answered.
    pub(crate) fn cost(&self, now: Instant) -> f32 {
        const UNKNOWN_MICROS: f32 = 1e6;
        let in_flight = self.in_flight() as f32;
        match self.latency.micros(now) {
            Some(micros) => micros * (in_flight + 1.0),
            None => UNKNOWN_MICROS * in_flight,
        }
    }

    /// Whether no table has this instance any more: its pooled connections are to be closed.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

impl fmt::Debug for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} ({} in flight)", self.uid, self.in_flight())
    }
}

/// Counts one request in flight for as long as it lives, whichever way it ends.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The state of every instance that some route has.
#[derive(Debug, Default)]
pub struct EndpointStates(DashMap<InstanceKey, Arc<EndpointState>, BuildStable>);

impl EndpointStates {
    /// The state of this life of an instance, a new one if it is not known.
    pub(crate) fn of(&self, key: &InstanceKey) -> Arc<EndpointState> {
        self.0.entry(key.clone()).or_insert_with(|| Arc::new(EndpointState::new())).clone()
    }

    /// The state of this life of an instance.
    pub fn get(&self, key: &InstanceKey) -> Option<Arc<EndpointState>> {
        self.0.get(key).map(|state| state.clone())
    }

    /// Forgets this life of an instance and marks its state retired.
    pub(crate) fn retire(&self, key: &InstanceKey) {
        if let Some((_, state)) = self.0.remove(key) {
            state.retired.store(true, Ordering::Release);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_flight_are_counted_until_their_guard_is_dropped_and_never_exceed_the_limit() {
        let state = Arc::new(EndpointState::new());
        let guards: Vec<_> = (0..IN_FLIGHT_MAX).map_while(|_| state.begin()).collect();
        assert_eq!(state.in_flight(), IN_FLIGHT_MAX);
        assert!(state.begin().is_none() && state.is_full());
        drop(guards);
        assert_eq!(state.in_flight(), 0);
    }

    #[test]
    fn an_instance_without_an_answer_gets_one_request_at_a_time_while_others_are_known() {
        let (fresh, known, now) = (Arc::new(EndpointState::new()), EndpointState::new(), Instant::now());
        known.observe(Duration::from_millis(5), now);
        assert!(fresh.cost(now) < known.cost(now));
        let _first = fresh.begin();
        assert!(fresh.cost(now) > known.cost(now));
    }
}
