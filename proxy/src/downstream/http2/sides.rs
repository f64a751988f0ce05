//! The client's side of one request on an HTTP/2 stream: its body, and where its answer goes.
//!
//! Not here: frames and windows (see `crate::http2`).

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use crate::h1::chunked::ChunkError;
use crate::h1::{BodyLength, ResponseHead, Version};
use crate::http2::frame::Code;
use crate::http2::stream::{Ended, Handle, There};
use crate::sides::{Downstream, Flow, Piece, Sink, Source, SourceError};

/// The field that answers the key of a WebSocket, which was ours.
const ACCEPT: &[u8] = b"sec-websocket-accept:";

/// The answer to one request. Once it is dropped nothing more comes, and what is missing is cut.
#[derive(Debug)]
pub(crate) struct Answer {
    stream: Handle,
    /// The request is an extended CONNECT: an answer of 2xx says that it is granted.
    is_connect: bool,
}

impl Answer {
    /// On this stream.
    pub(super) fn new(stream: Handle, is_connect: bool) -> Self {
        Self { stream, is_connect }
    }

    /// How the stream ended, if it has.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.stream.ended()
    }

    /// Sends a head, whose text is our own.
    fn send_head(&self, text: &[u8], ends: bool) -> io::Result<()> {
        let line_end = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
        let status = match text.get(9..12) {
            Some(digits) if digits.iter().all(u8::is_ascii_digit) => {
                digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let lines = &text[line_end..];
        if status == 101 {
            // Granted, in the words of HTTP/2.
            let is_accept =
                |line: &&[u8]| line.get(..ACCEPT.len()).is_some_and(|name| name.eq_ignore_ascii_case(ACCEPT));
            let kept: Vec<&[u8]> =
                lines.split_inclusive(|octet| *octet == b'\n').filter(|line| !is_accept(line)).collect();
            return self.stream.send_head(200, &kept.concat(), false);
        }
        self.stream.send_head(status, lines, ends)
    }

    async fn send(&self, piece: &Piece, flow: &Flow<'_>) -> io::Result<()> {
        let trailers = piece.trailers.as_ref().filter(|trailers| piece.ended && !trailers.is_empty());
        let ends = piece.ended && trailers.is_none();
        let mut left = &piece.data[..];
        if !left.is_empty() {
            flow.waits();
        }
        while !left.is_empty() {
            let sent = poll_fn(|cx| self.stream.poll_send(cx, left, ends)).await?;
            left = &left[sent..];
            flow.taken(sent, left.len());
        }
        if ends && piece.data.is_empty() {
            self.end().await?;
        }
        if let Some(trailers) = trailers {
            self.stream.send_trailers(trailers.lines())?;
        }
        flow.done(piece.data.len());
        Ok(())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.stream.finish();
    }
}

impl Sink for Answer {
    async fn write(&self, head: &[u8], piece: &Piece, flow: &Flow<'_>) -> io::Result<()> {
        if !head.is_empty() {
            let has_trailers = piece.trailers.as_ref().is_some_and(|trailers| !trailers.is_empty());
            let ends = piece.ended && piece.data.is_empty() && !has_trailers;
            self.send_head(head, ends)?;
            if ends {
                flow.done(0);
                return Ok(());
            }
        }
        self.send(piece, flow).await
    }

    async fn end(&self) -> io::Result<()> {
        poll_fn(|cx| self.stream.poll_send(cx, b"", true)).await.map(drop)
    }
}

impl Downstream for Answer {
    const HTTP2: bool = true;

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_gone(cx)
    }

    fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_gone(cx)
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
        self.stream.reset(Code::Internal);
    }

    fn misreads(&self, answer: &ResponseHead) -> Option<&'static str> {
        (self.is_connect && (200..300).contains(&answer.status))
            .then_some("the instance did not switch to the protocol that was asked for")
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct Body {
    stream: Handle,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The message has no body, whatever the stream does.
    None,
    /// More may come.
    Open,
    /// All of it has been taken.
    Done,
}

impl Body {
    /// Of a request with or without a body.
    pub(super) fn new(stream: Handle, has_body: bool) -> Self {
        Self { stream, state: if has_body { State::Open } else { State::None } }
    }
}

impl Source for Body {
    async fn there(&mut self) -> Piece {
        if self.state != State::Open {
            return Piece::whole(bytes::Bytes::new());
        }
        match self.stream.take() {
            There::Some(data) => Piece { data, ..Piece::default() },
            There::Cut => Piece::default(),
            There::Last(data, Some(Err(_))) => {
                Piece { data, broken: Some(ChunkError::Trailer), ..Piece::default() }
            }
            There::Last(data, trailers) => {
                self.state = State::Done;
                let trailers = trailers.and_then(Result::ok).filter(|trailers| !trailers.is_empty());
                Piece { data, ended: true, trailers, broken: None }
            }
        }
    }

    async fn more(&mut self) -> Result<(), SourceError> {
        if self.state != State::Open {
            return Ok(());
        }
        poll_fn(|cx| {
            ready!(self.stream.poll_there(cx));
            Poll::Ready(match self.stream.cut() {
                None => Ok(()),
                Some(Ended::Broken) => Err(SourceError::Invalid),
                Some(Ended::Lost) => Err(SourceError::Read),
                Some(Ended::ByClient | Ended::ByUs) => Err(SourceError::Cut),
            })
        })
        .await
    }

    fn is_done(&self) -> bool {
        self.state != State::Open
    }

    fn rest(&mut self) {}

    fn become_raw(&mut self) {
        self.state = State::Open;
    }
}
