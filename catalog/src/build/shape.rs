//! What follows from labels, addresses and configuration alone: instances, who claims which route, who owns it.
//!
//! Not here: conditions, states and weights, which move without a new shape (see `condition`, `weights`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_config::labels::features::Features;
use fairway_config::labels::{ProbeCheck, ServiceSpec, Severity, SplitBy, Transport};
use fairway_config::names::{BackendId, RouteId, Weight};
use jiff::Timestamp;

use super::balancers;
use super::owners::{self, Ownership, Project};
use super::passed;
use super::secured::not_secured;
use crate::facts::{SourceFacts, SourceId, Unit, UnitKind};
use crate::ids::{InstanceId, InstanceKey};
use crate::inputs::{Inputs, Owner, Settings};
use crate::now::{End, Now};
use crate::problem::Problem;

/// A route lives this long after its last claim (design rule 6).
const TOMBSTONE: Duration = Duration::from_secs(15);

/// Stage one of a catalog.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    settings: Arc<Settings>,
    sources: BTreeMap<SourceId, Arc<SourceFacts>>,
    pub(super) instances: BTreeMap<InstanceId, PlannedInstance>,
    pub(super) backends: BTreeMap<BackendId, BackendShape>,
    pub(super) routes: BTreeMap<RouteId, RouteShape>,
    pub(super) owners: BTreeMap<RouteId, Owner>,
    pub(super) problems: Vec<Problem>,
    /// When the first tombstone ends, by the clock for what lasts.
    pub(super) next_end: Option<Timestamp>,
}

/// An instance before its condition is known.
#[derive(Debug, Clone)]
pub(super) struct PlannedInstance {
    pub(super) id: InstanceId,
    pub(super) unit: Arc<Unit>,
    source: SourceId,
    pub(super) port: u16,
    pub(super) address: Option<SocketAddr>,
}

impl PlannedInstance {
    pub(super) fn key(&self) -> Option<InstanceKey> {
        let address = self.address?;
        Some(InstanceKey { id: self.id.clone(), started: self.unit.started, address })
    }
}

/// A backend before its instances' conditions are known.
#[derive(Debug, Clone, Default)]
pub(super) struct BackendShape {
    pub(super) instances: BTreeSet<InstanceId>,
    pub(super) routes: Vec<RouteId>,
    pub(super) desired: Option<u32>,
    pub(super) weight: Option<Weight>,
    pub(super) transport: Arc<Transport>,
    pub(super) dns_weighted: bool,
    pub(super) links: Vec<Arc<str>>,
}

/// A route before its weights are known.
#[derive(Debug, Clone, Default)]
pub(super) struct RouteShape {
    /// Every claim says `https://` or `wss://`.
    pub(super) secure: bool,
    /// One at least does.
    pub(super) https: bool,
    pub(super) project: Project,
    /// Each backend with those of its instances that claim the route.
    pub(super) members: BTreeMap<BackendId, BTreeSet<InstanceId>>,
    /// `fairway.weight` of each backend that has one.
    pub(super) label_weights: BTreeMap<BackendId, Weight>,
    /// When the longest-standing of its backends was created.
    pub(super) created: Timestamp,
    pub(super) sticky: bool,
    pub(super) split_by: SplitBy,
    pub(super) body_max: Option<u64>,
    pub(super) features: Option<Arc<Features>>,
    pub(super) ends: Option<End>,
}

impl Shape {
    /// Whether it was built from the settings and sources that these inputs have.
    pub(super) fn is_made_of(&self, inputs: &Inputs) -> bool {
        Arc::ptr_eq(&self.settings, &inputs.settings)
            && self.sources.len() == inputs.sources.len()
            && self.sources.iter().zip(&inputs.sources).all(|((a, x), (b, y))| a == b && Arc::ptr_eq(x, y))
    }

    /// Builds anew; `before` tells who owned what and which routes stood.
    pub(super) fn build(inputs: &Inputs, before: &Self, now: Now) -> Self {
        let mut shape =
            Self { settings: inputs.settings.clone(), sources: inputs.sources.clone(), ..Self::default() };
        shape.plan_instances();
        shape.evict_from_taken_addresses();
        shape.plan_backends();
        let owners = if before.owners.is_empty() { &inputs.decisions.owners } else { &before.owners };
        shape.plan_routes(before, owners, now);
        shape.choose_route_keys();
        shape
    }

    fn plan_instances(&mut self) {
        let sources = self.sources.clone();
        for (source, facts) in &sources {
            self.problems.extend(facts.problems.iter().cloned());
            for unit in facts.units.values() {
                let labels = unit.label_problems.iter();
                self.problems.extend(labels.map(|label| Problem::of_label(unit.name.clone(), label)));
                self.problems.extend(balancers::problems(unit, &self.settings));
                self.problems.extend(passed::problems(unit, &self.settings));
                for port in ports_of(unit) {
                    self.plan_instance(source, unit, port);
                }
            }
        }
    }

    fn plan_instance(&mut self, source: &SourceId, unit: &Arc<Unit>, port: u16) {
        let id = match unit.kind {
            UnitKind::Container => InstanceId::of_container(&unit.id, port),
            UnitKind::Static => InstanceId::from_printed(&unit.id),
        };
        let address = unit.ip.map(|ip| SocketAddr::new(ip, port));
        if let Some(own) = address.filter(|address| self.settings.own_listeners.contains(address)) {
            self.problems.push(own_listener(unit, own));
            return;
        }
        let planned =
            PlannedInstance { id: id.clone(), unit: unit.clone(), source: source.clone(), port, address };
        if let Some(first) = self.instances.get(&id) {
            self.problems.push(duplicate(unit, &id, &first.source));
            return;
        }
        self.instances.insert(id, planned);
    }

    /// An address and port in one network has one owner, the instance started last (design rule 5).
    fn evict_from_taken_addresses(&mut self) {
        let mut owners: BTreeMap<(&SourceId, &str, SocketAddr), &PlannedInstance> = BTreeMap::new();
        let mut evicted = Vec::new();
        for instance in self.instances.values().filter(|i| i.unit.kind == UnitKind::Container) {
            // Containers on the host's network share its address; without ports they take nothing from each other.
            let shares = instance.port == 0 && instance.unit.network.is_empty();
            let Some(address) = instance.address.filter(|_| !shares) else { continue };
            let place = (&instance.source, &*instance.unit.network, address);
            let Some(other) = owners.insert(place, instance) else { continue };
            let newest_first = |i: &PlannedInstance| (i.unit.started, i.unit.created, i.id.clone());
            let (old, new) = if newest_first(other) < newest_first(instance) {
                (other, instance)
            } else {
                (instance, other)
            };
            owners.insert(place, new);
            evicted.push((old.id.clone(), address_taken(&old.unit, address, &new.unit)));
        }
        for (id, problem) in evicted {
            self.instances.remove(&id);
            self.problems.push(problem);
        }
    }

    fn plan_backends(&mut self) {
        let mut members: BTreeMap<BackendId, Vec<&PlannedInstance>> = BTreeMap::new();
        for instance in self.instances.values() {
            members.entry(instance.unit.backend.clone()).or_default().push(instance);
        }
        let mut problems = Vec::new();
        for (id, mut instances) in members {
            instances.sort_by_key(|instance| (instance.unit.created, instance.id.clone()));
            let [first, ..] = instances.as_slice() else { continue };
            let weights: BTreeSet<Weight> = instances.iter().filter_map(|i| i.unit.spec.weight).collect();
            if weights.len() > 1 {
                problems.push(weights_disagree(&id, &weights));
            }
            let links: BTreeSet<Arc<str>> =
                instances.iter().flat_map(|i| i.unit.links.iter().cloned()).collect();
            let backend = BackendShape {
                instances: instances.iter().map(|instance| instance.id.clone()).collect(),
                routes: Vec::new(),
                desired: instances.iter().filter_map(|instance| instance.unit.spec.scale).max(),
                weight: weights.first().copied(),
                transport: Arc::new(first.unit.spec.transport.clone()),
                dns_weighted: first.unit.spec.dns_weighted,
                links: links.into_iter().collect(),
            };
            self.backends.insert(id, backend);
        }
        self.problems.append(&mut problems);
    }

    fn plan_routes(&mut self, before: &Self, owners: &BTreeMap<RouteId, Owner>, now: Now) {
        let claims = self.claims();
        for (id, claims) in &claims {
            let mut projects: BTreeMap<Project, Timestamp> = BTreeMap::new();
            for claim in claims {
                let project = &claim.instance.unit.backend.project;
                let created = projects.entry(project.clone()).or_insert(claim.instance.unit.created);
                *created = (*created).min(claim.instance.unit.created);
            }
            let mut owner = owners::decide(id, &projects, &self.settings.claims, owners.get(id), now.date);
            if let Ownership::First(first) = &owner
                && id.is_tls()
                && let Some(created) = projects.get(first)
                && let Some(other) = passed::host_owner(id, (first, *created), owners, &self.routes)
            {
                owner = Ownership::First(other);
            }
            let (admitted, refused): (Vec<_>, Vec<_>) =
                claims.iter().partition(|claim| owner.admits(&claim.instance.unit.backend.project));
            self.problems.extend(refused.iter().map(|claim| owned_elsewhere(id, claim, &owner)));
            let mut route = RouteShape {
                secure: admitted.iter().all(|claim| claim.secure),
                https: admitted.iter().any(|claim| claim.https),
                created: Timestamp::MAX,
                ..RouteShape::default()
            };
            for claim in &admitted {
                let backend = &claim.instance.unit.backend;
                route.project = backend.project.clone();
                route.created = route.created.min(claim.instance.unit.created);
                route.members.entry(backend.clone()).or_default().insert(claim.instance.id.clone());
            }
            if route.members.is_empty() {
                continue; // every claim was refused: another project keeps it
            }
            if route.https {
                self.problems.extend(not_secured(id, route.secure, self.settings.tls.as_deref()));
            }
            if id.is_tls() {
                self.problems.extend(passed::conflict(id, &self.routes));
            }
            self.routes.insert(id.clone(), route);
        }
        self.keep_tombstones(before, now);
        self.remember_owners(before, owners, now.date);
        for (id, route) in &mut self.routes {
            for backend in route.members.keys() {
                let Some(shape) = self.backends.get_mut(backend) else { continue };
                shape.routes.push(id.clone());
                if let Some(weight) = shape.weight {
                    route.label_weights.insert(backend.clone(), weight);
                }
            }
        }
    }

    /// Who claims which route.
    fn claims(&self) -> BTreeMap<RouteId, Vec<Claim>> {
        let mut claims: BTreeMap<RouteId, Vec<Claim>> = BTreeMap::new();
        for instance in self.instances.values() {
            let entries = entries_for(&instance.unit.spec, instance.port);
            let mut schemes: BTreeMap<RouteId, (bool, bool)> = BTreeMap::new();
            for entry in entries.filter(|entry| !passed::is_passed(&instance.unit, entry)) {
                let route = entry.route(&self.settings.domain_suffix);
                let (all, any) = schemes.entry(route).or_insert((true, false));
                *all &= entry.scheme.is_secure();
                *any |= entry.scheme.is_secure();
            }
            for route in passed::routes(instance, &self.settings) {
                schemes.insert(route, (false, false));
            }
            for port in balancers::front_ports(instance, &self.settings) {
                schemes.insert(port.route(), (false, false));
            }
            for (route, (secure, https)) in schemes {
                claims.entry(route).or_default().push(Claim { instance: instance.clone(), secure, https });
            }
        }
        claims
    }

    fn keep_tombstones(&mut self, before: &Self, now: Now) {
        for (id, old) in &before.routes {
            if self.routes.contains_key(id) {
                continue;
            }
            let ends = old.ends.unwrap_or_else(|| now.after(TOMBSTONE));
            if ends.lasting <= now.lasting {
                continue;
            }
            let tombstone = RouteShape { members: BTreeMap::new(), ends: Some(ends), ..old.clone() };
            self.routes.insert(id.clone(), tombstone);
            let next = self.next_end.map_or(ends.lasting, |other| other.min(ends.lasting));
            self.next_end = Some(next);
        }
    }

    fn remember_owners(&mut self, before: &Self, owners: &BTreeMap<RouteId, Owner>, now: Timestamp) {
        let ids: BTreeSet<&RouteId> = owners.keys().chain(self.routes.keys()).collect();
        let mut remembered = BTreeMap::new();
        for id in ids {
            let old = owners.get(id);
            let live = self.routes.get(id).filter(|route| route.ends.is_none());
            let was_claimed = before.routes.get(id).is_some_and(|route| route.ends.is_none());
            let Some(project) = live.map(|route| &route.project).or(old.map(|old| &old.project)) else {
                continue;
            };
            if let Some(owner) = owners::remember(project, live.is_some(), was_claimed, old, now) {
                remembered.insert(id.clone(), owner);
            }
        }
        self.owners = remembered;
    }

    /// Stickiness, the way of the draw, the size of bodies and the features come from the longest-standing backend that sets them.
    fn choose_route_keys(&mut self) {
        let mut problems = Vec::new();
        for (id, route) in &mut self.routes {
            let instances = route.members.values().flatten().filter_map(|id| self.instances.get(id));
            let mut units: Vec<&Unit> = instances.map(|instance| &*instance.unit).collect();
            units.sort_by_key(|unit| (unit.created, unit.name.clone()));
            if route.ends.is_none() {
                let sticky = first_set(id, &units, "aliyun.routing.session_sticky", &mut problems, |spec| {
                    spec.session_sticky
                });
                route.sticky = sticky.unwrap_or(self.settings.sticky_default);
                let split_by = first_set(id, &units, "fairway.split_by", &mut problems, |spec| {
                    spec.transport.split_by.clone()
                });
                route.split_by = split_by.unwrap_or_default();
                let body_max = |spec: &ServiceSpec| spec.transport.body_max;
                route.body_max = first_set(id, &units, "fairway.body_max", &mut problems, body_max);
                route.features = features(id, &units, &mut problems);
            }
        }
        self.problems.append(&mut problems);
    }
}

/// One instance's claim to one route.
struct Claim {
    instance: PlannedInstance,
    /// Every entry that claims it says `https://` or `wss://`.
    secure: bool,
    /// One at least does.
    https: bool,
}

/// The value of the first unit that sets a route key; later ones that differ are a problem.
fn first_set<T: PartialEq>(
    route: &RouteId,
    units: &[&Unit],
    key: &'static str,
    problems: &mut Vec<Problem>,
    get: impl Fn(&ServiceSpec) -> Option<T>,
) -> Option<T> {
    let mut chosen: Option<(T, &Unit)> = None;
    for unit in units {
        let Some(value) = get(&unit.spec) else { continue };
        match &chosen {
            None => chosen = Some((value, unit)),
            Some((first, holder)) if *first != value => {
                let text = format!(
                    "{} sets {key} of {route} differently from {}, which came first",
                    unit.name, holder.name
                );
                let remedy = "give every service of a route the same value";
                problems.push(
                    Problem::new("route-keys-disagree", Severity::Warning, unit.name.clone(), text, remedy)
                        .at(key, route.to_string()),
                );
            }
            Some(_) => {}
        }
    }
    chosen.map(|(value, _)| value)
}

/// The features of a route, each from the first unit that sets it.
fn features(route: &RouteId, units: &[&Unit], problems: &mut Vec<Problem>) -> Option<Arc<Features>> {
    if units.iter().all(|unit| unit.spec.features.is_empty()) {
        return None;
    }
    macro_rules! first {
        ($key:literal, $field:ident) => {
            first_set(route, units, $key, problems, |spec| spec.features.$field.clone())
        };
    }
    Some(Arc::new(Features {
        allow: first!("fairway.allow", allow),
        rate_limit: first!("fairway.rate_limit", rate_limit),
        client_rate_limit: first!("fairway.rate_limit.client", client_rate_limit),
        auth: first!("fairway.auth.basic", auth),
        redirect: first!("fairway.redirect", redirect),
        strip_prefix: first!("fairway.strip_prefix", strip_prefix),
        add_prefix: first!("fairway.add_prefix", add_prefix),
        request_headers: first!("fairway.headers.request", request_headers),
        response_headers: first!("fairway.headers.response", response_headers),
        compress: first!("fairway.compress", compress),
    }))
}

/// The ports of a unit: those that a label names; without any, the first that is exposed; else 0, a name without a port.
pub(super) fn ports_of(unit: &Unit) -> BTreeSet<u16> {
    let spec = &unit.spec;
    let mut ports: BTreeSet<u16> = spec.ports.iter().map(|claim| claim.port).collect();
    ports.extend(spec.balancers.iter().map(|claim| claim.port));
    if ports.is_empty() {
        let probed = spec.probe.as_ref().and_then(|probe| match probe.check {
            ProbeCheck::Http { port, .. } | ProbeCheck::Tcp { port } | ProbeCheck::Grpc { port, .. } => {
                Some(port)
            }
            ProbeCheck::Command { .. } => None,
        });
        ports.insert(probed.or(unit.exposed_ports.first().copied()).unwrap_or(0));
    }
    ports
}

pub(super) fn entries_for(
    spec: &ServiceSpec,
    port: u16,
) -> impl Iterator<Item = &fairway_config::names::RouteEntry> {
    spec.ports.iter().filter(move |claim| claim.port == port).flat_map(|claim| &claim.entries)
}

fn own_listener(unit: &Unit, own: SocketAddr) -> Problem {
    let text = format!(
        "{} leads to {own}, where Fairway itself listens: requests would go round for ever",
        unit.name
    );
    let remedy = "remove the routing label from Fairway's own container, or correct the port";
    Problem::new("own-listener", Severity::Error, unit.name.clone(), text, remedy).at("", own.to_string())
}

fn duplicate(unit: &Unit, id: &InstanceId, first: &SourceId) -> Problem {
    let text = format!("the instance {id} is already known from {first}; this one is left out");
    let remedy = "list each engine and each static instance once";
    Problem::new("duplicate-instance", Severity::Error, unit.name.clone(), text, remedy).at("", id.as_str())
}

fn address_taken(old: &Unit, address: SocketAddr, new: &Unit) -> Problem {
    let text = format!("{address} of {} now belongs to {}, which was started later", old.name, new.name);
    let remedy = "nothing, if the older one has ended; else give each its own address";
    Problem::new("address-taken", Severity::Warning, old.name.clone(), text, remedy)
        .at("", address.to_string())
}

fn weights_disagree(backend: &BackendId, weights: &BTreeSet<Weight>) -> Problem {
    let found: Vec<String> = weights.iter().map(Weight::to_string).collect();
    let text = format!(
        "the instances of {backend} have different weights ({}); the lowest counts",
        found.join(", ")
    );
    let remedy = "a weight is per backend, not per container: give every instance the same fairway.weight";
    Problem::new("weights-disagree", Severity::Warning, backend.to_string(), text, remedy)
        .at("fairway.weight", found.join(", "))
}

fn owned_elsewhere(route: &RouteId, claim: &Claim, owner: &Ownership) -> Problem {
    let unit = &claim.instance.unit;
    let project = unit.backend.project.as_deref().unwrap_or("no project");
    let owner = owner.describe();
    let text = format!("{} (project {project}) claims {route}, which belongs to {owner}", unit.name);
    if route.front_port().is_some() {
        return Problem::new(
            "route-owned-elsewhere",
            Severity::Error,
            unit.name.clone(),
            text,
            "choose another front port, or move it with fairway.project",
        )
        .at(format!("aliyun.lb.port_{}", claim.instance.port), route.to_string());
    }
    if route.is_tls() {
        let remedy =
            "choose another host, move it with fairway.project, or list both projects in routing.claims";
        return Problem::new("route-owned-elsewhere", Severity::Error, unit.name.clone(), text, remedy)
            .at("fairway.tls.passthrough", route.to_string());
    }
    let remedy =
        "choose another host or path, move it with fairway.project, or list both projects in routing.claims";
    Problem::new("route-owned-elsewhere", Severity::Error, unit.name.clone(), text, remedy)
        .at(format!("aliyun.routing.port_{}", claim.instance.port), route.to_string())
}
