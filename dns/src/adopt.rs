//! DNS sockets of a process that this one takes over from, and duplicates of ours for the next one.
//!
//! Not here: how they come from one process to the other (the program's business), opening new ones (see `server::bind`).

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The two sockets of one listener, on their way from one process to another.
#[derive(Debug)]
pub struct ListenerSockets {
    /// As configured: port 0 finds what the system chose.
    pub configured: SocketAddr,
    /// For requests over UDP.
    pub udp: UdpSocket,
    /// For requests over TCP.
    pub tcp: TcpListener,
}

impl ListenerSockets {
    /// The same sockets once more.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        let Self { configured, udp, tcp } = self;
        Ok(Self { configured: *configured, udp: udp.try_clone()?, tcp: tcp.try_clone()? })
    }
}

/// What the DNS begins with.
#[derive(Debug)]
pub struct Adopted {
    /// Sockets of another process.
    pub sockets: Vec<ListenerSockets>,
    /// Nothing is answered before this is true.
    pub open: watch::Receiver<bool>,
}

impl Default for Adopted {
    /// Nothing, and at once.
    fn default() -> Self {
        Self { sockets: Vec::new(), open: watch::channel(true).1 }
    }
}

/// Each open listener once more, by its address as bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Duplicates(Arc<Mutex<BTreeMap<SocketAddr, ListenerSockets>>>);

impl Duplicates {
    pub(crate) fn add(&self, bound: SocketAddr, sockets: &ListenerSockets) {
        match sockets.duplicate() {
            Ok(duplicate) => drop(self.all().insert(bound, duplicate)),
            Err(error) => tracing::warn!(address = %bound, %error, "a DNS listener cannot be handed over"),
        }
    }

    pub(crate) fn retain(&self, stays: impl Fn(&SocketAddr) -> bool) {
        self.all().retain(|bound, _| stays(bound));
    }

    pub(crate) fn duplicate(&self) -> io::Result<Vec<ListenerSockets>> {
        self.all().values().map(ListenerSockets::duplicate).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, ListenerSockets>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
