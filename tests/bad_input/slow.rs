//! Instances that take their time: each wait has a limit, and what is slow but goes on is borne.
//!
//! Not here: clients that leave (see [`crate::leaving`]), many slow clients (see [`crate::crowds`]).

use fairway_testkit::raw::{End, Raw};

use crate::answers::Rig;
use crate::leaving::nothing_in_flight;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello";
const ASK: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Sends one octet after the other, `pause` between, until the other side has had enough.
async fn drips(raw: &mut Raw, text: &str) {
    for octet in text.bytes().cycle() {
        if !raw.send([octet]).await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_instance_has_so_long_for_a_whole_head_however_it_spends_it() {
    let mut rig = Rig::with("retries = 0\noutlier = false\ntimeout = { first_byte = \"1s\" }\n").await;
    for (what, request, begin, drip) in [
        ("nothing", GET, "", ""),
        ("nothing to a POST", POST, "", ""),
        ("half a status line", GET, "HTTP/1.1 2", ""),
        ("a head without its end", GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", ""),
        ("octet by octet", GET, "HTTP/1.1 200 OK\r\nX: ", "x"),
        ("answers before the one that counts", GET, "HTTP/1.1 102 Processing\r\n\r\n", ""),
    ] {
        let (mut client, mut instance) = rig.ask(request).await;
        instance.send(begin).await;
        if !drip.is_empty() {
            drips(&mut instance, drip).await;
        }
        let mut head = client.head().await;
        if head.starts_with("HTTP/1.1 102 ") {
            head = client.head().await;
        }
        assert!(head.starts_with("HTTP/1.1 504 "), "{what}: {head}");
        client.read_until("\"upstream-timeout\"").await;
        client.read_until("}\n").await;
        rig.tells(504, "upstream-timeout");
        let body = if request == POST { &b"hello"[..] } else { b"" };
        assert_eq!(instance.read_to_end().await.0, body, "{what}: nothing more is sent on it");
        rig.goes_on(what, &mut client).await;
    }
    nothing_in_flight(&rig.fairway).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_answer_that_stops_is_cut_and_one_that_drips_is_not() {
    let mut rig = Rig::with("retries = 0\noutlier = false\ntimeout = { idle = \"1s\" }\n").await;
    for head in
        ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "\r\nhello"]
    {
        let (mut client, mut instance) = rig.ask(GET).await;
        instance.send(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        client.read_until("hello").await;
        let (rest, _) = client.read_to_end().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{head}");
        assert_eq!(instance.read_to_end().await.0, b"", "{head}");
        rig.tells(200, "upstream-cut");
    }
    let (mut client, mut instance) = rig.ask(ASK).await;
    instance.send(SWITCH).await;
    client.head().await;
    assert_eq!(client.read_to_end().await.0, b"", "a tunnel in which nobody speaks");
    assert_eq!(instance.read_to_end().await.0, b"");
    rig.tells(101, "upstream-timeout");
    // Longer than the limit in all, never as long without an octet.
    let (mut client, mut instance) = rig.ask(GET).await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 60\r\nConnection: close\r\n\r\n").await;
    client.head().await;
    for _ in 0..60 {
        instance.send("x").await;
        assert_eq!(client.read_exactly(1).await, b"x");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    rig.tells(200, "ok");
    nothing_in_flight(&rig.fairway).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_request_has_so_long_as_a_whole_if_its_route_says_so() {
    let mut rig = Rig::with("retries = 0\noutlier = false\ntimeout = { total = \"1s\" }\n").await;
    let (mut client, _instance) = rig.ask(GET).await;
    client.read_until("HTTP/1.1 504 ").await;
    client.read_until("\"total-timeout\"").await;
    rig.tells(504, "total-timeout");
    let (mut client, mut instance) = rig.ask(GET).await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
    client.head().await;
    drips(&mut instance, "x").await;
    let (body, end) = client.read_to_end().await;
    assert!(body.len() < 1_000_000 && end == End::Closed || end == End::Reset, "{} octets", body.len());
    rig.tells(200, "total-timeout");
    // A body that the client drips counts, too.
    let (mut client, mut instance) =
        rig.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n").await;
    drips(&mut client, "x").await;
    client.read_until("HTTP/1.1 504 ").await;
    rig.tells(504, "total-timeout");
    instance.read_to_end().await;
    nothing_in_flight(&rig.fairway).await;
    rig.finish().await;
}
