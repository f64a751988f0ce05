//! Starts the workers and stops them.
//!
//! Not here: signals and readiness (the program's business), which sockets come from another process.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use fairway_config::file::{HttpListener, Limits, Tls};
use ipnet::IpNet;
use socket2::SockRef;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::access_log::{self, AccessLogConfig, AccessLogSender};
use crate::adopt::Adopted;
use crate::h1::syntax::is_token_octet;
use crate::l4::{FrontSocket, FrontTrouble, Fronts};
use crate::listener::{BindError, bind, cannot_adopt};
use crate::opening::{Checked, Opening, Terms};
use crate::spread::{Handed, Spread};
use crate::table::TableHandle;
use crate::tls::{Certificates, TlsError, Trust};
use crate::worker::Worker;

/// What the data plane is started with.
#[derive(Debug)]
pub struct ProxyConfig {
    /// Where connections are accepted, plain ones and TLS.
    pub listeners: Vec<HttpListener>,
    /// What all TLS listeners share.
    pub tls: Tls,
    /// What TLS listeners show; may be replaced at any time.
    pub certificates: Arc<Certificates>,
    /// Whom TLS towards instances believes.
    pub trust: Arc<Trust>,
    /// Worker threads, as [`worker_count`] says; the metrics are made for as many.
    pub threads: usize,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// This node's name, for `Via`.
    pub node: Arc<str>,
    /// `None`: no access log.
    pub access_log: Option<AccessLogConfig>,
    /// What holds for all listeners together: `connections_total`, `requests_per_instance`.
    pub limits: Limits,
    /// Connections to front ports start with a PROXY header; may be changed at any time.
    pub fronts_proxy_protocol: bool,
    /// Sockets of a process that is taken over from.
    pub adopted: Adopted,
}

/// How many workers `[proxy] threads` means: 0 is one per core.
pub fn worker_count(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    }
}

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// TLS cannot be spoken as a listener asks.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A thread or a runtime cannot be made.
    #[error("a worker thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// What all workers read and a reload may change.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) trusted: ArcSwap<Vec<IpNet>>,
    /// A token.
    pub(crate) node: String,
    /// For redirects to `https`; 0: the usual one.
    https_port: AtomicU16,
    pub(crate) spread: Arc<Spread>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) trust: ArcSwap<Trust>,
    pub(crate) fronts: Fronts,
    /// Most connections of all listeners.
    connections_max: AtomicUsize,
    /// How often the process has run out of descriptors: each time idle connections to instances are closed.
    pub(crate) shortages: AtomicU64,
}

#[cfg(test)]
impl Shared {
    /// Of one worker without listeners.
    pub(crate) fn for_tests() -> Self {
        Self {
            trusted: ArcSwap::default(),
            node: "node".to_owned(),
            https_port: AtomicU16::new(0),
            spread: Spread::new(1).0,
            certificates: Arc::default(),
            trust: ArcSwap::new(Trust::new(Vec::new(), None, true).expect("TLS can be spoken")),
            fronts: Fronts::new(std::iter::empty(), 1, Limits::default(), Vec::new()),
            connections_max: AtomicUsize::new(usize::MAX),
            shortages: AtomicU64::new(0),
        }
    }
}

impl Shared {
    /// The port of redirects to `https`; `None`: the usual one.
    pub(crate) fn https_port(&self) -> Option<u16> {
        Some(self.https_port.load(Relaxed)).filter(|port| *port != 0)
    }

    /// Whether there are as many connections as there may be.
    pub(crate) fn is_full(&self) -> bool {
        self.spread.total() >= self.connections_max.load(Relaxed)
    }

    /// Whether this peer's word on clients is believed.
    pub(crate) fn trusts(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        self.trusted.load().iter().any(|net| net.contains(&peer))
    }
}

/// What the workers are to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    /// Nothing is accepted yet.
    Waiting,
    Running,
    /// `leaves`: what waits to be accepted is left to another process.
    Draining {
        until: Instant,
        leaves: bool,
    },
}

/// The running data plane. Dropping it stops it without waiting for anybody.
#[derive(Debug)]
pub struct Running {
    /// The addresses listened on, in the order of the listeners; port 0 replaced by the port that was given.
    pub addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    terms: watch::Sender<Arc<Terms>>,
    table: Arc<TableHandle>,
    /// Each socket once more with its listener's address as configured, for a process that takes over.
    sockets: Vec<(SocketAddr, TcpListener)>,
    phase: watch::Sender<Phase>,
    workers: Vec<WorkerThread>,
}

#[derive(Debug)]
struct WorkerThread {
    thread: JoinHandle<()>,
    /// Connections that were cut when the worker ended.
    ended: oneshot::Receiver<usize>,
}

/// Binds all listeners, then starts the workers. Nothing is left behind when it fails.
pub fn start(config: ProxyConfig, table: Arc<TableHandle>) -> Result<Running, StartError> {
    let ProxyConfig {
        listeners,
        tls,
        certificates,
        trust,
        threads,
        trusted_proxies,
        node,
        access_log,
        limits,
        fronts_proxy_protocol,
        mut adopted,
    } = config;
    let count = worker_count(threads);
    let mut addresses = Vec::with_capacity(listeners.len());
    let mut sockets: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    let mut duplicates = Vec::new();
    let mut openings = Vec::with_capacity(listeners.len());
    for (number, listener) in listeners.iter().enumerate() {
        let failed = |error| cannot_adopt(listener.addr, error);
        let (address, bound) = match adopted.take(listener.addr).map_err(failed)? {
            Some(taken) => taken,
            None => bind(listener.addr, count)?,
        };
        addresses.push(address);
        openings.push(Opening::new(listener, address, &certificates)?);
        for (i, socket) in bound.into_iter().enumerate() {
            // Passed on to each connection: without it small writes wait for acknowledgements.
            SockRef::from(&socket).set_tcp_nodelay(true).map_err(failed)?;
            duplicates.push((listener.addr, socket.try_clone().map_err(failed)?));
            sockets[i % count].push((number, socket));
        }
    }
    let (spread, handed) = Spread::new(count);
    let terms = Terms { tls, openings };
    let shared = Arc::new(Shared {
        trusted: ArcSwap::from_pointee(canonical(trusted_proxies)),
        node: token(&node),
        https_port: AtomicU16::new(https_port(&terms)),
        spread,
        certificates,
        trust: ArcSwap::new(trust),
        fronts: Fronts::new(
            listeners.iter().map(|listener| listener.addr.ip()),
            count,
            limits,
            std::mem::take(&mut adopted.fronts),
        ),
        connections_max: AtomicUsize::new(limits.connections_total.unwrap_or(usize::MAX)),
        shortages: AtomicU64::new(0),
    });
    shared.fronts.proxy_protocol.store(fronts_proxy_protocol, Relaxed);
    table.states().set_in_flight_max(limits.requests_per_instance);
    table.queue_limits.set(&limits);
    let terms = watch::Sender::new(Arc::new(terms));
    let access = access_log.map(access_log::start).transpose().map_err(StartError::Thread)?;
    let phase = watch::Sender::new(if adopted.waits { Phase::Waiting } else { Phase::Running });
    let mut workers = Vec::with_capacity(count);
    for (number, (sockets, handed)) in sockets.into_iter().zip(handed).enumerate() {
        let seed = Seed {
            number,
            sockets,
            handed,
            shared: shared.clone(),
            table: table.clone(),
            access: access.clone(),
            terms: terms.subscribe(),
            phase: phase.subscribe(),
        };
        workers.push(seed.spawn().map_err(StartError::Thread)?);
    }
    Ok(Running { addresses, shared, terms, table, sockets: duplicates, phase, workers })
}

/// For redirects to `https`: the port at which clients reach the first listener with TLS; 0 for the usual one.
fn https_port(terms: &Terms) -> u16 {
    let first = terms.openings.iter().find(|opening| opening.listener.tls.is_some());
    let port = terms.tls.public_port.or_else(|| first.map(|first| first.bound.port()));
    port.filter(|port| *port != 443).unwrap_or(0)
}

/// What one worker is started with, still on another thread.
struct Seed {
    number: usize,
    handed: UnboundedReceiver<Handed>,
    /// Each with the number of its listener.
    sockets: Vec<(usize, TcpListener)>,
    shared: Arc<Shared>,
    table: Arc<TableHandle>,
    access: Option<AccessLogSender>,
    terms: watch::Receiver<Arc<Terms>>,
    phase: watch::Receiver<Phase>,
}

impl Seed {
    fn spawn(self) -> std::io::Result<WorkerThread> {
        let number = self.number;
        let (started, starts) = std::sync::mpsc::channel();
        let (sender, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // A local runtime cannot change its thread, so it is made here.
            let built = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            let runtime = match built {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            // Whoever starts us waits for this.
            drop(started.send(Ok(())));
            let left = runtime.block_on(self.run());
            // Dropped before the end is told: by then every connection is closed.
            drop(runtime);
            // Nobody may be waiting.
            let _ = sender.send(left);
        })?;
        starts.recv().map_err(std::io::Error::other)??;
        Ok(WorkerThread { thread, ended })
    }

    async fn run(self) -> usize {
        let Self { number, sockets, handed, shared, table, access, terms, phase } = self;
        let access = access.map(|access| access.for_worker());
        let worker = Worker::new(number, shared, table, access, &terms.borrow());
        worker.run(sockets, handed, terms, phase).await
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had not ended in time and were cut.
    pub cut: usize,
}

impl Running {
    /// Replaces the peers whose forwarding headers are believed; requests that are read from now on see it.
    pub fn set_trusted_proxies(&self, trusted: Vec<IpNet>) {
        self.shared.trusted.store(Arc::new(canonical(trusted)));
    }

    /// Replaces whom TLS towards instances believes; connections that are opened from now on see it.
    pub fn set_trust(&self, trust: Arc<Trust>) {
        self.shared.trust.store(trust);
    }

    /// Whether the listeners can be served as these have them, each found by its address as configured and by whether it
    /// speaks TLS. Reads the files of clients' authorities; changes nothing.
    pub fn check(&self, listeners: &[HttpListener], tls: &Tls) -> Result<Checked, TlsError> {
        let present = self.terms.borrow().clone();
        let renewed = |opening: &Opening| opening.renewed(listeners, &self.shared.certificates);
        let openings = present.openings.iter().map(renewed).collect::<Result<_, _>>()?;
        Ok(Checked(Arc::new(Terms { tls: tls.clone(), openings })))
    }

    /// Serves connections that are accepted from now on as `checked` has their listener, and replaces the limits: those of
    /// each listener, and those that hold for all together. Connections that are open stay as they are, but for the limits:
    /// what is read from now on is held to the new ones.
    pub fn set_listeners(&self, limits: &Limits, checked: Checked) {
        let most = limits.connections_total.unwrap_or(usize::MAX);
        self.shared.connections_max.store(most, Relaxed);
        self.shared.fronts.limits.store(Arc::new(*limits));
        self.table.states().set_in_flight_max(limits.requests_per_instance);
        self.table.queue_limits.set(limits);
        self.shared.https_port.store(https_port(&checked.0), Relaxed);
        self.terms.send_replace(checked.0);
    }

    /// Whether connections to front ports start with a PROXY header, from now on.
    pub fn set_fronts_proxy_protocol(&self, wanted: bool) {
        self.shared.fronts.proxy_protocol.store(wanted, Relaxed);
    }

    /// What is wrong with front ports; read again as it changes.
    pub fn front_troubles(&self) -> watch::Receiver<Arc<[FrontTrouble]>> {
        self.shared.fronts.troubles()
    }

    /// Begins to accept, where sockets of another process were adopted that had to wait.
    pub fn open(&self) {
        self.phase.send_if_modified(|phase| {
            let waits = matches!(phase, Phase::Waiting);
            if waits {
                *phase = Phase::Running;
            }
            waits
        });
    }

    /// Every listening socket once more, with its listener's address as configured: what another process adopts.
    pub fn listening_sockets(&self) -> std::io::Result<Vec<(SocketAddr, TcpListener)>> {
        self.sockets.iter().map(|(configured, socket)| Ok((*configured, socket.try_clone()?))).collect()
    }

    /// The same of every front port.
    pub fn front_sockets(&self) -> std::io::Result<Vec<FrontSocket>> {
        self.shared.fronts.give()
    }

    /// Open connections of each worker.
    pub fn open_connections(&self) -> Vec<usize> {
        self.shared.spread.open()
    }

    /// Stops: connections that wait to be accepted are served, then the listeners close; idle connections end, answers say
    /// `Connection: close`; what is in flight ends by itself, for `grace` at most.
    pub async fn drain(self, grace: Duration) -> Drained {
        self.end(grace, false).await
    }

    /// Stops in the same way, but for the connections that wait to be accepted: they are left to the process that has
    /// adopted the sockets.
    pub async fn hand_over(self, grace: Duration) -> Drained {
        self.end(grace, true).await
    }

    async fn end(self, grace: Duration, leaves: bool) -> Drained {
        // Or the port would still be taken when every worker has closed its own.
        drop(self.sockets);
        self.shared.fronts.close();
        // Nobody listens when every worker has ended already.
        let _ = self.phase.send(Phase::Draining { until: Instant::now() + grace, leaves });
        let mut cut = 0;
        for worker in self.workers {
            // A worker that panicked has cut its connections, nobody knows how many.
            cut += worker.ended.await.unwrap_or(0);
            // It has told its end as its last act.
            let _ = worker.thread.join();
        }
        Drained { cut }
    }
}

/// IPv4 peers of a listener for both families are looked up as IPv4 addresses.
fn canonical(nets: Vec<IpNet>) -> Vec<IpNet> {
    let plain = |net: IpNet| match (net.addr().to_canonical(), net.addr()) {
        (IpAddr::V4(v4), IpAddr::V6(_)) if net.prefix_len() >= 96 => {
            IpNet::new(IpAddr::V4(v4), net.prefix_len() - 96).unwrap_or(net)
        }
        _ => net,
    };
    nets.into_iter().map(plain).collect()
}

/// The node's name as `Via` can carry it.
fn token(name: &str) -> String {
    let token: String = name.bytes().map(|b| if is_token_octet(b) { char::from(b) } else { '-' }).collect();
    if token.is_empty() { "fairway".to_owned() } else { token }
}
