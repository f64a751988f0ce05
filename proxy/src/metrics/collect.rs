//! What a scrape sees: the sums over all workers, under the names of the design.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Instant;

use dashmap::mapref::multiple::RefMulti;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::histogram::{self, BUILD, Histogram};
use super::{BackendSeries, Metrics, Series};
use crate::table::TableHandle;

/// Gives a `prometheus` registry everything that [`Metrics`] counts, and the requests in flight of the present table.
pub struct TableCollector {
    table: Arc<TableHandle>,
    descs: Vec<Desc>,
}

const REQUESTS: Family = Family {
    name: "fairway_requests_total",
    help: "Requests that have ended, by status and reason.",
    labels: &["route", "backend", "code", "reason"],
    kind: MetricType::COUNTER,
};
const DURATIONS: Family = Family {
    name: "fairway_request_duration_seconds",
    help: "From the request's first byte to the end of its answer.",
    labels: &["route", "backend"],
    kind: MetricType::HISTOGRAM,
};
const CONNECTS: Family = Family {
    name: "fairway_upstream_connect_seconds",
    help: "Time to connect to an instance.",
    labels: &["backend"],
    kind: MetricType::HISTOGRAM,
};
const IN_FLIGHT: Family = Family {
    name: "fairway_requests_in_flight",
    help: "Requests at the instances of a backend now.",
    labels: &["backend"],
    kind: MetricType::GAUGE,
};
const RETRIES: Family = Family {
    name: "fairway_retries_total",
    help: "Requests sent to another instance after this backend failed them.",
    labels: &["backend", "reason"],
    kind: MetricType::COUNTER,
};
const BUILDS: Family = Family {
    name: "fairway_build_seconds",
    help: "Time to build what is derived from the catalog.",
    labels: &["table"],
    kind: MetricType::HISTOGRAM,
};
const CONNECTIONS: Family = Family {
    name: "fairway_connections",
    help: "Open connections from clients.",
    labels: &["listener", "protocol"],
    kind: MetricType::GAUGE,
};
const FAMILIES: [&Family; 7] =
    [&REQUESTS, &DURATIONS, &CONNECTS, &IN_FLIGHT, &RETRIES, &BUILDS, &CONNECTIONS];

impl TableCollector {
    /// For what this table's data plane counts.
    ///
    /// # Errors
    /// None in practice: the names above are fixed and valid.
    pub fn new(table: Arc<TableHandle>) -> prometheus::Result<Self> {
        let descs = FAMILIES.iter().map(|family| family.desc()).collect::<Result<_, _>>()?;
        Ok(Self { table, descs })
    }
}

impl Collector for TableCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.table.metrics();
        metrics.sweep(Instant::now());
        let series = all_series(metrics);
        let backends: Vec<_> = metrics.backends.iter().map(|kept| kept.series.clone()).collect();
        vec![
            REQUESTS.of(series.iter().flat_map(|series| requests(series)).collect()),
            DURATIONS.of(series.iter().filter_map(|series| durations(series)).collect()),
            CONNECTS.of(backends.iter().filter_map(|backend| connects(backend)).collect()),
            IN_FLIGHT.of(in_flight(&self.table)),
            RETRIES.of(backends.iter().flat_map(|backend| retries(backend)).collect()),
            BUILDS.of(builds(metrics)),
            CONNECTIONS.of(connections(metrics)),
        ]
    }
}

fn all_series(metrics: &Metrics) -> Vec<Arc<Series>> {
    let mut series: Vec<_> = metrics.routed.iter().map(|kept| kept.series.clone()).collect();
    series.push(metrics.unrouted.clone());
    series
}

fn requests(series: &Series) -> Vec<Metric> {
    let metric = |(code, reason, count): (Option<u16>, crate::reason::Reason, u64)| {
        let code = code.map_or_else(|| "other".to_owned(), |code| code.to_string());
        counter(REQUESTS.labelled(&[&series.route, &series.backend, &code, reason.as_str()]), count)
    };
    series.outcomes().into_iter().map(metric).collect()
}

fn durations(series: &Series) -> Option<Metric> {
    let mut metric = Metric::from_label(DURATIONS.labelled(&[&series.route, &series.backend]));
    metric.set_histogram(series.durations()?);
    Some(metric)
}

fn connects(backend: &BackendSeries) -> Option<Metric> {
    let mut metric = Metric::from_label(CONNECTS.labelled(&[&backend.backend]));
    metric.set_histogram(backend.connects()?);
    Some(metric)
}

fn retries(backend: &BackendSeries) -> Vec<Metric> {
    let label = |reason: &str| RETRIES.labelled(&[&backend.backend, reason]);
    backend.retries().map(|(reason, count)| counter(label(reason.as_str()), count)).collect()
}

/// Of every backend of the table, zeros too; an instance of several routes counts once.
fn in_flight(table: &TableHandle) -> Vec<Metric> {
    let table = table.load();
    let (mut seen, mut sums) = (HashSet::new(), HashMap::<&str, i64>::new());
    for version in table.entries().iter().flat_map(|entry| entry.versions()) {
        let sum = sums.entry(&version.name).or_default();
        for endpoint in version.endpoints() {
            if seen.insert(endpoint.state.uid) {
                *sum += i64::from(endpoint.state.in_flight());
            }
        }
    }
    let sorted: BTreeMap<_, _> = sums.into_iter().collect();
    sorted.into_iter().map(|(backend, sum)| gauge(IN_FLIGHT.labelled(&[backend]), sum)).collect()
}

fn builds(metrics: &Metrics) -> Vec<Metric> {
    let build = |entry: RefMulti<'_, &'static str, Histogram>| {
        let mut metric = Metric::from_label(BUILDS.labelled(&[entry.key()]));
        metric.set_histogram(histogram::sum(std::iter::once(entry.value()), &BUILD)?);
        Some(metric)
    };
    metrics.builds.iter().filter_map(build).collect()
}

fn connections(metrics: &Metrics) -> Vec<Metric> {
    let connection = |entry: RefMulti<'_, (Arc<str>, &'static str), Arc<AtomicI64>>| {
        let (listener, protocol) = entry.key();
        gauge(CONNECTIONS.labelled(&[listener, protocol]), entry.value().load(Relaxed))
    };
    metrics.connections.iter().map(connection).collect()
}

/// One metric name.
struct Family {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    kind: MetricType,
}

impl Family {
    fn desc(&self) -> prometheus::Result<Desc> {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(self.name.to_owned(), self.help.to_owned(), labels, HashMap::new())
    }

    fn of(&self, metrics: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(metrics);
        family
    }

    fn labelled(&self, values: &[&str]) -> Vec<LabelPair> {
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        self.labels.iter().zip(values).map(pair).collect()
    }
}

fn counter(labels: Vec<LabelPair>, count: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(count as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: Vec<LabelPair>, value: i64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}
