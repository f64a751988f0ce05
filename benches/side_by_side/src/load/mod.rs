//! What wrk and h2load lack: requests at a steady rate, a connection per request, handshakes alone, idle connections.
//!
//! Plain threads with blocking sockets, a thread per connection: what the load costs is not measured, and so the code says
//! what happens. It runs as a process of its own, so that it can be kept to a core.

mod churn;
mod connection;
pub(crate) mod handshake;
mod idle;
mod steady;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// Which load, on whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which.
    what: What,
    /// The proxy.
    address: SocketAddr,
    /// The host that is asked for.
    #[arg(long, default_value = crate::peer::HOST)]
    host: String,
    /// The path that is asked for.
    #[arg(long, default_value = "/1k")]
    path: String,
    /// Connections at once.
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// Requests per second, of `steady`.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// How long, but for `idle`.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Over TLS, of `idle`.
    #[arg(long)]
    tls: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    /// Requests at a steady rate; latency counts from the moment a request is due.
    Steady,
    /// A connection per request, which the proxy closes.
    Churn,
    /// Full TLS 1.3 handshakes, no resumption, no request.
    Handshakes,
    /// One request on each connection, which are then held until standard input ends.
    Idle,
}

/// What a load tells: one line of JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// What was done and right: requests, handshakes, connections.
    pub(crate) done: u64,
    /// In how many seconds.
    pub(crate) seconds: f64,
    /// What was not right: no answer, another status than 200, a body that is cut.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) first_error: Option<String>,
    /// Median latency in microseconds, of `steady`. Higher percentiles are those of the machine.
    pub(crate) latency: Option<f64>,
}

impl Told {
    fn and(mut self, other: Self) -> Self {
        self.done += other.done;
        self.errors += other.errors;
        self.first_error = self.first_error.or(other.first_error);
        self
    }

    fn count<T>(&mut self, done: Result<T, std::io::Error>) -> Option<T> {
        match done {
            Ok(value) => {
                self.done += 1;
                Some(value)
            }
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| error.to_string());
                None
            }
        }
    }
}

/// Runs a load and prints what it tells.
pub(crate) fn run(args: &Args) -> Outcome<()> {
    match args.what {
        What::Steady => say(&steady::run(args)),
        What::Churn => say(&churn::run(args)),
        What::Handshakes => say(&handshake::run(args)?),
        What::Idle => idle::run(args),
    }
}

fn say(told: &Told) -> Outcome<()> {
    println!("{}", serde_json::to_string(told).map_err(|error| error.to_string())?);
    Ok(())
}

/// Runs the same in as many threads as there are connections, until the time is over. The thread's number is given.
fn in_threads(args: &Args, work: impl Fn(u32, Instant) -> Told + Sync) -> Told {
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(args.seconds);
    let work = &work;
    let mut told = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.connections).map(|k| scope.spawn(move || work(k, until))).collect();
        let told =
            threads.into_iter().map(|thread| thread.join().expect("a thread of the load panics never"));
        told.fold(Told::default(), Told::and)
    });
    told.seconds = began.elapsed().as_secs_f64();
    told
}
