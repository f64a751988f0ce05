//! A panic of our own in one request ends that request, with a reason, and nothing else: neither its connection's other
//! streams nor the worker.
//!
//! Not here: what the client of such a request is told (see `call`), where the panic was (the process's own report).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

/// Polls; `None` when that panicked. Whatever is polled must not be polled again then.
pub(super) fn unless_panic<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<Option<T>> {
    // What a request shares with others are counters and pools behind cells, whose guards end with the unwinding.
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::net::SocketAddr;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::task::Context;

    use bytes::Bytes;
    use fairway_config::file::{HttpListener, Limits};

    use super::*;
    use crate::deadline::Timer;
    use crate::downstream::{After, Call, Door, Visit};
    use crate::h1::{BodyLength, HeadLimits, RequestHead, Version};
    use crate::opening::Opening;
    use crate::sides::{Downstream, Flow, Piece, Sink, Source, SourceError};
    use crate::stream::Ends;
    use crate::turn;
    use crate::worker::Worker;

    /// A request without a body, unless looking for one panics.
    struct NoBody {
        panics: bool,
    }

    impl Source for NoBody {
        async fn there(&mut self) -> Piece {
            assert!(!self.panics, "a fault that the test wants");
            Piece::whole(Bytes::new())
        }

        async fn more(&mut self) -> Result<(), SourceError> {
            Ok(())
        }

        fn is_done(&self) -> bool {
            true
        }

        fn rest(&mut self) {}

        fn become_raw(&mut self) {}
    }

    /// A client that notes what it gets. Its first write panics in the middle, if that is wanted.
    #[derive(Default)]
    struct Client<const HTTP2: bool> {
        panics: Cell<bool>,
        writes: Cell<usize>,
        got: RefCell<Vec<u8>>,
        was_cut: Cell<bool>,
    }

    impl<const HTTP2: bool> Sink for Client<HTTP2> {
        async fn write(&self, head: &[u8], piece: &Piece, _: &Flow<'_>) -> io::Result<()> {
            self.writes.set(self.writes.get() + 1);
            assert!(!self.panics.take(), "a fault that the test wants");
            if self.writes.get() > 1 {
                return Err(io::ErrorKind::BrokenPipe.into()); // as a stream that has a head already
            }
            self.got.borrow_mut().extend([head, &piece.data].concat());
            Ok(())
        }

        async fn end(&self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<const HTTP2: bool> Downstream for Client<HTTP2> {
        const HTTP2: bool = HTTP2;

        fn poll_gone(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn poll_left(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn poll_broken(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn framing(&self, _: Version, length: BodyLength) -> BodyLength {
            length
        }

        fn cut(&self, _: BodyLength) {
            self.was_cut.set(true);
        }
    }

    /// One request of this client to a plane without routes.
    async fn run<const HTTP2: bool>(client: &Client<HTTP2>, source: NoBody) -> After {
        let addr = SocketAddr::from(([127, 0, 0, 1], 80));
        let listener = HttpListener {
            addr,
            proxy_protocol: false,
            upgrades: Vec::new(),
            redirect_to_https: false,
            tls: None,
            limits: Limits::default(),
        };
        let door =
            Rc::new(Door::new(&Opening::new(&listener, addr, &Arc::default()).expect("it asks for no TLS")));
        let visit = Visit::new(Ends { peer: addr, local: addr }, false, door, Worker::for_tests());
        let text = Bytes::from_static(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let head = RequestHead::read_within(text, HeadLimits::default()).expect("a request");
        let mut timer = Timer::new();
        Call::new(&visit, client, source, &mut timer, Box::new(head), turn::now()).run().await
    }

    #[tokio::test]
    async fn a_panic_before_the_answer_is_answered_with_500_over_both_protocols() {
        async fn answered<const HTTP2: bool>() -> (After, String) {
            let client = Client::<HTTP2>::default();
            let after = run(&client, NoBody { panics: true }).await;
            (after, String::from_utf8(client.got.take()).expect("text"))
        }
        for (after, got) in [answered::<false>().await, answered::<true>().await] {
            assert_eq!(after, After::Close, "nobody knows what became of the connection");
            assert!(got.starts_with("HTTP/1.1 500 ") && got.contains(r#""type":"internal""#), "{got}");
        }
    }

    #[tokio::test]
    async fn after_a_panic_in_the_middle_of_an_answer_no_second_one_follows() {
        let client = Client::<false>::default();
        client.panics.set(true);
        assert_eq!(run(&client, NoBody { panics: false }).await, After::Drop);
        assert_eq!((client.writes.get(), client.was_cut.get()), (1, true));

        // A stream takes one head at most by itself.
        let client = Client::<true>::default();
        client.panics.set(true);
        assert_eq!(run(&client, NoBody { panics: false }).await, After::Drop);
        assert_eq!((client.writes.get(), client.was_cut.get()), (2, true));
    }
}
