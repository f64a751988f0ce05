//! A data plane on a free port, origins that do what a test tells them, and connections that carry any octets.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fairway_catalog::facts::{SourceFacts, UnitKind};
use fairway_catalog::inputs::{MirrorRecord, SplitRecord, StateRecord, StateSubject};
use fairway_catalog::{Catalog, Decisions, Inputs, InstanceId, Lifecycle, Settings, SourceId, State, Unit};
use fairway_config::file::{HttpListener, Limits, ListenerTls, Tls};
use fairway_config::labels;
use fairway_config::names::{Percent, Weight};
use fairway_proxy::explain::{explain, explain_text};
use fairway_proxy::metrics::Metrics;
use fairway_proxy::request::{FieldList, RequestView};
use fairway_proxy::table::TableHandle;
use fairway_proxy::tls::{Certificates, Trust};
use fairway_proxy::{AccessLogConfig, Adopted, Drained, ProxyConfig, Running, start};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longest wait for anything: a test that waits longer has failed.
pub(crate) const LONGEST: Duration = Duration::from_secs(20);

/// Waits for `what`, and fails the test when it does not come.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(LONGEST, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: nothing after {LONGEST:?}"),
    }
}

/// A running data plane and the cluster it serves.
pub(crate) struct Plane {
    pub address: SocketAddr,
    /// The TLS listener, if there is one.
    pub https: Option<SocketAddr>,
    pub handle: Arc<TableHandle>,
    pub running: Running,
    pub cluster: Cluster,
}

/// The containers of a cluster: changed by a test, applied as one table.
#[derive(Default)]
pub(crate) struct Cluster {
    units: Vec<Unit>,
    /// Splits and states, as people ordered them.
    pub decisions: Decisions,
    serial: u64,
    before: Option<Catalog>,
    /// How much later than it is the catalog thinks it is.
    later: Duration,
}

impl Cluster {
    /// A container that listens at `address` and claims `routes`, with further labels; named by its id.
    pub(crate) fn add(&mut self, address: SocketAddr, routes: &str, more: &[(&str, &str)]) -> Arc<str> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let key = format!("aliyun.routing.port_{}", address.port());
        let labels = [(key.as_str(), routes)].into_iter().chain(more.iter().copied());
        let spec = labels::parse(labels).spec;
        let started = Timestamp::from_second(1_000_000 + i64::from(number)).expect("a time");
        let id: Arc<str> = format!("{number:08x}").repeat(8).into();
        let version = spec.version.clone().map_or("v1".to_owned(), |version| version.to_string());
        self.units.push(Unit {
            id: id.clone(),
            kind: UnitKind::Container,
            name: format!("c{number}").into(),
            backend: format!("shop@{version}").parse().expect("a backend"),
            created: started,
            started,
            lifecycle: Lifecycle::Running,
            ip: Some(address.ip()),
            network: "bridge".into(),
            address_reason: "".into(),
            exposed_ports: Vec::new(),
            spec: Arc::new(spec),
            label_problems: Vec::new(),
            weight: Weight::DEFAULT,
            docker_health: None,
            links: Vec::new(),
            node: "node".into(),
            zone: "".into(),
        });
        id
    }

    /// The ids of its containers.
    pub(crate) fn ids(&self) -> Vec<Arc<str>> {
        self.units.iter().map(|unit| unit.id.clone()).collect()
    }

    /// The same containers, for another node.
    pub(crate) fn copy_of(&mut self, other: &Self) {
        self.units.clone_from(&other.units);
    }

    /// Where it listens.
    pub(crate) fn address(&self, id: &str) -> SocketAddr {
        let unit = self.units.iter().find(|unit| *unit.id == *id).expect("it is there");
        SocketAddr::new(unit.ip.expect("an address"), unit.spec.ports[0].port)
    }

    /// Orders the weights of a route.
    pub(crate) fn split(&mut self, route: &str, weights: &[(&str, u64)]) {
        let weight = |(backend, weight): &(&str, u64)| {
            (backend.parse().expect("a backend"), Weight::new(*weight).expect("a weight"))
        };
        let record = SplitRecord {
            weights: weights.iter().map(weight).collect(),
            author: "tests".into(),
            at: Timestamp::now(),
            expires_at: None,
            reason: "".into(),
            then: None,
        };
        self.decisions.splits.insert(route.parse().expect("a route"), record);
    }

    /// Orders the state of a container's instances.
    pub(crate) fn state(&mut self, id: &str, state: State) {
        let port = self.address(id).port();
        self.order(StateSubject::Instance(InstanceId::of_container(id, port)), state);
    }

    /// Orders the state of a backend.
    pub(crate) fn backend_state(&mut self, backend: &str, state: State) {
        self.order(StateSubject::Backend(backend.parse().expect("a backend")), state);
    }

    fn order(&mut self, subject: StateSubject, state: State) {
        let record = StateRecord { state, author: "tests".into(), at: Timestamp::now(), reason: "".into() };
        self.decisions.states.insert(subject, record);
    }

    /// Its stop signal was seen.
    pub(crate) fn stop(&mut self, id: &str) {
        let stopping = Lifecycle::Stopping { since: Timestamp::now(), timeout: Duration::from_secs(600) };
        for unit in self.units.iter_mut().filter(|unit| *unit.id == *id) {
            unit.lifecycle = stopping;
        }
    }

    /// Nothing in it stops.
    pub(crate) fn goes_on(&mut self) {
        self.units.iter_mut().for_each(|unit| unit.lifecycle = Lifecycle::Running);
    }

    /// Something else about it is another.
    pub(crate) fn edit(&mut self, id: &str, change: impl Fn(&mut Unit)) {
        self.units.iter_mut().filter(|unit| *unit.id == *id).for_each(change);
    }

    /// It is gone.
    pub(crate) fn remove(&mut self, id: &str) {
        self.units.retain(|unit| *unit.id != *id);
    }

    /// Lets time pass for the catalog.
    pub(crate) fn later(&mut self, time: Duration) {
        self.later += time;
    }

    /// Copies this part of a route's requests to a version.
    pub(crate) fn mirror(&mut self, route: &str, to: &str, percent: f64) {
        let record = MirrorRecord {
            to: to.parse().expect("a backend"),
            percent: Percent::new(percent).expect("a percentage"),
            author: "tests".into(),
            at: Timestamp::UNIX_EPOCH,
            reason: "".into(),
        };
        self.decisions.mirrors.insert(route.parse().expect("a route"), Arc::new(record));
    }

    /// What a catalog of the present cluster is built from.
    pub(crate) fn inputs(&mut self) -> Inputs {
        let units = self.units.iter().map(|unit| (unit.id.clone(), Arc::new(unit.clone()))).collect();
        let facts = SourceFacts { listed: true, units, ..SourceFacts::default() };
        let mut inputs = Inputs::default();
        self.serial += 1;
        inputs.serial = self.serial;
        inputs.decisions = Arc::new(self.decisions.clone());
        // There may be a TLS listener; what it has certificates for is its own affair here.
        inputs.settings = Arc::new(Settings { tls: Some([].into()), ..Settings::default() });
        inputs.sources.insert(SourceId::File, Arc::new(facts));
        inputs
    }

    /// Makes the present cluster the one that requests see.
    pub(crate) fn apply(&mut self, handle: &TableHandle) {
        let inputs = self.inputs();
        let before = self.before.take().unwrap_or_else(|| Catalog::empty(0));
        let catalog = Catalog::build(&inputs, &before, Timestamp::now() + self.later);
        handle.apply(&catalog);
        self.before = Some(catalog);
    }
}

/// What a plane is started with beside its cluster.
pub(crate) struct Options {
    pub trusted: Vec<&'static str>,
    pub upgrades: Vec<Arc<str>>,
    pub access_log: Option<AccessLogConfig>,
    pub threads: usize,
    pub proxy_protocol: bool,
    pub fronts_proxy_protocol: bool,
    pub redirect_to_https: bool,
    /// A second listener, for TLS.
    pub https: Option<Https>,
    /// Whom TLS towards instances believes; nobody if `None`.
    pub trust: Option<Arc<Trust>>,
    pub limits: Limits,
    pub adopted: Adopted,
}

/// How a plane speaks TLS.
#[derive(Default)]
pub(crate) struct Https {
    pub listener: ListenerTls,
    pub limits: Tls,
    pub certificates: Arc<Certificates>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            upgrades: vec!["websocket".into()],
            access_log: None,
            threads: 1,
            proxy_protocol: false,
            fronts_proxy_protocol: false,
            redirect_to_https: false,
            https: None,
            trust: None,
            limits: Limits::default(),
            adopted: Adopted::default(),
        }
    }
}

impl Plane {
    /// One host, `shop.test`, served by these origins.
    pub(crate) fn shop(origins: &[&Origin]) -> Self {
        Self::with(Options::default(), |cluster| {
            for origin in origins {
                cluster.add(origin.address, "shop.test", &[]);
            }
        })
    }

    /// A cluster of any shape.
    pub(crate) fn with(options: Options, fill: impl FnOnce(&mut Cluster)) -> Self {
        let handle = TableHandle::new(Metrics::new(options.threads));
        let mut cluster = Cluster::default();
        fill(&mut cluster);
        cluster.apply(&handle);
        let listener = HttpListener {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            proxy_protocol: options.proxy_protocol,
            upgrades: options.upgrades,
            redirect_to_https: options.redirect_to_https,
            tls: None,
            limits: options.limits,
        };
        let secure = options.https.is_some();
        let https = options.https.unwrap_or_default();
        let secure = secure.then(|| HttpListener { tls: Some(https.listener), ..listener.clone() });
        let config = ProxyConfig {
            listeners: std::iter::once(listener).chain(secure).collect(),
            tls: https.limits,
            certificates: https.certificates,
            trust: options.trust.unwrap_or_else(|| Trust::new(Vec::new(), None, true).expect("TLS")),
            threads: options.threads,
            trusted_proxies: options.trusted.iter().map(|net| net.parse().expect("a net")).collect(),
            node: "edge".into(),
            access_log: options.access_log,
            limits: options.limits,
            fronts_proxy_protocol: options.fronts_proxy_protocol,
            adopted: options.adopted,
        };
        let running = start(config, handle.clone()).expect("the data plane starts");
        let (address, https) = (running.addresses[0], running.addresses.get(1).copied());
        Self { address, https, handle, running, cluster }
    }

    /// Changes the cluster under the running data plane.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.cluster);
        self.cluster.apply(&self.handle);
    }

    /// Why a GET of `/` at this host goes where it goes.
    pub(crate) fn explain(&self, host: &str) -> String {
        let fields = FieldList::default();
        let request = RequestView {
            host,
            path: "/",
            query: None,
            method: "GET",
            client: IpAddr::from([127, 0, 0, 1]),
            internal: true,
            secure: false,
            fields: &fields,
        };
        explain_text(&explain(&self.handle.load(), &request))
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.expect("the data plane accepts"))
    }

    /// Sends `request` on a connection of its own and gives everything that comes back until the connection ends.
    pub(crate) async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut wire = self.connect().await;
        wire.send(request).await;
        wire.read_to_end().await
    }

    pub(crate) async fn drain(self, grace: Duration) -> Drained {
        within("the drain", self.running.drain(grace)).await
    }
}

/// An origin: a test accepts its connections and answers by hand.
pub(crate) struct Origin {
    pub address: SocketAddr,
    listener: TcpListener,
}

impl Origin {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        Self { address: listener.local_addr().expect("an address"), listener }
    }

    /// At an address that was free a moment ago.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("it is still free");
        Self { address, listener }
    }

    pub(crate) async fn accept(&self) -> Wire {
        let (stream, _) =
            within("a connection from the proxy", self.listener.accept()).await.expect("it is accepted");
        Wire::new(stream)
    }

    /// The next connection, however long it takes: for an origin that runs beside the test.
    pub(crate) async fn accept_when_there_is_one(&self) -> Wire {
        let (stream, _) = self.listener.accept().await.expect("it is accepted");
        Wire::new(stream)
    }

    /// Answers every request on every connection with its own name until the test ends.
    pub(crate) fn serve(self, name: &'static str) -> SocketAddr {
        self.answer(Arc::new(Mutex::new(ok(name))))
    }

    /// Answers every request on every connection with what this says at that moment, until the test ends.
    pub(crate) fn answer(self, answer: Arc<Mutex<String>>) -> SocketAddr {
        let address = self.address;
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = self.listener.accept().await else { return };
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut wire = Wire::new(stream);
                    while wire.try_read_until("\r\n\r\n").await.is_some() {
                        let text = answer.lock().expect("nobody panicked").clone();
                        wire.send(text).await;
                    }
                });
            }
        });
        address
    }
}

/// An address that refuses connections.
pub(crate) async fn refusing() -> SocketAddr {
    Origin::new().await.address
}

/// One end of a connection, for any octets.
#[derive(Debug)]
pub(crate) struct Wire<S = TcpStream> {
    pub stream: S,
    unread: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a connected socket");
        Self::over(stream)
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Over a connection of any kind.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, octets: impl AsRef<[u8]>) {
        // The other side may have refused already: what it said is what a test looks at.
        let _ = self.stream.write_all(octets.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// Reads up to and with `mark`; the rest stays.
    pub(crate) async fn read_until(&mut self, mark: &str) -> String {
        match self.try_read_until(mark).await {
            Some(text) => text,
            None => panic!("the end came before {mark:?}, after {:?}", String::from_utf8_lossy(&self.unread)),
        }
    }

    /// The same; `None` when the connection ends before.
    pub(crate) async fn try_read_until(&mut self, mark: &str) -> Option<String> {
        loop {
            let found = self.unread.windows(mark.len()).position(|window| window == mark.as_bytes());
            if let Some(at) = found {
                let read: Vec<u8> = self.unread.drain(..at + mark.len()).collect();
                return Some(String::from_utf8_lossy(&read).into_owned());
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    pub(crate) async fn head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    pub(crate) async fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(
                self.read_more().await,
                "the end came before {count} octets, after {}",
                self.unread.len()
            );
        }
        self.unread.drain(..count).collect()
    }

    /// The same; `None` when the connection ends before.
    pub(crate) async fn try_read_exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            if !self.read_more().await {
                return None;
            }
        }
        Some(self.unread.drain(..count).collect())
    }

    pub(crate) async fn read_to_end(&mut self) -> String {
        while self.read_more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// Whether the connection ends without a further octet.
    pub(crate) async fn ends(&mut self) -> bool {
        self.unread.is_empty() && !self.read_more().await
    }

    /// False at the end, whichever way it came.
    pub(crate) async fn read_more(&mut self) -> bool {
        // The end of it alone: all of a large body, for each piece that comes, takes longer than the body.
        let end = &self.unread[self.unread.len().saturating_sub(200)..];
        let what = format!("more after {:?}", String::from_utf8_lossy(end));
        !matches!(within(&what, self.stream.read_buf(&mut self.unread)).await, Ok(0) | Err(_))
    }

    /// What was read and not taken.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    pub(crate) async fn finish(&mut self) {
        // Already gone is finished as well.
        let _ = self.stream.shutdown().await;
    }
}

/// A GET of `path` at `shop.test`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n")
}

/// An answer of status 200 with this body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The value of a field in a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A port that nobody has, below those that the system hands out by itself: no connection and no other listener takes it
/// meanwhile.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests run side by side, each in its own process: far apart for neighbouring process numbers.
    let own = std::process::id().wrapping_mul(10_299);
    loop {
        let tried = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + u16::try_from(tried % 20_000).expect("it is below 20,000");
        let address = ("127.0.0.1", port);
        if std::net::TcpListener::bind(address).is_ok() && std::net::UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}
