//! A server that tells who it is, for the far side of a proxy under test: in a container as the program `origin`, or
//! inside a test as an [`Origin`].
//!
//! Every path answers with JSON about the request unless it is one of these:
//!
//! | path | answer |
//! |---|---|
//! | `/health` | 200, or 503 after `POST /_health/fail` until `POST /_health/ok` |
//! | `/slow?ms=` | the JSON, after that time |
//! | `/bytes?n=` | that many octets with a Content-Length |
//! | `/chunked?n=&ms=` | that many chunks, that time apart |
//! | `/sse?n=&ms=` | that many server-sent events, then one called `end`; `n` absent: until the program ends |
//! | `/echo` | the request's body, as it arrives |
//! | `/early` | 413 at once, the body unread |
//! | `/status/CODE` | that status with the JSON |
//! | `/fields?name=value&...` | the JSON with these response fields, repeated ones too |
//! | `/ws` | a WebSocket that sends back every message, and says when the program ends |
//! | `/trailers` | a chunked body with the trailer `x-octets`, if the request has `TE: trailers` |
//! | `/close` | the JSON with `Connection: close` |
//! | `/reset?after=` | a reset connection: after that many octets of a longer body, or in place of an answer |
//! | `/cut?after=` | a closed connection, likewise |
//! | `/count` | `{"requests": n}`, those up to now and this one |
//! | `/call?url=http://name/path` | the answer of that URL, `name` resolved as the system does, as `{"status", "body"}` |
//!
//! At a port of [`Mode::H2c`] every path answers with a shorter JSON, but for these calls of gRPC:
//!
//! | path | answer |
//! |---|---|
//! | `/kit.Calls/Unary` | the first message |
//! | `/kit.Calls/Down` | as many messages as `x-n` says, `x-ms` milliseconds apart |
//! | `/kit.Calls/Both` | every message, as it arrives |
//! | `/grpc.health.v1.Health/Check` | `SERVING`, or `NOT_SERVING` as `/health` does |

mod answers;
mod body;
mod call;
mod connection;
mod http2;
mod program;
mod query;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use hyper::header::{HeaderName, HeaderValue};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::program::main;

/// What an origin says of itself.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// The host name in a container, which is the start of the container's id.
    pub instance: String,
    /// Told as `version`, and in the field `x-version`.
    pub version: String,
    /// Told as `service`, and in the field `x-service` unless it is empty.
    pub service: String,
}

impl Identity {
    /// An instance of this version.
    pub fn new(instance: &str, version: &str) -> Self {
        Self { instance: instance.to_owned(), version: version.to_owned(), ..Self::default() }
    }

    /// The fields of each answer that tell it.
    fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let told =
            [("x-instance", &self.instance), ("x-version", &self.version), ("x-service", &self.service)];
        told.into_iter().filter(|(name, text)| *name != "x-service" || !text.is_empty()).map(
            |(name, text)| {
                // A host name and a version that a container was given need not be field values.
                let value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("?"));
                (HeaderName::from_static(name), value)
            },
        )
    }
}

/// What is served at a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The paths of the first table, over HTTP/1.1.
    #[default]
    Http,
    /// Those of the second, over HTTP/2 without TLS.
    H2c,
    /// Every octet comes back.
    TcpEcho,
}

/// What SIGTERM does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnTerm {
    /// What has been accepted is answered, idle connections and the listener are closed, WebSockets and server-sent
    /// events are told the end, then the program ends: as a well-made server does. An idle connection is closed without
    /// a look at what may just have arrived on it, which is what nginx, node and Go's `Shutdown` do.
    #[default]
    Finish,
    /// It ends at once, requests in flight cut.
    Exit,
    /// Nothing at all.
    Ignore,
    /// New connections are refused, open ones served on, and it does not end.
    CloseListener,
    /// New connections are refused, and it ends when clients have closed the open ones, as node's `server.close` did for long and
    /// many servers of Java do.
    AwaitClients,
}

/// How far the end has come; later ones follow earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// No new connections.
    Deaf,
    /// No new connections, and open ones end after the request in flight.
    Finishing,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    identity: Identity,
    healthy: AtomicBool,
    requests: AtomicU64,
    connections: AtomicU64,
    /// WebSockets that are open.
    sockets: watch::Sender<u64>,
    phase: watch::Receiver<Phase>,
    /// Where the ids of POSTs are noted that were taken.
    notes: Option<Mutex<File>>,
}

impl Shared {
    /// Notes that a POST was taken, under the id by which a proxy knows a request however often it sends it.
    fn note(&self, id: Option<&HeaderValue>) {
        if let (Some(notes), Some(id)) = (&self.notes, id) {
            let line = [id.as_bytes(), b"\n"].concat();
            // One write, so that a kill leaves whole lines; a test that wants the notes misses those that failed.
            let _ = notes.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        }
    }
}

/// A running origin. Dropped: its listeners and connections are gone.
#[derive(Debug)]
pub struct Origin {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    listeners: JoinSet<()>,
}

impl Origin {
    /// Serves HTTP as `identity` on a port of 127.0.0.1 that the system chooses.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start(identity: Identity) -> Self {
        let started = Self::bind(identity, Mode::Http, &[SocketAddr::from(([127, 0, 0, 1], 0))]).await;
        started.expect("127.0.0.1 has a free port")
    }

    /// Serves on these addresses; fails when one cannot be bound.
    pub async fn bind(identity: Identity, mode: Mode, addresses: &[SocketAddr]) -> std::io::Result<Self> {
        Self::bind_noting(identity, mode, addresses, None).await
    }

    /// The same; each POST that is taken leaves its `X-Request-Id` as a line in `notes`.
    async fn bind_noting(
        identity: Identity,
        mode: Mode,
        addresses: &[SocketAddr],
        notes: Option<File>,
    ) -> std::io::Result<Self> {
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let shared = Arc::new(Shared {
            identity,
            healthy: AtomicBool::new(true),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            sockets: watch::Sender::new(0),
            phase: phase_seen,
            notes: notes.map(Mutex::new),
        });
        let mut origin = Self { addresses: Vec::new(), shared, phase, listeners: JoinSet::new() };
        for address in addresses {
            let listener = TcpListener::bind(address).await?;
            origin.addresses.push(listener.local_addr()?);
            origin.listeners.spawn(listen(listener, mode, Arc::clone(&origin.shared)));
        }
        Ok(origin)
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens first.
    ///
    /// # Panics
    /// When it was bound to nothing.
    pub fn address(&self) -> SocketAddr {
        *self.addresses.first().expect("an origin is bound to an address")
    }

    /// How many requests came up to now, those to `/health` too.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many connections were accepted up to now.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Whether `/health` answers 200.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Refuses new connections from now on, and serves open ones.
    pub fn close_listeners(&self) {
        self.phase.send_replace(Phase::Deaf);
    }

    /// Ends as [`OnTerm::AwaitClients`]; returns when the last connection has been closed.
    async fn await_clients(mut self) {
        self.close_listeners();
        while self.listeners.join_next().await.is_some() {}
        let mut sockets = self.shared.sockets.subscribe();
        // The sender is in `self`.
        let _ = sockets.wait_for(|open| *open == 0).await;
    }

    /// Ends as [`OnTerm::Finish`]; returns when the last request has been answered.
    pub async fn finish(mut self) {
        self.phase.send_replace(Phase::Finishing);
        while self.listeners.join_next().await.is_some() {}
        let mut sockets = self.shared.sockets.subscribe();
        // The sender is in `self`.
        let _ = sockets.wait_for(|open| *open == 0).await;
    }
}

/// Accepts until the phase says otherwise, then waits for the connections.
async fn listen(listener: TcpListener, mode: Mode, shared: Arc<Shared>) {
    let mut phase = shared.phase.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => take(accepted, mode, &shared, &mut connections),
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => break,
            Some(_) = connections.join_next() => {}
        }
    }
    // Whoever was told by the kernel that it is connected gets an answer.
    while let Some(accepted) = listener.accept().now_or_never() {
        take(accepted, mode, &shared, &mut connections);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn take(
    accepted: std::io::Result<(tokio::net::TcpStream, SocketAddr)>,
    mode: Mode,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    // A connection that was reset while it waited is nobody's loss.
    let Ok((stream, peer)) = accepted else { return };
    let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    match mode {
        Mode::Http => connections.spawn(connection::serve(stream, peer, number, Arc::clone(shared))),
        Mode::H2c => connections.spawn(http2::serve(stream, Arc::clone(shared))),
        Mode::TcpEcho => connections.spawn(connection::echo(stream, shared.phase.clone())),
    };
}

/// Resolves once the phase is [`Phase::Finishing`].
async fn finishing(mut phase: watch::Receiver<Phase>) {
    if phase.wait_for(|phase| *phase == Phase::Finishing).await.is_err() {
        // The origin was dropped, and with it this task in a moment.
        std::future::pending::<()>().await;
    }
}

/// How long a connection that has not carried a request may still bring one when the end has begun.
const LAST_CHANCE: Duration = Duration::from_millis(500);
