//! A request's way over instances: who is asked next, and what follows when one fails it.
//!
//! Not here: who is chosen (see `pick`), how it waits for somebody (see `waiting`), one attempt (see `attempt`).

use std::sync::Arc;

use super::After;
use super::attempt::Attempt;
use super::body::Kept;
use super::call::Call;
use super::lost;
use super::record::{Failed, Finish};
use crate::forward::client::Client;
use crate::h1::Refused;
use crate::hold::NEWS;
use crate::outlier::{Knocking, Next};
use crate::pick::{NoInstance, Pick, Tried};
use crate::reason::Reason;
use crate::sides::{Downstream, Source};
use crate::table::RouteEntry;
use crate::turn;

/// Most instances tried, whatever the labels say.
const ATTEMPTS_MAX: u32 = 12;

/// A request's way over instances, as far as it has come.
pub(super) struct Trail {
    pub(super) entry: Arc<RouteEntry>,
    /// Where it has failed.
    pub(super) tried: Tried,
    retries: u8,
    /// What the last instance said, and which it was.
    pub(super) last: Option<(Refused, Failed)>,
    /// The news may be on its way that an instance which failed it stops.
    pub(super) news: bool,
    pub(super) knocking: Knocking,
}

impl Trail {
    fn new(entry: Arc<RouteEntry>) -> Self {
        let (tried, knocking) = (Tried::default(), Knocking::default());
        Self { entry, tried, retries: 0, last: None, news: false, knocking }
    }

    fn failed(&mut self, refused: Refused, pick: Pick) {
        self.news |= pick.endpoint.may_have_news(turn::now().into_std());
        self.last = Some((refused, Failed::at(pick)));
    }
}

impl<D: Downstream, B: Source> Call<'_, D, B> {
    /// Sends the request to one instance after the other, until one answers or the request may go no further.
    pub(super) async fn over_instances(
        &mut self,
        entry: Arc<RouteEntry>,
        client: Client,
        kept: &mut Kept,
        upgrade: Option<&Arc<str>>,
    ) -> Result<(After, Finish), Refused> {
        let mut trail = Trail::new(entry);
        loop {
            let pick = match self.pick(&trail, &client) {
                Ok(pick) => pick,
                // Boxed, as everything here that is rare: others need no room for it.
                Err(lack) => match Box::pin(self.wait_for(lack, &mut trail, &client)).await? {
                    Some(pick) => pick,
                    None => continue,
                },
            };
            match trail.knocking.next(&pick.endpoint.state, turn::now().into_std()) {
                Next::Ask => {}
                Next::Choose => continue,
                Next::Wait => {
                    Box::pin(self.until_it_listens(&mut trail, pick)).await?;
                    continue;
                }
            }
            self.record.attempts += 1;
            self.record.pick = Some(pick);
            self.record.chosen = Some(turn::now());
            match self.attempt(client, kept, upgrade).await {
                Attempt::Finished(after, finish) => {
                    self.count_answer(&finish);
                    return Ok((after, finish));
                }
                Attempt::Failed { refused, again } => {
                    Box::pin(self.goes_on(&mut trail, refused, again)).await?;
                }
            }
        }
    }

    /// The instance that the request is sent to next.
    fn pick(&self, trail: &Trail, client: &Client) -> Result<Pick, NoInstance> {
        let view = self.head.view(client.address, client.internal, client.secure);
        let bound = self.extras.as_ref().and_then(|extras| extras.bound());
        let mut rng = self.visit.worker.rng.borrow_mut();
        trail.entry.pick_bound(&view, bound, &trail.tried, &mut rng, turn::now().into_std())
    }

    /// What follows from a failed attempt: the request may go to another instance, or is refused.
    async fn goes_on(&mut self, trail: &mut Trail, refused: Refused, again: bool) -> Result<(), Refused> {
        let (Some(pick), Some(chosen)) = (self.record.pick.take(), self.record.chosen) else {
            return Err(refused);
        };
        let (state, now) = (&pick.endpoint.state, turn::now());
        if refused.reason == Reason::ConnectFailed
            && pick.endpoint.may_yet_listen()
            && self.still_serves(&trail.entry, &pick)
        {
            // As if it had not been asked: it has just started.
            state.peers.does_not_listen(state, now.into_std());
            self.record.attempts -= 1;
            trail.failed(refused, pick);
            return Ok(());
        }
        trail.tried.add(&pick);
        if let Some(others) = self.record.asked_too.take() {
            trail.tried.add_all(&others);
        }
        if !refused.reason.is_of_the_way() {
            self.record.pick = Some(pick);
            return Err(refused);
        }
        if self.blames_instance(refused.reason) {
            state.observe_failure(now.duration_since(chosen), now.into_std(), refused.reason.as_str());
            state.keep_failure(refused.reason, refused.detail);
        }
        let allowed = again && self.may_go_on(trail, &pick, refused.reason).await;
        self.count_failure(&pick, refused.reason, allowed);
        if !allowed {
            self.record.pick = Some(pick);
            return Err(refused);
        }
        self.visit.worker.metrics.retried(&pick.version.upstream, refused.reason);
        if let Some(extras) = &mut self.extras {
            extras.failed(&pick, refused.reason);
        }
        trail.failed(refused, pick);
        // The next choice is made from the table of now.
        self.renew(&mut trail.entry);
        Ok(())
    }

    /// Whether the request may go to another instance once this one has failed it. May wait for news.
    async fn may_go_on(&self, trail: &mut Trail, pick: &Pick, reason: Reason) -> bool {
        let (settings, now) = (&pick.version.settings, turn::now());
        let limit = self.limit(settings.total_timeout);
        if self.record.attempts >= ATTEMPTS_MAX || limit.is_some_and(|limit| limit <= now) {
            return false;
        }
        // One that is known to stop, or gone, costs nobody a retry: that is what a deploy looks like. The table that says so may
        // be a moment behind the news that an address was lost.
        if reason == Reason::UpstreamLost || !self.still_serves(&trail.entry, pick) {
            return true;
        }
        if trail.retries < settings.retries && trail.entry.may_retry(now.into_std()) {
            trail.retries += 1;
            return true;
        }
        // Nobody listens there: when several are replaced at a time, the news of some may still be on its trail.
        if reason != Reason::ConnectFailed || !pick.endpoint.may_have_news(now.into_std()) {
            return false;
        }
        pick.in_flight.end(); // or else requests that wait for news would keep the instance full
        let until = limit.map_or(now + NEWS, |limit| limit.min(now + NEWS));
        lost::leaves(&self.visit.worker.handle, &trail.entry, pick, until).await
    }
}
