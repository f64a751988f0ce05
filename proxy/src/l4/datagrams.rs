//! Datagrams at a front port of one worker: each goes to the session of its client, which a first one begins.
//!
//! The kernel gives all datagrams of a client to the same socket, and so to the same worker. Not here: what a session does
//! with them (see `session`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fairway_datagrams::{Inbox, send_one};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::Front;
use super::session::Session;
use crate::accept::refuse;
use crate::gate::Full;
use crate::spread::Place;
use crate::turn::by_turns;
use crate::worker::Worker;

/// The largest datagram.
pub(super) const SIZE_MAX: usize = 65_535;

/// Pause after an error of the socket itself, so that a broken one does not spin.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Who talks with whom: the client, and the address of ours that it talks to where the socket has several.
pub(super) type Flow = (SocketAddr, Option<IpAddr>);

/// One socket of a front port.
pub(super) struct Port {
    pub(super) worker: Rc<Worker>,
    pub(super) front: Arc<Front>,
    socket: UdpSocket,
    pub(super) sessions: RefCell<HashMap<Flow, Rc<Session>>>,
    /// Room for one datagram of an instance, in nobody's hands over an `await`.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Nothing is read here any more.
    pub(super) closed: Cell<bool>,
    /// Told to all sessions when it is.
    pub(super) closing: Notify,
}

/// Reads until it is aborted, or another process reads instead. While the worker drains, for the sessions that there are.
pub(super) async fn serve(worker: Rc<Worker>, socket: std::net::UdpSocket, front: Arc<Front>) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = %front.name, %error, "a worker cannot use its socket");
            return;
        }
    };
    let port = Rc::new(Port {
        worker,
        front,
        socket,
        sessions: RefCell::default(),
        scratch: RefCell::new(vec![0; SIZE_MAX].into()),
        closed: Cell::new(false),
        closing: Notify::new(),
    });
    let _reading = Reading(port.clone());
    // To be woken at the beginning of a drain; what is to be waited for then are the sessions.
    let mut entered = Some(port.worker.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await));
    let mut inbox = Inbox::new(SIZE_MAX);
    loop {
        let ready = poll_fn(|cx| {
            if port.worker.is_draining() {
                entered = None;
            }
            match port.front.is_given() && port.worker.leaves_the_rest() {
                true => Poll::Ready(None),
                false => port.socket.poll_recv_ready(cx).map(Some),
            }
        });
        let received = match ready.await {
            Some(Ok(())) => port.socket.try_io(Interest::READABLE, || inbox.receive(port.socket.as_fd())),
            Some(Err(error)) => Err(error),
            None => return,
        };
        match received {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::debug!(listener = %port.front.name, %error, "a socket failed for a moment");
                sleep(AFTER_ERROR).await;
                continue;
            }
        }
        for datagram in inbox.datagrams() {
            port.take((datagram.source, datagram.sent_to), datagram.bytes);
        }
    }
}

/// Says that nothing is read any more, whichever way the reading ended.
struct Reading(Rc<Port>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.closing.notify_waiters();
    }
}

impl Port {
    fn take(self: &Rc<Self>, flow: Flow, bytes: &[u8]) {
        // A session may end, and leave the list, for what it is given.
        let known = self.sessions.borrow().get(&flow).cloned();
        if let Some(session) = known {
            return session.take(bytes);
        }
        if self.worker.is_draining() {
            return;
        }
        match self.admit(flow.0) {
            Ok(place) => {
                let session = Session::new(self.clone(), flow);
                session.take(bytes);
                self.sessions.borrow_mut().insert(flow, session.clone());
                spawn_local(by_turns(session.run(), place));
            }
            Err(full) => refuse(&self.worker, &self.front.name, &self.front.gate, full, flow.0),
        }
    }

    /// Whether there may be one session more.
    fn admit(&self, client: SocketAddr) -> Result<Place, Full> {
        let shared = &self.worker.shared;
        let mut limits = **shared.fronts.limits.load();
        let sessions = limits.udp_sessions;
        limits.connections = Some(limits.connections.map_or(sessions, |most| most.min(sessions)));
        let mut pass = self.front.gate.enter(&limits)?;
        if shared.is_full() {
            return Err(Full::Process);
        }
        if !shared.trusts(client) {
            pass.of_client(client.ip(), &limits)?;
        }
        Ok(Place { seat: shared.spread.seat_on(self.worker.number), pass })
    }

    /// Sends to a client, from the address that it talks to; `WouldBlock` when the socket has no room.
    pub(super) fn send(&self, bytes: &[u8], (client, from): Flow) -> io::Result<()> {
        let send = || send_one(self.socket.as_fd(), bytes, client, from);
        self.socket.try_io(Interest::WRITABLE, send).map(drop)
    }

    /// The same, as soon as there is room.
    pub(super) async fn send_later(&self, bytes: &[u8], flow: Flow) {
        while self.socket.writable().await.is_ok() {
            match self.send(bytes, flow) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // One that cannot be sent is lost, as any datagram may be.
                Ok(()) | Err(_) => return,
            }
        }
    }
}
