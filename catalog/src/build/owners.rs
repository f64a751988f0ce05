//! Which project a route belongs to (design rule 10): this guards against accidents between projects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairway_config::file::HostClaim;
use fairway_config::names::{Host, HostPattern, RouteId};
use jiff::Timestamp;

use crate::inputs::Owner;

/// An owner keeps its route this long after its last claim.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// How stale a stored `last_claim` may be, so that it is not written at every build.
const REFRESH: Duration = Duration::from_secs(3600);

/// A project; `None` is "no project".
pub(super) type Project = Option<Arc<str>>;

/// Who may serve a route.
pub(super) enum Ownership {
    /// The projects that `routing.claims` lists for its host.
    Listed(Vec<Arc<str>>),
    /// The first to claim it.
    First(Project),
}

impl Ownership {
    /// Whether containers of this project may serve the route.
    pub(super) fn admits(&self, project: &Project) -> bool {
        match self {
            Self::Listed(projects) => project.as_ref().is_some_and(|project| projects.contains(project)),
            Self::First(owner) => owner == project,
        }
    }

    /// The owner, for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Listed(projects) => format!("routing.claims ({})", projects.join(", ")),
            Self::First(Some(project)) => format!("project {project}"),
            Self::First(None) => "containers without a project".to_owned(),
        }
    }
}

/// Decides who owns `route`, claimed by these projects with the creation time of each one's oldest container.
pub(super) fn decide(
    route: &RouteId,
    claims: &BTreeMap<Project, Timestamp>,
    listed: &[HostClaim],
    before: Option<&Owner>,
    now: Timestamp,
) -> Ownership {
    if let Some(claim) = listed_for(&route.host, listed) {
        return Ownership::Listed(claim.projects.clone());
    }
    if let Some(owner) = before {
        let holds =
            claims.contains_key(&owner.project) || now.duration_since(owner.last_claim) < to_signed(KEEP);
        if holds {
            return Ownership::First(owner.project.clone());
        }
    }
    let first = claims.iter().min_by_key(|(project, created)| (**created, (*project).clone()));
    Ownership::First(first.and_then(|(project, _)| project.clone()))
}

/// What is remembered of a route's owner after this build; `None` once nobody has claimed it for 24 h.
pub(super) fn remember(
    owner: &Project,
    claimed: bool,
    was_claimed: bool,
    before: Option<&Owner>,
    now: Timestamp,
) -> Option<Owner> {
    let refreshed = Owner { project: owner.clone(), last_claim: now };
    let age = |old: &Owner| now.duration_since(old.last_claim);
    match before.filter(|old| old.project == *owner) {
        Some(old) if claimed && age(old) < to_signed(REFRESH) => Some(old.clone()),
        _ if claimed || was_claimed => Some(refreshed),
        Some(old) if age(old) < to_signed(KEEP) => Some(old.clone()),
        _ => None,
    }
}

fn to_signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

/// The most specific entry of `routing.claims` that covers the host.
fn listed_for<'a>(host: &HostPattern, listed: &'a [HostClaim]) -> Option<&'a HostClaim> {
    let covering = listed.iter().filter(|claim| covers(&claim.host, host));
    covering.max_by_key(|claim| match &claim.host {
        Host::Exact(name) | Host::Prefix(name) => (1, name.len()),
        Host::Wildcard(name) => (0, name.len()),
    })
}

fn covers(claim: &Host, host: &HostPattern) -> bool {
    match (claim, host) {
        (Host::Exact(name) | Host::Prefix(name), HostPattern::Exact(host)) => name == host,
        (Host::Exact(_) | Host::Prefix(_), HostPattern::Wildcard(_)) => false,
        (Host::Wildcard(name), HostPattern::Exact(host)) => is_below(host, name),
        (Host::Wildcard(name), HostPattern::Wildcard(host)) => host == name || is_below(host, name),
    }
}

fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}
