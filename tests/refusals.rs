//! Octets that two parsers could read differently, sent to the real binary (RFC 9112, design "Proxy behaviour").

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::{Fairway, FairwayOptions, raw};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

async fn fairway(origin: &Origin) -> Fairway {
    let config = format!(
        "[[service]]\nname = \"web\"\nroutes = [\"a.test\"]\ninstances = [\"{}\"]\n",
        origin.address()
    );
    let fairway = FairwayOptions::new(BINARY).config(config).start().await;
    fairway.ready().await;
    fairway
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_parsers_could_read_differently_is_refused_and_the_connection_closed() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = fairway(&origin).await;
    let cases: &[(&str, &str, &str)] = &[
        (
            "400",
            "both lengths",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "400",
            "the other way round",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        ),
        (
            "400",
            "differing lengths",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        ),
        ("400", "a list of lengths", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3, 4\r\n\r\nabcd"),
        ("400", "a signed length", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +3\r\n\r\nabc"),
        ("400", "an empty length", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: \r\n\r\n"),
        (
            "400|501",
            "another coding",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n",
        ),
        (
            "400|501",
            "two codings",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, xchunked\r\n\r\n",
        ),
        (
            "400",
            "chunked in 1.0",
            "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("400", "a folded line", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n"),
        ("400", "a bare LF", "GET / HTTP/1.1\nHost: a.test\n\n"),
        ("400", "a bare CR in a value", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n"),
        ("400", "a NUL in a value", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n"),
        ("400", "a space before the colon", "GET / HTTP/1.1\r\nHost: a.test\r\nX : a\r\n\r\n"),
        ("400", "an empty name", "GET / HTTP/1.1\r\nHost: a.test\r\n: a\r\n\r\n"),
        ("400", "no host", "GET / HTTP/1.1\r\n\r\n"),
        ("400", "two hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n"),
        ("400", "host and target differ", "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("400", "a fragment", "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("400", "dot segments", "GET /a/../b HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("400", "encoded dot segments", "GET /a/%2e%2E/b HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("400", "an encoded NUL", "GET /a%00 HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("400", "a backslash", "GET /a\\b HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("400", "an encoded backslash", "GET /a%5cb HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("501|405|400", "a tunnel", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"),
        ("400|505", "another protocol", "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n"),
    ];
    for (want, what, octets) in cases {
        let answer = raw::exchange(fairway.http(), octets).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(want.split('|').any(|want| want == status), "{what}: {answer}");
        assert!(answer.contains("application/problem+json"), "{what}: {answer}");
    }
    assert_eq!(origin.requests(), 0, "none of them reached the origin");
    for (what, body) in [
        ("a chunk extension", "3;x=y\r\nabc\r\n0\r\n\r\n"),
        ("a chunk line with LF alone", "3\nabc\r\n0\r\n\r\n"),
        ("a chunk size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a chunk size too large", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("a signed chunk size", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a chunk longer than its size", "3\r\nabcd\r\n0\r\n\r\n"),
    ] {
        let head = "POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = raw::exchange(fairway.http(), format!("{head}{body}")).await;
        assert!(!answer.starts_with("HTTP/1.1 200") || !answer.ends_with("0\r\n\r\n"), "{what}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_beyond_the_limits_are_refused() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = fairway(&origin).await;
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    let (long, wide) = ("a".repeat(9000), "b".repeat(70_000));
    for (want, octets) in [
        ("414", format!("GET /{long} HTTP/1.1\r\nHost: a.test\r\n\r\n")),
        ("431", format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n")),
        ("431", format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {wide}\r\n\r\n")),
    ] {
        let answer = raw::exchange(fairway.http(), octets).await;
        assert_eq!(answer.split(' ').nth(1), Some(want), "{}", &answer[..answer.len().min(200)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_fields_are_ours_and_cannot_be_spoofed_or_stripped() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = fairway(&origin).await;
    let octets = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-Ip: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n\
                  Forwarded: for=6.6.6.6\r\nX-Forwarded-Proto: https\r\nProxy: http://evil\r\nX-Secret: 1\r\n\
                  Connection: close, X-Forwarded-For, X-Secret\r\n\r\n";
    let answer = raw::exchange(fairway.http(), octets).await;
    let body = &answer[answer.find("\r\n\r\n").expect("a head") + 4..];
    let seen: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
    let fields = seen["headers"].as_array().expect("fields");
    let get = |name: &str| -> Vec<&str> {
        let named = fields.iter().filter(|f| f[0].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)));
        named.filter_map(|f| f[1].as_str()).collect()
    };
    assert_eq!(get("x-forwarded-for"), ["127.0.0.1"], "{seen}");
    assert_eq!(get("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(get("x-forwarded-proto"), ["http"]);
    assert_eq!(get("host"), ["a.test"]);
    assert_eq!(get("via").len(), 1);
    assert_eq!(get("x-request-id").len(), 1);
    for gone in ["x-secret", "proxy", "x_forwarded_for"] {
        assert_eq!(get(gone), [""; 0], "{gone}: {seen}");
    }
    assert!(!seen.to_string().contains("6.6.6.6"), "{seen}");
}
