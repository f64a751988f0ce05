//! Routes, and orders about their splits.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{ETAG, HeaderValue};

use super::{done, removed};
use crate::control::{Who, find_route};
use crate::extract::{Body, IfMatch, Name};
use crate::problem::Refusal;
use crate::state::AppState;
use crate::types::{List, Route, SplitOrder};
use crate::view;

/// Every route.
#[utoipa::path(get, operation_id = "list_routes", path = "/api/v1/routes", tag = "cluster", responses((status = 200, body = List<Route>, description = "Every route")))]
pub(super) async fn list(State(app): AppState) -> Json<List<Route>> {
    let catalog = app.catalog();
    Json(view::list(catalog.routes.values().map(|route| view::route(route)), &catalog))
}

/// One route. A name without a path means `/`.
#[utoipa::path(
    get,
    operation_id = "get_route",
    path = "/api/v1/routes/{route}",
    tag = "cluster",
    params(("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`")),
    responses(
        (status = 200, body = Route, description = "The route", headers(("ETag" = String, description = "For If-Match"))),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is none"),
    )
)]
pub(super) async fn one(State(app): AppState, Name(name): Name) -> Result<Response, Refusal> {
    let route = find_route(&app.catalog(), &name)?;
    Ok(answer(StatusCode::OK, &route))
}

/// Replaces the whole split of a route. A backend that it does not name gets 0. Answered when it is stored and live.
#[utoipa::path(
    put,
    path = "/api/v1/routes/{route}/split",
    tag = "orders",
    params(
        ("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`"),
        ("If-Match" = Option<String>, Header, description = "The route's etag; another one is answered with 412"),
    ),
    request_body = SplitOrder,
    responses(
        (status = 200, body = Route, description = "The route", headers(("ETag" = String, description = "Of the new split"))),
        (status = 202, body = Route, description = "Stored; not yet live everywhere after 2 s"),
        (status = 400, body = Refusal, content_type = "application/problem+json", description = "The body is no JSON"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is none"),
        (status = 409, body = Refusal, content_type = "application/problem+json", description = "A name may be several, or a release runs, whose split it is"),
        (status = 412, body = Refusal, content_type = "application/problem+json", description = "The split was changed"),
        (status = 413, body = Refusal, content_type = "application/problem+json", description = "The body is larger than 64 KiB"),
        (status = 415, body = Refusal, content_type = "application/problem+json", description = "The body is said to be something else than JSON"),
        (status = 422, body = Refusal, content_type = "application/problem+json", description = "It cannot hold"),
        (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be stored"),
    )
)]
pub(super) async fn put_split(
    State(app): AppState,
    Name(name): Name,
    IfMatch(if_match): IfMatch,
    who: Who,
    Body(order): Body<SplitOrder>,
) -> Result<Response, Refusal> {
    let ordered = app.state.control.put_split(name, order, if_match, who).await?;
    Ok(answer(done(ordered.live), &ordered.now))
}

/// Removes the split of this API; those of the configuration file and of labels hold again.
#[utoipa::path(
    delete,
    path = "/api/v1/routes/{route}/split",
    tag = "orders",
    params(
        ("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`"),
        ("If-Match" = Option<String>, Header, description = "The route's etag; another one is answered with 412"),
    ),
    responses(
        (status = 200, body = Route, description = "The route", headers(("ETag" = String, description = "Of what holds now"))),
        (status = 202, body = Route, description = "Stored; not yet live everywhere after 2 s"),
        (status = 204, description = "The split of a route that is gone was removed"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is none"),
        (status = 409, body = Refusal, content_type = "application/problem+json", description = "A release runs, whose split it is"),
        (status = 412, body = Refusal, content_type = "application/problem+json", description = "The split was changed"),
        (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be stored"),
    )
)]
pub(super) async fn delete_split(
    State(app): AppState,
    Name(name): Name,
    IfMatch(if_match): IfMatch,
    who: Who,
) -> Result<Response, Refusal> {
    let ordered = app.state.control.delete_split(name, if_match, who).await?;
    Ok(removed(&ordered, answer))
}

pub(super) fn answer(status: StatusCode, route: &fairway_catalog::Route) -> Response {
    let mut response = (status, Json(view::route(route))).into_response();
    if let Ok(etag) = HeaderValue::from_str(&route.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}
