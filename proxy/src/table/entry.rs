//! One route, ready to be drawn from: its versions with their instances, sorted by whether they serve.
//!
//! Kept from table to table as long as the catalog keeps the route. Not here: the choice itself (see `pick`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairway_catalog::{Backend, Condition, Instance, InstanceKey, Member, Route, State};
use fairway_config::labels::{Balance, Transport};
use fairway_config::names::{Percent, Weight};
use jiff::Timestamp;

use super::Lasting;
use crate::endpoint::{Endpoint, EndpointState, Newness, Told, UpstreamSettings};
use crate::features::Features;
use crate::metrics::{BackendSeries, Series};
use crate::outlier::{Peers, SLOW_START};
use crate::pick::Pick;
use crate::pick::balance::{Turn, Weights};
use crate::pick::budget::RetryBudget;
use crate::pick::lots::Lots;
use crate::pick::ring::Seats;
use crate::queue::RouteQueue;
use crate::sticky::Sticky;

/// One route of a table.
#[derive(Debug)]
pub struct RouteEntry {
    /// What the catalog says of it.
    pub route: Arc<Route>,
    /// Its name as printed, for logs and metrics.
    pub name: Arc<str>,
    /// For requests of it that reach no backend.
    pub series: Arc<Series>,
    /// How many retries its requests may still cause; outlives the entry.
    pub(crate) budget: Arc<RetryBudget>,
    /// Who waits for a place at its instances; outlives the entry.
    pub(crate) queue: Arc<RouteQueue>,
    pub(crate) versions: Box<[Arc<Version>]>,
    /// What is drawn from while no instance has failed the request.
    pub(crate) lots: Lots,
    /// What else is done with its requests and answers; mostly nothing.
    pub(crate) features: Option<Arc<Features>>,
    /// Some version has match rules.
    pub(crate) has_rules: bool,
    /// How its clients are bound, if they are; boxed, for most routes bind nobody.
    pub(crate) sticky: Option<Box<Sticky>>,
    /// Which version gets copies of its requests; mostly none.
    pub(crate) mirror: Option<Mirror>,
}

/// The version that gets copies of a route's requests, and of how many.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) version: Arc<Version>,
    pub(crate) percent: Percent,
}

/// One backend within one route.
#[derive(Debug)]
pub struct Version {
    /// What the catalog says of the backend, its instances of other routes too.
    pub backend: Arc<Backend>,
    /// Its name as printed, for logs and metrics.
    pub name: Arc<str>,
    /// How requests of the route travel to its instances, as labels and the API say it.
    pub transport: Arc<Transport>,
    /// The same, with the defaults filled in.
    pub settings: Arc<UpstreamSettings>,
    /// Its weight; `None` when the route has no split.
    pub weight: Option<Weight>,
    /// Its weight is a 0 that a split says in writing: no new client, ever.
    pub promised_zero: bool,
    /// For requests of the route that went to it.
    pub series: Arc<Series>,
    /// For what happens on the way to it, whatever the route.
    pub upstream: Arc<BackendSeries>,
    /// Whose turn it is; outlives the entry.
    pub(crate) turn: Arc<Turn>,
    /// The instances that have an address: first those that serve new clients, then those that serve bound ones alone, then
    /// the stopping ones, then the others; of each kind those of our zone first.
    endpoints: Box<[Arc<Endpoint>]>,
    serving: usize,
    draining: usize,
    stopping: usize,
    /// With whom its instances are compared; mostly one.
    pub(crate) peers: Box<[Arc<Peers>]>,
    /// `None`: all its instances have the same weight.
    pub(crate) weights: Option<Weights>,
    /// Where clients belong, if its balance binds them.
    pub(crate) seats: Option<Seats>,
    /// Until when one of its instances is new.
    new_until: Option<Instant>,
    /// Some of those that serve are in our zone, and others are not.
    pub(crate) zoned: bool,
    /// Instances that would serve if nothing were wrong with them: those that serve, ejected and unhealthy ones.
    pub(crate) wanted: usize,
    /// Those of them that are in our zone.
    pub(crate) wanted_here: usize,
}

/// When and where a table is built.
pub(super) struct Moment<'a> {
    /// When the catalog was.
    pub(super) at: Timestamp,
    pub(super) now: Instant,
    /// Our zone, empty for none.
    pub(super) zone: &'a str,
}

impl Moment<'_> {
    /// Whether the instance is in our zone.
    fn is_here(&self, instance: &Instance) -> bool {
        !self.zone.is_empty() && *instance.unit.zone == *self.zone
    }
}

impl RouteEntry {
    pub(super) fn new(
        route: &Arc<Route>,
        before: Option<&Self>,
        lasting: &Lasting,
        moment: &Moment<'_>,
    ) -> Self {
        let name = before.map_or_else(|| route.id.to_string().into(), |before| before.name.clone());
        let version = |member: &Member| {
            let old = before.and_then(|before| before.version_of(member));
            Arc::new(Version::new(member, old, &name, lasting, moment))
        };
        let versions: Box<[_]> = route.members.iter().map(version).collect();
        Self {
            route: route.clone(),
            series: match before {
                Some(before) => before.series.clone(),
                None => lasting.metrics.series(&name, &"".into()),
            },
            features: Features::compile(route, before.and_then(|before| before.features.as_ref())),
            budget: before.map_or_else(Arc::default, |before| before.budget.clone()),
            queue: before.map_or_else(Arc::default, |before| before.queue.clone()),
            lots: Lots::new(&versions, |_| true),
            sticky: Sticky::of(route, &name, &lasting.sticky).map(Box::new),
            mirror: route.mirror.as_ref().and_then(|mirror| {
                let version = versions.iter().find(|version| version.backend.id == mirror.to)?;
                Some(Mirror { version: version.clone(), percent: mirror.percent })
            }),
            has_rules: versions.iter().any(|version| !version.backend.transport.matches.is_empty()),
            versions,
            name,
        }
    }

    fn version_of(&self, member: &Member) -> Option<&Version> {
        self.versions.iter().find(|version| version.backend.id == member.backend.id).map(|version| &**version)
    }

    /// Whether not everybody is served.
    pub(crate) fn is_guarded(&self) -> bool {
        self.features.as_ref().is_some_and(|features| features.allow.is_some() || features.auth.is_some())
    }

    /// Whether connections of this client are not passed on (`fairway.allow`); requests have more to meet.
    pub(crate) fn refuses(&self, client: IpAddr) -> bool {
        let allow = self.features.as_ref().and_then(|features| features.allow.as_ref());
        allow.is_some_and(|list| !list.contains(client))
    }

    /// Its versions by name.
    pub fn versions(&self) -> &[Arc<Version>] {
        &self.versions
    }

    /// Whether new clients may be sent anywhere, the last resorts aside.
    pub(crate) fn has_serving(&self) -> bool {
        self.versions.iter().any(|version| !version.serving().is_empty())
    }

    /// Whether new clients are sent to the instance of this pick, made from this table or an older one.
    pub(crate) fn serves_new_at(&self, pick: &Pick) -> bool {
        self.serves_new(pick.endpoint.state.uid)
    }

    /// Whether new clients are sent to the instance whose state has this number.
    pub(crate) fn serves_new(&self, uid: u64) -> bool {
        self.versions.iter().any(|version| version.serves(uid))
    }

    /// The instances of this version that a draw of this moment leads to.
    pub(crate) fn endpoints_in_turn<'a>(&self, version: &'a Version) -> &'a [Arc<Endpoint>] {
        if version.serving().is_empty() { self.lots.tier().endpoints(version) } else { version.serving() }
    }

    /// Every endpoint of every version.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.versions.iter().flat_map(|version| version.endpoints())
    }

    /// Heap memory in octets, as far as it is this entry's own: neither the catalog's values nor the metrics.
    pub fn heap_bytes(&self) -> usize {
        let versions = self.versions.iter().map(|version| {
            let endpoints =
                size_of_val(&*version.endpoints) + version.endpoints.len() * (size_of::<Endpoint>() + 16);
            let weights = version.weights.as_ref().map_or(0, Weights::heap_bytes);
            let seats = version.seats.as_ref().map_or(0, Seats::heap_bytes);
            size_of::<Arc<Version>>() + size_of::<Version>() + 16 + endpoints + weights + seats
        });
        self.name.len() + 16 + self.lots.heap_bytes() + versions.sum::<usize>()
    }
}

impl Version {
    fn new(
        member: &Member,
        old: Option<&Self>,
        route: &Arc<str>,
        lasting: &Lasting,
        moment: &Moment<'_>,
    ) -> Self {
        let backend = member.backend.clone();
        let name: Arc<str> = match old {
            Some(old) => old.name.clone(),
            None => backend.id.to_string().into(),
        };
        let settings = match old {
            Some(old) if Arc::ptr_eq(&old.transport, &member.transport) => old.settings.clone(),
            _ => Arc::new(UpstreamSettings::new(&member.transport)),
        };
        let upstream = old.map_or_else(|| lasting.metrics.backend(&name), |old| old.upstream.clone());
        let states = states(member, old, (&settings, &upstream), lasting);
        let before = old.map(places).unwrap_or_default();
        let ready: Vec<Instant> = states
            .iter()
            .map(|(instance, state)| {
                let place = before.get(&state.key).copied();
                ready_at(instance, state, old.zip(place), moment)
            })
            .collect();
        let sorted = sorted(&states, &ready, &settings, moment);
        let count = |rank| sorted.iter().filter(|(r, _)| *r == rank).count();
        let serving = || sorted.iter().filter(|(rank, _)| *rank == Rank::Serving).map(|(_, e)| e);
        let wanted = |instance: &&&Arc<Instance>| {
            let is_down = instance.state == State::Active && instance.condition == Condition::Unhealthy;
            Rank::of(instance) == Rank::Serving || is_down
        };
        let endpoints: Box<[_]> = sorted.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        let binds = matches!(settings.balance, Balance::Hash(_));
        let all_wanted = || states.iter().map(|(instance, _)| instance).filter(wanted);
        Self {
            peers: peers(&states, old),
            weights: Weights::of(&endpoints),
            seats: (binds && endpoints.len() > 1)
                .then(|| Seats::new(&endpoints, old.and_then(|old| old.seats.as_ref()))),
            new_until: serving().filter(|e| e.is_new).map(|e| e.ready_at + SLOW_START).max(),
            zoned: serving().any(|e| e.is_local) && serving().any(|e| !e.is_local),
            wanted: all_wanted().count(),
            wanted_here: all_wanted().filter(|instance| moment.is_here(instance)).count(),
            weight: member.weight,
            promised_zero: member.promised_zero,
            series: old.map_or_else(|| lasting.metrics.series(route, &name), |old| old.series.clone()),
            upstream,
            turn: old.map_or_else(Arc::default, |old| old.turn.clone()),
            serving: count(Rank::Serving),
            draining: count(Rank::Draining),
            stopping: count(Rank::Stopping),
            endpoints,
            transport: member.transport.clone(),
            backend,
            name,
            settings,
        }
    }

    /// Its instances that have an address.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Those that new clients may be sent to, ejected ones too: whether one is ejected changes faster than tables do.
    pub fn serving(&self) -> &[Arc<Endpoint>] {
        &self.endpoints[..self.serving]
    }

    /// Instances of one kind by zone: ours, the others.
    pub(crate) fn by_zone(among: &[Arc<Endpoint>]) -> (&[Arc<Endpoint>], &[Arc<Endpoint>]) {
        let here = among.partition_point(|endpoint| endpoint.is_local);
        among.split_at(here)
    }

    /// Those that clients bound to them stay with: the serving ones, then the draining ones.
    pub fn keeping(&self) -> &[Arc<Endpoint>] {
        &self.endpoints[..self.serving + self.draining]
    }

    /// Those that people ordered to drain, and that still serve clients bound to them.
    pub fn draining(&self) -> &[Arc<Endpoint>] {
        &self.endpoints[self.serving..self.serving + self.draining]
    }

    fn serves(&self, uid: u64) -> bool {
        self.serving().iter().any(|endpoint| endpoint.state.uid == uid)
    }

    /// Those whose stop signal was seen, and that nobody ordered out: the last resort (design rule 6).
    pub fn stopping(&self) -> &[Arc<Endpoint>] {
        let start = self.serving + self.draining;
        &self.endpoints[start..start + self.stopping]
    }

    /// Whether all instances count whole and alike, so that a choice need not look at how each one stands.
    pub(crate) fn is_calm(&self, now: Instant) -> bool {
        !self.zoned
            && self.new_until.is_none_or(|until| until <= now)
            && self.peers.iter().all(|peers| !peers.is_special())
    }

    /// How many of its instances count, as the catalog has it: ejected ones where there are no others.
    pub(crate) fn ready(&self) -> usize {
        let ready = self.serving().iter().filter(|e| e.instance.condition != Condition::Ejected).count();
        if ready > 0 { ready } else { self.serving().len() }
    }

    /// How an instance is chosen.
    pub(crate) fn balance(&self) -> &Balance {
        &self.settings.balance
    }
}

/// The instances of the version that have an address, each with what is known of its present life.
fn states<'a>(
    member: &'a Member,
    old: Option<&Version>,
    (settings, upstream): (&UpstreamSettings, &Arc<BackendSeries>),
    lasting: &Lasting,
) -> Vec<(&'a Arc<Instance>, Arc<EndpointState>)> {
    let keys = || member.instances.iter().filter_map(|instance| Some((instance, instance.key()?)));
    // Of another route, perhaps: an instance stands the same in all of them.
    let known = keys().find_map(|(_, key)| Some(lasting.states.get(&key)?.peers.clone()));
    let peers = known
        .or_else(|| old.and_then(|old| old.peers.first().cloned()))
        .unwrap_or_else(|| Peers::new(lasting.states.book.clone(), upstream.clone()));
    let told = |instance: &Instance| Told {
        in_flight_max: settings.in_flight_max,
        ended: instance.drained.is_some(),
        stops: instance.condition == Condition::Stopping,
    };
    keys().map(|(instance, key)| (instance, lasting.states.of(&key, told(instance), &peers))).collect()
}

/// The instances as a version lists them, each with where it stands.
fn sorted(
    states: &[(&Arc<Instance>, Arc<EndpointState>)],
    ready: &[Instant],
    settings: &Arc<UpstreamSettings>,
    moment: &Moment<'_>,
) -> Vec<(Rank, Arc<Endpoint>)> {
    let serves = |instance: &Instance| Rank::of(instance) == Rank::Serving;
    let serving = states.iter().zip(ready).filter(|((instance, _), _)| serves(instance));
    let firmly_ready: Option<Instant> = serving.map(|(_, at)| *at + SLOW_START).min();
    let endpoint = |((instance, state), ready_at): (&(&Arc<Instance>, Arc<EndpointState>), &Instant)| {
        let newness = Newness {
            serving: serves(instance),
            ready_at: *ready_at,
            // The first ones of a version are not new: nobody is there beside whom they could spare themselves.
            is_new: serves(instance) && firmly_ready.is_some_and(|firmly| firmly <= *ready_at),
            is_local: moment.is_here(instance),
        };
        (Rank::of(instance), Endpoint::new(instance, settings, state.clone(), newness))
    };
    let mut sorted: Vec<_> = states.iter().zip(ready).map(endpoint).collect();
    // Those of our zone first: most requests look at them alone.
    sorted.sort_by_key(|(rank, endpoint)| (*rank, !endpoint.is_local));
    sorted
}

/// With whom the instances are compared: of a version that has none now, those of before.
fn peers(states: &[(&Arc<Instance>, Arc<EndpointState>)], old: Option<&Version>) -> Box<[Arc<Peers>]> {
    let mut peers: Vec<Arc<Peers>> = Vec::new();
    for (_, state) in states {
        if !peers.iter().any(|known| Arc::ptr_eq(known, &state.peers)) {
            peers.push(state.peers.clone());
        }
    }
    if let (true, Some(old)) = (peers.is_empty(), old) {
        peers.extend(old.peers.iter().cloned());
    }
    peers.into()
}

/// Where each instance is in the list of a version.
fn places(version: &Version) -> HashMap<&InstanceKey, usize> {
    version.endpoints.iter().map(|endpoint| &endpoint.key).zip(0..).collect()
}

/// Since when an instance may serve new clients. `before` is the version of the table before, and its place there.
fn ready_at(
    instance: &Instance,
    state: &EndpointState,
    before: Option<(&Version, usize)>,
    Moment { at, now, .. }: &Moment<'_>,
) -> Instant {
    match before.map(|(old, place)| old.serving().get(place)) {
        Some(Some(served)) if served.state.uid == state.uid => served.ready_at,
        // It was ordered out, or something was wrong with it.
        Some(_) => *now,
        // Nobody has to be exact about what was long ago.
        None => {
            let for_long = Duration::try_from(at.duration_since(instance.since)).unwrap_or_default();
            now.checked_sub(for_long.min(SLOW_START * 3)).unwrap_or(*now)
        }
    }
}

/// Where an instance stands among those of its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Serving,
    Draining,
    Stopping,
    Out,
}

impl Rank {
    fn of(instance: &Instance) -> Self {
        match instance {
            _ if instance.serves_new() || instance.serves_as_last() => Self::Serving,
            _ if instance.state == State::Draining
                && instance.drained.is_none()
                && instance.condition.is_ready() =>
            {
                Self::Draining
            }
            _ if instance.state == State::Active && instance.condition == Condition::Stopping => {
                Self::Stopping
            }
            _ => Self::Out,
        }
    }
}
