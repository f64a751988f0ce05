//! What can be wrong with an order to copy a route's requests to a version.
//!
//! Not here: copying (that is `proxy`'s).

use fairway_config::labels::Severity;
use fairway_config::names::RouteId;

use crate::inputs::MirrorRecord;
use crate::model::{Member, State};
use crate::problem::Problem;

/// Nobody gets the copies: the version does not serve the route now, or people have taken it out.
pub(super) fn problem(route: &RouteId, mirror: &MirrorRecord, members: &[Member]) -> Option<Problem> {
    let to = &mirror.to;
    let member = members.iter().find(|member| member.backend.id == *to);
    let text = match member.map(|member| member.state) {
        Some(State::Active) => return None,
        Some(state) => {
            format!("requests of {route} are to be copied to {to}, which is {state}: it gets none")
        }
        None => format!("requests of {route} are to be copied to {to}, which does not serve the route now"),
    };
    let remedy = "start or activate it, or stop copying: `fairway mirror ROUTE --off`";
    Some(
        Problem::new("mirror-without-target", Severity::Warning, route.to_string(), text, remedy)
            .at("", to.to_string()),
    )
}
