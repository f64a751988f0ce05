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
        if state.is_retired() {
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
