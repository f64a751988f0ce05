//! The instance within a version, as `fairway.balance` says.
//!
//! Not here: which version (see `lots`), who is ready (the table lists those).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fairway_config::labels::Balance;
use fastrand::Rng;

use super::client;
use super::ring::TooFew;
use super::stable_hash;
use crate::endpoint::Endpoint;
use crate::request::RequestView;
use crate::table::Version;

/// How often one is thrown for before all are looked at.
const THROWS: usize = 8;
/// How many turns in a row may come to instances that cannot be had before all are looked at.
const TURNS: usize = 64;
/// Of no more instances than this `least-request` looks at every one, of more at [`DRAWN`] drawn by weight: the fewest of
/// so many draws are hardly more than the fewest of all (Mitzenmacher, "The power of two choices", 2001).
const ALL: usize = 64;
const DRAWN: usize = 16;
/// Requests in flight at an instance, for `hash`, that never send a client elsewhere.
const ALWAYS: f64 = 16.0;
/// Beyond that an instance has at most this many times its part of them (Mirrokni et al., "Consistent hashing with bounded
/// loads", 2018).
const FACTOR: f64 = 1.25;
/// Of about so many instances, evenly from the whole list, their part is reckoned.
const SAMPLED: usize = 32;

/// One choice within a version.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a, 'q, 'r> {
    pub(crate) version: &'q Version,
    /// The instances that may be chosen from.
    pub(crate) among: &'a [Arc<Endpoint>],
    /// Which of them the request may go to: not tried yet, not full.
    pub(crate) usable: &'q dyn Fn(&Endpoint) -> bool,
    pub(crate) request: &'q RequestView<'r>,
    pub(crate) now: Instant,
}

impl<'a> Question<'a, '_, '_> {
    /// `None` when none is usable.
    pub(crate) fn choose(&self, rng: &mut Rng) -> Option<&'a Arc<Endpoint>> {
        if let [only] = self.among {
            return (self.usable)(only).then_some(only);
        }
        match self.version.balance() {
            Balance::P2cEwma => self.better_of_two(rng),
            Balance::LeastRequest => self.fewest(rng),
            Balance::RoundRobin => self.at_turn(|_| self.version.turn.0.fetch_add(1, Ordering::Relaxed)),
            Balance::Random => self.any(rng),
            Balance::Hash(key) => match client::hash(key, self.request) {
                Some(client) => self.of_client(client),
                None => self.better_of_two(rng),
            },
        }
    }

    /// Whom a request that came now would go to, without chance and without taking a turn: for `p2c-ewma` the least
    /// burdened of all, for `random` one of the heaviest.
    pub(crate) fn foresee(&self) -> Option<&'a Arc<Endpoint>> {
        match self.version.balance() {
            Balance::P2cEwma => self.least_burdened(),
            Balance::LeastRequest => self.best(0, requests),
            Balance::RoundRobin => {
                let next = self.version.turn.0.load(Ordering::Relaxed);
                self.at_turn(|n| next.wrapping_add(n))
            }
            Balance::Random => self.best(0, |_| 1.0),
            Balance::Hash(key) => match client::hash(key, self.request) {
                Some(client) => self.of_client(client),
                None => self.least_burdened(),
            },
        }
    }

    /// The less burdened of two random ones (Mitzenmacher's power of two choices): nearly as good as the best of all, and
    /// workers that decide at the same moment do not all run to the same instance. Both are drawn by weight, and the
    /// first of equals is taken, so that equal instances get exactly their weights' shares.
    fn better_of_two(&self, rng: &mut Rng) -> Option<&'a Arc<Endpoint>> {
        let first = self.any(rng)?;
        let Some(second) = self.any_beside(first, rng) else { return Some(first) };
        let burden = |endpoint: &Endpoint| endpoint.burden(self.now);
        Some(if burden(second).is_less_than(burden(first)) { second } else { first })
    }

    /// The least burdened of all, without chance.
    fn least_burdened(&self) -> Option<&'a Arc<Endpoint>> {
        let usable = self.among.iter().filter(|endpoint| (self.usable)(endpoint));
        let burden = |endpoint: &Endpoint| endpoint.burden(self.now);
        usable.reduce(
            |best, endpoint| if burden(endpoint).is_less_than(burden(best)) { endpoint } else { best },
        )
    }

    fn anywhere(&self, rng: &mut Rng) -> usize {
        if self.among.is_empty() { 0 } else { rng.usize(0..self.among.len()) }
    }

    /// The cheapest of all; the first of equals from this place on.
    fn best(&self, start: usize, cost: impl Fn(&Endpoint) -> f32) -> Option<&'a Arc<Endpoint>> {
        let (before, after) = self.among.split_at(start);
        let usable = after.iter().chain(before).filter(|endpoint| (self.usable)(endpoint));
        usable.reduce(|best, endpoint| cheaper(best, endpoint, &cost))
    }

    /// The fewest requests in flight for its weight: of all, or of some if there are many.
    fn fewest(&self, rng: &mut Rng) -> Option<&'a Arc<Endpoint>> {
        if self.among.len() <= ALL {
            return self.best(self.anywhere(rng), requests);
        }
        let thrown = (0..DRAWN * THROWS).map_while(|_| self.thrown(rng));
        let usable = thrown.filter(|endpoint| (self.usable)(endpoint)).take(DRAWN);
        usable
            .reduce(|best, endpoint| cheaper(best, endpoint, requests))
            .or_else(|| self.best(self.anywhere(rng), requests))
    }

    /// A random one, by weight, of those that may be chosen.
    fn any(&self, rng: &mut Rng) -> Option<&'a Arc<Endpoint>> {
        // One that may not be chosen is no reason to look at all: another throw is as good.
        for _ in 0..THROWS {
            let one = self.thrown(rng)?;
            if (self.usable)(one) {
                return Some(one);
            }
        }
        let total = self.weight_of_usable();
        (total > 0).then(|| rng.u64(0..total)).and_then(|at| self.usable_at(at))
    }

    /// A random one, by weight, whether it may be chosen or not.
    fn thrown(&self, rng: &mut Rng) -> Option<&'a Arc<Endpoint>> {
        let places = self.places();
        if places == 0 { None } else { self.at_place(rng.u64(0..places)) }
    }

    /// A random one, by weight, other than this one.
    fn any_beside(&self, one: &Arc<Endpoint>, rng: &mut Rng) -> Option<&'a Arc<Endpoint>> {
        let usable = |endpoint: &Endpoint| !std::ptr::eq(endpoint, &**one) && (self.usable)(endpoint);
        Question { usable: &usable, ..*self }.any(rng)
    }
    /// By turns, weighted and spread: a counter walks through the places in steps near the golden section that share no
    /// factor with their number, so that a full turn comes to each place once and neighbours in time are far apart. The turn of
    /// one that cannot be had passes: so the others keep their shares. `turn` gives the first turn, the next, ...
    fn at_turn(&self, turn: impl Fn(usize) -> usize) -> Option<&'a Arc<Endpoint>> {
        let places = self.places();
        let step = spread_step(places);
        for n in 0..if places == 0 { 0 } else { TURNS } {
            let one = self.at_place(turn(n) as u64 % places * step % places)?;
            if (self.usable)(one) {
                return Some(one);
            }
        }
        let total = self.weight_of_usable();
        if total == 0 {
            return None;
        }
        self.usable_at(turn(TURNS) as u64 % total * spread_step(total) % total)
    }

    /// The same instance for the same client, unless it has far more requests in flight than its part: then the client's next
    /// best ("bounded load": an instance of one heavy client must not drown).
    fn of_client(&self, client: u64) -> Option<&'a Arc<Endpoint>> {
        let own = self.nearest(client, self.usable)?;
        if f64::from(own.state.in_flight()) < ALWAYS {
            return Some(own);
        }
        let each = self.in_flight_each(client);
        let has_room = |endpoint: &Endpoint| {
            let most = (each * f64::from(endpoint.weight) * FACTOR).max(ALWAYS);
            f64::from(endpoint.state.in_flight()) < most
        };
        if has_room(own) {
            return Some(own);
        }
        self.nearest(client, &|endpoint| (self.usable)(endpoint) && has_room(endpoint)).or(Some(own))
    }

    /// Where the client belongs, of those that `may` have it.
    fn nearest(&self, client: u64, may: &dyn Fn(&Endpoint) -> bool) -> Option<&'a Arc<Endpoint>> {
        let from = self.from();
        let one = |at: usize| self.among.get(at.checked_sub(from)?);
        match &self.version.seats {
            Some(seats) => match seats.nearest(client, |at| one(at).is_some_and(|endpoint| may(endpoint))) {
                Ok(at) => at.and_then(one),
                Err(TooFew) => self.highest_score(client, may),
            },
            None => self.highest_score(client, may),
        }
    }

    /// Where the client belongs if hardly one of the instances may have it: weighted rendezvous, which looks at each once.
    fn highest_score(&self, client: u64, may: &dyn Fn(&Endpoint) -> bool) -> Option<&'a Arc<Endpoint>> {
        let score = |endpoint: &Endpoint| {
            stable_hash::unit(stable_hash::both(client, endpoint.hash)).ln() / f64::from(endpoint.weight)
        };
        let scored = self.among.iter().filter(|endpoint| may(endpoint)).map(|one| (score(one), one));
        scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, one)| one)
    }

    /// Requests in flight for a weight of 1, this one among them, on average over those that may be chosen: of all, or evenly
    /// from the whole list if there are many.
    fn in_flight_each(&self, client: u64) -> f64 {
        let stride = self.among.len().div_ceil(SAMPLED).max(1);
        let first = client % stride as u64;
        let sampled = self.among.iter().skip(first as usize).step_by(stride);
        let (mut in_flight, mut weight) = (1.0, 0.0);
        for endpoint in sampled.filter(|endpoint| (self.usable)(endpoint)) {
            in_flight += f64::from(endpoint.state.in_flight());
            weight += f64::from(endpoint.weight);
        }
        // Nobody of the sample may be chosen: nothing is known, so nothing is bounded.
        if weight > 0.0 { in_flight / weight } else { f64::INFINITY }
    }

    /// How many places there are when each instance has as many as its weight; one each when all weigh the same.
    fn places(&self) -> u64 {
        match &self.version.weights {
            None => self.among.len() as u64,
            Some(weights) => weights.places(self.from(), self.among.len()),
        }
    }

    /// The instance that has this place.
    fn at_place(&self, place: u64) -> Option<&'a Arc<Endpoint>> {
        self.among.get(match &self.version.weights {
            None => place as usize,
            Some(weights) => weights.at(self.from(), place),
        })
    }

    /// Where those that may be chosen from begin in the version's list.
    fn from(&self) -> usize {
        self.among.first().and_then(|first| self.version.endpoints().element_offset(first)).unwrap_or(0)
    }

    fn weight_of_usable(&self) -> u64 {
        let usable = self.among.iter().filter(|endpoint| (self.usable)(endpoint));
        usable.map(|endpoint| u64::from(endpoint.weight)).sum()
    }

    /// The usable instance that has this place, when each has as many as its weight and the others have none.
    fn usable_at(&self, mut place: u64) -> Option<&'a Arc<Endpoint>> {
        self.among.iter().filter(|endpoint| (self.usable)(endpoint)).find(|endpoint| {
            let weight = u64::from(endpoint.weight);
            let here = place < weight;
            place = place.wrapping_sub(weight);
            here
        })
    }
}

/// Instances of different weights, each with as many places as it weighs: the sums of the weights up to each.
#[derive(Debug)]
pub(crate) struct Weights(Box<[u64]>);

impl Weights {
    /// `None` when all weigh the same.
    pub(crate) fn of(endpoints: &[Arc<Endpoint>]) -> Option<Self> {
        let weights = || endpoints.iter().map(|endpoint| u64::from(endpoint.weight));
        if weights().zip(weights().skip(1)).all(|(one, next)| one == next) {
            return None;
        }
        let add = |sum: &mut u64, weight| {
            *sum += weight;
            Some(*sum)
        };
        Some(Self(weights().scan(0, add).collect()))
    }

    /// The places of so many instances from this one on.
    fn places(&self, from: usize, instances: usize) -> u64 {
        self.before(from + instances) - self.before(from)
    }

    /// Which instance has this place, both counted from this one on.
    fn at(&self, from: usize, place: u64) -> usize {
        let place = self.before(from) + place;
        self.0.partition_point(|sum| *sum <= place).saturating_sub(from)
    }

    fn before(&self, instance: usize) -> u64 {
        instance.checked_sub(1).and_then(|last| self.0.get(last)).copied().unwrap_or(0)
    }

    /// Heap memory in octets.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Requests in flight with one more.
fn requests(endpoint: &Endpoint) -> f32 {
    (endpoint.state.in_flight() + 1) as f32
}

/// The cheaper one for its weight; the first of equals.
fn cheaper<'a>(
    a: &'a Arc<Endpoint>,
    b: &'a Arc<Endpoint>,
    cost: impl Fn(&Endpoint) -> f32,
) -> &'a Arc<Endpoint> {
    let relative = |endpoint: &Endpoint| cost(endpoint) / f32::from(endpoint.weight);
    if relative(b) < relative(a) { b } else { a }
}

/// Whose turn it is, for `round-robin`.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicUsize);

/// The number nearest to total / golden ratio, from there on upwards, that shares no factor with `total`.
fn spread_step(total: u64) -> u64 {
    let golden = ((total as f64) * 0.618_033_988_749_895).round() as u64;
    (golden.max(1)..).find(|step| common_factor(*step, total) == 1).unwrap_or(1)
}

pub(super) fn common_factor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
