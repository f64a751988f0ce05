//! Orders about copies of a route's requests.

use axum::extract::State;
use axum::response::Response;

use super::routes::answer;
use super::{done, removed};
use crate::control::Who;
use crate::extract::{Body, Name};
use crate::problem::Refusal;
use crate::state::AppState;
use crate::types::{MirrorOrder, Route};

/// Has a part of the route's requests copied to one of its backends, whatever the backend's weight. The answers to copies
/// are thrown away and counted in `fairway_mirrored_requests_total`. Answered when it is stored and live.
#[utoipa::path(
    put,
    operation_id = "put_mirror",
    path = "/api/v1/routes/{route}/mirror",
    tag = "orders",
    params(("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`")),
    request_body = MirrorOrder,
    responses(
        (status = 200, body = Route, description = "The route"),
        (status = 202, body = Route, description = "Stored; not yet live everywhere after 2 s"),
        (status = 400, body = Refusal, content_type = "application/problem+json", description = "The body is no JSON"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is no such route"),
        (status = 409, body = Refusal, content_type = "application/problem+json", description = "A name may be several"),
        (status = 413, body = Refusal, content_type = "application/problem+json", description = "The body is larger than 64 KiB"),
        (status = 415, body = Refusal, content_type = "application/problem+json", description = "The body is said to be something else than JSON"),
        (status = 422, body = Refusal, content_type = "application/problem+json", description = "It cannot hold"),
        (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be stored"),
    )
)]
pub(super) async fn put(
    State(app): AppState,
    Name(name): Name,
    who: Who,
    Body(order): Body<MirrorOrder>,
) -> Result<Response, Refusal> {
    let ordered = app.state.control.put_mirror(name, order, who).await?;
    Ok(answer(done(ordered.live), &ordered.now))
}

/// Has nothing copied any more.
#[utoipa::path(
    delete,
    operation_id = "delete_mirror",
    path = "/api/v1/routes/{route}/mirror",
    tag = "orders",
    params(("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`")),
    responses(
        (status = 200, body = Route, description = "The route"),
        (status = 202, body = Route, description = "Stored; not yet live everywhere after 2 s"),
        (status = 204, description = "What was ordered of a route that is gone was removed"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is no such route"),
        (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be stored"),
    )
)]
pub(super) async fn delete(State(app): AppState, Name(name): Name, who: Who) -> Result<Response, Refusal> {
    let ordered = app.state.control.delete_mirror(name, who).await?;
    Ok(removed(&ordered, answer))
}
