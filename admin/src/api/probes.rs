//! What watches the process: is it alive, may clients be sent here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairway_catalog::Catalog;
use http::StatusCode;

use super::status::{conntrack, store_status};
use crate::extract::Parameters;
use crate::state::{App, AppState};
use crate::types::{Conntrack, Ready, ReadyCondition};
use crate::view;

/// 200 as long as the process answers.
#[utoipa::path(get, path = "/livez", tag = "process", responses((status = 200, body = String, description = "The process answers")))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// 200 when clients may be sent here: every source was listed once, and the process was not asked to stop. The later loss
/// of a source leaves it 200.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "process",
    params(("verbose" = Option<String>, Query, description = "With any value or none: lists each condition")),
    responses(
        (status = 200, body = Ready, description = "Every source was listed once, or 10 s have passed"),
        (status = 503, body = Ready, description = "Not yet, or the process is asked to stop"),
    )
)]
pub(super) async fn readyz(State(app): AppState, query: Parameters) -> (StatusCode, Json<Ready>) {
    let catalog = app.catalog();
    let ready = is_ready(&app, &catalog);
    let verbose = query.get("verbose").is_some_and(|value| value != "false");
    let conditions = if verbose { conditions(&app, &catalog) } else { Vec::new() };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, conditions }))
}

/// The catalog is ahead of the data plane for a moment, in which a client would still be told to wait.
pub(super) fn is_ready(app: &App, catalog: &Catalog) -> bool {
    catalog.settled && app.state.table.load().settled && !app.is_draining()
}

fn conditions(app: &Arc<App>, catalog: &Catalog) -> Vec<ReadyCondition> {
    let condition = |name: &str, subject: &str, ok, required, detail: &str| ReadyCondition {
        name: name.to_owned(),
        subject: subject.to_owned(),
        ok,
        required,
        detail: detail.to_owned(),
    };
    let settled = match catalog.settled {
        true => "every source was listed once, or 10 s have passed",
        false => "not every source has been listed since the start",
    };
    let draining = app.is_draining();
    let drain = if draining { "the process was asked to stop" } else { "the process was not asked to stop" };
    let mut all = vec![
        condition("settled", "", catalog.settled, true, settled),
        condition("draining", "", !draining, true, drain),
    ];
    for source in &catalog.sources {
        let detail = match &source.lost {
            Some(lost) => format!("lost since {}: {}", lost.since, lost.error),
            None if source.listed => format!("{} tells {} units", source.peer, source.units),
            None => "not listed yet".to_owned(),
        };
        let ok = source.listed && source.lost.is_none();
        all.push(condition("source", &source.id.to_string(), ok, false, &detail));
    }
    for listener in app.listeners() {
        let detail = listener.error.as_deref().unwrap_or("bound");
        let subject = format!("{} {}", listener.kind, listener.address);
        all.push(condition("listener", &subject, listener.error.is_none(), false, detail));
    }
    let store = store_status(app, catalog);
    let detail = store.error.as_deref().unwrap_or("orders survive a restart");
    all.push(condition("store", &store.path, store.error.is_none(), false, detail));
    if let Some(Conntrack { count, max }) = conntrack() {
        let detail = format!("the kernel tracks {count} of {max} connections it can");
        all.push(condition(
            "conntrack",
            "",
            count.saturating_mul(100) < max.saturating_mul(90),
            false,
            &detail,
        ));
    }
    let counts = view::counts(catalog);
    let detail = format!("{} errors, {} warnings", counts.errors, counts.warnings);
    all.push(condition("problems", "", counts.errors == 0, false, &detail));
    all
}
