//! A second request for one that takes long (`fairway.hedge`): whichever instance answers first serves, the other
//! connection is closed.
//!
//! For GET and HEAD without a body, over HTTP/1.1, to another instance of the same version, out of the retry budget. What
//! counts as an answer is the first octet of the first instance; of the second one, a status that is no 5xx, or else an
//! instance that fails at once would fail whatever is slow elsewhere. Not here: what then happens on the connection (see `call`, `exchange`).

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;

use bytes::BytesMut;
use fairway_config::labels::{Hedge, Protocol};
use tokio::time::{Instant, timeout_at};

use super::call::{Call, too_late};
use super::refused;
use crate::buffers::read_lent;
use crate::forward::client::Client;
use crate::h1::{BodyLength, Refused};
use crate::pick::{Pick, Why};
use crate::reason::Reason;
use crate::sides::{Downstream, Source};
use crate::turn;
use crate::upstream::Upstream;
use crate::upstream::pool::Wanted;

/// Where the status is in an answer.
const STATUS: Range<usize> = "HTTP/1.1 ".len().."HTTP/1.1 200".len();

/// A connection on which the request has been sent, and since when its instance knows of it.
pub(super) struct Asked {
    pub(super) up: Upstream,
    pub(super) chosen: Instant,
    /// What has been read of its answer.
    pub(super) read: BytesMut,
}

impl<D: Downstream, B: Source> Call<'_, D, B> {
    /// Whether a second request may be sent for this one.
    pub(super) fn may_hedge(&self, pick: &Pick, upgrades: bool) -> bool {
        let speaks_http1 = matches!(pick.version.settings.protocol, Protocol::Http1 | Protocol::Https);
        pick.version.settings.hedge.is_some()
            && speaks_http1
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
        let settings = pick.version.settings.clone();
        let after = match settings.hedge {
            Some(Hedge::After(time)) => time,
            Some(Hedge::P95) => match pick.version.series.p95(&pick.version.backend.id) {
                Some(time) => time,
                None => return Ok(None), // too few answers to know
            },
            None => return Ok(None),
        };
        let (down, chosen) = (self.down, turn::now());
        let Some(first) = self.send_to(pick, head_up).await? else { return Ok(None) };
        let total = self.limit(settings.total_timeout);
        let limit = turn::now() + settings.first_byte_timeout;
        let (limit, late) = match total {
            Some(total) if total <= limit => (total, too_late()),
            _ => (limit, refused(Reason::UpstreamTimeout, "the instance did not answer in time")),
        };
        let asked = |up, chosen| Ok(Some(Asked { up, chosen, read: BytesMut::new() }));
        match timeout_at(limit.min(chosen + after), answers(&first, down)).await {
            Ok(Ok(())) => return asked(first, chosen),
            Ok(Err(refused)) => return Err(refused),
            Err(_) if limit <= turn::now() => return Err(late),
            Err(_) => {}
        }
        let Some(second) = self.second(pick, client) else { return asked(first, chosen) };
        self.record.attempts += 1;
        let chosen_again = turn::now();
        let race = async {
            let other = async {
                let sent = self.send_to(&second, head_up).await;
                self.good_answer(&second, sent, chosen_again).await
            };
            let mut other = pin!(other);
            let mut there = true;
            poll_fn(|cx| {
                if let Poll::Ready(answered) = pin!(answers(&first, down)).poll(cx) {
                    return Poll::Ready(answered.map(|()| None));
                }
                if there && let Poll::Ready(up) = other.as_mut().poll(cx) {
                    there = false;
                    if up.is_some() {
                        return Poll::Ready(Ok(up));
                    }
                }
                Poll::Pending
            })
            .await
        };
        let raced = timeout_at(limit, race).await;
        let won = matches!(raced, Ok(Ok(Some(_))));
        self.visit.worker.metrics.hedged(&pick.version.upstream, won);
        match raced {
            Err(_) => Err(late),
            Ok(Err(refused)) => Err(refused),
            Ok(Ok(None)) => asked(first, chosen),
            Ok(Ok(Some((up, read)))) => {
                // That is no failure, but the balancer should know how long it took at least.
                let now = turn::now();
                pick.endpoint.state.observe_unanswered(now.duration_since(chosen), now.into_std());
                *pick = second;
                Ok(Some(Asked { up, chosen: chosen_again, read }))
            }
        }
    }

    /// Sends the request to the instance of this pick; `None` if the connection does not take it.
    async fn send_to(&mut self, pick: &Pick, head_up: &[u8]) -> Result<Option<Upstream>, Refused> {
        let kept = self.visit.kept(pick.version.settings.proxy_protocol);
        let up = match kept.pool.take(&pick.endpoint.state, Wanted::Open) {
            Some(up) => up,
            None => self.open(pick).await?,
        };
        let sent = up.write_all(&mut [IoSlice::new(head_up)], |_| {}).await;
        Ok(sent.is_ok().then_some(up))
    }

    /// The connection of the second instance with the start of its answer, once that says how it went. `None` if it failed:
    /// the first one, which is merely slow, may do better.
    async fn good_answer(
        &self,
        pick: &Pick,
        sent: Result<Option<Upstream>, Refused>,
        chosen: Instant,
    ) -> Option<(Upstream, BytesMut)> {
        let failed = |how| {
            let now = turn::now();
            pick.endpoint.state.observe_failure(now.duration_since(chosen), now.into_std(), how);
        };
        let up = match sent {
            Ok(up) => up?,
            Err(refused) => {
                if refused.reason.is_of_the_way() && refused.reason != Reason::OutOfFiles {
                    failed(refused.reason.as_str());
                }
                return None;
            }
        };
        let (mut read, buffers) = (BytesMut::new(), &self.visit.worker.buffers);
        while read.len() < STATUS.end {
            // Closed at the same moment, perhaps: that says nothing of it.
            if !matches!(read_lent(&up, &mut read, buffers).await, Ok(1..)) {
                return None;
            }
        }
        match &read[STATUS] {
            b"502" | b"503" | b"504" => failed("it answered 502, 503 or 504"),
            [b'5', ..] => {
                let now = turn::now();
                pick.endpoint.state.observe_error(now.duration_since(chosen), now.into_std());
            }
            _ => return Some((up, read)),
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

/// Until the instance says something, or nothing more; unless the client leaves, or a drain ends.
async fn answers(up: &Upstream, down: &impl Downstream) -> Result<(), Refused> {
    poll_fn(|cx| match up.poll_readable(cx) {
        Poll::Ready(_) => Poll::Ready(Ok(())),
        Poll::Pending => down.poll_gone(cx).map(|()| Err(refused(Reason::ClientLeft, ""))),
    })
    .await
}
