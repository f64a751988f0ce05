//! Counts attempts and their durations.

use std::time::Duration;

use fairway_catalog::config::names::BackendId;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::attempt::Grade;
use crate::plan::Probe;

/// A probe answers within a millisecond or fails after a second or more.
const BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

/// Every value of the label `result`.
const RESULTS: [&str; 5] = ["success", "failure", "local_error", "unanswered", "unknown"];

/// The metrics of all probes.
pub(crate) struct Metrics {
    duration: HistogramVec,
    results: IntCounterVec,
}

impl Metrics {
    /// Fails when the registry already has metrics of these names.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let duration = HistogramOpts::new("fairway_probe_duration_seconds", "How long probes take, by kind.");
        let duration = HistogramVec::new(duration.buckets(BUCKETS.to_vec()), &["kind"])?;
        let results = Opts::new("fairway_probe_results_total", "How probes end, by backend.");
        let results = IntCounterVec::new(results, &["backend", "result"])?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(results.clone()))?;
        Ok(Self { duration, results })
    }

    pub(crate) fn attempt(&self, probe: &Probe, grade: Grade, took: Duration) {
        self.duration.with_label_values(&[probe.check.kind()]).observe(took.as_secs_f64());
        self.results.with_label_values(&[&*probe.backend.to_string(), word(grade)]).inc();
    }

    /// Drops the series of a backend that is probed no more.
    pub(crate) fn forget(&self, backend: &BackendId) {
        let backend = backend.to_string();
        for result in RESULTS {
            // Those that never occurred are not there.
            let _ = self.results.remove_label_values(&[&*backend, result]);
        }
    }
}

fn word(grade: Grade) -> &'static str {
    let [success, failure, local_error, unanswered, unknown] = RESULTS;
    match grade {
        Grade::Success => success,
        Grade::Failure => failure,
        Grade::Local => local_error,
        Grade::Nothing => unanswered,
        Grade::Impossible(_) => unknown,
    }
}
