//! One front port: its sockets, for all workers.
//!
//! Not here: which there are (see `fronts`), accepting (see `accept`).

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use fairway_config::labels::BalancerProtocol;
use fairway_config::names::{FrontPort, RouteId};

use crate::gate::Gate;
use crate::listener::{BindError, bind, bind_udp};

/// One of its sockets.
#[derive(Debug)]
pub(crate) enum FrontSocket {
    /// For connections.
    Tcp(TcpListener),
    /// For datagrams.
    Udp(UdpSocket),
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
}

impl Front {
    /// Binds it at each of these addresses, once for each worker.
    pub(super) fn bind(port: FrontPort, ips: &[IpAddr], workers: usize) -> Result<Self, BindError> {
        let mut sockets: Vec<Vec<FrontSocket>> = (0..workers).map(|_| Vec::new()).collect();
        for ip in ips {
            let bound = open(port, SocketAddr::new(*ip, port.port), workers)?;
            for (of_worker, socket) in sockets.iter_mut().zip(bound) {
                of_worker.push(socket);
            }
        }
        let route = port.route();
        let name = route.to_string().into();
        Ok(Self { port, route, name, gate: Arc::default(), sockets: Mutex::new(sockets) })
    }

    /// The sockets of this worker, once.
    pub(super) fn take(&self, worker: usize) -> Vec<FrontSocket> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.get_mut(worker).map(std::mem::take).unwrap_or_default()
    }
}

fn open(port: FrontPort, address: SocketAddr, workers: usize) -> Result<Vec<FrontSocket>, BindError> {
    Ok(match port.protocol {
        BalancerProtocol::Udp => bind_udp(address, workers)?.into_iter().map(FrontSocket::Udp).collect(),
        _ => bind(address, workers)?.1.into_iter().map(FrontSocket::Tcp).collect(),
    })
}
