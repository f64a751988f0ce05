//! Clients and instances that take their time: each wait has a limit, and what is slow but goes on is borne.
//!
//! Not here: clients that leave (see [`crate::leaving`]), many slow clients (see [`crate::crowds`]), each limit by itself
//! (`proxy/tests/wire/limits.rs`).

use fairway_testkit::raw::{End, Raw};

use crate::answers::Rig;
use crate::leaving::nothing_in_flight;
use crate::table::check_refusal;

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

#[tokio::test]
async fn a_client_has_so_long_in_each_phase_and_its_instance_is_free_then() {
    let limits = "[limits]\nheader_time = \"500ms\"\nidle_time = \"1s\"\nbody_grace = \"10m\"\n";
    let mut rig = Rig::with_both("retries = 0\noutlier = false\n", limits).await;
    // Nothing at all, and nothing behind an answer.
    let mut silent = Raw::connect(rig.http()).await;
    assert_eq!(silent.read_to_end().await, (vec![], End::Closed));
    let mut idle = Raw::connect(rig.http()).await;
    rig.goes_on("a client that then idles", &mut idle).await;
    assert_eq!(idle.read_to_end().await, (vec![], End::Closed));
    // A header that stops, and one that drips.
    for (begin, drip) in
        [("GET / HTTP/1.1\r\nHost: a.t", ""), ("GET / HTTP/1.1\r\nHost: a.test\r\nX: ", "x"), ("G", "")]
    {
        let mut client = Raw::connect(rig.http()).await;
        client.send(begin).await;
        if !drip.is_empty() {
            drips(&mut client, drip).await;
        }
        let answer = client.read_until("}\n").await;
        check_refusal(begin, &answer, 408, "client-timeout");
        rig.tells(408, "client-timeout");
    }
    // A body that stops: announced and not sent, in a chunk, between chunks.
    for (request, part) in [
        ("GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n", ""),
        ("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhello", "hello"),
        ("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", "5\r\nhello\r\n"),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "5\r\nhello\r\n",
        ),
    ] {
        let (mut client, mut instance) = rig.ask(request).await;
        let (answer, end) = client.read_to_end().await;
        check_refusal(request, &answer, 408, "client-timeout");
        assert_eq!(end, End::Closed);
        rig.tells(408, "client-timeout");
        assert_eq!(instance.read_to_end().await.0, part.as_bytes(), "{request}: no end that was not there");
    }
    // An answer that is not taken.
    let (client, mut instance) = rig.ask(GET).await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    let block = vec![b'x'; 1_000_000];
    while instance.send(&block).await {}
    rig.tells(499, "client-timeout");
    drop(client);
    nothing_in_flight(&rig.fairway).await;
    let mut client = Raw::connect(rig.http()).await;
    rig.goes_on("afterwards", &mut client).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_body_that_drips_below_the_least_speed_is_refused() {
    let limits = "[limits]\nbody_rate = 1000\nbody_grace = \"1s\"\n";
    let mut rig = Rig::with_both("retries = 0\noutlier = false\n", limits).await;
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let begin = if framing.starts_with('T') { "f4240\r\n" } else { "" };
        let request = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n{begin}");
        let (mut client, mut instance) = rig.ask(&request).await;
        drips(&mut client, "x").await;
        let answer = client.read_until("}\n").await;
        check_refusal(framing, &answer, 408, "body-too-slow");
        rig.tells(408, "body-too-slow");
        assert!(!instance.read_to_end().await.0.ends_with(b"0\r\n\r\n"), "{framing}");
    }
    nothing_in_flight(&rig.fairway).await;
    rig.finish().await;
}
