//! What a scrape sees: the sums over all workers, under the names of the design.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use dashmap::mapref::multiple::RefMulti;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::histogram::{BUILD, Histogram, sum};
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
const GRPC: Family = Family {
    name: "fairway_grpc_requests_total",
    help: "Calls of gRPC that have ended, by grpc-status.",
    labels: &["route", "backend", "grpc_status"],
    kind: MetricType::COUNTER,
};
const DURATIONS: Family = Family {
    name: "fairway_request_duration_seconds",
    help: "From the request's first byte to the end of its answer.",
    labels: &["route", "backend"],
    kind: MetricType::HISTOGRAM,
};
const MIRRORED: Family = Family {
    name: "fairway_mirrored_requests_total",
    help: "Copies of requests for another version, by what became of them.",
    labels: &["route", "backend", "result"],
    kind: MetricType::COUNTER,
};
const MIRROR_DURATIONS: Family = Family {
    name: "fairway_mirrored_request_duration_seconds",
    help: "From the end of the request to the end of the answer to its copy.",
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
const EJECTIONS: Family = Family {
    name: "fairway_ejections_total",
    help: "Instances that were ejected for a while, by cause.",
    labels: &["backend", "cause"],
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
const HANDSHAKES: Family = Family {
    name: "fairway_tls_handshakes_total",
    help: "TLS handshakes with clients that have ended: full, resumed, or why they failed.",
    labels: &["listener", "result"],
    kind: MetricType::COUNTER,
};
const REFUSED: Family = Family {
    name: "fairway_connections_refused_total",
    help: "Connections from clients that were closed at once, or for flooding us.",
    labels: &["listener", "reason"],
    kind: MetricType::COUNTER,
};
const HEDGES: Family = Family {
    name: "fairway_hedges_total",
    help: "Second requests for those that took long: won, if the second instance answered first, else lost.",
    labels: &["backend", "result"],
    kind: MetricType::COUNTER,
};
const QUEUED: Family = Family {
    name: "fairway_queued_requests",
    help: "Requests that wait for a place at a full instance now, of routes where any ever did.",
    labels: &["route"],
    kind: MetricType::GAUGE,
};
const QUEUE_WAITS: Family = Family {
    name: "fairway_queue_wait_seconds",
    help: "How long requests waited for a place at a full instance.",
    labels: &["route"],
    kind: MetricType::HISTOGRAM,
};
const FAMILIES: [&Family; 16] = [
    &REQUESTS,
    &GRPC,
    &DURATIONS,
    &MIRRORED,
    &MIRROR_DURATIONS,
    &CONNECTS,
    &IN_FLIGHT,
    &RETRIES,
    &EJECTIONS,
    &BUILDS,
    &CONNECTIONS,
    &HANDSHAKES,
    &REFUSED,
    &HEDGES,
    &QUEUED,
    &QUEUE_WAITS,
];

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
            GRPC.of(series.iter().flat_map(|series| grpc(series)).collect()),
            DURATIONS.of(series.iter().filter_map(|series| durations(series)).collect()),
            MIRRORED.of(series.iter().flat_map(|series| mirrored(series)).collect()),
            MIRROR_DURATIONS.of(series.iter().filter_map(|series| mirror_durations(series)).collect()),
            CONNECTS.of(backends.iter().filter_map(|backend| connects(backend)).collect()),
            IN_FLIGHT.of(in_flight(&self.table)),
            RETRIES.of(backends.iter().flat_map(|backend| retries(backend)).collect()),
            EJECTIONS.of(backends.iter().flat_map(|backend| ejections(backend)).collect()),
            BUILDS.of(builds(metrics)),
            CONNECTIONS.of(connections(metrics)),
            HANDSHAKES.of(handshakes(metrics)),
            REFUSED.of(refused(metrics)),
            HEDGES.of(backends.iter().flat_map(|backend| hedges(backend)).collect()),
            QUEUED.of(queued(&self.table)),
            QUEUE_WAITS.of(series.iter().filter_map(|series| queue_waits(series)).collect()),
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

fn grpc(series: &Series) -> Vec<Metric> {
    let label = |status: &str| GRPC.labelled(&[&series.route, &series.backend, status]);
    series.grpc().map(|(status, count)| counter(label(status.name()), count)).collect()
}

fn durations(series: &Series) -> Option<Metric> {
    histogram(DURATIONS.labelled(&[&series.route, &series.backend]), series.durations())
}

fn mirrored(series: &Series) -> Vec<Metric> {
    let label = |result: &str| MIRRORED.labelled(&[&series.route, &series.backend, result]);
    series.mirror_results().map(|(result, count)| counter(label(result.as_str()), count)).collect()
}

fn mirror_durations(series: &Series) -> Option<Metric> {
    histogram(MIRROR_DURATIONS.labelled(&[&series.route, &series.backend]), series.mirror_durations())
}

fn connects(backend: &BackendSeries) -> Option<Metric> {
    histogram(CONNECTS.labelled(&[&backend.backend]), backend.connects())
}

fn retries(backend: &BackendSeries) -> Vec<Metric> {
    let label = |reason: &str| RETRIES.labelled(&[&backend.backend, reason]);
    backend.retries().map(|(reason, count)| counter(label(reason.as_str()), count)).collect()
}

fn ejections(backend: &BackendSeries) -> Vec<Metric> {
    let label = |cause: &str| EJECTIONS.labelled(&[&backend.backend, cause]);
    backend.ejections().map(|(cause, count)| counter(label(cause.as_str()), count)).collect()
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

fn hedges(backend: &BackendSeries) -> Vec<Metric> {
    let label = |result: &str| HEDGES.labelled(&[&backend.backend, result]);
    backend.hedges().map(|(result, count)| counter(label(result), count)).collect()
}

/// Of the routes of the table where a request waits or has waited before.
fn queued(table: &TableHandle) -> Vec<Metric> {
    let table = table.load();
    let waited = table.entries().iter().filter(|entry| entry.queue.len() > 0 || entry.series.has_queued());
    waited.map(|entry| gauge(QUEUED.labelled(&[&entry.name]), entry.queue.len().into())).collect()
}

fn queue_waits(series: &Series) -> Option<Metric> {
    histogram(QUEUE_WAITS.labelled(&[&series.route]), series.waits())
}

fn builds(metrics: &Metrics) -> Vec<Metric> {
    let build = |entry: RefMulti<'_, &'static str, Histogram>| {
        histogram(BUILDS.labelled(&[entry.key()]), sum(std::iter::once(entry.value()), &BUILD))
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

fn handshakes(metrics: &Metrics) -> Vec<Metric> {
    let handshake = |entry: RefMulti<'_, (Arc<str>, &'static str), Arc<AtomicU64>>| {
        let (listener, result) = entry.key();
        counter(HANDSHAKES.labelled(&[listener, result]), entry.value().load(Relaxed))
    };
    metrics.handshakes.iter().map(handshake).collect()
}

fn refused(metrics: &Metrics) -> Vec<Metric> {
    let one = |entry: RefMulti<'_, (Arc<str>, &'static str), AtomicU64>| {
        let (listener, reason) = entry.key();
        counter(REFUSED.labelled(&[listener, reason]), entry.value().load(Relaxed))
    };
    metrics.refused.iter().map(one).collect()
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

/// `None` where nothing was observed.
fn histogram(labels: Vec<LabelPair>, observed: Option<proto::Histogram>) -> Option<Metric> {
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(observed?);
    Some(metric)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{Registry, TextEncoder};

    use super::*;
    use crate::metrics::KEPT;
    use crate::pick::Tried;
    use crate::reason::Reason;
    use crate::request::FieldList;
    use crate::table::fixture::*;

    #[test]
    fn every_metric_is_documented_with_its_labels() {
        let page = include_str!("../../../docs/observe.md");
        for family in FAMILIES {
            let name = format!("`{}`", family.name);
            let line = page.lines().find(|line| line.contains(&name));
            let line = line.unwrap_or_else(|| panic!("docs/observe.md lacks {name}"));
            for label in family.labels {
                assert!(line.contains(&format!("`{label}`")), "docs/observe.md: {name} lacks {label}");
            }
        }
    }

    fn scrape(registry: &Registry) -> Vec<String> {
        let text = TextEncoder::new().encode_to_string(&registry.gather()).expect("it can be written");
        text.lines().filter(|line| !line.starts_with('#')).map(ToOwned::to_owned).collect()
    }

    #[test]
    fn a_scrape_shows_the_sums_of_all_workers_under_the_names_of_the_design() {
        let metrics = Metrics::new(2);
        let table = TableHandle::new(metrics.clone());
        let registry = Registry::new();
        registry.register(Box::new(TableCollector::new(table.clone()).expect("valid names"))).expect("once");
        let mut catalog = catalog();
        put(&mut catalog, "shop.test/", &[version("v1", &[READY])]);
        table.apply(&catalog);

        let entry = table.load().entries()[0].clone();
        let fields = FieldList::default();
        let asked = request("shop.test", "/", &fields);
        let mut rng = fastrand::Rng::with_seed(1);
        let pick = entry.pick(&asked, &Tried::default(), &mut rng, Instant::now()).expect("there is one");
        let backend = &pick.version.name;
        let (one, two) = (metrics.worker(), metrics.worker());
        one.request_done(&pick.version.series, 200, Reason::Ok, Duration::from_millis(2));
        two.request_done(&pick.version.series, 200, Reason::Ok, Duration::from_millis(70));
        two.request_done(&entry.series, 503, Reason::NoReadyInstance, Duration::from_secs(5));
        one.request_done(one.unrouted(), 404, Reason::NoRoute, Duration::ZERO);
        one.connected(&pick.version.upstream, Duration::from_micros(80));
        one.retried(&pick.version.upstream, Reason::ConnectFailed);
        let _open = two.connection(&"0.0.0.0:80".into(), "http1");
        one.handshake(&"0.0.0.0:443".into(), "full");
        two.handshake(&"0.0.0.0:443".into(), "full");

        let lines = scrape(&registry);
        for want in [
            format!("fairway_requests_total{{backend=\"{backend}\",code=\"200\",reason=\"ok\",route=\"shop.test/\"}} 2"),
            "fairway_requests_total{backend=\"\",code=\"503\",reason=\"no-ready-instance\",route=\"shop.test/\"} 1".into(),
            "fairway_requests_total{backend=\"\",code=\"404\",reason=\"no-route\",route=\"\"} 1".into(),
            format!("fairway_request_duration_seconds_bucket{{backend=\"{backend}\",route=\"shop.test/\",le=\"0.0025\"}} 1"),
            format!("fairway_request_duration_seconds_bucket{{backend=\"{backend}\",route=\"shop.test/\",le=\"+Inf\"}} 2"),
            format!("fairway_upstream_connect_seconds_bucket{{backend=\"{backend}\",le=\"0.0001\"}} 1"),
            format!("fairway_requests_in_flight{{backend=\"{backend}\"}} 1"),
            format!("fairway_retries_total{{backend=\"{backend}\",reason=\"connect-failed\"}} 1"),
            "fairway_build_seconds_count{table=\"routes\"} 1".into(),
            "fairway_connections{listener=\"0.0.0.0:80\",protocol=\"http1\"} 1".into(),
            "fairway_tls_handshakes_total{listener=\"0.0.0.0:443\",result=\"full\"} 2".into(),
        ] {
            assert!(lines.iter().any(|line| sorted(line) == sorted(&want)), "no {want} in\n{}", lines.join("\n"));
        }
    }

    /// Labels have no order.
    fn sorted(line: &str) -> Vec<&str> {
        let mut parts: Vec<&str> = line.split(['{', '}', ',']).collect();
        parts.sort_unstable();
        parts
    }

    #[test]
    fn a_route_that_is_gone_is_shown_for_a_while_and_then_no_more() {
        let metrics = Metrics::new(1);
        let table = TableHandle::new(metrics.clone());
        let mut catalog = catalog();
        put(&mut catalog, "shop.test/", &[version("v1", &[READY])]);
        table.apply(&catalog);
        let series = table.load().entries()[0].series.clone();
        metrics.worker().request_done(&series, 503, Reason::NoReadyInstance, Duration::ZERO);
        drop(series);
        remove(&mut catalog, "shop.test/");
        table.apply(&catalog);
        let shown = || all_series(&metrics).iter().any(|series| !requests(series).is_empty());
        let start = Instant::now();
        metrics.sweep(start + KEPT);
        assert!(shown());
        metrics.sweep(start + 3 * KEPT);
        assert!(!shown());
    }
}
