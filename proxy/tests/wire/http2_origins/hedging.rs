//! A second request for one that takes long, to instances that speak HTTP/2.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use http::Response;

use super::kit::*;
use crate::http2::kit::{self as client, *};
use crate::kit::{Options, Plane, Wire, get, within};
use crate::limits::metric;

/// `shop.test` with these instances of one version, hedged after this time.
fn hedged(origins: &[&H2Origin], after: &str) -> Plane {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    plane(&addresses, &[("fairway.hedge", after), ("fairway.retries", "0")])
}

async fn counted(plane: &Plane, result: &str) {
    within("the count", async {
        while metric(plane, "fairway_hedges_total", &[("result", result)]) != 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits until so many requests are in flight at the instances.
async fn in_flight(plane: &Plane, wanted: u32) {
    let route = "shop.test/".parse().expect("a route");
    within("the count of requests in flight", async {
        loop {
            let table = plane.handle.load();
            let entry = table.by_id(&route).expect("it is there");
            if entry.endpoints().map(|endpoint| endpoint.state.in_flight()).sum::<u32>() == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Which of the two gets the next request, and the request.
async fn next(origins: &mut [&mut H2Origin; 2]) -> (usize, Asked) {
    let [one, other] = origins;
    within("a request", async {
        tokio::select! {
            asked = one.asked() => (0, asked),
            asked = other.asked() => (1, asked),
        }
    })
    .await
}

/// The code that the stream of a request is reset with.
async fn reset_of(asked: &mut Asked) -> h2::Reason {
    within("the reset", poll_fn(|cx| asked.respond.poll_reset(cx))).await.expect("a reset")
}

#[tokio::test]
async fn whoever_answers_first_serves_and_the_other_stream_is_cancelled_on_a_connection_that_goes_on() {
    for second_answers in [true, false] {
        let (mut one, mut other) = (H2Origin::new().await, H2Origin::new().await);
        let mut plane = hedged(&[&one, &other], "50ms");
        let mut origins = [&mut one, &mut other];
        let mut client = plane.connect().await;
        client.send(get("/slow?x=1")).await;
        let (first, mut slow) = next(&mut origins).await;
        let (second, mut quick) = next(&mut origins).await;
        assert_ne!(first, second, "never the same instance");
        assert_eq!((slow.head.uri(), slow.head.headers()), (quick.head.uri(), quick.head.headers()));
        assert!(slow.body.is_end_stream() && quick.body.is_end_stream());
        in_flight(&plane, 2).await;
        let (serves, loses, result) =
            if second_answers { (&mut quick, &mut slow, "won") } else { (&mut slow, &mut quick, "lost") };
        let mut body = serves.head_of(Response::new(()));
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        // Before the answer has ended: nothing runs at the slower one any more.
        assert_eq!(reset_of(loses).await, h2::Reason::CANCEL);
        in_flight(&plane, 1).await;
        body.send_data("answer".into(), true).expect("it is open");
        client.read_until("6\r\nanswer\r\n0\r\n\r\n").await;
        counted(&plane, result).await;
        in_flight(&plane, 0).await;
        // Its connection carries what follows, once nobody else is there.
        let (ids, served) = (plane.cluster.ids(), if second_answers { second } else { first });
        plane.change(|cluster| cluster.remove(&ids[served]));
        client.send(get("/next")).await;
        let (at, mut asked) = next(&mut origins).await;
        assert_eq!((at, asked.connection), (1 - served, 0));
        asked.answer("more");
        client.read_until("4\r\nmore\r\n0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn a_quick_answer_one_instance_or_what_may_not_be_done_twice_is_asked_once() {
    let (mut one, mut other) = (H2Origin::new().await, H2Origin::new().await);
    let plane = hedged(&[&one, &other], "1h");
    let mut wire = plane.connect().await;
    wire.send(get("/")).await;
    let (_, mut asked) = next(&mut [&mut one, &mut other]).await;
    asked.answer("quick");
    wire.read_until("0\r\n\r\n").await;
    let plane = hedged(&[&one, &other], "1ms");
    let requests = [
        ("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nab", "ab"),
    ];
    for (request, body) in requests {
        let mut wire = plane.connect().await;
        wire.send(request).await;
        let (_, mut asked) = next(&mut [&mut one, &mut other]).await;
        assert_eq!(asked.read().await.expect("a body"), body.as_bytes());
        let second = tokio::time::timeout(Duration::from_millis(100), async {
            tokio::select! { asked = one.asked() => asked, asked = other.asked() => asked }
        });
        assert!(second.await.is_err(), "{request}");
        asked.answer("done");
        wire.read_until("0\r\n\r\n").await;
    }
    let plane = hedged(&[&one], "1ms");
    let mut wire = plane.connect().await;
    wire.send(get("/")).await;
    let mut asked = one.asked().await;
    assert!(tokio::time::timeout(Duration::from_millis(100), one.asked()).await.is_err());
    asked.answer("done");
    wire.read_until("0\r\n\r\n").await;
    assert_eq!(metric(&plane, "fairway_hedges_total", &[]), 0.0);
}

/// Two instances that a test answers for frame by frame, the first one of which is slow; with the client that waits.
async fn slow_and_second(after: &str) -> (Plane, Wire, (Frames, u32), (Frames, u32)) {
    let (one, other) = (RawOrigin::new().await, RawOrigin::new().await);
    let labels = [("fairway.hedge", after), ("fairway.retries", "0")];
    let plane = plane(&[one.address(), other.address()], &labels);
    let mut wire = plane.connect().await;
    wire.send(get("/")).await;
    let first = request_at(&one, &other).await;
    let second = request_at(&one, &other).await;
    (plane, wire, first, second)
}

/// The next connection to one of these, and the stream of the request on it.
async fn request_at(one: &RawOrigin, other: &RawOrigin) -> (Frames, u32) {
    let mut frames = within("a connection", async {
        tokio::select! { frames = one.accept_when_asked() => frames, frames = other.accept_when_asked() => frames }
    })
    .await;
    let request = request_on(&mut frames).await;
    assert_eq!(request.flags & END_STREAM, END_STREAM);
    (frames, request.stream)
}

fn head(stream: u32, flags: u8, status: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(&[(":status", status)]))
}

fn answer(stream: u32, body: &[u8]) -> Vec<u8> {
    [head(stream, 0, "200"), frame(DATA, END_STREAM, stream, body)].concat()
}

#[tokio::test]
async fn a_second_instance_that_fails_leaves_the_request_to_the_first() {
    let goaway = frame(GOAWAY, 0, 0, &[0; 8]);
    let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
    for (what, says) in [
        ("503", head(1, END_STREAM, "503")),
        ("500", head(1, END_STREAM, "500")),
        ("a reset", reset(INTERNAL_ERROR)),
        ("a refusal", reset(7)),
        ("a farewell", goaway),
        ("no status", frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("a", "b")]))),
        ("nonsense", frame(HEADERS, END_HEADERS, 1, &[0xff; 40])),
    ] {
        let (plane, mut wire, (mut first, stream), (mut second, _)) = slow_and_second("20ms").await;
        second.send(says).await;
        // It has been looked at once the request is in flight at the first instance alone.
        in_flight(&plane, 1).await;
        first.send(answer(stream, b"late")).await;
        let got = wire.read_until("late\r\n0\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 200"), "{what}: {got}");
        counted(&plane, "lost").await;
    }
}

#[tokio::test]
async fn a_first_instance_that_fails_meanwhile_leaves_the_request_to_the_second() {
    let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
    for (what, says) in [
        ("a reset", reset(INTERNAL_ERROR)),
        ("a refusal", reset(7)),
        ("a farewell", frame(GOAWAY, 0, 0, &[0; 8])),
        ("nonsense", frame(HEADERS, END_HEADERS, 1, &[0xff; 40])),
        ("an end", Vec::new()),
    ] {
        let (plane, mut wire, (mut first, _), (mut second, stream)) = slow_and_second("20ms").await;
        first.send(&says).await;
        if says.is_empty() {
            first.0.finish().await;
        }
        // Long enough for that to be seen before the answer of the second.
        tokio::time::sleep(Duration::from_millis(50)).await;
        second.send(answer(stream, b"late")).await;
        let got = wire.read_until("late\r\n0\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 200"), "{what}: {got}");
        counted(&plane, "won").await;
    }
}

#[tokio::test]
async fn an_answer_before_the_one_that_counts_decides_as_well() {
    let (_plane, mut wire, (mut first, stream), (mut second, _)) = slow_and_second("20ms").await;
    first.send(frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "103"), ("link", "</a>")]))).await;
    wire.read_until("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await;
    assert_eq!(second.next_of(RST_STREAM).await.code(), CANCEL);
    first.send(answer(stream, b"begun")).await;
    assert!(wire.read_until("begun").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_leaves_resets_both() {
    for over_http2 in [false, true] {
        let (mut one, mut other) = (H2Origin::new().await, H2Origin::new().await);
        let plane = hedged(&[&one, &other], "20ms");
        let mut wire = plane.connect().await;
        let sender = client::client(&plane).await;
        let mut sender = sender.ready().await.expect("it is open");
        let mut stream = None;
        if over_http2 {
            stream = Some(sender.send_request(ask("/"), true).expect("sent"));
        } else {
            wire.send(get("/")).await;
        }
        let (_, mut first) = next(&mut [&mut one, &mut other]).await;
        let (_, mut second) = next(&mut [&mut one, &mut other]).await;
        drop(stream);
        wire.reset();
        assert_eq!(reset_of(&mut first).await, h2::Reason::CANCEL);
        assert_eq!(reset_of(&mut second).await, h2::Reason::CANCEL);
        in_flight(&plane, 0).await;
    }
}

#[tokio::test]
async fn neither_instance_is_asked_again_when_both_have_failed() {
    let (one, other) = (RawOrigin::new().await, RawOrigin::new().await);
    let third = H2Origin::new().await.serve("third");
    let plane = Plane::with(Options::default(), |cluster| {
        for origin in [&one, &other] {
            let hedged = [H2C, ("fairway.version", "v1"), ("fairway.hedge", "20ms")];
            cluster.add(origin.address(), "shop.test", &hedged);
        }
        // It serves when nobody with a weight can.
        cluster.add(third, "shop.test", &[H2C, ("fairway.version", "v2"), ("fairway.weight", "0")]);
    });
    let mut wire = plane.connect().await;
    wire.send(get("/")).await;
    let (mut first, stream) = request_at(&one, &other).await;
    let (mut second, again) = request_at(&one, &other).await;
    second.send(head(again, END_STREAM, "503")).await;
    in_flight(&plane, 1).await;
    first.send(frame(RST_STREAM, 0, stream, &INTERNAL_ERROR.to_be_bytes())).await;
    assert!(wire.read_until("third").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_both_in_time() {
    let (mut one, mut other) = (H2Origin::new().await, H2Origin::new().await);
    let addresses = [one.address, other.address];
    let labels = [("fairway.hedge", "20ms"), ("fairway.timeout.first_byte", "200ms")];
    let plane = plane(&addresses, &labels);
    let mut wire = plane.connect().await;
    wire.send(get("/")).await;
    let (_, mut first) = next(&mut [&mut one, &mut other]).await;
    let (_, mut second) = next(&mut [&mut one, &mut other]).await;
    let got = wire.read_until("}\n").await;
    assert!(got.starts_with("HTTP/1.1 504 ") && got.contains("upstream-timeout"), "{got}");
    assert_eq!(reset_of(&mut first).await, h2::Reason::CANCEL);
    assert_eq!(reset_of(&mut second).await, h2::Reason::CANCEL);
}

#[tokio::test]
async fn second_requests_come_out_of_the_retry_budget() {
    const REQUESTS: usize = 180;
    // What a quiet route has, and what it earns with each second and each request.
    const BUDGET: f64 = 100.0;
    const EACH_SECOND: f64 = 10.0;
    const EACH_REQUEST: f64 = 0.2;
    let (mut one, mut other) = (H2Origin::new().await, H2Origin::new().await);
    let plane = hedged(&[&one, &other], "1ms");
    let began = Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let sender = client::client(&plane).await;
        for _ in 0..REQUESTS / 2 {
            let mut sender = sender.clone().ready().await.expect("it is open");
            waiting.push(sender.send_request(ask("/"), true).expect("sent").0);
        }
    }
    let mut held = Vec::new();
    while held.len() < REQUESTS + BUDGET as usize {
        held.push(next(&mut [&mut one, &mut other]).await.1);
    }
    for asked in &mut held {
        // Those that lost are gone already.
        let _ = asked.respond.send_response(Response::new(()), true);
    }
    let rest = tokio::spawn(async move {
        loop {
            let asked =
                tokio::select! { asked = one.asked.recv() => asked, asked = other.asked.recv() => asked };
            let Some(mut asked) = asked else { return };
            let _ = asked.respond.send_response(Response::new(()), true);
        }
    });
    for answer in waiting {
        assert_eq!(within("an answer", answer).await.expect("an answer").status(), 200);
    }
    rest.abort();
    let seconds = metric(&plane, "fairway_hedges_total", &[]);
    let most = BUDGET + EACH_SECOND * began.elapsed().as_secs_f64() + EACH_REQUEST * REQUESTS as f64 + 1.0;
    assert!((BUDGET..=most).contains(&seconds), "{seconds} of at most {most}");
}
