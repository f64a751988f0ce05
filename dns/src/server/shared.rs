//! What all listeners share: the zone that is live, the way to the upstreams, counts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fastrand::Rng;
use tokio::sync::Notify;

use super::limit::ReplyLimit;
use crate::answer::{self, Action, Asked, Forward, Reply, TallyZone, Transport};
use crate::forward::Forwarder;
use crate::metrics::Metrics;
use crate::zone::Zone;

/// Networks remembered for which the proxy has no address.
const MISSING_MAX: usize = 16;
/// How long such a network is remembered after its last question.
const MISSING_FOR: Duration = Duration::from_secs(300);

/// What all listeners share.
pub(crate) struct Shared {
    pub(crate) zone: ArcSwap<Zone>,
    pub(crate) forwarder: Forwarder,
    pub(crate) metrics: Metrics,
    pub(crate) limit: ReplyLimit,
    pub(crate) missing: Missing,
}

/// What a listener does with a request.
pub(crate) enum Handled {
    Send(Vec<u8>),
    /// Await [`Shared::forward`], then send.
    Forward(Box<Forward>, Instant),
    Nothing,
}

impl Shared {
    /// One request, answered from the zone that is live now.
    pub(crate) fn handle(
        &self,
        source: SocketAddr,
        arrived_on: Option<IpAddr>,
        transport: Transport,
        bytes: &[u8],
        rng: &mut Rng,
    ) -> Handled {
        let start = Instant::now();
        let zone = self.zone.load();
        let asked = Asked { source, arrived_on, transport, route_to: &route_to };
        // A bug in one answer must not end the listener.
        let action = catch_unwind(AssertUnwindSafe(|| answer::answer(&zone, &asked, bytes, rng)));
        match action {
            Ok(Action::Reply(reply)) => self.reply(reply, source, arrived_on, start),
            Ok(Action::Forward(forward)) => Handled::Forward(forward, start),
            Ok(Action::Drop) => Handled::Nothing,
            Err(_) => {
                tracing::error!(%source, "a DNS request made the answer panic; it is dropped");
                Handled::Nothing
            }
        }
    }

    /// The reply to a question about another name.
    pub(crate) async fn forward(&self, forward: &Forward, start: Instant) -> Vec<u8> {
        let upstream = self.forwarder.lookup(&forward.query).await;
        let Reply { bytes, tally, .. } = forward.reply(&upstream);
        self.metrics.count(&tally, start.elapsed());
        bytes
    }

    fn reply(&self, reply: Reply, source: SocketAddr, arrived_on: Option<IpAddr>, start: Instant) -> Handled {
        self.metrics.count(&reply.tally, start.elapsed());
        if reply.tally.zone == TallyZone::Refused && !self.may_be_refused(source.ip()) {
            return Handled::Nothing;
        }
        if reply.without_proxy_address {
            self.missing.add(arrived_on, source.ip());
        }
        Handled::Send(reply.bytes)
    }

    /// Strangers get few replies, so that nobody is flooded by us in their name.
    fn may_be_refused(&self, source: IpAddr) -> bool {
        self.zone.load().is_internal(source) || self.limit.allows(source, Instant::now())
    }
}

/// The local address that packets to this client leave from: what the kernel gives a connected socket. Nothing is sent.
fn route_to(client: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match client {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((client, 53)).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

/// Clients that asked for a routed name while no address of the proxy could be told them, by the address they asked.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    seen: Mutex<BTreeMap<Option<IpAddr>, (IpAddr, Instant)>>,
    /// There are any: spares the lock where there are none.
    any: AtomicBool,
    changed: Notify,
}

impl Missing {
    fn add(&self, arrived_on: Option<IpAddr>, client: IpAddr) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MISSING_MAX && !seen.contains_key(&arrived_on) {
            return;
        }
        let client = seen.get(&arrived_on).map_or(client, |(first, _)| *first);
        if seen.insert(arrived_on, (client, Instant::now())).is_none() {
            self.any.store(true, Ordering::Relaxed);
            self.changed.notify_one();
        }
    }

    /// Waits for another one.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Those seen of late: the address asked, and a client.
    pub(crate) fn of_late(&self) -> Vec<(Option<IpAddr>, IpAddr)> {
        if !self.any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, (_, last)| last.elapsed() < MISSING_FOR);
        self.any.store(!seen.is_empty(), Ordering::Relaxed);
        seen.iter().map(|(arrived_on, (client, _))| (*arrived_on, *client)).collect()
    }

    /// Forgets all: listeners or settings changed.
    pub(crate) fn clear(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.any.store(false, Ordering::Relaxed);
    }
}
