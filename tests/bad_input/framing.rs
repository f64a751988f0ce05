//! Where a request ends: lengths, encodings, chunks, trailers (RFC 9112 sections 6 and 7).

use crate::table::Bench;

const POST: &str = "POST /p HTTP/1.1\r\nHost: a.test\r\n";
const CHUNKED: &str = "POST /p HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKED_SEEN: &str = "POST /p HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A request with these fields and this body.
fn post(fields: &str, body: &str) -> String {
    format!("{POST}{fields}\r\n{body}")
}

#[tokio::test]
async fn a_length_beside_an_encoding_is_refused_in_any_order_and_disguise() {
    let mut bench = Bench::start().await;
    let length = "Content-Length: 3\r\n";
    for (what, fields) in [
        ("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("CL.TE, the length 0", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("CL.TE, the length empty", "Content-Length:\r\nTransfer-Encoding: chunked\r\n"),
        ("CL.TE.CL", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("the encoding unknown", "Content-Length: 3\r\nTransfer-Encoding: xchunked\r\n"),
        ("the encoding empty", "Content-Length: 3\r\nTransfer-Encoding:\r\n"),
        ("the encoding identity", "Content-Length: 3\r\nTransfer-Encoding: identity\r\n"),
        (
            "nominated away",
            "Connection: Content-Length\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "the other nominated away",
            "Connection: Transfer-Encoding\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        ),
    ] {
        bench.refuses(what, &post(fields, "0\r\n\r\n"), 400, "conflicting-length").await;
    }
    for (what, field) in [
        ("a space before its colon", "Transfer-Encoding : chunked\r\n"),
        ("a tab before its colon", "Transfer-Encoding\t: chunked\r\n"),
        ("a vertical tab before its colon", "Transfer-Encoding\x0b: chunked\r\n"),
        ("a NUL in its name", "Transfer-Encoding\0: chunked\r\n"),
        ("a vertical tab before its value", "Transfer-Encoding:\x0bchunked\r\n"),
        ("a form feed behind its value", "Transfer-Encoding: chunked\x0c\r\n"),
        ("a NUL behind its value", "Transfer-Encoding: chunked\0\r\n"),
        ("a CR before its value", "Transfer-Encoding:\rchunked\r\n"),
        ("a CR behind its value", "Transfer-Encoding: chunked\r\r\n"),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("folded with a tab", "Transfer-Encoding:\r\n\tchunked\r\n"),
        ("behind a blank", " Transfer-Encoding: chunked\r\n"),
        ("behind a folded line", "X: y\r\n Transfer-Encoding: chunked\r\n"),
        ("behind a bare LF", "X: y\nTransfer-Encoding: chunked\r\n"),
        ("behind a bare CR", "X: y\rTransfer-Encoding: chunked\r\n"),
    ] {
        let sent = post(&[length, field].concat(), "0\r\n\r\n");
        bench.refuses(what, &sent, 400, "request-invalid").await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn an_encoding_is_exactly_chunked_once_or_refused() {
    let mut bench = Bench::start().await;
    for value in [
        "xchunked",
        "chunkedx",
        "x chunked",
        "chunked x",
        "\"chunked\"",
        "'chunked'",
        "chunked;",
        "chunked;q=1",
        "chunked,",
        ",chunked",
        "chunked, ",
        "chunked, chunked",
        "chunked, xchunked",
        "xchunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "identity",
        "gzip, chunked",
        "chunked, gzip",
        "gzip",
        "deflate",
        "cow",
        "none",
        "",
        "chunk",
        "chun ked",
        "\u{17f}chunked",
        "chun\u{212}ked",
        "chunked\u{a0}",
        "chunked/1.0",
        "Chunked\u{85}",
        "{chunked}",
        "0",
        "true",
    ] {
        // The table's texts are octets: what is beyond them stands as UTF-8.
        let value = value.bytes().map(char::from).collect::<String>();
        let sent = post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n");
        bench.refuses(&format!("Transfer-Encoding: {value:?}"), &sent, 400, "transfer-encoding").await;
    }
    for (what, fields) in [
        ("twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("twice, the second another", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"),
        ("twice, the first another", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"),
        ("twice, the first empty", "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n"),
        ("twice, the second identity", "Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n"),
        ("twice, apart", "Transfer-Encoding: chunked\r\nX: y\r\ntRANSFER-eNCODING: x\r\n"),
    ] {
        bench.refuses(what, &post(fields, "0\r\n\r\n"), 400, "transfer-encoding").await;
    }
    for (what, version) in [("in HTTP/1.0", ""), ("in HTTP/1.0, kept", "Connection: keep-alive\r\n")] {
        let head = "POST /p HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n";
        bench.refuses(what, &format!("{head}{version}\r\n0\r\n\r\n"), 400, "transfer-encoding").await;
    }
    let both = "POST /p HTTP/1.0\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    bench.refuses("in HTTP/1.0 beside a length", both, 400, "conflicting-length").await;
    for (what, field) in [
        ("as it should be", "Transfer-Encoding: chunked\r\n"),
        ("in capitals", "TRANSFER-ENCODING: CHUNKED\r\n"),
        ("blanks around it", "Transfer-Encoding: \t chunked \t\r\n"),
        ("none before it", "Transfer-Encoding:chunked\r\n"),
    ] {
        let seen = format!("{CHUNKED_SEEN}hello");
        bench.passes(what, &post(field, "5\r\nhello\r\n0\r\n\r\n"), &seen).await;
    }
    // Another field that only looks like it means nothing here, and must not to others: it goes nowhere.
    let sent = post("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n");
    bench.passes("an alias beside a length", &sent, &post("Content-Length: 5\r\n", "0\r\n\r\n")).await;
    let sent = post("Content_Length: 50\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n");
    bench.passes("an alias of a length", &sent, &format!("{CHUNKED_SEEN}hi")).await;
    bench.finish().await;
}

#[tokio::test]
async fn a_length_is_one_decimal_number_or_refused() {
    let mut bench = Bench::start().await;
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "+0",
        "5,",
        ",5",
        "5,5",
        "5, 5",
        "5, 6",
        "5 5",
        "5;",
        "0x5",
        "5x",
        "x5",
        "5.0",
        "5e0",
        "\"5\"",
        "1_0",
        "five",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "\u{b2}",
        "5\u{a0}",
        "NaN",
        "0b1",
        "1'000",
    ] {
        let value = value.bytes().map(char::from).collect::<String>();
        let sent = post(&format!("Content-Length: {value}\r\n"), "hello");
        bench.refuses(&format!("Content-Length: {value:?}"), &sent, 400, "length-invalid").await;
    }
    for (what, fields) in [
        ("differing", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("the same twice", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        ("the second 0", "Content-Length: 5\r\nContent-Length: 0\r\n"),
        ("the first 0", "Content-Length: 0\r\nContent-Length: 5\r\n"),
        ("the second empty", "Content-Length: 5\r\nContent-Length:\r\n"),
        ("the second in other letters", "Content-Length: 5\r\nCONTENT-length: 5\r\n"),
        ("apart", "Content-Length: 5\r\nX: y\r\nContent-Length: 5\r\n"),
    ] {
        bench.refuses(what, &post(fields, "hello"), 400, "conflicting-length").await;
    }
    for (what, field) in [
        ("a vertical tab in front", "Content-Length:\x0b5\r\n"),
        ("a NUL behind", "Content-Length: 5\0\r\n"),
        ("a CR in front", "Content-Length:\r5\r\n"),
        ("folded", "Content-Length:\r\n 5\r\n"),
        ("a space before the colon", "Content-Length : 5\r\n"),
        ("a dash that is none", "Content\u{ad}Length: 5\r\n"),
    ] {
        bench.refuses(what, &post(field, "hello"), 400, "request-invalid").await;
    }
    for (what, field, seen) in [
        ("a number", "Content-Length: 5\r\n", "Content-Length: 5\r\n"),
        ("blanks around", "Content-Length: \t 5 \t\r\n", "Content-Length: 5\r\n"),
        // 1*DIGIT: zeros in front are digits. What goes on has none.
        ("zeros in front", "Content-Length: 000000000000000000000005\r\n", "Content-Length: 5\r\n"),
        ("nominated away", "Connection: Content-Length\r\nContent-Length: 5\r\n", "Content-Length: 5\r\n"),
    ] {
        bench.passes(what, &post(field, "hello"), &post(seen, "hello")).await;
    }
    bench
        .passes("none is sent", &post("Content-Length: 0\r\n", ""), &post("Content-Length: 0\r\n", ""))
        .await;
    bench.passes("none is there", &post("", ""), &post("", "")).await;
    bench.finish().await;
}

#[tokio::test]
async fn a_chunk_has_a_plain_size_and_crlf_around_its_data_or_the_body_is_refused() {
    let mut bench = Bench::start().await;
    for (what, body) in [
        ("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("an extension without a value", "5;a\r\nhello\r\n0\r\n\r\n"),
        ("an empty extension", "5;\r\nhello\r\n0\r\n\r\n"),
        ("an extension in quotes that holds CRLF", "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n"),
        ("an extension ended by LF alone", "5;\nhello\r\n0\r\n\r\n"),
        ("an extension with LF inside", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("an extension with CR inside", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("an extension of the last chunk", "5\r\nhello\r\n0;a=b\r\n\r\n"),
        ("a blank behind the size", "5 \r\nhello\r\n0\r\n\r\n"),
        ("a tab behind the size", "5\t\r\nhello\r\n0\r\n\r\n"),
        ("a blank before the size", " 5\r\nhello\r\n0\r\n\r\n"),
        ("blanks before an extension", "5 ; a=b\r\nhello\r\n0\r\n\r\n"),
        ("a size ended by LF alone", "5\nhello\r\n0\r\n\r\n"),
        ("a size ended by CR alone", "5\rhello\r\n0\r\n\r\n"),
        ("a size ended by CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"),
        ("a size ended by LF CR", "5\n\rhello\r\n0\r\n\r\n"),
        ("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a prefix in capitals", "0X5\r\nhello\r\n0\r\n\r\n"),
        ("a suffix", "5h\r\nhello\r\n0\r\n\r\n"),
        ("an underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
        ("a comma", "5,5\r\nhello\r\n0\r\n\r\n"),
        ("a point", "5.0\r\nhello\r\n0\r\n\r\n"),
        ("a quote", "\"5\"\r\nhello\r\n0\r\n\r\n"),
        ("a NUL", "5\0\r\nhello\r\n0\r\n\r\n"),
        ("a vertical tab", "5\x0b\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("no hex digit", "g\r\nhello\r\n0\r\n\r\n"),
        ("a size of 2^64", "10000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("a size of 2^64 + 5", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size of 2^128", "100000000000000000000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("more zeros than 64 bits have", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("data longer than its size", "5\r\nhelloX\r\n0\r\n\r\n"),
        ("data without an end", "5\r\nhello0\r\n\r\n"),
        ("data ended by LF alone", "5\r\nhello\n0\r\n\r\n"),
        ("data ended by CR alone", "5\r\nhello\r0\r\n\r\n"),
        ("data ended by LF CR", "5\r\nhello\n\r0\r\n\r\n"),
        ("data ended by two CRLF", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("data shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        ("a last chunk ended by LF alone", "5\r\nhello\r\n0\n\r\n"),
        ("a section ended by LF alone", "5\r\nhello\r\n0\r\n\n"),
        ("a section ended by CR alone", "5\r\nhello\r\n0\r\n\rX"),
    ] {
        bench.breaks(what, CHUNKED, body, "body-invalid").await;
    }
    for (what, body, seen) in [
        ("one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("zeros in front", "0000000000000005\r\nhello\r\n000\r\n\r\n", "hello"),
        ("hex in any case", "A\r\nhellohello\r\na\r\nhellohello\r\n0\r\n\r\n", "hellohellohellohello"),
        ("data that looks like an end", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n"),
        ("nothing", "0\r\n\r\n", ""),
    ] {
        bench.passes(what, &[CHUNKED, body].concat(), &[CHUNKED_SEEN, seen].concat()).await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn trailers_forge_nothing() {
    let mut bench = Bench::start().await;
    for (what, section) in [
        ("a name ended by a blank", "A : b\r\n"),
        ("no name", ": b\r\n"),
        ("no colon", "nonsense\r\n"),
        ("a folded line", "A: b\r\n c\r\n"),
        ("a blank in front", " A: b\r\n"),
        ("LF alone", "A: b\nC: d\r\n"),
        ("a CR in a value", "A: b\rC: d\r\n"),
        ("a NUL in a value", "A: b\0\r\n"),
        ("a request", "GET / HTTP/1.1\r\nHost: a.test\r\n"),
    ] {
        bench.breaks(what, CHUNKED, &format!("5\r\nhello\r\n0\r\n{section}\r\n"), "body-invalid").await;
    }
    let large = format!("A: {}\r\n", "b".repeat(20_000));
    let many = "A: b\r\n".repeat(101);
    for (what, section) in [("20,000 octets", large), ("101 fields", many)] {
        bench.breaks(what, CHUNKED, &format!("5\r\nhello\r\n0\r\n{section}\r\n"), "body-invalid").await;
    }
    let forged = "Host: b.test\r\nContent-Length: 50\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\
                  X-Forwarded-For: 6.6.6.6\r\nX-Real-Ip: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
                  X_Forwarded_For: 6.6.6.6\r\nx-forwarded_for: 6.6.6.6\r\nX-Request-Id: 6\r\nVia: 1.1 edge\r\n\
                  Authorization: Basic eA==\r\nCookie: a=b\r\nProxy: http://6.6.6.6\r\nContent-Type: text/html\r\n\
                  Content-Encoding: gzip\r\nContent-Range: bytes 0-1/2\r\nTrailer: Host\r\nTE: gzip\r\nUpgrade: h2c\r\n\
                  Expect: 100-continue\r\nKeep-Alive: timeout=9\r\nMax-Forwards: 0\r\nSet-Cookie: a=b\r\n\
                  Cache-Control: no-store\r\nTraceparent: 00-1-1-00\r\nProxy-Authorization: x\r\nProxy-Connection: x\r\n\
                  HTTP2-Settings: x\r\n";
    let sent = format!("{CHUNKED}5\r\nhello\r\n0\r\n{forged}X-Sum: 7\r\n\r\n");
    let seen = format!("{CHUNKED_SEEN}hello\r\nX-Sum: 7");
    bench.passes("forged fields beside a good one", &sent, &seen).await;
    bench.finish().await;
}

#[tokio::test]
async fn pipelined_requests_stay_apart_whatever_their_bodies_look_like() {
    let mut bench = Bench::start().await;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let length = inner.len();
    let sent = post(&format!("Content-Length: {length}\r\n"), inner);
    bench.passes("a request as a body", &sent, &sent).await;
    let sent = format!("{CHUNKED}{length:x}\r\n{inner}\r\n0\r\n\r\n");
    bench.passes("a request as a chunk", &sent, &format!("{CHUNKED_SEEN}{inner}")).await;
    let get = format!("GET /g HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{inner}");
    bench.passes("a request as the body of a GET", &get, &get).await;
    let first = post("Content-Length: 5\r\n", "hello");
    // What follows the body is the next request, or none: a body is not longer because more comes.
    for (what, behind, status, word) in [
        ("a length too small", "X\r\n\r\n", 400, "request-invalid"),
        ("an end of chunks that was not announced", "0\r\n\r\n", 400, "request-invalid"),
        ("two lines", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", 400, "request-invalid"),
        ("a request without a host", "GET / HTTP/1.1\r\n\r\n", 400, "host-missing"),
    ] {
        let mut raw = fairway_testkit::raw::Raw::connect(bench.fairway.http()).await;
        raw.send([&first, behind].concat()).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{what}: {head}");
        raw.read_until("ok").await;
        bench.tells(200, "ok");
        let (answer, _) = raw.read_to_end().await;
        crate::table::check_refusal(what, &answer, status, word);
        bench.tells(status, word);
        let seen = bench.recorder.take();
        assert!(seen.len() == 1 && seen[0].body == b"hello", "{what}: {seen:?}");
    }
    bench.passes("one empty line between requests", &format!("\r\n{first}"), &first).await;
    bench.finish().await;
}
