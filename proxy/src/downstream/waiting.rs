//! How a request waits: for an instance that is ready, for one that listens, for a place at full ones.
//!
//! Not here: what is waited for, and who is told when (see `hold`, `queue`), when a request waits at all (see `trail`).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use super::call::{Call, earlier};
use super::refused;
use super::trail::Trail;
use crate::forward::client::Client;
use crate::h1::Refused;
use crate::hold::{HOLD, NotHeld, hold, hold_for_another, until_listening};
use crate::pick::{Crowded, NoInstance, Pick};
use crate::queue::Told;
use crate::reason::Reason;
use crate::sides::{Downstream, Source};
use crate::table::RouteEntry;
use crate::turn;

impl<D: Downstream, B: Source> Call<'_, D, B> {
    /// Waits for what the request lacks; `None`: choose again.
    pub(super) async fn wait_for(
        &mut self,
        lack: NoInstance,
        trail: &mut Trail,
        client: &Client,
    ) -> Result<Option<Pick>, Refused> {
        match lack {
            NoInstance::Full(crowded) => self.wait_for_place(trail, crowded, client).await,
            NoInstance::NoneReady => self.wait_for_instance(trail).await.map(|()| None),
        }
    }

    /// Holds the request until the route has an instance that it has not been at (design rule 6).
    async fn wait_for_instance(&mut self, trail: &mut Trail) -> Result<(), Refused> {
        let Trail { entry, tried, last, news, .. } = trail;
        let (handle, route, deadline) = (&self.visit.worker.handle, &entry.route.id, self.held_until(entry));
        let found = match last {
            None => self.unless_client_leaves(hold(handle, route, tried, deadline)).await?.map(Some),
            Some(_) => {
                let held = hold_for_another(handle, route, tried, *news, deadline);
                self.unless_client_leaves(held).await?
            }
        };
        let Some(found) = found.map_err(|error| refused(error.reason(), ""))? else {
            let (why, at) = last.take().unzip();
            // Told as that of the instance that failed the request.
            self.record.failed = at;
            return Err(why.unwrap_or(refused(Reason::NoReadyInstance, "")));
        };
        *entry = found;
        self.record.entry = Some(entry.clone());
        Ok(())
    }

    /// Waits until it is this request's turn to find out whether an instance listens that has just started, or there is
    /// news; as long as a request may be held.
    pub(super) async fn until_it_listens(&mut self, trail: &mut Trail, at: Pick) -> Result<(), Refused> {
        let state = at.endpoint.state.clone();
        drop(at);
        let (entry, deadline) = (&trail.entry, self.held_until(&trail.entry));
        let listening = until_listening(&self.visit.worker.handle, &entry.route.id, &state, deadline);
        if let Err(error) = self.unless_client_leaves(listening).await? {
            let (why, at) = trail.last.take().unzip();
            self.record.failed = at;
            let why = why.filter(|_| error == NotHeld::Expired);
            return Err(why.unwrap_or(refused(error.reason(), "")));
        }
        trail.knocking.waited_for(&state);
        self.renew(&mut trail.entry);
        Ok(())
    }

    /// How long the request may be held.
    fn held_until(&self, entry: &RouteEntry) -> Instant {
        let longest = self.began + HOLD;
        earlier(Some(longest), self.limit_on(entry)).unwrap_or(longest)
    }

    async fn unless_client_leaves<T>(&self, work: impl Future<Output = T>) -> Result<T, Refused> {
        let (down, mut work) = (self.down, pin!(work));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => down.poll_left(cx).map(|()| Err(refused(Reason::ClientLeft, ""))),
        })
        .await
    }

    /// Waits for a place at an instance of the route, all of which are full; `None`: the route has changed, choose again.
    async fn wait_for_place(
        &mut self,
        trail: &mut Trail,
        crowded: Crowded,
        client: &Client,
    ) -> Result<Option<Pick>, Refused> {
        let Trail { entry, tried, .. } = trail;
        let worker = &self.visit.worker;
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
        let told = self.unless_client_leaves(place.told()).await;
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

    /// Whether the present table still sends new clients to this instance.
    pub(super) fn still_serves(&self, entry: &RouteEntry, pick: &Pick) -> bool {
        let mut reader = self.visit.worker.table.borrow_mut();
        reader.table().by_id(&entry.route.id).is_some_and(|newest| newest.serves_new_at(pick))
    }
}
