//! The instance within a version, as `fairway.balance` says.
//!
//! Not here: which version (see `lots`), who is ready (the table lists those).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fairway_config::labels::Balance;
use fastrand::Rng;

use super::client;
use super::stable_hash;
use crate::endpoint::Endpoint;
use crate::request::RequestView;
use crate::table::Version;

/// How often one is thrown for before all are looked at.
const THROWS: usize = 8;

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
            Balance::LeastRequest => self.best(self.anywhere(rng), requests),
            Balance::RoundRobin => self.at_turn(self.version.turn.0.fetch_add(1, Ordering::Relaxed)),
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
            Balance::RoundRobin => self.at_turn(self.version.turn.0.load(Ordering::Relaxed)),
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

    /// A random one, by weight.
    fn any(&self, rng: &mut Rng) -> Option<&'a Arc<Endpoint>> {
        // One that may not be chosen is no reason to look at all: another throw is as good.
        for _ in 0..if self.version.is_even { THROWS } else { 0 } {
            let one = self.among.get(self.anywhere(rng))?;
            if (self.usable)(one) {
                return Some(one);
            }
        }
        let total = self.weight_of_usable();
        (total > 0).then(|| rng.u64(0..total)).and_then(|at| self.at(at))
    }

    /// A random one, by weight, other than this one.
    fn any_beside(&self, one: &Arc<Endpoint>, rng: &mut Rng) -> Option<&'a Arc<Endpoint>> {
        let usable = |endpoint: &Endpoint| !std::ptr::eq(endpoint, &**one) && (self.usable)(endpoint);
        Question { usable: &usable, ..*self }.any(rng)
    }

    /// By turns, weighted and spread: a counter walks through the places 0..total in steps near the golden section that
    /// share no factor with the total, so that a full turn comes to each place once and neighbours in time are far apart.
    fn at_turn(&self, turn: usize) -> Option<&'a Arc<Endpoint>> {
        let places = self.among.len() as u64;
        if self.version.is_even && places > 0 {
            let place = turn as u64 % places * spread_step(places) % places;
            if let Some(one) = self.among.get(place as usize).filter(|one| (self.usable)(one)) {
                return Some(one);
            }
        }
        let total = self.weight_of_usable();
        if total == 0 {
            return None;
        }
        let turn = turn as u64 % total;
        self.at(turn * spread_step(total) % total)
    }

    /// The same instance for the same client (weighted rendezvous), unless it has far more requests in flight than its
    /// part: then the client's next best ("bounded load": an instance of one heavy client must not drown).
    fn of_client(&self, client: u64) -> Option<&'a Arc<Endpoint>> {
        const ALWAYS: f64 = 16.0;
        const FACTOR: f64 = 1.25;
        let score = |endpoint: &Endpoint| {
            let unit = stable_hash::unit(stable_hash::both(client, endpoint.hash));
            // The same order, without the logarithm.
            if self.version.is_even { -unit } else { -unit.ln() / f64::from(endpoint.weight) }
        };
        // Hardly any instance is better than all before it: only those are looked at.
        let best = |may: &dyn Fn(&Endpoint) -> bool| {
            let mut best: Option<(f64, &'a Arc<Endpoint>)> = None;
            for endpoint in self.among {
                let score = score(endpoint);
                if best.is_none_or(|(least, _)| score < least) && may(endpoint) {
                    best = Some((score, endpoint));
                }
            }
            best.map(|(_, endpoint)| endpoint)
        };
        let own = best(self.usable)?;
        if f64::from(own.state.in_flight()) < ALWAYS {
            return Some(own);
        }
        let (mut in_flight, mut weight) = (1.0, 0.0);
        for endpoint in self.among.iter().filter(|endpoint| (self.usable)(endpoint)) {
            in_flight += f64::from(endpoint.state.in_flight());
            weight += f64::from(endpoint.weight);
        }
        let has_room = |endpoint: &Endpoint| {
            let part = in_flight * f64::from(endpoint.weight) / weight;
            f64::from(endpoint.state.in_flight()) < (part * FACTOR).max(ALWAYS)
        };
        best(&|endpoint| (self.usable)(endpoint) && has_room(endpoint)).or(Some(own))
    }

    fn weight_of_usable(&self) -> u64 {
        self.among
            .iter()
            .filter(|endpoint| (self.usable)(endpoint))
            .map(|endpoint| u64::from(endpoint.weight))
            .sum()
    }

    /// The usable instance that has this place, when each has as many as its weight.
    fn at(&self, mut place: u64) -> Option<&'a Arc<Endpoint>> {
        self.among.iter().filter(|endpoint| (self.usable)(endpoint)).find(|endpoint| {
            let weight = u64::from(endpoint.weight);
            let here = place < weight;
            place = place.wrapping_sub(weight);
            here
        })
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

fn common_factor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
