//! Spreads connections evenly over the workers.
//!
//! The kernel hashes each connection to one of the listening sockets, which evens out over thousands and not over eight: a
//! few long ones may all land on one worker while another idles. So a worker that has more than another hands over what it
//! has just accepted, before an octet was read. This costs a comparison per connection and nothing per request.
//!
//! Not here: accepting (see `accept`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::gate::Pass;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Handing over costs a wake-up, so a worker keeps what it accepts up to this fraction above the least loaded one: exact
/// for the few connections that matter, lenient where chance evens them out.
const SLACK: usize = 8;

/// How many connections each worker has, and the way to hand it one more.
#[derive(Debug)]
pub(crate) struct Spread(Box<[Desk]>);

/// One worker's. Alone on its cache lines: its own worker writes it with every connection, the others only read.
#[derive(Debug)]
#[repr(align(128))]
struct Desk {
    open: AtomicUsize,
    /// Not bounded of itself: a worker that takes nothing out has ever more connections, so it gets no more.
    sender: UnboundedSender<Handed>,
}

/// A connection on its way to another worker, registered nowhere.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    /// Which of the listeners it came in by, in their order.
    pub(crate) door: usize,
    pub(crate) place: Place,
}

/// What a connection holds for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    /// With its worker.
    pub(crate) seat: Seat,
    /// With its listener and its client.
    pub(crate) pass: Pass,
}

impl Spread {
    /// For this many workers; what each of them takes connections from.
    pub(crate) fn new(workers: usize) -> (Arc<Self>, Vec<UnboundedReceiver<Handed>>) {
        let desk = |_| {
            let (sender, receiver) = unbounded_channel();
            (Desk { open: AtomicUsize::new(0), sender }, receiver)
        };
        let (desks, receivers): (Vec<Desk>, Vec<_>) = (0..workers).map(desk).unzip();
        (Arc::new(Self(desks.into())), receivers)
    }

    /// A seat for a connection that worker `own` has accepted: on itself, unless another has clearly fewer.
    pub(crate) fn seat(self: &Arc<Self>, own: usize) -> Seat {
        let open = |worker: usize| self.0[worker].open.load(Relaxed);
        let others = (0..self.0.len()).filter(|worker| *worker != own);
        let least = others.map(|worker| (open(worker), worker)).min();
        match least {
            Some((least, worker)) if open(own) > least + least / SLACK => self.seat_on(worker),
            _ => self.seat_on(own),
        }
    }

    /// A seat on this worker, however many it has.
    pub(crate) fn seat_on(self: &Arc<Self>, worker: usize) -> Seat {
        // At once, so that the next of a burst sees it wherever it is accepted.
        self.0[worker].open.fetch_add(1, Relaxed);
        Seat { spread: self.clone(), worker }
    }

    /// Gives a connection to the worker of its seat, or back when that worker has ended.
    pub(crate) fn hand(&self, handed: Handed) -> Result<(), Handed> {
        self.0[handed.place.seat.worker].sender.send(handed).map_err(|back| back.0)
    }

    /// Open connections of all workers.
    pub(crate) fn total(&self) -> usize {
        self.0.iter().map(|desk| desk.open.load(Relaxed)).sum()
    }

    /// Open connections of each worker.
    pub(crate) fn open(&self) -> Vec<usize> {
        self.0.iter().map(|desk| desk.open.load(Relaxed)).collect()
    }
}

/// Counts one connection with its worker for as long as it lives.
#[derive(Debug)]
pub(crate) struct Seat {
    spread: Arc<Spread>,
    pub(crate) worker: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.spread.0[self.worker].open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use fairway_config::file::Limits;

    use super::*;
    use crate::gate::Gate;

    #[test]
    fn few_connections_are_spread_exactly_wherever_they_are_accepted() {
        for seed in 0..1000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let workers = rng.usize(1..=4);
            let (spread, _receivers) = Spread::new(workers);
            let each = rng.usize(1..=SLACK);
            let seats: Vec<Seat> = (0..workers * each).map(|_| spread.seat(rng.usize(0..workers))).collect();
            assert_eq!(spread.open(), vec![each; workers], "seed {seed}");
            drop(seats);
            assert_eq!(spread.open(), vec![0; workers]);
        }
    }

    #[test]
    fn many_connections_may_differ_by_an_eighth() {
        let (spread, _receivers) = Spread::new(2);
        let _seats: Vec<Seat> = (0..1700).map(|_| spread.seat(0)).collect();
        let open = spread.open();
        assert!(open[0] - open[1] <= open[1] / SLACK + 1 && open[0] > open[1], "{open:?}");
    }

    #[test]
    fn a_worker_that_has_ended_gives_the_connection_back() {
        let (spread, mut receivers) = Spread::new(2);
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let handed = || {
            let stream = std::net::TcpStream::connect(address).expect("it is accepted");
            let pass = Arc::new(Gate::default()).enter(&Limits::default()).expect("there is room");
            Handed { stream, peer: address, door: 0, place: Place { seat: spread.seat_on(1), pass } }
        };
        assert!(spread.hand(handed()).is_ok());
        assert!(receivers[1].try_recv().is_ok());
        drop(receivers.pop());
        assert!(spread.hand(handed()).is_err());
        assert_eq!(spread.open(), [0, 0]);
    }
}
