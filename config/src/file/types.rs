//! The configuration as the program uses it: every default filled in, every value in range.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::Limits;
use crate::labels::{BalancerClaim, ServiceSpec};
use crate::names::{FrontPort, Host, RouteEntry, RouteId, Version, Weight};

/// Everything that can be set, from flags, environment, file and defaults, in this order of precedence.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file this was read from, if any.
    pub file: Option<PathBuf>,
    /// Where splits, states and events are kept.
    pub state_dir: PathBuf,
    /// `[node]`
    pub node: Node,
    /// `[http] listen`
    pub http: Listen<HttpListener>,
    /// `[https] listen`; empty by default.
    pub https: Listen<HttpListener>,
    /// The other keys of `[https]`.
    pub tls: Tls,
    /// `[[certificate]]`
    pub certificates: Vec<CertificateFiles>,
    /// `[acme]`; `None`: certificates come from files alone.
    pub acme: Option<Acme>,
    /// `[dns]`
    pub dns: Dns,
    /// `[admin]`
    pub admin: Admin,
    /// `[docker]`
    pub docker: Docker,
    /// `[routing]`
    pub routing: Routing,
    /// `[proxy]`
    pub proxy: Proxy,
    /// `[balancers] proxy_protocol`: connections to front ports start with a PROXY header, and peers that are not in
    /// `proxy.trusted_proxies` are closed; default no.
    pub balancers_proxy_protocol: bool,
    /// `[upstream_tls]`
    pub upstream_tls: UpstreamTls,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
    /// `[shutdown] grace`: longest wait for requests in flight at a stop; default 30 s.
    pub shutdown_grace: Duration,
    /// `[shutdown] delay`: how long requests are served as before once `/readyz` says no, so that balancers in front see it;
    /// 0 to 10 min, default 0.
    pub shutdown_delay: Duration,
    /// `--replace`: the process that runs with this `state_dir` is taken over from.
    pub replace: bool,
    /// `[[service]]`
    pub services: Vec<StaticService>,
    /// `[[split]]`
    pub splits: Vec<FileSplit>,
    /// `[[webhook]]`
    pub webhooks: Vec<Webhook>,
    /// What is used, though not as written; to be shown, not to stop for.
    pub warnings: Vec<ConfigError>,
}

/// Listeners, and whether somebody asked for them: a defaulted one that cannot bind is a problem, a configured one is fatal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen<T> {
    /// The listeners.
    pub items: Vec<T>,
    /// False when they are the defaults.
    pub configured: bool,
}

/// `[[webhook]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where events are sent: `http://` or `https://`.
    pub url: Arc<str>,
    /// Kinds of events that are sent, `*` for all; default those of releases and problems.
    pub events: Vec<Arc<str>>,
    /// A file with the secret that deliveries are signed with.
    pub secret_file: Option<PathBuf>,
    /// A file with the authorities that alone may vouch for an `https` receiver; `None`: those of the machine.
    pub ca: Option<PathBuf>,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Default: the host name.
    pub name: Arc<str>,
    /// Empty: no zone.
    pub zone: Arc<str>,
}

/// One listener for HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpListener {
    /// The address to bind; port 0 lets the system choose.
    pub addr: SocketAddr,
    /// Whether each connection starts with a PROXY header from a trusted peer.
    pub proxy_protocol: bool,
    /// Upgrade tokens forwarded, lower case; default `websocket`. Never `h2c`.
    pub upgrades: Vec<Arc<str>>,
    /// Whether a plain listener answers what comes without TLS with 308 to `https`, but for internal names.
    pub redirect_to_https: bool,
    /// What it asks of TLS; `None` for a plain listener.
    pub tls: Option<ListenerTls>,
    /// `limits`, those of `[limits]` where it says nothing.
    pub limits: Limits,
}

/// What one listener of `[https]` asks of TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenerTls {
    /// `min_version`
    pub min_version: TlsVersion,
    /// `client_certificates` and `client_ca`; `None`: clients are asked for none.
    pub clients: Option<ClientCertificates>,
    /// `hsts`: the value of `Strict-Transport-Security` in answers that have none.
    pub hsts: Option<Arc<str>>,
}

/// Which certificates a TLS listener asks its clients for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Whether a client without one is refused.
    pub required: bool,
    /// PEM file of the authorities that make them.
    pub ca: PathBuf,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    V12,
    /// TLS 1.3
    V13,
}

/// `[https]`, but for its listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Longest time from the connection to the end of its handshake; 100 ms to 5 min, default 10 s.
    pub handshake_timeout: Duration,
    /// Most handshakes that one worker has under way; 1 to 1,000,000, default 4,096.
    pub handshakes_max: usize,
    /// The port at which clients reach the first listener, for redirects; `None`: the one that it listens on.
    pub public_port: Option<u16>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { handshake_timeout: Duration::from_secs(10), handshakes_max: 4096, public_port: None }
    }
}

/// `[[certificate]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file of the chain.
    pub cert: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
    /// DER file of the authority's OCSP answer, stapled to handshakes.
    pub ocsp: Option<PathBuf>,
}

/// `[acme]`: certificates from an authority that speaks RFC 8555.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The authority's directory, an `https://` URL; default that of Let's Encrypt.
    pub directory: Arc<str>,
    /// PEM file of the authorities that the directory's own certificate is from; `None`: those of the machine.
    pub ca: Option<PathBuf>,
    /// Where the authority may write to, `mailto:` URLs.
    pub contact: Vec<Arc<str>>,
    /// Hosts that get a certificate whether or not a route asks for it; lower case, no wildcards.
    pub hosts: Vec<Arc<str>>,
    /// Whether hosts of routes that are claimed with `https://` get one; default true.
    pub routes: bool,
    /// How the authority is shown that a host is ours.
    pub challenge: AcmeChallenge,
}

/// How an authority is shown that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcmeChallenge {
    /// `tls-alpn-01` (RFC 8737): by a TLS handshake at port 443.
    #[default]
    TlsAlpn01,
    /// `http-01` (RFC 8555 section 8.3): by a request to port 80.
    Http01,
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Where to answer; by default port 53 on 127.0.0.1 and, followed as networks change, on the gateway of each local bridge network.
    pub listen: DnsListen,
    /// Zones answered, lower case, without a trailing dot; default `local` and `internal`.
    pub zones: Vec<Arc<str>>,
    /// Most addresses in one answer, 0 for all; default 8.
    pub max_addresses: usize,
    /// `advertise`: which address of the proxy a client is told.
    pub advertise: Vec<Advertise>,
    /// Resolvers that other names are forwarded to; empty: those of the machine's resolv.conf.
    pub upstreams: Vec<SocketAddr>,
}

/// Where the DNS answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsListen {
    /// Port 53 on loopback and on the gateway of each local bridge network.
    Default,
    /// These addresses; empty switches the DNS off.
    Configured(Vec<SocketAddr>),
}

/// One entry of `[dns] advertise`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertise {
    /// Clients it is for.
    pub clients: IpNet,
    /// The proxy's address for them.
    pub address: IpAddr,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Default 127.0.0.1:9900.
    pub listen: AdminListen,
    /// Whether the listener was asked for.
    pub configured: bool,
    /// Further accepted Host names, lower case.
    pub hosts: Vec<Arc<str>>,
    /// A file with the token that requests must carry; required on an address that is not loopback.
    pub token_file: Option<PathBuf>,
}

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminListen {
    /// An address.
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

/// `[docker]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Docker {
    /// Whether engines are watched at all.
    pub enabled: bool,
    /// The engines; default `DOCKER_HOST`, else `unix:///var/run/docker.sock`.
    pub hosts: Vec<DockerHost>,
}

/// One Docker engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerHost {
    /// As written: `unix:///path`, `tcp://host:port`, `http://`, `https://`.
    pub url: Arc<str>,
    /// Where it leads.
    pub endpoint: DockerEndpoint,
    /// PEM files for TLS: authority, certificate, key.
    pub tls: Option<DockerTls>,
    /// The zone of its containers, `None` for the node's.
    pub zone: Option<Arc<str>>,
}

/// How a Docker engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerEndpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(Arc<str>),
}

/// Files for a Docker engine behind TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerTls {
    /// Certificate authority.
    pub ca: PathBuf,
    /// Client certificate.
    pub cert: PathBuf,
    /// Client key.
    pub key: PathBuf,
}

/// `[routing]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Completes a prefix host; default `localhost`.
    pub domain_suffix: Arc<str>,
    /// Whether routes are sticky that do not say.
    pub sticky_default: bool,
    /// The key of sticky cookies; else generated and stored.
    pub sticky_secret_file: Option<PathBuf>,
    /// Further internal clients (design rule 11).
    pub internal: Vec<IpNet>,
    /// Hosts that belong to listed projects (design rule 10).
    pub claims: Vec<HostClaim>,
}

/// One entry of `[routing] claims`. A wildcard covers its subdomains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostClaim {
    /// The host, never a prefix.
    pub host: Host,
    /// The projects that may use it.
    pub projects: Vec<Arc<str>>,
}

/// `[proxy]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Worker threads, 0 for one per core; at most 1024.
    pub threads: usize,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// `[upstream_tls]`: what TLS towards instances trusts and shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM files with the authorities that are trusted; empty: those of the system.
    pub ca: Vec<PathBuf>,
    /// Certificate and key that are shown to instances that ask for one.
    pub identity: Option<UpstreamIdentity>,
    /// Whether certificates of instances are checked whose labels say nothing; default true.
    pub verify: bool,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { ca: Vec::new(), identity: None, verify: true }
    }
}

/// Our certificate towards instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamIdentity {
    /// PEM file with the chain, our own certificate first.
    pub cert: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
}

/// `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Default text.
    pub format: LogFormat,
    /// One line per request; default true.
    pub access: bool,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// `[[service]]`: virtual machines, physical hosts, databases.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticService {
    /// The service's name.
    pub name: Arc<str>,
    /// Its project.
    pub project: Option<Arc<str>>,
    /// Its version; default `static`.
    pub version: Version,
    /// The routes it claims, each served by every instance.
    pub routes: Vec<RouteEntry>,
    /// The listeners of its own, each for every instance; the `port` of each is 0, as each instance has its own.
    pub balancers: Vec<BalancerClaim>,
    /// Its instances.
    pub instances: Vec<StaticInstance>,
    /// Weight, probe and the other keys, as labels would say them. `ports` is empty: each instance has its own.
    pub spec: ServiceSpec,
    /// The probe's url names no port: each instance is probed at its own, rather than at the 80 of a container.
    pub probe_own_port: bool,
    /// `auth.basic_file`: further users; [`Config::load`] has read them into `spec`.
    pub auth_file: Option<PathBuf>,
}

/// One instance of a `[[service]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticInstance {
    /// An address, or a name that is resolved again at each TTL.
    pub host: StaticHost,
    /// The port, 1 to 65535.
    pub port: u16,
    /// Relative to the other instances of the service; default 1.
    pub weight: Weight,
    /// `None` for the node's.
    pub zone: Option<Arc<str>>,
}

/// Where a static instance is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StaticHost {
    /// An address.
    Ip(IpAddr),
    /// A name for the resolver, lower case.
    Name(Arc<str>),
}

/// `[[split]]`: the file's layer of weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSplit {
    /// The route.
    pub route: SplitRoute,
    /// Backend references (`v`, `service@v`, `project/service@v`) with their weights; not all zero.
    pub weights: BTreeMap<Arc<str>, Weight>,
}

/// The route of a `[[split]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitRoute {
    /// Host and path, a prefix host not yet completed.
    Host(RouteEntry),
    /// A front port: `tcp://:3306`.
    Front(FrontPort),
}

impl SplitRoute {
    /// The route that it names.
    pub fn route(&self, domain_suffix: &str) -> RouteId {
        match self {
            Self::Host(entry) => entry.route(domain_suffix),
            Self::Front(port) => port.route(),
        }
    }
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {text}; {remedy}")]
pub struct ConfigError {
    /// File with line, flag or variable, and the key: `fairway.toml:12: http.listen[0]`, `--http`, `FAIRWAY_HTTP`.
    pub place: String,
    /// The value given, empty when it is one of structure.
    pub given: String,
    /// What is wrong, with the value.
    pub text: String,
    /// What to write instead.
    pub remedy: String,
}

/// Every error of a configuration at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}
