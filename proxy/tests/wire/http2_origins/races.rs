//! Connections that instances end without a word while a request is on its way.

use super::ends::*;
use super::kit::*;
use crate::http2::kit::HEADERS;
use crate::kit::get;

/// What crosses the end of a connection, as far as one process can make it.
const ROUNDS: usize = 30;

#[tokio::test]
async fn a_post_of_which_nothing_was_written_goes_over_again_on_another_connection() {
    for _ in 0..ROUNDS {
        let origin = RawOrigin::new().await;
        let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let mut first = origin.accept().await;
        let stream = request_on(&mut first).await.stream;
        first.send(answer(stream, b"one")).await;
        client.read_until("one\r\n0\r\n\r\n").await;
        // Mostly the worker finds both when it wakes, and the end goes before what it would have written.
        client.send(POST).await;
        first.0.finish().await;
        let again = tokio::select! {
            head = client.head() => {
                assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
                false
            }
            mut second = origin.accept_when_asked() => {
                let stream = request_on(&mut second).await.stream;
                assert_eq!(second.next_of(crate::http2::kit::DATA).await.payload, b"hello");
                second.send(answer(stream, b"two")).await;
                client.read_until("two\r\n0\r\n\r\n").await;
                true
            }
        };
        // Its own direction has ended; what comes it still sees.
        let mut has_seen_it = false;
        while let Some(frame) = first.next().await {
            has_seen_it |= frame.kind == HEADERS;
        }
        assert!(again != has_seen_it, "again: {again}, seen: {has_seen_it}");
    }
}
