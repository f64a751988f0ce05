//! Who ordered what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use tokio::task::spawn_blocking;

use crate::control::OrderError;
use crate::extract::{Parameters, bad_query};
use crate::problem::Refusal;
use crate::state::AppState;
use crate::types::{AuditEntry, List};
use crate::view;

/// How many entries are told when nobody says.
const LIMIT: usize = 1000;
/// Most entries that can be asked for.
const LIMIT_MAX: usize = 10_000;

/// Who ordered what, the newest first.
#[utoipa::path(
    get,
    operation_id = "list_audit",
    path = "/api/v1/audit",
    tag = "feed",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 10000, description = "Most entries, default 1000")),
    responses(
        (status = 200, body = List<AuditEntry>, description = "The newest orders"),
        (status = 400, body = Refusal, content_type = "application/problem+json", description = "No such limit"),
        (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be read"),
    )
)]
pub(super) async fn list(
    State(app): AppState,
    query: Parameters,
) -> Result<(StatusCode, Json<List<AuditEntry>>), Refusal> {
    let limit = query.get("limit").map_or(Ok(LIMIT), |text| match text.parse() {
        Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        _ => Err(bad_query(format!("limit: `{text}` is not a number from 1 to {LIMIT_MAX}"))),
    })?;
    let store: Arc<_> = app.state.store.clone().ok_or(OrderError::NoStore)?;
    let read = spawn_blocking(move || store.audit(limit)).await.map_err(|_| OrderError::Failed)?;
    let records = read.map_err(OrderError::Store)?;
    Ok((StatusCode::OK, Json(view::list(records.into_iter().map(view::audit), &app.catalog()))))
}
