//! Every endpoint, and the description of all of them.

mod audit;
mod backends;
mod events;
mod explain;
mod health;
mod instances;
mod limits;
mod metrics;
mod mirror;
mod page;
mod probes;
mod problems;
mod releases;
mod routes;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use fairway_catalog::Route;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::Done;
use crate::guard::{self, Guard};
use crate::problem::Refusal;
use crate::state::App;

/// The head of the description; the endpoints add themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fairway admin API",
        description = "Routes, backends and instances of a Docker cluster, and orders about them. Names in paths are \
                       percent-encoded: `shop.company.com/api` is `shop.company.com%2Fapi`. Errors are problem+json \
                       (RFC 9457)."
    ),
    tags((name = "cluster"), (name = "orders"), (name = "feed"), (name = "process"))
)]
struct Description;

/// The whole API behind its guard.
pub(crate) fn router(app: Arc<App>, guard: Arc<Guard>) -> Router {
    let (router, description) = described().split_for_parts();
    // Made once: it changes with the program only.
    let description = description.to_json().expect("the description has string keys and fails on nothing");
    router
        .route("/", axum::routing::get(page::page))
        .route("/openapi.json", axum::routing::get(move || openapi(description.clone())))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(app)
        .layer(middleware::map_response(harden))
        .layer(middleware::from_fn_with_state(guard, guard::check))
}

fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(status::status))
        .routes(routes!(routes::list))
        .routes(routes!(routes::one))
        .routes(routes!(routes::put_split, routes::delete_split))
        .routes(routes!(releases::list))
        .routes(routes!(releases::one, releases::start))
        .routes(routes!(releases::confirm))
        .routes(routes!(releases::rollback))
        .routes(routes!(releases::pause))
        .routes(routes!(releases::resume))
        .routes(routes!(mirror::put, mirror::delete))
        .routes(routes!(limits::get, limits::put, limits::delete))
        .routes(routes!(backends::list))
        .routes(routes!(backends::one))
        .routes(routes!(backends::put_state))
        .routes(routes!(instances::list))
        .routes(routes!(instances::one))
        .routes(routes!(instances::put_state))
        .routes(routes!(explain::explain))
        .routes(routes!(problems::list))
        .routes(routes!(health::list))
        .routes(routes!(events::events))
        .routes(routes!(audit::list))
        .routes(routes!(metrics::metrics))
        .routes(routes!(probes::livez))
        .routes(routes!(probes::readyz))
}

async fn openapi(description: String) -> ([(HeaderName, &'static str); 1], String) {
    ([(http::header::CONTENT_TYPE, "application/json")], description)
}

async fn no_such_path(uri: Uri) -> Refusal {
    let refusal =
        Refusal::not_found("unknown-path", "No such path", format!("there is nothing at {}", uri.path()));
    let named = ["/api/v1/routes/", "/api/v1/backends/", "/api/v1/instances/"];
    match named.iter().any(|prefix| uri.path().starts_with(prefix)) {
        true => refusal.with("remedy", "in a name within a path `/` is written %2F: shop.company.com%2Fapi"),
        false => refusal.with("remedy", "/openapi.json describes what there is"),
    }
}

/// axum adds `Allow`.
async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let detail = format!("{} does not take {method}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "No such method", detail)
}

/// What every answer says to browsers and caches.
async fn harden(mut response: Response) -> Response {
    const FIELDS: [(HeaderName, &str); 4] = [
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in FIELDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The answer to an order that removed something of a route, which may be gone.
fn removed(
    ordered: &Done<Option<Arc<Route>>>,
    answer: impl FnOnce(StatusCode, &Route) -> Response,
) -> Response {
    match &ordered.now {
        Some(route) => answer(done(ordered.live), route),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// 200 when an order is live, 202 when it is stored and not yet live everywhere.
fn done(live: bool) -> StatusCode {
    if live { StatusCode::OK } else { StatusCode::ACCEPTED }
}
