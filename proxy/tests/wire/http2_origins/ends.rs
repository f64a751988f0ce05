//! How streams and connections of an instance end, and what becomes of the requests on them.

use crate::http2::kit::*;
use http::Response;

use super::kit::*;
use crate::kit::Origin;
use crate::kit::{Options, Plane, Wire, field, get, ok, within};

pub(super) const REFUSED: u32 = 7;
pub(super) const NO_ERROR: u32 = 0;
const HTTP_1_1_REQUIRED: u32 = 13;

/// A POST that may not be sent twice, once an instance may have seen it.
pub(super) const POST: &str = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello";

pub(super) fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// An answer of status 200 with this body.
pub(super) fn answer(stream: u32, body: &[u8]) -> Vec<u8> {
    [
        frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")])),
        frame(DATA, END_STREAM, stream, body),
    ]
    .concat()
}

/// Waits for the end of the request's body.
pub(super) async fn ended(instance: &mut Frames) {
    while instance.next_of(DATA).await.flags & END_STREAM == 0 {}
}

#[tokio::test]
async fn requests_above_the_last_one_of_a_goaway_go_over_again_and_those_below_end_where_they_are() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
    let (mut one, mut other) = (plane.connect().await, plane.connect().await);
    one.send(POST).await;
    let mut first = origin.accept().await;
    let kept = request_on(&mut first).await.stream;
    ended(&mut first).await;
    other.send(POST).await;
    let lost = request_on(&mut first).await.stream;
    assert!(lost > kept);
    ended(&mut first).await;
    first.send(goaway(kept, NO_ERROR)).await;
    let mut second = origin.accept().await;
    let stream = request_on(&mut second).await.stream;
    second.send(answer(stream, b"other")).await;
    other.read_until("other").await;
    first.send(answer(kept, b"one")).await;
    one.read_until("one").await;
    // The first connection is drained: it ends, and the next request is on the second one.
    while first.next().await.is_some() {}
    one.send(get("/")).await;
    let stream = request_on(&mut second).await.stream;
    second.send(answer(stream, b"again")).await;
    one.read_until("again").await;
}

#[tokio::test]
async fn a_stream_that_was_reset_is_not_asked_again_at_the_same_instance() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    let stream = request_on(&mut instance).await.stream;
    instance.send(answer(stream, b"done")).await;
    client.read_until("done\r\n0\r\n\r\n").await;
    client.send(get("/")).await;
    let stream = request_on(&mut instance).await.stream;
    instance.send(reset(stream, INTERNAL_ERROR)).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test]
async fn other_resets_say_nothing_of_what_was_done_and_a_post_is_not_sent_twice() {
    for (code, text) in [
        (CANCEL, "reset the stream before it answered"),
        (INTERNAL_ERROR, "reset the stream before it answered"),
        (HTTP_1_1_REQUIRED, "wants HTTP/1.1"),
    ] {
        let origin = RawOrigin::new().await;
        let plane = plane(&[origin.address()], &[]);
        let mut client = plane.connect().await;
        client.send(POST).await;
        let mut instance = origin.accept().await;
        let stream = request_on(&mut instance).await.stream;
        ended(&mut instance).await;
        instance.send(reset(stream, code)).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        let body = client.read_until("}\n").await;
        assert!(body.contains("upstream-closed") && body.contains(text), "{body}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_stream_and_no_other() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let (mut leaves, mut stays) = (plane.connect().await, plane.connect().await);
    leaves.send(get("/leaves")).await;
    let mut left = origin.asked().await;
    stays.send(get("/stays")).await;
    let mut kept = origin.asked().await;
    assert_eq!((left.connection, kept.connection), (0, 0));
    let mut body = left.head_of(Response::new(()));
    leaves.head().await;
    leaves.reset();
    let gone = within("the cancellation", std::future::poll_fn(|cx| body.poll_reset(cx))).await;
    assert_eq!(gone.expect("a reset"), h2::Reason::CANCEL);
    kept.answer("stays");
    stays.read_until("stays").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_for_the_client() {
    for how in ["reset", "end", "short"] {
        let origin = RawOrigin::new().await;
        let plane = plane(&[origin.address()], &[]);
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let mut instance = origin.accept().await;
        let stream = request_on(&mut instance).await.stream;
        let fields = [(":status", "200"), ("content-length", "100")];
        let fields = if how == "short" { &fields[..] } else { &fields[..1] };
        let head = frame(HEADERS, END_HEADERS, stream, &block(fields));
        instance.send([head, frame(DATA, 0, stream, b"half")].concat()).await;
        client.read_until("half").await;
        match how {
            "reset" => instance.send(reset(stream, INTERNAL_ERROR)).await,
            "end" => instance.0.finish().await,
            _ => instance.send(frame(DATA, END_STREAM, stream, b"of it")).await,
        }
        let rest = client.read_to_end().await;
        assert!(!rest.contains("0\r\n\r\n"), "{how}: {rest:?}");
    }
}

#[tokio::test]
async fn an_early_answer_and_a_reset_without_error_end_an_upload_well() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[]);
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100000\r\n\r\nfirst").await;
    let mut instance = origin.accept().await;
    let stream = request_on(&mut instance).await.stream;
    instance.send([answer(stream, b"enough"), reset(stream, NO_ERROR)].concat()).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && field(&head, "connection") == Some("close"), "{head}");
    client.read_until("enough").await;
}

#[tokio::test]
async fn a_connection_that_breaks_between_requests_costs_nobody_an_error() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[("fairway.retries", "0")]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut first = origin.accept().await;
    let stream = request_on(&mut first).await.stream;
    first.send(answer(stream, b"one")).await;
    client.read_until("one").await;
    client.send(get("/")).await;
    request_on(&mut first).await;
    first.0.reset();
    let mut second = origin.accept().await;
    let stream = request_on(&mut second).await.stream;
    second.send(answer(stream, b"two")).await;
    client.read_until("two").await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_a_farewell_after_its_time() {
    let origin = RawOrigin::new().await;
    let plane = plane(&[origin.address()], &[("fairway.timeout.idle", "1s")]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    let stream = request_on(&mut instance).await.stream;
    instance.send(answer(stream, b"one")).await;
    client.read_until("one").await;
    assert_eq!(instance.goaway().await, NO_ERROR);
}

#[tokio::test]
async fn an_instance_that_stops_or_goes_finishes_its_streams_and_gets_no_new_ones() {
    let mut old = H2Origin::new().await;
    let new = H2Origin::new().await;
    let mut plane = plane(&[old.address], &[]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut held = old.asked().await;
    let ids = plane.cluster.ids();
    let address = new.serve("new");
    plane.change(|cluster| {
        cluster.add(address, "shop.test", &[H2C]);
        cluster.stop(&ids[0]);
    });
    assert!(
        plane.exchange(get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await.contains("new")
    );
    plane.change(|cluster| cluster.remove(&ids[0]));
    assert!(
        plane.exchange(get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await.contains("new")
    );
    held.answer("held");
    client.read_until("held").await;
}

#[tokio::test]
async fn the_versions_of_a_route_may_speak_different_protocols() {
    let h1 = Origin::new().await;
    let h2 = H2Origin::new().await;
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(h1.address, "shop.test", &[("fairway.version", "v1"), ("fairway.match", "header:v=1")]);
        cluster.add(h2.address, "shop.test", &[("fairway.version", "v2"), H2C]);
    });
    h2.serve("two");
    let mut client = plane.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nv: 1\r\n\r\n").await;
    let mut up: Wire = h1.accept().await;
    up.head().await;
    up.send(ok("one")).await;
    client.read_until("one").await;
}

#[tokio::test]
async fn an_instance_that_does_not_answer_in_time_is_told_whatever_the_client_speaks() {
    let origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[("fairway.timeout.first_byte", "100ms")]);
    for request in [get("/"), POST.to_owned()] {
        let mut client = plane.connect().await;
        client.send(request).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    }
    let client = client(&plane).await;
    assert_eq!(crate::http2::kit::get(&client, ask("/")).await.0, 504);
    let request = http::Request::post("http://shop.test/").body(()).expect("a request");
    let response = send(&client, request, Some(b"hello")).await.expect("an answer");
    assert_eq!(response.status(), 504);
}
