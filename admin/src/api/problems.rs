//! What is wrong, and what to do about it.

use axum::Json;
use axum::extract::State;

use crate::state::AppState;
use crate::types::{List, ProblemItem};
use crate::view;

/// Everything that is wrong and that a person can mend, errors first.
#[utoipa::path(get, operation_id = "list_problems", path = "/api/v1/problems", tag = "cluster", responses((status = 200, body = List<ProblemItem>, description = "What is wrong now")))]
pub(super) async fn list(State(app): AppState) -> Json<List<ProblemItem>> {
    let catalog = app.catalog();
    Json(view::list(catalog.problems.iter().map(|problem| view::problem(problem)), &catalog))
}
