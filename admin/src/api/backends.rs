//! Backends, and orders about their state.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::done;
use crate::control::{Who, find_backend};
use crate::extract::{Body, Name};
use crate::problem::Refusal;
use crate::state::AppState;
use crate::types::{Backend, List, StateOrder};
use crate::view;

/// Every backend.
#[utoipa::path(get, operation_id = "list_backends", path = "/api/v1/backends", tag = "cluster", responses((status = 200, body = List<Backend>, description = "Every backend")))]
pub(super) async fn list(State(app): AppState) -> Json<List<Backend>> {
    let catalog = app.catalog();
    let states = app.state.table.states();
    Json(view::list(catalog.backends.values().map(|backend| view::backend(backend, states)), &catalog))
}

/// One backend, by its name or by a part of it that only it has.
#[utoipa::path(
    get,
    operation_id = "get_backend",
    path = "/api/v1/backends/{id}",
    tag = "cluster",
    params(("id" = String, Path, description = "`v2`, `web@v2` or `shop/web@v2`, percent-encoded")),
    responses(
        (status = 200, body = Backend, description = "The backend"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is none"),
        (status = 409, body = Refusal, content_type = "application/problem+json", description = "It may be several"),
    )
)]
pub(super) async fn one(State(app): AppState, Name(name): Name) -> Result<Json<Backend>, Refusal> {
    let backend = find_backend(&app.catalog(), &name)?;
    Ok(Json(view::backend(&backend, app.state.table.states())))
}

/// Sets the state of a backend: of all its instances, those to come too. `active` takes it back.
#[utoipa::path(
    put,
    operation_id = "put_backend_state",
    path = "/api/v1/backends/{id}/state",
    tag = "orders",
    params(("id" = String, Path, description = "`v2`, `web@v2` or `shop/web@v2`, percent-encoded")),
    request_body = StateOrder,
    responses(
        (status = 200, body = Backend, description = "The backend"),
        (status = 202, body = Backend, description = "Stored; not yet live everywhere after 2 s"),
        (status = 400, body = Refusal, content_type = "application/problem+json", description = "The body is no JSON"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is none"),
        (status = 409, body = Refusal, content_type = "application/problem+json", description = "It may be several"),
        (status = 413, body = Refusal, content_type = "application/problem+json", description = "The body is larger than 64 KiB"),
        (status = 415, body = Refusal, content_type = "application/problem+json", description = "The body is said to be something else than JSON"),
        (status = 422, body = Refusal, content_type = "application/problem+json", description = "It cannot hold"),
        (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be stored"),
    )
)]
pub(super) async fn put_state(
    State(app): AppState,
    Name(name): Name,
    who: Who,
    Body(order): Body<StateOrder>,
) -> Result<(StatusCode, Json<Backend>), Refusal> {
    let ordered = app.state.control.set_backend(name, order, who).await?;
    Ok((done(ordered.live), Json(view::backend(&ordered.now, app.state.table.states()))))
}
