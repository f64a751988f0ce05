//! What a request asks for: path, absolute form, host (RFC 9112 section 3, design "Proxy behaviour").

use crate::table::Bench;

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

#[tokio::test]
async fn a_path_goes_on_octet_by_octet_or_is_refused() {
    let mut bench = Bench::start().await;
    for target in [
        "/.",
        "/..",
        "/./",
        "/../",
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/a/.",
        "/..//a",
        "//..",
        "/a/..?b",
        "/.?a",
        "/%2e",
        "/%2E",
        "/%2e%2e",
        "/%2E%2e/",
        "/.%2e",
        "/%2e.",
        "/a/%2e%2e/b",
        "/a/.%2E/b",
        "/a/%2e/b",
        "/..;",
        "/..;/",
        "/..;a=b/c",
        "/.;/a",
        "/a/..;/b",
        "/%2e%2e;/",
        "/.%2e;x/y",
        "/a/%2e;",
        "/%00",
        "/a%00",
        "/a%00.html",
        "/a/%00/b",
        "/\\",
        "/a\\b",
        "/\\..\\a",
        "/..\\a",
        "/%5c",
        "/a%5Cb",
        "/%5c..%5c",
        "/#",
        "/a#b",
        "/a#",
        "/?a#b",
        "/#/../a",
        "/a?b#c/../d",
        "/a\0",
        "/\x01",
        "/a\x1f",
        "/a\x7f",
        "/a\tb",
        "/?a\x0bb",
        "/a\x08",
        // Not UTF-8: overlong forms of `/` and `.`, a lone continuation, Latin-1, a surrogate.
        "/\u{c0}\u{af}",
        "/\u{c0}\u{ae}\u{c0}\u{ae}/",
        "/\u{e0}\u{80}\u{af}",
        "/\u{80}",
        "/a\u{e4}b",
        "/\u{ed}\u{a0}\u{80}",
        "/?\u{c0}\u{af}",
        "/\u{ff}\u{fe}",
    ] {
        bench.refuses(&format!("{target:?}"), &get(target), 400, "path-invalid").await;
    }
    for target in [
        "/",
        "//",
        "///",
        "//a//b",
        "/a//",
        "/a/b/",
        "//b.test/",
        "//b.test/..a",
        "/:80",
        "/@b.test",
        "/a@b:c",
        "/...",
        "/....",
        "/..a",
        "/a..",
        "/a../b",
        "/.a",
        "/a./b",
        "/.well-known/x",
        "/a/.git",
        "/...;/",
        "/%2f",
        "/a%2Fb",
        "/%2f%2f",
        "/a%2f..%2fb",
        "/..%2fa",
        "/%2e%2e%2fa",
        "/%252e%252e/",
        "/%2",
        "/%",
        "/%zz",
        "/%2%65",
        "/%3b",
        "/..%3b/",
        "/;",
        "/;a=b",
        "/a;b;c",
        "/%23",
        "/%3f",
        "/%20",
        "/%0d%0a",
        "/%c0%af",
        "/%c0%ae%c0%ae/",
        "/%e0%80%af",
        "/%u002e",
        "/%ff",
        "/%7f",
        "/%0",
        "/%5",
        "/%5b",
        "/?",
        "/?a=/../b",
        "/?..",
        "/?%00",
        "/?\\",
        "/?%5c",
        "/?a?b",
        "/a?b=c&d",
        "/??",
        "/?%2e%2e",
        "/?;",
        "/\"",
        "/'",
        "/<>",
        "/{}",
        "/|",
        "/^",
        "/`",
        "/~",
        "/!$&()*+,=",
        "/[::1]",
        // UTF-8 as it is: an umlaut, a character of four octets, one that reverses text, an end of line of Unicode.
        "/\u{c3}\u{a4}",
        "/\u{f0}\u{9f}\u{98}\u{80}",
        "/\u{e2}\u{80}\u{ae}",
        "/\u{e2}\u{80}\u{a8}",
        "/\u{c2}\u{85}",
    ] {
        bench.passes(&format!("{target:?}"), &get(target), &get(target)).await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn a_target_is_a_path_or_an_url_of_the_same_host() {
    let mut bench = Bench::start().await;
    let url = |url: &str, host: &str| format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let seen = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (sent, host, target) in [
        ("http://a.test/", "a.test", "/"),
        ("http://a.test", "a.test", "/"),
        ("http://a.test?x", "a.test", "/?x"),
        ("http://a.test/b?c=d", "a.test", "/b?c=d"),
        ("HTTP://A.TEST/b", "a.test", "/b"),
        ("http://a.test:80/b", "a.test", "/b"),
        ("http://a.test/b", "a.test:80", "/b"),
        ("http://a.test./b", "a.test", "/b"),
        ("http://a.test//b//", "a.test", "//b//"),
        ("https://a.test/b", "a.test", "/b"),
        ("http://a.test/http://b.test/", "a.test", "/http://b.test/"),
    ] {
        bench.passes(&format!("{sent} at {host}"), &url(sent, host), &seen(target, host)).await;
    }
    for (sent, host) in [
        ("http://b.test/", "a.test"),
        ("http://a.test:81/", "a.test"),
        ("http://a.test/", "a.test:81"),
        ("https://a.test/", "a.test:80"),
        ("http://a.test.b.test/", "a.test"),
        ("http://xa.test/", "a.test"),
    ] {
        bench.refuses(&format!("{sent} at {host}"), &url(sent, host), 400, "host-differs").await;
    }
    for (sent, word) in [
        ("http://", "host-invalid"),
        ("http:///", "host-invalid"),
        ("http://:80/", "host-invalid"),
        ("http://a.test@b.test/", "host-invalid"),
        ("http://b.test@a.test/", "host-invalid"),
        ("http://u:p@a.test/", "host-invalid"),
        ("http://a.test:/", "host-invalid"),
        ("http://a.test:x/", "host-invalid"),
        ("http://a.test:65536/", "host-invalid"),
        ("http://a%2etest/", "host-invalid"),
        ("http://a.test%00/", "host-invalid"),
        ("http://[::1/", "host-invalid"),
        ("http:/a.test/", "request-invalid"),
        ("http:a.test", "request-invalid"),
        ("ftp://a.test/", "request-invalid"),
        ("ws://a.test/", "request-invalid"),
        ("file:///etc/passwd", "request-invalid"),
        ("javascript:alert(1)", "request-invalid"),
        ("a.test", "request-invalid"),
        ("a.test:80", "request-invalid"),
        ("*", "request-invalid"),
        ("?a", "request-invalid"),
        ("a/b", "request-invalid"),
        ("%2f", "request-invalid"),
        ("@", "request-invalid"),
        ("http://a.test/..", "path-invalid"),
        ("http://a.test\\b/", "host-invalid"),
        ("http://a.test/a#b", "path-invalid"),
        ("http://a.test#@b.test/", "path-invalid"),
        ("\\", "request-invalid"),
        ("#", "path-invalid"),
    ] {
        bench.refuses(sent, &url(sent, "a.test"), 400, word).await;
    }
    let options = |target: &str| format!("OPTIONS {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    for (sent, target) in [("*", "*"), ("http://a.test", "*"), ("http://a.test/", "/"), ("/", "/")] {
        bench.passes(&format!("OPTIONS {sent}"), &options(sent), &options(target)).await;
    }
    bench.refuses("OPTIONS **", &options("**"), 400, "request-invalid").await;
    for (what, target) in
        [("a tunnel", "a.test:443"), ("a tunnel to an address", "10.0.0.1:22"), ("a tunnel of a path", "/")]
    {
        let sent = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        bench.refuses(what, &sent, 501, "method-refused").await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn there_is_one_valid_host_or_none_of_the_request() {
    let mut bench = Bench::start().await;
    let host = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for value in [
        "",
        " ",
        ":80",
        "a.test:",
        "a.test:x",
        "a.test:-1",
        "a.test:65536",
        "a.test:000080",
        "a.test:80:80",
        "a.test,b.test",
        "a.test, b.test",
        "a.test b.test",
        "a.test/",
        "a.test/x",
        "http://a.test",
        "u@a.test",
        "a.test@b.test",
        "a.test#",
        "a.test?",
        "a..test",
        ".a.test",
        "a.test..",
        ".",
        "..",
        "a.test%00",
        "a%2etest",
        "[a.test]",
        "[::1",
        "::1",
        "[::1]x",
        "[::g]",
        "[]",
        "[fe80::1%25eth0]",
        "a\u{e4}.test",
        "\u{c3}\u{a4}.test",
        "a.test\\b",
        "a.test;b",
        "a.test=b",
        "'a.test'",
        "\"a.test\"",
        "*.test",
        "*",
        "a.test\u{a0}",
        "a!.test",
        "$HOST",
        "{a}",
    ] {
        bench.refuses(&format!("Host: {value:?}"), &host(value), 400, "host-invalid").await;
    }
    let long = format!("{}.test", "a".repeat(300));
    bench.refuses("a host of 305 octets", &host(&long), 400, "host-invalid").await;
    for (what, fields) in [
        ("two hosts", "Host: a.test\r\nHost: b.test\r\n"),
        ("the same host twice", "Host: a.test\r\nHost: a.test\r\n"),
        ("the second in other letters", "Host: a.test\r\nHOST: a.test\r\n"),
        ("the second empty", "Host: a.test\r\nHost:\r\n"),
        ("the first empty", "Host:\r\nHost: a.test\r\n"),
        ("apart", "Host: a.test\r\nX: y\r\nHost: a.test\r\n"),
    ] {
        bench.refuses(what, &format!("GET / HTTP/1.1\r\n{fields}\r\n"), 400, "host-invalid").await;
        let url = format!("GET http://a.test/ HTTP/1.1\r\n{fields}\r\n");
        bench.refuses(&format!("{what}, and an url"), &url, 400, "host-invalid").await;
    }
    for (what, sent) in [
        ("none", "GET / HTTP/1.1\r\n\r\n"),
        ("none in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n"),
        ("none beside an url", "GET http://a.test/ HTTP/1.1\r\n\r\n"),
        ("an alias", "GET / HTTP/1.1\r\nX-Host: a.test\r\nX-Forwarded-Host: a.test\r\n\r\n"),
        ("nominated away", "GET / HTTP/1.1\r\nConnection: Host\r\n\r\n"),
    ] {
        bench.refuses(what, sent, 400, "host-missing").await;
    }
    for (what, fields) in [
        ("a space before its colon", "Host : a.test\r\n"),
        ("folded", "Host:\r\n a.test\r\n"),
        ("a NUL behind it", "Host: a.test\0\r\n"),
        ("a CR behind it", "Host: a.test\r.b.test\r\n"),
        ("a vertical tab", "Host: a.test\x0b\r\n"),
        ("a second one behind a fold", "Host: a.test\r\n Host: b.test\r\n"),
    ] {
        bench.refuses(what, &format!("GET / HTTP/1.1\r\n{fields}\r\n"), 400, "request-invalid").await;
    }
    for value in ["A.Test", "a.test.", "a.test:80", "a.test:8080", "A.TEST.:1"] {
        bench.passes(value, &host(value), &host(value)).await;
    }
    for (what, fields, others) in [
        ("nominated away and kept", "Host: a.test\r\nConnection: Host\r\n", ""),
        (
            "what could pass for it",
            "X-Host: b.test\r\nHost: a.test\r\nHost_: b.test\r\n",
            "X-Host: b.test\r\nHost_: b.test\r\n",
        ),
    ] {
        let seen = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{others}\r\n");
        bench.passes(what, &format!("GET / HTTP/1.1\r\n{fields}\r\n"), &seen).await;
    }
    let old = "GET http://a.test/b HTTP/1.0\r\n\r\n";
    bench.passes_and_closes("an url in HTTP/1.0", old, "GET /b HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    for value in ["b.test", "x.a.test", "127.0.0.1", "[::1]", "[::1]:80", "localhost", "a-test", "_a.test"] {
        bench.refuses_and_goes_on(value, &host(value), 404, "no-route").await;
    }
    bench.finish().await;
}
