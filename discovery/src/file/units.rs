//! Static services as the catalog's units: one per instance.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fairway_catalog::Problem;
use fairway_catalog::facts::{Lifecycle, Unit, UnitKind};
use fairway_config::file::{StaticHost, StaticInstance, StaticService};
use fairway_config::labels::{BalancerClaim, PortClaim, ProbeCheck, ServiceSpec, Severity, shown};
use fairway_config::names::BackendId;
use jiff::Timestamp;

use super::names::{Names, Resolved};
use crate::NodeInfo;

/// Operators' entries stand from before the first container: theirs is a route that both claim.
const CREATED: Timestamp = Timestamp::UNIX_EPOCH;

/// The units of all services, by id, those of `before` kept where they are equal; and the names without a good answer.
pub(super) fn build(
    services: &[StaticService],
    names: &Names,
    node: &NodeInfo,
    before: &BTreeMap<Arc<str>, Arc<Unit>>,
) -> (BTreeMap<Arc<str>, Arc<Unit>>, Vec<Problem>) {
    let mut units: BTreeMap<Arc<str>, Arc<Unit>> = BTreeMap::new();
    let mut unresolved: BTreeMap<Arc<str>, Problem> = BTreeMap::new();
    for service in services.iter().filter(|service| service.spec.enable != Some(false)) {
        for instance in &service.instances {
            let unit = unit(service, instance, names, node, |id| units.contains_key(id));
            if let StaticHost::Name(name) = &instance.host
                && let Some(problem) = names.get(name).and_then(|resolved| unresolved_name(name, resolved))
            {
                unresolved.insert(name.clone(), problem);
            }
            let kept = before.get(&unit.id).filter(|old| ***old == unit).cloned();
            units.insert(unit.id.clone(), kept.unwrap_or_else(|| Arc::new(unit)));
        }
    }
    (units, unresolved.into_values().collect())
}

fn unit(
    service: &StaticService,
    instance: &StaticInstance,
    names: &Names,
    node: &NodeInfo,
    is_taken: impl Fn(&str) -> bool,
) -> Unit {
    let backend = BackendId {
        project: service.project.clone(),
        service: service.name.clone(),
        version: service.version.clone(),
    };
    let address = match &instance.host {
        StaticHost::Ip(ip) => SocketAddr::new(*ip, instance.port).to_string(),
        StaticHost::Name(name) => format!("{name}:{}", instance.port),
    };
    let short = format!("{}@{}/{address}", service.name, service.version);
    // Two projects may give a service of one name and version the same address.
    let id: Arc<str> = if is_taken(&short) { format!("{backend}/{address}") } else { short }.into();
    let (ip, reason) = address_of(&instance.host, names);
    Unit {
        name: id.clone(),
        id,
        kind: UnitKind::Static,
        backend,
        created: CREATED,
        started: CREATED,
        lifecycle: Lifecycle::Running,
        ip,
        network: "".into(),
        address_reason: reason,
        exposed_ports: vec![instance.port],
        spec: Arc::new(spec(service, instance.port)),
        label_problems: Vec::new(),
        weight: instance.weight,
        docker_health: None,
        links: service.spec.depends.clone(),
        node: match &instance.host {
            StaticHost::Ip(ip) => ip.to_string().into(),
            StaticHost::Name(name) => name.clone(),
        },
        zone: instance
            .zone
            .clone()
            .or_else(|| service.spec.zone.clone())
            .unwrap_or_else(|| node.zone.clone()),
    }
}

/// What labels of a container at this port would say.
fn spec(service: &StaticService, port: u16) -> ServiceSpec {
    let mut spec = service.spec.clone();
    spec.ports = vec![PortClaim { port, entries: service.routes.clone() }];
    spec.balancers = service.balancers.iter().map(|claim| BalancerClaim { port, ..claim.clone() }).collect();
    spec.project = service.project.clone();
    spec.service = Some(service.name.clone());
    spec.version = Some(service.version.clone());
    if service.probe_own_port
        && let Some(probe) = &mut spec.probe
        && let ProbeCheck::Http { port: probed, .. } = &mut probe.check
    {
        *probed = port;
    }
    spec
}

fn address_of(host: &StaticHost, names: &Names) -> (Option<IpAddr>, Arc<str>) {
    let name = match host {
        StaticHost::Ip(ip) => return (Some(*ip), "as configured".into()),
        StaticHost::Name(name) => name,
    };
    let known = names.get(name);
    let ip = known.and_then(|known| known.ip);
    let failed = known.is_some_and(|known| known.error.is_some());
    let name = shown(name);
    let reason = match (ip, failed) {
        (Some(_), false) => format!("what {name} resolves to"),
        (Some(_), true) => format!("the last good answer for {name}"),
        (None, false) => format!("{name} is being resolved"),
        (None, true) => format!("{name} does not resolve"),
    };
    (ip, reason.into())
}

fn unresolved_name(name: &str, resolved: &Resolved) -> Option<Problem> {
    let error = resolved.error.as_deref()?;
    let (severity, goes_on) = match resolved.ip {
        Some(ip) => (Severity::Warning, format!("its last address {ip} is used")),
        None => (Severity::Error, "its instances have no address".to_owned()),
    };
    let name = shown(name);
    let text = format!("{name} does not resolve: {error}; {goes_on}");
    let remedy = "correct the name or the DNS; it is asked for again every 2 s";
    Some(Problem::new("name-unresolved", severity, name, text, remedy))
}

#[cfg(test)]
mod tests;
