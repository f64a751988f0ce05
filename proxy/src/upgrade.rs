//! Connections that stop being HTTP: which upgrades are passed on, and the octets afterwards (RFC 9110 section 7.8).
//!
//! Raw octets flow only after a 101 that was asked for; `h2c` is never passed on, so that nobody can speak HTTP past us.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::deadline::Wait;
use crate::h1::syntax::list;
use crate::h1::{BodyLength, Known, Refused, RequestHead, ResponseHead};
use crate::reason::Reason;
use crate::request::Fields as _;
use crate::sides::{Flow, Piece, Sink, Source};
use crate::websocket;

/// Longest silence of both sides, unless the backend's labels say otherwise: those who keep such a connection open mean to
/// wait.
pub(crate) const QUIET: Duration = Duration::from_secs(3600);

/// The protocol that the request asks for, if the listener passes it on; others are ignored, as RFC 9110 allows. A request
/// with a body cannot be upgraded: where the body ends and the new protocol starts could be read in two ways.
pub(crate) fn wanted<'a>(
    head: &RequestHead,
    allowed: &'a [Arc<str>],
) -> Result<Option<&'a Arc<str>>, Refused> {
    if !head.upgrades {
        return Ok(None);
    }
    let asked = head.values(Known::Upgrade).flat_map(list);
    let allowed = |token: &[u8]| {
        let mut tokens = allowed.iter().filter(|token| !token.eq_ignore_ascii_case("h2c"));
        tokens.find(|allowed| token.eq_ignore_ascii_case(allowed.as_bytes()))
    };
    match asked.filter_map(allowed).next() {
        Some(_) if head.body != BodyLength::Empty => {
            Err(Refused::new(Reason::UpgradeRefused, "a request with a body cannot be upgraded"))
        }
        wanted => Ok(wanted),
    }
}

/// Whether this answer switches to the protocol that was asked for, and to that alone.
pub(crate) fn is_granted(head: &ResponseHead, wanted: &str) -> bool {
    let mut granted = head.values(Known::Upgrade).flat_map(list);
    granted.next().is_some_and(|token| token.eq_ignore_ascii_case(wanted.as_bytes()))
        && granted.next().is_none()
}

/// Whether an answer that switches to WebSocket shows that the instance has read the request's key. A client of HTTP/1.1
/// sees to that itself; to one of HTTP/2 the answer to the key is not passed on.
pub(crate) fn knows_the_key(head: &RequestHead, answer: &ResponseHead) -> bool {
    let Some(key) = head.get("sec-websocket-key") else { return false };
    let mut said = answer.named(b"sec-websocket-accept");
    said.next() == Some(websocket::accept(key).as_bytes()) && said.next().is_none()
}

/// One direction of a tunnel.
struct Way<'a, R, W> {
    from: &'a mut R,
    to: &'a W,
    /// Shared by both directions: whatever moves, moves it on.
    waits: &'a Cell<Wait>,
    quiet: Duration,
    moved: &'a Cell<u64>,
}

impl<R: Source, W: Sink> Way<'_, R, W> {
    /// Moves octets until the source ends, then ends the other side, too. No buffer is held while nothing comes.
    async fn run(&mut self) -> io::Result<()> {
        let late = Reason::UpstreamTimeout;
        let (waits, patience) = (self.waits, self.quiet);
        let flow = Flow { chunked: false, waits, patience, late, sent: None, body_bytes: self.moved };
        loop {
            let piece = self.from.there().await;
            if !piece.data.is_empty() {
                self.to.write(b"", &Piece { ended: false, ..piece }, &flow).await?;
            } else if piece.ended {
                return self.to.end().await;
            } else {
                drop(piece);
                self.from.rest();
                self.from.more().await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
            }
            flow.waits();
        }
    }
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tunnelled {
    /// Octets that went down.
    pub down_bytes: u64,
    /// Why it ended.
    pub end: TunnelEnd,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelEnd {
    /// Both sides ended it.
    Both,
    /// One side failed.
    Failed,
    /// Nothing came for too long, or the stop of the process had no more patience.
    Quiet,
}

/// Moves octets both ways until both sides have ended, one of them fails, or neither says anything for `quiet`.
pub(crate) async fn tunnel(
    from_down: &mut impl Source,
    down: &impl Sink,
    from_up: &mut impl Source,
    up: &impl Sink,
    quiet: Duration,
) -> Tunnelled {
    let waits = Cell::new(Wait { limit: Some(Instant::now() + quiet), reason: Reason::UpstreamTimeout });
    let (went_up, went_down) = (Cell::new(0), Cell::new(0));
    let mut upwards = Way { from: from_down, to: up, waits: &waits, quiet, moved: &went_up };
    let mut downwards = Way { from: from_up, to: down, waits: &waits, quiet, moved: &went_down };
    let end = {
        let both = async { tokio::try_join!(upwards.run(), downwards.run()) };
        let silence = async {
            while let Some(limit) = waits.get().limit.filter(|limit| *limit > Instant::now()) {
                tokio::time::sleep_until(limit).await;
            }
        };
        tokio::select! {
            ended = both => if ended.is_ok() { TunnelEnd::Both } else { TunnelEnd::Failed },
            () = silence => TunnelEnd::Quiet,
        }
    };
    Tunnelled { down_bytes: went_down.get(), end }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn asked(fields: &str, allowed: &[&str]) -> Result<Option<String>, Reason> {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = RequestHead::read(Bytes::from(head.into_bytes())).expect("a request");
        let allowed: Vec<Arc<str>> = allowed.iter().map(|token| (*token).into()).collect();
        wanted(&head, &allowed).map(|token| token.map(ToString::to_string)).map_err(|refused| refused.reason)
    }

    #[test]
    fn only_the_listeners_protocols_are_passed_on_and_h2c_never() {
        let some = |token: &str| Ok(Some(token.to_owned()));
        let upgrade = "Connection: Upgrade\r\n";
        for (fields, allowed, want) in [
            (format!("{upgrade}Upgrade: WebSocket\r\n"), &["websocket"][..], some("websocket")),
            (format!("{upgrade}Upgrade: h2c, websocket\r\n"), &["websocket"], some("websocket")),
            (format!("{upgrade}Upgrade: h2c\r\n"), &["websocket", "h2c"], Ok(None)),
            (format!("{upgrade}Upgrade: tcp\r\n"), &["websocket"], Ok(None)),
            (format!("{upgrade}Upgrade: tcp\r\n"), &["websocket", "tcp"], some("tcp")),
            ("Upgrade: websocket\r\n".into(), &["websocket"], Ok(None)),
            (upgrade.into(), &["websocket"], Ok(None)),
            (
                format!("{upgrade}Upgrade: websocket\r\nContent-Length: 3\r\n"),
                &["websocket"],
                Err(Reason::UpgradeRefused),
            ),
        ] {
            assert_eq!(asked(&fields, allowed), want, "{fields:?}");
        }
    }
}
