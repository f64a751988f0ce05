//! Who of a version's instances counts for one choice, when not all of them do: some are ejected, new, or in another zone.
//!
//! Each instance counts with a part of the choices: none while it is ejected or does not listen yet, a growing one while it
//! is new, or newly back, else all. A choice draws one number, and those whose part is above it take part as if nothing
//! were wrong with them. So every balance mode keeps what it promises, and a new instance gets its part of what it would
//! get. For `hash` the number is the client's: its clients come to a new instance one by one, and none goes back.
//!
//! Not here: when an instance is ejected (see `outlier`), the choice among those that take part (see `balance`).

use std::sync::Arc;
use std::time::Instant;

use fairway_config::labels::Balance;
use fastrand::Rng;

use super::{client, stable_hash};
use crate::endpoint::Endpoint;
use crate::outlier::{part_after, stamp};
use crate::request::RequestView;
use crate::table::Version;

/// Ejection is ignored while fewer than one of this many instances are left: too few would take the load of all.
const PANIC: usize = 3;
/// Of the instances of our zone this many times as many as there are in service are taken to carry its whole load: requests
/// stay as long as 1 / 1.4 = 71 % of them serve, below that in proportion (Envoy's overprovisioning factor).
const OVERPROVISIONED: f64 = 1.4;
/// Requests in flight at each instance of our zone, for its weight, that never send one elsewhere.
const EASY: f64 = 16.0;
/// Beyond that they stay while there are at most this many times as many as at instances elsewhere.
const BUSIER: f64 = 2.0;

/// The circumstances of one choice.
pub(crate) struct Care<'a> {
    now: Instant,
    at: u64,
    luck: Luck,
    /// How many are not ejected.
    left: usize,
    /// Those are too few.
    panics: bool,
    /// Instances of other zones stand back.
    stays_here: bool,
    among: &'a [Arc<Endpoint>],
}

/// The number that each instance's part is compared with, from 0 to below 1.
enum Luck {
    Drawn(f32),
    OfClient(u64),
}

impl<'a> Care<'a> {
    pub(super) fn new(
        version: &Version,
        among: &'a [Arc<Endpoint>],
        request: &RequestView<'_>,
        rng: &mut Rng,
        now: Instant,
    ) -> Self {
        let client = match version.balance() {
            Balance::Hash(key) => client::hash(key, request),
            _ => None,
        };
        let luck = client.map_or_else(|| Luck::Drawn(rng.f32()), Luck::OfClient);
        let zone_luck = match client {
            Some(client) => stable_hash::unit(client),
            None => rng.f64(),
        };
        Self::with(version, among, luck, zone_luck, now)
    }

    /// The circumstances of a choice that has all luck: whom a request could go to.
    pub(crate) fn of_the_lucky(version: &Version, among: &'a [Arc<Endpoint>], now: Instant) -> Self {
        Self::with(version, among, Luck::Drawn(0.0), 0.0, now)
    }

    fn with(version: &Version, among: &'a [Arc<Endpoint>], luck: Luck, zone_luck: f64, now: Instant) -> Self {
        let at = stamp(now);
        let left = among.iter().filter(|endpoint| !endpoint.state.standing.is_ejected(at)).count();
        let panics = left * PANIC < version.wanted && left < among.len();
        let mut care = Self { now, at, luck, left, panics, stays_here: false, among };
        care.stays_here = version.zoned && care.stays_here(version, zone_luck);
        care
    }

    /// Whether the instance takes part in this choice.
    pub(super) fn counts(&self, endpoint: &Endpoint) -> bool {
        self.is_sound(endpoint) && self.is_lucky(endpoint)
    }

    /// The same, in our zone where that is preferred.
    pub(super) fn is_preferred(&self, endpoint: &Endpoint) -> bool {
        (endpoint.is_local || !self.stays_here) && self.counts(endpoint)
    }

    /// Whether nothing is wrong with the instance, new or not.
    pub(crate) fn is_sound(&self, endpoint: &Endpoint) -> bool {
        let standing = &endpoint.state.standing;
        (self.panics || !standing.is_ejected(self.at)) && !standing.is_silent(self.at)
    }

    /// Whether nothing is sent to this instance because it is ejected or does not listen, and others are there.
    pub(super) fn is_out(&self, endpoint: &Endpoint) -> bool {
        !self.is_sound(endpoint) && self.among.iter().any(|other| self.is_sound(other))
    }

    /// Why a request does not go to this instance now though its version serves, in words; `None` if it may.
    pub(crate) fn objection(&self, endpoint: &Endpoint) -> Option<String> {
        let standing = &endpoint.state.standing;
        let others = self.among.iter().any(|other| self.is_sound(other) && !other.state.is_full());
        if standing.is_silent(self.at) {
            return others.then(|| "it does not listen yet: it has just started".to_owned());
        }
        if !self.is_sound(endpoint) {
            let told = standing.ejection(self.now)?;
            return others.then(|| told.reason.to_string());
        }
        let here = self.stays_here && !endpoint.is_local;
        let zone = &endpoint.instance.unit.zone;
        here.then(|| {
            format!("it is in zone {zone:?}: requests stay in ours while its instances can take them")
        })
    }

    /// What else is to be said of an instance that may serve, behind other words.
    pub(crate) fn note(&self, endpoint: &Endpoint) -> String {
        let part = part(endpoint, self.now, self.at);
        match endpoint.state.standing.ejection(self.now) {
            Some(_) if self.left > 0 => {
                format!("; ejected, but fewer than 1 of {PANIC} instances would be left")
            }
            Some(_) => "; ejected, but no other instance can serve".to_owned(),
            None if part < 1.0 => format!("; new: it gets {:.0} % of its part of the requests", part * 100.0),
            None => String::new(),
        }
    }

    fn is_lucky(&self, endpoint: &Endpoint) -> bool {
        let part = part(endpoint, self.now, self.at);
        part >= 1.0
            || match self.luck {
                Luck::Drawn(number) => number < part,
                Luck::OfClient(client) => {
                    // Another number than the one by which the client chooses among instances.
                    stable_hash::unit(stable_hash::both(endpoint.hash, client)) < f64::from(part)
                }
            }
    }

    fn stays_here(&self, version: &Version, luck: f64) -> bool {
        let sound =
            |local: bool| self.among.iter().filter(move |e| e.is_local == local).filter(|e| self.is_sound(e));
        let healthy = OVERPROVISIONED * sound(true).count() as f64 / version.wanted_here.max(1) as f64;
        if healthy < 1.0 && luck >= healthy {
            return false;
        }
        let load = |local| {
            let (in_flight, weight) = sound(local).fold((0.0, 0.0), |(in_flight, weight), e| {
                (in_flight + f64::from(e.state.in_flight()), weight + f64::from(e.weight))
            });
            if weight > 0.0 { in_flight / weight } else { f64::INFINITY }
        };
        let here = load(true);
        here < EASY || here < BUSIER * load(false)
    }
}

/// The part of its requests that an instance gets now, because it is new or newly back.
fn part(endpoint: &Endpoint, now: Instant, at: u64) -> f32 {
    let as_new =
        if endpoint.is_new { part_after(now.saturating_duration_since(endpoint.ready_at)) } else { 1.0 };
    as_new.min(endpoint.state.standing.part(at))
}
