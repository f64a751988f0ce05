//! The front ports that are open: bound for all workers when the table has their route, closed when it no longer does.
//!
//! Not here: accepting (see `accept`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use fairway_config::file::Limits;
use fairway_config::names::RouteId;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::gate::Gate;
use crate::listener::{BindError, bind};
use crate::table::RouteTable;
use crate::worker::Worker;

/// How soon a port that could not be bound is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The front ports of all workers.
#[derive(Debug)]
pub(crate) struct Fronts {
    /// Where they listen.
    ips: Vec<IpAddr>,
    workers: usize,
    /// Of connections, as all listeners have them.
    pub(crate) limits: ArcSwap<Limits>,
    open: watch::Sender<Arc<Open>>,
}

/// By port.
type Open = BTreeMap<u16, Arc<Front>>;

/// One front port that is bound.
#[derive(Debug)]
pub(crate) struct Front {
    /// Its route.
    pub(crate) route: RouteId,
    /// The route as printed, for logs and metrics.
    pub(crate) name: Arc<str>,
    /// Its connections.
    pub(crate) gate: Arc<Gate>,
    /// What each worker has not taken yet.
    sockets: Mutex<Vec<Vec<TcpListener>>>,
}

impl Front {
    /// The sockets of this worker, once.
    pub(crate) fn take(&self, worker: usize) -> Vec<TcpListener> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.get_mut(worker).map(std::mem::take).unwrap_or_default()
    }

    fn bind(route: RouteId, port: u16, ips: &[IpAddr], workers: usize) -> Result<Self, BindError> {
        let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for ip in ips {
            let (_, bound) = bind(SocketAddr::new(*ip, port), workers)?;
            for (of_worker, socket) in sockets.iter_mut().zip(bound) {
                of_worker.push(socket);
            }
        }
        let name = route.to_string().into();
        Ok(Self { route, name, gate: Arc::default(), sockets: Mutex::new(sockets) })
    }
}

impl Fronts {
    /// None yet. They will listen where the `listeners` do: who keeps those to some addresses means it.
    pub(crate) fn new(listeners: impl IntoIterator<Item = IpAddr>, workers: usize, limits: Limits) -> Self {
        let open = watch::Sender::new(Arc::default());
        Self { ips: distinct(listeners), workers, limits: ArcSwap::from_pointee(limits), open }
    }

    /// Those that are open.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Open>> {
        self.open.subscribe()
    }

    /// Opens and closes what the table says; gives what could not be opened.
    async fn become_as(&self, table: &RouteTable) -> Vec<(u16, BindError)> {
        let wanted: BTreeMap<u16, &RouteId> = table
            .entries()
            .iter()
            .filter_map(|entry| Some((entry.route.id.tcp_port()?, &entry.route.id)))
            .collect();
        let before = self.open.borrow().clone();
        let mut open: Open = before
            .iter()
            .filter(|(port, _)| wanted.contains_key(port))
            .map(|(p, f)| (*p, f.clone()))
            .collect();
        let mut failed = Vec::new();
        for (port, route) in wanted {
            if open.contains_key(&port) {
                continue;
            }
            let (route, ips, workers) = (route.clone(), self.ips.clone(), self.workers);
            // Off the worker: who holds a port that is taken is looked up in all of /proc.
            match spawn_blocking(move || Front::bind(route, port, &ips, workers)).await {
                Ok(Ok(front)) => {
                    tracing::info!(front = %front.name, "a front port is open");
                    open.insert(port, Arc::new(front));
                }
                Ok(Err(error)) => failed.push((port, error)),
                // A panic in it has been reported; the next table tries again.
                Err(_) => {}
            }
        }
        for (_, front) in before.iter().filter(|(port, _)| !open.contains_key(port)) {
            tracing::info!(front = %front.name, "a front port is closed");
        }
        let same = |a: &Open| a.len() == open.len() && a.keys().eq(open.keys());
        if !same(&before) {
            self.open.send_replace(Arc::new(open));
        }
        failed
    }
}

/// Opens and closes front ports as the tables come, for all workers; never ends by itself. One worker does this.
pub(crate) async fn follow(worker: Rc<Worker>) {
    let mut applied = worker.handle.applied();
    let mut told: BTreeMap<u16, String> = BTreeMap::new();
    loop {
        applied.mark_unchanged();
        let failed = worker.shared.fronts.become_as(&worker.handle.load()).await;
        told.retain(|port, _| failed.iter().any(|(other, _)| port == other));
        for (port, error) in &failed {
            let text = error.to_string();
            if told.get(port) != Some(&text) {
                tracing::warn!(front = %RouteId::tcp(*port), error = %text, "a front port cannot be opened; it is tried again");
                told.insert(*port, text);
            }
        }
        let again = async {
            if failed.is_empty() {
                std::future::pending::<()>().await;
            }
            sleep(RETRY).await;
        };
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

/// Each once; an unspecified address stands for all others of its family, that of IPv6 for those of IPv4, too.
fn distinct(listeners: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let all: BTreeSet<IpAddr> = listeners.into_iter().collect();
    let has =
        |unspecified: &dyn Fn(&IpAddr) -> bool| all.iter().any(|ip| ip.is_unspecified() && unspecified(ip));
    let (any_v4, any_v6) = (has(&IpAddr::is_ipv4), has(&IpAddr::is_ipv6));
    let covered = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => any_v6 || (any_v4 && !v4.is_unspecified()),
        IpAddr::V6(v6) => any_v6 && !v6.is_unspecified(),
    };
    let ips: Vec<IpAddr> = all.iter().filter(|ip| !covered(ip)).copied().collect();
    if ips.is_empty() { vec![Ipv4Addr::UNSPECIFIED.into()] } else { ips }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_covers_the_others() {
        let of = |texts: &[&str]| {
            let ips = distinct(texts.iter().map(|text| text.parse().expect("an address")));
            ips.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), ["0.0.0.0"]);
        assert_eq!(of(&["127.0.0.1", "127.0.0.1"]), ["127.0.0.1"]);
        assert_eq!(of(&["10.0.0.1", "0.0.0.0", "::1"]), ["0.0.0.0", "::1"]);
        assert_eq!(of(&["10.0.0.1", "0.0.0.0", "::1", "::"]), ["::"]);
    }
}
