//! Labels that are understood and that this version does not act on: each is a problem, so that nobody counts on them.
//!
//! Not here: labels that cannot be read (they come with the unit), listeners of their own (see `balancers`), and probes that cannot be made (see `health`).

use fairway_config::labels::Severity;

use crate::facts::Unit;
use crate::problem::Problem;

/// What a unit asks for in vain.
pub(super) fn not_served(unit: &Unit) -> Option<Problem> {
    let protocol = unit.spec.transport.hedges_in_vain()?;
    let text =
        format!("no second request is sent to instances that speak HTTP/2 (fairway.protocol: {protocol})");
    let remedy = "leave it out, or set fairway.protocol to http1 or https";
    let name = unit.name.clone();
    Some(
        Problem::new("label-not-served", Severity::Warning, name, text, remedy).at("fairway.hedge", protocol),
    )
}
