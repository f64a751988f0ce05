//! Inputs to catalog, in two stages.
//!
//! 1. `shape`: what follows from labels, addresses and configuration: who claims what and who owns it (`owners`). Kept
//!    as it is while sources and settings do not change.
//! 2. What moves: conditions (`condition`), states, weights (`weights`) and limits (`limits`). A flip touches the routes concerned only.

mod balancers;
mod condition;
mod limits;
mod mirrors;
mod owners;
mod passed;
mod secured;
mod shape;
#[cfg(test)]
mod tests;
mod weights;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fairway_config::names::{BackendId, RouteId};
use jiff::Timestamp;

use crate::facts::{Lifecycle, SourceId, Unit};
use crate::ids::InstanceId;
use crate::inputs::{Decisions, Inputs, Owner, StateRecord, StateSubject};
use crate::internal::InternalClients;
use crate::model::{Backend, Catalog, Instance, Member, Route, SourceStatus, State};
use crate::now::Now;
use crate::problem::Problem;
use shape::{BackendShape, RouteShape, Shape};

/// Until every source is listed once, this long at most, an unknown host gets 503 (design rule 4).
const SETTLE: Duration = Duration::from_secs(10);

/// Added to StopTimeout before a container that still runs may be active again (design rule 6).
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What one catalog hands to the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    shape: Arc<Shape>,
    decisions: Arc<Decisions>,
    /// Problems of the routes' weights and orders, per route, so that an untouched route keeps its own.
    route_problems: Arc<BTreeMap<RouteId, Vec<Problem>>>,
    /// When the weights or limits of some route change by themselves.
    expiry: Option<Timestamp>,
    /// Those that were told to stop.
    stops: BTreeMap<InstanceId, Stop>,
}

/// An instance that was told to stop.
#[derive(Debug, Clone, Copy)]
struct Stop {
    since: Timestamp,
    /// When it ought to have ended, by the clock for what lasts.
    ends: Timestamp,
    /// It was seen to run after that; its probes begin then.
    overdue: Option<Overdue>,
}

#[derive(Debug, Clone, Copy)]
struct Overdue {
    /// Since when a verdict of before held, if there was one: only another one says something of it now. Dates alone do not tell
    /// which is later, where the clock was set.
    stale: Option<Timestamp>,
}

impl Catalog {
    /// The catalog before anything is known, at this revision (the last one stored, 0 on a fresh start).
    pub fn empty(revision: u64) -> Self {
        Self {
            revision,
            serial: 0,
            at: Timestamp::UNIX_EPOCH,
            settled: false,
            settings: Arc::default(),
            routes: BTreeMap::new(),
            backends: BTreeMap::new(),
            instances: BTreeMap::new(),
            releases: Arc::default(),
            problems: Vec::new(),
            internal: InternalClients::default().into(),
            networks: Vec::new(),
            sources: Vec::new(),
            next_expiry: None,
            next_end: None,
            memory: Arc::default(),
        }
    }

    /// Pure: equal arguments give equal catalogs. `before` is the catalog that this one follows: what did not change is
    /// kept by pointer, and what must be remembered (owners, tombstones) is read from it.
    pub fn build(inputs: &Inputs, before: &Self, now: impl Into<Now>) -> Self {
        let now = now.into();
        let shape = before.shape_for(inputs, now);
        let shape_kept = Arc::ptr_eq(&shape, &before.memory.shape);

        let mut problems = shape.problems.clone();
        let (instances, stops) = build_instances(inputs, &shape, before, now, &mut problems);
        let backends = build_backends(inputs, &shape, &instances, before);

        // What had expired holds again where the clock was set back.
        let expired = before.memory.expiry.is_some_and(|end| end <= now.date) || now.date < before.at;
        let plan = RoutePlan {
            inputs,
            before,
            backends: &backends,
            all: !shape_kept || expired || !Arc::ptr_eq(&inputs.settings, &before.settings),
            now: now.date,
        };
        let (routes, route_problems) = plan.build_routes(&shape);
        problems.extend(route_problems.values().flatten().cloned());
        problems.extend(inputs.sources.iter().filter_map(|(id, facts)| unreachable(id, facts)));
        problems.extend(inputs.reports.values().flatten().cloned());

        let all_listed = inputs.sources.values().all(|source| source.listed);
        let settle_end = inputs.settings.process_started + SETTLE;
        let settled = before.settled || all_listed || now.lasting >= settle_end;
        let expiry = next_expiry(&inputs.decisions, now.date);
        let stops_end = stops.values().filter(|stop| stop.overdue.is_none()).map(|stop| stop.ends).min();
        let settle_wait = (!settled).then_some(settle_end);

        let mut catalog = Self {
            revision: before.revision,
            serial: inputs.serial,
            at: now.date,
            settled,
            settings: inputs.settings.clone(),
            routes,
            backends,
            instances,
            releases: inputs.releases.clone(),
            problems: date_problems(problems, before, now.date),
            internal: if shape_kept { before.internal.clone() } else { internal_clients(inputs) },
            networks: networks(inputs),
            sources: source_statuses(inputs),
            next_expiry: expiry,
            next_end: [shape.next_end, settle_wait, stops_end].into_iter().flatten().min(),
            memory: Arc::new(Memory {
                shape,
                decisions: inputs.decisions.clone(),
                route_problems: Arc::new(route_problems),
                expiry,
                stops,
            }),
        };
        if catalog.differs_from(before) {
            catalog.revision += 1;
        }
        catalog
    }

    /// Which project owns which route, to be stored: it holds for 24 h after the last claim, restarts included.
    pub fn owners(&self) -> &BTreeMap<RouteId, Owner> {
        &self.memory.shape.owners
    }

    /// The shape of the catalog before, as long as what it is made of is the same and no tombstone ends.
    fn shape_for(&self, inputs: &Inputs, now: Now) -> Arc<Shape> {
        let kept = &self.memory.shape;
        let holds = kept.is_made_of(inputs) && kept.next_end.is_none_or(|end| now.lasting < end);
        if holds { kept.clone() } else { Arc::new(Shape::build(inputs, kept, now)) }
    }

    fn differs_from(&self, before: &Self) -> bool {
        self.settled != before.settled
            || self.sources != before.sources
            || self.releases != before.releases
            || !same_pointers(&self.instances, &before.instances)
            || !same_pointers(&self.backends, &before.backends)
            || !same_pointers(&self.routes, &before.routes)
            || self.problems.len() != before.problems.len()
            || self.problems.iter().zip(&before.problems).any(|(a, b)| !Arc::ptr_eq(a, b))
    }
}

fn same_pointers<K: Ord, V>(a: &BTreeMap<K, Arc<V>>, b: &BTreeMap<K, Arc<V>>) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((ka, va), (kb, vb))| ka == kb && Arc::ptr_eq(va, vb))
}

/// The value of the catalog before when nothing in it changed.
fn keep<T: PartialEq>(new: T, before: Option<&Arc<T>>) -> Arc<T> {
    match before {
        Some(old) if **old == new => old.clone(),
        _ => Arc::new(new),
    }
}

type Instances = BTreeMap<InstanceId, Arc<Instance>>;
type Backends = BTreeMap<BackendId, Arc<Backend>>;
type Routes = BTreeMap<RouteId, Arc<Route>>;

/// The instances, and those of them that were told to stop.
fn build_instances(
    inputs: &Inputs,
    shape: &Shape,
    before: &Catalog,
    now: Now,
    problems: &mut Vec<Problem>,
) -> (Instances, BTreeMap<InstanceId, Stop>) {
    let mut stops = BTreeMap::new();
    let mut instances = Instances::new();
    for planned in shape.instances.values() {
        let old = before.instances.get(&planned.id);
        let backend = &planned.unit.backend;
        let key = planned.key();
        let verdict = key.as_ref().and_then(|key| inputs.verdicts.get(key));
        let ejection = key.as_ref().and_then(|key| inputs.ejections.get(key));
        let judged = verdict.map(|verdict| verdict.since);
        let stop = stop_of(&planned.unit, before.memory.stops.get(&planned.id), judged, now);
        let overdue = stop.and_then(|stop| stop.overdue);
        let outlived = overdue.is_some_and(|overdue| judged != overdue.stale);
        let seen = condition::of(&planned.unit, planned.address, verdict, ejection, outlived);
        problems.extend(seen.problem);
        stops.extend(stop.map(|stop| (planned.id.clone(), stop)));
        // Nobody knows when a static instance started: it is in its condition since we first saw it so.
        let seen_since = old.filter(|old| old.condition == seen.condition).map_or(now.date, |old| old.since);
        let since = if seen.since == Timestamp::UNIX_EPOCH { seen_since } else { seen.since };
        let ordered = state_of(&inputs.decisions, &planned.id, backend);
        let state = ordered.map_or(State::Active, |record| record.state);
        let draining_since = (state == State::Draining)
            .then(|| drain_order(&inputs.decisions, &planned.id, backend))
            .flatten();
        let drained = draining_since
            .and_then(|since| inputs.drained.get(&planned.id).filter(|drained| drained.at >= since));
        let instance = Instance {
            id: planned.id.clone(),
            backend: backend.clone(),
            address: planned.address,
            port: planned.port,
            unit: planned.unit.clone(),
            state,
            ordered: ordered.cloned(),
            condition: seen.condition,
            since,
            reason: seen.reason,
            until: seen.until,
            overdue: overdue.is_some(),
            draining_since,
            drained: drained.cloned(),
        };
        instances.insert(planned.id.clone(), keep(instance, old));
    }
    (instances, stops)
}

/// Since when it is to stop, and by when it ought to have; as before as long as it is the same stop. `judged`: since when its
/// verdict holds.
fn stop_of(unit: &Unit, before: Option<&Stop>, judged: Option<Timestamp>, now: Now) -> Option<Stop> {
    let Lifecycle::Stopping { since, timeout } = unit.lifecycle else { return None };
    let told_now = || {
        let end = since.saturating_add(timeout.saturating_add(STOP_GRACE)).unwrap_or(Timestamp::MAX);
        Stop { since, ends: now.until(end).lasting, overdue: None }
    };
    let mut stop = before.filter(|stop| stop.since == since).copied().unwrap_or_else(told_now);
    if stop.ends <= now.lasting {
        stop.overdue.get_or_insert(Overdue { stale: judged });
    }
    Some(stop)
}

/// The stronger of what people set on the instance and on its backend, if they set anything.
fn state_of<'a>(decisions: &'a Decisions, id: &InstanceId, backend: &BackendId) -> Option<&'a StateRecord> {
    if decisions.states.is_empty() {
        return None;
    }
    let subjects = [StateSubject::Instance(id.clone()), StateSubject::Backend(backend.clone())];
    let set = subjects.iter().filter_map(|subject| decisions.states.get(subject));
    set.max_by_key(|record| record.state)
}

/// What is set on a backend in this route alone, if it is stronger than what is set on the backend.
fn shut<'a>(decisions: &'a Decisions, route: &RouteId, backend: &Backend) -> Option<&'a StateRecord> {
    if decisions.states.is_empty() {
        return None;
    }
    let subject = StateSubject::Member(route.clone(), backend.id.clone());
    decisions.states.get(&subject).filter(|record| record.state > backend.state)
}

/// The instance as it stands where its backend is shut.
fn shut_instance(instance: &Arc<Instance>, record: &StateRecord) -> Arc<Instance> {
    match record.state > instance.state {
        true => {
            let (state, ordered) = (record.state, Some(record.clone()));
            Arc::new(Instance { state, ordered, ..Instance::clone(instance) })
        }
        false => instance.clone(),
    }
}

/// When the drain of an instance was ordered: of two orders the later one counts.
fn drain_order(decisions: &Decisions, id: &InstanceId, backend: &BackendId) -> Option<Timestamp> {
    let subjects = [StateSubject::Instance(id.clone()), StateSubject::Backend(backend.clone())];
    let records = subjects.iter().filter_map(|subject| decisions.states.get(subject));
    records.filter(|record| record.state == State::Draining).map(|record| record.at).max()
}

fn build_backends(inputs: &Inputs, shape: &Shape, instances: &Instances, before: &Catalog) -> Backends {
    let build = |(id, planned): (&BackendId, &BackendShape)| {
        let old = before.backends.get(id);
        let instances: Vec<_> =
            planned.instances.iter().filter_map(|id| instances.get(id)).cloned().collect();
        let ordered = inputs.decisions.states.get(&StateSubject::Backend(id.clone()));
        let backend = Backend {
            id: id.clone(),
            routes: planned.routes.clone(),
            ready: instances.iter().filter(|instance| instance.serves_new()).count(),
            instances,
            desired: planned.desired,
            state: ordered.map_or(State::Active, |record| record.state),
            ordered: ordered.cloned(),
            transport: planned.transport.clone(),
            dns_weighted: planned.dns_weighted,
            links: planned.links.clone(),
        };
        (id.clone(), keep(backend, old))
    };
    shape.backends.iter().map(build).collect()
}

/// What the routes are built from, and which of them may be kept.
struct RoutePlan<'a> {
    inputs: &'a Inputs,
    before: &'a Catalog,
    backends: &'a Backends,
    /// Whether every route must be looked at.
    all: bool,
    now: Timestamp,
}

impl RoutePlan<'_> {
    fn build_routes(&self, shape: &Shape) -> (Routes, BTreeMap<RouteId, Vec<Problem>>) {
        if self.all {
            let mut routes = Routes::new();
            let mut problems = BTreeMap::new();
            for (id, planned) in &shape.routes {
                let (route, found) = self.build_route(id, planned);
                routes.insert(id.clone(), route);
                if !found.is_empty() {
                    problems.insert(id.clone(), found);
                }
            }
            return (routes, problems);
        }
        let mut routes = self.before.routes.clone();
        let mut problems = BTreeMap::clone(&self.before.memory.route_problems);
        for id in self.touched(shape) {
            let Some(planned) = shape.routes.get(&id) else { continue };
            let (route, found) = self.build_route(&id, planned);
            routes.insert(id.clone(), route);
            if found.is_empty() {
                problems.remove(&id)
            } else {
                problems.insert(id, found)
            };
        }
        (routes, problems)
    }

    /// The routes whose backends, split or other orders are not those of the catalog before.
    fn touched(&self, shape: &Shape) -> HashSet<RouteId> {
        let mut touched = HashSet::new();
        for (id, backend) in self.backends {
            let kept = self.before.backends.get(id).is_some_and(|old| Arc::ptr_eq(old, backend));
            if !kept {
                touched.extend(backend.routes.iter().cloned());
            }
        }
        let (old, new) = (&self.before.memory.decisions, &self.inputs.decisions);
        if !Arc::ptr_eq(old, new) {
            for id in old.splits.keys().chain(new.splits.keys()) {
                if old.splits.get(id) != new.splits.get(id) {
                    touched.insert(id.clone());
                }
            }
            for subject in old.states.keys().chain(new.states.keys()) {
                if let StateSubject::Member(route, _) = subject
                    && old.states.get(subject) != new.states.get(subject)
                {
                    touched.insert(route.clone());
                }
            }
            for id in old.mirrors.keys().chain(new.mirrors.keys()) {
                if old.mirrors.get(id) != new.mirrors.get(id) {
                    touched.insert(id.clone());
                }
            }
            for id in old.limits.keys().chain(new.limits.keys()) {
                let (old, new) = (old.limits.get(id), new.limits.get(id));
                if old == new {
                    continue;
                }
                touched.insert(id.clone());
                if limits::concerns_others(old, new) {
                    let members = shape.routes.get(id).into_iter().flat_map(|route| route.members.keys());
                    let backends = members.filter_map(|backend| self.backends.get(backend));
                    touched.extend(backends.flat_map(|backend| backend.routes.iter().cloned()));
                }
            }
        }
        touched
    }

    fn build_route(&self, id: &RouteId, planned: &RouteShape) -> (Arc<Route>, Vec<Problem>) {
        let before = self.before.routes.get(id);
        let over = limits::Over::of(&self.inputs.decisions, id, self.now);
        let mut members: Vec<Member> = planned
            .members
            .iter()
            .filter_map(|(backend, claiming)| {
                let backend = self.backends.get(backend)?.clone();
                let claims = |instance: &&Arc<Instance>| claiming.contains(&instance.id);
                let claiming = backend.instances.iter().filter(claims);
                let shut = shut(&self.inputs.decisions, id, &backend);
                let (state, instances) = match shut {
                    None => (backend.state, claiming.cloned().collect()),
                    Some(record) => (record.state, claiming.map(|i| shut_instance(i, record)).collect()),
                };
                let transport = over.transport(&backend, before.map(|before| &before.members[..]));
                let (weight, promised_zero, share) = (None, false, 0.0);
                Some(Member { backend, transport, state, weight, promised_zero, share, instances })
            })
            .collect();
        let (split, etag, mut problems) = weights::apply(self.inputs, id, planned, &mut members, self.now);
        let mirror = self.inputs.decisions.mirrors.get(id).cloned();
        problems.extend(mirror.as_ref().and_then(|mirror| mirrors::problem(id, mirror, &members)));
        let route = Route {
            id: id.clone(),
            secure: planned.secure,
            https: planned.https,
            project: planned.project.clone(),
            etag,
            split,
            members,
            mirror,
            limits: over.record.cloned(),
            sticky: planned.sticky,
            split_by: planned.split_by.clone(),
            body_max: over.body_max(planned.body_max),
            features: over.features(planned.features.as_ref()),
            ends: planned.ends.map(|end| end.date),
        };
        (keep(route, before), problems)
    }
}

/// The next time at which a split or limits of the API end and others hold.
fn next_expiry(decisions: &Decisions, now: Timestamp) -> Option<Timestamp> {
    let ends = decisions.splits.values().filter_map(|split| split.effective(now)?.expires_at);
    let limits = decisions.limits.values().filter_map(|limits| limits.effective(now)?.expires_at);
    ends.chain(limits).min()
}

fn unreachable(id: &SourceId, facts: &crate::facts::SourceFacts) -> Option<Problem> {
    let lost = facts.lost.as_ref()?;
    let text = format!("{id} cannot be reached: {}", lost.error);
    let remedy =
        "traffic goes on with what was known; start it or correct `docker.hosts`, it is tried again for ever";
    Some(Problem::new(
        "source-unreachable",
        fairway_config::labels::Severity::Error,
        id.to_string(),
        text,
        remedy,
    ))
}

/// Each problem once, errors first, each with the time it was first seen.
fn date_problems(problems: Vec<Problem>, before: &Catalog, now: Timestamp) -> Vec<Arc<Problem>> {
    let known: HashMap<_, _> = before.problems.iter().map(|problem| (problem.identity(), problem)).collect();
    let mut dated: Vec<Arc<Problem>> = problems
        .into_iter()
        .map(|mut problem| {
            let old = known.get(&problem.identity()).copied();
            problem.since = old.map_or(now, |old| old.since);
            keep(problem, old)
        })
        .collect();
    dated.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.identity().cmp(&b.identity())));
    dated.dedup_by(|a, b| a.identity() == b.identity());
    dated
}

fn internal_clients(inputs: &Inputs) -> Arc<InternalClients> {
    let networks = inputs.sources.values().flat_map(|source| source.networks.values());
    Arc::new(InternalClients::new(&inputs.settings.internal, networks.map(|network| &**network)))
}

fn networks(inputs: &Inputs) -> Vec<Arc<crate::facts::Network>> {
    inputs.sources.values().flat_map(|source| source.networks.values()).cloned().collect()
}

fn source_statuses(inputs: &Inputs) -> Vec<SourceStatus> {
    let status = |(id, facts): (&SourceId, &Arc<crate::facts::SourceFacts>)| SourceStatus {
        id: id.clone(),
        listed: facts.listed,
        lost: facts.lost.clone(),
        peer: facts.peer.clone(),
        units: facts.units.len(),
    };
    inputs.sources.iter().map(status).collect()
}
