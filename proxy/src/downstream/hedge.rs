//! A second request for one that takes long (`fairway.hedge`): whichever instance answers first serves, the other request
//! is taken back.
//!
//! For GET and HEAD without a body, to another instance of the same version, out of the retry budget. What counts as an
//! answer is the first octet of the first instance; of the second one, a status that is no 5xx, or else an instance that
//! fails at once would fail whatever is slow elsewhere. The same whatever the instances speak: all of a version speak the
//! same. Not here: how a request is sent (see `asked`), what then happens to its answer (see `attempt`, `exchange`).

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};
use std::time::Duration;

use fairway_config::labels::Hedge;
use tokio::time::{Instant, timeout_at};

use super::asked::{Asked, Start};
use super::call::{Call, too_late};
use super::refused;
use crate::buffers::Buffers;
use crate::forward::client::Client;
use crate::h1::{BodyLength, Refused};
use crate::pick::{Pick, Why};
use crate::reason::Reason;
use crate::sides::{Downstream, Source};
use crate::turn;

impl<D: Downstream, B: Source> Call<'_, D, B> {
    /// Whether a second request may be sent for this one.
    pub(super) fn may_hedge(&self, pick: &Pick, upgrades: bool) -> bool {
        pick.version.settings.hedge.is_some()
            && !upgrades
            && matches!(self.head.method(), "GET" | "HEAD")
            && self.head.body == BodyLength::Empty
            && self.record.attempts == 1
            // A client that is bound is bound to one instance.
            && pick.why != Why::Sticky
    }

    /// Asks the instance of the pick and, if it takes too long, another one, which may then be the pick. `None`: the request
    /// is to be sent as any other.
    pub(super) async fn ask_twice(
        &mut self,
        pick: &mut Pick,
        head_up: &[u8],
        client: &Client,
    ) -> Result<Option<Asked>, Refused> {
        let Some(after) = hedged_after(pick) else { return Ok(None) };
        let Some(mut first) = self.ask(pick, head_up).await? else { return Ok(None) };
        let (limit, late) = self.hedge_limit(pick);
        let (down, worker) = (self.down, &self.visit.worker);
        let hedged_at = limit.min(first.chosen + after);
        let answers = poll_fn(|cx| poll_answers(&mut first, pick, (down, &worker.buffers), cx));
        match timeout_at(hedged_at, answers).await {
            Ok(First::Answers | First::Ended) => return Ok(Some(first)),
            Ok(First::Lost(refused) | First::ClientLeft(refused)) => return Err(refused),
            Err(_) if limit <= turn::now() => {
                first.doubt();
                return Err(late);
            }
            Err(_) => {}
        }
        let Some(second) = self.second(pick, client) else { return Ok(Some(first)) };
        self.record.attempts += 1;
        let raced = timeout_at(limit, self.race(&mut first, pick, &second, head_up)).await;
        let won = matches!(raced, Ok(Ok(Some(_))));
        worker.metrics.hedged(&pick.version.upstream, won);
        // Neither gets the request again.
        self.record.asked_too.get_or_insert_default().add(if won { pick } else { &second });
        match raced {
            Err(_) => {
                first.doubt();
                Err(late)
            }
            Ok(Err(refused)) => Err(refused),
            Ok(Ok(None)) => Ok(Some(first)),
            Ok(Ok(answered)) => {
                self.overtaken(pick, &first);
                *pick = second;
                Ok(answered)
            }
        }
    }

    /// Notes that the first instance did not serve.
    fn overtaken(&self, pick: &Pick, first: &Asked) {
        let (state, now) = (&pick.endpoint.state, turn::now());
        let took = now.duration_since(first.chosen);
        match first.failed.filter(|reason| self.blames_instance(*reason)) {
            Some(reason) => {
                state.observe_failure(took, now.into_std(), reason.as_str());
                self.count_failure(pick, reason, true);
            }
            // That is no failure, but the balancer should know how long it took at least.
            None => state.observe_unanswered(took, now.into_std()),
        }
    }

    /// When the request has waited too long for an answer, and what is said then.
    fn hedge_limit(&self, pick: &Pick) -> (Instant, Refused) {
        let settings = &pick.version.settings;
        let limit = turn::now() + settings.first_byte_timeout;
        match self.limit(settings.total_timeout) {
            Some(total) if total <= limit => (total, too_late()),
            _ => (limit, refused(Reason::UpstreamTimeout, "the instance did not answer in time")),
        }
    }

    /// Asks the second instance, too; gives its answer if that comes first and is a good one, `None` if the first one
    /// answers, or neither does.
    async fn race(
        &mut self,
        first: &mut Asked,
        pick: &Pick,
        second: &Pick,
        head_up: &[u8],
    ) -> Result<Option<Asked>, Refused> {
        let (down, worker) = (self.down, &self.visit.worker);
        let mut other = Some(Box::pin(async {
            let chosen = turn::now();
            let asked = self.ask(second, head_up).await;
            self.good_answer(second, asked, chosen).await
        }));
        // What is left of the first one, once it has failed: then the second one alone is waited for.
        let mut without = None;
        poll_fn(|cx| {
            if without.is_none() {
                match poll_answers(first, pick, (down, &worker.buffers), cx) {
                    Poll::Ready(First::Answers) => return Poll::Ready(Ok(None)),
                    Poll::Ready(First::ClientLeft(refused)) => return Poll::Ready(Err(refused)),
                    Poll::Ready(First::Ended) => {
                        (first.failed, without) = (Some(Reason::UpstreamClosed), Some(Ok(None)));
                    }
                    Poll::Ready(First::Lost(refused)) => {
                        (first.failed, without) = (Some(refused.reason), Some(Err(refused)));
                    }
                    Poll::Pending => {}
                }
            } else if down.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(client_left()));
            }
            let state = &second.endpoint.state;
            let answered = match &mut other {
                Some(_) if state.is_ended() || state.is_cut_off() => None,
                Some(other) => match other.as_mut().poll(cx) {
                    Poll::Ready(answered) => answered,
                    Poll::Pending => return Poll::Pending,
                },
                None => None,
            };
            if answered.is_some() {
                return Poll::Ready(Ok(answered));
            }
            if other.take().is_some() {
                second.in_flight.end(); // others may have its place
            }
            without.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The request at the second instance, once its answer says how it went. `None` if it failed: the first one, which is
    /// merely slow, may do better.
    async fn good_answer(
        &self,
        pick: &Pick,
        asked: Result<Option<Asked>, Refused>,
        chosen: Instant,
    ) -> Option<Asked> {
        let state = &pick.endpoint.state;
        let failed = |how| {
            let now = turn::now();
            state.observe_failure(now.duration_since(chosen), now.into_std(), how);
        };
        let mut asked = match asked {
            Ok(asked) => asked?,
            Err(refused) => {
                if refused.reason.is_of_the_way() && refused.reason != Reason::OutOfFiles {
                    failed(refused.reason.as_str());
                }
                return None;
            }
        };
        match asked.start(&self.visit.worker.buffers).await {
            Start::Status(502..=504) => failed("it answered 502, 503 or 504"),
            Start::Status(500..) => {
                let now = turn::now();
                state.observe_error(now.duration_since(chosen), now.into_std());
            }
            // What comes before an answer does not say how it went: who waits for that has waited long enough.
            Start::Status(..200) => {}
            Start::Status(_) => return Some(asked),
            Start::Fault(reason) => failed(reason.as_str()),
            Start::Nothing => {}
        }
        None
    }

    /// Another instance of the same version, if there is one and the route's budget allows it.
    fn second(&self, pick: &Pick, client: &Client) -> Option<Pick> {
        let entry = self.record.entry.as_ref()?;
        let view = self.head.view(client.address, client.internal, client.secure);
        let now = turn::now().into_std();
        let second = entry.pick_beside(pick, &view, &mut self.visit.worker.rng.borrow_mut(), now)?;
        entry.may_retry(now).then_some(second)
    }
}

/// How long an answer is waited for before a second instance is asked; `None`: too few answers have come to know.
fn hedged_after(pick: &Pick) -> Option<Duration> {
    match pick.version.settings.hedge? {
        Hedge::After(time) => Some(time),
        Hedge::P95 => pick.version.series.p95(&pick.version.backend.id),
    }
}

/// What becomes of the first request while it is waited for.
enum First {
    Answers,
    /// There will be no answer; what follows is what follows for any request.
    Ended,
    /// The instance is not waited for any longer.
    Lost(Refused),
    ClientLeft(Refused),
}

fn client_left() -> Refused {
    refused(Reason::ClientLeft, "")
}

/// Ready once the instance of the pick says something, or there is no more reason to wait for it.
fn poll_answers(
    asked: &mut Asked,
    pick: &Pick,
    (down, buffers): (&impl Downstream, &Buffers),
    cx: &mut Context<'_>,
) -> Poll<First> {
    let state = &pick.endpoint.state;
    // Everybody is woken when a drain has ended or an instance was cut off.
    if state.is_ended() {
        return Poll::Ready(First::Lost(refused(Reason::DrainEnded, "")));
    }
    match asked.poll_answers(cx, buffers) {
        Poll::Ready(true) => Poll::Ready(First::Answers),
        Poll::Ready(false) => Poll::Ready(First::Ended),
        Poll::Pending if state.is_cut_off() => Poll::Ready(First::Lost(refused(Reason::UpstreamLost, ""))),
        Poll::Pending => down.poll_gone(cx).map(|()| First::ClientLeft(client_left())),
    }
}
