//! One worker: a thread with its own runtime, sockets, pools, buffers and counters. Nothing is shared with other workers
//! on the way of a request but the routing table and the numbers of the instances.
//!
//! Not here: accepting connections (see `accept`), what is done with one (see `downstream`), starting and stopping all workers (see `running`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::Duration;

use fastrand::Rng;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::accept::{accept, refuse, take_handed};
use crate::access_log::AccessLog;
use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::downstream::mirror::Mirrors;
use crate::downstream::{Connection, Door, Visit};
use crate::l4::{self, Passed};
use crate::metrics::{OpenConnection, WorkerMetrics};
use crate::opening::Terms;
use crate::proxy_header::{self, Said};
use crate::running::{Phase, Shared};
use crate::spread::{Handed, Place};
use crate::stream::Ends;
use crate::table::{TableHandle, TableReader};
use crate::tls;
use crate::tls::handshake::{self, Accepted, Failed, Handshakes};
use crate::turn::by_turns;
use crate::upstream::kept::{Bound, Kept};
use crate::upstream::newcomers::Newcomers;

/// How often pools are swept and log lines handed over.
const TICK: Duration = Duration::from_millis(500);

/// What the connections of one worker share.
pub(crate) struct Worker {
    /// Which of the workers it is, from 0.
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) handle: Arc<TableHandle>,
    pub(crate) table: RefCell<TableReader>,
    pub(crate) metrics: WorkerMetrics,
    /// Connections to instances that all clients share.
    pub(crate) kept: Rc<Kept>,
    /// New ones that no instance has answered yet.
    pub(crate) newcomers: Rc<Newcomers>,
    /// Copies of requests, and their connections.
    pub(crate) mirrors: Mirrors,
    /// Those that belong to one client each.
    bound: RefCell<Vec<Weak<Kept>>>,
    pub(crate) buffers: Buffers,
    pub(crate) rng: RefCell<Rng>,
    pub(crate) clock: Clock,
    pub(crate) access: Option<AccessLog>,
    handshakes: Handshakes,
    /// By the number of the listener; a reload replaces them.
    doors: RefCell<Vec<Rc<Door>>>,
    draining: Cell<bool>,
    /// How many drains have ended at instances, as of the last look.
    ends: Cell<u64>,
    /// What waits to be accepted is left to another process.
    leaves: Cell<bool>,
    connections: RefCell<HashMap<u64, Waker>>,
    next_connection: Cell<u64>,
    all_closed: Notify,
}

impl Worker {
    /// Made on the worker's own thread: its counters belong to it.
    pub(crate) fn new(
        number: usize,
        shared: Arc<Shared>,
        handle: Arc<TableHandle>,
        access: Option<AccessLog>,
        terms: &Terms,
    ) -> Rc<Self> {
        Rc::new(Self {
            number,
            table: RefCell::new(handle.reader()),
            metrics: handle.metrics().worker(),
            handshakes: Handshakes::new(&terms.tls, shared.certificates.clone()),
            doors: RefCell::new(terms.openings.iter().map(|opening| Rc::new(Door::new(opening))).collect()),
            shared,
            handle,
            access,
            kept: Rc::default(),
            newcomers: Rc::default(),
            mirrors: Mirrors::default(),
            bound: RefCell::default(),
            buffers: Buffers::default(),
            rng: RefCell::new(Rng::new()),
            clock: Clock::default(),
            draining: Cell::new(false),
            ends: Cell::new(0),
            leaves: Cell::new(false),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            all_closed: Notify::new(),
        })
    }

    /// One that serves nobody, for requests that a test makes itself.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Rc<Self> {
        let handle = TableHandle::new(crate::metrics::Metrics::new(1));
        let terms = Terms { tls: Default::default(), openings: Vec::new() };
        Self::new(0, Arc::new(Shared::for_tests()), handle, None, &terms)
    }

    /// A listener, as connections that are accepted now see it.
    pub(crate) fn door(&self, number: usize) -> Option<Rc<Door>> {
        self.doors.borrow().get(number).cloned()
    }

    /// How the first TLS listener speaks, and with it the front ports for HTTPS.
    pub(crate) fn speaks_tls(&self) -> Option<Arc<ServerConfig>> {
        self.doors.borrow().iter().find_map(|door| door.tls.clone())
    }

    /// Whether the worker stops: answers say `Connection: close`, idle connections end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether what waits to be accepted is another process's.
    pub(crate) fn leaves_the_rest(&self) -> bool {
        self.leaves.get()
    }

    /// Counts a connection and wakes it when the worker drains, as long as the guard lives.
    pub(crate) fn enter(self: &Rc<Self>, waker: Waker) -> Entered {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        self.connections.borrow_mut().insert(id, waker);
        Entered { worker: self.clone(), id }
    }

    /// Changes when a drain has ended at some instance: everything that runs there ends.
    pub(crate) fn ends(&self) -> u64 {
        self.ends.get()
    }

    fn drain(&self) {
        self.draining.set(true);
        self.wake_all();
    }

    fn wake_all(&self) {
        for waker in self.connections.borrow().values() {
            waker.wake_by_ref();
        }
    }

    /// Closes idle connections to instances, for descriptors that are needed elsewhere; false when there were none. The
    /// other workers do so too at their next tick.
    pub(crate) fn give_up_idle(&self) -> bool {
        self.shared.shortages.fetch_add(1, Relaxed);
        self.clear_pools()
    }

    fn clear_pools(&self) -> bool {
        let mut had_some = self.mirrors.kept.pool.clear();
        had_some |= self.kept.pool.clear();
        for kept in self.bound.borrow().iter().filter_map(Weak::upgrade) {
            had_some |= kept.pool.clear();
        }
        had_some
    }

    /// Connections to instances for one connection of one client.
    pub(crate) fn bind(&self) -> Bound {
        let bound = Bound::default();
        self.bound.borrow_mut().push(bound.weak());
        bound
    }

    /// Closes connections to instances that nobody has a use for.
    fn sweep(&self) {
        self.kept.sweep();
        self.mirrors.kept.sweep();
        self.bound.borrow_mut().retain(|bound| bound.upgrade().inspect(|kept| kept.sweep()).is_some());
    }

    fn open(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Serves until told to stop; then until all connections have ended or the deadline passes. Gives how many were left.
    pub(crate) async fn run(
        self: &Rc<Self>,
        sockets: Vec<(usize, std::net::TcpListener)>,
        handed: UnboundedReceiver<Handed>,
        terms: watch::Receiver<Arc<Terms>>,
        mut phase: watch::Receiver<Phase>,
    ) -> usize {
        let following = spawn_local(follow_terms(terms, self.clone()));
        let tick = spawn_local(tick(self.clone()));
        // A sender that is gone has been dropped without a drain: nobody waits.
        let _ = phase.wait_for(|phase| !matches!(phase, Phase::Waiting)).await;
        let mut accepting =
            vec![spawn_local(take_handed(self.clone(), handed)), spawn_local(l4::serve(self.clone()))];
        let opening = (self.number == 0).then(|| spawn_local(l4::follow(self.clone())));
        for (number, socket) in sockets {
            accepting.push(spawn_local(accept(self.clone(), socket, number)));
        }
        let (until, leaves) =
            match phase.wait_for(|phase| matches!(phase, Phase::Draining { .. })).await.as_deref() {
                Ok(Phase::Draining { until, leaves }) => (*until, *leaves),
                Ok(Phase::Waiting | Phase::Running) | Err(_) => (Instant::now(), false),
            };
        self.leaves.set(leaves);
        self.drain();
        if let Some(opening) = opening {
            opening.abort();
        }
        for task in accepting {
            // Each ends by itself once the worker drains; a panic in it has been reported.
            let _ = task.await;
        }
        let ended = async {
            loop {
                let closed = self.all_closed.notified();
                if self.open() == 0 {
                    return;
                }
                closed.await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = sleep_until(until) => {}
        }
        tick.abort();
        following.abort();
        self.kept.clear();
        self.mirrors.kept.clear();
        if let Some(access) = &self.access {
            access.hand_over(&self.clock);
        }
        self.open()
    }
}

/// Counts a connection for as long as it lives.
pub(crate) struct Entered {
    worker: Rc<Worker>,
    id: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut connections = self.worker.connections.borrow_mut();
        connections.remove(&self.id);
        if connections.is_empty() {
            self.worker.all_closed.notify_waiters();
        }
    }
}

/// Keeps what each listener asks and grants as the last reload has it.
async fn follow_terms(mut terms: watch::Receiver<Arc<Terms>>, worker: Rc<Worker>) {
    while terms.changed().await.is_ok() {
        let terms = terms.borrow_and_update().clone();
        worker.handshakes.set_limits(&terms.tls);
        for (door, opening) in worker.doors.borrow_mut().iter_mut().zip(&terms.openings) {
            *door = Rc::new(door.renewed(opening));
        }
    }
}

async fn tick(worker: Rc<Worker>) {
    let mut shortages = worker.shared.shortages.load(Relaxed);
    let (mut ends, mut stops) = (worker.handle.states().ends(), worker.handle.states().stops());
    loop {
        tokio::select! {
            Ok(()) = ends.changed() => {
                worker.ends.set(*ends.borrow_and_update());
                worker.wake_all();
            }
            Ok(()) = stops.changed() => {}
            () = sleep(TICK) => {}
        }
        worker.sweep();
        worker.newcomers.ask_for_room(Instant::now());
        if worker.number == 0 {
            worker.handle.states().book.look(Instant::now().into_std());
        }
        let now = worker.shared.shortages.load(Relaxed);
        if now != shortages {
            shortages = now;
            worker.clear_pools();
        }
        if let Some(access) = &worker.access {
            access.hand_over(&worker.clock);
        }
    }
}

/// Serves a connection that was accepted, here or by another worker.
pub(crate) fn welcome(
    worker: &Rc<Worker>,
    door: &Rc<Door>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
) {
    // Gone already: there is nobody to tell.
    let Ok(local) = door.local.map_or_else(|| stream.local_addr(), Ok) else { return };
    let (ends, door, worker) = (Ends { peer, local }, door.clone(), worker.clone());
    // A panic ends this task, and with it this connection alone.
    let visit = Visit::new(ends, false, door, worker);
    // A task for each kind, so that plain connections do not take the memory of those with TLS.
    match (visit.door.proxy_protocol, visit.door.tls.is_some()) {
        (true, _) => spawn_local(by_turns(behind_balancer(stream, visit, place), ())),
        (false, true) => spawn_local(by_turns(over_tls(stream, visit), place)),
        (false, false) => spawn_local(by_turns(Connection::new(stream, visit).serve(), place)),
    };
}

/// Serves a connection that starts with a PROXY header. From a peer that is not trusted, or without the header, it is
/// closed: anybody could say anything there.
async fn behind_balancer(mut stream: TcpStream, mut visit: Visit, mut place: Place) {
    let (worker, door) = (visit.worker.clone(), visit.door.clone());
    if !worker.shared.trusts(visit.ends.peer) {
        return;
    }
    let limits = door.limits.get();
    match timeout(limits.header_time, proxy_header::read(&mut stream)).await {
        Ok(Ok(Said::Own)) => {}
        Ok(Ok(Said::Client { ends, tls })) => visit = visit.said_to_be(ends, tls),
        Ok(Err(_)) | Err(_) => return,
    }
    if let Err(full) = place.pass.of_client(visit.ends.peer.ip(), &limits) {
        return refuse(&worker, &door.name, &door.gate, full, visit.ends.peer);
    }
    if door.tls.is_some() {
        over_tls(stream, visit).await;
    } else {
        Connection::new(stream, visit).serve().await;
    }
}

/// Serves a connection that starts with a TLS handshake.
async fn over_tls(stream: TcpStream, visit: Visit) {
    // A connection that was accepted is served, also while the worker drains.
    let waker = std::future::poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone())).await;
    let entered = visit.worker.enter(waker);
    // Boxed, and gone with its end: it needs more room than what follows, where most connections idle.
    if let Some((_counted, served)) = Box::pin(shake_hands(stream, visit)).await {
        served.await;
    }
    drop(entered);
}

/// Does the handshake, and gives what serves the connection then, counted if anybody does more than refuse it.
async fn shake_hands(stream: TcpStream, visit: Visit) -> Option<(Option<OpenConnection>, tls::Served)> {
    let (worker, door) = (visit.worker.clone(), visit.door.clone());
    let config = door.tls.as_ref()?;
    let find = |host: &str| {
        let internal = is_internal(&visit);
        worker.table.borrow_mut().table().find_tls(host, internal).cloned()
    };
    let passes = worker.table.borrow_mut().table().passes_tls();
    match worker.handshakes.accept(stream, config, passes.then_some(&find)).await {
        Ok(Accepted::Passed(stream, hello, entry)) => {
            worker.metrics.handshake(&door.name, handshake::PASSED);
            let counted = worker.metrics.connection(&door.name, "tls-passthrough");
            let ends = visit.ends;
            let passing = async move {
                let (route, name) = (&entry.route.id, &entry.name);
                l4::pass(Passed { stream, ends, route, name, hello: Some(hello) }, &worker).await;
            };
            Some((Some(counted), Box::pin(passing)))
        }
        Ok(Accepted::Tls(stream)) => {
            worker.metrics.handshake(&door.name, handshake::done(stream.tls()));
            let counted = worker.metrics.connection(&door.name, "tls");
            Some((Some(counted), tls::serve(stream, visit)))
        }
        Err(failed) => {
            worker.metrics.handshake(&door.name, failed.as_str());
            worker.handshakes.tell(&door.name, visit.ends.peer.ip(), &failed);
            let Failed::PlainHttp(stream) = failed else { return None };
            Some((None, Box::pin(Connection::new(stream, visit).refuse_plain_http())))
        }
    }
}

/// Whether the client that connected is internal, before it has sent a request (design rule 11).
fn is_internal(visit: &Visit) -> bool {
    let Visit { ends, worker, .. } = visit;
    !worker.shared.trusts(ends.peer) && worker.table.borrow_mut().table().internal.contains(ends.peer.ip())
}
