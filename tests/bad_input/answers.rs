//! Instances that answer what they should not: garbage, heads that two parsers could read differently, bodies that break off,
//! octets that nobody asked for.
//!
//! Not here: repeating a request at another instance, and limits of time (`proxy/tests/wire`).

use std::net::SocketAddr;

use fairway_testkit::Fairway;
use fairway_testkit::raw::{End, Raw};
use fairway_testkit::raw_origin::RawOrigin;

use crate::table::{PIECES, access, counted, field, octets, send_in_pieces, start};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const OLD: &str = "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello";
const ASK: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What the instance does behind its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It says nothing more.
    Waits,
    /// It closes.
    Closes,
    /// It resets.
    Resets,
}

/// A Fairway with one worker, and the instance behind it, whose octets a test writes.
pub(crate) struct Rig {
    pub(crate) fairway: Fairway,
    pub(crate) origin: RawOrigin,
    told: Vec<(u16, String)>,
}

impl Rig {
    /// No instance is tried twice: each row is about one answer.
    pub(crate) async fn start() -> Self {
        Self::with("retries = 0\noutlier = false\n").await
    }

    /// With these lines for the service.
    pub(crate) async fn with(service: &str) -> Self {
        Self::with_both(service, "").await
    }

    /// With these lines for the service, and further ones.
    pub(crate) async fn with_both(service: &str, more: &str) -> Self {
        let origin = RawOrigin::start().await;
        let fairway = start(&[origin.address()], service, more).await;
        Self { fairway, origin, told: Vec::new() }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.fairway.http()
    }

    pub(crate) fn tells(&mut self, status: u16, word: &str) {
        self.told.push((status, word.to_owned()));
    }

    /// A client that has sent `request`, and the instance's end of the new connection on which its head has come.
    pub(crate) async fn ask(&self, request: &str) -> (Raw, Raw) {
        let mut client = Raw::connect(self.http()).await;
        client.send(request).await;
        let mut instance = self.origin.accept().await;
        instance.head().await;
        (client, instance)
    }

    /// One more request of the client, which a new connection to the instance must serve.
    pub(crate) async fn goes_on(&mut self, what: &str, client: &mut Raw) {
        client.send(GET.replace("/ ", "/sentinel ")).await;
        let mut other = self.origin.accept().await;
        let head = other.head().await;
        assert!(head.starts_with("GET /sentinel "), "{what}: {head}");
        other.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nsentinel").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{what}: {head}");
        assert_eq!(client.read_exactly(8).await, b"sentinel", "{what}");
        self.tells(200, "ok");
    }

    /// The answer is refused with 502 and this word, its connection never carries a further request, and the client's does.
    async fn refuses(&mut self, what: &str, request: &str, answer: &str, then: Then, word: &str) {
        for pieces in [1, PIECES] {
            self.refuses_in(pieces, what, request, answer, then, word).await;
        }
    }

    async fn refuses_in(
        &mut self,
        pieces: usize,
        what: &str,
        request: &str,
        answer: &str,
        then: Then,
        word: &str,
    ) {
        let (mut client, mut instance) = self.ask(request).await;
        send_in_pieces(&mut instance, &octets(answer), pieces).await;
        let instance = self.then(instance, then).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{what}: {head}");
        let length = field(&head, "content-length").and_then(|length| length.parse().ok()).expect("a length");
        if request != HEAD {
            let body = client.read_exactly(length).await;
            let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!((&problem["type"], &problem["status"]), (&word.into(), &502.into()), "{what}");
        }
        self.tells(502, word);
        ends(what, instance).await;
        if request.contains("HTTP/1.0") {
            assert_eq!(client.read_to_end().await, (vec![], End::Closed), "{what}");
        } else {
            self.goes_on(what, &mut client).await;
        }
    }

    /// The client gets this answer, head fields aside, and its connection goes on; the instance's connection does too if
    /// `reused`, or is closed.
    async fn passes(
        &mut self,
        what: &str,
        request: &str,
        answer: &str,
        then: Then,
        body: &str,
        reused: bool,
    ) {
        for pieces in [1, PIECES] {
            self.passes_in(pieces, what, request, answer, (then, body, reused)).await;
        }
    }

    async fn passes_in(
        &mut self,
        pieces: usize,
        what: &str,
        request: &str,
        answer: &str,
        (then, body, reused): (Then, &str, bool),
    ) {
        let (mut client, mut instance) = self.ask(request).await;
        send_in_pieces(&mut instance, &octets(answer), pieces).await;
        let instance = self.then(instance, then).await;
        let mut head = client.head().await;
        while head.starts_with("HTTP/1.1 1") {
            head = client.head().await;
        }
        let status: u16 = head[9..12].parse().expect("a status");
        let chunked = field(&head, "transfer-encoding") == Some("chunked");
        assert!(!chunked || field(&head, "content-length").is_none(), "{what}: {head}");
        let got = match chunked && request != HEAD {
            true => chunks(&mut client).await,
            false => client.read_exactly(body.len()).await,
        };
        assert_eq!(got, octets(body), "{what}: {head}");
        self.tells(status, "ok");
        match instance {
            Some(mut instance) if reused => {
                client.send(GET).await;
                instance.head().await;
                instance.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nagain").await;
                client.head().await;
                assert_eq!(client.read_exactly(5).await, b"again", "{what}");
                self.tells(200, "ok");
                ends(what, Some(instance)).await;
            }
            instance => {
                // Asked before the instance's end is looked at: nothing must depend on somebody cleaning up in time.
                self.goes_on(what, &mut client).await;
                ends(what, instance).await;
            }
        }
    }

    /// The answer begins with `begin` and then visibly breaks off.
    async fn cuts(&mut self, what: &str, request: &str, answer: &str, then: Then, begin: &str) {
        for pieces in [1, PIECES] {
            self.cuts_in(pieces, what, request, answer, (then, begin)).await;
        }
    }

    async fn cuts_in(
        &mut self,
        pieces: usize,
        what: &str,
        request: &str,
        answer: &str,
        (then, begin): (Then, &str),
    ) {
        let (mut client, mut instance) = self.ask(request).await;
        send_in_pieces(&mut instance, &octets(answer), pieces).await;
        // What comes before the cut must be there before it: a reset overtakes octets.
        let mut seen = client.head().await;
        if let Some(last) = begin.chars().last() {
            // In how many chunks it comes is open, its last octet is not.
            seen += &String::from_utf8_lossy(&client.read_until(last.to_string()).await);
        }
        let instance = self.then(instance, then).await;
        let (rest, end) = client.read_to_end().await;
        seen += &String::from_utf8_lossy(&rest);
        assert!(seen.starts_with("HTTP/1.1 200 "), "{what}: {seen}");
        assert!(!seen.ends_with("\r\n0\r\n\r\n"), "{what}: an end that was not there: {seen:?}");
        let said = field(&seen, "content-length").map(|length| length.parse::<usize>().expect("a length"));
        let framed = said.is_some() || field(&seen, "transfer-encoding").is_some();
        assert!(framed || end == End::Reset, "{what}: nothing shows that something is missing: {seen:?}");
        if let (Some(said), Some((_, body))) = (said, seen.split_once("\r\n\r\n")) {
            assert!(body.len() < said, "{what}: {seen:?}");
        }
        self.tells(200, "upstream-cut");
        ends(what, instance).await;
    }

    async fn then(&self, mut instance: Raw, then: Then) -> Option<Raw> {
        match then {
            Then::Waits => return Some(instance),
            Then::Closes => {
                instance.finish().await;
                return Some(instance);
            }
            Then::Resets => instance.reset(),
        }
        None
    }

    /// Checks that log and metrics tell what was expected of every request, in its order.
    pub(crate) async fn finish(self) {
        let count = self.told.len();
        let lines = self.fairway.log().find(|lines| {
            let lines: Vec<_> = lines.iter().filter_map(|line| access(line)).collect();
            (lines.len() >= count).then_some(lines)
        });
        assert_eq!(lines.await.expect("fairway runs"), self.told, "the access log");
        let counted: u64 = counted(&self.fairway).await.values().sum();
        assert_eq!(counted, count as u64, "the metrics");
    }
}

/// The data of a chunked body.
async fn chunks(client: &mut Raw) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let line = String::from_utf8_lossy(&client.read_until("\r\n").await).into_owned();
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size");
        let chunk = client.read_exactly(size + 2).await;
        if size == 0 {
            return data;
        }
        data.extend_from_slice(&chunk[..size]);
    }
}

/// Fairway closes the connection to the instance and sends nothing more on it.
async fn ends(what: &str, instance: Option<Raw>) {
    let Some(mut instance) = instance else { return };
    let (octets, _) = instance.read_to_end().await;
    let octets = String::from_utf8_lossy(&octets).into_owned();
    assert!(
        octets.is_empty() || POST.ends_with(&octets),
        "{what}: a further request was sent on it: {octets}"
    );
}

#[tokio::test]
async fn what_is_no_http_is_refused_at_once_though_the_instance_stays() {
    let mut rig = Rig::start().await;
    for (what, answer) in [
        ("HTTP/0.9", "<html>hello</html>"),
        ("a line", "hello\r\n"),
        ("an empty line", "\r\n"),
        ("a request", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("another protocol's greeting", "SSH-2.0-OpenSSH_9.2p1\r\n"),
        ("a mail server's greeting", "220 mail.test ESMTP\r\n"),
        ("an answer of a radio", "ICY 200 OK\r\n\r\n"),
        ("an alert of TLS", "\x15\x03\x03\0\x02\x02\x46"),
        ("a first frame of HTTP/2", "\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"),
        ("a farewell of HTTP/2", "\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01"),
        ("a NUL", "\0"),
        ("a blank in front", " HTTP/1.1 200 OK\r\n\r\n"),
        ("a line in front", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("a byte order mark", "\u{ef}\u{bb}\u{bf}HTTP/1.1 200 OK\r\n\r\n"),
        ("small letters", "http/1.1 200 OK\r\n"),
        ("HTTP/2.0", "HTTP/2.0 200 OK\r\n"),
        ("HTTP/0.9 by name", "HTTP/0.9 200 OK\r\n"),
        ("HTTP/3", "HTTP/3 200 OK"),
        ("no version", "HTTP 200 OK\r\n"),
    ] {
        for request in [GET, POST, HEAD] {
            rig.refuses(what, request, answer, Then::Waits, "upstream-invalid").await;
        }
        rig.refuses(what, GET, answer, Then::Closes, "upstream-invalid").await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_head_that_two_parsers_could_read_differently_is_refused() {
    let mut rig = Rig::start().await;
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 000 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 0x8 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 OK",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.2 200 OK",
        "HTTP/1.10 200 OK",
        "HTTP/1. 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200 O\x1bK",
    ] {
        let answer = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        rig.refuses(line, GET, &answer, Then::Waits, "upstream-invalid").await;
    }
    for fields in [
        "A: b\r\n c\r\n",
        " A: b\r\n",
        "A : b\r\n",
        ": b\r\n",
        "A\r\n",
        "A: b\0\r\n",
        "A: b\rc\r\n",
        "A: b\r\r\n",
        "A\0: b\r\n",
        "A b: c\r\n",
        "A: b\n",
        "A: b\nB: c\r\n",
        "A: \x1b[31m\r\n",
        "A\u{e4}: b\r\n",
        "Connection: close, \"x\"\r\n",
        "Content-Length:\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length : 5\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "Content-Length: 5\r\nContent-Length: x\r\n",
        "Content-Length: five\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello");
        rig.refuses(&format!("{fields:?}"), GET, &answer, Then::Waits, "upstream-invalid").await;
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    rig.refuses("chunks in HTTP/1.0", GET, old, Then::Waits, "upstream-invalid").await;
    rig.refuses("an old client", OLD, "HTTP/1.1 200 OK\r\nA\r\n\r\n", Then::Waits, "upstream-invalid").await;
    let interim =
        "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    rig.refuses("a body behind 100", GET, interim, Then::Waits, "upstream-invalid").await;
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101));
    let large = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(70_000));
    let endless = format!("HTTP/1.1 200 {}", "b".repeat(100_000));
    let fields = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(20_000));
    for (what, answer) in [
        ("101 fields", many),
        ("a large head", large),
        ("a line without an end", endless),
        ("a head without an end", fields),
    ] {
        rig.refuses(what, GET, &answer, Then::Waits, "upstream-invalid").await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn an_answer_that_never_comes_whole_is_told_as_such() {
    let mut rig = Rig::start().await;
    for (what, answer, then) in [
        ("nothing, closed", "", Then::Closes),
        ("nothing, reset", "", Then::Resets),
        ("half a status line", "HTTP/1.1 20", Then::Closes),
        ("half a status line, reset", "HTTP/1.1 20", Then::Resets),
        ("half a version", "HTT", Then::Closes),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le", Then::Closes),
        ("a head without its empty line", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Then::Closes),
        ("only answers before the one that counts", "HTTP/1.1 102 Processing\r\n\r\n", Then::Closes),
    ] {
        for request in [GET, POST] {
            let (mut client, mut instance) = rig.ask(request).await;
            instance.send(answer).await;
            let instance = rig.then(instance, then).await;
            let mut head = client.head().await;
            if head.starts_with("HTTP/1.1 102 ") {
                head = client.head().await;
            }
            assert!(head.starts_with("HTTP/1.1 502 "), "{what}: {head}");
            assert!(!client.read_until("\"upstream-closed\"").await.is_empty());
            client.read_until("}\n").await;
            rig.tells(502, "upstream-closed");
            ends(what, instance).await;
            rig.goes_on(what, &mut client).await;
        }
    }
    // Closed before the request was even read.
    let mut client = Raw::connect(rig.http()).await;
    client.send(POST).await;
    rig.origin.accept().await.reset();
    let answer = String::from_utf8_lossy(&client.read_until("}\n").await).into_owned();
    // The reset may be there before the connection counts as made.
    let word = if answer.contains("\"connect-failed\"") { "connect-failed" } else { "upstream-closed" };
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains(word), "{answer}");
    rig.tells(502, word);
    rig.goes_on("reset when accepted", &mut client).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_delivered_as_whole() {
    let mut rig = Rig::start().await;
    let head = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let large = format!("5\r\nhello\r\n0\r\nA: {}\r\n\r\n", "b".repeat(20_000));
    for (what, body, then) in [
        ("ended in a chunk", "10\r\nhello", Then::Closes),
        ("reset in a chunk", "10\r\nhello", Then::Resets),
        ("ended behind a chunk", "5\r\nhello\r\n", Then::Closes),
        ("ended behind the data of a chunk", "5\r\nhello", Then::Closes),
        ("ended in the last chunk", "5\r\nhello\r\n0", Then::Closes),
        ("ended before the trailers' end", "5\r\nhello\r\n0\r\n", Then::Closes),
        ("ended in a trailer", "5\r\nhello\r\n0\r\nA: b\r\n", Then::Closes),
        ("reset before the trailers' end", "5\r\nhello\r\n0\r\n", Then::Resets),
        ("a size that is none", "5\r\nhello\r\nxyz\r\n", Then::Waits),
        ("a size with a sign", "5\r\nhello\r\n+5\r\nhello\r\n0\r\n\r\n", Then::Waits),
        ("a size with a prefix", "5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n", Then::Waits),
        ("a size of 2^64", "5\r\nhello\r\n10000000000000000\r\n", Then::Waits),
        ("a size of 2^64 - 1 and an end", "5\r\nhello\r\nffffffffffffffff\r\nabc", Then::Closes),
        ("a size ended by LF alone", "5\r\nhello\r\n5\nhello\r\n0\r\n\r\n", Then::Waits),
        ("data longer than its size", "5\r\nhelloX\r\n0\r\n\r\n", Then::Waits),
        ("data ended by LF alone", "5\r\nhello\n0\r\n\r\n", Then::Waits),
        ("an end that is none", "5\r\nhello\r\n0\r\nnonsense\r\n\r\n", Then::Waits),
        ("trailers with LF alone", "5\r\nhello\r\n0\r\nA: b\n\r\n", Then::Waits),
        ("an extension with LF inside", "5\r\nhello\r\n5;a\nb\r\nhello\r\n0\r\n\r\n", Then::Waits),
        ("trailers too large", &large, Then::Waits),
    ] {
        rig.cuts(what, GET, &format!("{chunked}{body}"), then, "hello").await;
        rig.cuts(&format!("{what}, an old client"), OLD, &format!("{chunked}{body}"), then, "hello").await;
    }
    for (what, answer, then, begin) in [
        ("a length, ended", "Content-Length: 10\r\n\r\nhello", Then::Closes, "hello"),
        ("a length, reset", "Content-Length: 10\r\n\r\nhello", Then::Resets, "hello"),
        ("a length, nothing of it", "Content-Length: 10\r\n\r\n", Then::Closes, ""),
        ("a length of 2^63 - 1", "Content-Length: 9223372036854775807\r\n\r\nhello", Then::Closes, "hello"),
        ("no length, reset", "\r\nhello", Then::Resets, "hello"),
    ] {
        rig.cuts(what, GET, &format!("{head}{answer}"), then, begin).await;
        rig.cuts(&format!("{what}, an old client"), OLD, &format!("{head}{answer}"), then, begin).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn octets_behind_an_answer_reach_nobody_and_their_connection_serves_nobody() {
    let mut rig = Rig::start().await;
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let head = "HTTP/1.1 200 OK\r\n";
    for (what, request, answer, body) in [
        ("a second answer", GET, format!("{head}Content-Length: 5\r\n\r\nhello{poison}"), "hello"),
        ("one octet", GET, format!("{head}Content-Length: 5\r\n\r\nhello\n"), "hello"),
        (
            "behind chunks",
            GET,
            format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{poison}"),
            "hello",
        ),
        ("behind no body", GET, format!("{head}Content-Length: 0\r\n\r\n{poison}"), ""),
        ("a body of a 204", GET, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello".into(), ""),
        (
            "a chunked body of a 204",
            GET,
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into(),
            "",
        ),
        ("a body of a 304", GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello".into(), ""),
        ("a body to HEAD", HEAD, format!("{head}Content-Length: 5\r\n\r\nhello"), ""),
        (
            "a chunked body to HEAD",
            HEAD,
            format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            "",
        ),
        (
            "a body to HEAD that looks like an answer",
            HEAD,
            format!("{head}Content-Length: 47\r\n\r\n{poison}"),
            "",
        ),
        ("a second answer to POST", POST, format!("{head}Content-Length: 5\r\n\r\nhello{poison}"), "hello"),
    ] {
        rig.passes(what, request, &answer, Then::Waits, body, false).await;
    }
    // Later, while the connection idles, it is no better.
    for late in
        ["H", "HTTP/1.1 200 OK\r\n", poison, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"]
    {
        let (mut client, mut instance) = rig.ask(GET).await;
        instance.send(format!("{head}Content-Length: 5\r\n\r\nhello")).await;
        client.read_until("hello").await;
        rig.tells(200, "ok");
        instance.send(late).await;
        // Fairway looks at its idle connections now and then.
        ends(late, Some(instance)).await;
        rig.goes_on(late, &mut client).await;
    }
    // An answer to nothing, on a new connection: whoever asks gets it, and what comes after it reaches nobody.
    let mut client = Raw::connect(rig.http()).await;
    client.send(GET).await;
    let mut instance = rig.origin.accept().await;
    instance.send(format!("{head}Content-Length: 5\r\n\r\nhello")).await;
    client.read_until("hello").await;
    rig.tells(200, "ok");
    instance.head().await;
    instance.send(poison).await;
    ends("an answer to nothing", Some(instance)).await;
    rig.goes_on("an answer to nothing", &mut client).await;
    rig.finish().await;
}

#[tokio::test]
async fn odd_answers_that_can_be_read_in_one_way_pass_framed_anew() {
    let mut rig = Rig::start().await;
    let head = "HTTP/1.1 200 OK\r\n";
    let chunks = "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    for (what, request, answer, body, reused) in [
        ("a length", GET, format!("{head}Content-Length: 5\r\n\r\nhello"), "hello", true),
        ("zeros in front", GET, format!("{head}Content-Length: 0005\r\n\r\nhello"), "hello", true),
        (
            "the same length twice",
            GET,
            format!("{head}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
            "hello",
            true,
        ),
        ("chunks", GET, format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"), "hello", true),
        (
            "chunks beside a length",
            GET,
            format!("{head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
            "hello",
            false,
        ),
        (
            "a length beside chunks",
            GET,
            format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 300\r\n\r\n{chunks}"),
            "hello",
            false,
        ),
        (
            "extensions of chunks",
            GET,
            format!("{head}Transfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n"),
            "hello",
            true,
        ),
        (
            "a blank behind a size",
            GET,
            format!("{head}Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0 \r\n\r\n"),
            "hello",
            true,
        ),
        (
            "HTTP/1.0 with a length",
            GET,
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello".into(),
            "hello",
            false,
        ),
        (
            "HTTP/1.0, kept",
            GET,
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello".into(),
            "hello",
            true,
        ),
        ("close", GET, format!("{head}Content-Length: 5\r\nConnection: close\r\n\r\nhello"), "hello", false),
        (
            "framing nominated away",
            GET,
            format!("{head}Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello"),
            "hello",
            true,
        ),
        (
            "a status nobody knows",
            GET,
            "HTTP/1.1 799 Odd\r\nContent-Length: 5\r\n\r\nhello".into(),
            "hello",
            true,
        ),
        ("no reason", GET, "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello".into(), "hello", true),
        (
            "a reason of octets above ASCII",
            GET,
            "HTTP/1.1 200 \u{e4}\u{80}\r\nContent-Length: 5\r\n\r\nhello".into(),
            "hello",
            true,
        ),
        (
            "a 205 with a body",
            GET,
            "HTTP/1.1 205 Reset\r\nContent-Length: 5\r\n\r\nhello".into(),
            "hello",
            true,
        ),
        (
            "a 304 with a length",
            GET,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".into(),
            "",
            true,
        ),
        ("no length to HEAD", HEAD, format!("{head}\r\n"), "", true),
        (
            "a huge length to HEAD",
            HEAD,
            format!("{head}Content-Length: 9223372036854775807\r\n\r\n"),
            "",
            true,
        ),
        ("a 204 without a length", GET, "HTTP/1.1 204 No Content\r\n\r\n".into(), "", true),
        (
            "102 with a length",
            GET,
            format!(
                "HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n{head}Content-Length: 5\r\n\r\nhello"
            ),
            "hello",
            true,
        ),
        (
            "100 unasked",
            GET,
            format!("HTTP/1.1 100 Continue\r\n\r\n{head}Content-Length: 5\r\n\r\nhello"),
            "hello",
            true,
        ),
        (
            "31 answers before",
            GET,
            format!(
                "{}{head}Content-Length: 5\r\n\r\nhello",
                "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n".repeat(31)
            ),
            "hello",
            true,
        ),
        (
            "99 fields and a length",
            GET,
            format!("{head}{}Content-Length: 5\r\n\r\nhello", "A: b\r\n".repeat(99)),
            "hello",
            true,
        ),
    ] {
        rig.passes(what, request, &answer, Then::Waits, body, reused).await;
    }
    for (what, answer, body) in [
        ("no length", format!("{head}\r\nhello"), "hello"),
        ("no length, nothing", format!("{head}\r\n"), ""),
        ("HTTP/1.0, no length", "HTTP/1.0 200 OK\r\n\r\nhello".into(), "hello"),
        (
            "HTTP/1.0, kept, no length",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello".into(),
            "hello",
        ),
    ] {
        rig.passes(what, GET, &answer, Then::Closes, body, false).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_no_answer() {
    let mut rig = Rig::start().await;
    let switch = |fields: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
    let websocket =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for (what, request, fields) in [
        ("to a plain request", GET, websocket),
        ("to a POST", POST, websocket),
        ("to HTTP/1.0", OLD, websocket),
        ("to an old client that asks", &ASK.replace("/1.1", "/1.0"), websocket),
        (
            "to one that asks for h2c",
            &ASK.replace("websocket", "h2c"),
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        ),
        ("to one that does not name it", &ASK.replace("Connection: Upgrade\r\n", ""), websocket),
        ("without a protocol", ASK, "Connection: Upgrade\r\n"),
        ("nothing at all", ASK, ""),
        ("another protocol", ASK, "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        ("two protocols", ASK, "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
        ("two fields", ASK, "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: tcp\r\n"),
    ] {
        rig.refuses(what, request, &switch(fields), Then::Waits, "upstream-invalid").await;
    }
    let most = "HTTP/1.1 102 Processing\r\n\r\n".repeat(32);
    let (mut client, mut instance) = rig.ask(GET).await;
    instance
        .send(&format!("{most}HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"))
        .await;
    client.read_until(&format!("{most}HTTP/1.1 200 OK\r\n")).await;
    client.read_until("hello").await;
    rig.tells(200, "ok");
    rig.goes_on("as many 1xx as are taken", &mut client).await;
    let interims = "HTTP/1.1 102 Processing\r\n\r\n".repeat(33);
    let (mut client, mut instance) = rig.ask(GET).await;
    instance.send(&interims).await;
    client.read_until("HTTP/1.1 502 ").await;
    client.read_until("\"upstream-invalid\"").await;
    client.read_until("}\n").await;
    rig.tells(502, "upstream-invalid");
    ends("a storm of 1xx", Some(instance)).await;
    rig.goes_on("a storm of 1xx", &mut client).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_request_that_was_sent_is_repeated_only_if_that_can_do_no_harm() {
    let mut rig = Rig::start().await;
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let put = POST.replace("POST", "PUT");
    // The instance closes a kept connection just as the next request comes.
    for (request, then, repeated) in [
        (GET, Then::Closes, true),
        (GET, Then::Resets, true),
        (HEAD, Then::Closes, true),
        (&put, Then::Resets, true),
        (POST, Then::Closes, false),
        (POST, Then::Resets, false),
        (&GET.replace("GET", "PURGE"), Then::Closes, false),
    ] {
        let (mut client, mut instance) = rig.ask(GET).await;
        instance.send(ok).await;
        client.read_until("hello").await;
        rig.tells(200, "ok");
        client.send(request).await;
        instance.head().await;
        let instance = rig.then(instance, then).await;
        if repeated {
            let mut other = rig.origin.accept().await;
            other.head().await;
            other.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{request}: {head}");
            rig.tells(200, "ok");
        } else {
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 502 "), "{request}: {head}");
            client.read_until("}\n").await;
            rig.tells(502, "upstream-closed");
        }
        ends(request, instance).await;
        // Nothing else was sent: the next connection brings the next request.
        rig.goes_on(request, &mut client).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_its_request_ends_both_connections() {
    let mut rig = Rig::start().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for (what, framing, part) in [
        ("a length", "Content-Length: 1000".to_owned(), "hello".to_owned()),
        ("chunks", "Transfer-Encoding: chunked".to_owned(), "5\r\nhello\r\n".to_owned()),
        ("a length, nothing sent", "Content-Length: 1000".to_owned(), String::new()),
        ("a client that waits", "Expect: 100-continue\r\nContent-Length: 1000".to_owned(), String::new()),
        ("GET", "Content-Length: 1000".to_owned(), String::new()),
    ] {
        for (status, then) in
            [("200 OK", Then::Waits), ("413 Too Large", Then::Closes), ("401 No", Then::Waits)]
        {
            let method = if what == "GET" { "GET" } else { "POST" };
            let request = format!("{method} / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n{part}");
            let (mut client, mut instance) = rig.ask(&request).await;
            if !part.is_empty() {
                instance.read_until("hello").await;
            }
            instance.send(format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nearly")).await;
            let instance = rig.then(instance, then).await;
            let head = client.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {head}");
            assert_eq!(field(&head, "connection"), Some("close"), "{what}: {head}");
            assert_eq!(client.read_exactly(5).await, b"early", "{what}");
            rig.tells(status[..3].parse().expect("a status"), "ok");
            // Whatever the client sends now is the rest of its body, or nothing.
            client.send(smuggled).await;
            assert_eq!(client.read_to_end().await, (vec![], End::Closed), "{what}");
            if let Some(mut instance) = instance {
                let (rest, _) = instance.read_to_end().await;
                let rest = String::from_utf8_lossy(&rest).into_owned();
                assert!(!rest.contains("smuggled") && !rest.ends_with("0\r\n\r\n"), "{what}: {rest}");
            }
            let mut other = Raw::connect(rig.http()).await;
            rig.goes_on(what, &mut other).await;
        }
    }
    rig.finish().await;
}
