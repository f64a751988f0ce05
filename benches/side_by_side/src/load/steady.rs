//! Requests at a steady rate, whatever the answers do: latency counts from the moment a request is due, so that a proxy
//! that stalls is charged for all that had to wait (no coordinated omission).

use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Args, Told, connection, in_threads};

/// Less of the rate than this, and the latency says nothing: the machine has no time for the load.
const RATE_MIN: f64 = 0.95;

/// What passes before latency counts.
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) fn run(args: &Args) -> Told {
    let request = connection::request(&args.host, &args.path, "");
    let began = Instant::now();
    let all = Mutex::new(Vec::new());
    let step = Duration::from_secs_f64(f64::from(args.connections) / f64::from(args.rate));
    let mut told = in_threads(args, |k, until| {
        // Sleep to the microsecond; if that is refused, to the default 50.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let (mut told, mut latencies, mut buffer) = (Told::default(), Vec::new(), Vec::new());
        let mut stream = connection::connect(args.address);
        let mut due = began + step.mul_f64(f64::from(k) / f64::from(args.connections));
        while due < until {
            // The rate is what is asked for: the next request is due then, whatever the answers do.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let done = match &mut stream {
                Ok(stream) => connection::exchange(stream, &request, &mut buffer),
                Err(error) => Err(std::io::Error::other(error.to_string())),
            };
            if told.count(done).is_none() {
                stream = connection::connect(args.address);
            } else if due > began + WARM_UP {
                latencies.push(due.elapsed().as_secs_f64() * 1e6);
            }
            due += step;
        }
        all.lock().expect("a thread of the load panics never").append(&mut latencies);
        told
    });
    let mut latencies = all.into_inner().expect("a thread of the load panics never");
    latencies.sort_by(f64::total_cmp);
    told.latency = latencies.get(latencies.len() / 2).copied();
    let reached = told.done as f64 / told.seconds;
    if reached < f64::from(args.rate) * RATE_MIN {
        told.errors += 1;
        told.first_error.get_or_insert_with(|| format!("only {reached:.0} requests/s were reached"));
    }
    told
}
