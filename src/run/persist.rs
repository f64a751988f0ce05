//! The state on disk: opened at the start, the owners of routes kept current in it.
//!
//! Not here: splits, states and releases, which `admin` stores before it answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::inputs::Owner;
use fairway_catalog::{Catalog, Decisions, InputsHandle, Problem};
use fairway_config::names::RouteId;
use fairway_release::model::Release;
use fairway_store::{Store, StoreError};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// Our name in [`InputsHandle::report`].
const PART: &str = "store";
/// Owners change in bursts, and a late write costs nothing but a question of age after a crash.
const PAUSE: Duration = Duration::from_secs(1);

/// What the start reads from disk.
pub(crate) struct Opened {
    /// `None`: traffic goes on, and what would have to be stored is refused.
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) decisions: Decisions,
    pub(crate) releases: BTreeMap<RouteId, Release>,
    pub(crate) revision: u64,
    /// Why there is no store, or what in it cannot be read.
    pub(crate) problems: Vec<Problem>,
}

/// Opens the store and reads it. Never fails: a proxy serves without its state (design rule 4).
pub(crate) fn open(folder: &Path) -> Opened {
    let opened = Store::open(folder).and_then(|store| store.load().map(|loaded| (store, loaded)));
    match opened {
        Ok((store, loaded)) => Opened {
            store: Some(Arc::new(store)),
            decisions: loaded.decisions,
            releases: loaded.releases,
            revision: loaded.revision,
            problems: loaded.problems,
        },
        Err(error) => {
            tracing::error!(error = %chain(&error), remedy = error.remedy(), "no state is kept");
            let problems = vec![error.to_problem()];
            Opened {
                store: None,
                decisions: Decisions::default(),
                releases: BTreeMap::new(),
                revision: 0,
                problems,
            }
        }
    }
}

/// Keeps the owners on disk in step with the catalog, until the catalog ends.
pub(crate) async fn keep_owners(
    store: Arc<Store>,
    mut catalogs: watch::Receiver<Arc<Catalog>>,
    inputs: InputsHandle,
    found: Vec<Problem>,
) {
    let mut written: BTreeMap<RouteId, Owner> = catalogs.borrow().owners().clone();
    while catalogs.changed().await.is_ok() {
        let owners = catalogs.borrow_and_update().owners().clone();
        if owners == written {
            continue;
        }
        let (store, to_write) = (store.clone(), owners.clone());
        let result = spawn_blocking(move || store.put_owners(&to_write)).await;
        let mut problems = found.clone();
        match result {
            Ok(Ok(())) => written = owners,
            Ok(Err(error)) => problems.push(error.to_problem()),
            Err(error) => tracing::error!(%error, "writing the owners of routes panicked"),
        }
        inputs.report(PART, problems);
        sleep(PAUSE).await;
    }
}

/// Reports what the start found wrong.
pub(crate) fn report(inputs: &InputsHandle, problems: &[Problem]) {
    inputs.report(PART, problems.to_vec());
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
