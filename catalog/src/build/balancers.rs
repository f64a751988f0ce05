//! Listeners of their own (`aliyun.lb.port_N`): which front ports an instance claims, and which it claims in vain.
//!
//! A front port is a route like any other, `tcp://:PORT` or with another protocol: owner, split and tombstone follow the rules of routes. Not here:
//! those rules (see `shape`), the sockets (those are `proxy`'s).

use fairway_config::labels::{BalancerClaim, BalancerProtocol, Severity};
use fairway_config::names::FrontPort;

use super::shape::PlannedInstance;
use crate::facts::Unit;
use crate::inputs::Settings;
use crate::problem::Problem;

/// The front ports whose connections this instance takes.
pub(super) fn front_ports<'a>(
    instance: &'a PlannedInstance,
    settings: &'a Settings,
) -> impl Iterator<Item = FrontPort> + 'a {
    let own = instance.unit.spec.balancers.iter().filter(|claim| claim.port == instance.port);
    own.filter(|claim| is_served(claim, settings) && !is_ours(claim, settings))
        .map(|claim| FrontPort { protocol: claim.protocol, port: claim.front_port })
}

/// What of it a unit asks for in vain.
pub(super) fn problems(unit: &Unit, settings: &Settings) -> Vec<Problem> {
    let problem = |claim| match claim {
        claim if !is_served(claim, settings) => Some(not_secured(unit, claim)),
        claim if is_ours(claim, settings) => Some(taken(unit, claim)),
        _ => None,
    };
    unit.spec.balancers.iter().filter_map(problem).collect()
}

/// HTTPS is spoken as the first TLS listener of the configuration does, with the same certificates.
fn is_served(claim: &BalancerClaim, settings: &Settings) -> bool {
    claim.protocol != BalancerProtocol::Https || settings.tls.is_some()
}

/// Whether a listener of the configuration has this port, on whichever address. None of them takes datagrams but the DNS,
/// whose ports are not known here: there the port cannot be opened.
fn is_ours(claim: &BalancerClaim, settings: &Settings) -> bool {
    claim.protocol != BalancerProtocol::Udp
        && settings.own_listeners.iter().any(|listener| listener.port() == claim.front_port)
}

fn not_secured(unit: &Unit, claim: &BalancerClaim) -> Problem {
    let text = format!(
        "{} asks for HTTPS on port {}, but there is no TLS listener whose certificates could be shown",
        unit.name, claim.front_port
    );
    let remedy =
        "configure [https] listen and a [[certificate]], or write tcp:// if the service speaks TLS itself";
    problem("no-tls-listener", Severity::Error, unit, claim, text, remedy)
}

fn taken(unit: &Unit, claim: &BalancerClaim) -> Problem {
    let port = claim.front_port;
    let text =
        format!("{} asks for port {port}, where a listener of Fairway's own configuration is", unit.name);
    let remedy = "choose another front port, or move that listener";
    problem("balancer-port-taken", Severity::Error, unit, claim, text, remedy)
}

fn problem(
    kind: &'static str,
    severity: Severity,
    unit: &Unit,
    claim: &BalancerClaim,
    text: String,
    remedy: &'static str,
) -> Problem {
    let value = format!("{}:{}", claim.name, claim.front_port);
    Problem::new(kind, severity, unit.name.clone(), text, remedy)
        .at(format!("aliyun.lb.port_{}", claim.port), value)
}
