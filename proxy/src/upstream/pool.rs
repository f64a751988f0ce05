//! Open connections to instances that wait for their next request: one pool per worker.
//!
//! Kept by the life of an instance ([`EndpointState::uid`]), never by address: a service that gets an address later cannot
//! get a connection that was meant for its predecessor (design rule 5). The last one put in is taken first, so that the
//! others grow old and go. Those of an instance that was told to stop are closed: many servers end only when their clients have
//! closed their connections, and until then are in the way of their successors.

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

/// How long connections to an instance that was told to stop carry requests, when it is the last one and still accepts them:
/// then a new one shows whether it does. With one for each request a busy proxy would run out of ports before a container
/// that ignores its stop signal is killed.
const RENEWED: Duration = Duration::from_millis(100);

/// What a request asks of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Any that is open: the request may be sent again if it was not, after all.
    Open,
    /// One that is certainly open at this moment and was used a moment ago.
    Fresh,
    /// None of the pool: its body is kept in its beginning alone, and only a new connection shows by a reset that it was lost.
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
    /// When they were closed last because it was told to stop.
    renewed: Option<Instant>,
}

#[derive(Debug)]
struct Idle<S> {
    io: Duplex<S>,
    since: Instant,
    until: Instant,
}

impl<S> Idles<S> {
    /// Closes all if it is time that a new connection shows whether the instance still accepts any.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.renewed.is_none_or(|last| now.duration_since(last) >= RENEWED);
        if is_due {
            self.idle.clear();
            self.renewed = Some(now);
        }
        is_due
    }
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
        if state.is_retired() || state.is_deaf() {
            pool.remove(&state.uid);
            return None;
        }
        let idles = pool.get_mut(&state.uid)?;
        if state.is_stopping() && idles.is_due(turn::now()) {
            return None;
        }
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

    /// Keeps a connection for later, at most for this long. The instance may be gone meanwhile, take none any more, or have
    /// others wait for it: then it is closed.
    pub(crate) fn put(&self, state: &Arc<EndpointState>, io: Duplex<S>, keep: Duration) {
        if state.is_retired() || state.is_deaf() || keep.is_zero() || state.takes_room() {
            return;
        }
        let mut pool = self.0.borrow_mut();
        let idles = pool.entry(state.uid).or_insert_with(|| Idles {
            state: state.clone(),
            idle: Vec::new(),
            renewed: None,
        });
        if idles.idle.len() < IDLE_MAX {
            let since = turn::now();
            idles.idle.push(Idle { io, since, until: since + keep });
        }
    }

    /// Closes what is too old, was closed by the instance, or belongs to an instance that was told to stop or that no route
    /// has any more; and one for somebody whom the instance lets wait.
    pub(crate) fn sweep(&self) {
        let now = turn::now();
        self.0.borrow_mut().retain(|_, idles| {
            idles.idle.retain(|idle| now < idle.until && idle.io.is_quiet());
            if !idles.idle.is_empty() && idles.state.takes_room() {
                idles.idle.remove(0);
            }
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
    use std::rc::Rc;

    use fairway_catalog::{InstanceId, InstanceKey};
    use jiff::Timestamp;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::endpoint::{EndpointStates, Told};
    use crate::metrics::Metrics;
    use crate::outlier::Peers;
    use crate::upstream::newcomers::Newcomers;

    /// The same life of an instance, as it is told to be now.
    fn state(states: &EndpointStates, stops: bool) -> Arc<EndpointState> {
        let id = InstanceId::from_printed("shop@v1/192.0.2.1:80");
        let key = InstanceKey { id, started: Timestamp::UNIX_EPOCH, address: ([192, 0, 2, 1], 80).into() };
        let peers = Peers::new(states.book.clone(), Metrics::new(1).backend(&"shop@v1".into()));
        states.of(&key, Told { stops, ..Told::default() }, &peers)
    }

    /// What a test keeps of a connection: its other end.
    async fn kept(pool: &Pool<TcpStream>, state: &Arc<EndpointState>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        pool.put(state, Duplex::new(near), Duration::from_secs(60));
        listener.accept().await.expect("it connected").0
    }

    async fn ends(far: &TcpStream) {
        far.readable().await.expect("it ends");
        assert_eq!(far.try_read(&mut [0]).expect("it ends"), 0);
    }

    #[tokio::test]
    async fn idle_connections_to_an_instance_that_was_told_to_stop_are_closed() {
        let (states, pool) = (EndpointStates::default(), Pool::default());
        let before = kept(&pool, &state(&states, false)).await;
        pool.sweep();
        let state = state(&states, true);
        let after = kept(&pool, &state).await;
        pool.sweep();
        ends(&before).await;
        ends(&after).await;
        assert!(pool.take(&state, Wanted::Open).is_none());
    }

    #[tokio::test]
    async fn one_that_is_idle_or_done_with_is_closed_for_a_request_that_waits_for_long() {
        let (states, pool) = (EndpointStates::default(), Pool::default());
        let state = state(&states, false);
        let newcomers: Rc<Newcomers> = Rc::default();
        let now = Instant::now();
        let waiting = newcomers.enter(&state);
        let (first, _second) = (kept(&pool, &state).await, kept(&pool, &state).await);
        newcomers.ask_for_room(now);
        pool.sweep();
        assert_eq!(pool.0.borrow()[&state.uid].idle.len(), 2, "it has hardly begun to wait");
        let later = now + Duration::from_secs(60);
        newcomers.ask_for_room(later);
        pool.sweep();
        ends(&first).await;
        pool.sweep();
        assert_eq!(pool.0.borrow()[&state.uid].idle.len(), 1, "one each time");
        newcomers.ask_for_room(later);
        ends(&kept(&pool, &state).await).await;
        let third = kept(&pool, &state).await;
        drop(waiting);
        newcomers.ask_for_room(later);
        pool.sweep();
        assert_eq!(pool.0.borrow()[&state.uid].idle.len(), 2, "nobody waits");
        drop(third);
    }

    #[tokio::test]
    async fn while_it_is_the_last_one_a_new_connection_shows_now_and_then_whether_it_accepts_any() {
        let (states, pool) = (EndpointStates::default(), Pool::default());
        let state = state(&states, true);
        let first = kept(&pool, &state).await;
        assert!(pool.take(&state, Wanted::Open).is_none(), "the first request asks");
        ends(&first).await;
        let second = kept(&pool, &state).await;
        {
            let mut all = pool.0.borrow_mut();
            let idles = all.get_mut(&state.uid).expect("one is kept");
            let asked = idles.renewed.expect("the first has asked");
            assert!(!idles.is_due(asked + RENEWED / 2) && idles.idle.len() == 1, "the next ones need not");
            assert!(
                idles.is_due(asked + RENEWED) && !idles.is_due(asked + RENEWED),
                "after a while one asks anew"
            );
        }
        ends(&second).await;
    }

    #[tokio::test]
    async fn once_it_has_refused_a_connection_none_is_kept_until_it_goes_on_after_all() {
        let (states, pool) = (EndpointStates::default(), Pool::default());
        let stopping = state(&states, true);
        let first = kept(&pool, &stopping).await;
        stopping.refused();
        assert!(pool.take(&stopping, Wanted::Open).is_none());
        ends(&first).await;
        ends(&kept(&pool, &stopping).await).await;
        let active = state(&states, false);
        let _second = kept(&pool, &active).await;
        assert!(pool.take(&active, Wanted::Open).is_some());
    }
}
