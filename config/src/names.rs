//! The words that labels, configuration file and admin API share, each checked once when it is made.
//!
//! Not here: what a label key means (see [`crate::labels`]), which keys the file has (see [`crate::file`]).

mod front;
mod percent;
mod tls;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use front::FrontPort;
pub use percent::{NotAPercent, Percent};

/// A relative share of new clients. Per backend, not per instance. People write 0 to 1000; what a release makes of their
/// weights may need larger numbers to say the same proportions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

/// A weight outside 0..=1000, or none at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a weight: write a whole number from 0 to 1000")]
pub struct NotAWeight {
    /// What was written.
    pub given: String,
}

impl Weight {
    /// No new clients.
    pub const ZERO: Self = Self(0);
    /// What a backend without a weight counts as once another backend of its route has one.
    pub const DEFAULT: Self = Self(100);
    /// The largest weight that people write.
    pub const MAX: u16 = 1000;

    /// As people write it. Fails above [`Weight::MAX`].
    pub fn new(value: u64) -> Result<Self, NotAWeight> {
        match u32::try_from(value) {
            Ok(small) if small <= Self::MAX.into() => Ok(Self(small)),
            _ => Err(NotAWeight { given: value.to_string() }),
        }
    }

    /// As it was computed from others: any number.
    pub fn computed(value: u32) -> Self {
        Self(value)
    }

    /// The number itself.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Weight {
    type Err = NotAWeight;
    fn from_str(text: &str) -> Result<Self, NotAWeight> {
        let not_a_weight = || NotAWeight { given: text.to_owned() };
        // `u64::from_str` takes a leading `+`, which no label grammar has.
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(not_a_weight());
        }
        text.parse().map_err(|_| not_a_weight()).and_then(Self::new)
    }
}

/// The version of a service: `[A-Za-z0-9._-]{1,64}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Arc<str>);

/// A version outside `[A-Za-z0-9._-]{1,64}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a version: write 1 to 64 of A-Z a-z 0-9 . _ -")]
pub struct NotAVersion {
    /// What was written.
    pub given: String,
}

impl Version {
    /// The version as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest version to any text: other characters become `-`, cut at 64. `None` when nothing is left.
    pub fn nearest(text: &str) -> Option<Self> {
        let near: String = text.chars().take(64).map(|c| if is_version_char(c) { c } else { '-' }).collect();
        near.parse().ok()
    }
}

fn is_version_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl FromStr for Version {
    type Err = NotAVersion;
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let fits = (1..=64).contains(&text.len()) && text.chars().all(is_version_char);
        fits.then(|| Self(text.into())).ok_or_else(|| NotAVersion { given: text.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All instances of one (project, service, version), written `project/service@version` or `service@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId {
    /// The project, `None` for "no project" (which counts as one project of its own).
    pub project: Option<Arc<str>>,
    /// The service.
    pub service: Arc<str>,
    /// The version.
    pub version: Version,
}

impl BackendId {
    /// Whether `reference` names this backend: `v`, `service@v` or `project/service@v`, by whole components.
    pub fn answers_to(&self, reference: &str) -> bool {
        let version = self.version.as_str();
        match reference.rsplit_once('@') {
            None => reference == version,
            Some((_, v)) if v != version => false,
            Some((service, _)) => match (&self.project, service.rsplit_once('/')) {
                (_, None) => service == &*self.service,
                (Some(project), Some((p, s))) => p == &**project && s == &*self.service,
                (None, Some(_)) => false,
            },
        }
    }
}

/// A text that is no backend's full name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a backend: write `project/service@version` or `service@version`")]
pub struct NotABackend {
    /// What was written.
    pub given: String,
}

/// Reads what [`BackendId`] prints; a part of a name is no backend (see [`BackendId::answers_to`]).
impl FromStr for BackendId {
    type Err = NotABackend;
    fn from_str(text: &str) -> Result<Self, NotABackend> {
        let wrong = || NotABackend { given: text.to_owned() };
        let (name, version) = text.rsplit_once('@').ok_or_else(wrong)?;
        let (project, service) = match name.rsplit_once('/') {
            Some((project, service)) => (Some(project), service),
            None => (None, name),
        };
        if service.is_empty() || project.is_some_and(str::is_empty) {
            return Err(wrong());
        }
        let version = version.parse().map_err(|_| wrong())?;
        Ok(Self { project: project.map(Arc::from), service: service.into(), version })
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(project) = &self.project {
            write!(f, "{project}/")?;
        }
        write!(f, "{}@{}", self.service, self.version)
    }
}

/// The scheme in front of a routing entry. Default [`Scheme::Http`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Scheme {
    /// `http://` or none: both listeners.
    #[default]
    Http,
    /// `https://`: the TLS listener; the plain one redirects.
    Https,
    /// `ws://`: as `http://`.
    Ws,
    /// `wss://`: as `https://`.
    Wss,
}

impl Scheme {
    /// Whether the route wants TLS between the client and the edge.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Wss)
    }

    /// The scheme as it stands in front of `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// The host of a routing entry, lower case, without a trailing dot, at most 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// One label without a dot: it becomes `prefix.<domain suffix>`.
    Prefix(Arc<str>),
    /// A full name, `.local` names too.
    Exact(Arc<str>),
    /// `*.` and a full name (kept without the `*.`): one or more labels on the left.
    Wildcard(Arc<str>),
}

impl Host {
    /// The host with a prefix completed by `suffix`, the configured domain suffix.
    pub fn complete(&self, suffix: &str) -> HostPattern {
        match self {
            Self::Prefix(prefix) => HostPattern::Exact(format!("{prefix}.{suffix}").into()),
            Self::Exact(name) => HostPattern::Exact(name.clone()),
            Self::Wildcard(name) => HostPattern::Wildcard(name.clone()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(name) | Self::Exact(name) => name.fmt(f),
            Self::Wildcard(name) => write!(f, "*.{name}"),
        }
    }
}

/// The host of a route, complete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name only.
    Exact(Arc<str>),
    /// One or more labels in front of this name.
    Wildcard(Arc<str>),
}

impl HostPattern {
    /// The name, for a wildcard the part after `*.`.
    pub fn name(&self) -> &str {
        match self {
            Self::Exact(name) | Self::Wildcard(name) => name,
        }
    }

    /// Whether only internal clients may ask for it: a name under `.local`.
    pub fn is_local(&self) -> bool {
        self.name().strip_suffix("local").is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Wildcard(name) => write!(f, "*.{name}"),
        }
    }
}

/// A route's name: `host/path`, the path `/` or `/api` without a trailing slash; or, for connections, that of a front port
/// ([`FrontPort`]) or `tls://host`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId {
    /// The host.
    pub host: HostPattern,
    /// The path prefix, from its leading `/`, case kept.
    pub path: Arc<str>,
}

/// A text that is no route's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a route: write `host/path`, such as `shop.company.com/api`")]
pub struct NotARoute {
    /// What was written.
    pub given: String,
}

/// Reads what [`RouteId`] prints, and `host` alone as `host/`; a trailing slash after a path is dropped.
impl FromStr for RouteId {
    type Err = NotARoute;
    fn from_str(text: &str) -> Result<Self, NotARoute> {
        if let Some(host) = text.strip_prefix("tls://") {
            let id: Self = host.parse()?;
            return match &*id.path {
                "/" => Ok(Self::tls(id.host)),
                _ => Err(NotARoute { given: text.to_owned() }),
            };
        }
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let host = match host.strip_prefix("*.") {
            Some(name) => HostPattern::Wildcard(name.into()),
            None => HostPattern::Exact(host.as_str().into()),
        };
        if host.name().is_empty() {
            return Err(NotARoute { given: text.to_owned() });
        }
        let path = path.trim_end_matches('/');
        Ok(Self { host, path: if path.is_empty() { "/".into() } else { path.into() } })
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_tls() {
            return write!(f, "tls://{}", self.host);
        }
        write!(f, "{}{}", self.host, self.path)
    }
}

/// One entry of a routing label: `[scheme://]host[path]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteEntry {
    /// The scheme written in front, or the default.
    pub scheme: Scheme,
    /// The host, a prefix not yet completed.
    pub host: Host,
    /// The path prefix, from its leading `/`; `/` when none is written; no trailing `/` otherwise.
    pub path: Arc<str>,
}

impl RouteEntry {
    /// The route that this entry claims.
    pub fn route(&self, domain_suffix: &str) -> RouteId {
        RouteId { host: self.host.complete(domain_suffix), path: self.path.clone() }
    }
}

/// Prints what parses to the same entry again.
impl fmt::Display for RouteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if &*self.path == "/" { Ok(()) } else { self.path.fmt(f) }
    }
}
