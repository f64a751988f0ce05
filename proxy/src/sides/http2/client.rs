//! The client's side of one request on an HTTP/2 stream, as far as answers go.
//!
//! Not here: the request (see `request`, `body`).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Response, StatusCode};

use super::fields::read_lines;
use super::send::{Outgoing, gone};
use crate::h1::{BodyLength, ResponseHead, Version};
use crate::sides::{Downstream, Flow, Piece, Sink};

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    respond: RefCell<SendResponse<Bytes>>,
    body: Outgoing,
    /// The request is an extended CONNECT: an answer of 2xx says that it is granted.
    is_connect: bool,
}

impl Answer {
    /// On this stream.
    pub(crate) fn new(respond: SendResponse<Bytes>, is_connect: bool) -> Self {
        Self { respond: RefCell::new(respond), body: Outgoing::default(), is_connect }
    }

    /// Whether the client has gone already.
    pub(crate) async fn is_gone(&self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_gone(cx).is_ready())).await
    }

    /// Sends a head, whose text is our own; true when the stream ends with it.
    fn send_head(&self, text: &[u8], ends: bool) -> io::Result<bool> {
        let line_end = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
        let status = text.get(9..12).and_then(|digits| StatusCode::from_bytes(digits).ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let mut response = Response::new(());
        *response.headers_mut() = read_lines(&Bytes::copy_from_slice(&text[line_end..]));
        let mut respond = self.respond.borrow_mut();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // Granted, in the words of HTTP/2; the key was ours, and so is the answer to it.
            response.headers_mut().remove("sec-websocket-accept");
            self.body.start(respond.send_response(response, false).map_err(gone)?);
            return Ok(false);
        }
        *response.status_mut() = status;
        if status.is_informational() {
            respond.send_informational(response).map_err(gone)?;
            return Ok(false);
        }
        self.body.start(respond.send_response(response, ends).map_err(gone)?);
        Ok(ends)
    }
}

impl Sink for Answer {
    async fn write(&self, head: &[u8], piece: &Piece, flow: &Flow<'_>) -> io::Result<()> {
        if !head.is_empty() {
            let ends = piece.ended && piece.data.is_empty() && piece.trailers.is_none();
            if self.send_head(head, ends)? {
                flow.done(0);
                return Ok(());
            }
        }
        self.body.send(piece, flow).await
    }

    async fn end(&self) -> io::Result<()> {
        self.body.end()
    }
}

impl Downstream for Answer {
    const HTTP2: bool = true;

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.body.poll_reset(cx) {
            Some(gone) => gone,
            None => self.respond.borrow_mut().poll_reset(cx).map(drop),
        }
    }

    fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<()> {
        // The connection is read whatever becomes of its streams.
        self.poll_gone(cx)
    }

    fn framing(&self, _: Version, length: BodyLength) -> BodyLength {
        match length {
            // Written into the head as if for HTTP/1.1, so that `Trailer` stays; it goes no further than this side.
            BodyLength::UntilClose => BodyLength::Chunked,
            known => known,
        }
    }

    fn cut(&self, _: BodyLength) {
        self.body.reset(Reason::INTERNAL_ERROR);
    }

    fn misreads(&self, answer: &ResponseHead) -> Option<&'static str> {
        (self.is_connect && (200..300).contains(&answer.status))
            .then_some("the instance did not switch to the protocol that was asked for")
    }
}
