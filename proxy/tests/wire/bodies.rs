//! Bodies on their way: chunks, trailers, sizes, the speed of either side, and bodies that break off.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::kit::*;

#[tokio::test]
async fn chunks_and_trailers_pass_both_ways() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: shop.test\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Forwarded-For: evil\r\n\r\n",
        )
        .await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert_eq!((field(&head, "TE"), field(&head, "Trailer")), (Some("trailers"), Some("X-Sum")), "{head}");
    assert_eq!(instance.read_until("\r\n\r\n").await, "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
    instance
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nde\r\n0\r\ngrpc-status: 0\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(field(&head, "Transfer-Encoding"), Some("chunked"), "{head}");
    assert_eq!(client.read_until("\r\n\r\n").await, "2\r\nde\r\n0\r\ngrpc-status: 0\r\n\r\n");
    client.send(get("/")).await;
    instance.head().await;
}

#[tokio::test]
async fn a_stream_is_passed_on_event_by_event() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
    assert_eq!(field(&client.head().await, "Transfer-Encoding"), Some("chunked"), "its length is not known");
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        instance.send(event).await;
        assert_eq!(client.read_until("\n\n\r\n").await, format!("9\r\n{event}\r\n"));
    }
    instance.finish().await;
    assert_eq!(client.read_exactly(5).await, b"0\r\n\r\n");
    client.send(get("/")).await;
    origin.accept().await.head().await;
}

/// Octets that repeat nowhere near.
fn noise(count: u32) -> Vec<u8> {
    (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[tokio::test]
async fn a_large_body_passes_up_and_down_unchanged() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let octets = noise(5_000_000);
    let length = octets.len();
    let mut client = plane.connect().await;
    let sending = async {
        let fields = format!("Content-Length: {length}\r\nConnection: close\r\n");
        client.send(format!("POST / HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n")).await;
        client.send(&octets).await;
        client.head().await;
        let mut got = Vec::new();
        client.stream.read_to_end(&mut got).await.expect("the end comes in order");
        [client.take_unread(), got].concat()
    };
    let echo = async {
        let mut instance = origin.accept().await;
        instance.head().await;
        let body = instance.read_exactly(length).await;
        instance.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
        instance.send(&body).await;
    };
    let (got, ()) = tokio::join!(within("the echo", sending), echo);
    assert!(got == octets, "{} of {length} octets", got.len());
}

#[tokio::test]
async fn an_answer_of_many_chunks_arrives_as_it_was_sent() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let octets = noise(3_000_000);
    let mut client = plane.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    let sending = async {
        instance.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for piece in octets.chunks(777) {
            instance.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await;
        }
        instance.send("0\r\n\r\n").await;
    };
    let reading = async {
        client.head().await;
        let mut got = Vec::new();
        client.stream.read_to_end(&mut got).await.expect("the end comes in order");
        [client.take_unread(), got].concat()
    };
    let ((), got) = tokio::join!(sending, within("the body", reading));
    assert!(got == octets, "{} of {} octets", got.len(), octets.len());
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_writer() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    let total = 200_000_000usize;
    instance.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n")).await;
    let block = vec![b'x'; 1_000_000];
    let mut sent = 0;
    // Nobody reads: the sockets fill up, then nothing moves.
    while let Ok(Ok(written)) = timeout(Duration::from_millis(500), instance.stream.write(&block)).await {
        sent += written;
        assert!(sent < total / 2, "{sent} octets were taken though nobody reads them");
    }
    // Reading lets it go on.
    client.head().await;
    let drained = client.read_exactly(sent.min(5_000_000)).await;
    assert!(drained.iter().all(|octet| *octet == b'x'));
    within("the writer goes on", instance.stream.write(&block)).await.expect("it is still open");
}

#[tokio::test]
async fn an_early_answer_is_passed_on_and_neither_connection_is_used_again() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000000\r\n\r\nstart").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    assert_eq!(instance.read_exactly(5).await, b"start");
    instance.send(ok("no")).await;
    let head = client.head().await;
    assert_eq!(field(&head, "Connection"), Some("close"), "{head}");
    assert_eq!(client.read_exactly(2).await, b"no");
    assert!(instance.ends().await, "half a request was sent on it");
    assert!(client.ends().await);
}

#[tokio::test]
async fn an_answer_before_the_whole_body_is_read_is_not_lost_when_the_instance_closes() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10000000\r\n\r\n").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    instance.finish().await;
    let answer = client.read_until("\r\n\r\nno").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    drop(instance);
    assert!(client.ends().await);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_visibly_broken() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense",
    ] {
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let mut instance = origin.accept().await;
        instance.head().await;
        instance.send(answer).await;
        instance.finish().await;
        let got = client.read_to_end().await;
        assert!(got.contains("abc") && !got.ends_with("0\r\n\r\n"), "{got}");
        assert!(instance.ends().await);
    }
    // A client that only sees the end of the connection gets a reset.
    let mut client = plane.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    client.read_until("abc").await;
    instance.finish().await;
    let mut rest = Vec::new();
    let end = within("the end", client.stream.read_to_end(&mut rest)).await;
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn octets_behind_an_answer_reach_nobody() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send([ok("first"), ok("poison")].concat()).await;
    client.read_until("first").await;
    client.send(get("/")).await;
    let mut other = origin.accept().await;
    other.head().await;
    other.send(ok("second")).await;
    assert!(!client.read_until("second").await.contains("poison"));
    assert!(instance.ends().await);

    // The same when they come later, while the connection idles in the pool.
    other.send("HTTP/1.1 200 OK\r\n").await;
    assert!(other.ends().await, "it is closed");
    client.send(get("/")).await;
    origin.accept().await.head().await;
}

#[tokio::test]
async fn a_client_that_breaks_off_its_body_ends_the_instances_connection() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\nabc").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    drop(client);
    assert_eq!(instance.read_to_end().await, "abc");
}
