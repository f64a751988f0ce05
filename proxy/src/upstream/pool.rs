//! Open connections to instances that wait for their next request: one pool per worker.
//!
//! Kept by the life of an instance ([`EndpointState::uid`]), never by address: a service that gets an address later cannot
//! get a connection that was meant for its predecessor (design rule 5). The last one put in is taken first, so that the
//! others grow old and go.

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
pub(crate) const FRESH: Duration = Duration::from_secs(2);

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
    pub(crate) fn take(&self, state: &EndpointState, youngest: Option<Duration>) -> Option<Duplex<S>> {
        let mut pool = self.0.borrow_mut();
        if state.is_retired() {
            pool.remove(&state.uid);
            return None;
        }
        let idles = pool.get_mut(&state.uid)?;
        let now = turn::now();
        while let Some(last) = idles.idle.last() {
            if youngest.is_some_and(|age| now.duration_since(last.since) > age) {
                return None;
            }
            let last = idles.idle.pop()?;
            if now < last.until && last.io.is_quiet() {
                return Some(last.io);
            }
        }
        None
    }

    /// Keeps a connection for later, at most for this long. The instance's life may have ended meanwhile: then it is closed.
    pub(crate) fn put(&self, state: &Arc<EndpointState>, io: Duplex<S>, keep: Duration) {
        if state.is_retired() || keep.is_zero() {
            return;
        }
        let mut pool = self.0.borrow_mut();
        let idles = pool.entry(state.uid).or_insert_with(|| Idles { state: state.clone(), idle: Vec::new() });
        if idles.idle.len() < IDLE_MAX {
            let since = turn::now();
            idles.idle.push(Idle { io, since, until: since + keep });
        }
    }

    /// Closes what is too old, was closed by the instance, or belongs to an instance that no route has any more.
    pub(crate) fn sweep(&self) {
        let now = turn::now();
        self.0.borrow_mut().retain(|_, idles| {
            idles.idle.retain(|idle| now < idle.until && idle.io.is_quiet());
            !idles.state.is_retired() && !idles.idle.is_empty()
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
