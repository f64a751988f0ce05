//! The instance's side of one request on an HTTP/2 stream.
//!
//! Not here: the request's head in the words of HTTP/2 (see `asked`), which connection the stream is on (see
//! `upstream::channels`).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, StatusCode};

use super::asked::{Accept, Asked};
use super::body::Body;
use super::fields::{push_line, push_lines};
use super::send::{Outgoing, gone};
use crate::forward::grpc::is_grpc;
use crate::h1::{BodyLength, FIELDS_MAX, HEAD_BYTES_MAX, Known, ResponseHead};
use crate::sides::{Answers, Flow, NoHead, Piece, Sink};
use crate::upstream::channel::Place;

/// Where one request goes. Dropped before the answer has come whole, the stream is reset (CANCEL).
#[derive(Debug)]
pub(crate) struct Origin {
    place: Place,
    asked: Rc<Asked>,
    body: Outgoing,
    /// Its number; 0 before it is opened.
    stream: Cell<u32>,
    answer: RefCell<Awaited>,
    /// The first head, or that there is none, if somebody has looked at it before the answer is read.
    first: RefCell<Option<Box<Head>>>,
}

/// A head, and what follows it if it is the one that counts.
type Head = Result<(Parts, Option<RecvStream>), Lost>;

/// What is known of the answer.
#[derive(Debug)]
enum Awaited {
    /// The request has not gone; who waits is to be woken.
    Unsent(Option<Waker>),
    /// It will come.
    Coming(ResponseFuture),
    /// There will be none.
    Lost(NoHead),
}

impl Origin {
    /// On a stream of this connection.
    pub(crate) fn new(place: Place, asked: Rc<Asked>) -> Self {
        let (body, answer) = (Outgoing::default(), RefCell::new(Awaited::Unsent(None)));
        Self { place, asked, body, stream: Cell::new(0), answer, first: RefCell::default() }
    }

    /// Where the stream is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the instance certainly has nothing of the request, whose connection has ended.
    pub(crate) fn was_late(&self) -> bool {
        self.place.has_nothing_of(self.stream.get())
    }

    /// What goes there.
    pub(crate) fn asked(&self) -> &Rc<Asked> {
        &self.asked
    }

    /// What comes back.
    pub(crate) fn answers(&self) -> Answering<'_> {
        Answering { origin: self, body: None, begun: false, reset: false }
    }

    /// Sends a request that has no body. Fails when the connection takes no more of them.
    pub(crate) fn send_whole(&self) -> io::Result<()> {
        self.open(true)
    }

    /// Ready once the first head has come, or it is known that none will. It stays for whoever reads the answer.
    pub(crate) fn poll_first(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.first.borrow().is_none() {
            let head = ready!(self.poll_answer(cx));
            *self.first.borrow_mut() = Some(Box::new(head));
        }
        Poll::Ready(())
    }

    /// What is known of the first head behind [`poll_first`](Self::poll_first): its status, or why there is none.
    pub(crate) fn first_status(&self) -> Result<StatusCode, Lost> {
        match self.first.borrow().as_deref() {
            Some(Ok((parts, _))) => Ok(parts.status),
            Some(Err(lost)) => Err(*lost),
            None => Err(Lost { why: NoHead::Closed("no answer has come yet"), reset: false }),
        }
    }

    /// Opens the stream; true when it ends with the head.
    fn open(&self, ends: bool) -> io::Result<()> {
        let (answer, sent) = match self.place.ask(self.asked.request.clone(), ends) {
            Ok((answer, stream)) => {
                self.stream.set(answer.stream_id().as_u32());
                self.body.start(stream);
                (Awaited::Coming(answer), Ok(()))
            }
            // The connection has ended, or takes no more streams: nobody has seen the request.
            Err(error) => {
                let lost = NoHead::Unprocessed("the connection to the instance ended before the request");
                (Awaited::Lost(lost), Err(gone(error)))
            }
        };
        if let Awaited::Unsent(Some(waiting)) = self.answer.replace(answer) {
            waiting.wake();
        }
        sent
    }

    fn lost(&self, error: &h2::Error) -> Lost {
        if self.place.is_flooded() {
            let why = NoHead::Invalid("the instance sent more frames without a use than are taken");
            return Lost { why, reset: false };
        }
        Lost { why: no_head(error), reset: error.is_remote() && error.is_reset() }
    }

    /// The next head.
    fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<Head> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(*first);
        }
        let mut answer = self.answer.borrow_mut();
        match &mut *answer {
            Awaited::Unsent(waiting) => {
                *waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Awaited::Coming(coming) => {
                let result = match coming.poll_informational(cx) {
                    Poll::Ready(Some(interim)) => interim.map(|head| (Parts::of(head.into_parts().0), None)),
                    Poll::Ready(None) | Poll::Pending => ready!(Pin::new(coming).poll(cx)).map(|response| {
                        let (head, body) = response.into_parts();
                        (Parts::of(head), Some(body))
                    }),
                };
                Poll::Ready(result.map_err(|error| self.lost(&error)))
            }
            Awaited::Lost(why) => Poll::Ready(Err(Lost { why: *why, reset: false })),
        }
    }
}

impl Sink for Origin {
    /// The head that is handed over is the text of the request that was made for this origin.
    async fn write(&self, head: &[u8], piece: &Piece, flow: &Flow<'_>) -> io::Result<()> {
        if !head.is_empty() {
            let raw_follows = self.asked.accept.is_some();
            let ends = piece.ended && piece.data.is_empty() && piece.trailers.is_none() && !raw_follows;
            self.open(ends)?;
            flow.taken(head.len(), 0);
            if ends || raw_follows {
                flow.done(0);
                return Ok(());
            }
        }
        self.body.send(piece, flow).await
    }

    async fn end(&self) -> io::Result<()> {
        self.body.end()
    }

    /// All that was handed over went into the instance's windows; whether there is room for more says whether it reads.
    async fn has_room(&self) -> io::Result<()> {
        self.body.has_room().await
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost {
    /// What became of it.
    pub why: NoHead,
    /// The instance reset the stream; its connection goes on.
    pub reset: bool,
}

/// What comes back for one request.
#[derive(Debug)]
pub(crate) struct Answering<'o> {
    origin: &'o Origin,
    body: Option<RecvStream>,
    begun: bool,
    reset: bool,
}

impl Answering<'_> {
    /// Whether the instance reset the stream before an answer, rather than to end the connection.
    pub(crate) fn was_reset(&self) -> bool {
        self.reset
    }
}

impl Answers for Answering<'_> {
    type Body<'a>
        = Body
    where
        Self: 'a;

    async fn head(&mut self, to_head: bool) -> Result<ResponseHead, NoHead> {
        let polled = poll_fn(|cx| self.origin.poll_answer(cx)).await;
        let (parts, body) = polled.map_err(|Lost { why, reset }| {
            self.reset = reset;
            why
        })?;
        self.begun = true;
        self.origin.place.has_served();
        let ends = body.as_ref().is_some_and(RecvStream::is_end_stream);
        self.body = body;
        read(&parts, self.origin.asked.accept.as_ref(), ends, to_head)
    }

    fn body(&mut self, length: BodyLength) -> Body {
        // The exchange asks for it once, behind the head that counts.
        self.body.take().map_or_else(Body::lost, |stream| Body::new(stream, length != BodyLength::Empty))
    }

    fn has_begun(&self) -> bool {
        self.begun
    }

    fn is_clean(&self) -> bool {
        true
    }
}

/// Status and fields.
#[derive(Debug)]
struct Parts {
    status: StatusCode,
    fields: HeaderMap,
}

impl Parts {
    fn of(head: http::response::Parts) -> Self {
        Self { status: head.status, fields: head.headers }
    }
}

/// Reads a head by the rules of HTTP/1.1. A granted CONNECT becomes the switch that was asked for, with this `accept` if the
/// protocol wants one.
fn read(parts: &Parts, accept: Option<&Accept>, ends: bool, to_head: bool) -> Result<ResponseHead, NoHead> {
    let mut text = BytesMut::with_capacity(512);
    let granted = accept.filter(|_| parts.status.is_success());
    let status = if granted.is_some() { StatusCode::SWITCHING_PROTOCOLS } else { parts.status };
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(NoHead::Invalid("the instance answered 101, which HTTP/2 does not have"));
    }
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or(""), "\r\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    if let Some(granted) = granted {
        push_line(&mut text, b"upgrade", granted.protocol.as_bytes());
        push_line(&mut text, b"connection", b"upgrade");
        if let Some(key) = &granted.key {
            push_line(&mut text, b"sec-websocket-accept", key);
        }
    }
    let lines = push_lines(&mut text, &parts.fields);
    text.extend_from_slice(b"\r\n");
    if lines > FIELDS_MAX || text.len() > HEAD_BYTES_MAX {
        return Err(NoHead::Invalid("the answer's header has more than 100 fields or 64 KiB"));
    }
    let mut head =
        ResponseHead::read(text.freeze(), to_head).map_err(|invalid| NoHead::Invalid(invalid.0))?;
    // The end of the stream says that there is no body, where HTTP/1.1 needs a length for it. An answer of gRPC that ends so
    // stays without one.
    if ends && head.framing.length == BodyLength::UntilClose && !is_grpc(head.values(Known::ContentType)) {
        (head.framing.length, head.framing.announced) = (BodyLength::Empty, Some(0));
    }
    Ok(head)
}

/// What an error in place of an answer means. Only what the instance itself says it has not looked at is known to be
/// untouched.
fn no_head(error: &h2::Error) -> NoHead {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_remote() => {
            NoHead::Unprocessed("the instance refused the stream")
        }
        Some(_) if error.is_remote() && error.is_go_away() => {
            NoHead::Unprocessed("the instance is about to close the connection and did not take the request")
        }
        Some(Reason::HTTP_1_1_REQUIRED) if error.is_remote() => {
            NoHead::Closed("the instance wants HTTP/1.1 for this: set `fairway.protocol` to http1 or https")
        }
        Some(_) if error.is_remote() => NoHead::Closed("the instance reset the stream before it answered"),
        Some(_) => NoHead::Invalid(
            "the instance's answer breaks the rules of HTTP/2, or its header is far too large",
        ),
        None => NoHead::Closed("the connection to the instance broke before an answer"),
    }
}
