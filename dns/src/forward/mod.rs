//! Other names: asked of upstream resolvers, cached, one question of a kind at a time.
//!
//! Not here: which upstreams (see `upstreams`), who may ask (see [`crate::answer`]).

pub(crate) mod upstreams;

use std::net::SocketAddr;
use std::sync::Arc;
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
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use crate::answer::Forwarded;

/// Longest wait for an answer, all upstreams and attempts together.
const TOTAL: Duration = Duration::from_secs(5);
/// Longest wait for one upstream.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Questions under way at once; more get SERVFAIL.
const IN_FLIGHT_MAX: usize = 1024;
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
}

impl Forwarder {
    /// With no upstream yet.
    pub(crate) fn new() -> Self {
        Self {
            resolver: ArcSwapOption::empty(),
            pending: DashMap::new(),
            permits: Semaphore::new(IN_FLIGHT_MAX),
        }
    }

    /// Asks these from now on, with an empty cache.
    pub(crate) fn set_upstreams(&self, servers: &[SocketAddr]) {
        let resolver = if servers.is_empty() { None } else { resolver(servers) };
        self.resolver.store(resolver.map(Arc::new));
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
        let forwarded = match outcome {
            Ok(Ok(lookup)) => {
                let message = lookup.message();
                Forwarded {
                    code: message.metadata.response_code,
                    answers: message.answers.clone(),
                    authorities: Vec::new(),
                }
            }
            Ok(Err(error)) => negative(error),
            Err(_) => Forwarded::failed(ResponseCode::ServFail),
        };
        forwarded.into()
    }
}

/// An error as an answer: "no such thing" keeps its code and SOA, everything else is SERVFAIL or what the upstream said.
fn negative(error: NetError) -> Forwarded {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => Forwarded {
            code: none.response_code,
            answers: Vec::new(),
            authorities: none.soa.map(|soa| Record::into_record_of_rdata(*soa)).into_iter().collect(),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Forwarded::failed(code),
        error => {
            tracing::debug!(%error, "an upstream resolver gave no answer");
            Forwarded::failed(ResponseCode::ServFail)
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
