//! What is refused, as octets on a real connection: the answer says why, and nothing reaches an instance.

use std::time::{Duration, Instant};

use crate::kit::*;

fn problem(answer: &str) -> serde_json::Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {answer:?}"));
    assert_eq!(field(head, "Content-Type"), Some("application/problem+json"), "{head}");
    assert_eq!(field(head, "Content-Length"), Some(body.len().to_string().as_str()), "{head}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[tokio::test]
async fn what_two_parsers_could_read_differently_is_refused_and_the_connection_closed() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let (get, post) = ("GET / HTTP/1.1\r\nHost: shop.test\r\n", "POST / HTTP/1.1\r\nHost: shop.test\r\n");
    for (request, status, word) in [
        (
            format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
            "conflicting-length",
        ),
        (format!("{post}Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody"), 400, "conflicting-length"),
        (format!("{post}Content-Length: 4 4\r\n\r\nbody"), 400, "length-invalid"),
        (format!("{post}Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n"), 400, "transfer-encoding"),
        (
            "POST / HTTP/1.0\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            400,
            "transfer-encoding",
        ),
        (format!("{get}A: b\r\n c\r\n\r\n"), 400, "request-invalid"),
        (format!("{get}A: b\nB: c\r\n\r\n"), 400, "request-invalid"),
        (format!("{get}A : b\r\n\r\n"), 400, "request-invalid"),
        (format!("{get}A: b\0\r\n\r\n"), 400, "request-invalid"),
        (format!("{get}: b\r\n\r\n"), 400, "request-invalid"),
        (format!("{get}Host: other.test\r\n\r\n"), 400, "host-invalid"),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, "host-missing"),
        ("GET http://other.test/ HTTP/1.1\r\nHost: shop.test\r\n\r\n".into(), 400, "host-differs"),
        ("GET /../a HTTP/1.1\r\nHost: shop.test\r\n\r\n".into(), 400, "path-invalid"),
        ("GET /a#b HTTP/1.1\r\nHost: shop.test\r\n\r\n".into(), 400, "path-invalid"),
        ("CONNECT shop.test:80 HTTP/1.1\r\nHost: shop.test:80\r\n\r\n".into(), 501, "method-refused"),
        ("PRI * HTTP/2.0\r\nHost: shop.test\r\n\r\n".into(), 505, "version-refused"),
        (format!("GET /{} HTTP/1.1\r\nHost: shop.test\r\n\r\n", "a".repeat(9000)), 414, "target-too-long"),
        (format!("GET /{}", "a".repeat(9000)), 414, "target-too-long"),
        (format!("{get}{}\r\n", "A: b\r\n".repeat(101)), 431, "header-too-large"),
        (format!("{get}A: {}\r\n\r\n", "b".repeat(70_000)), 431, "header-too-large"),
        (format!("{post}Expect: x\r\n\r\n"), 417, "expectation-refused"),
        ("\u{16}\u{3}\u{1}\u{0}\u{a5}".into(), 400, "request-invalid"),
    ] {
        // A second request behind it must not be read: nobody knows where it starts.
        let answer =
            plane.exchange(format!("{request}GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert_eq!(field(&answer, "Connection"), Some("close"), "{answer}");
        let problem = problem(&answer);
        assert_eq!((&problem["type"], &problem["status"]), (&word.into(), &status.into()), "{request:?}");
        assert_eq!(answer.matches("\r\nDate: ").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_is_refused_and_the_instance_gets_no_end() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    for bad in
        ["5;a=b\r\nhello\r\n", "5\nhello\r\n", "0x5\r\nhello\r\n", "fffffffffffffffff\r\n", "5\r\nhelloX\r\n"]
    {
        let mut client = plane.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
            .await;
        let mut instance = origin.accept().await;
        instance.head().await;
        assert_eq!(instance.read_exactly(7).await, b"2\r\nok\r\n");
        client.send(bad).await;
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
        assert_eq!(problem(&answer)["type"], "body-invalid");
        assert!(!instance.read_to_end().await.contains("0\r\n\r\n"), "{bad:?}");
    }
}

#[tokio::test]
async fn an_unknown_host_gets_404_and_the_connection_stays() {
    let plane = Plane::with(Options::default(), |_| {});
    let mut client = plane.connect().await;
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: other.test\r\nContent-Length: 2\r\n\r\nxx").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
        let length = field(&head, "Content-Length").and_then(|l| l.parse().ok()).expect("a length");
        let body = client.read_exactly(length).await;
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(problem["type"], "no-route");
        assert_eq!(problem["request_id"].as_str(), field(&head, "X-Request-Id"));
    }
    client.send("HEAD / HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n").await;
    let answer = client.read_to_end().await;
    assert!(answer.ends_with("\r\n\r\n") && field(&answer, "Content-Length").is_some(), "{answer}");
}

#[tokio::test]
async fn a_refusal_arrives_though_the_client_is_still_sending() {
    let plane = Plane::with(Options::default(), |_| {});
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: other.test\r\nContent-Length: 100000\r\n\r\n").await;
    client.send(vec![b'x'; 50_000]).await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(field(&answer, "Connection"), Some("close"));
}

#[tokio::test]
async fn a_header_that_does_not_arrive_in_time_is_refused() {
    let plane = Plane::with(Options::default(), |_| {});
    let mut client = plane.connect().await;
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: sh").await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(start.elapsed() >= Duration::from_secs(10));
}

#[tokio::test]
async fn a_request_that_has_passed_here_too_often_is_a_loop() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let ask = |passes: usize| {
        let via = "Via: 1.1 edge, 1.1 other\r\n".repeat(passes);
        format!("GET / HTTP/1.1\r\nHost: shop.test\r\n{via}Connection: close\r\n\r\n")
    };
    let answer = plane.exchange(ask(6)).await;
    assert!(answer.starts_with("HTTP/1.1 508 "), "{answer}");
    let mut client = plane.connect().await;
    client.send(ask(5)).await;
    assert_eq!(origin.accept().await.head().await.matches("1.1 edge").count(), 6);
}
