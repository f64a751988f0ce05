//! One front port: its sockets, for all workers.
//!
//! Not here: which there are (see `fronts`), accepting (see `accept`).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairway_config::labels::BalancerProtocol;
use fairway_config::names::{FrontPort, RouteId};

use crate::gate::Gate;
use crate::listener::{BindError, bind, bind_udp, cannot_adopt};

/// One of its sockets.
#[derive(Debug)]
pub enum FrontSocket {
    /// For connections.
    Tcp(TcpListener),
    /// For datagrams.
    Udp(UdpSocket),
}

impl FrontSocket {
    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Udp(socket) => Self::Udp(socket.try_clone()?),
        })
    }

    /// Whether it is one of this port at this address.
    fn is_of(&self, port: FrontPort, address: SocketAddr) -> bool {
        let udp = matches!(self, Self::Udp(_));
        udp == (port.protocol == BalancerProtocol::Udp) && self.local_addr().is_ok_and(|own| own == address)
    }
}

/// One front port that is bound.
#[derive(Debug)]
pub(crate) struct Front {
    /// Where.
    pub(crate) port: FrontPort,
    /// Its route.
    pub(crate) route: RouteId,
    /// The route as printed, for logs and metrics.
    pub(crate) name: Arc<str>,
    /// Its connections.
    pub(crate) gate: Arc<Gate>,
    /// What each worker has not taken yet.
    sockets: Mutex<Vec<Vec<FrontSocket>>>,
    /// Each once more, for a process that takes over.
    spare: Mutex<Vec<FrontSocket>>,
    /// Another process has them.
    given: AtomicBool,
}

impl Front {
    /// Binds it at each of these addresses, once for each worker; those of another process that are among `adopted` are
    /// taken instead, all of them and no further ones: connections may wait in each.
    pub(super) fn bind(
        port: FrontPort,
        ips: &[IpAddr],
        workers: usize,
        adopted: &Mutex<Vec<FrontSocket>>,
    ) -> Result<Self, BindError> {
        let mut sockets: Vec<Vec<FrontSocket>> = (0..workers).map(|_| Vec::new()).collect();
        let mut spare = Vec::new();
        for ip in ips {
            let address = SocketAddr::new(*ip, port.port);
            let is_ours = |socket: &mut FrontSocket| socket.is_of(port, address);
            let taken: Vec<_> = locked(adopted).extract_if(.., is_ours).collect();
            let all = if taken.is_empty() { open(port, address, workers)? } else { taken };
            for (i, socket) in all.into_iter().enumerate() {
                spare.push(socket.try_clone().map_err(|error| cannot_adopt(address, error))?);
                sockets[i % workers].push(socket);
            }
        }
        let route = port.route();
        Ok(Self {
            port,
            name: route.to_string().into(),
            route,
            gate: Arc::default(),
            sockets: Mutex::new(sockets),
            spare: Mutex::new(spare),
            given: AtomicBool::new(false),
        })
    }

    /// Each of its sockets once more, for another process.
    pub(super) fn give(&self) -> io::Result<Vec<FrontSocket>> {
        self.given.store(true, Relaxed);
        locked(&self.spare).iter().map(FrontSocket::try_clone).collect()
    }

    /// Whether another process has its sockets, and what waits there.
    pub(super) fn is_given(&self) -> bool {
        self.given.load(Relaxed)
    }

    /// Nothing is kept for another process any more: the port is free as soon as the workers have closed theirs.
    pub(super) fn keep_no_spare(&self) {
        locked(&self.spare).clear();
    }

    /// It closes, for workers too that have not come for their sockets: a connection that is still open keeps the front.
    pub(super) fn close(&self) {
        self.keep_no_spare();
        locked(&self.sockets).clear();
    }

    /// The sockets of this worker, once.
    pub(super) fn take(&self, worker: usize) -> Vec<FrontSocket> {
        locked(&self.sockets).get_mut(worker).map(std::mem::take).unwrap_or_default()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(port: FrontPort, address: SocketAddr, workers: usize) -> Result<Vec<FrontSocket>, BindError> {
    Ok(match port.protocol {
        BalancerProtocol::Udp => bind_udp(address, workers)?.into_iter().map(FrontSocket::Udp).collect(),
        _ => bind(address, workers)?.1.into_iter().map(FrontSocket::Tcp).collect(),
    })
}
