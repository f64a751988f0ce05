//! Who of a name's instances is in an answer, and with which weight.
//!
//! Not here: which names there are (see `index`), how an answer is written (see `lookup`).

use std::sync::Arc;

use fairway_catalog::{Backend, Condition, Instance, State};

/// What one backend puts into a name.
pub(super) struct Part<'a> {
    /// The backend.
    pub(super) backend: &'a Backend,
    /// Those of its instances that the name leads to.
    pub(super) instances: Vec<&'a Arc<Instance>>,
    /// Its weight in the split; `None` without one.
    pub(super) weight: Option<u32>,
    /// A 0 that a split says in writing: no new client, ever.
    pub(super) promised_zero: bool,
}

/// Keeps the instances that serve new clients. Only when there are none, those that are ejected; when there are none of them
/// either, those that still finish their work: a stopping or draining instance is never in an answer unless it is the last.
pub(super) fn keep_answering(parts: &mut [Part<'_>]) {
    let any = |serves: fn(&Instance) -> bool| {
        parts.iter().flat_map(|part| &part.instances).any(|instance| serves(instance))
    };
    let tiers: [fn(&Instance) -> bool; 2] = [serves, serves_as_last];
    let answers = tiers.into_iter().find(|tier| any(*tier)).unwrap_or(finishes);
    for part in parts {
        part.instances.retain(|instance| answers(instance));
    }
}

/// Leaves out who must not get new clients while the split says so: written zeros always, other zeros while there is a
/// positive weight with an instance (design rule 2).
pub(super) fn keep_weighted(parts: &mut Vec<Part<'_>>) {
    parts.retain(|part| !part.promised_zero && !part.instances.is_empty());
    if parts.iter().any(|part| part.weight.is_some_and(|weight| weight > 0)) {
        parts.retain(|part| part.weight.is_some_and(|weight| weight > 0));
    }
}

/// Each part's share of the answers, in whole numbers: the split's weights, or the number of instances.
pub(super) fn draws(parts: &[Part<'_>]) -> Vec<u32> {
    let by_split = parts.iter().any(|part| part.weight.is_some_and(|weight| weight > 0));
    let count = |part: &Part<'_>| u32::try_from(part.instances.len()).unwrap_or(u32::MAX);
    parts.iter().map(|part| if by_split { part.weight.unwrap_or(0) } else { count(part) }).collect()
}

/// Weights for SRV (RFC 2782), one for each instance of each part, in proportion to the split and within a part to the
/// instances' own weights. They are the split's own numbers where each part has one instance.
pub(super) fn srv_weights(parts: &[Part<'_>]) -> Vec<Vec<u16>> {
    let by_split = parts.iter().any(|part| part.weight.is_some_and(|weight| weight > 0));
    // (numerator, denominator) of each instance's weight.
    let exact = |part: &Part<'_>| -> Vec<(u64, u64)> {
        let own = |instance: &Arc<Instance>| u64::from(instance.unit.weight.get());
        let sum: u64 = part.instances.iter().map(|instance| own(instance)).sum();
        let fraction = |instance: &&Arc<Instance>| match (by_split, sum) {
            (false, _) => (own(instance), 1),
            (true, 0) => (u64::from(part.weight.unwrap_or(0)), part.instances.len() as u64),
            (true, sum) => (u64::from(part.weight.unwrap_or(0)) * own(instance), sum),
        };
        part.instances.iter().map(fraction).collect()
    };
    let exact: Vec<Vec<(u64, u64)>> = parts.iter().map(exact).collect();
    let whole = exact.iter().flatten().try_fold(1u64, |common, (n, d)| {
        let reduced = d / gcd(*n, *d).max(1);
        let common = common / gcd(common, reduced).max(1) * reduced;
        (common <= u64::from(u16::MAX)).then_some(common)
    });
    let largest = exact.iter().flatten().map(|(n, d)| n / d + 1).max().unwrap_or(1);
    let max = u64::from(u16::MAX);
    // Exact when the common denominator allows; else as near as 16 bits are, and never 0 for a positive share.
    let (times, per) = match whole.filter(|whole| whole * largest <= max) {
        Some(whole) => (whole, 1),
        None => (max, largest),
    };
    let weight = |(n, d): &(u64, u64)| {
        let scaled = n.saturating_mul(times) / d / per;
        u16::try_from(if *n > 0 { scaled.max(1) } else { 0 }).unwrap_or(u16::MAX)
    };
    exact.iter().map(|part| part.iter().map(weight).collect()).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whether it is active and ready.
pub(super) fn serves(instance: &Instance) -> bool {
    instance.serves_new() && instance.unit.ip.is_some()
}

/// Whether it would serve, were it not ejected.
fn serves_as_last(instance: &Instance) -> bool {
    instance.serves_as_last() && instance.unit.ip.is_some()
}

/// Whether it still finishes its work: draining by order, or stopping.
fn finishes(instance: &Instance) -> bool {
    let works = instance.condition.is_ready() || instance.condition == Condition::Stopping;
    works && instance.state != State::Disabled && instance.unit.ip.is_some()
}

/// Whether a drain is on.
pub(super) fn leaves(instance: &Instance) -> bool {
    instance.state == State::Draining || instance.condition == Condition::Stopping
}
