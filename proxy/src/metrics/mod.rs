//! Counting, one copy per worker and without locks on the way of a request; the sums are made at the scrape.
//!
//! [`Metrics`] hands out a [`Series`] per (route, backend), which the routing table keeps at hand, so that counting a
//! request is four additions in the worker's own memory. Labels are names from the catalog and words from fixed lists,
//! never what a client sent. Series of routes and backends that are gone are dropped after [`KEPT`].

mod collect;
mod figures;
mod histogram;
mod mirrored;
mod series;
mod shards;

use std::cell::Cell;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;

pub use collect::TableCollector;
pub use figures::VersionFigures;
use histogram::{BUILD, Histogram};
pub(crate) use mirrored::Mirrored;
pub use series::{BackendSeries, Series};

use crate::forward::grpc::Status;
use crate::pick::stable_hash::BuildStable;
use crate::reason::Reason;

/// How long the series of a route or backend that is gone is still shown: a scraper that missed its last requests gets
/// them, and one that returns goes on counting.
pub const KEPT: Duration = Duration::from_secs(600);
/// Series are looked through for gone ones this often at most.
const SWEEP: Duration = Duration::from_secs(30);

/// Everything the data plane counts.
#[derive(Debug)]
pub struct Metrics {
    workers: usize,
    next_worker: AtomicUsize,
    routed: DashMap<(Arc<str>, Arc<str>), Kept<Series>, BuildStable>,
    backends: DashMap<Arc<str>, Kept<BackendSeries>, BuildStable>,
    unrouted: Arc<Series>,
    connections: DashMap<(Arc<str>, &'static str), Arc<AtomicI64>>,
    handshakes: DashMap<(Arc<str>, &'static str), Arc<AtomicU64>>,
    refused: DashMap<(Arc<str>, &'static str), AtomicU64>,
    builds: DashMap<&'static str, Histogram>,
    swept: Mutex<Option<Instant>>,
}

/// A series, and since when nobody but us holds it.
#[derive(Debug)]
struct Kept<T> {
    series: Arc<T>,
    gone: Option<Instant>,
}

impl Metrics {
    /// For this many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        let nobody: Arc<str> = "".into();
        Arc::new(Self {
            workers,
            next_worker: AtomicUsize::new(0),
            routed: DashMap::default(),
            backends: DashMap::default(),
            unrouted: Arc::new(Series::new(&nobody, &nobody, workers)),
            connections: DashMap::new(),
            handshakes: DashMap::new(),
            refused: DashMap::new(),
            builds: DashMap::new(),
            swept: Mutex::new(None),
        })
    }

    /// The next worker's way to count.
    pub fn worker(self: &Arc<Self>) -> WorkerMetrics {
        let worker = self.next_worker.fetch_add(1, Relaxed);
        WorkerMetrics { worker, metrics: self.clone(), one_thread: PhantomData }
    }

    /// Counts the building of something derived from the catalog: `routes`, `zone`, `catalog`.
    pub fn build_done(&self, table: &'static str, took: Duration) {
        self.builds.entry(table).or_default().observe(&BUILD, took);
    }

    /// Counts a connection that was closed at once, or for what it sent. `listener` is a listener's address as configured,
    /// `reason` a word from a fixed list: `listener-full`, `client-full`, `http2-flood`,
    /// `http2-invalid`.
    pub fn connection_refused(&self, listener: &Arc<str>, reason: &'static str) {
        self.refused.entry((listener.clone(), reason)).or_default().fetch_add(1, Relaxed);
    }

    /// The series of a route and backend by their printed names, either empty when there is none.
    pub(crate) fn series(&self, route: &Arc<str>, backend: &Arc<str>) -> Arc<Series> {
        let key = (route.clone(), backend.clone());
        let new = || Kept { series: Arc::new(Series::new(route, backend, self.workers)), gone: None };
        self.routed.entry(key).or_insert_with(new).series.clone()
    }

    /// The series of a backend by its printed name.
    pub(crate) fn backend(&self, backend: &Arc<str>) -> Arc<BackendSeries> {
        let new = || Kept { series: Arc::new(BackendSeries::new(backend, self.workers)), gone: None };
        self.backends.entry(backend.clone()).or_insert_with(new).series.clone()
    }

    /// Drops the series of routes and backends that have been gone for [`KEPT`]; does nothing if it did so lately.
    pub(crate) fn sweep(&self, now: Instant) {
        {
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            if swept.is_some_and(|last| now.saturating_duration_since(last) < SWEEP) {
                return;
            }
            *swept = Some(now);
        }
        sweep(&self.routed, now);
        sweep(&self.backends, now);
    }
}

fn sweep<K: Eq + Hash, T>(map: &DashMap<K, Kept<T>, BuildStable>, now: Instant) {
    map.retain(|_, kept| {
        if Arc::strong_count(&kept.series) > 1 {
            kept.gone = None;
            return true;
        }
        now.saturating_duration_since(*kept.gone.get_or_insert(now)) < KEPT
    });
}

/// One worker's way to count. It stays on one thread.
#[derive(Debug)]
pub struct WorkerMetrics {
    worker: usize,
    metrics: Arc<Metrics>,
    one_thread: PhantomData<Cell<()>>,
}

impl WorkerMetrics {
    /// Counts a request that has ended, with the status of its answer. `series` is that of the pick; of the route's entry
    /// when no instance was picked; [`WorkerMetrics::unrouted`] when no route was found.
    pub fn request_done(&self, series: &Series, code: u16, reason: Reason, took: Duration) {
        series.request_done(self.worker, code, reason, took);
    }

    /// Counts for [`VersionFigures`] what a version did for a request: `answered_in` is how long it took to answer, if it
    /// did. `series` is that of the pick.
    pub(crate) fn attempt_done(&self, series: &Series, answered_in: Option<Duration>, failed: bool) {
        series.attempt_done(self.worker, answered_in, failed);
    }

    /// Counts what became of a copy of a request, and how long it took if it was answered. `series` is that of the version
    /// that got it.
    pub(crate) fn mirrored(&self, series: &Series, result: Mirrored, took: Option<Duration>) {
        series.mirrored(self.worker, result, took);
    }

    /// Counts a call of gRPC that has ended with this status.
    pub(crate) fn grpc_done(&self, series: &Series, status: Status) {
        series.grpc_done(self.worker, status);
    }

    /// The series of requests that found no route.
    pub fn unrouted(&self) -> &Series {
        &self.metrics.unrouted
    }

    /// Counts a connection to an instance of a backend, and how long connecting took.
    pub fn connected(&self, backend: &BackendSeries, took: Duration) {
        backend.connected(self.worker, took);
    }

    /// Counts a retry: `backend` is the one that failed, `reason` how.
    pub fn retried(&self, backend: &BackendSeries, reason: Reason) {
        backend.retried(reason);
    }

    /// Counts a second request to another instance of a backend, and whether it was answered first.
    pub(crate) fn hedged(&self, backend: &BackendSeries, won: bool) {
        backend.hedged(won);
    }

    /// Counts a TLS handshake that has ended: `full` or `resumed`, else why there is no connection.
    pub fn handshake(&self, listener: &Arc<str>, result: &'static str) {
        self.metrics.handshakes.entry((listener.clone(), result)).or_default().fetch_add(1, Relaxed);
    }

    /// Counts a downstream connection for as long as the guard lives. `listener` is a listener's address as
    /// configured, `protocol` what is spoken: `http1`, `h2`, `tls`, `websocket`, `tcp`; a
    /// front port is named as its route.
    pub fn connection(&self, listener: &Arc<str>, protocol: &'static str) -> OpenConnection {
        let gauge = self.metrics.connections.entry((listener.clone(), protocol)).or_default().clone();
        gauge.fetch_add(1, Relaxed);
        OpenConnection(gauge)
    }
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub struct OpenConnection(Arc<AtomicI64>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_dropped_some_time_after_its_route_is_gone_and_not_before() {
        let metrics = Metrics::new(1);
        let (route, backend): (Arc<str>, Arc<str>) = ("shop.company.com/".into(), "shop@v1".into());
        let series = metrics.series(&route, &backend);
        let start = Instant::now();
        metrics.sweep(start);
        metrics.sweep(start + 2 * KEPT);
        assert_eq!(metrics.routed.len(), 1, "its route is still there");
        drop(series);
        metrics.sweep(start + 3 * KEPT);
        assert_eq!(metrics.routed.len(), 1, "only just gone");
        metrics.sweep(start + 4 * KEPT);
        assert_eq!(metrics.routed.len(), 0);
    }

    #[test]
    fn connections_are_counted_while_they_are_open() {
        let metrics = Metrics::new(1);
        let worker = metrics.worker();
        let open = worker.connection(&"0.0.0.0:80".into(), "http1");
        let gauge = metrics.connections.get(&("0.0.0.0:80".into(), "http1")).expect("it was counted").clone();
        assert_eq!(gauge.load(Relaxed), 1);
        drop(open);
        assert_eq!(gauge.load(Relaxed), 0);
    }
}
