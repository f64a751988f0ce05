//! What a source says: containers (or static services), networks, and how the source itself is.
//!
//! Not here: what follows from it (see [`crate::model`]).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_config::labels::{LabelProblem, ServiceSpec};
use fairway_config::names::{BackendId, Weight};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::problem::Problem;

/// A source of instances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceId {
    /// The `[[service]]` entries of the configuration file.
    File,
    /// A Docker engine, by its URL as configured.
    Docker(Arc<str>),
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => "file".fmt(f),
            Self::Docker(url) => url.fmt(f),
        }
    }
}

/// Everything one source says, as of its last good answer. Kept when the source is lost (design rule 4).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceFacts {
    /// Whether it has been listed whole at least once.
    pub listed: bool,
    /// Why it cannot be reached now, and since when; `None` when it can.
    pub lost: Option<Lost>,
    /// What answers there, for people: `Docker Engine 20.10.24`.
    pub peer: Arc<str>,
    /// Containers and static instances, by [`Unit::id`].
    pub units: BTreeMap<Arc<str>, Arc<Unit>>,
    /// Networks, by id.
    pub networks: BTreeMap<Arc<str>, Arc<Network>>,
    /// Problems of the source itself; those of a unit's labels are with the unit.
    pub problems: Vec<Problem>,
}

/// Why a source cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Since when.
    pub since: Timestamp,
    /// The error, one line.
    pub error: Arc<str>,
}

/// One container, or one static instance. Only exposed ones (design rule 1) are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// The full container id; for a static one `service@version/host:port`.
    pub id: Arc<str>,
    /// Container or static.
    pub kind: UnitKind,
    /// The container's name without `/`; for a static one its id.
    pub name: Arc<str>,
    /// Project, service and version.
    pub backend: BackendId,
    /// When it was created; decides who owns a route.
    pub created: Timestamp,
    /// When it was started last; a restart is a new life.
    pub started: Timestamp,
    /// What it is doing.
    pub lifecycle: Lifecycle,
    /// Its address, `None` while it has none.
    pub ip: Option<IpAddr>,
    /// The id of the network that the address is in; empty for static and host-network ones.
    pub network: Arc<str>,
    /// Why this address, or why none, for people.
    pub address_reason: Arc<str>,
    /// Ports that the image or container exposes over TCP, ascending. Used when no label names a port.
    pub exposed_ports: Vec<u16>,
    /// What its labels say.
    pub spec: Arc<ServiceSpec>,
    /// What is wrong with its labels.
    pub label_problems: Vec<LabelProblem>,
    /// Relative to the other instances of its backend; [`Weight::DEFAULT`] unless a static entry says otherwise.
    pub weight: Weight,
    /// The state of Docker's own HEALTHCHECK, if it has one.
    pub docker_health: Option<DockerHealth>,
    /// Services it declares to call (`aliyun.depends`, compose links).
    pub links: Vec<Arc<str>>,
    /// The node it runs on.
    pub node: Arc<str>,
    /// The zone of that node, empty for none.
    pub zone: Arc<str>,
}

/// What kind of thing a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// A Docker container.
    Container,
    /// A `[[service]]` instance.
    Static,
}

/// What a container is doing, as far as requests are concerned. One that is not running is not a unit, except between
/// two runs of a restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// It runs.
    Running,
    /// Docker restarts it.
    Restarting,
    /// It is paused.
    Paused,
    /// Its stop signal was seen: new requests go elsewhere.
    Stopping {
        /// When the signal was seen.
        since: Timestamp,
        /// StopTimeout; 5 s later it may be active again if it still answers (design rule 6).
        timeout: Duration,
    },
}

/// The state of Docker's own HEALTHCHECK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DockerHealth {
    /// Not yet known.
    Starting,
    /// The last check passed.
    Healthy,
    /// Too many checks failed in a row.
    Unhealthy,
}

/// A Docker network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its driver: `bridge`, `overlay`, `macvlan`, ...
    pub driver: Arc<str>,
    /// Swarm's routing mesh.
    pub ingress: bool,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// Its gateway addresses.
    pub gateways: Vec<IpAddr>,
    /// Whether a gateway address is an address of this machine's network namespace, so that we run in the host's.
    pub gateway_is_local: bool,
}
