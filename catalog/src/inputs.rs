//! Everything a catalog is built from, and the one handle that changes it.
//!
//! Each part has one writer: a source writes its facts, health its verdicts, the admin API the decisions. A burst of
//! changes collapses into its last state.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use fairway_config::file::{FileSplit, HostClaim, Limits};
use fairway_config::labels::RouteLimits;
use fairway_config::names::{BackendId, Percent, RouteId, Weight};
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::facts::{SourceFacts, SourceId};
use crate::ids::{InstanceId, InstanceKey};
use crate::model::{Condition, State};
use crate::problem::Problem;

/// Everything a catalog is built from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Counts the changes; a catalog tells the serial it was built from, so that a writer can await its own change.
    pub serial: u64,
    /// From the configuration.
    pub settings: Arc<Settings>,
    /// Every enabled source; present from the start, `listed` once it has been listed.
    pub sources: BTreeMap<SourceId, Arc<SourceFacts>>,
    /// What people decided, as stored.
    pub decisions: Arc<Decisions>,
    /// What health found; an instance with a probe and without a verdict is pending.
    pub verdicts: Arc<HashMap<InstanceKey, Verdict>>,
    /// Releases, for those who follow what happens: each route's last one.
    pub releases: Arc<BTreeMap<RouteId, ReleaseNote>>,
    /// Who is out for a while after its own failures; the data plane has acted on it already.
    pub ejections: Arc<HashMap<InstanceKey, Ejection>>,
    /// Drains ordered by people that have ended; an older end than the present order counts for nothing.
    pub drained: Arc<BTreeMap<InstanceId, Drained>>,
    /// Problems that other parts report, each under a name of its own: `listeners`, `dns`, `store`, `config`.
    pub reports: Arc<BTreeMap<&'static str, Vec<Problem>>>,
}

/// What the configuration says about the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// When the process started: until every source is listed, 10 s at most, an unknown host gets 503.
    pub process_started: Timestamp,
    /// When this configuration was read.
    pub loaded: Timestamp,
    /// The configuration file's name, for people; empty when there is none.
    pub file: Arc<str>,
    /// This node's name.
    pub node: Arc<str>,
    /// This node's zone, empty for none.
    pub zone: Arc<str>,
    /// Completes a prefix host.
    pub domain_suffix: Arc<str>,
    /// The zones of the DNS; a routed `x.local` is also `x.<zone>` in each.
    pub zones: Vec<Arc<str>>,
    /// Hosts that belong to listed projects.
    pub claims: Vec<HostClaim>,
    /// Further internal clients.
    pub internal: Vec<IpNet>,
    /// `[[split]]`.
    pub splits: Vec<FileSplit>,
    /// Whether routes are sticky that do not say.
    pub sticky_default: bool,
    /// What holds of routes' limits where nobody says anything.
    pub limits: DefaultLimits,
    /// The hosts that there are certificates for, wildcards as `*.company.com`, sorted; `None` without a TLS listener.
    pub tls: Option<Arc<[Arc<str>]>>,
    /// The addresses our own listeners are bound to, unspecified ones expanded; an instance there is refused.
    pub own_listeners: Vec<SocketAddr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            process_started: Timestamp::UNIX_EPOCH,
            loaded: Timestamp::UNIX_EPOCH,
            file: "".into(),
            node: "localhost".into(),
            zone: "".into(),
            domain_suffix: "localhost".into(),
            zones: vec!["local".into(), "internal".into()],
            claims: Vec::new(),
            internal: Vec::new(),
            splits: Vec::new(),
            sticky_default: false,
            limits: DefaultLimits::default(),
            tls: None,
            own_listeners: Vec::new(),
        }
    }
}

/// What `[limits]` says of limits that a route may have for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultLimits {
    /// `body_max`: octets of a request's body; `None`: any number. Listeners may have others.
    pub body_max: Option<u64>,
    /// `requests_per_instance`: requests in flight at one instance.
    pub in_flight_max: u32,
}

impl Default for DefaultLimits {
    fn default() -> Self {
        let Limits { body_max, requests_per_instance: in_flight_max, .. } = Limits::default();
        Self { body_max, in_flight_max }
    }
}

/// What people decided through the API, and what must be remembered beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decisions {
    /// Splits, the layer above the configuration file.
    pub splits: BTreeMap<RouteId, SplitRecord>,
    /// States of instances and backends other than active.
    pub states: BTreeMap<StateSubject, StateRecord>,
    /// To which version copies of a route's requests go.
    pub mirrors: BTreeMap<RouteId, Arc<MirrorRecord>>,
    /// Timeouts and limits of routes, the layer above labels and the configuration file.
    pub limits: BTreeMap<RouteId, Arc<LimitsRecord>>,
    /// Which project owns which route; kept for 24 h after its last claim (design rule 10). Read once at start: from
    /// then on [`crate::Catalog`] carries the owners and the store follows.
    pub owners: BTreeMap<RouteId, Owner>,
}

/// A split as ordered through the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRecord {
    /// Each named backend's weight; a written 0 is a promise.
    pub weights: BTreeMap<BackendId, Weight>,
    /// Who ordered it.
    pub author: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Until when; afterwards `then` holds.
    pub expires_at: Option<Timestamp>,
    /// Why, in the author's words.
    pub reason: Arc<str>,
    /// The API split that returns after the expiry; `None`: the layers below.
    pub then: Option<Box<SplitRecord>>,
}

impl SplitRecord {
    /// The split that holds at this time: itself, what it replaced, or `None` for the layers below.
    pub fn effective(&self, now: Timestamp) -> Option<&Self> {
        match self.expires_at {
            Some(end) if end <= now => self.then.as_deref().and_then(|then| then.effective(now)),
            _ => Some(self),
        }
    }
}

/// Copies of a route's requests, as ordered through the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorRecord {
    /// The backend that gets them.
    pub to: BackendId,
    /// Of which part of the requests.
    pub percent: Percent,
    /// Who ordered it.
    pub author: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Why, in the author's words.
    pub reason: Arc<str>,
}

/// Limits of a route as ordered through the API.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitsRecord {
    /// Those that are set; for the others the layers below hold.
    pub limits: RouteLimits,
    /// Who ordered them.
    pub author: Arc<str>,
    /// When: no two orders have the same time.
    pub at: Timestamp,
    /// Until when; afterwards `then` holds.
    pub expires_at: Option<Timestamp>,
    /// Why, in the author's words.
    pub reason: Arc<str>,
    /// The order that returns after the expiry; `None`: the layers below.
    pub then: Option<Arc<LimitsRecord>>,
}

impl LimitsRecord {
    /// The order that holds at this time: itself, what it replaced, or `None` for the layers below.
    pub fn effective(self: &Arc<Self>, now: Timestamp) -> Option<&Arc<Self>> {
        match self.expires_at {
            Some(end) if end <= now => self.then.as_ref().and_then(|then| then.effective(now)),
            _ => Some(self),
        }
    }

    /// Changes with each order; quoted as in an HTTP header.
    pub fn etag(record: Option<&Self>) -> String {
        record.map_or_else(|| "\"none\"".to_owned(), |record| format!("\"{}\"", record.at))
    }
}

/// What a state was set on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateSubject {
    /// One instance; follows the container id through restarts.
    Instance(InstanceId),
    /// A whole backend, instances to come too.
    Backend(BackendId),
    /// A backend in one of its routes: what a release takes back that other routes cannot do without.
    Member(RouteId, BackendId),
}

/// A state other than active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRecord {
    /// Draining or disabled.
    pub state: State,
    /// Who ordered it.
    pub author: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Arc<str>,
}

/// The end of a drain that people ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// When.
    pub at: Timestamp,
    /// Requests and connections that still ran then and were ended.
    pub cut: u32,
}

/// The project that owns a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The project; `None` is "no project".
    pub project: Option<Arc<str>>,
    /// When a container of it last claimed the route.
    pub last_claim: Timestamp,
}

/// Where a release is, as events tell it. Its split and states are decisions like any others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseNote {
    /// `waiting`, `stepping`, `paused`, `inconclusive`, `confirming`, `done`, `rolled_back`.
    pub state: &'static str,
    /// When it was ordered: another time, another release.
    pub ordered: Timestamp,
    /// What is released.
    pub to: BackendId,
    /// Its share of the route, in percent.
    pub weight: u8,
    /// Why it is where it is, with the figures that caused it.
    pub why: Arc<str>,
}

/// What health found about one life of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Pending, ready, unhealthy or unknown.
    pub condition: Condition,
    /// Since when.
    pub since: Timestamp,
    /// Why, one line: `GET /health answered 503`.
    pub reason: Arc<str>,
    /// A problem of the probe itself: exec refused, ...
    pub problem: Option<Problem>,
}

/// That one life of an instance gets no new requests for a while, though its container runs and its probe succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// Since when.
    pub since: Timestamp,
    /// Until when, at the latest.
    pub until: Timestamp,
    /// It ends with the first success of the instance's probe after `since`.
    pub until_probed: bool,
    /// Why, and until when, one line.
    pub reason: Arc<str>,
}

/// The one handle that changes the inputs; cheap to clone.
#[derive(Debug, Clone)]
pub struct InputsHandle(Arc<watch::Sender<Inputs>>);

impl InputsHandle {
    /// A handle on these first inputs.
    pub fn new(first: Inputs) -> Self {
        Self(Arc::new(watch::Sender::new(first)))
    }

    /// Changes the inputs and returns the serial of the change.
    pub fn update(&self, change: impl FnOnce(&mut Inputs)) -> u64 {
        let mut serial = 0;
        self.0.send_modify(|inputs| {
            change(inputs);
            inputs.serial += 1;
            serial = inputs.serial;
        });
        serial
    }

    /// Replaces what another part reports under its name.
    pub fn report(&self, part: &'static str, problems: Vec<Problem>) {
        let unchanged = |inputs: &Inputs| match inputs.reports.get(part) {
            Some(before) => *before == problems,
            None => problems.is_empty(),
        };
        if unchanged(&self.0.borrow()) {
            return;
        }
        self.update(|inputs| {
            Arc::make_mut(&mut inputs.reports).insert(part, problems);
        });
    }

    /// The inputs as they are now.
    pub fn current(&self) -> Inputs {
        self.0.borrow().clone()
    }

    /// Follows the changes.
    pub fn subscribe(&self) -> watch::Receiver<Inputs> {
        self.0.subscribe()
    }
}
