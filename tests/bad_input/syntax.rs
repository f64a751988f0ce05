//! Lines and what stands in them: the request line, field names and values, line ends, sizes (RFC 9112 sections 2 to 5).

use crate::table::Bench;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n";

fn get(fields: &str) -> String {
    format!("{GET}{fields}\r\n")
}

#[tokio::test]
async fn a_field_line_is_read_in_one_way_or_refused() {
    let mut bench = Bench::start().await;
    for (what, fields) in [
        ("no name", ": b\r\n"),
        ("no name and no value", ":\r\n"),
        ("a blank for a name", " : b\r\n"),
        ("a space before the colon", "A : b\r\n"),
        ("a tab before the colon", "A\t: b\r\n"),
        ("no colon", "A\r\n"),
        ("a blank in a name", "A b: c\r\n"),
        ("a NUL in a name", "A\0b: c\r\n"),
        ("a CR in a name", "A\rb: c\r\n"),
        ("a bracket in a name", "A(b): c\r\n"),
        ("a quote in a name", "\"A\": b\r\n"),
        ("a slash in a name", "A/b: c\r\n"),
        ("an at in a name", "A@b: c\r\n"),
        ("an octet above ASCII in a name", "A\u{e4}: b\r\n"),
        ("DEL in a name", "A\x7f: b\r\n"),
        ("a folded value", "A: b\r\n c\r\n"),
        ("a value folded with a tab", "A: b\r\n\tc\r\n"),
        ("a fold of nothing", "A: b\r\n \r\n"),
        ("a blank in front of the first field", " A: b\r\n"),
        ("a NUL in a value", "A: b\0c\r\n"),
        ("a NUL for a value", "A: \0\r\n"),
        ("a CR in a value", "A: b\rc\r\n"),
        ("a CR at the end of a value", "A: b\r\r\n"),
        ("a CR at the start of a value", "A:\rb\r\n"),
        ("a vertical tab in a value", "A: b\x0bc\r\n"),
        ("a form feed in a value", "A: b\x0cc\r\n"),
        ("an escape in a value", "A: \x1b[31m\r\n"),
        ("a backspace in a value", "A: b\x08\r\n"),
        ("DEL in a value", "A: b\x7f\r\n"),
        ("LF alone at the end", "A: b\n"),
        ("LF alone between fields", "A: b\nB: c\r\n"),
        ("LF CR at the end", "A: b\n\r"),
        ("CR alone between fields", "A: b\rB: c\r\n"),
        ("LF alone for the empty line", "\n"),
        ("CR CR LF for the empty line", "\r\r\n"),
        ("a request line for a field", "GET /smuggled HTTP/1.1\r\n"),
        ("Connection is no list of tokens", "Connection: close, \"x\"\r\n"),
        ("Connection names a blank in a token", "Connection: keep alive\r\n"),
    ] {
        bench.refuses(what, &get(fields), 400, "request-invalid").await;
    }
    let long = "n".repeat(300);
    let longer = "n".repeat(60_000);
    for (what, fields, seen) in [
        ("no value", "A:\r\n", "A: \r\n"),
        ("blanks for a value", "A: \t \r\n", "A: \r\n"),
        ("blanks around", "A: \t b c \t\r\n", "A: b c\r\n"),
        ("a colon in a value", "A: b: c\r\n", "A: b: c\r\n"),
        ("every symbol of a token", "!#$%&'*+-.^_`|~1aZ: b\r\n", "!#$%&'*+-.^_`|~1aZ: b\r\n"),
        ("octets above ASCII in a value", "A: \u{e4}\u{ff}\u{80}\r\n", "A: \u{e4}\u{ff}\u{80}\r\n"),
        ("the same field twice, in order", "A: 1\r\nB: x\r\na: 2\r\n", "A: 1\r\nB: x\r\na: 2\r\n"),
        ("a name of 300 octets", &format!("{long}: b\r\n"), &format!("{long}: b\r\n")),
        (
            "a name that starts like another",
            &format!("Content-Length{long}: 5\r\n"),
            &format!("Content-Length{long}: 5\r\n"),
        ),
        ("a name of 60,000 octets", &format!("{longer}: b\r\n"), &format!("{longer}: b\r\n")),
        ("a value of 60,000 octets", &format!("A: {longer}\r\n"), &format!("A: {longer}\r\n")),
        ("empty elements of Connection", "Connection: ,, ,\r\n", ""),
    ] {
        bench.passes(what, &get(fields), &get(seen)).await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn a_request_line_is_method_target_and_version_with_one_space_between() {
    let mut bench = Bench::start().await;
    for (what, line) in [
        ("no version", "GET /"),
        ("no version, a space", "GET / "),
        ("no target", "GET HTTP/1.1"),
        ("no target, two spaces", "GET  HTTP/1.1"),
        ("a space in front", " GET / HTTP/1.1"),
        ("a tab in front", "\tGET / HTTP/1.1"),
        ("two spaces behind the method", "GET  / HTTP/1.1"),
        ("two spaces behind the target", "GET /  HTTP/1.1"),
        ("a space behind the version", "GET / HTTP/1.1 "),
        ("a word too many", "GET / HTTP/1.1 x"),
        ("a space in the target", "GET /a b HTTP/1.1"),
        ("a version in the target", "GET / HTTP/1.1/ HTTP/1.1"),
        ("a tab between", "GET\t/\tHTTP/1.1"),
        ("a tab behind the method", "GET\t/ HTTP/1.1"),
        ("a method that is no token", "GE(T / HTTP/1.1"),
        ("a method with a colon", "GET: / HTTP/1.1"),
        ("a method with an octet above ASCII", "G\u{c9}T / HTTP/1.1"),
        ("a method with a NUL", "GE\0T / HTTP/1.1"),
        ("a version in small letters", "GET / http/1.1"),
        ("a version without a point", "GET / HTTP/11"),
        ("a version with a comma", "GET / HTTP/1,1"),
        ("a version of two digits", "GET / HTTP/1.10"),
        ("a version of two digits in front", "GET / HTTP/01.1"),
        ("a version without a number", "GET / HTTP/"),
        ("a version without its second number", "GET / HTTP/1."),
        ("a version with a sign", "GET / HTTP/+1.1"),
        ("another protocol", "GET / HTCPCP/1.0"),
        ("another protocol's greeting", "SSH-2.0-OpenSSH_9.2"),
        ("a mail server's", "EHLO a.test"),
        ("a PROXY header where none is taken", "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443"),
        ("a status line", "HTTP/1.1 200 OK"),
        ("one word", "GET"),
    ] {
        bench.refuses(what, &format!("{line}\r\nHost: a.test\r\n\r\n"), 400, "request-invalid").await;
    }
    for (what, line) in [
        ("HTTP/1.2", "GET / HTTP/1.2"),
        ("HTTP/0.9", "GET / HTTP/0.9"),
        ("HTTP/2.0 in HTTP/1.1", "GET / HTTP/2.0"),
        ("HTTP/3.0", "GET / HTTP/3.0"),
        ("HTTP/9.9", "POST / HTTP/9.9"),
    ] {
        bench.refuses(what, &format!("{line}\r\nHost: a.test\r\n\r\n"), 505, "version-refused").await;
    }
    for (what, octets) in [
        ("two empty lines in front", "\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("LF alone in front", "\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("CR alone in front", "\rGET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("LF alone behind the request line", "GET / HTTP/1.1\nHost: a.test\r\n\r\n"),
        ("CR alone behind the request line", "GET / HTTP/1.1\rHost: a.test\r\n\r\n"),
        ("LF alone everywhere", "GET / HTTP/1.1\nHost: a.test\n\n"),
        ("HTTP/0.9", "GET /\n"),
        ("a greeting of TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03"),
        ("a greeting of SSL 2", "\u{80}\x2e\x01\0\x02"),
        ("a greeting of SOCKS 5", "\x05\x01\0"),
        ("a PROXY header of version 2", "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
        ("a NUL", "\0"),
        ("a byte order mark", "\u{ef}\u{bb}\u{bf}GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("JSON", "{\"method\": \"GET\"}\r\n\r\n"),
        ("an answer to nobody", ": OK\r\n\r\n"),
    ] {
        bench.refuses(what, octets, 400, "request-invalid").await;
    }
    let behind = " / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for method in ["get", "PURGE", "M-SEARCH", "X!#$%&'*+-.^_`|~1"] {
        let sent = format!("{method}{behind}");
        bench.passes(method, &sent, &sent).await;
    }
    for method in ["CONNECT", "TRACE"] {
        bench.refuses(method, &format!("{method}{behind}"), 501, "method-refused").await;
    }
    bench.passes("one empty line in front", &format!("\r\nGET{behind}"), &format!("GET{behind}")).await;
    bench.finish().await;
}

#[tokio::test]
async fn what_is_too_long_is_refused_at_its_limit_and_not_before() {
    let mut bench = Bench::start().await;
    let target = |length: usize| format!("/{}", "a".repeat(length - 1));
    let with_target = |length| format!("GET {} HTTP/1.1\r\nHost: a.test\r\n\r\n", target(length));
    bench.passes("a target of 8 KiB", &with_target(8192), &with_target(8192)).await;
    for (what, sent) in [
        ("a target of 8 KiB and one octet", with_target(8193)),
        ("a query of 8 KiB and one octet", with_target(8193).replacen("/a", "/?", 1)),
        ("a target of 60,000 octets", with_target(60_000)),
        ("a request line without an end", format!("GET {}", target(100_000))),
        ("a method without an end", "A".repeat(100_000)),
    ] {
        bench.refuses(what, &sent, 414, "target-too-long").await;
    }
    let fields = |count: usize| (1..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    bench.passes("100 fields", &get(&fields(100)), &get(&fields(100))).await;
    let sized = |octets: usize| get(&format!("A: {}\r\n", "b".repeat(octets - get("A: \r\n").len())));
    let named = format!("Connection: {}\r\n", "abcdefg,".repeat(128));
    bench.passes("1 KiB of names in Connection", &get(&named), &get("")).await;
    bench.passes("64 KiB of header", &sized(65_536), &sized(65_536)).await;
    for (what, sent) in [
        ("101 fields", get(&fields(101))),
        ("1,000 fields", get(&fields(1000))),
        ("64 KiB of header and one octet", sized(65_537)),
        ("a value without an end", format!("{GET}A: {}", "b".repeat(100_000))),
        ("a name without an end", format!("{GET}{}", "b".repeat(100_000))),
        ("fields without an end", format!("{GET}{}", "A: b\r\n".repeat(20_000))),
        (
            "64 KiB of names in Connection",
            format!("{GET}{}Connection: {}a\r\n\r\n", fields(90), "a,".repeat(30_000)),
        ),
        (
            "1 KiB of names in two fields",
            get(&format!("Connection: {0}\r\nConnection: {0}\r\n", "abc,".repeat(129))),
        ),
        ("names behind commas", get(&format!("Connection: x{}\r\n", ",".repeat(1024)))),
        ("100 hosts and one", format!("GET / HTTP/1.1\r\n{}\r\n", "Host: a.test\r\n".repeat(101))),
    ] {
        bench.refuses(what, &sent, 431, "header-too-large").await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn an_expectation_is_100_continue_or_refused() {
    let mut bench = Bench::start().await;
    let post =
        |fields: &str| format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}Content-Length: 5\r\n\r\nhello");
    for value in [
        "100-continuing",
        "100",
        "x",
        "",
        "100-continue, x",
        "100-continue, 100-continue",
        "100-continue;q=1",
        "\"100-continue\"",
        "200-ok",
    ] {
        let sent = post(&format!("Expect: {value}\r\n"));
        bench.refuses(&format!("Expect: {value:?}"), &sent, 417, "expectation-refused").await;
    }
    for second in ["x", "100-continue"] {
        let sent = post(&format!("Expect: 100-continue\r\nExpect: {second}\r\n"));
        bench.refuses(&format!("a second one, {second}"), &sent, 417, "expectation-refused").await;
    }
    let sent = post("Expect: 100-Continue\r\n");
    bench.passes("in any case, the body sent at once", &sent, &sent).await;
    bench.passes("without a body", &get("Expect: 100-continue\r\n"), &get("")).await;
    bench.finish().await;
}
