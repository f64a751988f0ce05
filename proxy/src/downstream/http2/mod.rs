//! A client's connection that speaks HTTP/2: one task with all its streams.
//!
//! `h2` is used as it is rather than through hyper: hyper writes twice per request under load, gives each stream a task of
//! its own, and hides the frames, which have to be counted.
//!
//! - [`serving`]: the turns of the connection's task, its limits and its end.
//! - [`slots`]: the futures of the streams; [`answer`]: what such a future does.
//!
//! Not here: how heads and bodies are translated, the octets under `h2` and what is counted of them (see `sides::http2`), what is done with a request (see `call`).

mod answer;
mod serving;
mod slots;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fairway_config::file::Limits;
use h2::server::Builder;
use tokio::task::unconstrained;

use super::{LINGER, LINGER_BYTES, Visit, tell_unserved};
use crate::deadline::Timer;
use crate::reason::Reason;
use crate::sides::http2::calm::Calm;
use crate::sides::http2::wire::{Handle, Wire};
use crate::stream::Stream;
use crate::turn;
use answer::answer;
use serving::Serving;

/// What a client sends first (RFC 9113 section 3.4), as far as it looks like the head of a request.
pub(super) const PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Octets of one stream's body that may be on their way to us.
const STREAM_WINDOW: u32 = 128 * 1024;

/// Octets of all bodies of a connection that may be on their way to us.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Octets of one answer that wait in `h2` beside those on their way.
const SEND_BUFFER: usize = 64 * 1024;

/// So far above our own limit `h2` answers 431 by itself: a refusal of ours is told like every other.
const HEADER_LIST_BEYOND: u32 = 32 * 1024;

/// Streams that a client may reset before we have looked at them.
const RESET_UNSEEN_MAX: usize = 100;

/// Streams that a client may make us reset by breaking the protocol (CVE-2025-8671), while the connection lives.
const BROKEN_MAX: usize = 256;

/// How long a client that was told that the connection ends may take to say that it knows.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves a connection to its end. `early` is what was read from it.
pub(crate) async fn serve<S: Stream>(stream: S, early: BytesMut, visit: Visit) {
    let worker = visit.worker.clone();
    let _counted = worker.metrics.connection(&visit.door.name, "h2");
    let limits = visit.door.limits.get();
    let wire = Wire::new(stream, early, worker, Calm::of_client(turn::now()));
    let mut handshake =
        builder(&limits, !visit.door.upgrades.is_empty()).handshake::<_, Bytes>(Handle(wire.clone()));
    let mut timer = Timer::new();
    let limit = turn::now() + limits.header_time;
    let shaken = timer.within(
        limit,
        poll_fn(|cx| {
            wire.start_turn();
            let shaken = Pin::new(&mut handshake).poll(cx);
            // An error shows with the next read.
            let _ = wire.poll_out(cx);
            shaken
        }),
    );
    let began = turn::now();
    let h2 = match shaken.await {
        Some(Ok(h2)) => h2,
        // Whoever does not even send the preface is no client that could be told; others are.
        Some(Err(error)) if error.is_library() => {
            let reason = Reason::Http2Invalid;
            visit.worker.handle.metrics().connection_refused(&visit.door.name, reason.as_str());
            return tell_unserved(&visit, None, 400, reason, began);
        }
        None if wire.has_begun() => return tell_unserved(&visit, None, 408, Reason::ClientTimeout, began),
        Some(Err(_)) | None => return,
    };
    let visit = Rc::new(visit);
    let serving = Serving::new(h2, wire.clone(), visit, timer, answer);
    // Bounded by turns of its own: the budget of the runtime would end a turn in the middle.
    let told = unconstrained(serving).await;
    if told {
        wire.linger(LINGER, LINGER_BYTES).await;
    }
}

fn builder(limits: &Limits, takes_connect: bool) -> Builder {
    let header_bytes = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    let header_list = header_bytes.saturating_add(HEADER_LIST_BEYOND);
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(header_list)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_UNSEEN_MAX)
        .max_local_error_reset_streams(Some(BROKEN_MAX));
    if takes_connect {
        builder.enable_connect_protocol();
    }
    builder
}
