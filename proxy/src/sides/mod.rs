//! The two sides of an exchange, whatever is spoken there: heads as HTTP/1.1 texts, bodies as pieces without framing.
//!
//! The head of a request or an answer is always the text that [`h1`](crate::h1) reads and writes, checked by the same strict
//! rules: a side that speaks another protocol translates. So there is one reading of a request, and nothing that one
//! protocol allows can mean something else in another. Bodies stay as they come.
//!
//! - [`http1`]: the sides of HTTP/1.1 connections.
//! - [`http2`]: the sides of HTTP/2 streams.
//!
//! Not here: what an exchange does with its sides (see `downstream`), moving bodies (see `relay`).

pub(crate) mod http1;
pub(crate) mod http2;

use std::cell::Cell;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::deadline::Wait;
use crate::h1::chunked::ChunkError;
use crate::h1::{BodyLength, ResponseHead, Trailers, Version};
use crate::reason::Reason;

/// A piece of a body without its framing.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// The octets.
    pub data: Bytes,
    /// The body ends behind them.
    pub ended: bool,
    /// The fields after the end.
    pub trailers: Option<Trailers>,
    /// What follows breaks the framing.
    pub broken: Option<ChunkError>,
}

impl Piece {
    /// The whole body of a message that has none, or a whole body.
    pub(crate) fn whole(data: Bytes) -> Self {
        Self { data, ended: true, ..Self::default() }
    }
}

/// Why a body comes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceError {
    /// The source ended before its body did.
    Cut,
    /// Reading failed.
    Read,
    /// The source broke the rules of its protocol, and its stream was reset for it.
    Invalid,
}

/// Where a body comes from.
pub(crate) trait Source {
    /// What is there already; never waits.
    async fn there(&mut self) -> Piece;

    /// Waits until there is more, or the body has ended. May be dropped without losing an octet.
    async fn more(&mut self) -> Result<(), SourceError>;

    /// Whether all of it has been taken.
    fn is_done(&self) -> bool;

    /// Gives back the memory that is not needed while nobody reads.
    fn rest(&mut self);

    /// What follows is no body but raw octets, up to the end of the other side's direction.
    fn become_raw(&mut self);
}

/// Where a message goes to.
pub(crate) trait Sink {
    /// Hands over a head and a piece of the body behind it, in one go as far as possible; either may be empty. Waits for the
    /// other side to take them.
    async fn write(&self, head: &[u8], piece: &Piece, flow: &Flow<'_>) -> io::Result<()>;

    /// Ends our direction.
    async fn end(&self) -> io::Result<()>;

    /// Waits until the other side has had room for all that was handed over, as far as that can be seen. An error: it takes
    /// nothing more.
    async fn has_room(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The client's side of one request, as far as answers go.
pub(crate) trait Downstream: Sink {
    /// The client speaks HTTP/2, as `Via` tells.
    const HTTP2: bool = false;

    /// Ready once the client has gone, and takes no answer any more.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready once the client has gone, or has ended its direction, as a client that gives up does. One that only says that it
    /// sends nothing more looks the same; so this is asked while nobody works for the request yet.
    fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready once the client has gone, also while what it has sent lies unread. May wake nobody when that happens.
    fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// How a body of this length is framed towards a client that speaks this version.
    fn framing(&self, version: Version, length: BodyLength) -> BodyLength;

    /// Makes the client see that the rest of an answer that was framed so is missing.
    fn cut(&self, length: BodyLength);

    /// Why the client would take this answer for something else.
    fn misreads(&self, _: &ResponseHead) -> Option<&'static str> {
        None
    }
}

/// Why there is no head of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NoHead {
    /// The connection, or the stream, ended before a whole head.
    Closed(&'static str),
    /// The same, and the instance has done nothing about the request: it may go anywhere else, whatever its method.
    Unprocessed(&'static str),
    /// What came is none.
    Invalid(&'static str),
}

/// The instance's side of one request, as far as answers come.
pub(crate) trait Answers {
    /// The body of an answer.
    type Body<'a>: Source
    where
        Self: 'a;

    /// The next head: of an answer that comes before the one that counts, or of that one. The answer to a HEAD request if
    /// `to_head`.
    async fn head(&mut self, to_head: bool) -> Result<ResponseHead, NoHead>;

    /// The body behind the last head.
    fn body(&mut self, length: BodyLength) -> Self::Body<'_>;

    /// Whether anything has come from the instance: after that nobody knows what it did.
    fn has_begun(&self) -> bool;

    /// Whether nothing is left over behind the answer.
    fn is_clean(&self) -> bool;
}

/// How octets go to the other side, and who counts them.
#[derive(Debug)]
pub(crate) struct Flow<'a> {
    /// Bodies are chunked anew, where the protocol needs framing of its own.
    pub chunked: bool,
    /// What this direction waits for.
    pub waits: &'a Cell<Wait>,
    /// Longest time without the other side taking an octet.
    pub patience: Duration,
    /// What it means if it takes longer.
    pub late: Reason,
    /// Octets taken by the other side, framing included; where somebody counts them.
    pub sent: Option<&'a Cell<u64>>,
    /// Octets of bodies handed over.
    pub body_bytes: &'a Cell<u64>,
}

impl Flow<'_> {
    /// The other side is asked to take octets.
    pub(crate) fn waits(&self) {
        crate::deadline::wait(self.waits, self.patience, self.late);
    }

    /// It took some; `left` are still there.
    pub(crate) fn taken(&self, octets: usize, left: usize) {
        if let Some(sent) = self.sent {
            sent.set(sent.get() + octets as u64);
        }
        if left > 0 {
            self.waits();
        }
    }

    /// It took all, among them `body` octets of a body.
    pub(crate) fn done(&self, body: usize) {
        crate::deadline::wait_no_longer(self.waits);
        self.body_bytes.set(self.body_bytes.get() + body as u64);
    }
}
