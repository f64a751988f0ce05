//! Open connections to instances that wait for their next request: one pool per worker.
//!
//! Kept by the life of an instance ([`EndpointState::uid`]), never by address: a service that gets an address later cannot
//! get a connection that was meant for its predecessor (design rule 5). The last one put in is taken first, so that the
//! others grow old and go. An instance that was told to stop has none: many servers end only when their clients have closed
//! their connections, and until then are in the way of their successors.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::EndpointState;
use crate::pick::stable_hash::BuildStable;
use crate::stream::{Duplex, Stream};
use crate::turn;

/// Most idle connections that a worker keeps to one instance.
const IDLE_MAX: usize = 256;

/// A request that must not be sent twice takes a connection only if it was used this recently: an instance may close an
/// older one at any moment, and nobody could tell whether the request was done.
const FRESH: Duration = Duration::from_secs(2);

/// What a request asks of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Any that is open: the request may be sent again if it was not, after all.
    Open,
    /// One that is certainly open at this moment and was used a moment ago.
    Fresh,
    /// None of the pool: its body is not kept, so that nothing could be done if an idle connection were closed meanwhile.
    /// The oldest one is closed, since the new one will be kept in its place.
    New,
}

/// One worker's idle connections.
#[derive(Debug)]
pub(crate) struct Pool<S>(RefCell<HashMap<u64, Idles<S>, BuildStable>>);

#[derive(Debug)]
struct Idles<S> {
    state: Arc<EndpointState>,
    idle: Vec<Idle<S>>,
}

#[derive(Debug)]
struct Idle<S> {
    io: Duplex<S>,
    since: Instant,
    until: Instant,
}

impl<S> Default for Pool<S> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<S: Stream> Pool<S> {
    /// The connection used last that is still open, not too old, and on which nothing has arrived.
    pub(crate) fn take(&self, state: &EndpointState, wanted: Wanted) -> Option<Duplex<S>> {
        let mut pool = self.0.borrow_mut();
        if state.is_retired() || state.is_stopping() {
            pool.remove(&state.uid);
            return None;
        }
        let idles = pool.get_mut(&state.uid)?;
        if wanted == Wanted::New {
            let oldest = (!idles.idle.is_empty()).then(|| idles.idle.remove(0));
            drop(oldest);
            return None;
        }
        let now = turn::now();
        while let Some(last) = idles.idle.last() {
            if wanted == Wanted::Fresh && now.duration_since(last.since) > FRESH {
                return None;
            }
            let last = idles.idle.pop()?;
            let is_open = match wanted {
                Wanted::Open => last.io.is_quiet(),
                Wanted::Fresh | Wanted::New => last.io.is_quiet_now(),
            };
            if now < last.until && is_open {
                return Some(last.io);
            }
        }
        None
    }

    /// Keeps a connection for later, at most for this long. The instance may be gone or told to stop meanwhile: then it is closed.
    pub(crate) fn put(&self, state: &Arc<EndpointState>, io: Duplex<S>, keep: Duration) {
        if state.is_retired() || state.is_stopping() || keep.is_zero() {
            return;
        }
        let mut pool = self.0.borrow_mut();
        let idles = pool.entry(state.uid).or_insert_with(|| Idles { state: state.clone(), idle: Vec::new() });
        if idles.idle.len() < IDLE_MAX {
            let since = turn::now();
            idles.idle.push(Idle { io, since, until: since + keep });
        }
    }

    /// Closes what is too old, was closed by the instance, or belongs to an instance that was told to stop or that no route
    /// has any more.
    pub(crate) fn sweep(&self) {
        let now = turn::now();
        self.0.borrow_mut().retain(|_, idles| {
            idles.idle.retain(|idle| now < idle.until && idle.io.is_quiet());
            !(idles.state.is_retired() || idles.state.is_stopping() || idles.idle.is_empty())
        });
    }

    /// Closes all of them; false when there were none.
    pub(crate) fn clear(&self) -> bool {
        let mut pool = self.0.borrow_mut();
        let had_some = pool.values().any(|idles| !idles.idle.is_empty());
        pool.clear();
        had_some
    }
}

#[cfg(test)]
mod tests {
    use fairway_catalog::{InstanceId, InstanceKey};
    use jiff::Timestamp;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::endpoint::{EndpointStates, Told};
    use crate::metrics::Metrics;
    use crate::outlier::Peers;

    /// The same life of an instance, as it is told to be now.
    fn state(states: &EndpointStates, stops: bool) -> Arc<EndpointState> {
        let id = InstanceId::from_printed("shop@v1/192.0.2.1:80");
        let key = InstanceKey { id, started: Timestamp::UNIX_EPOCH, address: ([192, 0, 2, 1], 80).into() };
        let peers = Peers::new(states.book.clone(), Metrics::new(1).backend(&"shop@v1".into()));
        states.of(&key, Told { stops, ..Told::default() }, &peers)
    }

    #[tokio::test]
    async fn an_instance_that_was_told_to_stop_keeps_no_connection_and_gets_none_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let connection = async || {
            let near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
            (Duplex::new(near), listener.accept().await.expect("it connected").0)
        };
        let (states, pool) = (EndpointStates::default(), Pool::default());
        let keep = Duration::from_secs(60);
        let [(first, far), (second, other_far)] = [connection().await, connection().await];
        pool.put(&state(&states, false), first, keep);
        pool.sweep();
        let state = state(&states, true);
        pool.put(&state, second, keep);
        pool.sweep();
        for far in [far, other_far] {
            far.readable().await.expect("it ends");
            assert_eq!(far.try_read(&mut [0]).expect("it ends"), 0);
        }
        assert!(pool.take(&state, Wanted::Open).is_none());
    }
}
