//! A load that counts every request and repeats none: whatever is refused, reset, cut, late or not 2xx has failed.
//!
//! One case is no failure: a kept connection that the other side closed cleanly while no request was on it. The next
//! request opens another, as any client would. A reset there is a failure, and so is a close that crosses a request.

mod http2;
mod program;
mod report;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

pub use self::http2::{Call, Over};
pub use self::program::main;
use self::report::Tally;
pub use self::report::{Failed, Report, Seen};
use self::wire::{Failure, Reply, Wire};
use crate::wait::{PATIENCE, within};

/// What is sent, and how fast.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The server.
    pub address: SocketAddr,
    /// The Host field.
    pub host: String,
    /// What they are sent over.
    pub over: Over,
    /// A call of gRPC, for which `over` is not HTTP/1.1; target, method and body are its own. `None`: any other request.
    pub call: Option<Call>,
    /// Path and query.
    pub target: String,
    /// The method.
    pub method: String,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// The body, with a Content-Length unless it is empty.
    pub body: Vec<u8>,
    /// Connections at a time, each with one request at a time; over HTTP/2 as many streams of one connection.
    pub connections: usize,
    /// Whether connections are kept; otherwise each request has its own and asks for its end.
    pub keep_alive: bool,
    /// Requests per second over all connections; `None`: each connection sends as soon as it has been answered.
    /// A request's time counts from when it was due, so that a server that stalls cannot hide it.
    pub rate: Option<f64>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Whose answers are right, by the field `x-service`: those of others are failures. `None`: everybody's.
    pub service: Option<String>,
    /// What a body of an answer ends with, one of these; a proxy might end in good order what was cut behind it. Empty: anything.
    pub ends: Vec<String>,
    /// Whether the origin has to say, by the field `x-taken`, that it has got the whole body.
    pub is_taken: bool,
}

impl LoadOptions {
    /// GET `/` from two kept connections in a closed loop.
    pub fn new(address: SocketAddr, host: &str) -> Self {
        Self {
            address,
            host: host.to_owned(),
            over: Over::Http1,
            call: None,
            target: "/".to_owned(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            connections: 2,
            keep_alive: true,
            rate: None,
            timeout: Duration::from_secs(30),
            service: None,
            ends: Vec::new(),
            is_taken: false,
        }
    }

    fn request(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        if !self.keep_alive {
            head.push_str("Connection: close\r\n");
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// A load that is running. Dropped: it ends, uncounted.
#[derive(Debug)]
pub struct Load {
    job: Arc<Job>,
    answered: watch::Receiver<u64>,
    workers: JoinSet<Tally>,
}

/// What the connections of one load share.
#[derive(Debug)]
struct Job {
    options: LoadOptions,
    request: Vec<u8>,
    http2: http2::Shared,
    start: Instant,
    /// Requests taken on, the number of the next one.
    taken: AtomicU64,
    stop: AtomicBool,
    answered: watch::Sender<u64>,
}

impl Load {
    /// Starts it on the current runtime.
    pub fn start(options: LoadOptions) -> Self {
        let (answered, answered_seen) = watch::channel(0);
        let connections = options.connections;
        let job = Arc::new(Job {
            request: options.request(),
            options,
            http2: http2::Shared::default(),
            start: Instant::now(),
            taken: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            answered,
        });
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            workers.spawn(work(Arc::clone(&job)));
        }
        Self { job, answered: answered_seen, workers }
    }

    /// Requests that have ended up to now, well or not.
    pub fn count(&self) -> u64 {
        *self.answered.borrow()
    }

    /// Waits until `more` further requests have ended: for an act in the middle of a load, without a clock.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn wait_for(&self, more: u64) {
        let mut answered = self.answered.clone();
        let enough = *answered.borrow() + more;
        let reached = answered.wait_for(|count| *count >= enough);
        within(format_args!("{more} more requests of the load"), PATIENCE, reached)
            .await
            .expect("the load holds the sender");
    }

    /// Takes on no more requests, waits for those in flight, and counts.
    ///
    /// # Panics
    /// When a connection's task has panicked.
    pub async fn stop(mut self) -> Report {
        self.job.stop.store(true, Ordering::Relaxed);
        let mut whole = Tally::default();
        while let Some(tally) = self.workers.join_next().await {
            whole.add(tally.expect("a connection of the load does not panic"));
        }
        whole.report(self.job.start.elapsed())
    }
}

/// Loads for `duration`, then stops.
///
/// # Panics
/// As [`Load::stop`].
pub async fn run(options: LoadOptions, duration: Duration) -> Report {
    let load = Load::start(options);
    tokio::time::sleep(duration).await;
    load.stop().await
}

/// One connection's requests, one after the other.
async fn work(job: Arc<Job>) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<Wire> = None;
    while let Some(due) = job.next_due() {
        sleep_until(due).await;
        if job.stop.load(Ordering::Relaxed) {
            break; // due only after the end: never sent
        }
        let sent_at = job.start.elapsed();
        let outcome = timeout(job.options.timeout, job.exchange(&mut kept, &mut tally.opened)).await;
        let outcome = outcome.unwrap_or(Err(Failure::Timeout));
        if outcome.is_err() {
            kept = None;
        }
        let since = if job.options.rate.is_some() { due } else { job.start + sent_at };
        tally.count(outcome, &job.options, sent_at, since.elapsed(), job.start.elapsed());
        job.answered.send_modify(|count| *count += 1);
    }
    tally
}

impl Job {
    /// When the next request is due; `None` when the load has been stopped.
    fn next_due(&self) -> Option<Instant> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        Some(match self.options.rate {
            Some(rate) => self.start + Duration::from_secs_f64(number as f64 / rate),
            None => Instant::now(),
        })
    }

    /// One request, on the kept connection if that is still open.
    async fn exchange(&self, kept: &mut Option<Wire>, opened: &mut u64) -> Result<Reply, Failure> {
        if !matches!(self.options.over, Over::Http1) {
            return self.http2.exchange(&self.options, opened).await;
        }
        let mut wire = match kept.take() {
            Some(wire) if wire.is_open()? => wire,
            _ => {
                *opened += 1;
                Wire::connect(self.options.address).await?
            }
        };
        let reply = wire.exchange(&self.request, self.options.method == "HEAD").await?;
        if self.options.keep_alive && reply.keep_alive {
            *kept = Some(wire);
        }
        Ok(reply)
    }
}
