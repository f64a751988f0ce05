//! A request to an instance that speaks HTTP/2: on a stream of a connection that others use, too.
//!
//! Not here: a request on a connection of its own (see `attempt`), the connections (see `upstream::channels`).

use std::rc::Rc;

use fairway_config::labels::Protocol;

use super::asked::{Asked, Way};
use super::attempt::{Attempt, Prepared};
use super::call::Call;
use super::exchange::{End, Seen};
use super::refused;
use crate::h1::Refused;
use crate::pick::Pick;
use crate::reason::Reason;
use crate::sides::http2::asked::Asked as Head;
use crate::sides::http2::origin::Origin;
use crate::sides::{Answers as _, Downstream, Source};
use crate::turn;
use crate::upstream::channel::Place;
use crate::upstream::channels::Channels;

/// Streams that are tried at one instance: a connection that the instance is about to close, or that has one too many, says
/// nothing about the next one.
const STREAMS_TRIED: usize = 3;

const NO_PLACE: &str = "the instance takes no request on a new HTTP/2 connection";

impl<D: Downstream, B: Source> Call<'_, D, B> {
    /// Sends the request on a stream, or takes its answer from one on which it was sent already.
    pub(super) async fn over_http2(
        &mut self,
        pick: &Pick,
        mut request: Prepared<'_>,
        asked: Option<Asked>,
    ) -> Attempt {
        let chosen = asked.as_ref().map_or_else(turn::now, |asked| asked.chosen);
        let secure = pick.version.settings.protocol == Protocol::H2;
        let upgrade = request.upgrade.map(|protocol| &**protocol);
        let (head, mut sent) = match asked.map(|asked| asked.way) {
            Some(Way::Http2(origin)) => (origin.asked().clone(), Some(*origin)),
            _ => match Head::read(request.head_up, secure, upgrade) {
                Ok(head) => (Rc::new(head), None),
                Err(refused) => return Attempt::Failed { refused, again: false },
            },
        };
        let mut tried = 0;
        loop {
            tried += 1;
            let origin = match sent.take() {
                Some(origin) => origin,
                None => match self.place(pick).await {
                    Ok(place) => Origin::new(place, head.clone()),
                    Err(refused) => return Attempt::Failed { refused, again: true },
                },
            };
            let place = origin.place();
            if upgrade.is_some() && !place.takes_connect() {
                let detail = "the instance speaks HTTP/2 and does not offer extended CONNECT (RFC 8441)";
                return Attempt::Failed { refused: refused(Reason::UpstreamNoUpgrade, detail), again: true };
            }
            let (seen, mut answers) = (Seen::default(), origin.answers());
            let end = self.exchange(&origin, &mut answers, &mut request, pick, &seen).await;
            request.sent = false;
            let untouched = !answers.has_begun() && seen.status.get().is_none();
            let reset = answers.was_reset();
            self.note(&seen, chosen);
            let (again, here) = match end {
                // Unseen by the instance, whatever the method (RFC 9113 section 8.7).
                End::NoAnswer(Reason::UpstreamRefused, _) => {
                    let here = self.was_of_the_connection(pick, place, reset);
                    (untouched && request.kept.repeatable, here)
                }
                // A connection that had served and that the instance closed at the same moment is no failure of the instance.
                // A stream that it reset is.
                End::NoAnswer(Reason::UpstreamClosed, _) => {
                    if origin.was_late() {
                        seen.sent.set(0); // it was handed over, but nobody got any of it
                    }
                    (self.may_repeat(untouched, &seen, &request), place.reused && !reset)
                }
                End::NoAnswer(Reason::UpstreamTimeout | Reason::TotalTimeout, _) => {
                    place.doubt();
                    (false, false)
                }
                End::NoAnswer(Reason::UpstreamLost | Reason::DrainEnded, _) => {
                    (self.may_repeat(untouched, &seen, &request), false)
                }
                _ => (false, false),
            };
            if !(again && here) || tried == STREAMS_TRIED {
                return self.finished(end, &seen, again, pick, chosen).await;
            }
        }
    }

    /// Whether a stream was refused for what became of its connection: then the instance is asked again, on another one. What
    /// it refuses on a connection that goes on it does not want, and another instance is asked (design rule 7).
    fn was_of_the_connection(&self, pick: &Pick, place: &Place, reset: bool) -> bool {
        // It ends: that says nothing of the next one.
        if !reset || place.goes_away() {
            place.give_up();
            return true;
        }
        // The instance lowered its limit while the stream was on its way, or told it late: that is nobody's failure. What is
        // one too many for a connection goes on another, here as anywhere.
        if let Some(streams) = place.limited_since() {
            let kept = self.visit.kept(pick.version.settings.proxy_protocol);
            kept.channels.told_late(&pick.endpoint.state, streams);
            return true;
        }
        place.give_up();
        false
    }

    /// A place for a stream, on a new connection if there is none with room.
    pub(super) async fn place(&mut self, pick: &Pick) -> Result<Place, Refused> {
        let told = pick.version.settings.proxy_protocol;
        let (worker, kept) = (&self.visit.worker, self.visit.kept(told));
        let start = turn::now();
        loop {
            if let Some(place) = kept.channels.take(&pick.endpoint.state) {
                return Ok(place);
            }
            let header = || self.visit.header(told);
            let opening = Channels::open(kept, worker, &pick.endpoint, &pick.version.upstream, header);
            match self.in_time(pick, opening.done()).await? {
                Ok(channel) => {
                    self.record.connect = Some(turn::now().duration_since(start));
                    // Others may have taken all of its places; if nobody could, the next one is no better.
                    if !channel.was_used() && !channel.has_room() {
                        return Err(refused(Reason::UpstreamRefused, NO_PLACE));
                    }
                }
                Err(error) => return Err(refused(error.reason(), error.detail())),
            }
        }
    }
}
