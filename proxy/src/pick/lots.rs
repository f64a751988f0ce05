//! Which versions of a route take part in the draw and with which weight (design rule 2): those with a weight above 0,
//! or all of them when there is no split; failing these, those whose 0 no split says in writing; failing these, stopping
//! ones. The catalog tells the same as each member's `share`.
//!
//! Not here: the instance within the version (see `balance`).

use std::sync::Arc;

use fairway_catalog::Condition;
use fastrand::Rng;

use super::stable_hash;
use crate::endpoint::Endpoint;
use crate::table::Version;

/// The first group of versions that has an instance to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Weight above 0, or no split.
    Weighted,
    /// Weight 0 that no split says in writing.
    StandIn,
    /// Instances whose stop signal was seen.
    Stopping,
}

impl Tier {
    /// The instances of the version that serve in this tier.
    pub(crate) fn endpoints(self, version: &Version) -> &[Arc<Endpoint>] {
        match self {
            Self::Weighted | Self::StandIn => version.serving(),
            Self::Stopping => version.stopping(),
        }
    }
}

/// The versions that take part, each with its share.
#[derive(Debug)]
pub(crate) struct Lots {
    tier: Tier,
    /// Number of the version in its route, and weight above 0.
    lots: Box<[(usize, u32)]>,
    total: u64,
}

impl Lots {
    /// Of the instances that are `usable`.
    pub(crate) fn new(versions: &[Arc<Version>], usable: impl Fn(&Endpoint) -> bool) -> Self {
        let number = |endpoints: &[Arc<Endpoint>], counts: &dyn Fn(&Endpoint) -> bool| {
            u32::try_from(endpoints.iter().filter(|endpoint| counts(endpoint)).count()).unwrap_or(u32::MAX)
        };
        // As the catalog has it. Ejected ones count where there are no others: they serve then.
        let count = |endpoints: &[Arc<Endpoint>]| {
            let ready = number(endpoints, &|e| e.instance.condition != Condition::Ejected && usable(e));
            if ready > 0 { ready } else { number(endpoints, &usable) }
        };
        // Without a split every instance has the same share: a version weighs as many as it has.
        let weighed = |version: &Version, instances: u32| match version.weight {
            None => instances,
            Some(weight) => weight.get() * instances.min(1),
        };
        let tier = |tier, weight: &dyn Fn(&Version) -> u32| Self::of(tier, versions, weight);

        let weighted = tier(Tier::Weighted, &|version| weighed(version, count(version.serving())));
        if !weighted.is_empty() {
            return weighted;
        }
        let unless_promised =
            |version: &Version, instances| if version.promised_zero { 0 } else { instances };
        let stand_in = tier(Tier::StandIn, &|version| unless_promised(version, count(version.serving())));
        if !stand_in.is_empty() {
            return stand_in;
        }
        tier(Tier::Stopping, &|version| unless_promised(version, count(version.stopping())))
    }

    fn of(tier: Tier, versions: &[Arc<Version>], weight: impl Fn(&Version) -> u32) -> Self {
        let lots: Box<[_]> = versions
            .iter()
            .map(|version| weight(version))
            .enumerate()
            .filter(|(_, weight)| *weight > 0)
            .collect();
        Self { tier, total: lots.iter().map(|(_, weight)| u64::from(*weight)).sum(), lots }
    }

    /// The same without these versions, unless they are all there is.
    pub(crate) fn without(self, avoided: impl Fn(usize) -> bool) -> Self {
        if self.tier != Tier::Weighted || self.lots.iter().all(|(version, _)| avoided(*version)) {
            return self;
        }
        let lots: Box<[_]> = self.lots.iter().copied().filter(|(version, _)| !avoided(*version)).collect();
        Self { tier: self.tier, total: lots.iter().map(|(_, weight)| u64::from(*weight)).sum(), lots }
    }

    /// Which instances of a drawn version serve.
    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }

    /// Whether no version takes part.
    pub(crate) fn is_empty(&self) -> bool {
        self.lots.is_empty()
    }

    /// The part of the requests that this version gets, 0 to 1.
    pub(crate) fn share(&self, version: usize) -> f64 {
        let weight = self.lots.iter().find(|(v, _)| *v == version).map_or(0, |(_, weight)| *weight);
        if self.total == 0 { 0.0 } else { f64::from(weight) / self.total as f64 }
    }

    /// A version at random, exactly by weight.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Option<usize> {
        match &*self.lots {
            [] => None,
            [(only, _)] => Some(*only),
            lots => {
                let mut left = rng.u64(0..self.total);
                let drawn = lots.iter().find(|(_, weight)| {
                    let weight = u64::from(*weight);
                    let hit = left < weight;
                    left = left.wrapping_sub(weight);
                    hit
                });
                drawn.map(|(version, _)| *version)
            }
        }
    }

    /// The version of this client: weighted rendezvous. Over all clients the shares are those of the weights; a version
    /// whose weight is raised gains clients and no other client moves.
    pub(crate) fn draw_for(&self, client: u64, versions: &[Arc<Version>]) -> Option<usize> {
        let score = |(version, weight): &(usize, u32)| {
            let name = versions.get(*version).map_or(0, |version| stable_hash::of(version.name.as_bytes()));
            -stable_hash::unit(stable_hash::both(client, name)).ln() / f64::from(*weight)
        };
        let best = self.lots.iter().min_by(|a, b| score(a).total_cmp(&score(b)));
        best.map(|(version, _)| *version)
    }

    /// Heap memory in octets.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.lots)
    }
}
