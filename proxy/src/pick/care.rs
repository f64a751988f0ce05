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

/// Fewer than twice so many instances of a zone are all looked at, of more so many at least.
const LOOKED_AT: usize = 32;

/// The circumstances of one choice.
pub(crate) struct Care<'a> {
    now: Instant,
    at: u64,
    luck: Luck,
    /// Those that are not ejected are too few.
    panics: bool,
    /// Instances of other zones stand back.
    stays_here: bool,
    among: &'a [Arc<Endpoint>],
    /// Those of them of which some are preferred.
    near: &'a [Arc<Endpoint>],
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
        let mut care = Self { now, at, luck, panics: false, stays_here: false, among, near: among };
        care.panics = care.panics(version);
        if version.zoned {
            let (here, elsewhere) = Version::by_zone(among);
            care.stays_here = care.stays_here(version, (here, elsewhere), zone_luck);
            care.near = if care.stays_here { here } else { among };
        }
        care
    }

    /// The instances of which some are preferred: our zone's while requests stay there.
    pub(super) fn near(&self) -> &'a [Arc<Endpoint>] {
        self.near
    }

    /// Whether fewer than one of [`PANIC`] instances are left, and others are ejected. They are counted only where so many
    /// may be.
    fn panics(&self, version: &Version) -> bool {
        let too_few = |left: usize| left * PANIC < version.wanted && left < self.among.len();
        let out: usize = version.peers.iter().map(|peers| peers.out_at_most()).sum();
        too_few(self.among.len().saturating_sub(out)) && too_few(self.left())
    }

    /// How many are not ejected.
    fn left(&self) -> usize {
        self.among.iter().filter(|endpoint| !endpoint.state.standing.is_ejected(self.at)).count()
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
        let part = self.part(endpoint);
        match endpoint.state.standing.ejection(self.now) {
            Some(_) if self.left() > 0 => {
                format!("; ejected, but fewer than 1 of {PANIC} instances would be left")
            }
            Some(_) => "; ejected, but no other instance can serve".to_owned(),
            None if part < 1.0 => format!("; new: it gets {:.0} % of its part of the requests", part * 100.0),
            None => String::new(),
        }
    }

    /// The part of its requests that an instance gets now, because it is new or newly back. While too few are left, one that is
    /// ejected, or was a moment ago, gets all of it: with a tenth it would spare the others next to nothing.
    fn part(&self, endpoint: &Endpoint) -> f32 {
        let new_for = || self.now.saturating_duration_since(endpoint.ready_at);
        let as_new = if endpoint.is_new { part_after(new_for()) } else { 1.0 };
        if self.panics { as_new } else { as_new.min(endpoint.state.standing.part(self.at)) }
    }

    fn is_lucky(&self, endpoint: &Endpoint) -> bool {
        let part = self.part(endpoint);
        part >= 1.0
            || match self.luck {
                Luck::Drawn(number) => number < part,
                Luck::OfClient(client) => {
                    // Another number than the one by which the client chooses among instances.
                    stable_hash::unit(stable_hash::both(endpoint.hash, client)) < f64::from(part)
                }
            }
    }

    /// Whether requests stay in our zone: as long as enough of its instances serve, and have not much more to do than those
    /// elsewhere. Of many instances some are looked at.
    fn stays_here(
        &self,
        version: &Version,
        (here, elsewhere): (&[Arc<Endpoint>], &[Arc<Endpoint>]),
        luck: f64,
    ) -> bool {
        let here = Seen::of(here, luck, |endpoint| self.is_sound(endpoint));
        let healthy = OVERPROVISIONED * here.sound / version.wanted_here.max(1) as f64;
        if healthy < 1.0 && luck >= healthy {
            return false;
        }
        here.load < EASY
            || here.load < BUSIER * Seen::of(elsewhere, luck, |endpoint| self.is_sound(endpoint)).load
    }
}

/// What a look at the instances of our zone, or at the others, shows.
struct Seen {
    /// How many have nothing wrong with them.
    sound: f64,
    /// Requests in flight at each of those, for its weight.
    load: f64,
}

impl Seen {
    /// Of all of these if they are few, else of [`LOOKED_AT`] to twice as many evenly from the whole list.
    fn of(endpoints: &[Arc<Endpoint>], luck: f64, is_sound: impl Fn(&Endpoint) -> bool) -> Self {
        let stride = (endpoints.len() / LOOKED_AT).max(1);
        let first = (luck * stride as f64) as usize;
        let (mut seen, mut sound, mut in_flight, mut weight) = (0.0f64, 0.0, 0.0, 0.0);
        for endpoint in endpoints.iter().skip(first).step_by(stride) {
            seen += 1.0;
            if is_sound(endpoint) {
                sound += 1.0;
                in_flight += f64::from(endpoint.state.in_flight());
                weight += f64::from(endpoint.weight);
            }
        }
        Self {
            sound: sound * endpoints.len() as f64 / seen.max(1.0),
            load: if weight > 0.0 { in_flight / weight } else { f64::INFINITY },
        }
    }
}
