//! A hash that is the same in every process and on every node, so that all of them send a client to the same place.
//!
//! Also the hash of the routing table's maps: their keys come from labels, only the questions come from clients, so a
//! keyed hash is not needed there. Eight octets at a time by folded multiplication, as in wyhash and foldhash.

use std::hash::{BuildHasherDefault, Hasher};

const SEED: u64 = 0x243f_6a88_85a3_08d3;
const FOLD: u64 = 0x9e37_79b9_7f4a_7c15;
const LAST: u64 = 0xa409_3822_299f_31d0;

/// The hash of these octets.
pub(crate) fn of(bytes: &[u8]) -> u64 {
    let mut state = SEED;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        state = fold(state ^ word(chunk), FOLD);
    }
    state = fold(state ^ word(chunks.remainder()), FOLD);
    fold(state ^ bytes.len() as u64, LAST)
}

/// One hash of two.
pub(crate) fn both(a: u64, b: u64) -> u64 {
    fold(fold(a ^ SEED, FOLD) ^ b, LAST)
}

/// The hash as a number above 0 and below 1.
pub(crate) fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the product")]
    let (low, high) = (wide as u64, (wide >> 64) as u64);
    low ^ high
}

/// Up to eight octets as a number, the first the lowest.
fn word(bytes: &[u8]) -> u64 {
    match <[u8; 8]>::try_from(bytes) {
        Ok(eight) => u64::from_le_bytes(eight),
        Err(_) => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// For maps whose keys nobody outside can choose.
pub(crate) type BuildStable = BuildHasherDefault<StableHasher>;

/// [`of`] as a [`Hasher`].
#[derive(Debug, Default)]
pub(crate) struct StableHasher(u64);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = both(self.0, of(bytes));
    }
    /// The octet that ends a string tells nothing: its length is in the hash.
    fn write_u8(&mut self, octet: u8) {
        if octet != 0xff {
            self.write(&[octet]);
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_on_every_node_and_for_ever() {
        for (text, want) in
            [("", 0x6fd6_ce4a_3bda_4776), ("a", 0xcd21_79cc_1ece_f7fd), ("192.0.2.1", 0x1922_9e5b_9228_7979)]
        {
            assert_eq!(of(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn similar_clients_are_spread_evenly() {
        let mut cells = [0u32; 64];
        for n in 0..64_000u32 {
            let address = (0x0a00_0000 + n).to_be_bytes();
            cells[(unit(of(&address)) * 64.0) as usize] += 1;
        }
        // 63 degrees of freedom: 1e-6 of all good hashes exceed 130.
        let chi: f64 = cells.iter().map(|n| (f64::from(*n) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 130.0, "chi-square {chi}");
    }
}
