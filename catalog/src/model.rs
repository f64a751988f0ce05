//! The catalog: what the cluster is, as everything else reads it.
//!
//! Values that did not change are the same `Arc` as in the catalog before, so that what is derived from them (the
//! routing table, the zone) can be kept by pointer. Not here: how it is built (see `build`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use fairway_config::labels::features::Features;
use fairway_config::labels::{Severity, SplitBy, Transport};
use fairway_config::names::{BackendId, RouteId, Weight};
use jiff::Timestamp;

use crate::facts::{Lost, SourceId, Unit};
use crate::ids::{InstanceId, InstanceKey};
use crate::inputs::{Drained, LimitsRecord, MirrorRecord, ReleaseNote, Settings, StateRecord};
use crate::internal::InternalClients;
use crate::problem::Problem;

/// The cluster as one value.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Grows with every change, across restarts too.
    pub revision: u64,
    /// The serial of the inputs it was built from.
    pub serial: u64,
    /// When it was built.
    pub at: Timestamp,
    /// Every enabled source has been listed once, or 10 s have passed (design rule 4).
    pub settled: bool,
    /// From the configuration.
    pub settings: Arc<Settings>,
    /// Routes by name, tombstones too.
    pub routes: BTreeMap<RouteId, Arc<Route>>,
    /// Backends by name.
    pub backends: BTreeMap<BackendId, Arc<Backend>>,
    /// Instances by id.
    pub instances: BTreeMap<InstanceId, Arc<Instance>>,
    /// Each route's last release.
    pub releases: Arc<BTreeMap<RouteId, ReleaseNote>>,
    /// What is wrong, errors first.
    pub problems: Vec<Arc<Problem>>,
    /// Who is internal.
    pub internal: Arc<InternalClients>,
    /// The networks of all engines, for listeners on gateways and the proxy's address in a network.
    pub networks: Vec<Arc<crate::facts::Network>>,
    /// How each source is.
    pub sources: Vec<SourceStatus>,
    /// The date of the next expiry, at which to build again though no input changed.
    pub next_expiry: Option<Timestamp>,
    /// The same for the end of what lasts, a tombstone for instance, by [`crate::Now::lasting`].
    pub next_end: Option<Timestamp>,
    pub(crate) memory: Arc<crate::build::Memory>,
}

/// How a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// Which.
    pub id: SourceId,
    /// Whether it has been listed whole once.
    pub listed: bool,
    /// Why it cannot be reached now.
    pub lost: Option<Lost>,
    /// What answers there, for people.
    pub peer: Arc<str>,
    /// How many containers or static instances it told.
    pub units: usize,
}

/// A host pattern and path prefix that lead to weighted backends.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name.
    pub id: RouteId,
    /// Only clients on TLS: every claim says `https://` or `wss://`.
    pub secure: bool,
    /// Somebody claims it with `https://` or `wss://`.
    pub https: bool,
    /// The project that owns it.
    pub project: Option<Arc<str>>,
    /// Changes with its split only; quoted as in an HTTP header.
    pub etag: Arc<str>,
    /// Where its weights come from; `None`: every ready instance gets an equal share.
    pub split: Option<SplitInfo>,
    /// Its backends by name, each once.
    pub members: Vec<Member>,
    /// To which version copies of its requests go. The backend may be none of its members at the moment.
    pub mirror: Option<Arc<MirrorRecord>>,
    /// The limits that the API sets now; they are in `body_max`, `features` and the members' `transport` already.
    pub limits: Option<Arc<LimitsRecord>>,
    /// Sticky sessions.
    pub sticky: bool,
    /// How the version is drawn.
    pub split_by: SplitBy,
    /// Most octets of a request's body (`body_max`), `u64::MAX` for any; `None`: the listener's limit holds.
    pub body_max: Option<u64>,
    /// What else is done with its requests and answers, if anything.
    pub features: Option<Arc<Features>>,
    /// No container claims it any more; it goes at this time.
    pub ends: Option<Timestamp>,
}

/// A backend within a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The backend with its instances.
    pub backend: Arc<Backend>,
    /// How requests of this route travel to it: as the backend says, but for limits that the API sets.
    pub transport: Arc<Transport>,
    /// The stronger of what is set on the backend and on it in this route.
    pub state: State,
    /// Its weight in the split; `None` when the route has no split.
    pub weight: Option<Weight>,
    /// Its weight is a 0 that a split (not a label) says in writing: no new client, ever.
    pub promised_zero: bool,
    /// The part of new requests that it gets now, 0 to 1.
    pub share: f64,
    /// Those of the backend's instances that claim this route, by id: a backend may have instances of several ports. Each
    /// as it stands in this route: disabled where the member is.
    pub instances: Vec<Arc<Instance>>,
}

/// The source of a route's weights, later ones above earlier ones (design rule 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// `fairway.weight`.
    Label,
    /// `[[split]]`.
    File,
    /// The admin API.
    Api,
}

impl Layer {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// Where a route's weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitInfo {
    /// The layer.
    pub layer: Layer,
    /// Who: an API client, the file's name, the containers' services.
    pub author: Arc<str>,
    /// Since when.
    pub at: Timestamp,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// Why.
    pub reason: Arc<str>,
}

/// All instances of one (project, service, version).
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Its name.
    pub id: BackendId,
    /// The routes it serves.
    pub routes: Vec<RouteId>,
    /// Its instances, by id.
    pub instances: Vec<Arc<Instance>>,
    /// How many of them are ready and active.
    pub ready: usize,
    /// How many are wanted (`aliyun.scale`), as far as anybody said.
    pub desired: Option<u32>,
    /// Set on the backend as a whole.
    pub state: State,
    /// Who set it, when and why; `None` while it is active.
    pub ordered: Option<StateRecord>,
    /// How requests travel to it: of its longest-standing instance.
    pub transport: Arc<Transport>,
    /// `fairway.dns: weighted`.
    pub dns_weighted: bool,
    /// Services it declares to call.
    pub links: Vec<Arc<str>>,
}

/// One container port, or static address.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// Its backend.
    pub backend: BackendId,
    /// Where it is reached; `None` while it has no address.
    pub address: Option<SocketAddr>,
    /// The port, 0 when nothing names one: it has names in the DNS but no route.
    pub port: u16,
    /// The container or static entry it belongs to.
    pub unit: Arc<Unit>,
    /// The stronger of what people set on it and on its backend.
    pub state: State,
    /// Who set that, when and why; `None` while it is active.
    pub ordered: Option<StateRecord>,
    /// What is seen of it.
    pub condition: Condition,
    /// Since when it is in this condition.
    pub since: Timestamp,
    /// Why, one line.
    pub reason: Arc<str>,
    /// Until when it is ejected, at the latest.
    pub until: Option<Timestamp>,
    /// Its stop signal came StopTimeout + 5 s ago and it still runs: health finds out whether it answers.
    pub overdue: bool,
    /// Since when it drains by order of people.
    pub draining_since: Option<Timestamp>,
    /// How that drain ended, if it has: nobody is sent to it any more, bound clients too.
    pub drained: Option<Drained>,
}

impl Instance {
    /// What health, load and pooled connections follow; `None` while it has no address.
    pub fn key(&self) -> Option<InstanceKey> {
        let address = self.address?;
        Some(InstanceKey { id: self.id.clone(), started: self.unit.started, address })
    }

    /// Whether new clients may be sent to it: active, and ready or not to be probed.
    pub fn serves_new(&self) -> bool {
        self.state == State::Active && self.condition.is_ready() && self.address.is_some()
    }

    /// Whether it would serve new clients, were it not ejected: it does so when no other instance can.
    pub fn serves_as_last(&self) -> bool {
        self.state == State::Active && self.condition == Condition::Ejected && self.address.is_some()
    }
}

/// Set by people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum State {
    /// Gets new clients.
    #[default]
    Active,
    /// Finishes what runs; bound clients stay; nothing new.
    Draining,
    /// Nobody.
    Disabled,
}

impl State {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Seen by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Not yet proven, or without an address, or paused.
    Pending,
    /// Works.
    Ready,
    /// Its probe fails.
    Unhealthy,
    /// Out for a while after its own failures.
    Ejected,
    /// Its stop signal was seen.
    Stopping,
    /// Cannot be probed; counts as ready, with a problem.
    Unknown,
}

impl Condition {
    /// Every condition, for metrics that must show zeros.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Ready, Self::Unhealthy, Self::Ejected, Self::Stopping, Self::Unknown];

    /// Ready, or unknown, which counts as ready.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Unknown)
    }

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Stopping => "stopping",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a severity is written in the API and in tables.
pub fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// Why a reference does not lead to one backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOneBackend {
    /// Nothing answers to it.
    #[error("there is no backend `{reference}`; known: {}", list(known))]
    Unknown {
        /// As written.
        reference: String,
        /// Those there are.
        known: Vec<BackendId>,
    },
    /// Several do.
    #[error("`{reference}` may be {}; write more of the name", list(candidates))]
    Ambiguous {
        /// As written.
        reference: String,
        /// Those that answer to it.
        candidates: Vec<BackendId>,
    },
}

fn list(backends: &[BackendId]) -> String {
    match backends {
        [] => "none".to_owned(),
        _ => backends.iter().map(|b| format!("`{b}`")).collect::<Vec<_>>().join(", "),
    }
}

impl Catalog {
    /// The backend among `known` that `reference` names: `v`, `service@v` or `project/service@v`. A full name wins over
    /// a part of another.
    pub fn resolve_backend<'a>(
        reference: &str,
        known: impl IntoIterator<Item = &'a BackendId>,
    ) -> Result<BackendId, NotOneBackend> {
        let known: Vec<BackendId> = known.into_iter().cloned().collect();
        if let Some(exact) = known.iter().find(|id| id.to_string() == reference) {
            return Ok(exact.clone());
        }
        let mut candidates: Vec<BackendId> =
            known.iter().filter(|id| id.answers_to(reference)).cloned().collect();
        let reference = reference.to_owned();
        match candidates.len() {
            0 => Err(NotOneBackend::Unknown { reference, known }),
            1 => Ok(candidates.remove(0)),
            _ => Err(NotOneBackend::Ambiguous { reference, candidates }),
        }
    }

    /// The instances that a person means: one by its id or by its container's name and the port (`web-1:80`), or all
    /// ports of a container by its name or (at least 12 digits of its) id.
    pub fn instances_named(&self, reference: &str) -> Vec<Arc<Instance>> {
        if let Some(one) = self.instances.get(&InstanceId::from_printed(reference)) {
            return vec![one.clone()];
        }
        let is_container = |instance: &Instance, reference: &str| {
            *instance.unit.name == *reference
                || (reference.len() >= 12 && instance.unit.id.starts_with(reference))
        };
        let is_port = |instance: &Instance| match reference.rsplit_once(':') {
            Some((container, port)) => port.parse() == Ok(instance.port) && is_container(instance, container),
            None => false,
        };
        let named = |instance: &&Arc<Instance>| is_container(instance, reference) || is_port(instance);
        self.instances.values().filter(named).cloned().collect()
    }
}
