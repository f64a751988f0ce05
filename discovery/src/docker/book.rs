//! What is known of one engine: containers and networks, kept right by events, inspect answers and lists.
//!
//! A pure state machine: it says what to ask ([`Ask`]) and is told what happened; it does no I/O and reads no clock.
//!
//! The order per container holds by sequence numbers. Every event counts up; a question remembers the count at which
//! it was asked. An answer is void when an event of the same container has come since: the question is asked again. An
//! entry of a list is void likewise. So a late answer never overwrites a newer event, and nothing an event said is
//! lost: what is asked after an event knows of it.
//!
//! Here: what there is, and what is asked. `events` and `answers` change it, `tell` makes the units, `entry` is one
//! container.
//!
//! Not here: sending the questions (see `session`), what an address is (see `address`, `unit`).

mod answers;
mod entry;
mod events;
mod tell;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::Problem;
use fairway_catalog::facts::{Network, Unit};
use fairway_config::labels::{Severity, shown};
use jiff::{SignedDuration, Timestamp};

use self::entry::{Awaited, Entry, Sent};
use super::container::{self, Container, Namespace, Phase};
use super::event::{Change, Event, What};
use super::raw;
use super::unit::Place;

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
    /// Why the engine does not tell its networks.
    networks_hidden: Option<Arc<str>>,
    /// The container we run in, if it is one of this engine.
    own: Option<Arc<str>>,
    /// The networks of that container.
    shared: BTreeSet<Arc<str>>,
    place: Place,
    units: BTreeMap<Arc<str>, Arc<Unit>>,
    /// Where the next diff's spot checks begin.
    next_spot: Option<Arc<str>>,
    /// Signals that were sent before we were there, by container: an inspect does not tell of them.
    past: HashMap<Arc<str>, Vec<Sent>>,
    /// When the connection began, by the engine's clock.
    began: Timestamp,
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

impl Listed {
    /// Reads an item of a list; `None` without an id, and for what neither runs nor is about to.
    pub(super) fn read(summary: raw::Summary) -> Option<Self> {
        let names = summary.names.unwrap_or_default();
        // A link adds `/other/alias`; the container's own name has one slash.
        let own_name = names.iter().find(|name| name.matches('/').count() <= 1).or(names.first());
        let endpoints = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let mut ips: Vec<IpAddr> = container::attachments(endpoints).iter().filter_map(|at| at.ip).collect();
        ips.sort_unstable();
        let phase = Phase::of_word(summary.state.as_deref().unwrap_or_default());
        Some(Self {
            id: summary.id.filter(|id| container::is_reference(id) && phase != Phase::Down)?.into(),
            name: container::plain_name(own_name.map(String::as_str).unwrap_or_default()),
            phase,
            ips,
            interesting: container::is_interesting(&summary.labels.unwrap_or_default()),
        })
    }
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
        self.unreadable.clear(); // whoever was to look again has gone with the last connection
        self.touched.clear();
        self.past.clear();
        self.pending_since.clear();
        self.networks_asked = None;
        // What the last connection changed at its end was perhaps not told.
        self.changes = Changes { changed: true, ..Changes::default() };
        // Until the address of containers in the host's network is found again, the last one holds.
        self.place = Place { address: place.address.or(self.place.address), ..place };
        self.own = own.as_ref().map(|own| own.id.clone());
        if let Some(own) = own {
            self.enter(own, Vec::new());
        }
        self.refresh_shared();
        self.refresh_all();
        self.ask_networks();
    }

    /// These signals were sent before the connection began, which was at `began` by the engine's clock, `now` by ours.
    pub(super) fn heard(&mut self, signals: &[Event], began: Timestamp, now: Timestamp) {
        self.past.clear();
        self.began = began;
        for Event { at, what } in signals {
            let (Some(at), What::Container(id, Change::Signalled(signal))) = (*at, what) else { continue };
            let ago = began.duration_since(at).max(SignedDuration::ZERO);
            let seen = now.saturating_sub(ago).unwrap_or(now);
            self.past.entry(id.clone()).or_default().push(Sent { signal: *signal, seen, at: Some(at) });
        }
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
        let hidden = self.networks_hidden.iter().map(|why| {
            let text = format!("the engine does not tell its networks: {why}");
            let remedy =
                "allow GET /networks in the filter in front of it; addresses are chosen without until then";
            Problem::new("networks-hidden", Severity::Warning, "networks", text, remedy)
        });
        hidden.chain(unreadable).chain(of_labels).take(PROBLEMS_MAX).collect()
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
}

/// Whether a container that is not routed to has problems to tell.
fn tells_problems(container: &Container) -> bool {
    let hidden = container.spec.enable == Some(false) || container.origin.one_off;
    !hidden && !container.label_problems.is_empty()
}

#[cfg(test)]
mod tests;
