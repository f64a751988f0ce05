//! The calls to one engine, each with a bound on its time. A new connection for each, opened by path or address.
//!
//! Not here: what failures mean to people (see `failure`), running commands (see `exec`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerSummary, EventMessage, SystemVersion};
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder, ListNetworksOptions,
};
use bollard::{BollardRequest, Docker};
use fairway_catalog::facts::Network;
use fairway_config::file::{DockerEndpoint, DockerHost};
use fairway_config::labels::shown;
use futures_util::Stream;
use jiff::Timestamp;

use super::book::{Inspected, Listed};
use super::container::{Container, Phase, is_interesting, is_reference, plain_name};
use super::failure::{EngineError, place};
use super::{event, network};

/// The API version that is spoken unless the engine demands a newer one.
const API: (u32, u32) = (1, 41);

const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
const INSPECT_TIMEOUT: Duration = Duration::from_secs(5);
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// One engine that has answered.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) docker: Docker,
    host: Arc<DockerHost>,
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    /// `Docker Engine 20.10.24`.
    pub(super) peer: Arc<str>,
    /// The name of its machine.
    pub(super) node: Option<Arc<str>>,
    /// Its clock just now.
    pub(super) time: Option<Timestamp>,
}

impl Client {
    /// Asks who is there, and settles on an API version: 1.41, or the engine's oldest if that is newer.
    pub(super) async fn connect(host: &DockerHost) -> Result<(Self, Hello), EngineError> {
        let open = || open(host).map_err(|error| EngineError::of(host, "/version", &error));
        let unversioned = Self { docker: open()?, host: Arc::new(host.clone()) };
        let version = match unversioned.call("/version", HELLO_TIMEOUT, unversioned.docker.version()).await {
            Err(EngineError::Status { status, .. }) => {
                let why = format!("it answers /version with {status}");
                return Err(EngineError::NotDocker { place: place(host), why });
            }
            Err(EngineError::Garbage { why, .. }) => {
                return Err(EngineError::NotDocker { place: place(host), why });
            }
            answer => answer?,
        };
        let peer = peer_name(&version);
        let prefix = api_prefix(&version, &peer, host)?;
        let client = Self { docker: with_prefix(open()?, prefix), host: unversioned.host };
        // A filter in front of the engine may well hide this one; it only tells names and times.
        let info = match client.call("/info", HELLO_TIMEOUT, client.docker.info()).await {
            Ok(info) => info,
            Err(error) if error.is_answer() => Default::default(),
            Err(error) => return Err(error),
        };
        let time = info.system_time.and_then(|time| time.parse().ok());
        let node = info.name.filter(|name| !name.is_empty()).map(|name| shown(&name).into());
        Ok((client, Hello { peer, node, time }))
    }

    /// The events from `since` on (by the engine's clock), for ever.
    pub(super) fn events(
        &self,
        since: Option<Timestamp>,
    ) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + use<> {
        let mut options = EventsOptionsBuilder::default().filters(&event::filters());
        if let Some(since) = since {
            options = options.since(&since_text(since));
        }
        self.docker.events(Some(options.build()))
    }

    /// The containers that run, are paused or wait for a restart.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, EngineError> {
        let states = ["running", "paused", "restarting"];
        let filters = std::collections::HashMap::from([("status", states.to_vec())]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listing = self.docker.list_containers(Some(options));
        let list = self.call("/containers/json", LIST_TIMEOUT, listing).await?;
        Ok(list.into_iter().filter_map(listed).collect())
    }

    /// One container, by its id. Only a lost connection is an error.
    pub(super) async fn inspect(&self, id: &str) -> Result<Inspected, EngineError> {
        let inspecting = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        match self.call("/containers/ID/json", INSPECT_TIMEOUT, inspecting).await {
            Ok(answer) => Ok(match Container::read(answer) {
                Some(container) => Inspected::Found(Box::new(container)),
                None => Inspected::Failed("the answer names no container".to_owned()),
            }),
            Err(EngineError::Status { status: 404, .. }) => Ok(Inspected::Absent),
            // The engine holds a container's lock while it starts or stops: that one may have to wait, others not.
            Err(error) if error.is_answer() || matches!(error, EngineError::Timeout { .. }) => {
                Ok(Inspected::Failed(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// The networks; `local` holds the addresses of this machine, empty when the engine is another's.
    pub(super) async fn networks(&self, local: &BTreeSet<IpAddr>) -> Result<Vec<Network>, EngineError> {
        let listing = self.docker.list_networks(None::<ListNetworksOptions>);
        let networks = self.call("/networks", LIST_TIMEOUT, listing).await?;
        Ok(networks.into_iter().filter_map(|network| network::read(network, local)).collect())
    }

    /// What an error of the stream of events means.
    pub(super) fn explain(&self, call: &'static str, error: &bollard::errors::Error) -> EngineError {
        EngineError::of(&self.host, call, error)
    }

    async fn call<T>(
        &self,
        call: &'static str,
        after: Duration,
        answer: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(after, answer).await {
            Ok(answer) => answer.map_err(|error| EngineError::of(&self.host, call, &error)),
            Err(_) => Err(EngineError::Timeout { call, after }),
        }
    }
}

/// A client that opens its connections anew; nothing is connected yet.
fn open(host: &DockerHost) -> Result<Docker, bollard::errors::Error> {
    // Our own bounds are shorter: this one only covers the wait for the head of an answer.
    let seconds = 60;
    let version = bollard::API_DEFAULT_VERSION; // not sent, see `with_prefix`
    match (&host.endpoint, &host.tls) {
        (DockerEndpoint::Unix(path), _) => {
            Docker::connect_with_unix(&format!("unix://{}", path.display()), seconds, version)
        }
        (DockerEndpoint::Tcp(address), None) => {
            Docker::connect_with_http(&format!("tcp://{address}"), seconds, version)
        }
        (DockerEndpoint::Tcp(address), Some(tls)) => Docker::connect_with_ssl(
            &format!("tcp://{address}"),
            &tls.key,
            &tls.cert,
            &tls.ca,
            seconds,
            version,
        ),
    }
}

/// Puts the API version in front of every path. bollard means to do so and does not: it joins an absolute path to the
/// versioned base, which drops the version, and an engine answers by its newest one.
fn with_prefix(docker: Docker, prefix: String) -> Docker {
    docker.with_request_modifier(move |mut request: BollardRequest| {
        let uri = request.uri();
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return request };
        let path = uri.path_and_query().map(|path| path.as_str()).unwrap_or("/");
        if let Ok(versioned) = format!("{scheme}://{authority}{prefix}{path}").parse() {
            *request.uri_mut() = versioned;
        }
        request
    })
}

/// `/v1.41`, or the engine's oldest version if that is newer.
fn api_prefix(version: &SystemVersion, peer: &str, host: &DockerHost) -> Result<String, EngineError> {
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    let newest = version.api_version.as_deref().unwrap_or_default();
    let Some(newest_api) = parse(newest) else {
        let why = "its /version names no API version".to_owned();
        return Err(EngineError::NotDocker { place: place(host), why });
    };
    if newest_api < API {
        return Err(EngineError::TooOld { peer: peer.to_owned(), api: shown(newest) });
    }
    let oldest = version.min_api_version.as_deref().and_then(parse).unwrap_or(API);
    let (major, minor) = API.max(oldest);
    Ok(format!("/v{major}.{minor}"))
}

/// `Docker Engine 20.10.24`, `Podman Engine 4.9.3`.
fn peer_name(version: &SystemVersion) -> Arc<str> {
    let components = version.components.iter().flatten();
    let podman = components.map(|component| component.name.as_str()).any(|name| name.contains("Podman"));
    let name = if podman { "Podman Engine" } else { "Docker Engine" };
    format!("{name} {}", shown(version.version.as_deref().unwrap_or("of unknown version"))).into()
}

fn since_text(since: Timestamp) -> String {
    format!("{}.{:09}", since.as_second(), since.subsec_nanosecond())
}

fn listed(summary: ContainerSummary) -> Option<Listed> {
    use bollard::models::ContainerSummaryStateEnum as State;
    let names = summary.names.unwrap_or_default();
    // A link adds `/other/alias`; the container's own name has one slash.
    let own_name = names.iter().find(|name| name.matches('/').count() <= 1).or(names.first());
    let endpoints = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let mut ips: Vec<IpAddr> =
        super::container::attachments(endpoints).iter().filter_map(|at| at.ip).collect();
    ips.sort_unstable();
    Some(Listed {
        id: summary.id.filter(|id| is_reference(id))?.into(),
        name: plain_name(own_name.map(String::as_str).unwrap_or_default()),
        phase: match summary.state? {
            State::PAUSED => Phase::Paused,
            State::RESTARTING => Phase::Restarting,
            State::EXITED | State::CREATED | State::DEAD | State::REMOVING => return None,
            _ => Phase::Running,
        },
        ips,
        interesting: is_interesting(&summary.labels.unwrap_or_default()),
    })
}
