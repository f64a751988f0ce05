//! HTTP/2 connections to instances, shared by the requests of a worker, or of one client (see `kept`).
//!
//! Kept by the life of an instance, never by address, as idle connections of HTTP/1.1 are (see `pool`). The first one with
//! room takes the next request, so that further ones, opened when there was none, grow idle and go. Requests that wait for
//! the same new connection wait for one, rather than for one each.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use super::channel::{Channel, Fault, Place, STREAMS_MAX, greet};
use super::kept::Kept;
use super::{ConnectError, connect};
use crate::endpoint::{Endpoint, EndpointState};
use crate::metrics::BackendSeries;
use crate::reason::Reason;
use crate::turn::{self, by_turns};
use crate::worker::Worker;

/// HTTP/2 connections.
#[derive(Debug, Default)]
pub(crate) struct Channels(RefCell<HashMap<u64, Shared>>);

/// Those to one life of an instance.
#[derive(Debug)]
struct Shared {
    state: Arc<EndpointState>,
    /// How long an idle one is kept.
    keep: Duration,
    /// How many streams a new connection begins with.
    first_streams: usize,
    open: Vec<Rc<Channel>>,
    opening: Option<Rc<Opening>>,
}

/// A connection, or why there is none.
type Opened = Result<Rc<Channel>, Rc<ConnectError>>;

/// A connection that is being opened.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    done: Notify,
    outcome: OnceCell<Opened>,
}

impl Opening {
    /// Waits for it; fails when there is no connection.
    pub(crate) async fn done(&self) -> Opened {
        loop {
            let told = self.done.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            told.await;
        }
    }

    fn tell(&self, outcome: Opened) {
        // It is told once, by the task that opens the connection.
        let _ = self.outcome.set(outcome);
        self.done.notify_waiters();
    }
}

impl Channels {
    /// A place on a connection that is open.
    pub(crate) fn take(&self, state: &EndpointState) -> Option<Place> {
        let all = self.0.borrow();
        let shared = all.get(&state.uid)?;
        shared.open.iter().find(|channel| channel.has_room()).map(Channel::take)
    }

    /// The connection that is being opened to this instance; begins with it if there is none. It starts with `header`.
    pub(crate) fn open(
        kept: &Rc<Kept>,
        worker: &Rc<Worker>,
        endpoint: &Arc<Endpoint>,
        series: &Arc<BackendSeries>,
        header: impl FnOnce() -> Box<[u8]>,
    ) -> Rc<Opening> {
        let mut all = kept.channels.0.borrow_mut();
        let shared = all.entry(endpoint.state.uid).or_insert_with(|| Shared {
            state: endpoint.state.clone(),
            keep: endpoint.settings.idle_timeout,
            first_streams: STREAMS_MAX,
            open: Vec::new(),
            opening: None,
        });
        let begin = || {
            let opening = Rc::<Opening>::default();
            let at = (kept.clone(), worker.clone(), endpoint.clone(), series.clone());
            let task = serve(at, header(), opening.clone());
            spawn_local(by_turns(task, ()));
            opening
        };
        shared.opening.get_or_insert_with(begin).clone()
    }

    /// What became of a connection that was being opened.
    fn opened(&self, state: &EndpointState, channel: Option<&Rc<Channel>>) {
        if let Some(shared) = self.0.borrow_mut().get_mut(&state.uid) {
            shared.opening = None;
            if let Some(channel) = channel {
                channel.begin_with(shared.first_streams);
                shared.open.push(channel.clone());
            }
        }
    }

    /// The instance said on a connection that carried requests already how many streams it allows there: it will on the next
    /// ones, too.
    pub(crate) fn told_late(&self, state: &EndpointState, streams: usize) {
        if let Some(shared) = self.0.borrow_mut().get_mut(&state.uid) {
            shared.first_streams = streams.clamp(1, STREAMS_MAX);
        }
    }

    fn ended(&self, state: &EndpointState, channel: &Rc<Channel>) {
        if let Some(shared) = self.0.borrow_mut().get_mut(&state.uid) {
            shared.open.retain(|open| !Rc::ptr_eq(open, channel));
        }
    }

    /// Closes what is idle for too long, has no more use or belongs to an instance that no route has any more; streams that
    /// are open go on. Looks after those that say nothing.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.0.borrow_mut().retain(|_, shared| {
            shared.open.iter().for_each(|channel| channel.look(now));
            let keep = if shared.state.is_stopping() { Duration::ZERO } else { shared.keep };
            shared.open.retain(|channel| !channel.is_over(keep));
            // The connections of a retired one close when their last stream ends.
            shared.opening.is_some() || !(shared.open.is_empty() || shared.state.is_retired())
        });
    }

    /// Ends all of them.
    pub(crate) fn clear(&self) {
        for shared in self.0.borrow_mut().drain().map(|(_, shared)| shared) {
            shared.open.iter().for_each(|channel| channel.end());
        }
    }
}

/// Tells that a connection ended by what the instance did: its requests tell how that was for them, and there may be none.
fn blame(endpoint: &Endpoint, fault: &Fault) {
    let (instance, address) = (endpoint.key.id.as_str(), endpoint.address);
    match fault {
        Fault::Flood(flood) => {
            tracing::warn!(%instance, %address, flood, "an HTTP/2 connection to an instance was ended: it floods");
        }
        Fault::Invalid(error) => {
            tracing::warn!(%instance, %address, %error, "an HTTP/2 connection to an instance was ended: it breaks the rules");
        }
    }
    let detail = "the instance floods an HTTP/2 connection, or breaks its rules";
    endpoint.state.keep_failure(Reason::UpstreamInvalid, detail);
}

/// Opens a connection, tells those who wait for it, and serves it to its end.
async fn serve(
    (kept, worker, endpoint, series): (Rc<Kept>, Rc<Worker>, Arc<Endpoint>, Arc<BackendSeries>),
    header: Box<[u8]>,
    opening: Rc<Opening>,
) {
    let start = turn::now();
    let limit = start + endpoint.settings.connect_timeout;
    let opened = async {
        let link = connect(&endpoint, &worker, &header).await?;
        let greeted = timeout_at(limit, greet(link, worker.clone())).await;
        greeted.map_err(|_| ConnectError::Silent)?
    };
    match opened.await {
        Ok((channel, driving)) => {
            kept.channels.opened(&endpoint.state, Some(&channel));
            worker.metrics.connected(&series, turn::now().duration_since(start));
            opening.tell(Ok(channel.clone()));
            let weak = Rc::downgrade(&channel);
            drop((channel, opening));
            if let Some(fault) = driving.await {
                blame(&endpoint, &fault);
            }
            if let Some(channel) = weak.upgrade() {
                channel.end();
                kept.channels.ended(&endpoint.state, &channel);
            }
        }
        Err(error) => {
            kept.channels.opened(&endpoint.state, None);
            opening.tell(Err(Rc::new(error)));
        }
    }
}
