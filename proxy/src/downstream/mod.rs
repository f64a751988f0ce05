//! A client's connection: requests one after the other, until one side has had enough.
//!
//! - [`head`]: reading the next request's head, idling before it.
//! - [`call`]: one request: its route, the instances it is sent to, what is answered when none will do.
//! - [`exchange`]: one request on one connection to one instance.
//!
//! Not here: what is refused (see `h1`), who is chosen (see `pick`).

mod body;
mod call;
mod exchange;
mod head;

use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use fairway_config::file::HttpListener;
use tokio::time::Instant;

use crate::access_log::Line;
use crate::deadline::Timer;
use crate::h1::Refused;
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::stream::{Duplex, Ends, Stream};
use crate::worker::Worker;
use call::Call;
use head::Next;

/// Longest silence of a client: before a request, within a body, and while it takes no octets.
pub(crate) const IDLE: Duration = Duration::from_secs(75);

/// Longest time for a whole header, from its first octet.
pub(crate) const HEADER: Duration = Duration::from_secs(10);

/// How long a connection is read after its last answer, so that the answer is not lost with what the client still sends.
const LINGER: Duration = Duration::from_secs(2);

/// Most octets read then.
const LINGER_BYTES: usize = 1024 * 1024;

/// What is known of a listener on the way of a request.
#[derive(Debug)]
pub(crate) struct Door {
    /// Its address as configured, for metrics and logs.
    pub(crate) name: Arc<str>,
    /// Upgrade tokens that are passed on.
    pub(crate) upgrades: Vec<Arc<str>>,
    /// Whether each connection starts with a PROXY header.
    pub(crate) proxy_protocol: bool,
}

impl Door {
    /// For this listener.
    pub(crate) fn new(listener: &HttpListener) -> Self {
        Self {
            name: listener.addr.to_string().into(),
            upgrades: listener.upgrades.clone(),
            proxy_protocol: listener.proxy_protocol,
        }
    }
}

/// A client's connection.
pub(crate) struct Connection<S> {
    io: Duplex<S>,
    ends: Ends,
    /// The client uses TLS.
    tls: bool,
    door: Rc<Door>,
    worker: Rc<Worker>,
    timer: Timer,
    /// What was read and not yet used; without memory while the connection idles.
    buffer: BytesMut,
}

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The next request.
    Next,
    /// The last answer is on its way: close, so that it arrives.
    Close,
    /// Nothing more is to be said: drop it.
    Drop,
}

impl<S: Stream> Connection<S> {
    pub(crate) fn new(stream: S, ends: Ends, tls: bool, door: Rc<Door>, worker: Rc<Worker>) -> Self {
        Self {
            io: Duplex::new(stream),
            ends,
            tls,
            door,
            worker,
            timer: Timer::new(),
            buffer: BytesMut::new(),
        }
    }

    /// Serves it to its end.
    pub(crate) async fn serve(mut self) {
        let _entered = self.worker.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
        let _counted = self.worker.metrics.connection(&self.door.name, "http1");
        let after = loop {
            let after = match self.next_head().await {
                Next::Request(head, began) => Call::new(&mut self, *head, began).run().await,
                Next::Refused(refused, began) => self.refuse_unread(refused, began).await,
                Next::Finished => After::Close,
                Next::Gone => After::Drop,
            };
            if after != After::Next {
                break after;
            }
        };
        if after == After::Close {
            self.close().await;
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.worker.buffers.give_back(buffer);
    }

    /// Refuses what cannot be read as a request. Nobody knows where the next one would start, so the connection ends.
    async fn refuse_unread(&mut self, refused: Refused, began: Instant) -> After {
        let Refused { reason, detail } = refused;
        let refusal = Refusal {
            reason,
            detail,
            request_id: "",
            to_head: false,
            close: true,
            says_keep_alive: false,
            location: None,
        };
        let status = refusal.status();
        let written = self.send(&refusal).await;
        let took = began.elapsed();
        self.worker.metrics.request_done(self.worker.metrics.unrouted(), status, reason, took);
        if let Some(access) = &self.worker.access {
            let line = Line {
                client: self.ends.peer.ip().to_canonical(),
                method: "",
                host: "",
                path: "",
                status,
                bytes: 0,
                route: "",
                backend: "",
                instance: "",
                why: "",
                reason,
                attempts: 0,
                total: took,
                connect: None,
                first_byte: None,
                request_id: "",
            };
            access.line(&line, &self.worker.clock);
        }
        if written { After::Close } else { After::Drop }
    }

    /// Sends an answer of our own; false when the client does not take it.
    async fn send(&mut self, refusal: &Refusal<'_>) -> bool {
        let mut out = self.worker.buffers.lend_head();
        refusal.write(&mut out, &self.worker.clock);
        let mut parts = [IoSlice::new(&out)];
        let written = self.timer.within(Instant::now() + HEADER, self.io.write_all(&mut parts, |_| {})).await;
        self.worker.buffers.give_back_head(out);
        matches!(written, Some(Ok(())))
    }

    /// Ends our direction, then reads for a while: octets that arrive at a closed socket would make the system reset the
    /// connection, and the last answer might be lost with it.
    async fn close(&mut self) {
        let until = Instant::now() + LINGER;
        let (io, buffer) = (&self.io, &mut self.buffer);
        let drained = async {
            if io.shutdown().await.is_err() {
                return;
            }
            let mut left = LINGER_BYTES;
            while left > 0 {
                buffer.clear();
                if io.readable().await.is_err() {
                    return;
                }
                match io.read(buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        };
        // Whoever still sends after that has been told twice.
        let _ = self.timer.within(until, drained).await;
    }
}

/// The refusal of a request that was read.
fn refused(reason: Reason, detail: &'static str) -> Refused {
    Refused::new(reason, detail)
}
