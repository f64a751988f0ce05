//! A client's connection: requests one after the other, until one side has had enough.
//!
//! - [`head`]: reading the next request's head, idling before it.
//! - [`call`]: one request: its route, what is answered without an instance.
//! - [`trail`]: its way over instances, [`waiting`]: how it waits for one, [`record`]: what is told of it.
//! - [`attempt`]: one attempt at one instance.
//! - [`exchange`]: one request on one connection to one instance.
//! - [`body`]: what of its body is kept to be sent again, [`held`]: what is held back meanwhile.
//! - [`lost`]: whether an instance certainly did not take it.
//! - [`fault`]: a panic of our own in a request.
//! - [`patience`]: what becomes of an exchange whose limits pass.
//! - [`hedge`]: a second request for one that takes long; [`asked`]: what both are sent with.
//! - [`guard`]: whether a request gets to an instance at all.
//! - [`outcome`]: what an attempt says of the version that it was made at.
//! - [`mirror`]: copies of requests for another version.
//! - [`compressed`]: a body that is compressed on its way.
//! - [`http2`]: connections that speak HTTP/2, with requests side by side.
//!
//! Not here: what is refused (see `h1`), who is chosen (see `pick`).

mod asked;
mod attempt;
mod body;
mod call;
mod compressed;
mod exchange;
mod extras;
mod fault;
mod guard;
mod head;
mod hedge;
mod held;
pub(crate) mod http2;
mod lost;
pub(crate) mod mirror;
mod outcome;
mod patience;
mod record;
mod streams;
mod trail;
mod waiting;

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use fairway_config::file::Limits;
use fairway_config::labels::ProxyProtocol;
use fairway_config::names::RouteId;
use rustls::ServerConfig;
use tokio::time::Instant;

use crate::access_log::Line;
use crate::deadline::{Timer, Wait};
use crate::forward::address_text::AddressText;
use crate::gate::Gate;
use crate::h1::chunked::Extensions;
use crate::h1::{BodyReader, Refused, RequestHead};
use crate::l4::Front;
use crate::opening::Opening;
use crate::proxy_header::write::{self, Client, Secured};
use crate::reason::Reason;
use crate::refusal::{Refusal, Says};
use crate::sides::http1::Body;
use crate::sides::{Flow, Piece, Sink};
use crate::stream::{Duplex, Ends, Stream};
use crate::tls::session::Session;
use crate::turn;
use crate::upstream::kept::{Bound, Kept};
use crate::worker::Worker;
pub(crate) use call::Call;
use head::Next;

/// Longest time for a client to take an answer of our own.
const REFUSAL: Duration = Duration::from_secs(10);

/// How long a connection is read after its last answer, so that the answer is not lost with what the client still sends.
const LINGER: Duration = Duration::from_secs(2);

/// Most octets read then.
const LINGER_BYTES: usize = 1024 * 1024;

/// What is known of a listener on the way of a request.
#[derive(Debug)]
pub(crate) struct Door {
    /// Its address as configured, for metrics and logs.
    pub(crate) name: Arc<str>,
    /// Our end of its connections, where all have the same: it listens on one address of the machine.
    pub(crate) local: Option<SocketAddr>,
    /// Upgrade tokens that are passed on.
    pub(crate) upgrades: Vec<Arc<str>>,
    /// Whether each connection starts with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// What comes without TLS is sent to `https`.
    pub(crate) redirect_to_https: bool,
    /// `Strict-Transport-Security` of its answers.
    pub(crate) hsts: Option<Arc<str>>,
    /// How it speaks TLS; `None`: it does not.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// What clients may ask for; a reload replaces it, for connections that are open, too.
    pub(crate) limits: Rc<Cell<Limits>>,
    /// How many connections it has, of all workers.
    pub(crate) gate: Arc<Gate>,
    /// Where all of its requests go, whatever they ask for: it is a front port.
    pub(crate) route: Option<RouteId>,
}

impl Door {
    /// Of this listener.
    pub(crate) fn new(opening: &Opening) -> Self {
        let Opening { listener, bound, gate, .. } = opening;
        Self {
            name: listener.addr.to_string().into(),
            local: Some(*bound).filter(|bound| !bound.ip().is_unspecified()),
            upgrades: listener.upgrades.clone(),
            proxy_protocol: listener.proxy_protocol,
            redirect_to_https: listener.redirect_to_https,
            hsts: listener.tls.as_ref().and_then(|tls| tls.hsts.clone()),
            tls: opening.tls(),
            limits: Rc::new(Cell::new(listener.limits)),
            gate: gate.clone(),
            route: None,
        }
    }

    /// Of a front port for HTTP; with TLS if `tls` says how.
    pub(crate) fn of_front(
        front: &Front,
        limits: Limits,
        proxy_protocol: bool,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        Self {
            name: front.name.clone(),
            local: None,
            upgrades: vec!["websocket".into()],
            proxy_protocol,
            redirect_to_https: false,
            hsts: None,
            tls,
            limits: Rc::new(Cell::new(limits)),
            gate: front.gate.clone(),
            route: Some(front.route.clone()),
        }
    }

    /// As a reload has it, for connections that are accepted from now on.
    pub(crate) fn renewed(&self, opening: &Opening) -> Self {
        self.limits.set(opening.listener.limits);
        Self { limits: self.limits.clone(), ..Self::new(opening) }
    }
}

/// What all requests of a client's connection share.
pub(crate) struct Visit {
    /// Its two ends; the client's is the one that a trusted balancer in front named.
    pub(crate) ends: Ends,
    /// The client's address, as each of its requests tells the instance.
    pub(crate) peer: AddressText,
    /// The client uses TLS.
    pub(crate) tls: bool,
    /// What was agreed upon in our own handshake with it.
    pub(crate) session: Option<Box<Session>>,
    /// Where it came in.
    pub(crate) door: Rc<Door>,
    /// Who serves it.
    pub(crate) worker: Rc<Worker>,
    /// Requests so far, the present one included.
    pub(crate) requests: Cell<u64>,
    /// Connections to instances that are told whose they are: this client's alone.
    bound: OnceCell<Bound>,
}

impl Visit {
    /// Counts a request.
    pub(crate) fn count(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// Whether the connection may carry a further request: the worker goes on, and there have not been too many.
    pub(crate) fn may_stay(&self) -> bool {
        let most = self.door.limits.get().requests_per_connection;
        !self.worker.is_draining() && most.is_none_or(|most| self.requests.get() < most)
    }
}

impl Visit {
    /// Of a connection between these ends.
    pub(crate) fn new(ends: Ends, tls: bool, door: Rc<Door>, worker: Rc<Worker>) -> Self {
        Self {
            ends,
            peer: AddressText::new(ends.peer.ip()),
            tls,
            session: None,
            door,
            worker,
            requests: Cell::new(0),
            bound: OnceCell::new(),
        }
    }

    /// The connections that carry its requests to instances which are told this of their clients.
    pub(crate) fn kept(&self, told: Option<ProxyProtocol>) -> &Rc<Kept> {
        match told {
            None => &self.worker.kept,
            Some(_) => self.bound.get_or_init(|| self.worker.bind()).kept(),
        }
    }

    /// What such a connection starts with: nothing, or a header that names the two ends of this one. Its requests may say
    /// more of whom they are for, in `X-Forwarded-For`, each something else.
    pub(crate) fn header(&self, told: Option<ProxyProtocol>) -> Box<[u8]> {
        let Some(version) = told else { return Box::default() };
        let session = self.session.as_deref();
        let authority = session.and_then(|session| session.server_name.as_deref());
        let tls = self.tls.then(|| session.map(Secured::by).unwrap_or_default());
        write::header(version, &Client { ends: self.ends, authority, tls }).into()
    }

    /// Of a connection whose ends, and whose use of TLS, a trusted balancer in front has named.
    pub(crate) fn said_to_be(self, ends: Ends, tls: bool) -> Self {
        Self::new(ends, tls, self.door, self.worker)
    }

    /// `Strict-Transport-Security` of its answers.
    pub(crate) fn hsts(&self) -> Option<&str> {
        // Plain HTTP where TLS is spoken gets an answer, too.
        self.door.hsts.as_deref().filter(|_| self.tls)
    }

    /// Whether a request for this host should have come on another connection.
    pub(crate) fn is_misdirected(&self, host: &str) -> bool {
        // At a front port every host is the same service.
        self.door.route.is_none() && self.session.as_ref().is_some_and(|session| !session.may_carry(host))
    }
}

/// A client's connection that speaks HTTP/1.
pub(crate) struct Connection<S> {
    visit: Visit,
    io: Duplex<S>,
    timer: Timer,
    /// What was read and not yet used; without memory while the connection idles.
    buffer: BytesMut,
    /// No request has been read yet: what comes may be HTTP/2.
    is_fresh: bool,
}

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request.
    Next,
    /// The last answer is on its way: close, so that it arrives.
    Close,
    /// Nothing more is to be said: drop it.
    Drop,
}

impl<S: Stream> Connection<S> {
    pub(crate) fn new(stream: S, visit: Visit) -> Self {
        Self { visit, io: Duplex::new(stream), timer: Timer::new(), buffer: BytesMut::new(), is_fresh: true }
    }

    /// Serves it to its end.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` keeps room for `self` twice, for each idle connection"
    )]
    pub(crate) fn serve(mut self) -> impl Future<Output = ()> {
        async move {
            let worker = self.visit.worker.clone();
            let _entered = worker.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
            let counted = worker.metrics.connection(&self.visit.door.name, "http1");
            let after = loop {
                let after = match self.next_head().await {
                    Next::Request(head, began) => self.call(head, began).await,
                    Next::Refused(refused, began) => self.refuse(refused, began).await,
                    Next::Http2 => {
                        drop(counted);
                        if let Some(session) = &mut self.visit.session {
                            session.speaks_http2();
                        }
                        // Boxed, so that connections that speak HTTP/1 need no room for it.
                        return Box::pin(http2::serve(self.io.into_inner(), self.buffer, self.visit)).await;
                    }
                    Next::Finished => After::Close,
                    Next::Gone => After::Drop,
                };
                if after != After::Next {
                    break after;
                }
                self.is_fresh = false;
            };
            if after == After::Close {
                self.close().await;
            }
            worker.buffers.give_back(std::mem::take(&mut self.buffer));
        }
    }

    /// Answers a client that speaks plain HTTP where TLS is spoken, whatever it asked for.
    pub(crate) async fn refuse_plain_http(mut self) {
        let detail = "this port speaks TLS, and this looks like plain HTTP: use https://";
        let refused = refused(Reason::RequestInvalid, detail);
        if self.refuse(refused, turn::now()).await == After::Close {
            self.close().await;
        }
    }

    async fn call(&mut self, head: Box<RequestHead>, began: Instant) -> After {
        let Self { visit, io, timer, buffer, .. } = self;
        let reader = BodyReader::new(head.body, Extensions::Refused);
        let source = Body { io, buffer, buffers: &visit.worker.buffers, reader };
        visit.count();
        // Boxed, because its state is most of what a connection needs, and most connections idle. The box comes first: the
        // state is written where it stays, instead of being copied there whole.
        let place = Box::new_uninit();
        Box::into_pin(Box::write(place, Call::new(visit, io, source, timer, head, began).run())).await
    }

    /// Refuses what cannot be read as a request. Nobody knows where the next one would start, so the connection ends.
    async fn refuse(&mut self, refused: Refused, began: Instant) -> After {
        let Self { visit, io, timer, .. } = self;
        if refuse_unread(visit, io, timer, refused, began).await { After::Close } else { After::Drop }
    }

    /// Ends our direction, then reads for a while: octets that arrive at a closed socket would make the system reset the
    /// connection, and the last answer might be lost with it.
    async fn close(&mut self) {
        let until = turn::now() + LINGER;
        let (io, buffer) = (&self.io, &mut self.buffer);
        let drained = async {
            if io.shutdown().await.is_err() {
                return;
            }
            let mut left = LINGER_BYTES;
            while left > 0 {
                buffer.clear();
                if io.readable().await.is_err() {
                    return;
                }
                match io.read(buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        };
        // Whoever still sends after that has been told twice.
        let _ = self.timer.within(until, drained).await;
    }
}

/// Refuses a request that cannot be read as one; false when the client does not take the answer.
async fn refuse_unread(
    visit: &Visit,
    down: &impl Sink,
    timer: &mut Timer,
    refused: Refused,
    began: Instant,
) -> bool {
    let worker = &visit.worker;
    let Refused { reason, detail } = refused;
    let refusal = Refusal {
        reason,
        detail,
        request_id: "",
        to_head: false,
        close: true,
        says_keep_alive: false,
        says: Says::Nothing,
        added: b"",
        hsts: visit.hsts(),
        grpc: false,
    };
    let status = refusal.status();
    let written = send(down, timer, &refusal, worker).await;
    tell_unserved(visit, None, status, reason, began);
    written
}

/// Tells of what never came so far that its route was looked for; `head` if it could be read.
fn tell_unserved(visit: &Visit, head: Option<&RequestHead>, status: u16, reason: Reason, began: Instant) {
    let Visit { worker, ends, .. } = visit;
    let took = turn::now().duration_since(began);
    worker.metrics.request_done(worker.metrics.unrouted(), status, reason, took);
    if let Some(access) = &worker.access {
        let line = Line {
            client: ends.peer.ip().to_canonical(),
            method: head.map_or("", RequestHead::method),
            host: head.map_or("", RequestHead::host),
            path: head.map_or("", RequestHead::path),
            status,
            bytes: 0,
            route: "",
            backend: "",
            instance: "",
            why: "",
            reason,
            grpc_status: None,
            attempts: 0,
            total: took,
            queued: None,
            connect: None,
            first_byte: None,
            request_id: "",
        };
        access.line(&line, &worker.clock);
    }
}

/// Sends an answer of our own; false when the client does not take it.
async fn send(down: &impl Sink, timer: &mut Timer, refusal: &Refusal<'_>, worker: &Worker) -> bool {
    let mut out = worker.buffers.lend_head();
    let body = refusal.write(&mut out, &worker.clock);
    let none = Wait { limit: None, reason: refusal.reason };
    let (waits, body_bytes) = (Cell::new(none), Cell::new(0));
    let (patience, late) = (REFUSAL, Reason::ClientTimeout);
    let flow = Flow { chunked: false, waits: &waits, patience, late, sent: None, body_bytes: &body_bytes };
    let piece = Piece::whole(body);
    let written = timer.within(turn::now() + REFUSAL, down.write(&out, &piece, &flow)).await;
    worker.buffers.give_back_head(out);
    matches!(written, Some(Ok(())))
}

/// The refusal of a request that was read.
fn refused(reason: Reason, detail: &'static str) -> Refused {
    Refused::new(reason, detail)
}
