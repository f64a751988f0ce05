//! How a request waits: for an instance that is ready, for one that listens, for a place at full ones.
//!
//! Not here: what is waited for, and who is told when (see `hold`, `queue`), when a request waits at all (see `call`).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::call::{Call, NEWS, earlier};
use super::refused;
use crate::endpoint::EndpointState;
use crate::forward::client::Client;
use crate::h1::Refused;
use crate::hold::{HOLD, NotHeld, hold, until_listening};
use crate::pick::{Crowded, Pick, Tried};
use crate::queue::Told;
use crate::reason::Reason;
use crate::sides::{Downstream, Source};
use crate::table::RouteEntry;
use crate::turn;

impl<D: Downstream, B: Source> Call<'_, D, B> {
    /// Holds the request until the route has an instance that it has not been at (design rule 6).
    pub(super) async fn wait_for_instance(
        &mut self,
        entry: &Arc<RouteEntry>,
        tried: &Tried,
        last: Option<Refused>,
    ) -> Result<Arc<RouteEntry>, Refused> {
        let held_until = self.began + HOLD;
        let deadline = earlier(Some(held_until), self.limit_on(entry)).unwrap_or(held_until);
        let route = &entry.route.id;
        // An instance that fails though nobody says that it stops: perhaps the news is on its way.
        if let Some(last) = last {
            let soon = deadline.min(turn::now() + NEWS);
            match self.held(route, tried, soon).await? {
                Ok(entry) => return Ok(entry),
                Err(_) if self.has_serving(route) => return Err(last),
                Err(_) => {}
            }
        }
        match self.held(route, tried, deadline).await? {
            Ok(entry) => Ok(entry),
            Err(reason) => Err(refused(reason, "")),
        }
    }

    /// Waits until it is this request's turn to find out whether an instance listens that has just started, or there is
    /// news; as long as a request may be held.
    pub(super) async fn until_it_listens(
        &self,
        entry: &RouteEntry,
        state: &EndpointState,
        last: Option<Refused>,
    ) -> Result<Result<(), Refused>, Refused> {
        let held_until = self.began + HOLD;
        let deadline = earlier(Some(held_until), self.limit_on(entry)).unwrap_or(held_until);
        let mut waiting = pin!(until_listening(&self.visit.worker.handle, &entry.route.id, state, deadline));
        let waited = self.unless_client_leaves(|cx| waiting.as_mut().poll(cx)).await?;
        Ok(waited.map_err(|error| match (error, last) {
            (NotHeld::Expired, Some(last)) => last,
            (error, _) => refused(error.reason(), ""),
        }))
    }

    /// Waits until the deadline, unless the client leaves.
    pub(super) async fn held(
        &self,
        route: &fairway_config::names::RouteId,
        tried: &Tried,
        deadline: Instant,
    ) -> Result<Result<Arc<RouteEntry>, Reason>, Refused> {
        let mut holding = pin!(hold(&self.visit.worker.handle, route, tried, deadline));
        let held = self.unless_client_leaves(|cx| holding.as_mut().poll(cx)).await?;
        Ok(held.map_err(|error| error.reason()))
    }

    pub(super) async fn unless_client_leaves<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Refused> {
        let down = self.down;
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => down.poll_left(cx).map(|()| Err(refused(Reason::ClientLeft, ""))),
        })
        .await
    }

    /// Waits for a place at an instance of the route, all of which are full; `None`: the route has changed, choose again.
    pub(super) async fn wait_for_place(
        &mut self,
        entry: &mut Arc<RouteEntry>,
        crowded: Crowded,
        client: &Client,
        tried: &Tried,
    ) -> Result<Option<Pick>, Refused> {
        let (worker, down) = (&self.visit.worker, self.down);
        let limits = &worker.handle.queue_limits;
        let began = turn::now();
        // What it has waited before counts: a route that changes all the time must not hold it for ever.
        let waited = self.record.queued.unwrap_or_default();
        let longest = began + limits.longest().saturating_sub(waited);
        let until = earlier(Some(longest), self.limit_on(entry)).unwrap_or(longest);
        let refuse = |reason| Err(refused(reason, ""));
        if limits.most() == 0 {
            return refuse(Reason::InstancesFull);
        }
        let Ok(mut place) = entry.queue.enter(entry, crowded, tried, until, limits.most()) else {
            return refuse(Reason::QueueFull);
        };
        if self.renew(entry) {
            return Ok(None);
        }
        let view = self.head.view(client.address, client.internal, client.secure);
        let now = began.into_std();
        if let Some(pick) = entry.pick_crowded(crowded, &view, tried, &mut worker.rng.borrow_mut(), now) {
            return Ok(Some(pick));
        }
        let told = {
            let mut told = pin!(place.told());
            poll_fn(|cx| match told.as_mut().poll(cx) {
                Poll::Ready(told) => Poll::Ready(Ok(told)),
                Poll::Pending => down.poll_left(cx).map(|()| Err(refused(Reason::ClientLeft, ""))),
            })
            .await
        };
        let took = turn::now().duration_since(began);
        self.record.queued = Some(waited + took);
        entry.series.queued(took);
        match told? {
            None => refuse(Reason::InstancesFull),
            Some(Told::Look) => {
                self.renew(entry);
                Ok(None)
            }
            Some(Told::Place(in_flight)) => {
                self.renew(entry);
                Ok(entry.pick_at(in_flight, crowded.why, tried, turn::now().into_std()))
            }
        }
    }

    /// Takes the route's entry from the table of now; whether it is another.
    pub(super) fn renew(&self, entry: &mut Arc<RouteEntry>) -> bool {
        let mut reader = self.visit.worker.table.borrow_mut();
        let Some(newest) = reader.table().by_id(&entry.route.id) else { return false };
        let is_new = !Arc::ptr_eq(newest, entry);
        if is_new {
            *entry = newest.clone();
        }
        is_new
    }

    pub(super) fn has_serving(&self, route: &fairway_config::names::RouteId) -> bool {
        let mut reader = self.visit.worker.table.borrow_mut();
        reader.table().by_id(route).is_some_and(|entry| entry.has_serving())
    }

    /// Whether the present table still sends new clients to this instance.
    pub(super) fn still_serves(&self, entry: &RouteEntry, pick: &Pick) -> bool {
        let mut reader = self.visit.worker.table.borrow_mut();
        reader.table().by_id(&entry.route.id).is_some_and(|newest| newest.serves_new_at(pick))
    }
}
