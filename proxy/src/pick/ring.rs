//! Where each client belongs among the instances of a version (`fairway.balance: hash:...`), in a time that does not depend
//! on how many there are.
//!
//! Each instance has points on a ring, placed by its id and in number by its weight (Karger et al., STOC 1997). A client
//! asks at several places of the ring, and belongs to the nearest point that follows any of them (Appleton and O'Reilly,
//! "Multi-probe consistent hashing", 2015): so few points share as evenly as sixteen times as many would that are asked
//! once. An instance that cannot be had is passed over exactly as if it had no points. Therefore a ring has every instance
//! of its version, ready or not, and is made anew only when one comes or goes for good; and nodes that know of other
//! failures still agree about all other clients.
//!
//! Not here: who may be chosen, and how much is too much for one (see `balance`).

use std::sync::Arc;

use super::balance::common_factor;
use crate::endpoint::Endpoint;

/// Points of an instance of the least weight.
const POINTS: u64 = 64;
/// Places at which a client asks. With 64 points the shares of equal instances differ by 3.3 % (one standard deviation)
/// from the mean; see the tests.
const PROBES: u32 = 8;
/// Weights far apart take this many points at most, or [`MEAN_MAX`] an instance; beyond that they count less exactly.
const TOTAL_MAX: u64 = 65_536;
const MEAN_MAX: u64 = 256;
/// Points passed over before it is certain that looking at every instance once is cheaper.
const PASSED_MAX: u32 = 512;
/// Points to each cell of the index, on average; half of that after rounding.
const CELL: usize = 4;

/// The ring of a version, and where in its list of instances each of those on the ring is.
#[derive(Debug)]
pub(crate) struct Seats {
    ring: Arc<Ring>,
    /// By number on the ring.
    at: Box<[u32]>,
}

/// Most points that were passed over lead nowhere: somebody else has to look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooFew;

impl Seats {
    /// Of these instances; the ring of the table before is taken over if it has the same.
    pub(crate) fn new(endpoints: &[Arc<Endpoint>], old: Option<&Self>) -> Self {
        let mut by_hash: Vec<(Member, u32)> =
            endpoints.iter().map(|e| Member { hash: e.hash, weight: e.weight }).zip(0..).collect();
        by_hash.sort_unstable();
        let members = || by_hash.iter().map(|(member, _)| *member);
        let ring = match old {
            Some(old) if old.ring.members.iter().copied().eq(members()) => old.ring.clone(),
            _ => Arc::new(Ring::new(members().collect())),
        };
        Self { ring, at: by_hash.iter().map(|(_, at)| *at).collect() }
    }

    /// The place in the list of the instance to which this client belongs, of those that `may` have it.
    pub(crate) fn nearest(&self, client: u64, may: impl Fn(usize) -> bool) -> Result<Option<usize>, TooFew> {
        let place = |member: u32| self.at.get(member as usize).map_or(usize::MAX, |at| *at as usize);
        let member = self.ring.nearest(client, |member| may(place(member)))?;
        Ok(member.map(place))
    }

    /// Heap memory in octets.
    pub(crate) fn heap_bytes(&self) -> usize {
        let Ring { members, points, cells, .. } = &*self.ring;
        size_of::<Ring>()
            + size_of_val(&**members)
            + size_of_val(&**points)
            + size_of_val(&**cells)
            + size_of_val(&*self.at)
    }

    #[cfg(test)]
    pub(crate) fn shares_ring_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ring, &other.ring)
    }
}

/// An instance as the ring knows it: the same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    hash: u64,
    weight: u16,
}

#[derive(Debug)]
struct Ring {
    /// By hash.
    members: Box<[Member]>,
    /// In order: the place of each in the upper half, the number of its member in the lower.
    points: Box<[u64]>,
    /// Where the points of each equal part of the ring begin.
    cells: Box<[u32]>,
    /// A place less so many bits is its cell.
    shift: u32,
}

impl Ring {
    fn new(members: Box<[Member]>) -> Self {
        let mut points = Vec::new();
        for ((member, count), number) in members.iter().zip(points_each(&members)).zip(0u64..) {
            let places = (0..count).map(|n| place(member.hash, n));
            points.extend(places.map(|place| u64::from(place) << 32 | number));
        }
        points.sort_unstable();
        let bits = (points.len() / CELL).max(1).next_power_of_two().ilog2();
        let shift = 32 - bits;
        let first_of = |cell: u64| points.partition_point(|point| *point < cell << (shift + 32)) as u32;
        let cells = (0..1u64 << bits).map(first_of).collect();
        Self { members, points: points.into(), cells, shift }
    }

    /// The member nearest to one of the client's places.
    fn nearest(&self, client: u64, may: impl Fn(u32) -> bool) -> Result<Option<u32>, TooFew> {
        let mixed = mix(client);
        let (mut asked, step) = ((mixed >> 32) as u32, mixed as u32 | 1);
        let (mut best, mut passed): (Option<(u32, u32)>, u32) = (None, 0);
        for _ in 0..PROBES {
            for point in self.points_from(asked) {
                let (place, member) = ((point >> 32) as u32, point as u32);
                let distance = place.wrapping_sub(asked);
                if best.is_some_and(|(least, _)| least <= distance) {
                    break;
                }
                if may(member) {
                    best = Some((distance, member));
                    break;
                }
                passed += 1;
                if passed > PASSED_MAX {
                    return Err(TooFew);
                }
            }
            asked = asked.wrapping_add(step);
        }
        Ok(best.map(|(_, member)| member))
    }

    /// All points once, from this place on.
    fn points_from(&self, place: u32) -> impl Iterator<Item = u64> {
        let cell = (u64::from(place) >> self.shift) as usize;
        let mut first = self.cells.get(cell).map_or(0, |first| *first as usize);
        while self.points.get(first).is_some_and(|point| point >> 32 < u64::from(place)) {
            first += 1;
        }
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).copied()
    }
}

/// How many points each gets: by its weight, whatever the others weigh, as long as that makes not too many.
fn points_each(members: &[Member]) -> impl Iterator<Item = u64> {
    let weights = || members.iter().map(|member| u64::from(member.weight.max(1)));
    let most = TOTAL_MAX.max(MEAN_MAX * members.len() as u64);
    let total = POINTS * weights().sum::<u64>();
    let mut unit = weights().fold(0, common_factor).max(1);
    // Doubled rather than fitted: one instance more or less hardly ever changes the points of the others.
    while total / unit > most {
        unit *= 2;
    }
    weights().map(move |weight| (POINTS * weight / unit).max(1))
}

/// The place of an instance's n-th point.
fn place(hash: u64, n: u64) -> u32 {
    (mix(hash.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 32) as u32
}

/// Every bit of the number changes half of the bits (the end of SplitMix64, Steele et al. 2014): the points of one instance
/// lie as if drawn by lot.
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::pick::stable_hash;

    /// A ring of instances with these weights, each known by its number.
    fn ring(weights: &[u16]) -> Ring {
        ring_of(&weights.iter().copied().zip(0..).collect::<Vec<_>>())
    }

    fn ring_of(numbered: &[(u16, u64)]) -> Ring {
        let hash = |number: u64| stable_hash::of(&number.to_be_bytes());
        let member = |(weight, number): &(u16, u64)| Member { hash: hash(*number), weight: *weight };
        let mut members: Vec<Member> = numbered.iter().map(member).collect();
        members.sort_unstable();
        Ring::new(members.into())
    }

    fn client(number: u64) -> u64 {
        stable_hash::of(&number.to_le_bytes())
    }

    /// The hash of the instance that has the client.
    fn home(ring: &Ring, client: u64, may: impl Fn(u64) -> bool) -> Option<u64> {
        let hash = |member: u32| ring.members[member as usize].hash;
        let found = ring.nearest(client, |member| may(hash(member))).expect("many enough may have it");
        found.map(hash)
    }

    /// The part of so many clients that each instance has, over its part of the weights.
    fn shares(ring: &Ring, clients: u64) -> Vec<f64> {
        let mut counts = vec![0u64; ring.members.len()];
        for number in 0..clients {
            let at = ring.nearest(client(number), |_| true).expect("all may have it").expect("there is one");
            counts[at as usize] += 1;
        }
        let total: f64 = ring.members.iter().map(|member| f64::from(member.weight)).sum();
        let due = |member: &Member| clients as f64 * f64::from(member.weight) / total;
        counts.iter().zip(&ring.members).map(|(count, member)| *count as f64 / due(member)).collect()
    }

    #[test]
    fn equal_instances_have_equal_parts_of_the_clients_within_a_sixth() {
        // 3.3 % is one standard deviation, of 1,000 the last is at five; the counts add their noise. There is no chance in it.
        for (instances, clients) in
            [(2, 100_000), (3, 100_000), (10, 200_000), (100, 200_000), (1000, 500_000)]
        {
            let shares = shares(&ring(&vec![1; instances]), clients);
            let noise = (instances as f64 / clients as f64).sqrt();
            let spread =
                (shares.iter().map(|share| (share - 1.0).powi(2)).sum::<f64>() / instances as f64).sqrt();
            assert!(spread.powi(2) < 0.05f64.powi(2) + 1.5 * noise.powi(2), "{instances}: {spread}");
            for share in shares {
                assert!((share - 1.0).abs() < 1.0 / 6.0 + 4.0 * noise, "{instances}: {share} of its part");
            }
        }
    }

    #[test]
    fn weights_hold_within_a_sixth_and_those_that_are_far_apart_too() {
        for weights in [&[1, 2, 3][..], &[100, 200, 100], &[1, 1000], &[1, 999, 1000, 998], &[7, 11, 13, 17]]
        {
            for share in shares(&ring(weights), 400_000) {
                // The least has 1 of 3,000: 130 clients, 9 % of noise.
                assert!((share - 1.0).abs() < 0.45, "{weights:?}: {share} of its part");
            }
        }
        for weights in [&[1, 2, 3][..], &[100, 200, 100], &[7, 11, 13, 17]] {
            for share in shares(&ring(weights), 100_000) {
                assert!((share - 1.0).abs() < 1.0 / 6.0, "{weights:?}: {share} of its part");
            }
        }
    }

    #[test]
    fn weights_take_memory_for_their_ratios_and_never_more_than_what_is_said() {
        let points = |weights: &[u16]| ring(weights).points.len();
        assert_eq!(points(&[1000; 4]), 4 * 64);
        assert_eq!(points(&[100, 200]), 3 * 64);
        assert_eq!(points(&[1, 1000]), 64 * 1001);
        assert!(points(&[1, 1000, 999]) <= 65_536);
        let many: Vec<u16> = (1..=1000).collect();
        assert!(points(&many) <= 256 * 1000);
        let alike = ring(&[1; 1000]);
        let bytes = size_of_val(&*alike.points) + size_of_val(&*alike.cells) + size_of_val(&*alike.members);
        assert!(bytes < 700 * 1000, "{bytes} for 1,000 instances");
    }

    #[test]
    fn who_finds_hardly_anybody_is_told_so_after_few_looks() {
        let ring = ring(&[1; 1000]);
        let only = ring.members[500].hash;
        let looks = std::cell::Cell::new(0);
        let found = ring.nearest(client(1), |member| {
            looks.set(looks.get() + 1);
            ring.members[member as usize].hash == only && looks.get() > PASSED_MAX + 1
        });
        assert_eq!(found, Err(TooFew));
        assert_eq!(looks.get(), PASSED_MAX + 1);
        assert_eq!(ring_of(&[]).nearest(client(1), |_| true), Ok(None));
    }

    proptest! {
        #[test]
        fn when_one_goes_its_clients_alone_move_and_when_one_cannot_be_had_they_go_to_the_same_places(
            instances in 6usize..60, gone: prop::sample::Index, out in vec(any::<prop::sample::Index>(), 0..4), seed: u64,
        ) {
            let all: Vec<(u16, u64)> = (0..instances as u64).map(|n| (1, seed.wrapping_add(n))).collect();
            let gone = gone.index(instances);
            let left: Vec<_> = all.iter().enumerate().filter(|(n, _)| *n != gone).map(|(_, one)| *one).collect();
            let hash_of = |at: usize| stable_hash::of(&all[at].1.to_be_bytes());
            let out: Vec<u64> = out.iter().map(|index| hash_of(index.index(instances))).collect();
            let (before, after, gone) = (ring_of(&all), ring_of(&left), hash_of(gone));
            for number in 0..500 {
                let client = client(number);
                let may = |hash: u64| !out.contains(&hash);
                let home_before = home(&before, client, may);
                let passed_over = home(&before, client, |hash| hash != gone && may(hash));
                let home_after = home(&after, client, may);
                prop_assert_eq!(home_after, passed_over);
                if home_before != Some(gone) {
                    prop_assert_eq!(home_after, home_before);
                }
            }
        }

        #[test]
        fn a_weight_that_is_raised_wins_clients_and_no_other_client_moves(
            weights in vec(1u16..5, 2..8), raised: prop::sample::Index,
        ) {
            // One of 1 keeps the unit what it is.
            let mut weights: Vec<u16> = [1].into_iter().chain(weights).collect();
            let raised = raised.index(weights.len() - 1) + 1;
            let before = ring(&weights);
            weights[raised] += 1;
            let after = ring(&weights);
            let winner = stable_hash::of(&(raised as u64).to_be_bytes());
            for number in 0..500 {
                let (old, new) = (home(&before, client(number), |_| true), home(&after, client(number), |_| true));
                prop_assert!(new == old || new == Some(winner));
            }
        }
    }
}
