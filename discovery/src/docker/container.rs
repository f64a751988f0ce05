//! What is kept of one container: the engine's inspect answer, read once.
//!
//! Not here: its backend (`identity`), its address (`address`), what it is as a [`Unit`](fairway_catalog::facts::Unit)
//! (`unit`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::facts::DockerHealth;
use fairway_config::labels::{LabelProblem, ServiceSpec};
use jiff::Timestamp;

use super::address::Attachment;
use super::identity::Origin;
use super::network::address;
use super::raw;
use super::signal::Signal;

/// How long Docker waits between StopSignal and KILL when nobody says otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// What `StopTimeout: -1` (for ever) and the like count as.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest name of a container that is kept, in characters; Docker allows more than anybody can read.
const NAME_CHARS_MAX: usize = 253;
/// Most links that are kept.
const LINKS_MAX: usize = 64;

/// One container.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Container {
    /// The full id.
    pub(super) id: Arc<str>,
    /// Without the leading `/`.
    pub(super) name: Arc<str>,
    pub(super) phase: Phase,
    pub(super) created: Timestamp,
    pub(super) started: Timestamp,
    pub(super) health: Option<DockerHealth>,
    pub(super) stop_signal: Signal,
    pub(super) stop_timeout: Duration,
    pub(super) restart: Restart,
    /// How often the restart policy has restarted it.
    pub(super) restarts: i64,
    pub(super) namespace: Namespace,
    pub(super) attachments: Vec<Attachment>,
    /// TCP ports, ascending.
    pub(super) exposed_ports: Vec<u16>,
    /// Containers it is linked to.
    pub(super) links: Vec<Arc<str>>,
    /// The image as it was named at creation.
    pub(super) image: Arc<str>,
    /// `sha256:` and 64 hex digits.
    pub(super) image_id: Arc<str>,
    pub(super) origin: Origin,
    pub(super) spec: Arc<ServiceSpec>,
    pub(super) label_problems: Vec<LabelProblem>,
}

/// Docker's state, as far as requests are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    Paused,
    /// Between two runs of a restart policy.
    Restarting,
    /// Not started, exited, being removed.
    Down,
}

/// The restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    Never,
    /// `always`, `unless-stopped`.
    Always,
    /// At most so many times; 0 for ever.
    OnFailure(i64),
}

/// Whose network namespace it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Namespace {
    /// Its own.
    Own,
    /// The machine's.
    Host,
    /// Its own, without any network.
    None,
    /// That of the container with this id.
    Container(Arc<str>),
}

impl Container {
    /// Reads an inspect answer; `None` without an id.
    pub(super) fn read(answer: raw::Inspect) -> Option<Self> {
        let id: Arc<str> = answer.id.filter(|id| is_reference(id))?.into();
        let config = answer.config.unwrap_or_default();
        let host = answer.host_config.unwrap_or_default();
        let state = answer.state.unwrap_or_default();
        let networks = answer.network_settings.unwrap_or_default();
        let endpoints = networks.networks.unwrap_or_default();
        let labels = config.labels.clone().unwrap_or_default();
        let parsed = parse_labels(&labels);
        Some(Self {
            id,
            name: plain_name(answer.name.as_deref().unwrap_or_default()),
            phase: Phase::of(&state),
            created: time(answer.created.as_deref()),
            started: time(state.started_at.as_deref()),
            health: state.health.and_then(|health| health_of_word(&health.status?)),
            stop_signal: config.stop_signal.as_deref().and_then(Signal::parse).unwrap_or(Signal::TERM),
            stop_timeout: stop_timeout(config.stop_timeout),
            restart: Restart::of(&host),
            restarts: answer.restart_count.unwrap_or_default(),
            namespace: Namespace::of(&host),
            exposed_ports: exposed_ports(&config, networks.ports.unwrap_or_default().into_keys()),
            links: links(&host, &endpoints),
            attachments: attachments(endpoints),
            image: config.image.unwrap_or_default().into(),
            image_id: answer.image.unwrap_or_default().into(),
            origin: Origin::of(&labels),
            spec: Arc::new(parsed.spec),
            label_problems: parsed.problems,
        })
    }

    /// Whether it is to be routed to (design rule 1).
    pub(super) fn is_exposed(&self) -> bool {
        self.spec.is_exposed() && !self.origin.one_off
    }

    /// Whether Docker's restart policy starts it again after an end with this code, if nobody stopped it.
    pub(super) fn restarts_after(&self, exit_code: i64) -> bool {
        match self.restart {
            Restart::Never => false,
            Restart::Always => true,
            Restart::OnFailure(most) => exit_code != 0 && (most == 0 || self.restarts < most),
        }
    }
}

impl Phase {
    fn of(state: &raw::State) -> Self {
        match state.status.as_deref() {
            None | Some("") if state.running == Some(true) => Self::Running,
            None | Some("") => Self::Down,
            Some(word) => Self::of_word(word),
        }
    }

    /// A word of `State.Status`. One that is not known yet is taken for some kind of running, as `stopping` is.
    pub(super) fn of_word(word: &str) -> Self {
        match word {
            "paused" => Self::Paused,
            "restarting" => Self::Restarting,
            "created" | "configured" | "initialized" | "exited" | "stopped" | "removing" | "dead" => {
                Self::Down
            }
            _ => Self::Running,
        }
    }
}

impl Restart {
    fn of(host: &raw::HostConfig) -> Self {
        let Some(policy) = &host.restart_policy else { return Self::Never };
        match policy.name.as_deref() {
            Some("always" | "unless-stopped") => Self::Always,
            Some("on-failure") => Self::OnFailure(policy.maximum_retry_count.unwrap_or_default()),
            _ => Self::Never,
        }
    }
}

impl Namespace {
    fn of(host: &raw::HostConfig) -> Self {
        match host.network_mode.as_deref().unwrap_or_default() {
            "host" => Self::Host,
            "none" => Self::None,
            mode => match mode.strip_prefix("container:") {
                Some(other) if is_reference(other) => Self::Container(other.into()),
                _ => Self::Own,
            },
        }
    }
}

/// What a container's labels, and nothing else, come to.
pub(super) fn parse_labels(labels: &HashMap<String, String>) -> fairway_config::labels::ParsedLabels {
    fairway_config::labels::parse(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

/// Whether a container with these labels is worth an inspect: it is exposed, or its labels have problems to tell.
pub(super) fn is_interesting(labels: &HashMap<String, String>) -> bool {
    let parsed = parse_labels(labels);
    let hidden = parsed.spec.enable == Some(false) || Origin::of(labels).one_off;
    !hidden && (parsed.spec.is_exposed() || !parsed.problems.is_empty())
}

/// Whether a text can stand for a container in a path of the API: an id or a name.
pub(super) fn is_reference(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=NAME_CHARS_MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(fits)
}

/// A container's name without its leading `/`, escaped and cut.
pub(super) fn plain_name(name: &str) -> Arc<str> {
    let name = name.strip_prefix('/').unwrap_or(name);
    if is_reference(name) {
        return name.into();
    }
    fairway_config::labels::shown(name).into()
}

/// The state of Docker's own HEALTHCHECK by its word.
pub(super) fn health_of_word(word: &str) -> Option<DockerHealth> {
    match word {
        "starting" => Some(DockerHealth::Starting),
        "healthy" => Some(DockerHealth::Healthy),
        "unhealthy" => Some(DockerHealth::Unhealthy),
        _ => None,
    }
}

fn time(text: Option<&str>) -> Timestamp {
    text.and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn stop_timeout(seconds: Option<i64>) -> Duration {
    let Some(seconds) = seconds else { return STOP_TIMEOUT };
    u64::try_from(seconds).map_or(STOP_TIMEOUT_MAX, Duration::from_secs).min(STOP_TIMEOUT_MAX)
}

fn exposed_ports(config: &raw::Config, published: impl Iterator<Item = String>) -> Vec<u16> {
    let tcp = |port: &str| match port.split_once('/') {
        None => port.parse::<u16>().ok(),
        Some((port, protocol)) if protocol.eq_ignore_ascii_case("tcp") => port.parse().ok(),
        Some(_) => None,
    };
    let exposed = config.exposed_ports.iter().flat_map(HashMap::keys).filter_map(|port| tcp(port));
    let ports: BTreeSet<u16> =
        exposed.chain(published.filter_map(|port| tcp(&port))).filter(|port| *port != 0).collect();
    ports.into_iter().collect()
}

/// Compose keeps `external_links` as `/name:/this/alias` on the default bridge and as `name:alias` in other networks.
fn links(host: &raw::HostConfig, endpoints: &HashMap<String, raw::Endpoint>) -> Vec<Arc<str>> {
    let of_host = host.links.iter().flatten();
    let of_networks = endpoints.values().flat_map(|endpoint| endpoint.links.iter().flatten());
    let target = |link: &String| {
        let name = link.split(':').next()?.trim_start_matches('/');
        is_reference(name).then(|| Arc::from(name))
    };
    let targets: BTreeSet<Arc<str>> = of_host.chain(of_networks).filter_map(target).take(LINKS_MAX).collect();
    targets.into_iter().collect()
}

pub(super) fn attachments(endpoints: HashMap<String, raw::Endpoint>) -> Vec<Attachment> {
    let read = |(name, endpoint): (String, raw::Endpoint)| {
        let v4 = endpoint.ip_address.as_deref().and_then(address);
        let v6 = || endpoint.global_ipv6_address.as_deref().and_then(address);
        Attachment {
            ip: v4.or_else(v6),
            network: endpoint.network_id.unwrap_or_default().into(),
            name: name.into(),
        }
    };
    let mut all: Vec<Attachment> = endpoints.into_iter().map(read).collect();
    all.sort_by(|a, b| (&a.name, &a.network).cmp(&(&b.name, &b.network)));
    all
}

#[cfg(test)]
pub(super) mod tests;
