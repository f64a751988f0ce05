//! One route, ready to be drawn from: its versions with their instances, sorted by whether they serve.
//!
//! Kept from table to table as long as the catalog keeps the route. Not here: the choice itself (see `pick`).

use std::net::IpAddr;
use std::sync::Arc;

use fairway_catalog::{Backend, Condition, Instance, Member, Route, State};
use fairway_config::labels::Balance;
use fairway_config::names::Weight;

use super::Lasting;
use crate::endpoint::{Endpoint, UpstreamSettings};
use crate::features::Features;
use crate::metrics::{BackendSeries, Series};
use crate::pick::Pick;
use crate::pick::balance::Turn;
use crate::pick::budget::RetryBudget;
use crate::pick::lots::Lots;
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
}

/// One backend within one route.
#[derive(Debug)]
pub struct Version {
    /// What the catalog says of the backend, its instances of other routes too.
    pub backend: Arc<Backend>,
    /// Its name as printed, for logs and metrics.
    pub name: Arc<str>,
    /// How requests travel to its instances.
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
    /// the stopping ones, then the others.
    endpoints: Box<[Arc<Endpoint>]>,
    serving: usize,
    draining: usize,
    stopping: usize,
}

impl RouteEntry {
    pub(super) fn new(route: &Arc<Route>, before: Option<&Self>, lasting: &Lasting) -> Self {
        let name = before.map_or_else(|| route.id.to_string().into(), |before| before.name.clone());
        let version = |member: &Member| {
            let old = before.and_then(|before| before.version_of(member));
            Arc::new(Version::new(member, old, &name, lasting))
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
        self.versions.iter().flat_map(|version| version.serving()).any(|endpoint| endpoint.state.uid == uid)
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
            size_of::<Arc<Version>>() + size_of::<Version>() + 16 + endpoints
        });
        self.name.len() + 16 + self.lots.heap_bytes() + versions.sum::<usize>()
    }
}

impl Version {
    fn new(member: &Member, old: Option<&Self>, route: &Arc<str>, lasting: &Lasting) -> Self {
        let backend = member.backend.clone();
        let name: Arc<str> = match old {
            Some(old) => old.name.clone(),
            None => backend.id.to_string().into(),
        };
        let settings = match old {
            Some(old) if Arc::ptr_eq(&old.backend.transport, &backend.transport) => old.settings.clone(),
            _ => Arc::new(UpstreamSettings::new(&backend.transport)),
        };
        let mut sorted: Vec<(Rank, Arc<Endpoint>)> = member
            .instances
            .iter()
            .filter_map(|instance| {
                Some((Rank::of(instance), Endpoint::new(instance, &settings, &lasting.states)?))
            })
            .collect();
        sorted.sort_by_key(|(rank, _)| *rank);
        let count = |rank| sorted.iter().filter(|(r, _)| *r == rank).count();
        Self {
            weight: member.weight,
            promised_zero: member.promised_zero,
            series: old.map_or_else(|| lasting.metrics.series(route, &name), |old| old.series.clone()),
            upstream: old.map_or_else(|| lasting.metrics.backend(&name), |old| old.upstream.clone()),
            turn: old.map_or_else(Arc::default, |old| old.turn.clone()),
            serving: count(Rank::Serving),
            draining: count(Rank::Draining),
            stopping: count(Rank::Stopping),
            endpoints: sorted.into_iter().map(|(_, endpoint)| endpoint).collect(),
            backend,
            name,
            settings,
        }
    }

    /// Its instances that have an address.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Those that new clients may be sent to.
    pub fn serving(&self) -> &[Arc<Endpoint>] {
        &self.endpoints[..self.serving]
    }

    /// Those that clients bound to them stay with: the serving ones, then the draining ones.
    pub fn keeping(&self) -> &[Arc<Endpoint>] {
        &self.endpoints[..self.serving + self.draining]
    }

    /// Those that people ordered to drain, and that still serve clients bound to them.
    pub fn draining(&self) -> &[Arc<Endpoint>] {
        &self.endpoints[self.serving..self.serving + self.draining]
    }

    /// Those whose stop signal was seen, and that nobody ordered out: the last resort (design rule 6).
    pub fn stopping(&self) -> &[Arc<Endpoint>] {
        let start = self.serving + self.draining;
        &self.endpoints[start..start + self.stopping]
    }

    /// How an instance is chosen.
    pub(crate) fn balance(&self) -> &Balance {
        &self.settings.balance
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
            _ if instance.serves_new() => Self::Serving,
            _ if instance.state == State::Draining && instance.condition.is_ready() => Self::Draining,
            _ if instance.state == State::Active && instance.condition == Condition::Stopping => {
                Self::Stopping
            }
            _ => Self::Out,
        }
    }
}
