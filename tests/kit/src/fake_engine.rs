//! A Docker engine that is none: the API that discovery reads, answered from values that a test changes.
//!
//! For what a real engine cannot be made to do at will: thousands of containers at once, answers that stall, fail, make
//! no sense or break off, lost events. The answers are those recorded from dockerd 20.10, so that they have a real one's
//! size and shape.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinSet};

const INSPECT: &str = include_str!("../../../discovery/tests/fixtures/inspect.json");
const NETWORKS: &str = include_str!("../../../discovery/tests/fixtures/networks.json");
const VERSION: &str = include_str!("../../../discovery/tests/fixtures/version.json");
const INFO: &str = include_str!("../../../discovery/tests/fixtures/info.json");

/// Events that a slow reader may be behind by.
const EVENTS_KEPT: usize = 65_536;

/// `/events` up to now, which is a list.
const PAST_SIGNALS: &str = "/events?until";

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// How a path is answered in place of its real answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Not at all: the connection stays open.
    Stall,
    /// After this long, then as it should be.
    Delay(Duration),
    /// With this status, and an error in the API's form.
    Status(u16),
    /// With 200 and these octets.
    Garbage(&'static str),
    /// With the first half of the real answer, then a closed connection.
    Break,
}

/// A fake engine at a socket of its own. Dropped: it and its socket are gone.
#[derive(Debug)]
pub struct FakeEngine {
    shared: Arc<Shared>,
    folder: tempfile::TempDir,
    server: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    events: broadcast::Sender<Bytes>,
    /// Counts the times that open streams were cut.
    cuts: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// By id, with the answer as octets.
    containers: BTreeMap<String, (Value, Bytes)>,
    networks: Value,
    version: Value,
    info: Value,
    /// By the start of the path, without the API version.
    faults: BTreeMap<String, Fault>,
    /// Every `kill` that was told, as an engine keeps them for those who come later.
    signals: Vec<Bytes>,
    /// Every request, as `GET /v1.41/containers/json`.
    requests: Vec<String>,
}

impl FakeEngine {
    /// An engine without containers.
    ///
    /// # Panics
    /// When no socket can be made in the folder for temporary files.
    pub async fn start() -> Self {
        let recorded = |text| serde_json::from_str(text).expect("what was recorded is JSON");
        let state = State {
            containers: BTreeMap::new(),
            networks: recorded(NETWORKS),
            version: recorded(VERSION),
            info: recorded(INFO),
            faults: BTreeMap::new(),
            signals: Vec::new(),
            requests: Vec::new(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            events: broadcast::Sender::new(EVENTS_KEPT),
            cuts: watch::Sender::new(0),
        };
        let folder = tempfile::tempdir().expect("the folder for temporary files can be written");
        let engine = Self { shared: Arc::new(shared), folder, server: Mutex::new(None) };
        engine.open();
        engine
    }

    /// The socket's path.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The socket as `DOCKER_HOST` takes it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The folder that holds the socket, for other things in its place.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends: the socket is gone and every connection is cut. What it knows stays.
    pub fn close(&self) {
        if let Some(server) = locked(&self.server).take() {
            server.abort();
        }
        self.cut_streams();
        let _ = std::fs::remove_file(self.socket()); // it may be gone already
    }

    /// Listens, at the start and after [`FakeEngine::close`].
    ///
    /// # Panics
    /// When something else stands at the path.
    pub fn open(&self) {
        let listener = UnixListener::bind(self.socket()).expect("nothing else is at the path of the socket");
        let server = tokio::spawn(serve(listener, self.shared.clone()));
        *locked(&self.server) = Some(server.abort_handle());
    }

    /// Ends every stream of events, as an engine does that restarts.
    pub fn cut_streams(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Answers paths that start with `path` (`/containers/json`) like this from now on.
    pub fn fail(&self, path: &str, fault: Fault) {
        self.state().faults.insert(path.to_owned(), fault);
    }

    /// Answers everything as it should be again. Answers that stall go on stalling.
    pub fn mend(&self) {
        self.state().faults.clear();
    }

    /// The API versions it speaks, oldest and newest.
    pub fn set_versions(&self, oldest: &str, newest: &str) {
        let mut state = self.state();
        state.version["MinAPIVersion"] = json!(oldest);
        state.version["ApiVersion"] = json!(newest);
    }

    /// Replaces the networks.
    pub fn set_networks(&self, networks: Value) {
        self.state().networks = networks;
    }

    /// What has been asked, as `GET /v1.41/containers/json`, without queries; forgotten by this.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// Puts a container there, by its inspect answer, or replaces it; tells nobody.
    ///
    /// # Panics
    /// When the answer has no `Id`.
    pub fn put(&self, inspect: Value) {
        let id = inspect["Id"].as_str().expect("an inspect answer has an id").to_owned();
        let octets = serde_json::to_vec(&inspect).expect("a value can be written").into();
        self.state().containers.insert(id, (inspect, octets));
    }

    /// Changes a container; tells nobody.
    ///
    /// # Panics
    /// When there is none of this id.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Value)) {
        let mut inspect = self.state().containers.get(id).expect("the container is there").0.clone();
        change(&mut inspect);
        self.put(inspect);
    }

    /// Removes a container; tells nobody.
    pub fn remove(&self, id: &str) {
        self.state().containers.remove(id);
    }

    /// Tells an event of a container, dated now, with its labels as attributes and these beside them.
    pub fn tell(&self, id: &str, action: &str, attributes: &[(&str, &str)]) {
        let known = self.state().containers.get(id).map(|(inspect, _)| inspect.clone()).unwrap_or_default();
        let mut all = known["Config"]["Labels"].as_object().cloned().unwrap_or_default();
        all.insert("name".to_owned(), json!(name_of(&known)));
        all.insert("image".to_owned(), known["Config"]["Image"].clone());
        all.extend(attributes.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        self.tell_raw(&json!({
            "status": action, "id": id, "from": known["Config"]["Image"], "Type": "container", "Action": action,
            "Actor": { "ID": id, "Attributes": all }, "scope": "local", "time": now_nanos() / 1_000_000_000,
            "timeNano": now_nanos(),
        }));
    }

    /// Tells an event of a network, dated now.
    pub fn tell_of_network(&self, network: &str, action: &str, attributes: &[(&str, &str)]) {
        let attributes: BTreeMap<_, _> = attributes.iter().copied().collect();
        self.tell_raw(&json!({
            "Type": "network", "Action": action, "Actor": { "ID": network, "Attributes": attributes },
            "scope": "local", "time": now_nanos() / 1_000_000_000, "timeNano": now_nanos(),
        }));
    }

    /// Tells anything.
    pub fn tell_raw(&self, event: &Value) {
        let mut line = event.to_string();
        line.push('\n');
        let line = Bytes::from(line);
        if event["Action"] == "kill" {
            self.state().signals.push(line.clone());
        }
        let _ = self.shared.events.send(line); // nobody may listen
    }

    /// Sets the engine's clock, which stands still.
    pub fn set_clock(&self, time: &str) {
        self.state().info["SystemTime"] = json!(time);
    }

    /// How many streams of events are open.
    pub fn listeners(&self) -> usize {
        self.shared.events.receiver_count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.shared.state)
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.close();
    }
}

/// The inspect answer of the container number `n`: as recorded, with an id, a name, an address, a route and times of its
/// own; three containers share a service.
pub fn recorded_container(n: usize) -> Value {
    let mut inspect: Value = serde_json::from_str(INSPECT).expect("what was recorded is JSON");
    let (id, name) = (container_id(n), format!("shop_web{}_{}", n / 3, n % 3 + 1));
    let text = inspect.to_string().replace(inspect["Id"].as_str().unwrap_or_default(), &id);
    inspect = serde_json::from_str(&text).expect("one id in place of another");
    inspect["Name"] = json!(format!("/{name}"));
    inspect["Config"]["Hostname"] = json!(&id[..12]);
    inspect["Config"]["Labels"]["com.docker.compose.service"] = json!(format!("web{}", n / 3));
    let route = format!("http://web{0}.company.com;web{0}.local", n / 3);
    inspect["Config"]["Labels"]["aliyun.routing.port_8080"] = json!(route);
    let host = n + 2;
    let ip = format!("10.{}.{}.{}", 100 + host / 65_536, host / 256 % 256, host % 256);
    inspect["NetworkSettings"]["Networks"]["shop_default"]["IPAddress"] = json!(ip);
    inspect["NetworkSettings"]["Networks"]["shop_data"]["IPAddress"] = json!(ip.replacen("10.", "11.", 1));
    inspect
}

/// The id of [`recorded_container`] number `n`: 64 hex digits, spread over their range.
pub fn container_id(n: usize) -> String {
    // The finaliser of SplitMix64: an odd multiplier and shifts, so that no two numbers meet.
    let mut mixed = (n as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{mixed:016x}").repeat(4)
}

fn name_of(inspect: &Value) -> &str {
    inspect["Name"].as_str().unwrap_or_default().trim_start_matches('/')
}

fn now_nanos() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    i64::try_from(since.as_nanos()).expect("the clock is before 2262")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new(); // ends them with this task
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    locked(&shared.state).requests.push(format!("{} {path}", request.method()));
    let (version, path) = split_version(&path);
    let is_past = request.uri().query().is_some_and(|query| query.contains("until="));
    let path = if path == "/events" && is_past { PAST_SIGNALS } else { path };
    if let Some(refused) = refused_version(&shared, version) {
        return Ok(refused);
    }
    let fault = find_fault(&shared, path);
    Ok(match fault {
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Status(status)) => error(status, "something is wrong"),
        Some(Fault::Garbage(text)) => whole(200, text.into()),
        Some(Fault::Break) => half(real_answer(&shared, path)).await,
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            real_answer(&shared, path)
        }
        None => real_answer(&shared, path),
    })
}

/// `/v1.41/info` is version `1.41` and path `/info`.
fn split_version(path: &str) -> (Option<&str>, &str) {
    let split = || {
        let (version, _) = path.strip_prefix("/v")?.split_once('/')?;
        version.starts_with(|c: char| c.is_ascii_digit()).then(|| (Some(version), &path[version.len() + 2..]))
    };
    split().unwrap_or((None, path))
}

/// An engine refuses versions that it does not speak.
fn refused_version(shared: &Shared, version: Option<&str>) -> Option<Response<Body>> {
    let number = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    let asked = number(version?);
    let state = locked(&shared.state);
    let known = |key: &str| state.version[key].as_str().unwrap_or_default().to_owned();
    let (oldest, newest) = (known("MinAPIVersion"), known("ApiVersion"));
    let word = match () {
        () if asked < number(&oldest) => "old",
        () if asked > number(&newest) => "new",
        () => return None,
    };
    Some(error(400, &format!("client version {} is too {word}", version.unwrap_or_default())))
}

fn find_fault(shared: &Shared, path: &str) -> Option<Fault> {
    let state = locked(&shared.state);
    state.faults.iter().find(|(start, _)| path.starts_with(start.as_str())).map(|(_, fault)| fault.clone())
}

fn real_answer(shared: &Shared, path: &str) -> Response<Body> {
    let state = locked(&shared.state);
    match path {
        "/_ping" => whole(200, "OK".into()),
        "/version" => json_of(&state.version),
        "/info" => json_of(&state.info),
        "/networks" => json_of(&state.networks),
        "/events" => events(shared),
        PAST_SIGNALS => whole(200, state.signals.concat().into()),
        "/containers/json" => {
            let running =
                state.containers.values().filter(|(inspect, _)| inspect["State"]["Running"] == true);
            json_of(&running.map(|(inspect, _)| summary(inspect)).collect())
        }
        _ => match path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")) {
            Some(reference) => match find_container(&state, reference) {
                Some(octets) => whole(200, octets),
                None => error(404, &format!("No such container: {reference}")),
            },
            None => error(404, "page not found"),
        },
    }
}

fn find_container(state: &State, reference: &str) -> Option<Bytes> {
    let by_id = state.containers.get(reference);
    let by_name = || state.containers.values().find(|(inspect, _)| name_of(inspect) == reference);
    by_id.or_else(by_name).map(|(_, octets)| octets.clone())
}

/// A line of `/containers/json`, as an engine makes it of what it knows.
fn summary(inspect: &Value) -> Value {
    json!({
        "Id": inspect["Id"], "Names": [inspect["Name"]], "Image": inspect["Config"]["Image"], "ImageID": inspect["Image"],
        "Command": inspect["Path"], "Created": 1_795_238_545, "Ports": [], "Labels": inspect["Config"]["Labels"],
        "State": inspect["State"]["Status"], "Status": "Up 5 minutes (healthy)",
        "HostConfig": { "NetworkMode": inspect["HostConfig"]["NetworkMode"] },
        "NetworkSettings": { "Networks": inspect["NetworkSettings"]["Networks"] }, "Mounts": [],
    })
}

/// Every event from now on, until the streams are cut.
fn events(shared: &Shared) -> Response<Body> {
    let (events, cuts) = (shared.events.subscribe(), shared.cuts.subscribe());
    let lines = futures_util::stream::unfold((events, cuts), |(mut events, mut cuts)| async {
        tokio::select! {
            line = events.recv() => Some((line.ok()?, (events, cuts))),
            _ = cuts.changed() => None,
        }
    });
    let body = StreamBody::new(lines.map(|line| Ok(Frame::data(line)))).boxed_unsync();
    respond(200, body)
}

/// The first half of an answer's body, then an error that closes the connection.
async fn half(answer: Response<Body>) -> Response<Body> {
    let whole =
        answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let first = whole.slice(..whole.len() / 2);
    let broken = Err(std::io::Error::other("broken off as the test wished"));
    let frames = futures_util::stream::iter([Ok(Frame::data(first)), broken]);
    respond(200, StreamBody::new(frames).boxed_unsync())
}

fn json_of(value: &Value) -> Response<Body> {
    whole(200, serde_json::to_vec(value).expect("a value can be written").into())
}

fn error(status: u16, message: &str) -> Response<Body> {
    whole(status, json!({ "message": message }).to_string().into())
}

fn whole(status: u16, octets: Bytes) -> Response<Body> {
    respond(status, Full::new(octets).map_err(|never| match never {}).boxed_unsync())
}

fn respond(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a test names a status");
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}
