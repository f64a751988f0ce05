//! How many requests of a route are served in a time, in all and of one client: one account for all workers.
//!
//! `governor` reckons (GCRA): a limit is one number, the time at which what was taken is earned. Not here: what a rate says
//! (see `fairway_config::labels::features`), what is answered beyond it (see `downstream`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use fairway_config::labels::features::RateLimit;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::gate::group;
use crate::pick::stable_hash::{self, BuildStable};
use crate::turn;

/// Clients that are known at a time, of one route: so many of each shard, in all about 3 MiB. Beyond that the one that owes
/// least is forgotten.
const SHARD_MAX: usize = 1024;
const SHARDS: usize = 64;
/// A shard of fewer is not looked through for clients that owe nothing.
const FEW: usize = 64;

/// The limits of one route.
#[derive(Debug)]
pub(crate) struct Rates {
    of_all: Option<Arc<OfAll>>,
    of_each: Option<Arc<OfEach>>,
}

#[derive(Debug)]
struct OfAll {
    limit: RateLimit,
    limiter: RateLimiter<NotKeyed, InMemoryState, Turns, NoOpMiddleware<Nanos>>,
}

#[derive(Debug)]
struct OfEach {
    limit: RateLimit,
    limiter: RateLimiter<IpAddr, Accounts, Turns, NoOpMiddleware<Nanos>>,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// That of all clients together.
    Route,
    /// That of this client.
    Client,
}

/// A request too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// Whose limit.
    pub(crate) whose: Whose,
    /// When one more will be earned.
    pub(crate) wait: Duration,
}

impl Rates {
    /// Those that are asked for; `None` when there are none. What `before` counted is kept where the limit is the same.
    pub(crate) fn new(
        all: Option<RateLimit>,
        each: Option<RateLimit>,
        before: Option<&Self>,
    ) -> Option<Self> {
        if all.is_none() && each.is_none() {
            return None;
        }
        let of_all = all.map(|limit| {
            let same = before.and_then(|before| before.of_all.clone()).filter(|old| old.limit == limit);
            same.unwrap_or_else(|| {
                Arc::new(OfAll { limit, limiter: RateLimiter::direct_with_clock(quota(limit), Turns) })
            })
        });
        let of_each = each.map(|limit| {
            let same = before.and_then(|before| before.of_each.clone()).filter(|old| old.limit == limit);
            same.unwrap_or_else(|| {
                let accounts = Accounts::new(limit.interval());
                Arc::new(OfEach { limit, limiter: RateLimiter::new(quota(limit), accounts, Turns) })
            })
        });
        Some(Self { of_all, of_each })
    }

    /// Counts a request of this client, unless it is one too many. One that its client's limit refuses costs the others
    /// nothing.
    pub(crate) fn take(&self, client: IpAddr) -> Result<(), TooMany> {
        // Never longer than one takes to be earned: another worker's turn may have begun a little after ours.
        let wait = |at: Nanos, limit: RateLimit| {
            Duration::from(governor::clock::Reference::duration_since(&at, Turns.now())).min(limit.interval())
        };
        if let Some(each) = &self.of_each
            && let Err(until) = each.limiter.check_key(&group(client))
        {
            return Err(TooMany { whose: Whose::Client, wait: wait(until.earliest_possible(), each.limit) });
        }
        if let Some(all) = &self.of_all
            && let Err(until) = all.limiter.check()
        {
            return Err(TooMany { whose: Whose::Route, wait: wait(until.earliest_possible(), all.limit) });
        }
        Ok(())
    }
}

fn quota(limit: RateLimit) -> Quota {
    // A million in a second is the most there may be: no interval is 0.
    let interval = limit.interval().max(Duration::from_nanos(1));
    Quota::with_period(interval)
        .map_or_else(|| Quota::per_second(limit.count), |q| q.allow_burst(limit.burst))
}

/// The time of the present turn, since the process first asked.
#[derive(Debug, Clone, Copy)]
struct Turns;

impl Clock for Turns {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        static FIRST: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
        turn::now().into_std().saturating_duration_since(*FIRST).into()
    }
}

/// What each client has taken and not yet earned: the time when it will have. Bounded, whoever comes.
#[derive(Debug)]
struct Accounts {
    shards: Box<[Mutex<Shard>]>,
    /// What one request costs.
    interval: Nanos,
}

#[derive(Debug, Default)]
struct Shard {
    earned_at: HashMap<IpAddr, Nanos, BuildStable>,
    /// It is looked through for clients that owe nothing when it has this many.
    look_at: usize,
}

impl Accounts {
    fn new(interval: Duration) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, interval: interval.into() }
    }

    fn shard(&self, client: &IpAddr) -> &Mutex<Shard> {
        let hash = match client {
            IpAddr::V4(v4) => stable_hash::of(&v4.octets()),
            IpAddr::V6(v6) => stable_hash::of(&v6.octets()),
        };
        // The lower bits choose within the map.
        &self.shards[(hash >> 58) as usize % SHARDS]
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let len = |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).earned_at.len();
        self.shards.iter().map(len).sum()
    }
}

impl StateStore for Accounts {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, client: &IpAddr, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earned_at) = shard.earned_at.get_mut(client) {
            let (said, new) = measure(Some(*earned_at))?;
            *earned_at = new;
            return Ok(said);
        }
        let (said, new) = measure(None)?;
        // A new client owes one request: that tells the time.
        shard.make_room(new.saturating_sub(self.interval));
        shard.earned_at.insert(*client, new);
        Ok(said)
    }
}

impl Shard {
    /// Forgets who owes nothing, as often as the shard has doubled since; when it is full all the same, who owes least.
    fn make_room(&mut self, now: Nanos) {
        if self.earned_at.len() < self.look_at.max(FEW) {
            return;
        }
        self.earned_at.retain(|_, earned_at| *earned_at > now);
        self.look_at = (self.earned_at.len() * 2).clamp(FEW, SHARD_MAX);
        self.earned_at.shrink_to(self.look_at);
        if self.earned_at.len() >= SHARD_MAX
            && let Some(least) = self.earned_at.iter().min_by_key(|(_, at)| **at).map(|(client, _)| *client)
        {
            self.earned_at.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn rates(all: Option<&str>, each: Option<&str>, before: Option<&Rates>) -> Rates {
        let read = |text: Option<&str>| text.map(|text| RateLimit::parse(text).expect("a rate"));
        Rates::new(read(all), read(each), before).expect("there is one")
    }

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    fn taken(rates: &Rates, from: IpAddr, wanted: u32) -> u32 {
        (0..wanted).map(|_| u32::from(rates.take(from).is_ok())).sum()
    }

    #[test]
    fn a_burst_passes_and_the_rest_is_told_when_to_come_again() {
        let rates = rates(Some("1/h burst 5"), None, None);
        assert_eq!(taken(&rates, client(1), 20), 5);
        let refused = rates.take(client(2)).expect_err("whoever asks");
        assert_eq!(refused.whose, Whose::Route);
        assert!((3590..=3600).contains(&refused.wait.as_secs()), "{refused:?}");
    }

    #[test]
    fn each_client_has_an_account_and_a_network_of_ipv6_is_one() {
        let rates = rates(None, Some("1/h burst 3"), None);
        assert_eq!((taken(&rates, client(1), 5), taken(&rates, client(2), 5)), (3, 3));
        let v6 = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(taken(&rates, v6("2001:db8::1"), 2) + taken(&rates, v6("2001:db8::2"), 5), 3);
        assert_eq!(taken(&rates, v6("2001:db8:0:1::1"), 5), 3);
        assert_eq!(taken(&rates, v6("::ffff:0.0.0.1"), 5), 0, "the same IPv4 address");
        assert_eq!(rates.take(client(1)).expect_err("too many").whose, Whose::Client);
    }

    #[test]
    fn what_a_clients_limit_refuses_is_not_taken_from_the_others() {
        let rates = rates(Some("1/h burst 10"), Some("1/h burst 2"), None);
        assert_eq!(taken(&rates, client(1), 1000), 2);
        let others: u32 = (2..100).map(|n| taken(&rates, client(n), 1)).sum();
        assert_eq!(others, 8);
    }

    #[test]
    fn the_account_is_kept_as_long_as_the_limit_is_the_same() {
        let first = rates(Some("1/h burst 5"), Some("1/h burst 3"), None);
        assert_eq!(taken(&first, client(1), 5), 3);
        let same = rates(Some("1/h burst 5"), Some("1/h burst 3"), Some(&first));
        assert_eq!(taken(&same, client(1), 5) + taken(&same, client(2), 5), 2);
        let other = rates(Some("1/h burst 6"), Some("1/h burst 3"), Some(&same));
        assert_eq!(taken(&other, client(1), 5) + taken(&other, client(3), 5), 3);
    }

    #[test]
    fn a_flood_of_clients_has_a_bound_and_who_owes_most_is_remembered() {
        let rates = rates(None, Some("1/h burst 2"), None);
        assert_eq!(taken(&rates, client(0), 5), 2);
        for number in 1..100_000 {
            assert!(rates.take(client(number)).is_ok(), "{number}");
        }
        assert_eq!(taken(&rates, client(0), 5), 0, "it is known all the same");
    }

    #[test]
    fn who_owes_nothing_any_more_is_forgotten() {
        let accounts = Accounts::new(Duration::from_nanos(10));
        let come = |number: u32, now: u64| {
            let new = |_: Option<Nanos>| Ok::<_, ()>(((), Nanos::from(now + 10)));
            accounts.measure_and_replace(&client(number), new).expect("it is taken");
        };
        (0..500_000).for_each(|number| come(number, u64::from(number) * 100));
        assert!(accounts.len() <= 2 * SHARDS * FEW, "{}", accounts.len());
        let same_time = Accounts::new(Duration::from_nanos(10));
        for number in 0..200_000 {
            let new = |_: Option<Nanos>| Ok::<_, ()>(((), Nanos::from(1_000_000)));
            same_time.measure_and_replace(&client(number), new).expect("it is taken");
        }
        assert!(
            same_time.len() <= SHARDS * SHARD_MAX && same_time.len() > SHARDS * SHARD_MAX / 2,
            "{}",
            same_time.len()
        );
    }
}
