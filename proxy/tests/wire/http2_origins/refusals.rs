//! Streams that an instance refuses unseen, and limits that it tells late: who is asked then.

use std::net::SocketAddr;

use super::ends::*;
use super::kit::*;
use crate::http2::kit::*;
use crate::kit::{Options, Plane, Wire, get, within};

/// Settings that allow so many streams.
fn streams_max(streams: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&3u16.to_be_bytes()[..], &streams.to_be_bytes()].concat())
}

/// Clients, each of which waits for the answer to a POST.
async fn posts(plane: &Plane, count: usize) -> Vec<Wire> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = plane.connect().await;
        client.send(POST).await;
        clients.push(client);
    }
    clients
}

/// Its next request, read whole; gives the stream.
async fn post_on(instance: &mut Frames) -> u32 {
    let stream = request_on(instance).await.stream;
    ended(instance).await;
    stream
}

/// Reads what the clients are answered, in any order.
async fn all_answered(clients: &mut [Wire]) {
    for client in clients {
        let got = client.read_until("0\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    }
}

/// An instance that a test answers for frame by frame, and one that serves when the first cannot.
fn with_stand_in(origin: &RawOrigin, other: SocketAddr) -> Plane {
    Plane::with(Options::default(), |cluster| {
        cluster.add(origin.address(), "shop.test", &[H2C, ("fairway.version", "v1")]);
        // It serves when nobody with a weight can.
        cluster.add(other, "shop.test", &[H2C, ("fairway.version", "v2"), ("fairway.weight", "0")]);
    })
}

#[tokio::test]
async fn a_refused_stream_goes_to_another_instance_whatever_the_method_and_never_to_the_same() {
    let (origin, other) = (RawOrigin::new().await, H2Origin::new().await.serve("other"));
    let plane = with_stand_in(&origin, other);
    let mut clients = posts(&plane, 1).await;
    let mut instance = origin.accept().await;
    let stream = post_on(&mut instance).await;
    instance.send(reset(stream, REFUSED)).await;
    let got = clients[0].read_until("other").await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    // The next one is the first that the instance sees again, on a new connection.
    clients[0].send(get("/next")).await;
    let mut instance = origin.accept().await;
    let next = request_on(&mut instance).await;
    assert_eq!((next.stream, next.flags & END_STREAM), (1, END_STREAM), "it is the GET");
    instance.send(answer(next.stream, b"next")).await;
    clients[0].read_until("next").await;
}

#[tokio::test]
async fn a_stream_that_the_only_instance_refuses_is_told_so() {
    for retries in ["0", "3"] {
        let origin = RawOrigin::new().await;
        let plane = plane(&[origin.address()], &[("fairway.retries", retries)]);
        let mut clients = posts(&plane, 1).await;
        let mut instance = origin.accept().await;
        let stream = post_on(&mut instance).await;
        instance.send(reset(stream, REFUSED)).await;
        let got = tokio::select! {
            got = clients[0].read_until("}\n") => got,
            _ = origin.accept_when_asked() => panic!("the same instance is asked again"),
        };
        assert!(got.starts_with("HTTP/1.1 502 ") && got.contains("upstream-refused"), "{retries}: {got}");
    }
}

#[tokio::test]
async fn a_refusal_on_a_connection_that_ends_says_nothing_of_the_next_one() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
    let mut clients = posts(&plane, 1).await;
    let mut first = origin.accept().await;
    let stream = post_on(&mut first).await;
    // Some servers refuse one by one what is above the last stream of their farewell, some what is below it, too.
    first.send([goaway(stream, NO_ERROR), reset(stream, REFUSED)].concat()).await;
    let mut second = origin.accept().await;
    let stream = post_on(&mut second).await;
    second.send(answer(stream, b"done")).await;
    all_answered(&mut clients).await;
}

#[tokio::test]
async fn what_is_refused_after_an_interim_answer_is_not_asked_again() {
    for ends in [reset(1, REFUSED), goaway(0, NO_ERROR)] {
        let origin = RawOrigin::new().await;
        let other = H2Origin::new().await.serve("other");
        let plane = with_stand_in(&origin, other);
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let mut instance = origin.accept().await;
        let stream = request_on(&mut instance).await.stream;
        let fields = [(":status", "103"), ("link", "</a>")];
        instance.send(frame(HEADERS, END_HEADERS, stream, &block(&fields))).await;
        client.read_until("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await;
        instance.send(ends).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    }
}

#[tokio::test]
async fn streams_that_cross_a_lowered_limit_go_on_another_connection() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
    let mut clients = posts(&plane, 1).await;
    let mut first = origin.accept().await;
    let kept = post_on(&mut first).await;
    clients.extend(posts(&plane, 1).await);
    let refused = post_on(&mut first).await;
    first.send([streams_max(1), reset(refused, REFUSED)].concat()).await;
    let mut second = origin.accept_with(&[(3, 1)]).await;
    let stream = post_on(&mut second).await;
    second.send(answer(stream, b"two")).await;
    clients[1].read_until("two\r\n0\r\n\r\n").await;
    // The first connection goes on, with as many streams as it has places.
    clients.extend(posts(&plane, 1).await);
    let stream = post_on(&mut second).await;
    first.send(answer(kept, b"one")).await;
    clients[0].read_until("one\r\n0\r\n\r\n").await;
    clients[0].send(POST).await;
    let next = post_on(&mut first).await;
    first.send(answer(next, b"three")).await;
    clients[0].read_until("three\r\n0\r\n\r\n").await;
    second.send(answer(stream, b"four")).await;
    clients[2].read_until("four\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_limit_that_is_told_late_on_every_connection_fails_nobody() {
    const REQUESTS: usize = 20;
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
    let mut clients = posts(&plane, REQUESTS).await;
    let instance = tokio::spawn(async move {
        let mut first = origin.accept().await;
        for _ in 0..REQUESTS {
            ended(&mut first).await;
        }
        let refused = (1..REQUESTS as u32).map(|nth| reset(2 * nth + 1, REFUSED));
        first.send([streams_max(1), refused.collect::<Vec<_>>().concat()].concat()).await;
        let mut held = Vec::new();
        // Each further one gets as many streams as all have turned out to allow, before it says so.
        for _ in 1..REQUESTS {
            let mut connection = origin.accept().await;
            let stream = post_on(&mut connection).await;
            assert_eq!(stream, 1);
            connection.send(streams_max(1)).await;
            held.push(connection);
        }
        held.push(first);
        for connection in &mut held {
            connection.send(answer(1, b"done")).await;
        }
        held
    });
    all_answered(&mut clients).await;
    within("the instance", instance).await.expect("no panic");
}

#[tokio::test]
async fn no_stream_is_opened_before_it_is_known_how_many_may_be() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
    let mut clients = posts(&plane, 2).await;
    let mut first = origin.accept_silently().await;
    let settings = streams_max(1);
    for octets in settings.chunks(4) {
        first.send(octets).await;
        // Time for streams to be opened, if anybody did before the settings are there.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let one = post_on(&mut first).await;
    let mut second = origin.accept_with(&[(3, 1)]).await;
    let other = post_on(&mut second).await;
    assert_eq!((one, other), (1, 1));
    first.send(answer(one, b"done")).await;
    second.send(answer(other, b"done")).await;
    all_answered(&mut clients).await;
    // And nothing else was sent on the first one meanwhile.
    drop(clients);
    drop(plane);
    while let Some(frame) = first.next().await {
        assert_ne!(frame.kind, HEADERS);
    }
}

#[tokio::test]
async fn an_instance_that_takes_nothing_on_new_connections_is_not_dialled_for_ever() {
    for says in [goaway(0, NO_ERROR), streams_max(0)] {
        let origin = RawOrigin::new().await;
        let other = H2Origin::new().await.serve("other");
        let plane = with_stand_in(&origin, other);
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let mut instance = origin.accept_silently().await;
        instance.send([frame(SETTINGS, 0, 0, &[]), says].concat()).await;
        let got = tokio::select! {
            got = client.read_until("other") => got,
            _ = origin.accept_when_asked() => panic!("it is dialled again"),
        };
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    }
}

#[tokio::test]
async fn a_body_that_was_half_sent_goes_elsewhere_whole() {
    for ends in [reset(1, REFUSED), goaway(0, NO_ERROR)] {
        let (origin, mut other) = (RawOrigin::new().await, H2Origin::new().await);
        let plane = with_stand_in(&origin, other.address);
        let mut client = plane.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\n01234").await;
        let mut instance = origin.accept().await;
        request_on(&mut instance).await;
        assert_eq!(instance.next_of(DATA).await.payload, b"01234");
        instance.send(&ends).await;
        if ends[3] == GOAWAY {
            // The instance goes on, on another connection.
            let mut again = origin.accept().await;
            request_on(&mut again).await;
            assert_eq!(again.next_of(DATA).await.payload, b"01234");
            again.send(reset(1, REFUSED)).await;
        }
        let mut asked = other.asked().await;
        client.send("56789").await;
        assert_eq!(asked.read().await.expect("a body"), b"0123456789");
        asked.answer("done");
        assert!(client.read_until("done").await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_body_of_which_more_was_sent_than_is_kept_is_not_sent_again() {
    const OCTETS: usize = 400_000;
    const ROOM: [u8; 4] = (OCTETS as u32).to_be_bytes();
    let (origin, mut other) = (RawOrigin::new().await, H2Origin::new().await);
    let plane = with_stand_in(&origin, other.address);
    let mut client = plane.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {OCTETS}\r\n\r\n");
    client.send(head).await;
    let mut instance = origin.accept().await;
    let stream = request_on(&mut instance).await.stream;
    // Behind the head, or else as much as was read with it would be there to be sent again.
    client.send(vec![b'x'; OCTETS - 1]).await;
    let room = [frame(WINDOW_UPDATE, 0, 0, &ROOM), frame(WINDOW_UPDATE, 0, stream, &ROOM)].concat();
    instance.send(room).await;
    let mut got = 0;
    while got < OCTETS - 1 {
        got += instance.next_of(DATA).await.payload.len();
    }
    instance.send(reset(stream, REFUSED)).await;
    let answer = tokio::select! {
        answer = client.read_until("}\n") => answer,
        _ = other.asked() => panic!("it was sent again without what is missing"),
    };
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream-refused"), "{answer}");
}

#[tokio::test]
async fn what_a_farewell_says_was_taken_is_not_asked_again_unless_that_is_safe() {
    for (request, again) in [(POST.to_owned(), false), (get("/"), true)] {
        let (origin, mut other) = (RawOrigin::new().await, H2Origin::new().await);
        let plane = with_stand_in(&origin, other.address);
        let mut client = plane.connect().await;
        client.send(&request).await;
        let mut instance = origin.accept().await;
        let stream = request_on(&mut instance).await.stream;
        if !again {
            ended(&mut instance).await;
        }
        instance.send(goaway(stream, NO_ERROR)).await;
        instance.0.finish().await;
        if again {
            other.asked().await.answer("again");
            client.read_until("again").await;
        } else {
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
            assert!(client.read_until("}\n").await.contains("upstream-closed"));
        }
    }
}
