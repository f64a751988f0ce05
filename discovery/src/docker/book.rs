//! What is known of one engine: containers and networks, kept right by events, inspect answers and lists.
//!
//! A pure state machine: it says what to ask ([`Ask`]) and is told what happened; it does no I/O and reads no clock.
//!
//! The order per container holds by sequence numbers. Every event counts up; a question remembers the count at which
//! it was asked. An answer is void when an event of the same container has come since: the question is asked again. An
//! entry of a list is void likewise. So a late answer never overwrites a newer event, and nothing an event said is
//! lost: what is asked after an event knows of it.
//!
//! Not here: sending the questions (see `session`), what an address is (see `address`, `unit`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::Problem;
use fairway_catalog::facts::{Network, Unit};
use fairway_config::labels::{Severity, shown};
use jiff::Timestamp;

use super::address::{self, Choice, Reach};
use super::container::{Container, Namespace, Phase, Restart};
use super::event::{Change, Event, What};
use super::signal::Signal;
use super::unit::{self, Place};

/// When a running container without an address is looked at again, beside events and the diff.
const ADDRESS_RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// When a container whose inspect failed is looked at again.
const UNREADABLE_RETRY: Duration = Duration::from_secs(2);
/// How many containers that look unchanged one diff inspects all the same, in turn.
const SPOT_CHECKS: usize = 100;
/// Longest chain of containers that share one's network.
const SHARED_NAMESPACES_MAX: usize = 4;
/// Most signals that are remembered of a container before its first inspect.
const EARLY_SIGNALS_MAX: usize = 16;
/// Most problems of containers that are not routed to.
const PROBLEMS_MAX: usize = 500;

/// A question to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Inspect this container: after an event before others.
    Inspect { id: Arc<str>, urgent: bool },
    /// Call [`Book::look_again`] after this long.
    InspectLater(Arc<str>, Duration),
    /// List the networks.
    Networks,
}

/// What an inspect gave.
#[derive(Debug)]
pub(super) enum Inspected {
    Found(Box<Container>),
    /// There is no such container.
    Absent,
    /// The engine failed at it; says how.
    Failed(String),
}

/// One line of a list of running containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) phase: Phase,
    /// Its addresses, ascending.
    pub(super) ips: Vec<IpAddr>,
    /// Whether its labels make it worth an inspect.
    pub(super) interesting: bool,
}

/// What is known of one engine.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Counts the events.
    clock: u64,
    /// When an event last touched a container; pruned by lists.
    touched: HashMap<Arc<str>, u64>,
    /// Inspects that are out, with the count at which they were asked.
    asked: HashMap<Arc<str>, u64>,
    /// Containers that are inspected for the first time.
    awaited: HashMap<Arc<str>, Awaited>,
    /// Those of the list that are not inspected yet.
    unsettled: HashSet<Arc<str>>,
    entries: BTreeMap<Arc<str>, Entry>,
    unreadable: BTreeMap<Arc<str>, Arc<str>>,
    networks: BTreeMap<Arc<str>, Arc<Network>>,
    networks_asked: Option<u64>,
    networks_touched: u64,
    /// The container we run in, if it is one of this engine.
    own: Option<Arc<str>>,
    /// The networks of that container.
    shared: BTreeSet<Arc<str>>,
    place: Place,
    units: BTreeMap<Arc<str>, Arc<Unit>>,
    /// Where the next diff's spot checks begin.
    next_spot: Option<Arc<str>>,
    /// Events whose effect needs an inspect first.
    pending_since: HashMap<Arc<str>, Timestamp>,
    changes: Changes,
}

/// What happened since the last look.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// Questions for the engine.
    pub(super) asks: Vec<Ask>,
    /// Whether what is told of the engine has changed.
    pub(super) changed: bool,
    /// When the events happened, by the engine's clock, whose effect is now told.
    pub(super) settled: Vec<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    container: Container,
    /// When its stop signal was seen in this life.
    stopping: Option<Timestamp>,
    /// A signal that Docker takes as the wish to stop it was sent in this life: no restart follows.
    stopped: bool,
    /// The last such signal: it may be of a life that no answer has shown yet.
    last_signal: Option<Sent>,
    /// How often it was looked at again for an address.
    address_retries: usize,
}

#[derive(Debug, Default)]
struct Awaited {
    /// Signals that came before the first answer, which tells what they mean.
    signals: Vec<Sent>,
}

/// A signal that was sent to a container.
#[derive(Debug, Clone, Copy)]
struct Sent {
    signal: Option<Signal>,
    /// When we learned of it, by our clock.
    seen: Timestamp,
    /// When it was sent, by the engine's clock.
    at: Option<Timestamp>,
}

impl Book {
    /// Nothing known yet.
    pub(super) fn new(place: Place) -> Self {
        Self { place, ..Self::default() }
    }

    /// A connection begins: where the engine is, and which container of it we run in. Everything is to be listed anew.
    pub(super) fn connected(&mut self, place: Place, own: Option<Container>) {
        self.asked.clear();
        self.awaited.clear();
        self.unsettled.clear();
        self.touched.clear();
        self.pending_since.clear();
        self.networks_asked = None;
        // What the last connection changed at its end was perhaps not told.
        self.changes = Changes { changed: true, ..Changes::default() };
        self.place = place;
        self.own = own.as_ref().map(|own| own.id.clone());
        if let Some(own) = own {
            self.enter(own, Vec::new());
        }
        self.refresh_shared();
        self.refresh_all();
        self.ask_networks();
    }

    /// The count for a list that is sent now.
    pub(super) fn now(&self) -> u64 {
        self.clock
    }

    /// Takes what happened since the last call.
    pub(super) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// The units, by id.
    pub(super) fn units(&self) -> &BTreeMap<Arc<str>, Arc<Unit>> {
        &self.units
    }

    /// The networks, by id.
    pub(super) fn networks(&self) -> &BTreeMap<Arc<str>, Arc<Network>> {
        &self.networks
    }

    /// Whether everything of the last list is known, and the networks are.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.is_empty() && self.networks_asked.is_none()
    }

    /// The labels' problems of containers that are not routed to, and containers that could not be read.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let unexposed = self.entries.values().map(|entry| &entry.container).filter(|container| {
            container.phase != Phase::Down && !container.is_exposed() && tells_problems(container)
        });
        let of_labels = unexposed.flat_map(|container| {
            container.label_problems.iter().map(|label| Problem::of_label(container.name.clone(), label))
        });
        let unreadable = self.unreadable.iter().map(|(id, error)| {
            let short = id.get(..12).unwrap_or(id);
            let text = format!("container {short} cannot be inspected: {}", shown(error));
            let remedy = "it is tried again; look at the engine's log";
            Problem::new("container-unreadable", Severity::Warning, short, text, remedy)
        });
        unreadable.chain(of_labels).take(PROBLEMS_MAX).collect()
    }

    /// An event came, at `now` by our clock.
    pub(super) fn event(&mut self, event: &Event, now: Timestamp) {
        self.clock += 1;
        match &event.what {
            What::NetworkMade => {
                self.networks_touched = self.clock;
                self.ask_networks();
            }
            What::NetworkGone(id) => {
                self.networks_touched = self.clock;
                self.settling(event.at, |book| book.forget_network(id));
            }
            What::Container(id, change) => {
                self.touched.insert(id.clone(), self.clock);
                self.settling(event.at, |book| book.container_event(id, change, event.at, now));
            }
        }
    }

    /// Does something that may change what is told, and if so notes that the event of that time has had its effect.
    fn settling(&mut self, at: Option<Timestamp>, act: impl FnOnce(&mut Self)) {
        let before = std::mem::take(&mut self.changes.changed);
        act(self);
        if self.changes.changed {
            self.changes.settled.extend(at);
        }
        self.changes.changed |= before;
    }

    fn container_event(&mut self, id: &Arc<str>, change: &Change, at: Option<Timestamp>, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(id) else {
            return self.event_of_unknown(id, change, at, now);
        };
        // An answer may be ahead of the events: one of an earlier life says nothing of this one.
        let is_old = at.is_some_and(|at| at < entry.container.started);
        let container = &mut entry.container;
        match change {
            Change::Started { .. } | Change::Connected | Change::Updated => {
                return self.want_after(id, at);
            }
            Change::Signalled(_)
            | Change::Died { .. }
            | Change::Stopped
            | Change::Paused
            | Change::Unpaused
                if is_old =>
            {
                return self.want_after(id, at);
            }
            Change::Signalled(signal) => {
                if !entry.signalled(Sent { signal: *signal, seen: now, at }) {
                    return;
                }
            }
            Change::Died { exit_code } if container.restarts_after(*exit_code) && !entry.stopped => {
                container.phase = Phase::Restarting;
                self.want_after(id, None);
            }
            Change::Died { .. } => {
                let may_return = container.restart != Restart::Never;
                self.leave(id);
                if may_return {
                    self.want_after(id, None);
                }
            }
            Change::Stopped | Change::Destroyed => self.leave(id),
            Change::Paused => container.phase = Phase::Paused,
            Change::Unpaused => container.phase = Phase::Running,
            Change::Renamed { name } => container.name = name.clone(),
            Change::Health(health) => container.health = Some(*health),
            Change::Disconnected(network) => {
                container.attachments.retain(|at| at.network != *network);
                self.want_after(id, None);
            }
        }
        self.refresh(id);
    }

    /// An event of a container that has no entry: it concerns us once it starts.
    fn event_of_unknown(&mut self, id: &Arc<str>, change: &Change, at: Option<Timestamp>, now: Timestamp) {
        match change {
            Change::Started { interesting } if *interesting || self.is_needed(id, "") => {
                self.want_after(id, at)
            }
            Change::Destroyed => {
                self.awaited.remove(id);
                self.unsettled.remove(id);
                self.leave(id);
            }
            Change::Signalled(signal) => {
                if let Some(awaited) = self.awaited.get_mut(id) {
                    awaited.signals.truncate(EARLY_SIGNALS_MAX - 1);
                    awaited.signals.push(Sent { signal: *signal, seen: now, at });
                }
            }
            _ => {}
        }
    }

    /// Looks at a container again, as asked by [`Ask::InspectLater`].
    pub(super) fn look_again(&mut self, id: &Arc<str>) {
        if self.entries.contains_key(id) || self.unreadable.contains_key(id) {
            self.want(id, true);
        }
    }

    /// An inspect of `id` was answered.
    pub(super) fn inspected(&mut self, id: &Arc<str>, answer: Inspected) {
        let Some(asked) = self.asked.remove(id) else { return };
        if self.is_touched_since(id, asked) {
            if self.entries.contains_key(id) || self.awaited.contains_key(id) {
                self.want(id, true);
            }
            return;
        }
        self.unsettled.remove(id);
        let since = self.pending_since.remove(id);
        self.settling(since, |book| book.take_in(id, answer));
    }

    fn take_in(&mut self, id: &Arc<str>, answer: Inspected) {
        let early = self.awaited.remove(id).unwrap_or_default().signals;
        match answer {
            Inspected::Found(container) if container.phase != Phase::Down && self.is_kept(&container) => {
                self.changes.changed |= self.unreadable.remove(id).is_some();
                let id = container.id.clone(); // it may have been asked by a name
                self.enter(*container, early);
                self.refresh(&id);
            }
            Inspected::Found(_) | Inspected::Absent => {
                self.leave(id);
                self.refresh(id);
            }
            Inspected::Failed(error) => {
                if self.unreadable.insert(id.clone(), error.as_str().into()).as_deref() != Some(&*error) {
                    self.changes.changed = true;
                }
                self.changes.asks.push(Ask::InspectLater(id.clone(), UNREADABLE_RETRY));
            }
        }
    }

    /// The running containers, by a list that was asked for at the count `asked`. A thorough one inspects all that are
    /// worth it; another what looks different, what is in an unusual state, and some of the rest in turn. Says whether
    /// something differed that no event had told.
    pub(super) fn listed(&mut self, asked: u64, list: &[Listed], thorough: bool) -> bool {
        let mut differed = false;
        let present: HashSet<&Arc<str>> = list.iter().map(|listed| &listed.id).collect();
        let absent = |id: &&Arc<str>| !present.contains(id) && !self.is_touched_since(id, asked);
        let gone: Vec<Arc<str>> = self.entries.keys().filter(absent).cloned().collect();
        for id in gone {
            differed = true;
            self.leave(&id);
            self.refresh(&id);
        }
        self.unreadable.retain(|id, _| present.contains(id));
        let spots = self.spot_checks();
        for listed in list {
            if self.is_touched_since(&listed.id, asked) {
                continue;
            }
            let differs = self.differs(listed);
            differed |= differs;
            let known = self.entries.get(&listed.id);
            let checked = |entry: &Entry| thorough || entry.is_unusual() || spots.contains(&listed.id);
            if differs || known.is_some_and(checked) {
                if thorough {
                    self.unsettled.insert(listed.id.clone());
                }
                self.want(&listed.id, false);
            }
        }
        self.ask_networks();
        self.prune();
        differed
    }

    /// Whether a line of a list is not what is known.
    fn differs(&self, listed: &Listed) -> bool {
        match self.entries.get(&listed.id) {
            Some(entry) => entry.differs(listed),
            None => {
                let is_asked =
                    self.awaited.contains_key(&listed.id) || self.unreadable.contains_key(&listed.id);
                !is_asked && (listed.interesting || self.is_needed(&listed.id, &listed.name))
            }
        }
    }

    /// Whether an event of the container came after the count `asked`.
    fn is_touched_since(&self, id: &str, asked: u64) -> bool {
        self.touched.get(id).is_some_and(|touched| *touched > asked)
    }

    /// The networks.
    pub(super) fn networks_listed(&mut self, networks: Vec<Network>) {
        let Some(asked) = self.networks_asked.take() else { return };
        if self.networks_touched > asked {
            return self.ask_networks();
        }
        let keep = |network: Network| {
            let id = network.id.clone();
            let old = self.networks.get(&id).filter(|old| ***old == network);
            (id, old.cloned().unwrap_or_else(|| Arc::new(network)))
        };
        let networks: BTreeMap<_, _> = networks.into_iter().map(keep).collect();
        if networks != self.networks {
            self.networks = networks;
            self.changes.changed = true;
            self.refresh_all();
        }
    }

    /// The address of containers in the host's network.
    pub(super) fn set_node_address(&mut self, address: Option<IpAddr>) {
        if self.place.address != address {
            self.place.address = address;
            self.refresh_all();
        }
    }

    /// The gateways of all bridge networks.
    pub(super) fn gateways(&self) -> BTreeSet<IpAddr> {
        self.networks.values().flat_map(|network| network.gateways.iter().copied()).collect()
    }

    /// A gateway of a network shared with us: this machine, as seen from our container.
    pub(super) fn shared_gateway(&self) -> Option<IpAddr> {
        let shared = self.shared.iter().filter_map(|id| self.networks.get(id));
        shared
            .filter(|network| &*network.driver == "bridge")
            .find_map(|network| network.gateways.first().copied())
    }

    /// Whether we run in a container of this engine that has a network of its own.
    pub(super) fn runs_in_container(&self) -> bool {
        self.own.is_some()
    }

    fn want_after(&mut self, id: &Arc<str>, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.pending_since.insert(id.clone(), at);
        }
        self.want(id, true);
    }

    /// Asks for an inspect, unless one is out: an event since then voids its answer, and it is asked again.
    fn want(&mut self, id: &Arc<str>, urgent: bool) {
        if !self.entries.contains_key(id) {
            self.awaited.entry(id.clone()).or_default();
        }
        if !self.asked.contains_key(id) {
            self.asked.insert(id.clone(), self.clock);
            self.changes.asks.push(Ask::Inspect { id: id.clone(), urgent });
        }
    }

    fn ask_networks(&mut self) {
        if self.networks_asked.is_none() {
            self.networks_asked = Some(self.clock);
            self.changes.asks.push(Ask::Networks);
        }
    }

    /// Whether a container is ours, or its network is used by another that is kept.
    fn is_needed(&self, id: &str, name: &str) -> bool {
        self.own.as_deref() == Some(id) || self.users_of(id, name).next().is_some()
    }

    fn is_kept(&self, container: &Container) -> bool {
        let needed = || self.is_needed(&container.id, &container.name);
        container.is_exposed() || tells_problems(container) || needed()
    }

    /// The containers that use the network namespace of the one with this id or name.
    fn users_of<'a>(&'a self, id: &'a str, name: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
        self.entries.iter().filter_map(move |(user, entry)| match &entry.container.namespace {
            Namespace::Container(of) if **of == *id || **of == *name => Some(user),
            _ => None,
        })
    }

    fn find(&self, reference: &str) -> Option<&Entry> {
        let by_name = || self.entries.values().find(|entry| *entry.container.name == *reference);
        self.entries.get(reference).or_else(by_name)
    }

    /// Takes in a container as inspected; what events said of this life stays.
    fn enter(&mut self, container: Container, early: Vec<Sent>) {
        let id = container.id.clone();
        let unknown = |at: &&super::address::Attachment| {
            !at.network.is_empty() && !self.networks.contains_key(&at.network)
        };
        let has_unknown_network = container.attachments.iter().any(|at| unknown(&at));
        let shares = match &container.namespace {
            Namespace::Container(of) if self.find(of).is_none() => Some(of.clone()),
            _ => None,
        };
        let mut entry = Entry::new(container);
        let started = entry.container.started;
        match self.entries.get(&id) {
            Some(old) if old.container.started == started => entry.go_on_from(old),
            Some(old) => {
                old.last_signal.filter(|sent| sent.at > Some(started)).into_iter().for_each(|sent| {
                    entry.signalled(sent);
                })
            }
            None => {
                early.into_iter().filter(|sent| sent.at.is_none_or(|at| at >= started)).for_each(|sent| {
                    entry.signalled(sent);
                })
            }
        }
        let awaits_address = entry.container.phase == Phase::Running
            && entry.container.namespace == Namespace::Own
            && entry.container.attachments.iter().all(|at| at.ip.is_none());
        if let Some(delay) = ADDRESS_RETRIES.get(entry.address_retries).filter(|_| awaits_address) {
            entry.address_retries += 1;
            self.changes.asks.push(Ask::InspectLater(id.clone(), *delay));
        }
        self.entries.insert(id.clone(), entry);
        if has_unknown_network {
            self.ask_networks();
        }
        if let Some(of) = shares {
            self.want(&of, true);
        }
    }

    fn forget_network(&mut self, id: &Arc<str>) {
        if self.networks.remove(id).is_some() {
            self.changes.changed = true;
            self.refresh_all();
        }
    }

    fn leave(&mut self, id: &Arc<str>) {
        self.changes.changed |= self.unreadable.remove(id).is_some();
        if let Some(entry) = self.entries.remove(id) {
            self.changes.changed |= !entry.container.is_exposed() && tells_problems(&entry.container);
        }
        self.pending_since.remove(id);
    }

    fn refresh_shared(&mut self) {
        let own = self.own.as_ref().and_then(|own| self.entries.get(own));
        let networks =
            own.iter().flat_map(|entry| entry.container.attachments.iter().map(|at| at.network.clone()));
        let shared: BTreeSet<Arc<str>> = networks.filter(|id| !id.is_empty()).collect();
        if shared != self.shared {
            self.shared = shared;
            self.refresh_all();
        }
    }

    fn refresh_all(&mut self) {
        let ids: BTreeSet<Arc<str>> = self.entries.keys().chain(self.units.keys()).cloned().collect();
        ids.iter().for_each(|id| self.refresh_one(id));
    }

    /// Makes the unit of a container anew, and of those that share its network.
    fn refresh(&mut self, id: &Arc<str>) {
        self.refresh_one(id);
        let name = self.entries.get(id).map(|entry| entry.container.name.clone()).unwrap_or_default();
        let users: Vec<Arc<str>> = self.users_of(id, &name).cloned().collect();
        users.iter().for_each(|user| self.refresh_one(user));
        if self.own.as_ref() == Some(id) {
            self.refresh_shared();
        }
    }

    fn refresh_one(&mut self, id: &Arc<str>) {
        let unit = self.entries.get(id).and_then(|entry| {
            let address = self.address_of(&entry.container, entry.container.spec.network.as_deref(), 0);
            unit::build(&entry.container, entry.stopping, address, &self.place)
        });
        match unit {
            None => self.changes.changed |= self.units.remove(id).is_some(),
            Some(unit) if self.units.get(id).is_some_and(|old| **old == unit) => {}
            Some(unit) => {
                self.units.insert(id.clone(), Arc::new(unit));
                self.changes.changed = true;
            }
        }
        let tells = |entry: &Entry| !entry.container.is_exposed() && tells_problems(&entry.container);
        self.changes.changed |= self.entries.get(id).is_some_and(tells);
    }

    fn address_of(&self, container: &Container, label: Option<&str>, depth: usize) -> Choice {
        let pending = |reason: String| Choice { reason: reason.into(), ..Choice::default() };
        match &container.namespace {
            Namespace::None => pending("it has no network: its network mode is none".to_owned()),
            Namespace::Host => match self.place.address {
                Some(ip) => {
                    let reason = "host network: the address of its node".into();
                    Choice { ip: Some(ip), reason, ..Choice::default() }
                }
                None => pending("host network: no address of its node is known but loopback".to_owned()),
            },
            Namespace::Own => {
                let reach = Reach { shared: &self.shared, networks: &self.networks };
                let project = container.origin.project.as_deref();
                address::choose(label, project, &container.attachments, reach)
            }
            Namespace::Container(of) => match self.find(of) {
                Some(other) if depth < SHARED_NAMESPACES_MAX => {
                    let choice = self.address_of(&other.container, label, depth + 1);
                    let reason =
                        format!("shares the network of {}: {}", other.container.name, choice.reason).into();
                    Choice { reason, ..choice }
                }
                _ => {
                    let short = of.get(..12).unwrap_or(of);
                    pending(format!("shares the network of container {short}, which does not run"))
                }
            },
        }
    }

    /// Some containers that look unchanged, another set at each diff.
    fn spot_checks(&mut self) -> HashSet<Arc<str>> {
        let start = self.next_spot.take();
        let from = start.as_deref().unwrap_or_default();
        let after = self.entries.keys().skip_while(|id| &***id < from);
        let before = self.entries.keys().take_while(|id| &***id < from);
        let mut turn = after.chain(before).cloned();
        let spots = turn.by_ref().take(SPOT_CHECKS).collect();
        self.next_spot = turn.next();
        spots
    }

    /// Forgets events that no answer still out can be older than.
    fn prune(&mut self) {
        let floor = self.asked.values().copied().min().unwrap_or(self.clock);
        self.touched.retain(|_, touched| *touched > floor);
    }
}

impl Entry {
    fn new(container: Container) -> Self {
        Self { container, stopping: None, stopped: false, last_signal: None, address_retries: 0 }
    }

    /// What events said of the life that `old` is of, too.
    fn go_on_from(&mut self, old: &Self) {
        (self.stopping, self.stopped, self.last_signal) = (old.stopping, old.stopped, old.last_signal);
        self.address_retries = old.address_retries;
    }

    /// A signal was sent to it. Says whether that shows.
    fn signalled(&mut self, sent: Sent) -> bool {
        let is_stop_signal = sent.signal == Some(self.container.stop_signal);
        if is_stop_signal || sent.signal == Some(Signal::KILL) {
            self.stopped = true;
            self.last_signal = Some(sent);
        }
        if is_stop_signal {
            self.stopping = Some(sent.seen);
        }
        is_stop_signal
    }

    fn differs(&self, listed: &Listed) -> bool {
        let mut ips: Vec<IpAddr> = self.container.attachments.iter().filter_map(|at| at.ip).collect();
        ips.sort_unstable();
        self.container.phase != listed.phase || self.container.name != listed.name || ips != listed.ips
    }

    /// Whether it is in a state that should not last, or has no address.
    fn is_unusual(&self) -> bool {
        let no_address = self.container.attachments.iter().all(|at| at.ip.is_none());
        self.stopping.is_some() || self.container.phase != Phase::Running || no_address
    }
}

/// Whether a container that is not routed to has problems to tell.
fn tells_problems(container: &Container) -> bool {
    let hidden = container.spec.enable == Some(false) || container.origin.one_off;
    !hidden && !container.label_problems.is_empty()
}

#[cfg(test)]
mod tests;
