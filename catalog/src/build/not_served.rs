//! Labels that are understood and that this version does not act on: each is a problem, so that nobody counts on them.
//!
//! Not here: labels that cannot be read (they come with the unit), listeners of their own (see `balancers`), and probes that cannot be made (see `health`).

use fairway_config::labels::Severity;

use crate::facts::Unit;
use crate::problem::Problem;

/// What a unit asks for in vain.
pub(super) fn not_served(unit: &Unit) -> impl Iterator<Item = Problem> {
    let transport = &unit.spec.transport;
    let hedge = transport.hedge.is_some().then(|| {
        let text = "this version sends no second request to another instance";
        label(unit, "fairway.hedge", "", text, "leave it out, or shorten fairway.timeout.first_byte")
    });
    hedge.into_iter()
}

fn label(unit: &Unit, key: &str, value: &str, text: &str, remedy: &str) -> Problem {
    Problem::new("label-not-served", Severity::Warning, unit.name.clone(), text, remedy).at(key, value)
}
