//! How the process is.

use axum::Json;
use axum::extract::State;

use super::probes;
use crate::state::AppState;
use crate::types::{Conntrack, Status, StoreStatus};
use crate::view;

/// How the process, its sources, its listeners and its store are.
#[utoipa::path(get, path = "/api/v1/status", tag = "process", responses((status = 200, body = Status, description = "The process, its sources and its listeners")))]
pub(super) async fn status(State(app): AppState) -> Json<Status> {
    let catalog = app.catalog();
    let settings = &catalog.settings;
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: settings.node.to_string(),
        zone: settings.zone.to_string(),
        started_at: settings.process_started,
        revision: catalog.revision,
        ready: probes::is_ready(&app, &catalog),
        settled: catalog.settled,
        draining: app.is_draining(),
        config_file: settings.file.to_string(),
        sources: catalog.sources.iter().map(view::source).collect(),
        listeners: app.listeners(),
        store: store_status(&app, &catalog),
        counts: view::counts(&catalog),
        conntrack: conntrack(),
    })
}

/// What the store's problems say; without a store, why there is none.
pub(super) fn store_status(app: &crate::state::App, catalog: &fairway_catalog::Catalog) -> StoreStatus {
    let store = app.state.store.as_ref();
    let problem = catalog.problems.iter().find(|problem| &*problem.subject == "store");
    let none = || store.is_none().then(|| "there is no store".to_owned());
    StoreStatus {
        path: store.map(|store| store.path().display().to_string()).unwrap_or_default(),
        error: problem.map(|problem| problem.text.to_string()).or_else(none),
    }
}

/// How full the kernel's table of connections is; `None` where it has none.
pub(super) fn conntrack() -> Option<Conntrack> {
    let number = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}")).ok()?;
        text.trim().parse().ok()
    };
    Some(Conntrack { count: number("count")?, max: number("max")? })
}
