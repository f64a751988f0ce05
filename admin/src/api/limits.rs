//! Timeouts and limits of a route: what holds and where it comes from, and orders about it.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fairway_catalog::inputs::LimitsRecord;
use http::StatusCode;
use http::header::{ETAG, HeaderValue};

use super::{done, removed};
use crate::control::{Who, find_route};
use crate::extract::{Body, IfMatch, Name};
use crate::problem::Refusal;
use crate::state::AppState;
use crate::types::{LimitsOrder, Route, RouteLimits};
use crate::view;

/// Each timeout and limit of a route as it holds now, and where it comes from.
#[utoipa::path(
    get,
    operation_id = "get_limits",
    path = "/api/v1/routes/{route}/limits",
    tag = "cluster",
    params(("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`")),
    responses(
        (status = 200, body = RouteLimits, description = "The limits", headers(("ETag" = String, description = "For If-Match"))),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is no such route"),
    )
)]
pub(super) async fn get(State(app): AppState, Name(name): Name) -> Result<Response, Refusal> {
    let catalog = app.catalog();
    let route = find_route(&catalog, &name)?;
    Ok(tagged(Json(view::limits(&route, &catalog)).into_response(), &route))
}

/// Replaces all limits of a route that this API sets; those that it does not name are again as labels and the configuration
/// file say. Answered when it is stored and live. Requests and connections that run go on; requests that come are held to it.
#[utoipa::path(
    put,
    operation_id = "put_limits",
    path = "/api/v1/routes/{route}/limits",
    tag = "orders",
    params(
        ("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`"),
        ("If-Match" = Option<String>, Header, description = "The etag of the route's limits; another one is answered with 412"),
    ),
    request_body = LimitsOrder,
    responses(
        (status = 200, body = Route, description = "The route", headers(("ETag" = String, description = "Of the new limits"))),
        (status = 202, body = Route, description = "Stored; not yet live everywhere after 2 s"),
        (status = 400, body = Refusal, content_type = "application/problem+json", description = "The body is no JSON"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is no such route"),
        (status = 409, body = Refusal, content_type = "application/problem+json", description = "Too many orders wait for each other's expiry"),
        (status = 412, body = Refusal, content_type = "application/problem+json", description = "The limits were changed"),
        (status = 413, body = Refusal, content_type = "application/problem+json", description = "The body is larger than 64 KiB"),
        (status = 415, body = Refusal, content_type = "application/problem+json", description = "The body is said to be something else than JSON"),
        (status = 422, body = Refusal, content_type = "application/problem+json", description = "It cannot hold; `errors` has everything that is wrong"),
        (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be stored"),
    )
)]
pub(super) async fn put(
    State(app): AppState,
    Name(name): Name,
    IfMatch(if_match): IfMatch,
    who: Who,
    Body(order): Body<LimitsOrder>,
) -> Result<Response, Refusal> {
    let ordered = app.state.control.put_limits(name, order, if_match, who).await?;
    Ok(answer(done(ordered.live), &ordered.now))
}

/// Takes all limits of a route that this API sets away; those of labels and the configuration file hold again.
#[utoipa::path(
    delete,
    operation_id = "delete_limits",
    path = "/api/v1/routes/{route}/limits",
    tag = "orders",
    params(
        ("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`"),
        ("If-Match" = Option<String>, Header, description = "The etag of the route's limits; another one is answered with 412"),
    ),
    responses(
        (status = 200, body = Route, description = "The route", headers(("ETag" = String, description = "Of what holds now"))),
        (status = 202, body = Route, description = "Stored; not yet live everywhere after 2 s"),
        (status = 204, description = "The limits of a route that is gone were removed"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is no such route"),
        (status = 412, body = Refusal, content_type = "application/problem+json", description = "The limits were changed"),
        (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be stored"),
    )
)]
pub(super) async fn delete(
    State(app): AppState,
    Name(name): Name,
    IfMatch(if_match): IfMatch,
    who: Who,
) -> Result<Response, Refusal> {
    let ordered = app.state.control.delete_limits(name, if_match, who).await?;
    Ok(removed(&ordered, answer))
}

fn answer(status: StatusCode, route: &fairway_catalog::Route) -> Response {
    tagged((status, Json(view::route(route))).into_response(), route)
}

/// With the tag of the limits: that of the split, which is in the body, is another.
fn tagged(mut response: Response, route: &fairway_catalog::Route) -> Response {
    if let Ok(etag) = HeaderValue::from_str(&LimitsRecord::etag(route.limits.as_deref())) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}
