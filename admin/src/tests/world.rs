//! A Fairway without Docker, data plane and DNS listeners: inputs, catalog, routing table, store, admin API; and a client.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::facts::{Lifecycle, Lost, SourceFacts, SourceId, Unit, UnitKind};
use fairway_catalog::inputs::Inputs;
use fairway_catalog::{Catalog, InputsHandle, Settings};
use fairway_config::file::{Admin, AdminListen};
use fairway_config::labels;
use fairway_config::names::Weight;
use fairway_health::ProbeLog;
use fairway_proxy::metrics::Metrics;
use fairway_proxy::table::{TableHandle, follow};
use fairway_store::Store;
use jiff::Timestamp;
use prometheus::Registry;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::described::misfit;
use crate::{AdminState, Adopted, Control, Running, start, types};

/// Longest wait for anything in these tests.
const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const SOURCE: &str = "unix:///docker.sock";

/// How a world is made.
pub(super) struct Plan {
    pub(super) units: Vec<Unit>,
    pub(super) settings: Settings,
    pub(super) admin: Admin,
    /// Whether there is a store.
    pub(super) store: bool,
    /// Whether the source has been listed.
    pub(super) listed: bool,
    /// Serials that never move: a part of the process that hangs.
    pub(super) hanging: bool,
}

impl Default for Plan {
    fn default() -> Self {
        let settings = Settings { process_started: Timestamp::now(), ..Settings::default() };
        Self { units: shop(), settings, admin: loopback(), store: true, listed: true, hanging: false }
    }
}

pub(super) fn loopback() -> Admin {
    Admin {
        listen: AdminListen::Tcp(([127, 0, 0, 1], 0).into()),
        configured: true,
        hosts: vec!["admin.company.com".into()],
        token_file: None,
    }
}

/// Two versions of `web` that share a route, and `api` on a path of its own that an unready instance serves.
pub(super) fn shop() -> Vec<Unit> {
    let probe = ("aliyun.probe.url", "http://container/health");
    vec![
        unit(1, "shop/web@v1", &[("aliyun.routing.port_80", "shop.company.com")]),
        unit(2, "shop/web@v2", &[("aliyun.routing.port_80", "shop.company.com"), ("aliyun.scale", "3")]),
        unit(
            3,
            "shop/api@v2",
            &[("aliyun.routing.port_8080", "http://shop.company.com/api;api.local"), probe],
        ),
        unit(
            4,
            "shop/api@v2",
            &[("aliyun.routing.port_80", "two.local"), ("aliyun.routing.port_81", "two.local")],
        ),
    ]
}

/// A running container number `n`, called `c<n>`.
pub(super) fn unit(n: u8, backend: &str, said: &[(&str, &str)]) -> Unit {
    let parsed = labels::parse(said.iter().copied());
    assert_eq!(parsed.problems, [], "labels of a test");
    let started = Timestamp::from_second(1_700_000_000 + i64::from(n)).expect("in range");
    Unit {
        id: format!("{n:02x}").repeat(32).into(),
        kind: UnitKind::Container,
        name: format!("c{n}").into(),
        backend: backend.parse().expect("a backend"),
        created: started,
        started,
        lifecycle: Lifecycle::Running,
        ip: Some([172, 17, 0, n].into()),
        network: "bridge".into(),
        address_reason: "the only network".into(),
        exposed_ports: Vec::new(),
        spec: Arc::new(parsed.spec),
        label_problems: Vec::new(),
        weight: Weight::DEFAULT,
        docker_health: None,
        links: Vec::new(),
        node: "node7".into(),
        zone: "a".into(),
    }
}

/// The instance of container `n` at a port.
pub(super) fn id(n: u8, port: u16) -> String {
    format!("{}:{port}", format!("{n:02x}").repeat(6))
}

pub(super) struct World {
    pub(super) running: Running,
    pub(super) inputs: InputsHandle,
    pub(super) catalogs: watch::Receiver<Arc<Catalog>>,
    pub(super) draining: watch::Sender<bool>,
    pub(super) store: Option<Arc<Store>>,
    pub(super) control: Control,
    _hanging: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl World {
    /// A world with a store of its own that is gone afterwards.
    pub(super) async fn new() -> (Self, TempDir) {
        let folder = folder();
        (Self::start(Plan::default(), folder.path()).await, folder)
    }

    pub(super) async fn start(plan: Plan, folder: &Path) -> Self {
        Self::try_start(plan, folder).await.expect("the admin API starts")
    }

    pub(super) async fn try_start(plan: Plan, folder: &Path) -> Result<Self, crate::BindError> {
        let store = plan.store.then(|| Arc::new(Store::open(folder).expect("a store")));
        let loaded = store.as_ref().map(|store| store.load().expect("a store just opened can be read"));
        let revision = loaded.as_ref().map_or(0, |loaded| loaded.revision);
        let mut first = Inputs { settings: Arc::new(plan.settings), ..Inputs::default() };
        let (decisions, releases) =
            loaded.map(|loaded| (loaded.decisions, loaded.releases)).unwrap_or_default();
        first.decisions = Arc::new(decisions);
        set_units(&mut first, plan.units, plan.listed);
        let inputs = InputsHandle::new(first);

        let (live, catalogs) = watch::channel(Arc::new(Catalog::empty(revision)));
        let table = TableHandle::new(Metrics::new(1));
        let mut tasks = JoinSet::new();
        tasks.spawn(fairway_catalog::publish(inputs.subscribe(), live));
        tasks.spawn(follow(catalogs.clone(), table.clone()));
        let (hanging, never) = watch::channel(0);
        let mut applied = vec![table.applied()];
        applied.extend(plan.hanging.then_some(never));
        let (draining, drain) = watch::channel(false);
        let listener = types::Listener {
            kind: "http".into(),
            address: "0.0.0.0:80".into(),
            error: Some("in use".into()),
        };
        let control = Control::new(inputs.clone(), catalogs.clone(), store.clone(), applied);
        control.take_up(releases);
        let state = AdminState {
            control: control.clone(),
            catalogs: catalogs.clone(),
            table,
            probes: ProbeLog::default(),
            registry: Registry::new(),
            listeners: Arc::new(move || vec![listener.clone()]),
            store: store.clone(),
            draining: drain,
        };
        let running = start(plan.admin, state, Adopted::default()).await?;
        let world =
            Self { running, inputs, catalogs, draining, store, control, _hanging: hanging, _tasks: tasks };
        world.catch_up().await;
        Ok(world)
    }

    /// Waits until the catalog shows the inputs.
    pub(super) async fn catch_up(&self) {
        let serial = self.inputs.current().serial;
        let mut catalogs = self.catalogs.clone();
        let first = |catalog: &Arc<Catalog>| catalog.serial >= serial && catalog.at > Timestamp::UNIX_EPOCH;
        within(catalogs.wait_for(first)).await.expect("the catalog is published");
    }

    /// Replaces the containers.
    pub(super) async fn set_units(&self, units: Vec<Unit>) {
        self.inputs.update(|inputs| set_units(inputs, units, true));
        self.catch_up().await;
    }

    /// Docker cannot be reached any more.
    pub(super) async fn lose_docker(&self) {
        self.inputs.update(|inputs| {
            let facts = inputs.sources.get_mut(&source()).expect("it is there from the start");
            Arc::make_mut(facts).lost = Some(Lost { since: Timestamp::now(), error: "no socket".into() });
        });
        self.catch_up().await;
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// GET, as JSON, which has to succeed.
    pub(super) async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Sends JSON.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.put_with(path, body, &[]).await
    }

    pub(super) async fn put_with(&self, path: &str, body: &Value, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(fields);
        self.send("PUT", path, &all, &body.to_string()).await
    }

    pub(super) async fn send(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !fields.iter().any(|(name, _)| *name == "host") {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let answer = self.raw(format!("{head}\r\n{body}").as_bytes()).await;
        self.check_described(method, path, &answer).await;
        answer
    }

    /// Clients are made from the description: it has to know every answer that is given, and all that is in it.
    async fn check_described(&self, method: &str, path: &str, answer: &Answer) {
        let status = answer.status;
        let path = path.split('?').next().unwrap_or_default();
        // Others are of no single path: who may ask, and how.
        if !path.starts_with("/api/v1/")
            || ![200, 201, 202, 204, 404, 409, 410, 412, 422, 503].contains(&status)
        {
            return;
        }
        static DESCRIPTION: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
        if DESCRIPTION.get().is_none() {
            let ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let description = serde_json::from_str::<Value>(&self.raw(ask).await.body).unwrap_or_default();
            if !description["paths"].is_object() {
                return; // It wants a token.
            }
            let _ = DESCRIPTION.set(description);
        }
        let fits = |template: &str| {
            let (given, known) = (path.split('/'), template.split('/'));
            given.clone().count() == known.clone().count()
                && given.zip(known).all(|(given, known)| known.starts_with('{') || given == known)
        };
        let description = DESCRIPTION.get().expect("it was set");
        let paths = description["paths"].as_object().expect("paths");
        let operation =
            paths.iter().find(|(template, _)| fits(template)).map(|(_, item)| &item[method.to_lowercase()]);
        if let Some(operation) = operation.filter(|operation| operation.is_object()) {
            let known = &operation["responses"][status.to_string()];
            assert!(
                known.is_object(),
                "the description of {method} {path} does not know the answer {status}"
            );
            let kind = answer.field("content-type").split(';').next().unwrap_or_default();
            if let Some(schema) = known["content"].get(kind).map(|content| &content["schema"])
                && kind.ends_with("json")
            {
                let misfit = misfit(description, schema, &answer.json());
                assert_eq!(misfit, None, "{method} {path}, {status}: {}", answer.body);
            }
        }
    }

    /// Sends these octets and reads what comes until the connection ends.
    pub(super) async fn raw(&self, octets: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        within(stream.write_all(octets)).await.expect("it can be sent");
        let mut answer = Vec::new();
        // A refusal may come before all of the request is read; then the rest is answered with a reset.
        let _ = within(stream.read_to_end(&mut answer)).await;
        Answer::parse(&answer)
    }

    pub(super) async fn connect(&self) -> Box<dyn Stream> {
        match self.running.address().strip_prefix("unix:") {
            Some(path) => Box::new(UnixStream::connect(path).await.expect("the socket takes connections")),
            None => Box::new(
                TcpStream::connect(self.running.address()).await.expect("the listener takes connections"),
            ),
        }
    }

    /// Ends the API and the store; what is left in the folder is what a new start finds.
    pub(super) async fn stop(self) {
        within(self.running.stop()).await;
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

pub(super) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub(super) fn socket(folder: &TempDir) -> PathBuf {
    folder.path().join("admin.sock")
}

fn source() -> SourceId {
    SourceId::Docker(SOURCE.into())
}

fn set_units(inputs: &mut Inputs, units: Vec<Unit>, listed: bool) {
    let units = units.into_iter().map(|unit| (unit.id.clone(), Arc::new(unit))).collect();
    let facts = SourceFacts { listed, units, peer: "Docker Engine 20.10".into(), ..SourceFacts::default() };
    inputs.sources.insert(source(), Arc::new(facts));
}

/// The result, within patience.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes to an end in time")
}

/// One answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    fn parse(octets: &[u8]) -> Self {
        let text = String::from_utf8_lossy(octets);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let mut answer = Self { status, head: head.to_owned(), body: body.to_owned() };
        if answer.field("transfer-encoding") == "chunked" {
            answer.body = join_chunks(body);
        }
        answer
    }

    /// A header field's value, empty when there is none.
    pub(super) fn field(&self, name: &str) -> &str {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut values = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.next().map_or("", |(_, value)| value.trim())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.body))
    }

    /// Asserts that this is a refusal of this kind, and gives it.
    pub(super) fn refused(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.field("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], kind, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        let told = |member: &str| problem[member].as_str().is_some_and(|text| !text.is_empty());
        assert!(told("title") && told("detail"), "{problem}");
        problem
    }
}

fn join_chunks(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let Some(chunk) = rest.get(..size).filter(|_| size > 0) else { break };
        whole.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}
