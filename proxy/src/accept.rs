//! Accepts connections at one listening socket of one worker, and takes those that other workers hand over.
//!
//! Not here: which worker serves a connection (see `spread`), what is done with it (see `downstream`).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use crate::downstream::Door;
use crate::spread::Handed;
use crate::worker::{Worker, welcome};

/// How often an accept error is told at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Pause after the system had no more descriptors or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the worker drains, then what already waits, then closes the socket. `number` is the listener's.
pub(crate) async fn accept(worker: Rc<Worker>, socket: std::net::TcpListener, door: Rc<Door>, number: usize) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listener = %door.name, %error, "a worker cannot use its listening socket");
            return;
        }
    };
    let _entered = worker.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    let mut told: Option<Instant> = None;
    loop {
        let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Pending if worker.is_draining() => Poll::Ready(None),
            accepted => accepted.map(Some),
        });
        match accepted.await {
            Some(Ok((stream, peer))) => place(&worker, &door, number, stream, peer),
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => {
                if told.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(listener = %door.name, %error, "no connection can be accepted for the moment");
                }
                sleep(ACCEPT_PAUSE).await;
            }
            None => return,
        }
    }
}

/// Whether the error is one of the connection that was to be accepted rather than of ours.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut)
}

/// Serves a connection here or on the worker that has fewer.
fn place(worker: &Rc<Worker>, door: &Rc<Door>, number: usize, stream: TcpStream, peer: SocketAddr) {
    let spread = &worker.shared.spread;
    // A worker that drains keeps what it has accepted: the others may have ended.
    let seat = if worker.is_draining() { spread.seat_on(worker.number) } else { spread.seat(worker.number) };
    if seat.worker == worker.number {
        return welcome(worker, door, stream, peer, seat);
    }
    // Unregistered here, for another worker's runtime. An error means that it is gone.
    let Ok(stream) = stream.into_std() else { return };
    if let Err(back) = spread.hand(Handed { stream, peer, door: number, seat })
        && let Ok(stream) = TcpStream::from_std(back.stream)
    {
        welcome(worker, door, stream, peer, spread.seat_on(worker.number));
    }
}

/// Serves what other workers hand over, until the worker drains and nothing is on its way any more.
pub(crate) async fn take_handed(
    worker: Rc<Worker>,
    mut handed: UnboundedReceiver<Handed>,
    doors: Vec<Rc<Door>>,
) {
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
    while let Some(Handed { stream, peer, door, seat }) = next(&mut handed).await {
        if let (Some(door), Ok(stream)) = (doors.get(door), TcpStream::from_std(stream)) {
            welcome(&worker, door, stream, peer, seat);
        }
    }
}
