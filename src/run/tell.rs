//! Tells in the log what was found and what could not be used: once at the start, then each change.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::{Catalog, Problem};
use tokio::sync::watch;

/// Follows the catalog until it ends: a summary as soon as every source is listed, and each problem as it comes and goes.
pub(crate) async fn what_is_found(mut catalogs: watch::Receiver<Arc<Catalog>>) {
    let mut told = BTreeSet::new();
    let mut summed_up = false;
    while catalogs.changed().await.is_ok() {
        let catalog = catalogs.borrow_and_update().clone();
        if catalog.settled && !summed_up {
            summed_up = true;
            sum_up(&catalog);
        }
        let mut now = BTreeSet::new();
        for problem in &catalog.problems {
            let identity =
                (problem.kind, problem.subject.clone(), problem.key.clone(), problem.value.clone());
            if !told.contains(&identity) {
                raise(problem);
            }
            now.insert(identity);
        }
        for (kind, subject, key, value) in told.difference(&now) {
            tracing::info!(problem = kind, %subject, %key, %value, "problem over");
        }
        told = now;
    }
}

fn sum_up(catalog: &Catalog) {
    for source in &catalog.sources {
        match &source.lost {
            None => {
                tracing::info!(source = %source.id, peer = %source.peer, exposed = source.units, "source listed")
            }
            Some(lost) => tracing::warn!(source = %source.id, error = %lost.error, "source not reached yet"),
        }
    }
    let ready = catalog.instances.values().filter(|instance| instance.serves_new()).count();
    tracing::info!(
        routes = catalog.routes.len(),
        backends = catalog.backends.len(),
        instances = catalog.instances.len(),
        ready,
        problems = catalog.problems.len(),
        "found"
    );
}

fn raise(problem: &Problem) {
    let Problem { kind, severity, subject, key, value, text, remedy, .. } = problem;
    match severity {
        Severity::Error => tracing::error!(problem = kind, %subject, %key, %value, %remedy, "{text}"),
        Severity::Warning => tracing::warn!(problem = kind, %subject, %key, %value, %remedy, "{text}"),
    }
}

/// Tells each address at which the DNS begins to answer.
pub(crate) async fn where_dns_answers(mut addresses: watch::Receiver<Vec<SocketAddr>>) {
    let mut told: Vec<SocketAddr> = Vec::new();
    addresses.mark_changed();
    while addresses.changed().await.is_ok() {
        let now = addresses.borrow_and_update().clone();
        for address in now.iter().filter(|address| !told.contains(address)) {
            tracing::info!("listening dns {address}");
        }
        for address in told.iter().filter(|address| !now.contains(address)) {
            tracing::info!("closed dns {address}");
        }
        told = now;
    }
}
