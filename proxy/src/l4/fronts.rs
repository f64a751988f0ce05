//! The front ports that are open: bound for all workers when the table has their route, closed when it no longer does.
//!
//! Not here: accepting (see `accept`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use fairway_config::file::Limits;
use fairway_config::labels::BalancerProtocol;
use fairway_config::names::FrontPort;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::port::{Front, FrontSocket};
use super::trouble::{FrontTrouble, is_local};
use crate::table::RouteTable;
use crate::worker::Worker;

/// How soon a port that could not be bound is tried again, at first; each time twice as late.
const RETRY: Duration = Duration::from_millis(250);

/// How late at most.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The front ports of all workers.
#[derive(Debug)]
pub(crate) struct Fronts {
    /// Where they listen.
    ips: Vec<IpAddr>,
    workers: usize,
    /// Of connections, as all listeners have them.
    pub(crate) limits: ArcSwap<Limits>,
    /// Connections start with a PROXY header.
    pub(crate) proxy_protocol: AtomicBool,
    open: watch::Sender<Arc<Open>>,
    troubles: watch::Sender<Arc<[FrontTrouble]>>,
    /// Sockets of a process that is taken over from, until the first settled table.
    adopted: Arc<Mutex<Vec<FrontSocket>>>,
}

/// Each with what is bound for it.
type Open = BTreeMap<FrontPort, Arc<Front>>;

/// A port that could not be bound.
struct Failing {
    again: Instant,
    delay: Duration,
    trouble: FrontTrouble,
}

impl Fronts {
    /// None yet. They will listen where the `listeners` do: who keeps those to some addresses means it.
    pub(crate) fn new(
        listeners: impl IntoIterator<Item = IpAddr>,
        workers: usize,
        limits: Limits,
        adopted: Vec<FrontSocket>,
    ) -> Self {
        Self {
            ips: distinct(listeners),
            workers,
            limits: ArcSwap::from_pointee(limits),
            proxy_protocol: AtomicBool::new(false),
            open: watch::Sender::default(),
            troubles: watch::Sender::new([].into()),
            adopted: Arc::new(Mutex::new(adopted)),
        }
    }

    /// The sockets of all that are open once more, for another process, which takes what waits there.
    pub(crate) fn give(&self) -> io::Result<Vec<FrontSocket>> {
        let open = self.open.borrow().clone();
        let given: io::Result<Vec<_>> = open.values().map(|front| front.give()).collect();
        Ok(given?.into_iter().flatten().collect())
    }

    /// The process stops: nothing is kept for another one any more.
    pub(crate) fn close(&self) {
        self.open.borrow().values().for_each(|front| front.keep_no_spare());
    }

    /// Those that are open.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Open>> {
        self.open.subscribe()
    }

    /// What is wrong with them.
    pub(crate) fn troubles(&self) -> watch::Receiver<Arc<[FrontTrouble]>> {
        self.troubles.subscribe()
    }

    /// Whether somebody who goes there from here comes to an open front port.
    pub(crate) fn is_ours(&self, address: SocketAddr, protocol: BalancerProtocol) -> bool {
        let udp = |protocol| protocol == BalancerProtocol::Udp;
        let same = |open: &FrontPort| open.port == address.port() && udp(open.protocol) == udp(protocol);
        if !self.open.borrow().keys().any(same) {
            return false;
        }
        let ip = address.ip().to_canonical();
        let listens = |own: &IpAddr| match own {
            own if !own.is_unspecified() => own.to_canonical() == ip,
            IpAddr::V4(_) => ip.is_ipv4(),
            IpAddr::V6(_) => true,
        };
        ip.is_unspecified() || (self.ips.iter().any(listens) && is_local(ip))
    }

    /// Opens and closes what the table says.
    async fn become_as(&self, table: &RouteTable, failing: &mut BTreeMap<FrontPort, Failing>) {
        let wanted: BTreeSet<FrontPort> =
            table.entries().iter().filter_map(|entry| entry.route.id.front_port()).collect();
        failing.retain(|port, _| wanted.contains(port));
        let before = self.open.borrow().clone();
        let mut open: Open = before
            .iter()
            .filter(|(port, _)| wanted.contains(port))
            .map(|(port, front)| (*port, front.clone()))
            .collect();
        for port in wanted {
            let waits = failing.get(&port).is_some_and(|failing| Instant::now() < failing.again);
            if waits || open.contains_key(&port) {
                continue;
            }
            let (ips, workers, adopted) = (self.ips.clone(), self.workers, self.adopted.clone());
            // Off the worker: who holds a port that is taken is looked up in all of /proc.
            match spawn_blocking(move || Front::bind(port, &ips, workers, &adopted)).await {
                Ok(Ok(front)) => {
                    tracing::info!(front = %front.name, "a front port is open");
                    failing.remove(&port);
                    open.insert(port, Arc::new(front));
                }
                Ok(Err(error)) => {
                    let delay = failing.get(&port).map_or(RETRY, |last| (last.delay * 2).min(RETRY_MAX));
                    let trouble = FrontTrouble::not_open(port, &error);
                    failing.insert(port, Failing { again: Instant::now() + delay, delay, trouble });
                }
                // A panic in it has been reported; the next table tries again.
                Err(_) => {}
            }
        }
        for (_, front) in before.iter().filter(|(port, _)| !open.contains_key(port)) {
            tracing::info!(front = %front.name, "a front port is closed");
            front.close();
        }
        if table.settled {
            // Nobody claims those that are left.
            self.adopted.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let same = |a: &Open| a.len() == open.len() && a.keys().eq(open.keys());
        if !same(&before) {
            self.open.send_replace(Arc::new(open));
        }
    }

    /// Tells what is wrong, if it is something new.
    fn tell(&self, table: &RouteTable, failing: &BTreeMap<FrontPort, Failing>) {
        let mut all: Vec<FrontTrouble> = failing.values().map(|failing| failing.trouble.clone()).collect();
        for entry in table.entries() {
            let Some(front) = entry.route.id.front_port() else { continue };
            let own = entry.endpoints().filter(|at| self.is_ours(at.address, front.protocol));
            all.extend(own.map(|endpoint| FrontTrouble::own(front, endpoint)));
        }
        self.troubles.send_if_modified(|told| {
            let new = **told != *all;
            if new {
                *told = all.into();
            }
            new
        });
    }
}

/// Opens and closes front ports as the tables come, for all workers; never ends by itself. One worker does this.
pub(crate) async fn follow(worker: Rc<Worker>) {
    let mut applied = worker.handle.applied();
    let mut failing = BTreeMap::new();
    loop {
        applied.mark_unchanged();
        let table = worker.handle.load();
        let fronts = &worker.shared.fronts;
        fronts.become_as(&table, &mut failing).await;
        fronts.tell(&table, &failing);
        drop(table);
        let first = failing.values().map(|failing| failing.again).min();
        let again = async {
            match first {
                Some(first) => sleep_until(first).await,
                None => std::future::pending().await,
            }
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
