//! What goes over to an instance that speaks HTTP/2, and what comes back: heads, bodies, trailers.

use bytes::Bytes;
use h2::server::Builder;
use http::{HeaderMap, Response};

use super::kit::*;
use crate::http2::kit as client;
use crate::kit::*;

/// Sends a large body through whatever windows there are.
async fn send_large(stream: &mut h2::SendStream<Bytes>, octets: usize) {
    let mut left = Bytes::from(vec![b'd'; octets]);
    while !left.is_empty() {
        stream.reserve_capacity(left.len());
        let room = within("room", std::future::poll_fn(|cx| stream.poll_capacity(cx))).await;
        let room = room.expect("the stream is open").expect("the stream is open").min(left.len());
        stream.send_data(left.split_to(room), false).expect("it is open");
    }
}

#[tokio::test]
async fn a_request_goes_over_without_the_fields_of_a_connection_and_its_answer_comes_back_in_http1() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let mut client = plane.connect().await;
    client
        .send("GET /a%2Fb?c=d HTTP/1.1\r\nHost: Shop.test\r\nX-A: 1\r\nConnection: keep-alive, X-B\r\nX-B: 2\r\nTE: trailers\r\n\r\n")
        .await;
    let mut asked = origin.asked().await;
    assert_eq!(asked.head.uri(), "http://Shop.test/a%2Fb?c=d");
    let fields = asked.head.headers();
    assert_eq!(fields["x-a"], "1");
    assert!(!fields.contains_key("x-b") && !fields.contains_key("host"), "{fields:?}");
    assert_eq!(fields["x-forwarded-host"], "Shop.test");
    assert_eq!(fields["via"], "1.1 edge");
    assert!(asked.body.is_end_stream());
    let response = Response::builder().status(404).header("x-c", "3").header("content-length", "4");
    let mut body = asked.head_of(response.body(()).expect("a head"));
    body.send_data("gone".into(), true).expect("it is open");
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
    assert_eq!((field(&head, "x-c"), field(&head, "content-length")), (Some("3"), Some("4")));
    assert_eq!(client.read_exactly(4).await, b"gone");
    // The client's connection goes on, and so does the instance's.
    client.send(get("/next")).await;
    let mut asked = origin.asked().await;
    assert_eq!((asked.head.uri().path(), asked.connection), ("/next", 0));
    asked.answer("more");
    let head = client.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
    client.read_until("4\r\nmore\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn large_bodies_go_both_ways_at_once_through_small_windows() {
    const OCTETS: usize = 3_000_000;
    let mut origin = H2Origin::with(Builder::new().initial_window_size(1000)).await;
    let plane = plane(&[origin.address], &[]);
    let mut client = plane.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {OCTETS}\r\n\r\n")).await;
    let mut asked = origin.asked().await;
    assert_eq!(asked.head.headers()["content-length"], OCTETS.to_string());
    let mut body =
        asked.head_of(Response::builder().header("content-length", OCTETS).body(()).expect("a head"));
    let instance = tokio::spawn(async move {
        let ((), got) = tokio::join!(send_large(&mut body, OCTETS), asked.read());
        // An answer that ends before its request would end both.
        body.send_data(Bytes::new(), true).expect("it is open");
        got.expect("a whole body")
    });
    let (mut read, mut write) = client.stream.into_split();
    let sends = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write, &vec![b'u'; OCTETS]).await.expect("it is taken");
        write
    });
    let mut down = Vec::new();
    within("the answer", async {
        while down.len() < OCTETS
            || !down.ends_with(&[b'd'; 1000])
            || down.iter().filter(|b| **b == b'd').count() < OCTETS
        {
            assert!(tokio::io::AsyncReadExt::read_buf(&mut read, &mut down).await.expect("octets") > 0);
        }
    })
    .await;
    sends.await.expect("no panic");
    let got = within("the request", instance).await.expect("no panic");
    assert!(got.len() == OCTETS && got.iter().all(|octet| *octet == b'u'));
}

#[tokio::test]
async fn trailers_go_both_ways_between_all_protocols() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let mut http1 = plane.connect().await;
    http1
        .send("POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-up: 1\r\n\r\n")
        .await;
    let http2 = client::client(&plane).await;
    let mut sender = http2.clone().ready().await.expect("it is open");
    let request = http::Request::post("http://shop.test/").body(()).expect("a request");
    let (response, mut body) = sender.send_request(request, false).expect("sent");
    body.send_data("abc".into(), false).expect("it is open");
    let mut fields = HeaderMap::new();
    fields.insert("x-up", "1".parse().expect("a value"));
    body.send_trailers(fields).expect("it is open");
    for _ in 0..2 {
        let mut asked = origin.asked().await;
        assert_eq!(asked.read().await.expect("a body"), b"abc");
        let trailers = within("trailers", asked.body.trailers()).await.expect("trailers").expect("trailers");
        assert_eq!(trailers["x-up"], "1");
        let mut body = asked.head_of(Response::new(()));
        body.send_data("def".into(), false).expect("it is open");
        let mut fields = HeaderMap::new();
        fields.insert("x-down", "2".parse().expect("a value"));
        body.send_trailers(fields).expect("it is open");
    }
    http1.read_until("3\r\ndef\r\n0\r\nx-down: 2\r\n\r\n").await;
    let response = within("an answer", response).await.expect("an answer");
    let (octets, trailers) = client::read(response.into_body()).await.expect("a body");
    assert_eq!(
        (&octets[..], &trailers.expect("trailers")["x-down"]),
        (&b"def"[..], &"2".parse().expect("a value"))
    );
}

#[tokio::test]
async fn answers_without_a_body_say_so_in_each_protocol() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let mut http1 = plane.connect().await;
    for (method, status, want) in
        [("GET", 302, Some("0")), ("GET", 204, None), ("GET", 304, None), ("HEAD", 200, None)]
    {
        http1.send(format!("{method} / HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await;
        let mut asked = origin.asked().await;
        let response = Response::builder().status(status).body(()).expect("a head");
        asked.respond.send_response(response, true).expect("it is open");
        let head = http1.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        if method == "GET" {
            assert_eq!(field(&head, "content-length"), want, "{head}");
            assert_eq!(field(&head, "transfer-encoding"), None, "{head}");
        }
    }
}
