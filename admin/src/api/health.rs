//! The health of every instance, for schedulers.

use axum::Json;
use axum::extract::State;

use crate::state::AppState;
use crate::types::HealthList;
use crate::view;

/// Every instance with state, condition and its last probes; ready and desired of each backend.
#[utoipa::path(get, operation_id = "list_health", path = "/api/v1/health", tag = "feed", responses((status = 200, body = HealthList, description = "Every instance with its last probes, and every backend")))]
pub(super) async fn list(State(app): AppState) -> Json<HealthList> {
    Json(view::health(&app.catalog(), app.state.table.states(), &app.state.probes))
}
