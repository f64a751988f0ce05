//! A client's connection that speaks HTTP/2: one task with all its streams.
//!
//! - [`serving`]: the turns of the connection's task, its limits and its end; [`pipe`]: its octets.
//! - [`slots`]: the futures of the streams; [`answer`]: what such a future does.
//! - [`sides`]: the client's side of one request.
//!
//! What becomes ready in one turn goes out with one write. Not here: frames, windows and header blocks (see `crate::http2`),
//! what is done with a request (see `call`).

mod answer;
mod pipe;
mod serving;
mod sides;
mod slots;

use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::task::unconstrained;

use super::{Door, LINGER, LINGER_BYTES, Visit};
use crate::http2::connection::{Connection, Terms};
use crate::stream::Stream;
use crate::turn;
use answer::answer;
use pipe::Pipe;
use serving::Serving;

/// What a client sends first (RFC 9113 section 3.4), as far as it looks like the head of a request.
pub(super) const PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// So far above our own limit a header is refused without a word: up to there it is told like every other.
const HEADER_LIST_BEYOND: u32 = 32 * 1024;

/// How long a client that was told that the connection ends may take to say that it knows.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves a connection to its end. `early` is what was read from it.
pub(crate) fn serve<S: Stream>(stream: S, early: BytesMut, visit: Visit) -> impl Future<Output = ()> {
    // Made here and used in its place, because an `async fn` keeps room for what it was given beside what it makes of it.
    let worker = visit.worker.clone();
    let counted = worker.metrics.connection(&visit.door.name, "h2");
    let connection = Connection::new(terms(&visit.door), turn::now());
    let pipe = Pipe::new(stream, early, worker);
    let mut serving = Serving::new(connection, pipe, Rc::new(visit), answer);
    async move {
        let _counted = counted;
        // Bounded by turns of its own: the budget of the runtime would end a turn in the middle.
        let told = unconstrained(&mut serving).await;
        if told {
            serving.into_pipe().linger(LINGER, LINGER_BYTES).await;
        }
    }
}

fn terms(door: &Door) -> Terms {
    let limits = door.limits.get();
    let header_bytes = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    Terms {
        streams: limits.h2_streams,
        header_list: header_bytes.saturating_add(HEADER_LIST_BEYOND),
        takes_connect: !door.upgrades.is_empty(),
    }
}
