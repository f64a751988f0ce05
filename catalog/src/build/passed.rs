//! TLS that is passed on as it is (`fairway.tls.passthrough`): which hosts an instance takes so, and which it takes in vain.
//!
//! Such a host is a route of its own, `tls://HOST`: owner, split and tombstone follow the rules of routes. It takes all TLS
//! of its host, so it needs the whole host to be its project's. Not here: the rules of routes (see `shape`), reading the name
//! in a handshake (that is `proxy`'s).

use std::collections::BTreeMap;

use fairway_config::labels::{Passthrough, Severity};
use fairway_config::names::{RouteEntry, RouteId};

use super::owners::Project;
use super::shape::{PlannedInstance, RouteShape, entries_for, ports_of};
use crate::facts::Unit;
use crate::inputs::{Owner, Settings};
use crate::problem::Problem;

const KEY: &str = "fairway.tls.passthrough";

/// The hosts whose TLS goes to this instance.
pub(super) fn routes(instance: &PlannedInstance, settings: &Settings) -> Vec<RouteId> {
    let spec = &instance.unit.spec;
    let suffix = &settings.domain_suffix;
    match &spec.passthrough {
        _ if obstacle(&instance.unit).is_some() => Vec::new(),
        None => Vec::new(),
        Some(Passthrough::Hosts(hosts)) => {
            hosts.iter().map(|host| RouteId::tls(host.complete(suffix))).collect()
        }
        Some(Passthrough::Routes) => {
            let own = entries_for(spec, instance.port).filter(|entry| is_passed(&instance.unit, entry));
            own.map(|entry| RouteId::tls(entry.host.complete(suffix))).collect()
        }
    }
}

/// Whether the TLS of this entry is passed on, so that no requests of it are served. A part of a host cannot be: its path
/// is within TLS.
pub(super) fn is_passed(unit: &Unit, entry: &RouteEntry) -> bool {
    unit.spec.passthrough == Some(Passthrough::Routes)
        && entry.scheme.is_secure()
        && &*entry.path == "/"
        && obstacle(unit).is_none()
}

/// Why nothing can be passed on, and what to do about it.
fn obstacle(unit: &Unit) -> Option<(&'static str, &'static str)> {
    let spec = &unit.spec;
    if spec.passthrough.is_some() && spec.features.auth.is_some() {
        return Some((
            "nobody can be asked for a password in TLS that is not ended here",
            "leave out fairway.auth.basic, or the passthrough",
        ));
    }
    match &spec.passthrough {
        Some(Passthrough::Hosts(_)) if !has_one_port(unit) => Some((
            "it is not clear which port the hosts are for",
            "claim them with aliyun.routing.port_N: https://HOST and write `true`",
        )),
        _ => None,
    }
}

/// One that a label names, or that is exposed if none does.
fn has_one_port(unit: &Unit) -> bool {
    let (spec, ports) = (&unit.spec, ports_of(unit));
    let named = !(spec.ports.is_empty() && spec.balancers.is_empty());
    ports.len() == 1 && !ports.contains(&0) && (named || unit.exposed_ports.len() == 1)
}

/// What a unit asks for in vain.
pub(super) fn problems(unit: &Unit, settings: &Settings) -> Vec<Problem> {
    let Some(asked) = &unit.spec.passthrough else { return Vec::new() };
    let problem = |kind, severity, text: &str, remedy: &str| {
        let text = format!("{} asks for its TLS as it is: {text}", unit.name);
        Problem::new(kind, severity, unit.name.clone(), text, remedy).at(KEY, shown(asked))
    };
    if let Some((text, remedy)) = obstacle(unit) {
        return vec![problem("passthrough-impossible", Severity::Error, text, remedy)];
    }
    let mut found = Vec::new();
    let mut secure = unit.spec.ports.iter().flat_map(|claim| &claim.entries).filter(|e| e.scheme.is_secure());
    if *asked == Passthrough::Routes {
        if let Some(entry) = secure.clone().find(|entry| !is_passed(unit, entry)) {
            let text =
                format!("{entry} is a part of a host, which cannot be told in TLS; it is served as it was");
            let remedy = "claim the whole host with https://, or leave the passthrough out";
            found.push(problem("passthrough-impossible", Severity::Error, &text, remedy));
        } else if secure.next().is_none() {
            let text = "but it claims no host with https://";
            let remedy = "write https:// in front of the hosts, or the hosts in place of `true`";
            found.push(problem("passthrough-impossible", Severity::Error, text, remedy));
        }
    }
    if settings.tls.is_none() {
        let remedy = "configure [https] listen; it needs no certificate for these hosts";
        found.push(problem("no-tls-listener", Severity::Error, "but there is no TLS listener", remedy));
    }
    found
}

fn shown(asked: &Passthrough) -> String {
    match asked {
        Passthrough::Routes => "true".to_owned(),
        Passthrough::Hosts(hosts) => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"),
    }
}

/// Another project than `project` that has a route of the host of `id`, and had it first: whose TLS it was stays so.
/// `owners` are those of before, `routes` those of now that are known already.
pub(super) fn host_owner(
    id: &RouteId,
    (project, created): (&Project, jiff::Timestamp),
    owners: &BTreeMap<RouteId, Owner>,
    routes: &BTreeMap<RouteId, RouteShape>,
) -> Option<Project> {
    // Whoever had the TLS before keeps it.
    if owners.get(id).is_some_and(|owner| owner.project == *project) {
        return None;
    }
    let remembered = others_of_host(id, owners).map(|(_, owner)| &owner.project);
    let elder = others_of_host(id, routes).filter(|(_, route)| route.created <= created);
    let mut others = remembered.chain(elder.map(|(_, route)| &route.project));
    others.find(|other| *other != project).cloned()
}

/// The routes of the same host: neighbours in the order of names.
fn others_of_host<'a, T>(
    id: &'a RouteId,
    all: &'a BTreeMap<RouteId, T>,
) -> impl Iterator<Item = (&'a RouteId, &'a T)> {
    let first = RouteId { host: id.host.clone(), path: "".into() };
    all.range(first..).take_while(|(other, _)| other.host == id.host).filter(move |(other, _)| *other != id)
}

/// What is told of a host that one claims for its TLS, and another one with `https://`.
pub(super) fn conflict(id: &RouteId, routes: &BTreeMap<RouteId, RouteShape>) -> Option<Problem> {
    let (served, _) = others_of_host(id, routes).find(|(_, route)| route.https)?;
    let text = format!(
        "{served} is claimed with https, but all TLS of its host is passed on: requests of it come without TLS only"
    );
    let remedy =
        "leave out fairway.tls.passthrough where the host is claimed, or https:// where it is served";
    Some(Problem::new("passthrough-and-https", Severity::Error, id.to_string(), text, remedy))
}
