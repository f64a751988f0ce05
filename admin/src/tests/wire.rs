//! Requests that are no requests, or too much of one.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::*;

#[tokio::test]
async fn what_is_no_http_is_refused_and_hurts_nobody() {
    let (world, _folder) = World::new().await;
    for octets in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET /livez HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let answer = world.raw(octets).await;
        let said = String::from_utf8_lossy(octets).into_owned();
        assert!(matches!(answer.status, 0 | 400 | 505), "{said}: {}{}", answer.head, answer.body);
        assert_eq!(world.get("/livez").await.status, 200, "after {said}");
    }
}

#[tokio::test]
async fn a_request_without_a_host_or_with_two_is_400() {
    let (world, _folder) = World::new().await;
    for head in [
        "GET /livez HTTP/1.1\r\n",
        "GET /livez HTTP/1.0\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n",
        "GET http://evil.example/livez HTTP/1.1\r\nHost: localhost\r\n",
    ] {
        let answer = world.raw(format!("{head}Connection: close\r\n\r\n").as_bytes()).await;
        answer.refused(400, "bad-host");
    }
    let absolute = "GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(world.raw(absolute.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn heads_are_bounded_in_fields_and_in_octets() {
    let (world, _folder) = World::new().await;
    let head = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(world.raw(format!("{head}{many}\r\n").as_bytes()).await.status, 431);
    let long = "x".repeat(100_000);
    let status = world.raw(format!("{head}x: {long}\r\n\r\n").as_bytes()).await.status;
    assert!(matches!(status, 0 | 431), "{status}");
    let status = world.raw(format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes()).await.status;
    assert!(matches!(status, 0 | 414 | 431), "{status}");
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_before_it_comes() {
    let (world, _folder) = World::new().await;
    let head =
        "PUT /api/v1/backends/v1/state HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let answer = world.raw(format!("{head}Content-Length: 10000000000\r\n\r\n").as_bytes()).await;
    answer.refused(413, "body-too-large");
    // In chunks nothing is announced.
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let octets =
        format!("{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunk}{chunk}0\r\n\r\n");
    world.raw(octets.as_bytes()).await.refused(413, "body-too-large");
}

#[tokio::test]
async fn a_body_that_is_cut_short_changes_nothing() {
    let (world, _folder) = World::new().await;
    let mut stream = world.connect().await;
    let head =
        "PUT /api/v1/backends/v1/state HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let octets = format!("{head}Content-Length: 100\r\n\r\n{{\"state\":\"disabled\"}}");
    within(stream.write_all(octets.as_bytes())).await.expect("it can be sent");
    within(stream.shutdown()).await.expect("it can be ended");
    let mut answer = String::new();
    let _ = within(stream.read_to_string(&mut answer)).await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    assert!(world.inputs.current().decisions.states.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed() {
    let (world, _folder) = World::new().await;
    let mut stream = world.connect().await;
    within(stream.write_all(b"GET /livez HTTP/1.1\r\nHost:")).await.expect("it can be sent");
    let mut rest = Vec::new();
    // The clock is paused: it jumps to the time limit as soon as nobody has anything to do.
    stream.read_to_end(&mut rest).await.expect("it is closed");
    assert!(!rest.starts_with(b"HTTP/1.1 2"));
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let (world, _folder) = World::new().await;
    let mut stream = world.connect().await;
    let one = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    within(stream.write_all(format!("{one}{one}{last}").as_bytes())).await.expect("it can be sent");
    let mut answers = String::new();
    within(stream.read_to_string(&mut answers)).await.expect("whole answers");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
}
