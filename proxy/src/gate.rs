//! How many connections a listener has, of all clients and of each: what is more is closed at once.
//!
//! Counted at one place for all workers, once per connection. Not here: how many the whole process has (see `accept`).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use fairway_config::file::Limits;

use crate::pick::stable_hash::BuildStable;

/// Refusals of one listener are told in the log this often at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// One listener's connections.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: AtomicUsize,
    clients: DashMap<IpAddr, usize, BuildStable>,
    told: Mutex<Option<Instant>>,
}

/// Why a connection is closed at once; the `reason` of `fairway_connections_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The listener has as many as it may.
    Listener,
    /// The client has.
    Client,
    /// The process has; for datagrams, as connections wait to be accepted.
    Process,
}

impl Full {
    /// The stable word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener-full",
            Self::Client => "client-full",
            Self::Process => "process-full",
        }
    }
}

impl Gate {
    /// Counts a connection with its listener.
    pub(crate) fn enter(self: &Arc<Self>, limits: &Limits) -> Result<Pass, Full> {
        let pass = Pass { gate: self.clone(), client: None };
        let before = self.open.fetch_add(1, Relaxed);
        // Taken first and given back if it was one too many, by dropping the pass.
        if limits.connections.is_some_and(|most| before >= most) { Err(Full::Listener) } else { Ok(pass) }
    }

    /// Whether a refusal is to be told now; `more` may have gone untold since the last one.
    pub(crate) fn tells(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = told.is_none_or(|last| now.duration_since(last) >= TELL_EVERY);
        if due {
            *told = Some(now);
        }
        due
    }
}

/// One connection, counted for as long as it lives.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    client: Option<IpAddr>,
}

impl Pass {
    /// Counts it with its client, too.
    pub(crate) fn of_client(&mut self, client: IpAddr, limits: &Limits) -> Result<(), Full> {
        let Some(most) = limits.connections_per_client else { return Ok(()) };
        let client = group(client);
        let mut open = self.gate.clients.entry(client).or_insert(0);
        if *open >= most {
            return Err(Full::Client);
        }
        *open += 1;
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Relaxed);
        if let Some(client) = self.client
            && let Entry::Occupied(mut open) = self.gate.clients.entry(client)
        {
            match open.get().checked_sub(1) {
                None | Some(0) => drop(open.remove()),
                Some(left) => *open.get_mut() = left,
            }
        }
    }
}

/// Whoever has one IPv6 address has the 2^64 beside it, too.
pub(crate) fn group(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: Option<usize>, per_client: Option<usize>) -> Limits {
        let mut limits = Limits::default();
        (limits.connections, limits.connections_per_client) = (connections, per_client);
        limits
    }

    #[test]
    fn no_more_than_the_limit_come_in_and_a_place_is_free_again_when_one_leaves() {
        let (gate, limits) = (Arc::new(Gate::default()), limits(Some(2), None));
        let first = gate.enter(&limits).expect("the first");
        let _second = gate.enter(&limits).expect("the second");
        assert_eq!(gate.enter(&limits).err(), Some(Full::Listener));
        assert_eq!(gate.enter(&limits).err(), Some(Full::Listener), "the refused one was not counted");
        drop(first);
        assert!(gate.enter(&limits).is_ok());
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        let (gate, limits) = (Arc::new(Gate::default()), limits(None, Some(1)));
        let enter = |client: &str| {
            let mut pass = gate.enter(&limits).expect("a place");
            pass.of_client(client.parse().expect("an address"), &limits).map(|()| pass)
        };
        let first = enter("192.0.2.1").expect("the first of its address");
        assert_eq!(enter("192.0.2.1").err(), Some(Full::Client));
        assert_eq!(enter("::ffff:192.0.2.1").err(), Some(Full::Client));
        assert!(enter("192.0.2.2").is_ok());
        let _network = enter("2001:db8::1").expect("the first of its network");
        assert_eq!(enter("2001:db8::ffff:0:0:1").err(), Some(Full::Client));
        assert!(enter("2001:db8:0:1::1").is_ok());
        drop(first);
        assert!(enter("192.0.2.1").is_ok());
        assert_eq!(gate.clients.len(), 1, "who has no connection is forgotten");
        assert_eq!(gate.open.load(Relaxed), 1);
    }

    #[test]
    fn refusals_are_told_once_in_a_while() {
        let gate = Gate::default();
        assert!(gate.tells() && !gate.tells());
    }
}
