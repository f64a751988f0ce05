//! How many replies a stranger gets: a token bucket per network, so that a forged source address makes us no amplifier
//! and no relay of a flood.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// Replies per second and network.
const RATE: f64 = 20.0;
/// Replies at once.
const BURST: f64 = 40.0;
/// Networks remembered; beyond, nobody new gets a reply until some have rested.
const NETWORKS_MAX: usize = 10_000;

/// The buckets.
#[derive(Debug, Default)]
pub(crate) struct ReplyLimit {
    buckets: DashMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let rested = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + rested * RATE).min(BURST);
        self.at = now;
    }
}

impl ReplyLimit {
    /// Whether this source may get a reply now; if so, it is counted.
    pub(crate) fn allows(&self, source: IpAddr, now: Instant) -> bool {
        let network = network(source.to_canonical());
        if let Some(mut bucket) = self.buckets.get_mut(&network) {
            bucket.refill(now);
            let allowed = bucket.tokens >= 1.0;
            bucket.tokens -= if allowed { 1.0 } else { 0.0 };
            return allowed;
        }
        if self.buckets.len() >= NETWORKS_MAX {
            self.forget_rested(now);
        }
        if self.buckets.len() >= NETWORKS_MAX {
            return false;
        }
        self.buckets.insert(network, Bucket { tokens: BURST - 1.0, at: now });
        true
    }

    fn forget_rested(&self, now: Instant) {
        let full_after = Duration::from_secs_f64(BURST / RATE);
        self.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < full_after);
    }
}

/// The /24 of an IPv4 address, the /56 of an IPv6 one: what one owner commonly has.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !0 << (128 - 56)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_gets_its_burst_then_its_rate_whatever_others_do() {
        let limit = ReplyLimit::default();
        let start = Instant::now();
        let allowed = |at| (0..100).filter(|i| limit.allows(ip(&format!("192.0.2.{i}")), at)).count();
        assert_eq!(allowed(start), 40);
        assert!(limit.allows(ip("198.51.100.1"), start));
        assert_eq!(allowed(start + Duration::from_secs(1)), 20);
    }

    #[test]
    fn neighbours_in_one_ipv6_delegation_share_a_bucket() {
        assert_eq!(network(ip("2001:db8:1:2ff::1")), network(ip("2001:db8:1:200::2")));
        assert_ne!(network(ip("2001:db8:1:200::1")), network(ip("2001:db8:1:300::1")));
    }

    #[test]
    fn a_flood_of_networks_is_bounded_and_passes() {
        let limit = ReplyLimit::default();
        let start = Instant::now();
        for i in 0..NETWORKS_MAX + 10 {
            let [_, a, b, c] = (i as u32).to_be_bytes();
            limit.allows(IpAddr::from([a, b, c, 1]), start);
        }
        assert_eq!(limit.buckets.len(), NETWORKS_MAX);
        assert!(!limit.allows(ip("203.0.113.1"), start));
        assert!(limit.allows(ip("203.0.113.1"), start + Duration::from_secs(5)));
    }
}
