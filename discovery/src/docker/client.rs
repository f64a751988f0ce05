//! The calls to one engine, each with a bound on its time and size. A new connection for each, opened by path or
//! address.
//!
//! Not here: what the answers hold (see `raw`), what failures mean to people (see `failure`), running commands (see
//! `exec`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{EventMessage, SystemVersion};
use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{BollardRequest, Docker};
use fairway_catalog::facts::Network;
use fairway_config::file::{DockerEndpoint, DockerHost};
use fairway_config::labels::shown;
use futures_util::{Stream, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;

use super::book::{Inspected, Listed};
use super::container::Container;
use super::event::Event;
use super::failure::{EngineError, place};
use super::{event, network, raw};

/// The API version that is spoken unless the engine demands a newer one.
const API: (u32, u32) = (1, 41);

/// How long ago a signal may have been sent that is asked for: longer than containers take to stop.
const PAST: SignedDuration = SignedDuration::from_hours(1);

const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
const INSPECT_TIMEOUT: Duration = Duration::from_secs(5);
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer; a container takes some 2 KiB of a list and 8 KiB of its own.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// `/containers/json` of those that run, are paused or wait for a restart.
const LIST: &str = "/containers/json?all=1&filters=%7B%22status%22%3A%5B%22running%22%2C%22paused%22%2C%22restarting%22%5D%7D";

/// One engine that has answered.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Puts the API version in front of every path.
    pub(crate) docker: Docker,
    /// The same without.
    plain: Docker,
    /// `/v1.41`
    prefix: Arc<str>,
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
        let plain = open(host).map_err(|error| EngineError::of(host, "/version", &error))?;
        let version = in_time(host, "/version", HELLO_TIMEOUT, plain.version()).await;
        let version = version.map_err(|error| not_docker(host, error))?;
        let peer = peer_name(&version);
        let prefix: Arc<str> = api_prefix(&version, &peer, host)?.into();
        let docker = with_path(&plain, {
            let prefix = prefix.clone();
            move |path| format!("{prefix}{path}")
        });
        let client = Self { docker, plain, prefix, host: Arc::new(host.clone()) };
        // A filter in front of the engine may well hide this one; it only tells names and times.
        let info = match client.in_time("/info", HELLO_TIMEOUT, client.docker.info()).await {
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
    ) -> impl Stream<Item = Result<EventMessage, Error>> + use<> {
        let mut options = EventsOptionsBuilder::default().filters(&event::filters());
        if let Some(since) = since {
            options = options.since(&since_text(since));
        }
        self.docker.events(Some(options.build()))
    }

    /// The signals that were sent to containers before `until` (by the engine's clock), as far as the engine still knows;
    /// none where it does not tell.
    pub(super) async fn past_signals(&self, until: Timestamp) -> Result<Vec<Event>, EngineError> {
        let since = until.saturating_sub(PAST).unwrap_or(Timestamp::MIN);
        let options = EventsOptionsBuilder::default().filters(&event::signals());
        let options = options.since(&since_text(since)).until(&since_text(until)).build();
        let events = self.docker.events(Some(options)).try_collect();
        match self.in_time("/events", HELLO_TIMEOUT, events).await {
            Ok(events) => Ok(Vec::into_iter(events).filter_map(Event::read).collect()),
            // Without them everything works but for containers that were told to stop before we came.
            Err(error) if error.is_answer() || matches!(error, EngineError::Timeout { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The containers that run, are paused or wait for a restart.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, EngineError> {
        let list: Vec<raw::Summary> = self.get("/containers/json", LIST, LIST_TIMEOUT).await?;
        Ok(list.into_iter().filter_map(Listed::read).collect())
    }

    /// One container, by its id. Only a lost connection is an error.
    pub(super) async fn inspect(&self, id: &str) -> Result<Inspected, EngineError> {
        let path = format!("/containers/{id}/json");
        match self.get::<raw::Inspect>("/containers/ID/json", &path, INSPECT_TIMEOUT).await {
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
        let networks: Vec<raw::Network> = self.get("/networks", "/networks", LIST_TIMEOUT).await?;
        Ok(networks.into_iter().filter_map(|network| network::read(network, local)).collect())
    }

    /// What an error of the stream of events means.
    pub(super) fn explain(&self, call: &'static str, error: &Error) -> EngineError {
        EngineError::of(&self.host, call, error)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &str,
        after: Duration,
    ) -> Result<T, EngineError> {
        let path = format!("{}{path}", self.prefix);
        // bollard gives an answer's octets for few calls: this one's path is replaced.
        let docker = with_path(&self.plain, move |_| path.clone());
        let octets = self.in_time(call, after, collect(docker.export_container("any"))).await?;
        let garbage = |why: String| EngineError::Garbage { call, why: shown(&why) };
        let octets = octets.ok_or_else(|| garbage(format!("more than {ANSWER_BYTES_MAX} octets")))?;
        serde_json::from_slice(&octets).map_err(|error| garbage(error.to_string()))
    }

    async fn in_time<T>(
        &self,
        call: &'static str,
        after: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, EngineError> {
        in_time(&self.host, call, after, answer).await
    }
}

async fn in_time<T>(
    host: &DockerHost,
    call: &'static str,
    after: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(after, answer).await {
        Ok(answer) => answer.map_err(|error| EngineError::of(host, call, &error)),
        Err(_) => Err(EngineError::Timeout { call, after }),
    }
}

/// The whole body, `None` if it is too large.
async fn collect<O: AsRef<[u8]>>(
    body: impl Stream<Item = Result<O, Error>>,
) -> Result<Option<Vec<u8>>, Error> {
    let mut body = std::pin::pin!(body);
    let mut octets = Vec::new();
    while let Some(chunk) = body.next().await {
        octets.extend_from_slice(chunk?.as_ref());
        if octets.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(octets))
}

/// A client that opens its connections anew; nothing is connected yet.
fn open(host: &DockerHost) -> Result<Docker, Error> {
    // Our own bounds are shorter: this one only covers the wait for the head of an answer.
    let seconds = 60;
    let version = bollard::API_DEFAULT_VERSION; // not sent, see `with_path`
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

/// The same engine at other paths. bollard means to put the API version in front of a path and does not: it joins an
/// absolute path to the versioned base, which drops the version, and an engine answers by its newest one.
fn with_path(docker: &Docker, path: impl Fn(&str) -> String + Send + Sync + 'static) -> Docker {
    docker.clone().with_request_modifier(move |mut request: BollardRequest| {
        let uri = request.uri();
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return request };
        let path = path(uri.path_and_query().map_or("/", |path| path.as_str()));
        if let Ok(other) = format!("{scheme}://{authority}{path}").parse() {
            *request.uri_mut() = other;
        }
        request
    })
}

/// What answers /version with something else is no engine.
fn not_docker(host: &DockerHost, error: EngineError) -> EngineError {
    let why = match error {
        EngineError::Status { status, message, .. } if message.is_empty() => {
            format!("it answers /version with {status}")
        }
        EngineError::Status { status, message, .. } => {
            format!("it answers /version with {status}: {message}")
        }
        EngineError::Garbage { why, .. } => why,
        error => return error,
    };
    EngineError::NotDocker { place: place(host), why }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_asks_for_containers_that_can_answer_or_soon_will() {
        let states = serde_json::json!({ "status": ["running", "paused", "restarting"] });
        let (path, filters) = LIST.split_once("filters=").expect("a filter");
        assert_eq!(path, "/containers/json?all=1&");
        let decoded =
            filters.replace("%7B", "{").replace("%7D", "}").replace("%22", "\"").replace("%3A", ":");
        let decoded = decoded.replace("%5B", "[").replace("%5D", "]").replace("%2C", ",");
        assert_eq!(decoded, states.to_string());
    }

    #[test]
    fn since_is_told_to_the_nanosecond() {
        let since = Timestamp::from_nanosecond(1_795_238_545_000_000_042).expect("a time");
        assert_eq!(since_text(since), "1795238545.000000042");
    }

    #[test]
    fn a_version_is_settled_on_that_both_speak() {
        let host = DockerHost {
            url: "tcp://x:1".into(),
            endpoint: DockerEndpoint::Tcp("x:1".into()),
            tls: None,
            zone: None,
        };
        for (oldest, newest, want) in [
            (Some("1.12"), "1.41", Some("/v1.41")),
            (Some("1.24"), "1.52", Some("/v1.41")),
            (Some("1.44"), "1.52", Some("/v1.44")),
            (None, "1.43", Some("/v1.41")),
            (Some("x"), "2.0", Some("/v1.41")),
            (Some("1.12"), "1.40", None),
            (Some("1.12"), "", None),
            (Some("1.12"), "one.two", None),
        ] {
            let version = SystemVersion {
                min_api_version: oldest.map(Into::into),
                api_version: Some(newest.into()),
                ..SystemVersion::default()
            };
            let prefix = api_prefix(&version, "Docker Engine 19.03", &host).ok();
            assert_eq!(prefix.as_deref(), want, "{oldest:?} {newest}");
        }
    }
}
