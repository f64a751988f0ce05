//! A container as the catalog's [`Unit`].

use std::net::IpAddr;
use std::sync::Arc;

use fairway_catalog::facts::{Lifecycle, Unit, UnitKind};
use fairway_config::labels::{LabelProblem, Severity, shown};
use fairway_config::names::Weight;
use jiff::Timestamp;

use super::address::Choice;
use super::container::{Container, Phase};
use super::identity;

/// Where an engine's containers are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// The node's name.
    pub(super) node: Arc<str>,
    /// Its zone, empty for none.
    pub(super) zone: Arc<str>,
    /// The address of containers in the host's network, never a loopback one.
    pub(super) address: Option<IpAddr>,
}

/// The unit; `None` when it is not to be routed to. `stopping` is when its stop signal was seen in this life.
pub(super) fn build(
    container: &Container,
    stopping: Option<Timestamp>,
    address: Choice,
    place: &Place,
) -> Option<Unit> {
    if !container.is_exposed() {
        return None;
    }
    let lifecycle = match (container.phase, stopping) {
        (Phase::Down, _) => return None,
        (Phase::Restarting, _) => Lifecycle::Restarting,
        (Phase::Paused, _) => Lifecycle::Paused,
        (Phase::Running, Some(since)) => Lifecycle::Stopping { since, timeout: container.stop_timeout },
        (Phase::Running, None) => Lifecycle::Running,
    };
    let Container { spec, origin, .. } = container;
    let mut label_problems = container.label_problems.clone();
    if let Some(label) = spec.network.as_deref().filter(|_| address.label_missed) {
        label_problems.push(not_in_network(label, &address.reason));
    }
    let mut links = spec.depends.clone();
    links.extend(container.links.iter().filter(|link| !spec.depends.contains(link)).cloned());
    Some(Unit {
        id: container.id.clone(),
        kind: UnitKind::Container,
        name: container.name.clone(),
        backend: identity::backend(spec, origin, &container.name, &container.image, &container.image_id),
        created: container.created,
        started: container.started,
        lifecycle,
        ip: address.ip,
        network: address.network,
        address_reason: address.reason,
        exposed_ports: container.exposed_ports.clone(),
        spec: spec.clone(),
        label_problems,
        weight: Weight::DEFAULT,
        docker_health: container.health,
        links,
        node: place.node.clone(),
        zone: spec.zone.clone().unwrap_or_else(|| place.zone.clone()),
    })
}

fn not_in_network(label: &str, used: &str) -> LabelProblem {
    LabelProblem {
        kind: "label-network-not-attached",
        severity: Severity::Warning,
        key: "fairway.network".to_owned(),
        value: shown(label),
        text: format!("the container is not in the network `{}`; used is {used}", shown(label)),
        remedy: "connect the container to it, or name a network that it is in".to_owned(),
    }
}
