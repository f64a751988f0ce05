//! Bodies of answers, made while they are sent.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::HeaderMap;
use hyper::body::Frame;
use tokio::time::sleep;

/// The body of any answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Octets per frame of a long body.
const FRAME: u64 = 32 * 1024;

static FILLER: [u8; FRAME as usize] = [b'x'; FRAME as usize];

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn whole(octets: impl Into<Bytes>) -> Body {
    Full::new(octets.into()).map_err(|never| match never {}).boxed_unsync()
}

/// `count` times `x`.
pub(super) fn filler(count: u64) -> Body {
    let frames = stream::unfold(count, |left| async move {
        let now = left.min(FRAME);
        (now > 0).then(|| (Ok(Frame::data(filler_frame(now))), left - now))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// `count` times `x`, then an end that is a failure: hyper drops the connection, a length promised or not.
pub(super) fn broken(count: u64) -> Body {
    let start = stream::iter((count > 0).then(|| Ok(Frame::data(filler_frame(count.min(FRAME))))));
    let end = stream::once(async {
        // hyper writes out what it has whenever a body has nothing more to give for now.
        tokio::task::yield_now().await;
        Err(io::Error::other("broken off as asked"))
    });
    BodyExt::boxed_unsync(StreamBody::new(start.chain(end)))
}

/// `count` pieces made by `piece` from their number, `pause` before each but the first.
pub(super) fn paced(count: u64, pause: Duration, piece: impl Fn(u64) -> String + Send + 'static) -> Body {
    paced_until(std::future::pending(), count, pause, piece, "")
}

/// The same, ended early by `end`, with `last` behind it: whoever gets that knows that nobody cut it.
pub(super) fn paced_until(
    end: impl Future<Output = ()> + Send + 'static,
    count: u64,
    pause: Duration,
    piece: impl Fn(u64) -> String + Send + 'static,
    last: &'static str,
) -> Body {
    let frames = stream::unfold((0, piece), move |(at, piece)| async move {
        if at == count {
            return None;
        }
        if at > 0 {
            sleep(pause).await;
        }
        Some((Ok(Frame::data(piece(at).into())), (at + 1, piece)))
    });
    let last = stream::iter((!last.is_empty()).then(|| Ok(Frame::data(Bytes::from_static(last.as_bytes())))));
    BodyExt::boxed_unsync(StreamBody::new(frames.take_until(end).chain(last)))
}

/// The octets, then these trailer fields.
pub(super) fn with_trailers(octets: Bytes, trailers: HeaderMap) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(stream::iter([
        Ok(Frame::data(octets)),
        Ok(Frame::trailers(trailers)),
    ])))
}

fn filler_frame(count: u64) -> Bytes {
    let count = usize::try_from(count).unwrap_or(FILLER.len()).min(FILLER.len());
    Bytes::from_static(&FILLER[..count])
}
