//! Other names: asked of upstream resolvers, cached, one question of a kind at a time.
//!
//! Not here: which upstreams (see `upstreams`), who may ask (see [`crate::answer`]).

pub(crate) mod upstreams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use tokio::sync::{Notify, OnceCell, Semaphore};
use tokio::time::timeout;

use crate::answer::Forwarded;

/// Longest wait for an answer, all upstreams and attempts together.
const TOTAL: Duration = Duration::from_secs(5);
/// Longest wait for one upstream.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Questions under way at once; more get SERVFAIL.
const IN_FLIGHT_MAX: usize = 1024;
/// So many questions in a row without any answer are told.
const SILENT_AFTER: u32 = 5;
/// Answers remembered.
const CACHE_MAX: u64 = 10_000;

/// What is asked: a name in lower case, and a type.
type Question = (Name, RecordType);
/// The answer that everybody waits for who asked the same.
type Pending = Arc<OnceCell<Arc<Forwarded>>>;

/// Asks the upstreams.
pub(crate) struct Forwarder {
    /// `None` when there is no upstream.
    resolver: ArcSwapOption<TokioResolver>,
    pending: DashMap<Question, Pending>,
    permits: Semaphore,
    /// Questions in a row that no upstream answered.
    unanswered: AtomicU32,
    changed: Notify,
}

impl Forwarder {
    /// With no upstream yet.
    pub(crate) fn new() -> Self {
        Self {
            resolver: ArcSwapOption::empty(),
            pending: DashMap::new(),
            permits: Semaphore::new(IN_FLIGHT_MAX),
            unanswered: AtomicU32::new(0),
            changed: Notify::new(),
        }
    }

    /// Asks these from now on, with an empty cache.
    pub(crate) fn set_upstreams(&self, servers: &[SocketAddr]) {
        let resolver = if servers.is_empty() { None } else { resolver(servers) };
        self.resolver.store(resolver.map(Arc::new));
        self.unanswered.store(0, Ordering::Relaxed);
    }

    /// Whether no upstream has answered of late.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) >= SILENT_AFTER
    }

    /// Waits until [`Forwarder::is_unanswered`] may have changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn note(&self, answered: bool) {
        let told = if answered {
            self.unanswered.swap(0, Ordering::Relaxed) >= SILENT_AFTER
        } else {
            self.unanswered.fetch_add(1, Ordering::Relaxed) + 1 == SILENT_AFTER
        };
        if told {
            self.changed.notify_one();
        }
    }

    /// What the upstreams say. Whoever asks the same meanwhile waits for the same answer, so that an answer cannot be
    /// guessed by asking often (the birthday attack), and a loop through another resolver ends here.
    pub(crate) async fn lookup(&self, query: &Query) -> Arc<Forwarded> {
        let question = (query.name.to_lowercase(), query.query_type);
        let cell: Pending = self.pending.entry(question.clone()).or_default().clone();
        let waiting = Waiting { pending: &self.pending, question, cell };
        waiting.cell.get_or_init(|| self.ask(query)).await.clone()
    }

    async fn ask(&self, query: &Query) -> Arc<Forwarded> {
        let Ok(_permit) = self.permits.try_acquire() else {
            return Forwarded::failed(ResponseCode::ServFail).into();
        };
        let Some(resolver) = self.resolver.load_full() else {
            return Forwarded::failed(ResponseCode::ServFail).into();
        };
        let mut name = query.name.to_lowercase();
        // A complete name: no search list is applied.
        name.set_fqdn(true);
        let outcome = timeout(TOTAL, resolver.lookup(name, query.query_type)).await;
        let answered = match outcome {
            Ok(Ok(lookup)) => Some(Forwarded {
                code: lookup.message().metadata.response_code,
                answers: lookup.answers().to_vec(),
                authorities: Vec::new(),
            }),
            Ok(Err(error)) => negative(error),
            Err(_) => None,
        };
        self.note(answered.is_some());
        answered.unwrap_or_else(|| Forwarded::failed(ResponseCode::ServFail)).into()
    }
}

/// An error that an upstream answered: "no such thing" keeps its code and SOA. `None` when there was no answer.
fn negative(error: NetError) -> Option<Forwarded> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => Some(Forwarded {
            code: none.response_code,
            answers: Vec::new(),
            authorities: none.soa.map(|soa| Record::into_record_of_rdata(*soa)).into_iter().collect(),
        }),
        NetError::Dns(DnsError::ResponseCode(code)) => Some(Forwarded::failed(code)),
        error => {
            tracing::debug!(%error, "an upstream resolver gave no answer");
            None
        }
    }
}

fn resolver(servers: &[SocketAddr]) -> Option<TokioResolver> {
    let servers = servers.iter().map(|server| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        connections.iter_mut().for_each(|connection| connection.port = server.port());
        NameServerConfig::new(server.ip(), true, connections)
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options();
    builder
        .build()
        .inspect_err(|error| tracing::error!(%error, "the resolver for other names cannot be made"))
        .ok()
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = ATTEMPT;
    options.attempts = 1;
    options.cache_size = CACHE_MAX;
    options.use_hosts_file = ResolveHosts::Never;
    options.max_active_requests = IN_FLIGHT_MAX;
    options.preserve_intermediates = true;
    options.try_tcp_on_error = true;
    // Harder to forge; an upstream that does not keep the case is asked over TCP.
    options.case_randomization = true;
    options
}

/// Somebody who waits for an answer; the last one takes the question off the list.
struct Waiting<'a> {
    pending: &'a DashMap<Question, Pending>,
    question: Question,
    cell: Pending,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // The list's and this one's; whoever joins meanwhile holds the list's lock.
        let last = |cell: &Pending| {
            Arc::ptr_eq(cell, &self.cell) && (Arc::strong_count(cell) <= 2 || cell.initialized())
        };
        self.pending.remove_if(&self.question, |_, cell| last(cell));
    }
}
