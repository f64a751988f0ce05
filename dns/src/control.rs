//! Keeps the DNS in step: catalog and configuration to zone, networks to listeners, upstreams to forwarder, problems to
//! the inputs.
//!
//! One task. Not here: the sockets' work (see [`crate::server`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::config::file::{Dns, DnsListen};
use fairway_catalog::config::labels::Severity;
use fairway_catalog::{Catalog, InputsHandle, Problem};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::adopt::{Duplicates, ListenerSockets};
use crate::forward::upstreams::{self, RESOLV_CONF, Upstreams};
use crate::server::bind::{BindError, Sockets, adopt_or_bind};
use crate::server::under_way::All;
use crate::server::{Shared, tcp, udp};
use crate::zone::{Zone, ZoneConfig};

/// How often failed listeners are tried again, and the machine's resolv.conf is read.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What the task follows.
pub(crate) struct Followed {
    pub(crate) config: watch::Receiver<Arc<Dns>>,
    pub(crate) catalogs: watch::Receiver<Arc<Catalog>>,
    pub(crate) http: watch::Receiver<Vec<SocketAddr>>,
    /// Nothing is answered before this is true.
    pub(crate) open: watch::Receiver<bool>,
    /// Ends the task when it changes, or its sender is dropped: how long what is under way may take then.
    pub(crate) stop: watch::Receiver<Duration>,
}

/// Whom the task tells.
pub(crate) struct Told {
    pub(crate) inputs: InputsHandle,
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) addresses: watch::Sender<Vec<SocketAddr>>,
}

/// The task's state.
pub(crate) struct Control {
    followed: Followed,
    told: Told,
    shared: Arc<Shared>,
    listeners: Listeners,
    zone_problems: Vec<Problem>,
    upstreams: Option<Upstreams>,
    is_open: bool,
}

/// The zone for what is there now.
pub(crate) fn build_zone(followed: &mut Followed, before: Option<&Zone>) -> (Zone, Vec<Problem>) {
    let catalog = followed.catalogs.borrow_and_update().clone();
    let dns = followed.config.borrow_and_update().clone();
    let config = ZoneConfig {
        zones: dns.zones.clone(),
        max_addresses: dns.max_addresses,
        advertise: dns.advertise.clone(),
        http: followed.http.borrow_and_update().clone(),
    };
    Zone::build(&catalog, &config.into(), before)
}

impl Control {
    pub(crate) fn new(
        followed: Followed,
        told: Told,
        shared: Arc<Shared>,
        listeners: Listeners,
        zone_problems: Vec<Problem>,
    ) -> Self {
        Self { followed, told, shared, listeners, zone_problems, upstreams: None, is_open: false }
    }

    /// Ends with the stop, or when what it follows has ended. Its listeners end with it.
    pub(crate) async fn run(mut self) {
        let mut again = interval_at(Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.choose_upstreams();
        self.open();
        self.report();
        while self.step(&mut again).await {
            self.open();
            self.report();
        }
        let longest = *self.followed.stop.borrow();
        self.listeners.close(longest).await;
    }

    /// Begins to answer, as soon as it may.
    fn open(&mut self) {
        if !self.is_open && *self.followed.open.borrow_and_update() {
            self.is_open = true;
            let shared = self.shared.clone();
            self.listeners.serve(&shared);
            self.follow_networks();
            self.listeners.adopted.clear();
        }
    }

    /// Waits for one change and does what follows from it; false at the end.
    async fn step(&mut self, again: &mut Interval) -> bool {
        let followed = &mut self.followed;
        tokio::select! {
            _ = followed.stop.changed() => return false,
            Ok(()) = followed.open.changed(), if !self.is_open => {}
            changed = followed.catalogs.changed() => {
                if changed.is_err() {
                    return false;
                }
                self.rebuild();
                self.follow_networks();
            }
            Ok(()) = followed.config.changed() => {
                self.shared.missing.clear();
                self.rebuild();
                self.choose_upstreams();
            }
            Ok(()) = followed.http.changed() => {
                self.shared.missing.clear();
                self.rebuild();
            }
            _ = again.tick() => {
                self.listeners.forget_failures();
                self.follow_networks();
                self.choose_upstreams();
            }
            () = self.shared.missing.changed() => {}
            () = self.shared.forwarder.changed() => {}
        }
        true
    }

    fn rebuild(&mut self) {
        let before = self.shared.zone.load_full();
        let (zone, problems) = build_zone(&mut self.followed, Some(&before));
        let serial = zone.serial();
        self.shared.zone.store(Arc::new(zone));
        self.zone_problems = problems;
        self.told.applied.send_replace(serial);
    }

    fn follow_networks(&mut self) {
        if !self.is_open {
            return;
        }
        let wanted = default_addresses(&self.followed.catalogs.borrow(), self.listeners.default_port);
        self.listeners.follow(wanted, &self.shared);
        let addresses = self.listeners.addresses();
        if *self.told.addresses.borrow() != addresses {
            self.told.addresses.send_replace(addresses);
            // Another of them may be ourselves now.
            self.choose_upstreams();
        }
    }

    fn choose_upstreams(&mut self) {
        let configured = self.followed.config.borrow().upstreams.clone();
        let resolv_conf = match configured.as_slice() {
            // A few lines that are in memory: not worth a thread.
            [] => std::fs::read_to_string(RESOLV_CONF).unwrap_or_default(),
            _ => String::new(),
        };
        let local = if_addrs::get_if_addrs().unwrap_or_default();
        let local: Vec<IpAddr> = local.iter().map(if_addrs::Interface::ip).collect();
        let chosen = upstreams::choose(&configured, &resolv_conf, &self.listeners.addresses(), &local);
        let servers = self.upstreams.as_ref().map(|upstreams| &upstreams.servers);
        if servers != Some(&chosen.servers) {
            tracing::info!(servers = ?chosen.servers, "other names are forwarded");
            self.shared.forwarder.set_upstreams(&chosen.servers);
        }
        self.upstreams = Some(chosen);
    }

    fn report(&self) {
        let mut problems = self.zone_problems.clone();
        problems
            .extend(self.listeners.failed.iter().map(|(address, error)| listener_failed(*address, error)));
        problems.extend(self.upstreams.iter().flat_map(|upstreams| upstreams.problems.iter().cloned()));
        if let (true, Some(upstreams)) = (self.shared.forwarder.is_unanswered(), &self.upstreams) {
            problems.push(upstreams.unanswered());
        }
        let missing = self.shared.missing.of_late();
        problems.extend(missing.iter().map(|(arrived_on, client)| no_proxy_address(*arrived_on, *client)));
        self.told.inputs.report("dns", problems);
    }
}

fn listener_failed(address: SocketAddr, error: &BindError) -> Problem {
    let text = format!("cannot answer DNS on {address}: {}", error.cause());
    Problem::new("listener-failed", Severity::Warning, format!("dns {address}"), text, error.remedy())
        .at("dns.listen", address.to_string())
}

fn no_proxy_address(arrived_on: Option<IpAddr>, client: IpAddr) -> Problem {
    let asked = arrived_on.map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string());
    let text = format!(
        "clients that ask {asked}, such as {client}, get no address for routed names: no HTTP listener is bound where they could reach it"
    );
    let remedy = "bind an HTTP listener to that address or to all, or name the proxy's address for them in `dns.advertise`";
    Problem::new("dns-no-proxy-address", Severity::Error, format!("dns {asked}"), text, remedy)
        .at("dns.advertise", "")
}

/// Port 53 on loopback and on the gateway of each local bridge network.
fn default_addresses(catalog: &Catalog, port: u16) -> Vec<SocketAddr> {
    let bridges =
        catalog.networks.iter().filter(|network| &*network.driver == "bridge" && network.gateway_is_local);
    let gateways = bridges.flat_map(|network| network.gateways.iter().copied());
    let mut addresses: Vec<SocketAddr> = std::iter::once(Ipv4Addr::LOCALHOST.into())
        .chain(gateways)
        .map(|ip| SocketAddr::new(ip, port))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The listeners that are open, and those that could not be.
pub(crate) struct Listeners {
    /// Whether they follow the networks.
    follows: bool,
    /// What was wanted last.
    wanted: Vec<SocketAddr>,
    default_port: u16,
    /// Bound, not yet served.
    ready: Vec<Sockets>,
    /// Sockets of another process for listeners that are opened later.
    adopted: Vec<ListenerSockets>,
    duplicates: Duplicates,
    serving: BTreeMap<SocketAddr, JoinSet<()>>,
    under_way: All,
    failed: BTreeMap<SocketAddr, BindError>,
}

impl Listeners {
    /// Binds what is configured; fails with the first that cannot be bound. The defaults are bound later, by following.
    pub(crate) fn bind(
        listen: &DnsListen,
        default_port: u16,
        mut adopted: Vec<ListenerSockets>,
    ) -> Result<Self, BindError> {
        let (follows, configured) = match listen {
            DnsListen::Default => (true, &[][..]),
            DnsListen::Configured(addresses) => (false, &addresses[..]),
        };
        let beside_v4 = |address: &SocketAddr| {
            configured
                .iter()
                .any(|other| other.is_ipv4() && other.port() == address.port() && other.port() != 0)
        };
        let ready: Result<Vec<Sockets>, BindError> = configured
            .iter()
            .map(|address| adopt_or_bind(*address, address.is_ipv6() && beside_v4(address), &mut adopted))
            .collect();
        let (ready, duplicates) = (ready?, Duplicates::default());
        for sockets in &ready {
            duplicates.add(sockets.address, &sockets.sockets);
        }
        Ok(Self {
            follows,
            wanted: Vec::new(),
            default_port,
            ready,
            adopted,
            duplicates,
            serving: BTreeMap::new(),
            under_way: All::default(),
            failed: BTreeMap::new(),
        })
    }

    /// Those that are served, once more.
    pub(crate) fn duplicates(&self) -> Duplicates {
        self.duplicates.clone()
    }

    /// Where they answer, as bound.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.serving.keys().copied().chain(self.ready.iter().map(|sockets| sockets.address)).collect()
    }

    fn serve(&mut self, shared: &Arc<Shared>) {
        for sockets in std::mem::take(&mut self.ready) {
            self.start(sockets, shared);
        }
    }

    fn start(&mut self, sockets: Sockets, shared: &Arc<Shared>) {
        let Sockets { sockets, address } = sockets;
        let adopted = (|| {
            let udp = tokio::net::UdpSocket::from_std(sockets.udp)?;
            let tcp = tokio::net::TcpListener::from_std(sockets.tcp)?;
            Ok::<_, std::io::Error>((udp, tcp))
        })();
        match adopted {
            Ok((udp, tcp)) => {
                let mut tasks = JoinSet::new();
                tasks.spawn(udp::serve(udp, shared.clone(), self.under_way.one()));
                tasks.spawn(tcp::serve(tcp, shared.clone(), self.under_way.one()));
                self.serving.insert(address, tasks);
                tracing::debug!(%address, "dns answers");
            }
            Err(error) => tracing::error!(%address, %error, "a DNS socket cannot be used"),
        }
    }

    /// Opens what is wanted and not open, closes what is open and not wanted.
    fn follow(&mut self, wanted: Vec<SocketAddr>, shared: &Arc<Shared>) {
        if !self.follows {
            return;
        }
        if self.wanted != wanted {
            // The networks changed: what failed may work now.
            self.failed.clear();
        }
        self.serving.retain(|address, _| wanted.contains(address));
        self.duplicates.retain(|address| wanted.contains(address));
        self.failed.retain(|address, _| wanted.contains(address));
        self.wanted.clone_from(&wanted);
        for address in wanted {
            if self.serving.contains_key(&address) || self.failed.contains_key(&address) {
                continue;
            }
            match adopt_or_bind(address, false, &mut self.adopted) {
                Ok(sockets) => {
                    self.duplicates.add(sockets.address, &sockets.sockets);
                    self.start(sockets, shared);
                }
                Err(error) => {
                    tracing::warn!(%error, "a DNS listener is left out for now");
                    self.failed.insert(address, error);
                }
            }
        }
    }

    /// Takes no further requests, and waits until their sockets are closed: what is under way is answered, if it is so
    /// within this time.
    async fn close(mut self, longest: Duration) {
        self.duplicates.retain(|_| false);
        for tasks in self.serving.values_mut() {
            tasks.shutdown().await;
        }
        if !self.under_way.ended(longest).await {
            tracing::debug!("DNS requests under way are given up");
        }
    }

    /// So that the next following tries them again.
    fn forget_failures(&mut self) {
        self.failed.clear();
    }
}
