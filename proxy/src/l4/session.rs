//! One client's datagrams to a front port: the instance that they go to, and its answers.
//!
//! A session ends when nobody has said anything for a while, or with the drain of its instance. Whoever refuses a datagram (ICMP) is followed by another
//! instance. Nothing is sent to a client but what an instance sent. In log and metrics a session counts as one request of its
//! route once it has ended. Not here: which session a datagram belongs to (see `datagrams`).

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::datagrams::{Flow, Port};
use crate::access_log::Line;
use crate::endpoint::{Endpoint, InFlight};
use crate::hold::{HOLD, hold, hold_for_another};
use crate::pick::{NoInstance, Pick, Tried, Why};
use crate::reason::Reason;
use crate::request::{FieldList, RequestView};
use crate::table::{RouteEntry, Version};
use crate::turn;
use crate::upstream::is_out_of_files;

/// Longest silence of both sides, where `fairway.timeout.idle` says nothing else.
const IDLE: Duration = Duration::from_secs(60);

/// The same once nothing is read from the client any more, or the worker drains: for answers that are on their way.
const LINGER: Duration = Duration::from_secs(1);

/// A session that is silent for so long is no work for its instance.
const BUSY: Duration = Duration::from_secs(1);

/// How long the session of a client that could not be served takes what it sends: one line in the log for all of it.
const DEAF: Duration = Duration::from_millis(250);

/// Most instances tried without an answer, whatever the labels say.
const ATTEMPTS_MAX: u32 = 12;

/// Datagrams, and their octets, that wait for an instance; what is more is lost.
const WAITING_MAX: usize = 16;
const WAITING_OCTETS_MAX: usize = 64 * 1024;

/// Answers passed on before other tasks have their turn.
const TURN: usize = 64;

/// One client's.
pub(super) struct Session {
    port: Rc<Port>,
    flow: Flow,
    began: Instant,
    /// When somebody said something last.
    last: Cell<Instant>,
    /// The way to the instance, while there is one.
    up: RefCell<Option<Rc<UdpSocket>>>,
    /// What the client sent and no instance has got.
    waiting: RefCell<Vec<Vec<u8>>>,
    /// Datagrams that the present instance was sent before its first answer.
    unanswered: Cell<usize>,
    /// It answered.
    answered: Cell<bool>,
    /// It refused a datagram.
    refused: Notify,
    down_bytes: Cell<u64>,
    told: RefCell<Told>,
}

/// What is told of it at its end.
#[derive(Default)]
struct Told {
    entry: Option<Arc<RouteEntry>>,
    at: Option<At>,
    attempts: u32,
    /// Some instance answered.
    answered: bool,
}

/// The instance that the datagrams go to.
struct At {
    version: Arc<Version>,
    endpoint: Arc<Endpoint>,
    why: Why,
    /// While it has something to do for the session.
    in_flight: Option<InFlight>,
    /// Since when.
    since: Instant,
}

/// Why datagrams no longer go to an instance.
enum End {
    Quiet,
    Refused,
    /// People ordered the instance's drain, and that has ended.
    Drained,
}

impl Session {
    pub(super) fn new(port: Rc<Port>, flow: Flow) -> Rc<Self> {
        let now = turn::now();
        Rc::new(Self {
            port,
            flow,
            began: now,
            last: Cell::new(now),
            up: RefCell::default(),
            waiting: RefCell::default(),
            unanswered: Cell::new(0),
            answered: Cell::new(false),
            refused: Notify::new(),
            down_bytes: Cell::new(0),
            told: RefCell::default(),
        })
    }

    /// Takes a datagram of the client: to the instance, or to where it waits for one.
    pub(super) fn take(&self, bytes: &[u8]) {
        self.last.set(turn::now());
        let up = self.up.borrow().clone();
        let Some(up) = up else { return self.keep(bytes) };
        match up.try_send(bytes) {
            Ok(_) => {
                if !self.answered.get() {
                    self.unanswered.set(self.unanswered.get() + 1);
                    // If this is the one that it refuses, another instance gets it.
                    let mut waiting = self.waiting.borrow_mut();
                    waiting.clear();
                    if self.unanswered.get() == 1 {
                        waiting.push(bytes.to_vec());
                    }
                }
            }
            Err(error) if is_refusal(&error) => {
                // That of an earlier one: this one was not sent.
                *self.up.borrow_mut() = None;
                self.keep(bytes);
                self.refused.notify_one();
            }
            // No room, too large: lost, as any datagram may be.
            Err(_) => {}
        }
    }

    fn keep(&self, bytes: &[u8]) {
        let mut waiting = self.waiting.borrow_mut();
        let octets: usize = waiting.iter().map(Vec::len).sum();
        if waiting.len() < WAITING_MAX && octets + bytes.len() <= WAITING_OCTETS_MAX {
            waiting.push(bytes.to_vec());
        }
    }

    /// Serves it to its end.
    pub(super) async fn run(self: Rc<Self>) {
        let worker = self.port.worker.clone();
        let _listed = Listed(self.clone());
        let _entered = worker.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
        let _counted = worker.metrics.connection(&self.port.front.name, "udp");
        let ended = self.serve().await;
        let answered = self.told.borrow().answered;
        let (status, reason) = match ended {
            Ok(()) => (200, Reason::Ok),
            Err(Reason::DrainEnded) if answered => (200, Reason::DrainEnded),
            Err(_) if answered => (200, Reason::UpstreamCut),
            Err(reason) => (reason.status().unwrap_or(0), reason),
        };
        self.tell(status, reason);
        if ended.is_err_and(|reason| reason != Reason::DrainEnded) && !answered && !worker.is_draining() {
            self.waiting.borrow_mut().clear();
            sleep(DEAF).await;
        }
    }

    async fn serve(&self) -> Result<(), Reason> {
        let mut tried = Tried::default();
        let (mut retries, mut attempts, mut last, mut news) = (0, 0, None, false);
        let mut entry = self.present().ok_or(Reason::NoRoute)?;
        loop {
            self.told.borrow_mut().entry = Some(entry.clone());
            if entry.refuses(self.flow.0.ip().to_canonical()) {
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
            attempts += 1;
            let (endpoint, settings) = (pick.endpoint.clone(), pick.version.settings.clone());
            let state = &endpoint.state;
            let upstream = pick.version.upstream.clone();
            // Noted first: it serves until it refuses.
            tried.add(&pick);
            let idle = pick.version.transport.idle_timeout.unwrap_or(IDLE);
            let opened = self.open(&pick);
            self.note(pick);
            let reason = match opened {
                Ok(up) => match self.relay(&up, idle).await {
                    End::Quiet => return Ok(()),
                    End::Drained => return Err(Reason::DrainEnded),
                    End::Refused => Reason::ConnectFailed,
                },
                Err(reason) => reason,
            };
            *self.up.borrow_mut() = None;
            if reason == Reason::ConnectFailed {
                state.observe_failure(Duration::ZERO, turn::now().into_std(), reason.as_str());
                state.keep_failure(reason, "the instance refused a datagram");
            }
            news |= endpoint.may_have_news(turn::now().into_std());
            if self.answered.replace(false) {
                // It was good for something: what comes now is another failure.
                (retries, attempts) = (0, 1);
            }
            self.unanswered.set(0);
            // One that is known to stop, or gone, costs nobody a retry: that is what a deploy looks like.
            let newest = self.present();
            let free = !newest.as_ref().is_some_and(|entry| entry.serves_new(state.uid));
            let now = turn::now().into_std();
            let allowed = attempts < ATTEMPTS_MAX
                && (free || (retries < u32::from(settings.retries) && entry.may_retry(now)));
            if !allowed {
                return Err(reason);
            }
            retries += u32::from(!free);
            self.port.worker.metrics.retried(&upstream, reason);
            last = Some(reason);
            entry = newest.unwrap_or(entry);
        }
    }

    /// The route in the table of now.
    fn present(&self) -> Option<Arc<RouteEntry>> {
        self.port.worker.table.borrow_mut().table().by_id(&self.port.front.route).cloned()
    }

    fn choose(&self, entry: &RouteEntry, tried: &Tried) -> Result<Pick, NoInstance> {
        let worker = &self.port.worker;
        let client = self.flow.0.ip().to_canonical();
        // A trusted peer is never internal by its own address (design rule 11).
        let internal =
            !worker.shared.trusts(self.flow.0) && worker.table.borrow_mut().table().internal.contains(client);
        let fields = FieldList::default();
        let (host, path, query, method, secure) = ("", "/", None, "", false);
        let view = RequestView { host, path, query, method, client, internal, secure, fields: &fields };
        entry.pick(&view, tried, &mut worker.rng.borrow_mut(), turn::now().into_std())
    }

    fn note(&self, pick: Pick) {
        let Pick { endpoint, version, why, in_flight } = pick;
        let mut told = self.told.borrow_mut();
        told.attempts += 1;
        told.at = Some(At { version, endpoint, why, in_flight: Some(in_flight), since: turn::now() });
    }

    /// A socket that hears of nobody but the instance, and of the instance's refusals. Sends nothing.
    fn open(&self, pick: &Pick) -> Result<Rc<UdpSocket>, Reason> {
        let worker = &self.port.worker;
        let address = pick.endpoint.address;
        if worker.shared.fronts.is_ours(address, self.port.front.port.protocol) {
            return Err(Reason::Loop);
        }
        match connected(address) {
            Err(error) if is_out_of_files(&error) => match worker.give_up_idle() {
                true => connected(address).map_err(|_| Reason::OutOfFiles),
                false => Err(Reason::OutOfFiles),
            },
            opened => opened.map_err(|_| Reason::ConnectFailed),
        }
        .map(Rc::new)
    }

    /// Holds the session until the route has an instance that it has not been at (design rule 6).
    async fn wait_for_instance(
        &self,
        tried: &Tried,
        last: Option<Reason>,
        news: bool,
    ) -> Result<Arc<RouteEntry>, Reason> {
        let (handle, route) = (&self.port.worker.handle, &self.port.front.route);
        let deadline = turn::now() + HOLD;
        let Some(last) = last else {
            return hold(handle, route, tried, deadline).await.map_err(|error| error.reason());
        };
        let held = hold_for_another(handle, route, tried, news, deadline).await;
        held.map_err(|error| error.reason())?.ok_or(last)
    }

    /// Passes on what each side says, until neither says anything or the instance refuses.
    async fn relay(&self, up: &Rc<UdpSocket>, idle: Duration) -> End {
        // Until the runtime has heard of the socket it takes nothing. An error shows when it is used.
        let _ = up.writable().await;
        *self.up.borrow_mut() = Some(up.clone());
        let waited = std::mem::take(&mut *self.waiting.borrow_mut());
        waited.iter().for_each(|bytes| self.take(bytes));
        let mut sleeping = pin!(sleep_until(self.last.get() + BUSY.min(idle)));
        let mut drained = pin!(self.drain_ends());
        let mut ending = false;
        loop {
            if !ending && self.is_ending() {
                ending = true;
                sleeping.as_mut().reset(self.last.get() + LINGER);
            }
            tokio::select! {
                biased;
                () = &mut drained => return End::Drained,
                () = self.refused.notified() => return End::Refused,
                // A refusal makes the socket neither readable nor, to a reader, closed.
                ready = up.ready(Interest::READABLE | Interest::ERROR) => {
                    let refused = ready.map_or(true, |ready| ready.is_error() && has_refused(up));
                    if refused || self.pass_on(up).await.is_err() {
                        return End::Refused;
                    }
                }
                () = &mut sleeping => {
                    let (now, last) = (turn::now(), self.last.get());
                    let limit = if ending { idle.min(LINGER) } else { idle };
                    if now >= last + limit {
                        return End::Quiet;
                    }
                    let busy = now < last + BUSY;
                    if !busy {
                        self.is_busy(false);
                    }
                    let next = if busy { limit.min(BUSY) } else { limit };
                    sleeping.as_mut().reset(last + next);
                }
                () = self.ends(), if !ending => {}
            }
        }
    }

    /// Until a drain that people ordered has ended at the present instance: what the client says next is for another one.
    async fn drain_ends(&self) {
        let state = self.told.borrow().at.as_ref().map(|at| at.endpoint.state.clone());
        let Some(state) = state else { return std::future::pending().await };
        let mut ends = self.port.worker.handle.states().ends();
        while !state.is_ended() {
            if ends.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.port.closed.get() || self.port.worker.is_draining()
    }

    /// Waits until the worker drains (which wakes this task) or nothing is read from the client any more.
    async fn ends(&self) {
        let mut closing = pin!(self.port.closing.notified());
        poll_fn(|cx| match self.is_ending() {
            true => Poll::Ready(()),
            false => closing.as_mut().poll(cx),
        })
        .await;
    }

    /// Passes the instance's answers on, as many as are there; an error when it refuses.
    async fn pass_on(&self, up: &UdpSocket) -> Result<(), ()> {
        for _ in 0..TURN {
            let late = {
                let mut scratch = self.port.scratch.borrow_mut();
                let bytes = match up.try_recv(&mut scratch) {
                    Ok(length) => &scratch[..length],
                    Err(error) if is_refusal(&error) => return Err(()),
                    // Nothing more, or nothing of importance.
                    Err(_) => return Ok(()),
                };
                self.is_answered(bytes.len());
                match self.port.send(bytes, self.flow) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(bytes.to_vec()),
                    // One that cannot be sent is lost, as any datagram may be.
                    Ok(()) | Err(_) => None,
                }
            };
            if let Some(bytes) = late {
                self.port.send_later(&bytes, self.flow).await;
            }
        }
        Ok(())
    }

    fn is_answered(&self, octets: usize) {
        let now = turn::now();
        self.last.set(now);
        self.down_bytes.set(self.down_bytes.get() + octets as u64);
        if !self.answered.replace(true) {
            self.waiting.borrow_mut().clear();
            let mut told = self.told.borrow_mut();
            told.answered = true;
            if let Some(at) = &told.at {
                at.endpoint.state.observe(now.duration_since(at.since), now.into_std());
            }
        }
        self.is_busy(true);
    }

    /// Counts the session as in flight at its instance, or no longer.
    fn is_busy(&self, busy: bool) {
        if let Some(at) = &mut self.told.borrow_mut().at {
            match busy {
                true if at.in_flight.is_none() => at.in_flight = at.endpoint.state.begin(),
                true => {}
                false => at.in_flight = None,
            }
        }
    }

    fn tell(&self, status: u16, reason: Reason) {
        let worker = &self.port.worker;
        let took = turn::now().duration_since(self.began);
        let mut told = self.told.borrow_mut();
        if let Some(at) = &mut told.at {
            at.in_flight = None;
        }
        let series = match (&told.at, &told.entry) {
            (Some(at), _) => &at.version.series,
            (None, Some(entry)) => &entry.series,
            (None, None) => worker.metrics.unrouted(),
        };
        worker.metrics.request_done(series, status, reason, took);
        let Some(access) = &worker.access else { return };
        let at = told.at.as_ref();
        let line = Line {
            client: self.flow.0.ip().to_canonical(),
            method: "UDP",
            host: "",
            path: "",
            status,
            bytes: self.down_bytes.get(),
            route: &self.port.front.name,
            backend: at.map_or("", |at| &at.version.name),
            instance: at.map_or("", |at| at.endpoint.key.id.as_str()),
            why: at.map_or("", |at| at.why.as_str()),
            reason,
            grpc_status: None,
            attempts: told.attempts,
            total: took,
            queued: None,
            connect: None,
            first_byte: None,
            request_id: "",
        };
        access.line(&line, &worker.clock);
    }
}

/// Takes a session off its port's list, whichever way it ends.
struct Listed(Rc<Session>);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.port.sessions.borrow_mut().remove(&self.0.flow);
    }
}

fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    UdpSocket::from_std(socket)
}

/// Whether the system has heard that nobody takes datagrams there.
fn has_refused(up: &UdpSocket) -> bool {
    let error = up.try_io(Interest::ERROR, || match up.take_error()? {
        Some(error) => Err::<(), _>(error),
        // What there was has been told: the next one is waited for.
        None => Err(io::ErrorKind::WouldBlock.into()),
    });
    error.is_err_and(|error| is_refusal(&error))
}

/// Whether it says that nobody takes datagrams there: ICMP told the system so.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}
