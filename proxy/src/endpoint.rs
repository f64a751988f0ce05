//! An instance as the balancer sees it: its address, how requests travel to it ([`settings`]), and the numbers that change with
//! each, kept for as long as it lives ([`states`]).
//!
//! Not here: who is chosen (see `pick`), opening and keeping connections (see `upstream`).

mod settings;
mod states;

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fairway_catalog::facts::UnitKind;
use fairway_catalog::{Instance, InstanceKey};
use fairway_config::names::Weight;
use jiff::{SignedDuration, Timestamp};
use rustls::client::Resumption;

pub use settings::UpstreamSettings;
pub use states::EndpointStates;
pub(crate) use states::Told;

use crate::hold::HOLD;
use crate::outlier::{Cause, IN_A_ROW, Peers, Standing, stamp};
use crate::pick::failures::Failures;
use crate::pick::peak_ewma::PeakEwma;
use crate::pick::stable_hash;
use crate::queue::{Crowd, hand_on};
use crate::reason::Reason;

/// Most requests in flight at one instance, where nothing else is said.
pub const IN_FLIGHT_MAX: u32 = 1024;

/// How long after its start a container may not listen yet.
const YOUNG: SignedDuration = SignedDuration::from_secs(60);

/// What an instance counts as that failed a moment ago, or has not answered yet.
const SLOW: Duration = Duration::from_secs(1);
/// Differences below this, in microseconds, say more about the machine's other work than about the instance.
const NOISE_MICROS: f32 = 10_000.0;

/// Server names under which sessions of one instance are kept: it has one, and another after a reload.
const NAMES_OF_ONE: usize = 2;

/// How much an instance has to do, and how well it does it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Burden {
    micros: f32,
    in_flight: u32,
    weight: f32,
}

impl Burden {
    /// Latencies within this factor of one another count as the same: equal instances get equal shares, whichever was a
    /// little faster lately.
    const SAME: f32 = 2.0;

    /// Whether one more request does better here than there: fewer in flight for its weight where both are about as fast,
    /// else the lower latency times requests in flight.
    pub(crate) fn is_less_than(self, other: Self) -> bool {
        let (fast, slow) = (self.micros.min(other.micros), self.micros.max(other.micros));
        if slow <= fast * Self::SAME {
            return self.in_flight as f32 * other.weight < other.in_flight as f32 * self.weight;
        }
        let cost = |burden: Self| burden.micros * (burden.in_flight as f32 + 1.0) / burden.weight;
        cost(self) < cost(other)
    }
}

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
    /// Of its id, the same on every node.
    pub(crate) hash: u64,
    /// Since when it may serve new clients, as far as that is known.
    pub(crate) ready_at: Instant,
    /// It is new beside others that are not: it gets a part of its requests, which grows from then on.
    pub(crate) is_new: bool,
    /// It is in our own zone.
    pub(crate) is_local: bool,
}

/// What a new table knows of an instance beyond what the catalog says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newness {
    pub(crate) serving: bool,
    pub(crate) ready_at: Instant,
    pub(crate) is_new: bool,
    pub(crate) is_local: bool,
}

impl Endpoint {
    pub(crate) fn new(
        instance: &Arc<Instance>,
        settings: &Arc<UpstreamSettings>,
        state: Arc<EndpointState>,
        newness: Newness,
    ) -> Arc<Self> {
        let Newness { serving, ready_at, is_new, is_local } = newness;
        state.standing.note(serving, settings.outlier, instance.unit.spec.probe.is_some());
        Arc::new(Self {
            address: state.key.address,
            // Those of instances are written by people.
            weight: u16::try_from(instance.unit.weight.get()).unwrap_or(Weight::MAX).max(1),
            settings: settings.clone(),
            instance: instance.clone(),
            key: state.key.clone(),
            hash: stable_hash::of(state.key.id.as_str().as_bytes()),
            state,
            ready_at,
            is_new,
            is_local,
        })
    }

    /// Whether a refused connection may only say that it has just started: a container that nothing has proven, no probe,
    /// no HEALTHCHECK and no connection so far.
    pub(crate) fn may_yet_listen(&self) -> bool {
        let unit = &self.instance.unit;
        let is_proven =
            unit.spec.probe.is_some() || unit.docker_health.is_some() || self.state.standing.listens();
        !is_proven
            && unit.kind == UnitKind::Container
            // A start in the future says that a clock was set, not that it has just started.
            && Timestamp::now().duration_since(unit.started).abs() < YOUNG
    }

    /// Whether, if it fails now, the news may be on its way that it stops or is gone. Nobody brings any of a static entry; and
    /// of a container that has failed for longer than requests are held, its engine would have told.
    pub(crate) fn may_have_news(&self, now: Instant) -> bool {
        self.instance.unit.kind == UnitKind::Container && self.state.failures.since(now) < HOLD
    }

    /// What the balancer compares at this moment.
    pub(crate) fn burden(&self, now: Instant) -> Burden {
        self.state.burden(self.weight, now)
    }
}

/// What changes with every request to one life of an instance; handed from table to table.
pub struct EndpointState {
    /// Unique in this process: pooled connections belong to it rather than to an address.
    pub uid: u64,
    /// Whose they are.
    pub(crate) key: InstanceKey,
    /// Ejected, coming back, not listening yet.
    pub(crate) standing: Standing,
    /// Those it is compared with.
    pub(crate) peers: Arc<Peers>,
    in_flight: AtomicU32,
    /// Most requests in flight.
    in_flight_max: AtomicU32,
    /// Who waits for a place.
    pub(crate) crowd: Crowd,
    latency: PeakEwma,
    failures: Failures,
    retired: AtomicBool,
    /// Its drain has ended: what still runs there is ended too.
    ended: AtomicBool,
    /// Its address is no longer its own: nothing comes back on the connections to it.
    cut_off: AtomicBool,
    /// It was told to stop.
    stops: AtomicBool,
    /// It has refused a connection since.
    deaf: AtomicBool,
    /// A request waits for long on a new connection: perhaps because it serves few, and others have theirs idle.
    room: AtomicBool,
    /// TLS sessions that may be taken up again; of all workers.
    sessions: OnceLock<Resumption>,
    last_failure: Mutex<Option<LastFailure>>,
    /// What its labels say of `in_flight_max`; 0: nothing.
    own_max: AtomicU32,
}

/// How a request failed at an instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastFailure {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
    /// One sentence more.
    pub detail: &'static str,
}

impl EndpointState {
    fn new(key: &InstanceKey, peers: &Arc<Peers>, in_flight_max: u32) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            uid: NEXT.fetch_add(1, Ordering::Relaxed),
            key: key.clone(),
            standing: Standing::default(),
            peers: peers.clone(),
            in_flight: AtomicU32::new(0),
            in_flight_max: AtomicU32::new(in_flight_max),
            crowd: Crowd::default(),
            latency: PeakEwma::default(),
            failures: Failures::default(),
            retired: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            room: AtomicBool::new(false),
            sessions: OnceLock::new(),
            last_failure: Mutex::new(None),
            own_max: AtomicU32::new(0),
        }
    }

    /// Counts one more request in flight; `None` at the limit ([`EndpointStates::set_in_flight_max`]).
    pub fn begin(self: &Arc<Self>) -> Option<InFlight> {
        // Taken first and given back if it was one too many: one atomic operation on the usual way.
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < self.in_flight_max() {
            return Some(InFlight::new(self));
        }
        self.leave();
        None
    }

    /// Gives a place back, and on to who waits for one.
    fn leave(self: &Arc<Self>) {
        // In one order with those who begin to wait: either they see the place, or they are seen here (see `queue`).
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.crowd.is_there() {
            hand_on(self);
        }
    }

    /// Takes a place, unless all are taken; never counts one too many, not even for a moment. For [`hand_on`] alone, which
    /// makes it a guard ([`EndpointState::guard`]) or puts it back.
    pub(crate) fn take_place(&self) -> bool {
        let most = self.in_flight_max();
        let more = |now| (now < most).then_some(now + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Gives a place back that was taken by [`EndpointState::take_place`], without a look at who waits: the caller looks.
    pub(crate) fn put_place_back(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// The guard of a place that was taken by [`EndpointState::take_place`].
    pub(crate) fn guard(self: &Arc<Self>) -> InFlight {
        InFlight::new(self)
    }

    /// Most requests in flight.
    pub fn in_flight_max(&self) -> u32 {
        self.in_flight_max.load(Ordering::Relaxed)
    }

    /// Sets it: what its labels say, else the limit of all.
    fn renew_max(self: &Arc<Self>, of_all: &AtomicU32) {
        let own = self.own_max.load(Ordering::SeqCst);
        let most = if own == 0 { of_all.load(Ordering::SeqCst) } else { own };
        if self.in_flight_max.swap(most, Ordering::SeqCst) < most && self.crowd.is_there() {
            hand_on(self);
        }
    }

    /// Requests in flight now, of all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the limit of requests in flight is reached.
    pub fn is_full(&self) -> bool {
        self.in_flight() >= self.in_flight_max()
    }

    /// Takes in how long an answer took, from the choice of the instance to the first byte of the response head.
    pub fn observe(&self, latency: Duration, now: Instant) {
        self.latency.observe(latency, now);
        self.failures.succeeded();
        self.standing.succeeded();
    }

    /// The same of an answer that says that the instance went wrong (500, 501, 505 and above).
    pub(crate) fn observe_error(&self, latency: Duration, now: Instant) {
        self.peers.trouble(now);
        self.latency.observe(latency, now);
        self.failures.succeeded();
        self.standing.failed();
    }

    /// Takes in a failure of the instance: no connection, no answer, or one that says "not me" (502, 503, 504). `how` says
    /// which, in words.
    pub(crate) fn observe_failure(&self, took: Duration, now: Instant, how: &str) {
        self.peers.trouble(now);
        self.standing.failed();
        if took >= SLOW {
            self.latency.observe(took, now);
        }
        // What was under way when it was ejected says nothing new.
        if self.standing.is_ejected(stamp(now)) {
            return;
        }
        let run = self.failures.failed(now);
        if run >= IN_A_ROW && self.standing.is_judged() {
            let how = format_args!("{run} failures in a row, the last: {how}");
            self.peers.eject(self, Cause::InARow, &how, now);
        }
    }

    /// The instance said in an answer that it wants no further requests.
    pub(crate) fn take_out(&self, now: Instant) {
        let how = "it answered with x-envoy-immediate-health-check-fail";
        self.peers.eject(self, Cause::Own, &how, now);
    }

    /// Failures in a row up to now.
    pub(crate) fn failures_in_a_row(&self) -> u32 {
        self.failures.in_a_row()
    }

    /// What it did before counts no longer.
    pub(crate) fn forget_failures(&self) {
        self.failures.succeeded();
    }

    /// Keeps how a request failed there, for those who ask.
    pub(crate) fn keep_failure(&self, reason: Reason, detail: &'static str) {
        let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(LastFailure { at: Timestamp::now(), reason, detail });
    }

    /// How a request failed there last.
    pub(crate) fn last_failure(&self) -> Option<LastFailure> {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in that an answer had not come after this time; nobody waits for it any more.
    pub(crate) fn observe_unanswered(&self, took: Duration, now: Instant) {
        self.latency.observe(took, now);
    }

    /// The peak-sensitive average of its latency; `None` before the first answer.
    pub fn latency(&self, now: Instant) -> Option<Duration> {
        self.latency.micros(now).map(|micros| Duration::from_secs_f32(micros / 1e6))
    }

    /// What the balancer compares at this moment, of an instance of this weight.
    pub(crate) fn burden(&self, weight: u16, now: Instant) -> Burden {
        let in_flight = self.in_flight();
        let slow = SLOW.as_secs_f32() * 1e6;
        let micros = match self.latency.micros(now) {
            _ if self.failures.is_avoided(now) => slow,
            Some(micros) => micros.max(NOISE_MICROS),
            // Nothing is known: the first request is welcome, the next ones go elsewhere until it is answered.
            None if in_flight == 0 => NOISE_MICROS,
            None => slow,
        };
        Burden { micros, in_flight, weight: f32::from(weight) }
    }

    /// Where TLS with it keeps what makes the next handshake shorter. Only ever this life's: a name may be shared by many
    /// instances, each of which knows its own tickets alone.
    pub(crate) fn sessions(&self) -> Resumption {
        self.sessions.get_or_init(|| Resumption::in_memory_sessions(NAMES_OF_ONE)).clone()
    }

    /// Whether a drain has ended there: whatever runs there is to be ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether it has lost its address while it was asked: its network was taken from it, or it was given another one.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Whether it was told to stop. Many servers then wait until their clients close connections.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    /// It refused a connection.
    pub(crate) fn refused(&self) {
        self.deaf.store(self.is_stopping(), Ordering::Relaxed);
    }

    /// Whether it takes no more connections, as the stop that it was told to wants it.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed) && self.is_stopping()
    }

    /// Asks those who have a connection to it and no use for it at this moment to close one.
    pub(crate) fn wants_room(&self) {
        self.room.store(true, Ordering::Relaxed);
    }

    /// Whether the caller is to close one.
    pub(crate) fn takes_room(&self) -> bool {
        self.room.load(Ordering::Relaxed) && self.room.swap(false, Ordering::Relaxed)
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
pub struct InFlight {
    at: Arc<EndpointState>,
    over: Cell<bool>,
}

impl InFlight {
    fn new(at: &Arc<EndpointState>) -> Self {
        Self { at: at.clone(), over: Cell::new(false) }
    }

    /// At which instance.
    pub(crate) fn at(&self) -> &Arc<EndpointState> {
        &self.at
    }

    /// The instance is done with the request, though somebody still asks which it was: its place is free from now on.
    pub(crate) fn end(&self) {
        if !self.over.replace(true) {
            self.at.leave();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use fairway_catalog::InstanceId;

    use super::*;
    use crate::metrics::Metrics;
    use crate::table::fixture::{READY, entry, version};

    fn state() -> EndpointState {
        let states = EndpointStates::default();
        let peers = Peers::new(states.book.clone(), Metrics::new(1).backend(&"shop@v1".into()));
        let id = InstanceId::from_printed("shop@v1/192.0.2.1:80");
        let address = ([192, 0, 2, 1], 80).into();
        let key = InstanceKey { id, started: Timestamp::UNIX_EPOCH, address };
        EndpointState::new(&key, &peers, IN_FLIGHT_MAX)
    }

    #[test]
    fn requests_in_flight_are_counted_until_their_guard_is_dropped_and_never_exceed_the_limit() {
        let state = Arc::new(state());
        let guards: Vec<_> = (0..IN_FLIGHT_MAX).map_while(|_| state.begin()).collect();
        assert_eq!(state.in_flight(), IN_FLIGHT_MAX);
        assert!(state.begin().is_none() && state.is_full());
        drop(guards);
        assert_eq!(state.in_flight(), 0);
    }

    #[test]
    fn a_request_that_an_instance_is_done_with_leaves_its_place_once() {
        let state = Arc::new(state());
        let (one, other) = (state.begin().expect("a place"), state.begin());
        one.end();
        one.end();
        assert_eq!((state.in_flight(), one.at().uid), (1, state.uid));
        drop(one);
        assert_eq!(state.in_flight(), 1);
        drop(other);
        assert_eq!(state.in_flight(), 0);
    }

    #[test]
    fn of_a_container_that_has_failed_for_longer_than_requests_are_held_no_news_can_come() {
        let entry = entry(&[version("v1", &[READY])]);
        let endpoint = entry.endpoints().next().expect("there is one");
        let (state, start) = (&endpoint.state, Instant::now());
        let fails = |at: Instant| {
            state.observe_failure(Duration::ZERO, at, "it refuses");
            endpoint.may_have_news(at)
        };
        assert!(fails(start) && fails(start + HOLD / 2));
        assert!(!fails(start + HOLD) && !fails(start + HOLD * 2));
        state.observe(Duration::from_millis(1), start + HOLD * 2);
        assert!(fails(start + HOLD * 3), "it has served since");
    }

    #[test]
    fn an_instance_without_an_answer_gets_one_request_at_a_time_while_others_are_known() {
        let (fresh, known, now) = (Arc::new(state()), state(), Instant::now());
        known.observe(Duration::from_millis(5), now);
        assert!(!known.burden(1, now).is_less_than(fresh.burden(1, now)));
        let _first = fresh.begin();
        assert!(known.burden(1, now).is_less_than(fresh.burden(1, now)));
    }

    #[test]
    fn about_as_fast_is_as_good_and_then_fewer_in_flight_are_better() {
        let (one, other, now) = (Arc::new(state()), state(), Instant::now());
        one.observe(Duration::from_millis(30), now);
        other.observe(Duration::from_millis(50), now);
        let less = |a: &EndpointState, b: &EndpointState| a.burden(1, now).is_less_than(b.burden(1, now));
        assert!(!less(&one, &other) && !less(&other, &one));
        let busy = one.begin();
        assert!(less(&other, &one));
        drop(busy);
        other.observe(Duration::from_millis(90), now);
        assert!(less(&one, &other));
    }
}
