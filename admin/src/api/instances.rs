//! Instances, and orders about their state.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairway_proxy::endpoint::EndpointStates;
use http::StatusCode;

use super::done;
use crate::control::{OrderError, Who, find_instances};
use crate::extract::{Body, Name};
use crate::problem::Refusal;
use crate::state::AppState;
use crate::types::{Instance, InstanceFound, List, StateOrder};
use crate::view;

/// Every instance.
#[utoipa::path(get, operation_id = "list_instances", path = "/api/v1/instances", tag = "cluster", responses((status = 200, body = List<Instance>, description = "Every instance")))]
pub(super) async fn list(State(app): AppState) -> Json<List<Instance>> {
    let catalog = app.catalog();
    let states = app.state.table.states();
    Json(view::list(catalog.instances.values().map(|instance| view::instance(instance, states)), &catalog))
}

/// One instance by its id, or the instances of a container by its name or id.
#[utoipa::path(
    get,
    operation_id = "get_instance",
    path = "/api/v1/instances/{id}",
    tag = "cluster",
    params(("id" = String, Path, description = "`0123456789ab:80`, a container's name or id, percent-encoded")),
    responses(
        (status = 200, body = InstanceFound, description = "The instance; `also` has the other ports of a container that was named"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is none"),
        (status = 409, body = Refusal, content_type = "application/problem+json", description = "Several containers"),
    )
)]
pub(super) async fn one(State(app): AppState, Name(name): Name) -> Result<Json<InstanceFound>, Refusal> {
    let found = find_instances(&app.catalog(), &name)?;
    answer(&found, app.state.table.states())
}

/// Sets the state of an instance, or of all ports of a container. It follows the container through restarts; `active`
/// takes it back.
#[utoipa::path(
    put,
    operation_id = "put_instance_state",
    path = "/api/v1/instances/{id}/state",
    tag = "orders",
    params(("id" = String, Path, description = "`0123456789ab:80`, a container's name or id, percent-encoded")),
    request_body = StateOrder,
    responses(
        (status = 200, body = InstanceFound, description = "The instance; `also` has the other ports of a container that was named"),
        (status = 202, body = InstanceFound, description = "Stored; not yet live everywhere after 2 s"),
        (status = 400, body = Refusal, content_type = "application/problem+json", description = "The body is no JSON"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is none"),
        (status = 409, body = Refusal, content_type = "application/problem+json", description = "Several containers"),
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
) -> Result<(StatusCode, Json<InstanceFound>), Refusal> {
    let ordered = app.state.control.set_instances(name, order, who).await?;
    Ok((done(ordered.live), answer(&ordered.now, app.state.table.states())?))
}

fn answer(
    found: &[Arc<fairway_catalog::Instance>],
    states: &EndpointStates,
) -> Result<Json<InstanceFound>, Refusal> {
    let mut found = found.iter().map(|instance| view::instance(instance, states));
    // A name that leads to nothing was refused before.
    let instance = found.next().ok_or(OrderError::Failed)?;
    Ok(Json(InstanceFound { instance, also: found.collect() }))
}
