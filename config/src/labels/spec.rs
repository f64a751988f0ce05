//! What the labels of one container say, every value already in range.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::features::Features;
use crate::names::{Host, RouteEntry, Version, Weight};

/// What the labels of one container (or one `[[service]]` entry) ask for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServiceSpec {
    /// `aliyun.routing.port_N`, by ascending port. A label none of whose entries can be used is absent.
    pub ports: Vec<PortClaim>,
    /// `aliyun.lb.port_N`.
    pub balancers: Vec<BalancerClaim>,
    /// `fairway.tls.passthrough`.
    pub passthrough: Option<Passthrough>,
    /// `aliyun.routing.session_sticky`.
    pub session_sticky: Option<bool>,
    /// `aliyun.probe.*`.
    pub probe: Option<ProbeSpec>,
    /// `aliyun.scale`: how many instances are wanted.
    pub scale: Option<u32>,
    /// `aliyun.global`.
    pub global: bool,
    /// `aliyun.depends`: services that this one needs.
    pub depends: Vec<Arc<str>>,
    /// `aliyun.rolling_updates`.
    pub rolling_updates: bool,
    /// `aliyun.rolling_updates.parallelism`.
    pub rolling_parallelism: Option<u32>,
    /// `fairway.enable`.
    pub enable: Option<bool>,
    /// `fairway.project`.
    pub project: Option<Arc<str>>,
    /// `fairway.service`.
    pub service: Option<Arc<str>>,
    /// `fairway.version`.
    pub version: Option<Version>,
    /// `fairway.weight`.
    pub weight: Option<Weight>,
    /// `fairway.network`: the Docker network whose address to use.
    pub network: Option<Arc<str>>,
    /// `fairway.zone`.
    pub zone: Option<Arc<str>>,
    /// `fairway.dns`: `weighted`.
    pub dns_weighted: bool,
    /// Whether there is any `aliyun.proxy.*` label, which belongs to a proxy of the container's own.
    pub custom_proxy: bool,
    /// How requests travel to the instances.
    pub transport: Transport,
    /// What else is done with requests and answers.
    pub features: Features,
    /// Whether any label of ours exposes the container: routing, lb, probe or `fairway.*` (see [`ServiceSpec::is_exposed`]).
    pub has_own_labels: bool,
}

impl ServiceSpec {
    /// Whether the container takes part at all (design rule 1): it has a routing label or another explicit label of
    /// ours, and `fairway.enable` does not say `false`.
    pub fn is_exposed(&self) -> bool {
        self.enable != Some(false) && (self.has_own_labels || !self.ports.is_empty())
    }
}

/// The keys that shape requests on their way to the instances of a backend; all optional.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transport {
    /// `fairway.protocol`.
    pub protocol: Option<Protocol>,
    /// `fairway.proxy_protocol`: the header that each connection to an instance starts with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `fairway.balance`.
    pub balance: Option<Balance>,
    /// `fairway.timeout.connect`.
    pub connect_timeout: Option<Duration>,
    /// `fairway.timeout.first_byte`.
    pub first_byte_timeout: Option<Duration>,
    /// `fairway.timeout.idle`.
    pub idle_timeout: Option<Duration>,
    /// `fairway.timeout.total`.
    pub total_timeout: Option<Duration>,
    /// `fairway.retries`: 0 to 10.
    pub retries: Option<u8>,
    /// `fairway.in_flight_max`: most requests in flight at one instance, 1 to a million.
    pub in_flight_max: Option<u32>,
    /// `fairway.outlier`.
    pub outlier: Option<bool>,
    /// `fairway.drain`: the longest drain ordered by people.
    pub drain: Option<Duration>,
    /// `fairway.split_by`.
    pub split_by: Option<SplitBy>,
    /// `fairway.match`.
    pub matches: Vec<MatchRule>,
    /// `fairway.hedge`.
    pub hedge: Option<Hedge>,
    /// `fairway.tls.server_name`: whom an instance's certificate must be for, lower case.
    pub tls_server_name: Option<Arc<str>>,
    /// `fairway.tls.verify`: whether an instance's certificate is checked.
    pub tls_verify: Option<bool>,
    /// `fairway.body_max`: most octets of a request's body; `u64::MAX` for `none`.
    pub body_max: Option<u64>,
}

/// `aliyun.routing.port_N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortClaim {
    /// The container port, 1 to 65535.
    pub port: u16,
    /// The usable entries, duplicates removed, in the order written.
    pub entries: Vec<RouteEntry>,
}

/// `fairway.tls.passthrough`: whose TLS is not ended here, but passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passthrough {
    /// `true`: that of the hosts that are claimed with `https://` or `wss://`, each to the port that claims it.
    Routes,
    /// That of these hosts, to the only port. Never empty, and none of them is a prefix.
    Hosts(Vec<Host>),
}

/// `aliyun.lb.port_N: protocol://name:front_port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerClaim {
    /// The container port, 1 to 65535.
    pub port: u16,
    /// What the front listener speaks.
    pub protocol: BalancerProtocol,
    /// The balancer's name.
    pub name: Arc<str>,
    /// The port of the listener, 1 to 65535.
    pub front_port: u16,
}

/// The protocol of an `aliyun.lb` listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BalancerProtocol {
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
    /// `http`
    Http,
    /// `https`
    Https,
}

impl BalancerProtocol {
    /// As written in front of `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Whether what is said is read as HTTP.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// The protocol that is written so, in lower case.
    pub fn of_scheme(scheme: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Http, Self::Https].into_iter().find(|one| one.as_str() == scheme)
    }
}

/// `aliyun.probe.*`: how to tell that an instance works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSpec {
    /// What is tried.
    pub check: ProbeCheck,
    /// `aliyun.probe.timeout_seconds`: longest wait for one answer; default 1 s.
    pub timeout: Duration,
    /// `aliyun.probe.initial_delay_seconds`: no probe before this, counted from the container's start; default 0.
    pub initial_delay: Duration,
}

/// One kind of probe. Ports are those of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeCheck {
    /// `http://container[:port][/path]`: GET answers 2xx or 3xx.
    Http {
        /// Default 80.
        port: u16,
        /// Path and query, from the leading `/`.
        path: Arc<str>,
    },
    /// `tcp://container:port`: the connection is established.
    Tcp {
        /// The port.
        port: u16,
    },
    /// `grpc://container:port[/service]`: `grpc.health.v1`.
    Grpc {
        /// The port.
        port: u16,
        /// The service asked for, empty for the whole server.
        service: Arc<str>,
    },
    /// `aliyun.probe.cmd`: a shell command inside the container exits 0.
    Command {
        /// Given to `sh -c`.
        shell: Arc<str>,
    },
}

/// `fairway.protocol`: what is spoken towards the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// `http1`
    #[default]
    Http1,
    /// `h2c`
    H2c,
    /// `https`
    Https,
    /// `h2`
    H2,
}

/// `fairway.proxy_protocol`: by which header an instance is told whose connection it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// `v1`: a line of text.
    V1,
    /// `v2`: binary.
    V2,
}

impl ProxyProtocol {
    /// The header of a connection that is nobody's but the sender's own, such as a probe: `UNKNOWN` in version 1 (section
    /// 2.1 of the protocol's specification), `LOCAL` in version 2 (section 2.2).
    pub fn own_header(self) -> &'static [u8] {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n",
            Self::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        }
    }
}

/// `fairway.balance`: how an instance is chosen within its version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    /// `p2c-ewma`: the better of two random ones by peak latency average times requests in flight.
    #[default]
    P2cEwma,
    /// `round-robin`
    RoundRobin,
    /// `least-request`
    LeastRequest,
    /// `random`
    Random,
    /// `hash:ip`, `hash:header:NAME`, `hash:cookie:NAME`
    Hash(ClientKey),
}

/// What part of a request tells clients apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientKey {
    /// The client's address.
    Ip,
    /// A header field, lower case.
    Header(Arc<str>),
    /// A cookie.
    Cookie(Arc<str>),
}

/// `fairway.split_by`: how the version is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SplitBy {
    /// `request`: anew for every request.
    #[default]
    Request,
    /// `client-ip`, `header:NAME`, `cookie:NAME`: the same for the same client.
    Client(ClientKey),
}

/// One rule of `fairway.match`: who gets this version whatever its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatchRule {
    /// `header:NAME=VALUE`, the name lower case.
    Header(Arc<str>, Arc<str>),
    /// `cookie:NAME=VALUE`
    Cookie(Arc<str>, Arc<str>),
    /// `query:NAME=VALUE`
    Query(Arc<str>, Arc<str>),
    /// `client:CIDR`, or one address.
    Client(IpNet),
}

impl MatchRule {
    /// A rule for one client address.
    pub fn client(address: IpAddr) -> Self {
        Self::Client(IpNet::from(address))
    }
}

/// `fairway.hedge`: when a second GET is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hedge {
    /// `p95`: once the first takes longer than 95 % of the others.
    P95,
    /// After this long.
    After(Duration),
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something was ignored; what was asked for works all the same.
    Warning,
    /// Something asked for does not work.
    Error,
}

/// A label that cannot be used, or not as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelProblem {
    /// Stable word for scripts, such as `label-port-in-host`, `label-unknown-key`.
    pub kind: &'static str,
    /// Whether anything that was asked for is lost.
    pub severity: Severity,
    /// The label's key as written, control characters escaped, cut at 160 characters.
    pub key: String,
    /// The label's value, or the entry of it, in the same way.
    pub value: String,
    /// What is wrong, one sentence.
    pub text: String,
    /// What to write instead, one sentence.
    pub remedy: String,
}
