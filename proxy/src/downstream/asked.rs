//! A request without a body that has been sent to an instance, and whose answer is waited for before anybody reads it: over
//! a connection of its own, or a stream of a shared one.
//!
//! Dropped, it is taken back: the connection is closed, the stream reset. Not here: why a request is sent so (see `hedge`),
//! what then happens to its answer (see `exchange`).

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use fairway_config::labels::Protocol;
use tokio::time::Instant;

use super::call::Call;
use crate::buffers::{Buffers, read_lent};
use crate::h1::Refused;
use crate::pick::Pick;
use crate::reason::Reason;
use crate::sides::http2::asked::Asked as Head;
use crate::sides::http2::origin::{Lost, Origin};
use crate::sides::{Downstream, NoHead, Source};
use crate::turn;
use crate::upstream::Upstream;
use crate::upstream::pool::Wanted;

/// What an answer of HTTP/1.1 starts with, and where its status is.
const START: &[u8] = b"HTTP/1.";
const STATUS: Range<usize> = "HTTP/1.1 ".len().."HTTP/1.1 200".len();

/// A request that was sent.
pub(super) struct Asked {
    pub(super) way: Way,
    /// Since when the instance knows of it.
    pub(super) chosen: Instant,
    /// Why it will not be answered, if that was seen while another instance was asked.
    pub(super) failed: Option<Reason>,
}

/// Where it was sent.
pub(super) enum Way {
    /// On this connection; with what has been read of the answer.
    Http1(Upstream, BytesMut),
    /// On a stream; boxed, so that connections that only speak HTTP/1.1 need no room for it.
    Http2(Box<Origin>),
}

/// How an answer starts.
pub(super) enum Start {
    /// With this status.
    Status(u16),
    /// There is none, and that says nothing of the instance: the connection was closed at the same moment, perhaps.
    Nothing,
    /// There is none, by a fault of the instance.
    Fault(Reason),
}

impl Asked {
    /// Ready once the instance says something, with true, or nothing more. What has come stays for whoever reads the answer.
    pub(super) fn poll_answers(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<bool> {
        match &mut self.way {
            Way::Http1(_, read) if !read.is_empty() => Poll::Ready(true),
            Way::Http1(up, read) => {
                pin!(read_lent(up, read, buffers)).poll(cx).map(|read| matches!(read, Ok(1..)))
            }
            Way::Http2(origin) => origin.poll_first(cx).map(|()| origin.first_status().is_ok()),
        }
    }

    /// How the answer starts, once that is known.
    pub(super) async fn start(&mut self, buffers: &Buffers) -> Start {
        match &mut self.way {
            Way::Http1(up, read) => {
                while read.len() < STATUS.end {
                    if !matches!(read_lent(up, read, buffers).await, Ok(1..)) {
                        return Start::Nothing;
                    }
                }
                let status = str::from_utf8(&read[STATUS]).ok().filter(|_| read.starts_with(START));
                let status = status.and_then(|status| status.parse().ok());
                status.map_or(Start::Fault(Reason::UpstreamInvalid), Start::Status)
            }
            Way::Http2(origin) => {
                poll_fn(|cx| origin.poll_first(cx)).await;
                match origin.first_status() {
                    Ok(status) => Start::Status(status.as_u16()),
                    Err(Lost { why: NoHead::Invalid(_), .. }) => Start::Fault(Reason::UpstreamInvalid),
                    Err(Lost { why: NoHead::Closed(_), reset: true }) => Start::Fault(Reason::UpstreamClosed),
                    Err(Lost { why: NoHead::Unprocessed(_), reset: true }) => {
                        Start::Fault(Reason::UpstreamRefused)
                    }
                    Err(Lost { reset: false, .. }) => Start::Nothing,
                }
            }
        }
    }

    /// It was not answered in time.
    pub(super) fn doubt(&self) {
        if let Way::Http2(origin) = &self.way {
            origin.place().doubt();
        }
    }
}

impl<D: Downstream, B: Source> Call<'_, D, B> {
    /// Sends the request to the instance of this pick; `None` if the connection does not take it.
    pub(super) async fn ask(&mut self, pick: &Pick, head_up: &[u8]) -> Result<Option<Asked>, Refused> {
        let chosen = turn::now();
        let way = match pick.version.settings.protocol {
            Protocol::Http1 | Protocol::Https => self.on_connection(pick, head_up).await?,
            Protocol::H2c | Protocol::H2 => self.on_stream(pick, head_up).await?,
        };
        Ok(way.map(|way| Asked { way, chosen, failed: None }))
    }

    async fn on_connection(&mut self, pick: &Pick, head_up: &[u8]) -> Result<Option<Way>, Refused> {
        let kept = self.visit.kept(pick.version.settings.proxy_protocol);
        let up = match kept.pool.take(&pick.endpoint.state, Wanted::Open) {
            Some(up) => up,
            None => self.open(pick).await?,
        };
        let sent = up.write_all(&mut [IoSlice::new(head_up)], |_| {}).await;
        Ok(sent.is_ok().then(|| Way::Http1(up, BytesMut::new())))
    }

    async fn on_stream(&mut self, pick: &Pick, head_up: &[u8]) -> Result<Option<Way>, Refused> {
        let head = Head::read(head_up, pick.version.settings.protocol == Protocol::H2, None)?;
        let origin = Origin::new(self.place(pick).await?, Rc::new(head));
        Ok(origin.send_whole().is_ok().then(|| Way::Http2(Box::new(origin))))
    }
}
