//! Instances that misbehave in HTTP/2: what they cost, and what the client is told.

use std::time::Duration;

use h2::server::Builder;

use super::kit::*;
use crate::http2::kit::*;
use crate::kit::{Plane, Wire, get as get_of, within};

/// A GET whose connection ends with its answer.
fn once() -> String {
    get_of("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
}

/// What a client is told when the instance does this with the connection, which is greeted.
async fn told(labels: &[(&str, &str)], does: impl AsyncFnOnce(Frames, u32)) -> String {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[&[("fairway.retries", "0")], labels].concat());
    let instance = async {
        let mut instance = origin.accept().await;
        let stream = request_on(&mut instance).await.stream;
        does(instance, stream).await;
    };
    tokio::join!(plane.exchange(once()), instance).0
}

/// Sends until the other side has had enough.
async fn send_until_cut(instance: &mut Frames, octets: &[u8]) {
    within("the end of the connection", async {
        loop {
            if tokio::io::AsyncWriteExt::write_all(&mut instance.0.stream, octets).await.is_err() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_instance_of_another_protocol_is_told_in_words() {
    for (says, detail) in [
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "does not speak HTTP/2 on this port"),
        ("\0\0\0\x04\x01\0\0\0\0", "does not speak HTTP/2 on this port"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP/2 on this port"),
        ("", "does it speak it on this port?"),
    ] {
        let origin = RawOrigin::new().await;
        let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
        let instance = async {
            let mut instance = origin.accept_silently().await;
            instance.send(says).await;
            instance.0.finish().await;
            instance.0.read_to_end().await;
        };
        let (answer, ()) = tokio::join!(plane.exchange(once()), instance);
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream-invalid"), "{answer}");
        assert!(answer.contains(detail), "{says:?}: {answer}");
    }
}

#[tokio::test]
async fn an_instance_that_never_greets_takes_no_longer_than_a_connection_may() {
    let origin = RawOrigin::new().await;
    let labels = [("fairway.retries", "0"), ("fairway.timeout.connect", "200ms")];
    let plane = plane(&[origin.address()], &labels);
    let (answer, mut instance) = tokio::join!(plane.exchange(once()), origin.accept_silently());
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("connect-timeout"), "{answer}");
    assert!(answer.contains("said nothing in HTTP/2"), "{answer}");
    // And nothing is left of it.
    while instance.next().await.is_some() {}
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection_and_are_told() {
    let rejected = [
        ("data on no stream", frame(DATA, 0, 0, b"x")),
        ("a stream of its own", frame(HEADERS, END_HEADERS, 2, &block(&[(":status", "200")]))),
        (
            "a push that nobody wants",
            frame(5, END_HEADERS, 1, &[&2u32.to_be_bytes()[..], &block(&GET)].concat()),
        ),
        ("a window beyond all", frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
        ("capitals", frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200"), ("Upper", "x")]))),
        ("nonsense in the header", frame(HEADERS, END_HEADERS, 1, &[0xff; 40])),
        ("settings of half a value", frame(SETTINGS, 0, 0, &[0, 1, 0])),
    ];
    for (what, octets) in rejected {
        let answer = told(&[], async |mut instance, _| {
            instance.send(octets).await;
            assert_ne!(instance.goaway().await, 0, "{what}");
        })
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream-invalid"),
            "{what}: {answer}"
        );
    }
}

#[tokio::test]
async fn answers_that_break_the_rules_end_their_stream_alone() {
    let status = (":status", "200");
    let large = "x".repeat(70_000);
    let many: Vec<(&str, &str)> = std::iter::once(status).chain((0..101).map(|_| ("a", "b"))).collect();
    for (what, fields) in [
        ("no status", vec![("a", "b")]),
        ("a status twice", vec![status, status]),
        ("a field of a connection", vec![status, ("connection", "close")]),
        ("another field of a connection", vec![status, ("transfer-encoding", "chunked")]),
        ("a switch", vec![(":status", "101")]),
        ("lengths that differ", vec![status, ("content-length", "1"), ("content-length", "2")]),
        ("a field too large", vec![status, ("a", &large)]),
        ("too many fields", many),
    ] {
        let origin = RawOrigin::new().await;
        let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
        let instance = async {
            let mut instance = origin.accept().await;
            let stream = request_on(&mut instance).await.stream;
            let mut block = &block(&fields)[..];
            let mut kind = HEADERS;
            while let Some((part, rest)) = block.split_at_checked(16_000) {
                instance.send(frame(kind, 0, stream, part)).await;
                (block, kind) = (rest, CONTINUATION);
            }
            instance.send(frame(kind, END_HEADERS, stream, block)).await;
            instance
        };
        let (answer, mut instance) = tokio::join!(plane.exchange(once()), instance);
        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream-invalid"),
            "{what}: {answer}"
        );
        let next = plane.exchange(once());
        let answers = async {
            let stream = request_on(&mut instance).await.stream;
            let head = frame(HEADERS, END_HEADERS, stream, &block_of_ok());
            instance.send([head, frame(DATA, END_STREAM, stream, b"well")].concat()).await;
        };
        let (answer, ()) = tokio::join!(next, answers);
        assert!(answer.contains("well"), "{what}: {answer}");
    }
}

fn block_of_ok() -> Vec<u8> {
    block(&[(":status", "200")])
}

#[tokio::test]
async fn floods_of_an_instance_end_its_connection() {
    let interim =
        |stream| frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "103"), ("link", "</a>")]));
    for (what, octets) in [
        ("pings", frame(PING, 0, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
        ("priorities", frame(PRIORITY, 0, 1, &[0; 5])),
        ("unknown frames", frame(77, 0, 0, &[])),
        ("empty data", frame(DATA, 0, 1, &[])),
    ] {
        let answer = told(&[], async |mut instance, _| {
            instance.send(frame(HEADERS, END_HEADERS, 1, &block_of_ok())).await;
            send_until_cut(&mut instance, &octets.repeat(64)).await;
        })
        .await;
        assert!(!answer.contains("0\r\n\r\n"), "{what}: it is no whole answer: {answer}");
    }
    let answer = told(&[], async |mut instance, stream| {
        send_until_cut(&mut instance, &interim(stream).repeat(64)).await;
    })
    .await;
    assert!(answer.contains("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn a_header_without_end_is_cut() {
    let answer = told(&[], async |mut instance, stream| {
        instance.send(frame(HEADERS, 0, stream, &block_of_ok())).await;
        let part = frame(CONTINUATION, 0, stream, &block(&[("a", &"x".repeat(1000))]));
        send_until_cut(&mut instance, &part).await;
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn more_answers_before_the_one_that_counts_than_anybody_needs_are_refused_and_a_few_pass() {
    let interim =
        |stream| frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "103"), ("link", "</a>")]));
    let answer = told(&[], async |mut instance, stream| {
        instance.send(interim(stream).repeat(40)).await;
        while instance.next().await.is_some_and(|frame| frame.kind != RST_STREAM) {}
    })
    .await;
    assert!(answer.contains("more than 32 interim answers"), "{answer}");
    let answer = told(&[], async |mut instance, stream| {
        let last =
            [frame(HEADERS, END_HEADERS, stream, &block_of_ok()), frame(DATA, END_STREAM, stream, b"it")];
        instance.send([interim(stream).repeat(2), last.concat()].concat()).await;
    })
    .await;
    assert_eq!(answer.matches("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").count(), 2, "{answer}");
    assert!(answer.contains("HTTP/1.1 200 OK") && answer.contains("it"), "{answer}");
}

#[tokio::test]
async fn a_window_of_nothing_is_waited_for_and_then_used() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[]);
    let mut client = plane.connect().await;
    client.send("PUT / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\n0123456789").await;
    let mut instance = origin.accept_with(&[(4, 0)]).await;
    let stream = request_on(&mut instance).await.stream;
    instance.send(frame(PING, 0, 0, &[7; 8])).await;
    assert_eq!(instance.next().await.expect("a frame").kind, PING, "no data before there is a window");
    for want in [&b"0123"[..], b"456789"] {
        instance.send(frame(WINDOW_UPDATE, 0, stream, &(want.len() as u32).to_be_bytes())).await;
        assert_eq!(instance.next_of(DATA).await.payload, want);
    }
    let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[(":status", "204")]));
    instance.send(head).await;
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test]
async fn a_window_that_never_opens_ends_after_the_silence_that_is_allowed() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[("fairway.timeout.idle", "300ms"), ("fairway.retries", "0")]);
    let put = "PUT / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    let instance = async {
        let mut instance = origin.accept_with(&[(4, 0)]).await;
        request_on(&mut instance).await;
        assert_eq!(instance.next_of(RST_STREAM).await.code(), CANCEL);
    };
    let (answer, ()) = tokio::join!(plane.exchange(put), instance);
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("upstream-timeout"), "{answer}");
}

#[tokio::test]
async fn as_many_streams_as_the_instance_allows_share_a_connection_and_further_ones_open_another() {
    for (allowed, requests, connections) in [(1, 3, 3), (2, 5, 3), (100, 20, 1)] {
        let mut origin = H2Origin::with(Builder::new().max_concurrent_streams(allowed)).await;
        let plane = plane(&[origin.address], &[]);
        let mut clients: Vec<Wire> = Vec::new();
        let mut held = Vec::new();
        for _ in 0..requests {
            let mut client = plane.connect().await;
            client.send(get_of("/")).await;
            clients.push(client);
            held.push(origin.asked().await);
        }
        let used = held.iter().map(|asked| asked.connection).max().map(|last| last + 1);
        assert_eq!(used, Some(connections), "{allowed} allowed, {requests} asked");
        for (asked, client) in held.iter_mut().zip(&mut clients) {
            asked.answer("done");
            client.read_until("done").await;
        }
    }
}

#[tokio::test]
async fn requests_that_come_at_once_wait_for_the_same_new_connection() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(plane.connect().await);
    }
    for client in &mut clients {
        client.send(get_of("/")).await;
    }
    for _ in 0..50 {
        let mut asked = origin.asked().await;
        assert_eq!(asked.connection, 0);
        asked.answer("done");
    }
    for client in &mut clients {
        client.read_until("done").await;
    }
}

#[tokio::test]
async fn clients_that_read_slowly_hold_up_nobody_else_on_the_same_connection() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let mut slow: Vec<Wire> = Vec::new();
    for _ in 0..20 {
        let mut client = plane.connect().await;
        client.send(get_of("/slow")).await;
        slow.push(client);
        let mut asked = origin.asked().await;
        tokio::spawn(async move {
            let mut body = asked.head_of(http::Response::new(()));
            loop {
                body.reserve_capacity(16_384);
                let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
                let Some(Ok(room)) = room else { return };
                if body.send_data(vec![0; room].into(), false).is_err() {
                    return;
                }
            }
        });
    }
    // Time for their windows and sockets to fill; whoever is quick needs none.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut quick = plane.connect().await;
    for _ in 0..10 {
        quick.send(get_of("/quick")).await;
        let mut asked = origin.asked().await;
        assert_eq!(asked.connection, 0);
        asked.answer("quick");
        quick.read_until("5\r\nquick\r\n0\r\n\r\n").await;
    }
    drop(slow);
}

#[tokio::test]
async fn a_dead_connection_that_was_not_answered_in_time_gets_no_further_requests() {
    let origin = RawOrigin::new().await;
    let labels = [("fairway.retries", "0"), ("fairway.timeout.first_byte", "200ms")];
    let plane: Plane = plane(&[origin.address()], &labels);
    let first = async {
        let mut instance = origin.accept().await;
        request_on(&mut instance).await;
        instance
    };
    let (answer, _silent) = tokio::join!(plane.exchange(once()), first);
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    let second = async {
        let mut instance = origin.accept().await;
        let stream = request_on(&mut instance).await.stream;
        let head = frame(HEADERS, END_HEADERS, stream, &block_of_ok());
        instance.send([head, frame(DATA, END_STREAM, stream, b"alive")].concat()).await;
        instance.0.read_to_end().await;
    };
    let asked = async {
        let answer = plane.exchange(once()).await;
        drop(plane);
        answer
    };
    let (answer, ()) = tokio::join!(asked, second);
    assert!(answer.contains("alive"), "{answer}");
}
