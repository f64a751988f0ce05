//! Accepts connections at one listening socket of one worker, and takes those that other workers hand over.
//!
//! Not here: which worker serves a connection (see `spread`), what is done with it (see `downstream`).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use crate::downstream::Door;
use crate::gate::{Full, Gate};
use crate::listener::BACKLOG;
use crate::spread::{Handed, Place};
use crate::upstream::is_out_of_files;
use crate::worker::{Worker, welcome};

/// How often an accept error is told at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Pause when the system has no more descriptors or memory for a connection, or the process has all that it may have.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts at a listener's socket until the worker drains. `number` is the listener's.
pub(crate) async fn accept(worker: Rc<Worker>, socket: std::net::TcpListener, number: usize) {
    let Some(name) = worker.door(number).map(|door| door.name.clone()) else { return };
    let admit = |stream, peer| {
        if let Some(door) = worker.door(number) {
            admit(&worker, &door, number, stream, peer);
        }
    };
    accept_each(&worker, socket, &name, || worker.leaves_the_rest(), admit).await;
}

/// Accepts until the worker drains, then what already waits, then closes the socket. `name` is the listener's; what waits is another
/// process's as soon as `leaves` says so.
pub(crate) async fn accept_each(
    worker: &Rc<Worker>,
    socket: std::net::TcpListener,
    name: &str,
    leaves: impl Fn() -> bool,
    admit: impl Fn(TcpStream, SocketAddr),
) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listener = %name, %error, "a worker cannot use its listening socket");
            return;
        }
    };
    let _entered = worker.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    let mut pause = Pause { told: None };
    loop {
        // Those that wait in the backlog are accepted when others have gone; nobody may hold up a stop.
        if !worker.is_draining() && worker.shared.is_full() {
            pause.take(name, &"the process has as many connections as it may have").await;
            continue;
        }
        let accepted = poll_fn(|cx| {
            if leaves() {
                return Poll::Ready(None);
            }
            match listener.poll_accept(cx) {
                Poll::Pending if worker.is_draining() => Poll::Ready(None),
                accepted => accepted.map(Some),
            }
        });
        match accepted.await {
            Some(Ok((stream, peer))) => admit(stream, peer),
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(_)) if worker.is_draining() => return,
            // Idle connections to instances are the first to go, and the next try may find room at once.
            Some(Err(error)) if is_out_of_files(&error) && worker.give_up_idle() => {}
            Some(Err(error)) => pause.take(name, &error).await,
            None => break,
        }
    }
    if !leaves() {
        take_the_rest(listener, admit);
    }
}

/// Accepts what waits, then closes the socket. The system is asked for each: that the runtime sees nothing may mean that it
/// has not looked yet, or that it is another task's turn. Of those who come meanwhile there is no end, so no more are
/// accepted than could have waited.
fn take_the_rest(listener: TcpListener, admit: impl Fn(TcpStream, SocketAddr)) {
    let Ok(socket) = listener.into_std() else { return };
    for _ in 0..=BACKLOG {
        match socket.accept() {
            Ok((stream, peer)) => {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    admit(stream, peer);
                }
            }
            Err(error) if is_passing(&error) => {}
            Err(_) => return,
        }
    }
}

/// Waits instead of trying again and again, and says so once in a while.
struct Pause {
    told: Option<Instant>,
}

impl Pause {
    async fn take(&mut self, name: &str, why: &dyn std::fmt::Display) {
        if self.told.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!(listener = %name, error = %why, "no connection can be accepted for the moment");
        }
        sleep(PAUSE).await;
    }
}

/// Whether the error is one of the connection that was to be accepted rather than of ours.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut)
}

/// Closes a connection that is one too many; serves another here or on the worker that has fewer.
fn admit(worker: &Rc<Worker>, door: &Rc<Door>, number: usize, stream: TcpStream, peer: SocketAddr) {
    let limits = door.limits.get();
    let pass = door.gate.enter(&limits).and_then(|mut pass| {
        // Behind a balancer it is known later who the client is.
        if !door.proxy_protocol && !worker.shared.trusts(peer) {
            pass.of_client(peer.ip(), &limits)?;
        }
        Ok(pass)
    });
    let pass = match pass {
        Ok(pass) => pass,
        Err(full) => return refuse(worker, &door.name, &door.gate, full, peer),
    };
    let spread = &worker.shared.spread;
    // A worker that drains keeps what it has accepted: the others may have ended.
    let seat = if worker.is_draining() { spread.seat_on(worker.number) } else { spread.seat(worker.number) };
    let is_own = seat.worker == worker.number;
    let place = Place { seat, pass };
    if is_own {
        return welcome(worker, door, stream, peer, place);
    }
    // Unregistered here, for another worker's runtime. An error means that it is gone.
    let Ok(stream) = stream.into_std() else { return };
    if let Err(back) = spread.hand(Handed { stream, peer, door: number, place })
        && let Ok(stream) = TcpStream::from_std(back.stream)
    {
        let place = Place { seat: spread.seat_on(worker.number), ..back.place };
        welcome(worker, door, stream, peer, place);
    }
}

/// Counts and tells a connection that is closed at once.
pub(crate) fn refuse(worker: &Worker, name: &Arc<str>, gate: &Gate, full: Full, peer: SocketAddr) {
    worker.handle.metrics().connection_refused(name, full.as_str());
    if gate.tells() {
        let (reason, client) = (full.as_str(), peer.ip().to_canonical());
        tracing::warn!(listener = %name, reason, %client, "connections are refused");
    }
}

/// Serves what other workers hand over, until the worker drains and nothing is on its way any more.
pub(crate) async fn take_handed(worker: Rc<Worker>, mut handed: UnboundedReceiver<Handed>) {
    let _entered = worker.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    let next = async |handed: &mut UnboundedReceiver<Handed>| {
        poll_fn(|cx| {
            if worker.is_draining() {
                // From now on those who hand over keep what they have; what is on its way still comes.
                handed.close();
            }
            handed.poll_recv(cx)
        })
        .await
    };
    while let Some(Handed { stream, peer, door, place }) = next(&mut handed).await {
        if let (Some(door), Ok(stream)) = (worker.door(door), TcpStream::from_std(stream)) {
            welcome(&worker, &door, stream, peer, place);
        }
    }
}
