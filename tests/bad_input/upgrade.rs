//! Requests that ask to stop being HTTP: none does before an instance has said 101 (RFC 9110 section 7.8).
//!
//! Not here: what instances answer to them (see [`crate::answers`]), open tunnels (`proxy/tests/wire`).

use fairway_testkit::raw::Raw;

use crate::table::Bench;

const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

#[tokio::test]
async fn only_a_websocket_is_asked_for_and_never_with_a_body() {
    let mut bench = Bench::start().await;
    let seen = get(&format!("{KEY}Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    for (what, fields) in [
        ("websocket", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("in any case", "connection: UPGRADE\r\nupgrade: WebSocket\r\n"),
        (
            "beside h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, websocket\r\nHTTP2-Settings: AAMAAABk\r\n",
        ),
        ("beside others", "Connection: keep-alive, Upgrade\r\nUpgrade: tls/1.0\r\nUpgrade: websocket\r\n"),
    ] {
        bench.passes(what, &get(&format!("{fields}{KEY}")), &seen).await;
    }
    for (what, fields) in [
        ("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ("h2c in capitals", "Connection: Upgrade\r\nUpgrade: H2C\r\n"),
        ("h2c without settings", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        ("h2", "Connection: Upgrade\r\nUpgrade: h2\r\n"),
        ("HTTP/2.0", "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n"),
        ("TLS", "Connection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/1.1\r\n"),
        ("something that starts alike", "Connection: Upgrade\r\nUpgrade: websocket-2\r\n"),
        ("with a version", "Connection: Upgrade\r\nUpgrade: websocket/13\r\n"),
        ("in quotes", "Connection: Upgrade\r\nUpgrade: \"websocket\"\r\n"),
        ("empty", "Connection: Upgrade\r\nUpgrade:\r\n"),
        ("not named", "Upgrade: websocket\r\n"),
        ("named, not asked for", "Connection: Upgrade\r\n"),
        ("another name", "Connection: Upgrades\r\nUpgrade: websocket\r\n"),
    ] {
        bench.passes(what, &get(fields), &get("")).await;
    }
    let ask = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}");
    for (what, fields, body) in [
        ("a length", "Content-Length: 5\r\n", "hello"),
        ("chunks", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("chunks without data", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ] {
        bench.refuses(what, &(get(&format!("{ask}{fields}")) + body), 400, "upgrade-refused").await;
        let post = get(&format!("{ask}{fields}")).replace("GET", "POST") + body;
        bench.refuses(what, &post, 400, "upgrade-refused").await;
    }
    let both = get(&format!("{ask}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")) + "0\r\n\r\n";
    bench.refuses("a length and chunks", &both, 400, "conflicting-length").await;
    let old = get(&ask).replace("HTTP/1.1", "HTTP/1.0");
    bench.passes_and_closes("HTTP/1.0", &old, &get(KEY)).await;
    let tunnel = get(&ask).replace("GET /", "CONNECT a.test:80");
    bench.refuses("a tunnel and a websocket", &tunnel, 501, "method-refused").await;
    bench.finish().await;
}

#[tokio::test]
async fn a_request_behind_an_upgrade_that_was_not_granted_is_a_request_like_others() {
    let mut bench = Bench::start().await;
    let ask = get(&format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}"));
    let behind = "GET /second HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: X-Secret\r\nX-Secret: 1\r\n\r\n";
    let bad = "GET /third HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut raw = Raw::connect(bench.fairway.http()).await;
    // Sent before any answer: nothing of it may reach the instance but as requests that were read.
    raw.send([&ask, behind, bad].concat()).await;
    for _ in 0..2 {
        assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
        raw.read_until("ok").await;
        bench.tells(200, "ok");
    }
    let (answer, _) = raw.read_to_end().await;
    crate::table::check_refusal("the third", &answer, 400, "conflicting-length");
    bench.tells(400, "conflicting-length");
    let seen = bench.recorder.take();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[1].line, "GET /second HTTP/1.1");
    assert_eq!(seen[1].get("x-forwarded-for"), ["127.0.0.1"], "{seen:?}");
    assert!(seen[1].get("x-secret").is_empty(), "{seen:?}");
    bench.passes("a further one", &get(""), &get("")).await;
    bench.finish().await;
}
