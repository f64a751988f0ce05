//! What the moves of a release make of its route's split and of states. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairway_catalog::inputs::{SplitRecord, StateRecord, StateSubject};
use fairway_catalog::{Catalog, Decisions, Member, Route, State};
use fairway_config::names::{BackendId, RouteId, Weight};
use fairway_release::model::{Release, Stage};
use fairway_release::restore::former_split;
use fairway_store::Consequences;
use jiff::Timestamp;

use super::ITSELF;

/// The reason of a target's state after a rollback: scripts look for it.
const ROLLED_BACK: &str = "rolled_back";

/// A release begins: its first weights. A target that is draining, from a release before perhaps, is active again in this route;
/// in others that somebody else serves it goes on draining, for nobody watches it there.
pub(super) fn of_start(
    route: &RouteId,
    release: &Release,
    (catalog, decisions): (&Catalog, &Decisions),
    now: Timestamp,
) -> Consequences {
    let to = &release.plan.to;
    let (whole, here) = (StateSubject::Backend(to.clone()), StateSubject::Member(route.clone(), to.clone()));
    let drain = |subject: &StateSubject| {
        decisions.states.get(subject).filter(|record| record.state == State::Draining)
    };
    let mut states = Vec::new();
    if let Some(record) = drain(&whole) {
        let others =
            catalog.routes.values().filter(|other| other.id != *route && is_served_beside(other, to));
        let there =
            |other: &Arc<Route>| (StateSubject::Member(other.id.clone(), to.clone()), Some(record.clone()));
        states.extend(others.map(there));
    }
    let lifted = [whole, here].into_iter().filter(|subject| drain(subject).is_some());
    states.extend(lifted.map(|subject| (subject, None)));
    Consequences { split: Some(Some(split(release, release.weights(), now))), states }
}

/// Whether the route has this backend, and another one that serves it.
fn is_served_beside(route: &Route, id: &BackendId) -> bool {
    let (own, rest): (Vec<_>, Vec<_>) = route.members.iter().partition(|member| member.backend.id == *id);
    !own.is_empty() && rest.into_iter().any(takes_new)
}

/// A move has been made; before it the target had a share of `before` percent.
pub(super) fn of_move(
    route: &RouteId,
    release: &Release,
    before: u8,
    (catalog, decisions): (&Catalog, &Decisions),
    now: Timestamp,
) -> Consequences {
    match release.stage {
        Stage::RolledBack => {
            let disabled = state(State::Disabled, ROLLED_BACK.to_owned(), now);
            let subjects = whom_to_disable(catalog, &release.plan.to, route);
            Consequences {
                split: Some(Some(former_split(release, now))),
                states: subjects.into_iter().map(|subject| (subject, Some(disabled.clone()))).collect(),
            }
        }
        Stage::Done => of_end(route, release, (catalog, decisions), now),
        _ if release.weight != before => {
            Consequences { split: Some(Some(split(release, release.weights(), now))), states: Vec::new() }
        }
        _ => Consequences::default(),
    }
}

/// The target takes everything: the others drain, and no split is needed any more. Unless the layers below would keep the
/// target from what it holds: then a split stays that says so.
fn of_end(
    route: &RouteId,
    release: &Release,
    (catalog, decisions): (&Catalog, &Decisions),
    now: Timestamp,
) -> Consequences {
    let to = &release.plan.to;
    let members = catalog.routes.get(route).into_iter().flat_map(|route| &route.members);
    let ids = members.map(|member| &member.backend.id);
    let others: BTreeSet<&BackendId> = release.from.keys().chain(ids).filter(|id| *id != to).collect();
    // What people have set stays, and what drains goes on.
    let is_active = |id: &&&BackendId| {
        let id = (**id).clone();
        let here = StateSubject::Member(route.clone(), id.clone());
        ![StateSubject::Backend(id), here].iter().any(|subject| decisions.states.contains_key(subject))
    };
    let reason = format!("{to} has taken over {route}");
    let drained = |id: &&BackendId| {
        (whom_to_drain(catalog, id, to, route), Some(state(State::Draining, reason.clone(), now)))
    };
    let states = others.iter().filter(is_active).map(drained).collect();
    let kept = || {
        let zeros = others.iter().map(|id| ((*id).clone(), Weight::ZERO));
        let weights = zeros.chain([(to.clone(), Weight::DEFAULT)]).collect();
        SplitRecord { reason: reason.as_str().into(), ..split(release, weights, now) }
    };
    Consequences { split: Some(is_kept_down(catalog, route, to).then(kept)), states }
}

/// A backend that the target has replaced drains as a whole, but in the route of the release alone while another one counts on it.
fn whom_to_drain(catalog: &Catalog, id: &BackendId, to: &BackendId, route: &RouteId) -> StateSubject {
    let mut others = catalog.routes.values().filter(|other| other.id != *route);
    match others.any(|other| counts_on(other, id, to)) {
        true => StateSubject::Member(route.clone(), id.clone()),
        false => StateSubject::Backend(id.clone()),
    }
}

/// Whether a backend has a part of this route that the target cannot just take over: it does not serve the route, or somebody has
/// said who gets how much.
fn counts_on(other: &Route, id: &BackendId, to: &BackendId) -> bool {
    let member = |id: &BackendId| other.members.iter().find(|member| member.backend.id == *id);
    let has_part = member(id).is_some_and(|member| !member.promised_zero && member.state == State::Active);
    has_part && (other.split.is_some() || !member(to).is_some_and(takes_new))
}

fn takes_new(member: &Member) -> bool {
    !member.promised_zero && member.instances.iter().any(|instance| instance.serves_new())
}

/// The target as a whole. Where a route has nobody else who could serve it, a bad answer is better than none: the target is
/// then disabled in each of its other routes instead, and in that of the release in any case.
fn whom_to_disable(catalog: &Catalog, to: &BackendId, route: &RouteId) -> Vec<StateSubject> {
    let others = catalog.routes.values().filter(|other| other.id != *route);
    let others = others.filter(|other| other.members.iter().any(|member| member.backend.id == *to));
    let (alone, replaced): (Vec<_>, Vec<_>) = others.partition(|other| is_alone(other, to));
    if alone.is_empty() {
        return vec![StateSubject::Backend(to.clone())];
    }
    let replaced = replaced.into_iter().map(|other| &other.id);
    replaced.chain([route]).map(|route| StateSubject::Member(route.clone(), to.clone())).collect()
}

/// Whether this backend serves the route, and nobody else could.
fn is_alone(route: &Route, id: &BackendId) -> bool {
    let serves = |member: &Member| member.instances.iter().any(|instance| instance.serves_new());
    let (own, rest): (Vec<_>, Vec<_>) = route.members.iter().partition(|member| member.backend.id == *id);
    own.into_iter().any(serves) && !rest.into_iter().any(takes_new)
}

/// Whether the target would get nothing, or only what nobody else can take, if no split of the API held: its label or the
/// configuration file says 0.
fn is_kept_down(catalog: &Catalog, route: &RouteId, to: &BackendId) -> bool {
    let zero = |weight: Option<Weight>| weight == Some(Weight::ZERO);
    let settings = &catalog.settings;
    let file = settings.splits.iter().find(|split| split.route.route(&settings.domain_suffix) == *route);
    if let Some(file) = file {
        let written = file.weights.iter().find(|(reference, _)| to.answers_to(reference));
        return zero(written.map(|(_, weight)| *weight));
    }
    let instances = catalog.backends.get(to).map_or(&[][..], |target| &target.instances);
    instances.iter().any(|instance| zero(instance.unit.spec.weight))
}

/// What is in force of a release that has been rolled back.
pub(super) fn as_in_force(decisions: &Decisions, route: &RouteId, release: &Release) -> Consequences {
    let to = &release.plan.to;
    let whole = StateSubject::Backend(to.clone());
    let in_routes =
        decisions.states.keys().filter(|subject| matches!(subject, StateSubject::Member(_, id) if id == to));
    let subjects = std::iter::once(&whole).chain(in_routes);
    Consequences {
        split: Some(decisions.splits.get(route).cloned()),
        states: subjects.map(|subject| (subject.clone(), decisions.states.get(subject).cloned())).collect(),
    }
}

/// Puts them into the decisions.
pub(super) fn apply(decisions: &mut Decisions, route: &RouteId, then: &Consequences) {
    match &then.split {
        None => {}
        Some(None) => drop(decisions.splits.remove(route)),
        Some(Some(split)) => drop(decisions.splits.insert(route.clone(), split.clone())),
    }
    for (subject, state) in &then.states {
        match state {
            None => decisions.states.remove(subject),
            Some(state) => decisions.states.insert(subject.clone(), state.clone()),
        };
    }
}

/// For the audit log: `web@v2 stepping 5 %: web@v1=95 web@v2=5`
pub(super) fn describe(release: &Release, then: &Consequences) -> String {
    let Release { plan, stage, weight, .. } = release;
    let mut text = format!("{} {} {weight} %", plan.to, stage.as_str());
    match &then.split {
        None => {}
        Some(None) => text.push_str(": no split"),
        Some(Some(split)) => text.push_str(&format!(": {}", super::super::describe(split))),
    }
    for (subject, state) in &then.states {
        let state = state.as_ref().map_or(State::Active, |record| record.state);
        text.push_str(&match subject {
            StateSubject::Instance(id) => format!(", {id} {state}"),
            StateSubject::Backend(id) => format!(", {id} {state}"),
            StateSubject::Member(route, id) => format!(", {id} {state} in {route}"),
        });
    }
    text
}

fn split(release: &Release, weights: BTreeMap<BackendId, Weight>, now: Timestamp) -> SplitRecord {
    let Release { plan, step, .. } = release;
    let reason = match step {
        _ if plan.manual => format!("manual release of {}: its weights are set by hand", plan.to),
        None => format!("release of {}: it has no ready instance yet", plan.to),
        Some(step) => format!("release of {}: step {} of {}", plan.to, step + 1, plan.steps.len()),
    };
    SplitRecord {
        weights,
        author: ITSELF.into(),
        at: now,
        expires_at: None,
        reason: reason.into(),
        then: None,
    }
}

fn state(state: State, reason: String, now: Timestamp) -> StateRecord {
    StateRecord { state, author: ITSELF.into(), at: now, reason: reason.into() }
}
