//! What is counted of each query.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

use crate::answer::Tally;

/// Bounds in seconds: our own answers take microseconds, forwarded ones up to the timeout.
const BUCKETS: [f64; 14] =
    [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0, 5.0];

/// The metrics of the DNS.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    queries: IntCounterVec,
    duration: Histogram,
}

impl Metrics {
    /// Fails when the registry has metrics of these names already.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let queries = IntCounterVec::new(
            Opts::new(
                "fairway_dns_queries_total",
                "DNS queries by zone (or forwarded, refused), type and answer",
            ),
            &["zone", "type", "rcode"],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new("fairway_dns_duration_seconds", "Time from a DNS query to its reply")
                .buckets(BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(queries.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        Ok(Self { queries, duration })
    }

    pub(crate) fn count(&self, tally: &Tally, took: Duration) {
        let labels = [tally.zone.as_str(), kind(tally.kind), code(tally.code)];
        self.queries.with_label_values(&labels).inc();
        self.duration.observe(took.as_secs_f64());
    }
}

/// The types that get a count of their own; a client must not be able to make more.
fn kind(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::ANY => "ANY",
        RecordType::CNAME => "CNAME",
        RecordType::HTTPS => "HTTPS",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::PTR => "PTR",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::TXT => "TXT",
        _ => "other",
    }
}

fn code(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::BADVERS => "BADVERS",
        _ => "other",
    }
}
