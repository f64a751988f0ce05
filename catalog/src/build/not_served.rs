//! Labels that are understood and that this version does not act on: each is a problem, so that nobody counts on them.
//!
//! Not here: labels that cannot be read (they come with the unit), and probes that cannot be made (see `health`).

use fairway_config::labels::{BalancerClaim, Severity};

use crate::facts::Unit;
use crate::problem::Problem;

/// What a unit asks for in vain.
pub(super) fn not_served(unit: &Unit) -> impl Iterator<Item = Problem> {
    let (spec, transport) = (&unit.spec, &unit.spec.transport);
    let sticky = (spec.session_sticky == Some(true)).then(|| {
        let text = "clients are not bound to an instance: this version sets no cookie";
        let remedy = "keep sessions where every instance finds them, or bind clients to a version with fairway.split_by";
        label(unit, "aliyun.routing.session_sticky", "true", text, remedy)
    });
    let hedge = transport.hedge.is_some().then(|| {
        let text = "this version sends no second request to another instance";
        label(unit, "fairway.hedge", "", text, "leave it out, or shorten fairway.timeout.first_byte")
    });
    let balancers = spec.balancers.iter().map(|lb| balancer(unit, lb));
    balancers.chain(sticky).chain(hedge)
}

fn label(unit: &Unit, key: &str, value: &str, text: &str, remedy: &str) -> Problem {
    Problem::new("label-not-served", Severity::Warning, unit.name.clone(), text, remedy).at(key, value)
}

fn balancer(unit: &Unit, lb: &BalancerClaim) -> Problem {
    let text = format!(
        "{} asks for a listener of its own on port {}, which this version does not open",
        unit.name, lb.front_port
    );
    let remedy = "reach the service by its name in the DNS and its own port";
    let key = format!("aliyun.lb.port_{}", lb.port);
    Problem::new("balancer-not-served", Severity::Warning, unit.name.clone(), text, remedy).at(key, &*lb.name)
}
