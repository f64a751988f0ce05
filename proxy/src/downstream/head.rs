//! Waits for the next request of a connection and reads its head.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fairway_config::file::Limits;
use tokio::time::Instant;

use super::http2::PREFACE_HEAD;
use super::{Connection, Visit, refused};
use crate::buffers::make_room;
use crate::h1::syntax::is_token_octet;
use crate::h1::{HeadLimits, HeadScanner, Refused, RequestHead, Scan};
use crate::reason::Reason;
use crate::stream::Stream;
use crate::turn;

/// How long a connection may idle once the worker drains: a client that sends request after request gets one more answer,
/// which says `Connection: close`, rather than a closed connection.
const IDLE_DRAINING: Duration = Duration::from_secs(1);

/// Longest method and version around a target.
const AROUND_TARGET: usize = 64;

/// What comes next on a connection.
pub(super) enum Next {
    /// A request, and when its first octet was there.
    Request(Box<RequestHead>, Instant),
    /// Something that is none.
    Refused(Refused, Instant),
    /// The preface of HTTP/2, which is still in the buffer.
    Http2,
    /// Nothing: it idled for too long, or the worker stops.
    Finished,
    /// The client is gone.
    Gone,
}

impl<S: Stream> Connection<S> {
    pub(super) async fn next_head(&mut self) -> Next {
        loop {
            if self.buffer.is_empty() {
                let empty = std::mem::take(&mut self.buffer);
                self.visit.worker.buffers.give_back(empty);
                if !self.idle().await {
                    return Next::Finished;
                }
                self.buffer = self.visit.worker.buffers.lend();
            }
            let began = turn::now();
            let limits = self.visit.door.limits.get();
            match self.read_head(began + limits.header_time, head_limits(&limits)).await {
                Ok(Some(head)) => return Next::Request(Box::new(head), began),
                Ok(None) if self.buffer.is_empty() => {} // nothing, or the empty line that some clients send after a body
                Ok(None) => return Next::Gone,
                Err(Stop::Refused(refused)) => return Next::Refused(refused, began),
                Err(Stop::Http2) => return Next::Http2,
                Err(Stop::Gone) => return Next::Gone,
            }
        }
    }

    /// Waits without a buffer for something to read. False when it has taken too long, or the worker drains.
    async fn idle(&mut self) -> bool {
        let since = turn::now();
        let Self { io, visit: Visit { worker, door, .. }, timer, .. } = self;
        poll_fn(|cx| {
            if io.poll_readable(cx).is_ready() {
                return Poll::Ready(true);
            }
            let longest = door.limits.get().idle_time;
            let longest = if worker.is_draining() { IDLE_DRAINING.min(longest) } else { longest };
            timer.poll_passed(cx, since + longest).map(|()| false)
        })
        .await
    }

    /// Reads one head. `None` when nothing was there, or nothing but an empty line.
    async fn read_head(&mut self, limit: Instant, limits: HeadLimits) -> Result<Option<RequestHead>, Stop> {
        let mut scanner = HeadScanner::within(limits);
        let mut started = false;
        loop {
            if !started && !self.buffer.is_empty() {
                match skip_empty_line(&mut self.buffer) {
                    Skipped::Unknown => {}
                    Skipped::Done if self.buffer.is_empty() => return Ok(None),
                    Skipped::Done => started = true,
                }
            }
            if started && let Scan::Complete(end) = look(&mut scanner, &self.buffer, limits)? {
                if self.is_fresh && &self.buffer[..end] == PREFACE_HEAD {
                    return Err(Stop::Http2);
                }
                // A copy of the head alone: the buffer is free for others while the request waits for its answer.
                let raw = Bytes::copy_from_slice(&self.buffer[..end]);
                self.buffer.advance(end);
                return Ok(Some(RequestHead::read_within(raw, limits)?));
            }
            make_room(&mut self.buffer);
            let read = if self.buffer.is_empty() {
                match self.read_at_once().await {
                    Some(read) => read,
                    // The runtime takes a new connection for readable before anything has come: nobody has begun a header.
                    None => return Ok(None),
                }
            } else {
                let read = self.timer.within(limit, self.io.read(&mut self.buffer)).await;
                read.ok_or_else(|| refused(Reason::ClientTimeout, "the header did not arrive in time"))?
            };
            match read {
                Ok(1..) => {}
                // Closed by the client between requests, or in the middle of one that nobody will answer.
                Ok(0) | Err(_) => return Err(Stop::Gone),
            }
        }
    }

    /// Reads what is there; `None` when nothing is.
    async fn read_at_once(&mut self) -> Option<io::Result<usize>> {
        let mut read = pin!(self.io.read(&mut self.buffer));
        poll_fn(|cx| match read.as_mut().poll(cx) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

/// The part of the limits that heads are read within.
pub(crate) fn head_limits(limits: &Limits) -> HeadLimits {
    HeadLimits { bytes: limits.header_bytes, fields: limits.header_fields, target_bytes: limits.target_bytes }
}

/// Why no head was read.
enum Stop {
    Refused(Refused),
    Http2,
    Gone,
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

enum Skipped {
    /// One octet more is needed.
    Unknown,
    Done,
}

/// One empty line in front of a request is skipped (RFC 9112 section 2.2).
fn skip_empty_line(buffer: &mut BytesMut) -> Skipped {
    if &buffer[..] == b"\r" {
        return Skipped::Unknown;
    }
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
    }
    Skipped::Done
}

/// Scans, and refuses at once what can no longer become a request: TLS on a plain port, a target without end.
fn look(scanner: &mut HeadScanner, buffer: &[u8], limits: HeadLimits) -> Result<Scan, Refused> {
    if scanner.is_fresh() && buffer.first().is_some_and(|first| !is_token_octet(*first)) {
        let detail = if buffer[0] == 0x16 {
            "this port speaks plain HTTP, and this looks like TLS"
        } else {
            "a request starts with a method"
        };
        return Err(refused(Reason::RequestInvalid, detail));
    }
    let scan = scanner.scan(buffer)?;
    if !scanner.has_first_line() && buffer.len() > limits.target_bytes + AROUND_TARGET {
        return Err(refused(Reason::TargetTooLong, "the request target is longer than this listener takes"));
    }
    Ok(scan)
}
