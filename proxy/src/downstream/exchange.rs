//! One request on one connection to one instance: the body goes up while the answer comes down.
//!
//! Not here: what follows when the instance does not answer (see `attempt`).

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use fairway_config::file::Limits;
use tokio::time::Instant;

use super::body::Kept;
use super::compressed::Compressed;
use super::extras::Extras;
use super::held::Held;
use super::patience::{Patience, timed_out};
use crate::buffers::Buffers;
use crate::deadline::{Timer, Wait, Waits, wait, wait_no_longer};
use crate::endpoint::{EndpointState, UpstreamSettings};
use crate::features::compress::Shape;
use crate::features::encoder::Encoder;
use crate::features::{AnswerChanges, Applied};
use crate::forward::grpc::{Status, status_of};
use crate::forward::{ResponsePlan, write_interim, write_response};
use crate::h1::{BodyLength, Known, RequestHead, ResponseHead, Version};
use crate::pace::Pace;
use crate::reason::Reason;
use crate::relay::{RelayError, Terms, relay};
use crate::sides::{Answers, Downstream, Flow, NoHead, Piece, Sink, Source};
use crate::turn;
use crate::upgrade::{is_granted, knows_the_key};
use crate::upstream::newcomers::Newcomer;

/// Most answers of status 1xx before the one that counts.
const INTERIM_MAX: usize = 32;

/// What an exchange works with.
pub(super) struct Exchange<'a, D, B, O, A> {
    /// Where the answer goes.
    pub(super) down: &'a D,
    /// Where the rest of the request's body comes from.
    pub(super) source: &'a mut B,
    /// Where the request goes.
    pub(super) origin: &'a O,
    /// Where the answer comes from.
    pub(super) answers: &'a mut A,
    pub(super) head: &'a RequestHead,
    /// The head as the instance gets it.
    pub(super) head_up: &'a [u8],
    /// What was taken of the body already.
    pub(super) kept: &'a mut Kept,
    pub(super) upgrade: Option<&'a Arc<str>>,
    pub(super) settings: &'a UpstreamSettings,
    /// The instance.
    pub(super) state: &'a EndpointState,
    /// What the client may ask for.
    pub(super) limits: &'a Cell<Limits>,
    /// Most octets of the request's body.
    pub(super) body_max: u64,
    /// Whether the client's connection may stay open afterwards.
    pub(super) may_stay: &'a dyn Fn() -> bool,
    /// The listener's `Strict-Transport-Security`.
    pub(super) hsts: Option<&'a str>,
    /// What the request carries along, if anything.
    pub(super) extras: Option<&'a Extras>,
    /// What the route does with its answers besides.
    pub(super) applied: Option<Applied<'a>>,
    pub(super) total: Option<Instant>,
    pub(super) timer: &'a mut Timer,
    pub(super) buffers: &'a Buffers,
    pub(super) seen: &'a Seen,
    /// It is a call of gRPC, whose status is looked for.
    pub(super) is_grpc: bool,
}

/// What has happened so far, also when an exchange ends in the middle.
#[derive(Default)]
pub(super) struct Seen {
    /// Octets that the instance took.
    pub(super) sent: Cell<u64>,
    /// How many these were when the answer began, or was last silent for too long.
    pub(super) sent_before: Cell<u64>,
    /// The status of the answer, once its head has gone down.
    pub(super) status: Cell<Option<u16>>,
    /// How its body is framed towards the client.
    pub(super) framed: Cell<Option<BodyLength>>,
    /// When the head of the answer had come.
    pub(super) first_byte: Cell<Option<Instant>>,
    /// Octets of the answer's body that the client took.
    pub(super) body_bytes: Cell<u64>,
    /// How many these were when the client was last silent for too long, or too slow.
    pub(super) body_bytes_before: Cell<u64>,
    /// How the call of gRPC ended, as the instance says.
    pub(super) grpc: Cell<Option<Status>>,
    /// The instance said that it wants no further requests.
    pub(super) wants_out: Cell<bool>,
    /// The instance has begun to answer, if only with an answer before the one that counts.
    pub(super) answers: Cell<bool>,
    /// The request is sent whole.
    pub(super) uploaded: Cell<bool>,
    /// The connection is new, and the instance has not answered on it.
    pub(super) newcomer: Cell<Option<Newcomer>>,
    /// When it was, if its body was still coming from the client when the instance was chosen.
    pub(super) waited_for_client: Cell<Option<Instant>>,
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum End {
    /// The answer went down whole.
    Answered {
        /// The client's connection may carry another request.
        stays: bool,
        /// The instance's connection may, and for how long the instance keeps it, as far as it says.
        reuse: Option<Option<Duration>>,
    },
    /// The connection is no longer HTTP.
    Upgraded,
    /// There is no answer. Its head has not gone down.
    NoAnswer(Reason, &'static str),
    /// The client's request broke off or broke its framing.
    BadRequest(Reason, &'static str),
    /// The client is gone, or takes nothing.
    ClientLeft(Reason),
    /// The answer broke off after its head went down.
    Cut(Reason),
}

impl<D: Downstream, B: Source, O: Sink, A: Answers> Exchange<'_, D, B, O, A> {
    pub(super) async fn run(self) -> End {
        let Self { down, head, settings, state, limits, seen, timer, .. } = self;
        let waits = Waits::new(self.total);
        let (was_whole, fits) = (self.kept.has_end(), self.kept.will_be_whole());
        let up_pace = if was_whole { None } else { upload_pace(self.is_grpc, &limits.get()) };
        let up_terms = Terms {
            pace: up_pace.as_ref().map(|pace| (pace, Reason::BodyTooSlow)),
            octets_max: self.body_max,
            ..Terms::patient(limits.get().idle_time, Reason::ClientTimeout)
        };
        let patience = Patience { waits: &waits, settings, up_terms, seen, head };
        let upload = Upload {
            source: self.source,
            origin: self.origin,
            kept: self.kept,
            head_up: self.head_up,
            settings,
            terms: up_terms,
            seen,
            waits: &waits.up,
        };
        let download = Download {
            down,
            answers: self.answers,
            head,
            upgrade: self.upgrade,
            may_stay: self.may_stay,
            hsts: self.hsts,
            extras: self.extras,
            applied: self.applied,
            settings,
            idle_time: limits.get().idle_time,
            buffers: self.buffers,
            seen,
            waits: &waits.down,
            is_grpc: self.is_grpc,
        };
        let (mut upload, mut download) = (pin!(upload.run()), pin!(download.run()));
        let mut sending = true;
        let end = poll_fn(|cx| {
            // Everybody is woken when a drain has ended or an instance was cut off.
            if state.is_ended() {
                return Poll::Ready(drain_ended(seen));
            }
            if sending && let Poll::Ready(sent) = upload.as_mut().poll(cx) {
                sending = false;
                wait_no_longer(&waits.up);
                waits.look.set(None);
                match sent {
                    Ok(()) => {
                        seen.uploaded.set(true);
                        if !was_whole {
                            seen.waited_for_client.set(Some(turn::now()));
                        }
                        if seen.status.get().is_none() {
                            wait(&waits.down, settings.first_byte_timeout, Reason::UpstreamTimeout);
                        }
                    }
                    // The instance takes no more of the request: it may have answered already.
                    Err(RelayError::Write) if seen.status.get().is_some() => {}
                    Err(RelayError::Write) => wait(&waits.down, LATE_ANSWER, Reason::UpstreamClosed),
                    Err(error) => return Poll::Ready(bad_request(&error)),
                }
            }
            if let Poll::Ready(end) = download.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            // What may be asked elsewhere need not wait for a network that may never come back.
            if state.is_cut_off() && head.is_idempotent() && !seen.answers.get() {
                let is_kept = was_whole || fits && seen.uploaded.get();
                if is_kept {
                    return Poll::Ready(End::NoAnswer(Reason::UpstreamLost, ""));
                }
            }
            // Also behind the head of the answer: the instance may say nothing for long.
            if !sending && down.poll_gone(cx).is_ready() {
                return Poll::Ready(End::ClientLeft(Reason::ClientLeft));
            }
            // Nobody reads from the client while the instance takes nothing.
            if sending && patience.is_held_up() {
                if down.poll_broken(cx).is_ready() {
                    return Poll::Ready(End::ClientLeft(Reason::ClientLeft));
                }
                patience.look_again();
            }
            while let Some((limit, reason)) = waits.first() {
                ready!(timer.poll_passed(cx, limit));
                if !patience.goes_on(limit) {
                    return Poll::Ready(timed_out(reason, seen));
                }
            }
            Poll::Pending
        })
        .await;
        // What is missing must be missed, whoever is to blame. A stream of HTTP/2 that the client left behind is reset anyway.
        let breaks_off = match end {
            End::Cut(_) => true,
            End::ClientLeft(_) | End::BadRequest(..) => !D::HTTP2,
            End::Answered { .. } | End::Upgraded | End::NoAnswer(..) => false,
        };
        if breaks_off && let Some(length) = seen.framed.get() {
            down.cut(length);
        }
        end
    }
}

/// What is said of a body with too many octets.
pub(super) const TOO_LARGE: &str = "the request body has more octets than are taken here";

/// The least speed of a body. Calls of gRPC may stream for hours with little to say, and nothing in their head tells.
fn upload_pace(is_grpc: bool, limits: &Limits) -> Option<Pace> {
    if is_grpc { None } else { Pace::new(limits.body_rate, limits.body_grace) }
}

/// How long an answer is waited for after the instance has stopped to take the request.
const LATE_ANSWER: Duration = Duration::from_secs(1);

/// The end of what still ran when a drain ended.
pub(super) fn drain_ended(seen: &Seen) -> End {
    match seen.status.get() {
        Some(_) => End::Cut(Reason::DrainEnded),
        None => End::NoAnswer(Reason::DrainEnded, ""),
    }
}

fn bad_request(error: &RelayError) -> End {
    match error {
        RelayError::Framing(error) => End::BadRequest(Reason::BodyInvalid, error.text()),
        RelayError::Invalid => End::BadRequest(Reason::BodyInvalid, "the stream breaks the rules of HTTP/2"),
        RelayError::TooLarge => End::BadRequest(Reason::BodyTooLarge, TOO_LARGE),
        RelayError::Cut | RelayError::Read | RelayError::Write => End::ClientLeft(Reason::ClientLeft),
    }
}

/// The request's way up.
struct Upload<'a, B, O> {
    source: &'a mut B,
    origin: &'a O,
    kept: &'a mut Kept,
    head_up: &'a [u8],
    settings: &'a UpstreamSettings,
    terms: Terms<'a>,
    seen: &'a Seen,
    waits: &'a Cell<Wait>,
}

impl<B: Source, O: Sink> Upload<'_, B, O> {
    async fn run(self) -> Result<(), RelayError> {
        let Self { source, origin, kept, .. } = self;
        if self.head_up.is_empty() {
            return Ok(()); // it was sent before (see `asked`)
        }
        let flow = Flow {
            chunked: kept.chunked,
            waits: self.waits,
            patience: self.settings.idle_timeout,
            late: Reason::UpstreamTimeout,
            sent: Some(&self.seen.sent),
            body_bytes: &Cell::new(0),
        };
        origin.write(self.head_up, &kept.first, &flow).await.map_err(|_| RelayError::Write)?;
        if let Some(later) = kept.later() {
            origin.write(b"", &later, &flow).await.map_err(|_| RelayError::Write)?;
        }
        if kept.has_end() {
            return Ok(());
        }
        let octets_max = self.terms.octets_max.saturating_sub(kept.octets());
        let terms = Terms { octets_max, ..self.terms };
        if kept.will_be_whole() {
            return relay(source, origin, &flow, terms, b"", |piece| kept.note(piece)).await;
        }
        let held = Held::new(origin, kept, self.seen, self.settings.first_byte_timeout);
        // Boxed, so that others need no room for it.
        Box::pin(relay(source, &held, &flow, terms, b"", |_| {})).await
    }
}

/// The answer's way down.
struct Download<'a, D, A> {
    down: &'a D,
    answers: &'a mut A,
    head: &'a RequestHead,
    upgrade: Option<&'a Arc<str>>,
    may_stay: &'a dyn Fn() -> bool,
    hsts: Option<&'a str>,
    extras: Option<&'a Extras>,
    applied: Option<Applied<'a>>,
    settings: &'a UpstreamSettings,
    idle_time: Duration,
    buffers: &'a Buffers,
    seen: &'a Seen,
    waits: &'a Cell<Wait>,
    is_grpc: bool,
}

impl<'a, D: Downstream, A: Answers> Download<'a, D, A> {
    async fn run(mut self) -> End {
        let mut out = Out { text: self.buffers.lend_head(), buffers: self.buffers };
        let to_head = self.head.is_head();
        for _ in 0..=INTERIM_MAX {
            // The limit for it is set by whoever sends the request.
            let answer = match self.answers.head(to_head).await {
                Ok(answer) => answer,
                Err(NoHead::Closed(text)) => return End::NoAnswer(Reason::UpstreamClosed, text),
                Err(NoHead::Unprocessed(text)) => return End::NoAnswer(Reason::UpstreamRefused, text),
                Err(NoHead::Invalid(text)) => return End::NoAnswer(Reason::UpstreamInvalid, text),
            };
            self.seen.answers.set(true);
            if !answer.is_interim() {
                self.seen.first_byte.set(Some(turn::now()));
                self.seen.newcomer.take();
            }
            if answer.status == 101 {
                return self.switch(&answer, &mut out.text).await;
            }
            if let Some(text) = self.down.misreads(&answer) {
                return End::NoAnswer(Reason::UpstreamInvalid, text);
            }
            if !answer.is_interim() {
                wait_no_longer(self.waits);
                return self.answer(answer, &mut out.text).await;
            }
            if let Err(end) = self.interim(&answer, &mut out.text).await {
                return end;
            }
        }
        End::NoAnswer(Reason::UpstreamInvalid, "the instance sent more than 32 interim answers")
    }

    fn flow(&self, chunked: bool) -> Flow<'_> {
        let (patience, late) = (self.idle_time, Reason::ClientTimeout);
        let body_bytes = &self.seen.body_bytes;
        Flow { chunked, waits: self.waits, patience, late, sent: None, body_bytes }
    }

    /// Passes on an answer that comes before the one that counts, where the client can read it.
    async fn interim(&self, answer: &ResponseHead, out: &mut Vec<u8>) -> Result<(), End> {
        let unasked = answer.status == 100 && !self.head.expects_continue;
        if self.head.version == Version::Http10 || unasked {
            return Ok(());
        }
        out.clear();
        write_interim(out, answer, None, b"");
        // The wait for the instance's answer goes on where it was.
        let before = self.waits.get();
        self.down
            .write(out, &Piece::default(), &self.flow(false))
            .await
            .map_err(|_| End::ClientLeft(Reason::ClientLeft))?;
        self.waits.set(before);
        Ok(())
    }

    async fn switch(&self, answer: &ResponseHead, out: &mut Vec<u8>) -> End {
        let Some(protocol) = self.upgrade.filter(|protocol| is_granted(answer, protocol)) else {
            return End::NoAnswer(
                Reason::UpstreamInvalid,
                "the instance switched to a protocol that nobody asked for",
            );
        };
        if D::HTTP2 && protocol.eq_ignore_ascii_case("websocket") && !knows_the_key(self.head, answer) {
            return End::NoAnswer(
                Reason::UpstreamInvalid,
                "the instance switched to WebSocket without the answer to the request's key",
            );
        }
        out.clear(); // of an interim answer
        write_interim(out, answer, Some(protocol), self.added(answer));
        self.seen.status.set(Some(answer.status));
        match self.down.write(out, &Piece::default(), &self.flow(false)).await {
            Ok(()) => End::Upgraded,
            Err(_) => End::ClientLeft(Reason::ClientLeft),
        }
    }

    /// The fields of ours that the answer gets.
    fn added(&self, answer: &ResponseHead) -> &'a [u8] {
        self.extras.map_or(b"", |extras| extras.lines_for(answer))
    }

    /// What the route makes of the answer, and what its body is compressed by.
    fn changes(&self, answer: &ResponseHead) -> (Option<AnswerChanges<'a>>, Option<Box<Encoder>>) {
        let Some(applied) = self.applied else { return (None, None) };
        let mut changes = applied.answer(self.head, answer);
        let coding = changes.shape.coding.filter(|_| answer.framing.length != BodyLength::Empty);
        let encoder = coding.and_then(Encoder::new).map(Box::new);
        if coding.is_some() && encoder.is_none() {
            // No memory for it: the body goes as it is.
            changes.shape = Shape { varies: true, ..Shape::default() };
        }
        (Some(changes), encoder)
    }

    /// Passes on the answer.
    async fn answer(&mut self, answer: ResponseHead, out: &mut Vec<u8>) -> End {
        let from_length = answer.framing.length;
        let old_client = self.head.version == Version::Http10;
        let (changes, encoder) = self.changes(&answer);
        let coded_length = if encoder.is_some() { BodyLength::Chunked } else { from_length };
        let to_length = self.down.framing(self.head.version, coded_length);
        // A request that is still being sent may never end; nobody could tell where the next one starts.
        let stays = self.seen.uploaded.get()
            && self.head.keep_alive
            && to_length != BodyLength::UntilClose
            && (self.may_stay)();
        let says_keep_alive = stays && old_client;
        let (length, hsts, added) = (to_length, self.hsts, self.added(&answer));
        let plan = ResponsePlan { length, close: !stays, says_keep_alive, hsts, added, changes };
        out.clear();
        write_response(out, &answer, &plan);
        let reuse =
            (answer.keep_alive && from_length != BodyLength::UntilClose).then_some(answer.keep_alive_timeout);
        self.seen.status.set(Some(answer.status));
        self.seen.framed.set(Some(to_length));
        self.seen.sent_before.set(self.seen.sent.get());
        self.seen.wants_out.set(answer.fields.has(Known::WantsOut));
        if self.is_grpc {
            self.seen.grpc.set(status_of(&answer));
        }
        drop(answer); // it lies in the buffer that the body is read into
        let Self { down, settings, .. } = *self;
        let (waits, body_bytes) = (self.waits, &self.seen.body_bytes);
        let (patience, late) = (self.idle_time, Reason::ClientTimeout);
        let chunked = to_length.is_chunked();
        let flow = Flow { chunked, waits, patience, late, sent: None, body_bytes };
        let terms = Terms::patient(settings.idle_timeout, Reason::UpstreamCut);
        let (is_grpc, seen) = (self.is_grpc, self.seen);
        let look = |piece: &Piece| {
            if is_grpc && let Some(trailers) = &piece.trailers {
                seen.grpc.set(Status::in_lines(trailers.lines()));
            }
        };
        let body = self.answers.body(from_length);
        let relayed = pass_on(body, encoder, down, &flow, terms, out, look).await;
        match relayed {
            // Octets behind the answer belong to no request: whatever they are, they must reach nobody.
            Ok(()) => End::Answered {
                stays,
                reuse: reuse.filter(|_| self.answers.is_clean() && self.seen.uploaded.get()),
            },
            Err(RelayError::Write) => End::ClientLeft(Reason::ClientLeft),
            Err(
                RelayError::Cut
                | RelayError::Read
                | RelayError::Invalid
                | RelayError::TooLarge
                | RelayError::Framing(_),
            ) => End::Cut(Reason::UpstreamCut),
        }
    }
}

/// Moves the body of an answer, through an encoder if there is one. `taken` sees each piece before it is written.
async fn pass_on<D: Downstream, B: Source>(
    mut body: B,
    encoder: Option<Box<Encoder>>,
    down: &D,
    flow: &Flow<'_>,
    terms: Terms<'_>,
    head: &[u8],
    taken: impl FnMut(&Piece),
) -> Result<(), RelayError> {
    let Some(encoder) = encoder else { return relay(&mut body, down, flow, terms, head, taken).await };
    let mut body = Compressed::new(body, encoder);
    // Boxed, so that others need no room for it.
    Box::pin(relay(&mut body, down, flow, terms, head, taken)).await
}

/// A buffer for heads that goes back when the exchange ends in the middle.
struct Out<'a> {
    text: Vec<u8>,
    buffers: &'a Buffers,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.buffers.give_back_head(std::mem::take(&mut self.text));
    }
}
