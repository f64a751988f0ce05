//! Metrics in Prometheus' text format: what the parts count, and what the catalog shows at this moment.

use std::sync::Arc;

use axum::extract::State;
use fairway_catalog::{Catalog, Condition};
use http::header::{CONTENT_TYPE, HeaderName};
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, IntGauge, IntGaugeVec, Opts, TextEncoder};

use super::probes;
use super::status::store_status;
use crate::control::OrderError;
use crate::problem::Refusal;
use crate::state::{App, AppState};
use crate::view;

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "process", responses((status = 200, body = String, content_type = "text/plain", description = "Prometheus' text format, version 0.0.4")))]
pub(super) async fn metrics(
    State(app): AppState,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), Refusal> {
    let gathered = gather(&app).and_then(|families| {
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text).map(|()| text)
    });
    let text = gathered.map_err(|error| {
        tracing::error!(%error, "metrics cannot be shown");
        OrderError::Failed
    })?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}

/// By name, as scrapers like it. A family without a sample is left out: the encoder takes it for an error.
fn gather(app: &Arc<App>) -> prometheus::Result<Vec<MetricFamily>> {
    let mut families = app.state.registry.gather();
    families.extend(of_catalog(app, &app.catalog())?);
    families.extend(app.state.control.endings().collect());
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(families)
}

fn of_catalog(app: &Arc<App>, catalog: &Catalog) -> prometheus::Result<Vec<MetricFamily>> {
    let mut families = Vec::new();
    let mut one = |name: &str, help: &str, value: i64| {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(value);
        families.extend(gauge.collect());
        Ok::<_, prometheus::Error>(())
    };
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let revision = i64::try_from(catalog.revision).unwrap_or(i64::MAX);
    one("fairway_catalog_revision", "Revision of the catalog.", revision)?;
    one("fairway_routes", "Routes.", number(catalog.routes.len()))?;
    one("fairway_ready", "Whether /readyz answers 200.", i64::from(probes::is_ready(app, catalog)))?;
    let stores = store_status(app, catalog).error.is_none();
    one("fairway_store_up", "Whether orders can be stored.", i64::from(stores))?;

    let opts = Opts::new("fairway_instances", "Instances by backend and condition.");
    let instances = IntGaugeVec::new(opts, &["backend", "condition"])?;
    for backend in catalog.backends.values() {
        let name = backend.id.to_string();
        for condition in Condition::ALL {
            let count = backend.instances.iter().filter(|instance| instance.condition == condition).count();
            instances.with_label_values(&[name.as_str(), condition.as_str()]).set(number(count));
        }
    }
    families.extend(instances.collect());

    let problems = IntGaugeVec::new(Opts::new("fairway_problems", "Problems by severity."), &["severity"])?;
    let counts = view::counts(catalog);
    problems.with_label_values(&["error"]).set(number(counts.errors));
    problems.with_label_values(&["warning"]).set(number(counts.warnings));
    families.extend(problems.collect());

    let releases = Opts::new("fairway_releases", "1 for the state that the last release of a route is in.");
    let releases = IntGaugeVec::new(releases, &["route", "state"])?;
    for (route, release) in catalog.releases.iter() {
        releases.with_label_values(&[route.to_string().as_str(), release.state]).set(1);
    }
    families.extend(releases.collect());

    let sources = Opts::new("fairway_source_up", "Whether a source is listed and not lost.");
    let sources = IntGaugeVec::new(sources, &["source"])?;
    for source in &catalog.sources {
        let up = source.listed && source.lost.is_none();
        sources.with_label_values(&[source.id.to_string().as_str()]).set(i64::from(up));
    }
    families.extend(sources.collect());
    Ok(families)
}
