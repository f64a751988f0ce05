//! One connection that is passed on as it is, at a front port or over TLS: the instance it goes to, and the octets both ways.
//!
//! In log and metrics it counts as one request of its route once it has ended: status 200 if an instance took it, however it
//! ended; else the status that a request would have been refused with, as its reason says. Not here: which instance (see
//! `pick`), moving octets (see `upgrade`).

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use fairway_config::labels::BalancerProtocol;
use fairway_config::names::RouteId;
use rustls::AlertDescription;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::Front;
use crate::accept::refuse;
use crate::access_log::Line;
use crate::h1::chunked::Extensions;
use crate::h1::{BodyLength, BodyReader};
use crate::hold::{HOLD, NotHeld, hold, hold_for_another, until_listening};
use crate::outlier::{Knocking, Next};
use crate::pick::{NoInstance, Pick, Tried};
use crate::proxy_header::write::{self, Client};
use crate::proxy_header::{self, Said};
use crate::reason::Reason;
use crate::request::{FieldList, RequestView};
use crate::sides::http1::Body;
use crate::spread::Place;
use crate::stream::{Duplex, Ends};
use crate::table::RouteEntry;
use crate::tls::hello::Hello;
use crate::turn;
use crate::upgrade::{QUIET, TunnelEnd, tunnel};
use crate::upstream::open_tcp;
use crate::worker::Worker;

/// Most instances tried, whatever the labels say.
const ATTEMPTS_MAX: u32 = 12;

/// How long a client is waited for that was told why its connection ends, and how much of it is read.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 * 1024;

/// Serves a connection at a front port to its end.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, front: Arc<Front>, worker: Rc<Worker>) {
    // Gone already: there is nobody to tell.
    let Ok(local) = stream.local_addr() else { return };
    serve_between(stream, Ends { peer, local }, &front, &worker).await;
}

/// Serves one that starts with a PROXY header to its end; without the header it is closed.
pub(super) async fn serve_behind_balancer(
    mut stream: TcpStream,
    peer: SocketAddr,
    front: Arc<Front>,
    worker: Rc<Worker>,
    mut place: Place,
) {
    let Ok(local) = stream.local_addr() else { return };
    let limits = **worker.shared.fronts.limits.load();
    let ends = match timeout(limits.header_time, proxy_header::read(&mut stream)).await {
        Ok(Ok(Said::Own)) => Ends { peer, local },
        Ok(Ok(Said::Client { ends, tls: _ })) => ends,
        Ok(Err(_)) | Err(_) => return,
    };
    if !worker.shared.trusts(ends.peer)
        && let Err(full) = place.pass.of_client(ends.peer.ip(), &limits)
    {
        return refuse(&worker, &front.name, &front.gate, full, ends.peer);
    }
    serve_between(stream, ends, &front, &worker).await;
}

async fn serve_between(stream: TcpStream, ends: Ends, front: &Front, worker: &Rc<Worker>) {
    let _entered = worker.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    let _counted = worker.metrics.connection(&front.name, front.port.protocol.as_str());
    pass(Passed { stream, ends, route: &front.route, name: &front.name, hello: None }, worker).await;
}

/// A connection that is to be passed on.
pub(crate) struct Passed<'a> {
    pub(crate) stream: TcpStream,
    pub(crate) ends: Ends,
    pub(crate) route: &'a RouteId,
    /// The route as printed.
    pub(crate) name: &'a Arc<str>,
    /// What the client has said, if it speaks TLS.
    pub(crate) hello: Option<Hello>,
}

/// Passes a connection on to its end.
pub(crate) async fn pass(passed: Passed<'_>, worker: &Rc<Worker>) {
    let Passed { stream, ends, route, name, hello } = passed;
    // Without it small writes wait for acknowledgements; if it cannot be set the connection is merely slower.
    let _ = stream.set_nodelay(true);
    let (host, early) = match hello {
        Some(hello) => (Some(hello.host), BytesMut::from(&hello.octets[..])),
        None => (None, BytesMut::new()),
    };
    let mut relay = Relay {
        worker,
        route,
        name,
        host: host.as_deref(),
        ends,
        down: Duplex::new(stream),
        began: turn::now(),
        entry: None,
        pick: None,
        attempts: 0,
        connect: None,
        down_bytes: Cell::new(0),
    };
    let (status, reason) = match relay.reach().await {
        Ok(up) => (200, relay.relay(up, early).await),
        Err(reason) => (reason.status().unwrap_or(0), relay.refuse(reason).await),
    };
    relay.tell(status, reason);
}

struct Relay<'a> {
    worker: &'a Rc<Worker>,
    route: &'a RouteId,
    name: &'a Arc<str>,
    /// The host that the client asked for, if it speaks TLS.
    host: Option<&'a str>,
    ends: Ends,
    down: Duplex<TcpStream>,
    began: Instant,
    entry: Option<Arc<RouteEntry>>,
    /// Counts the connection as in flight for as long as it is there.
    pick: Option<Pick>,
    attempts: u32,
    connect: Option<Duration>,
    down_bytes: Cell<u64>,
}

impl Relay<'_> {
    /// A connection to an instance. Nothing is sent before there is one, so that each failed attempt may be followed by
    /// another, as far as label and budget allow.
    async fn reach(&mut self) -> Result<TcpStream, Reason> {
        let mut tried = Tried::default();
        let mut retries = 0;
        let (mut last, mut news, mut knocking) = (None, false, Knocking::default());
        let mut entry = self.present().ok_or(Reason::NoRoute)?;
        loop {
            self.entry = Some(entry.clone());
            if entry.refuses(self.ends.peer.ip().to_canonical()) {
                return Err(Reason::ClientRefused);
            }
            let pick = match self.choose(&entry, &tried) {
                Ok(pick) => pick,
                Err(NoInstance::Full(_)) => return Err(Reason::InstancesFull),
                Err(NoInstance::NoneReady) => {
                    entry = self.wait_for_instance(&tried, last, news).await?;
                    continue;
                }
            };
            match knocking.next(&pick.endpoint.state, turn::now().into_std()) {
                Next::Ask => {}
                Next::Choose => continue,
                Next::Wait => {
                    self.until_it_listens(pick, &mut knocking, last).await?;
                    entry = self.present().unwrap_or(entry);
                    continue;
                }
            }
            self.attempts += 1;
            let reason = match self.open(&pick).await {
                Ok(up) => {
                    self.pick = Some(pick);
                    return Ok(up);
                }
                Err(reason) => reason,
            };
            let free = !self.present().is_some_and(|entry| entry.serves_new_at(&pick));
            if reason == Reason::ConnectFailed && !free && pick.endpoint.may_yet_listen() {
                // As if it had not been asked: it has just started.
                let state = &pick.endpoint.state;
                state.peers.does_not_listen(state, turn::now().into_std());
                self.attempts -= 1;
                (last, news) = (Some(reason), true);
                continue;
            }
            tried.add(&pick);
            news |= pick.endpoint.may_have_news(turn::now().into_std());
            // One that is known to stop, or gone, costs nobody a retry: that is what a deploy looks like.
            let newest = self.present();
            let free = !newest.as_ref().is_some_and(|entry| entry.serves_new_at(&pick));
            let now = turn::now().into_std();
            let settings = &pick.version.settings;
            let allowed = reason != Reason::ClientLeft
                && self.attempts < ATTEMPTS_MAX
                && (free || (retries < u32::from(settings.retries) && entry.may_retry(now)));
            if !allowed {
                self.pick = Some(pick);
                return Err(reason);
            }
            retries += u32::from(!free);
            self.worker.metrics.retried(&pick.version.upstream, reason);
            last = Some(reason);
            entry = newest.unwrap_or(entry);
        }
    }

    /// Waits until it is this connection's turn to find out whether an instance listens that has just started, or there is
    /// news; as long as a connection may be held.
    async fn until_it_listens(
        &self,
        at: Pick,
        knocking: &mut Knocking,
        last: Option<Reason>,
    ) -> Result<(), Reason> {
        let state = at.endpoint.state.clone();
        drop(at);
        let waiting = until_listening(&self.worker.handle, self.route, &state, self.began + HOLD);
        match self.unless_client_leaves(waiting).await? {
            Ok(()) => knocking.waited_for(&state),
            Err(NotHeld::Expired) => return Err(last.unwrap_or(Reason::NoReadyInstance)),
            Err(full) => return Err(full.reason()),
        }
        Ok(())
    }

    /// The route in the table of now.
    fn present(&self) -> Option<Arc<RouteEntry>> {
        self.worker.table.borrow_mut().table().by_id(self.route).cloned()
    }

    fn choose(&self, entry: &RouteEntry, tried: &Tried) -> Result<Pick, NoInstance> {
        let client = self.ends.peer.ip().to_canonical();
        // A trusted peer is never internal by its own address (design rule 11).
        let internal = !self.worker.shared.trusts(self.ends.peer)
            && self.worker.table.borrow_mut().table().internal.contains(client);
        let fields = FieldList::default();
        let (host, secure) = (self.host.unwrap_or_default(), self.host.is_some());
        let (path, query, method) = ("/", None, "");
        let view = RequestView { host, path, query, method, client, internal, secure, fields: &fields };
        entry.pick(&view, tried, &mut self.worker.rng.borrow_mut(), turn::now().into_std())
    }

    async fn open(&mut self, pick: &Pick) -> Result<TcpStream, Reason> {
        let start = turn::now();
        let (state, canonical) = (&pick.endpoint.state, |a: SocketAddr| (a.ip().to_canonical(), a.port()));
        let address = pick.endpoint.address;
        if self.worker.shared.fronts.is_ours(address, BalancerProtocol::Tcp)
            || canonical(address) == canonical(self.ends.local)
        {
            return Err(Reason::Loop);
        }
        let told = pick.version.settings.proxy_protocol;
        // It speaks TLS with the instance, not with us: that is for the instance to see.
        let client = Client { ends: self.ends, authority: self.host, tls: None };
        let header = told.map(|version| write::header(version, &client)).unwrap_or_default();
        let opening = open_tcp(&pick.endpoint, self.worker, &header);
        let connected = self.unless_client_leaves(opening).await?;
        let took = turn::now().duration_since(start);
        match connected {
            Ok(up) => {
                self.connect = Some(took);
                state.observe(took, turn::now().into_std());
                self.worker.metrics.connected(&pick.version.upstream, took);
                Ok(up)
            }
            Err(error) => {
                let reason = error.reason();
                if reason != Reason::OutOfFiles && !pick.endpoint.may_yet_listen() {
                    state.observe_failure(took, turn::now().into_std(), reason.as_str());
                }
                Err(reason)
            }
        }
    }

    /// Holds the connection until the route has an instance that it has not been at (design rule 6).
    async fn wait_for_instance(
        &self,
        tried: &Tried,
        last: Option<Reason>,
        news: bool,
    ) -> Result<Arc<RouteEntry>, Reason> {
        let (handle, route, deadline) = (&self.worker.handle, self.route, self.began + HOLD);
        let Some(last) = last else {
            let held = self.unless_client_leaves(hold(handle, route, tried, deadline)).await?;
            return held.map_err(|error| error.reason());
        };
        let held = self.unless_client_leaves(hold_for_another(handle, route, tried, news, deadline)).await?;
        held.map_err(|error| error.reason())?.ok_or(last)
    }

    async fn unless_client_leaves<T>(&self, work: impl Future<Output = T>) -> Result<T, Reason> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.down.poll_reset(cx).map(|()| Err(Reason::ClientLeft)),
        })
        .await
    }

    /// Moves octets until both sides have ended, one fails, or neither says anything for `fairway.timeout.idle`.
    /// `early` is what the client has said already.
    async fn relay(&self, up: TcpStream, early: BytesMut) -> Reason {
        let buffers = &self.worker.buffers;
        let idle = self.pick.as_ref().and_then(|pick| pick.version.transport.idle_timeout);
        let up = Duplex::new(up);
        let (mut from_down, mut from_up) = (early, BytesMut::new());
        let reader = || BodyReader::new(BodyLength::UntilClose, Extensions::Refused);
        let mut source_down = Body { io: &self.down, buffer: &mut from_down, buffers, reader: reader() };
        let mut source_up = Body { io: &up, buffer: &mut from_up, buffers, reader: reader() };
        let quiet = idle.unwrap_or(QUIET);
        let done = tokio::select! {
            done = tunnel(&mut source_down, &self.down, &mut source_up, &up, quiet) => Some(done),
            () = self.drain_ends() => None,
        };
        self.down_bytes.set(done.map_or(0, |done| done.down_bytes));
        if done.is_none_or(|done| done.end != TunnelEnd::Both) {
            // Each side must see that something is missing.
            self.down.reset_on_close();
            up.reset_on_close();
        }
        buffers.give_back(from_down);
        buffers.give_back(from_up);
        match done.map(|done| done.end) {
            None => Reason::DrainEnded,
            Some(TunnelEnd::Quiet) => Reason::UpstreamTimeout,
            Some(TunnelEnd::Both | TunnelEnd::Failed) => Reason::Ok,
        }
    }

    /// Until a drain that people ordered has ended at the instance.
    async fn drain_ends(&self) {
        let mut ends = self.worker.handle.states().ends();
        while let Some(pick) = &self.pick
            && !pick.endpoint.state.is_ended()
        {
            if ends.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Ends a connection that goes nowhere. A client that speaks TLS is told so in its words (RFC 8446 section 6.2).
    async fn refuse(&self, reason: Reason) -> Reason {
        if self.host.is_none() || reason == Reason::ClientLeft {
            return reason;
        }
        let description = match reason {
            Reason::NoRoute => AlertDescription::UnrecognisedName,
            Reason::ClientRefused => AlertDescription::AccessDenied,
            _ => AlertDescription::InternalError,
        };
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        let alert = [ALERT, 3, 3, 0, 2, FATAL, description.into()];
        let told = async {
            self.down.write_all(&mut [IoSlice::new(&alert)], |_| {}).await?;
            self.down.shutdown().await?;
            // What still comes must not make the system reset the connection before the alert is read.
            let (mut buffer, mut left) = (BytesMut::new(), LINGER_BYTES);
            while left > 0 {
                buffer.clear();
                self.down.readable().await?;
                match self.down.read(&mut buffer).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            io::Result::Ok(())
        };
        // Whoever does not take it has no use for it.
        let _ = timeout(LINGER, told).await;
        reason
    }

    fn tell(&self, status: u16, reason: Reason) {
        let worker = self.worker;
        let took = turn::now().duration_since(self.began);
        let series = match (&self.pick, &self.entry) {
            (Some(pick), _) => &pick.version.series,
            (None, Some(entry)) => &entry.series,
            (None, None) => worker.metrics.unrouted(),
        };
        worker.metrics.request_done(series, status, reason, took);
        let Some(access) = &worker.access else { return };
        let pick = self.pick.as_ref();
        let line = Line {
            client: self.ends.peer.ip().to_canonical(),
            method: if self.host.is_some() { "TLS" } else { "TCP" },
            host: self.host.unwrap_or_default(),
            path: "",
            status,
            bytes: self.down_bytes.get(),
            route: self.name,
            backend: pick.map_or("", |pick| &pick.version.name),
            instance: pick.map_or("", |pick| pick.endpoint.key.id.as_str()),
            why: pick.map_or("", |pick| pick.why.as_str()),
            reason,
            grpc_status: None,
            attempts: self.attempts,
            total: took,
            queued: None,
            connect: self.connect,
            first_byte: None,
            request_id: "",
        };
        access.line(&line, &worker.clock);
    }
}
