//! One Fairway between raw octets and a recorder, and the rows of a table: what is sent, and what must come of it.
//!
//! Every row is sent twice: in one piece, and in small ones, because a verdict must not depend on how octets are cut. Texts
//! stand for octets by the number of each character, so that a row can hold any octet.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use fairway_testkit::raw::{End, Raw};
use fairway_testkit::raw_origin::{Received, Recorder};
use fairway_testkit::{Fairway, FairwayOptions};
use serde_json::Value;

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// A whole request that must reach nobody: it stands behind what is refused.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A request of its own, by which a row shows that nothing was left over from it.
const SENTINEL: &str = "GET /sentinel HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Most pieces that a row is cut into.
pub(crate) const PIECES: usize = 300;

/// The fields that Fairway adds to a request.
const OWN: [&str; 8] = [
    "via",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-request-id",
    "forwarded",
];

/// A running Fairway with one worker, which tells requests in the order they end, and the one instance behind it.
pub(crate) struct Bench {
    pub fairway: Fairway,
    pub recorder: Recorder,
    /// What the log must tell: status and reason.
    told: Vec<(u16, String)>,
    rows: usize,
}

/// The octets that a text stands for: one for each character, of that number.
pub(crate) fn octets(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a character that stands for an octet")).collect()
}

impl Bench {
    /// With the host `a.test` and nobody trusted.
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// With further lines of configuration.
    pub(crate) async fn with(more: &str) -> Self {
        let recorder = Recorder::start().await;
        let fairway = start(&[recorder.address()], "", more).await;
        Self { fairway, recorder, told: Vec::new(), rows: 0 }
    }

    /// The octets are refused with this status and word, the connection is closed, and the instance gets nothing: neither of
    /// them nor of what follows.
    pub(crate) async fn refuses(&mut self, what: &str, sent: &str, status: u16, word: &str) {
        for pieces in [1, PIECES] {
            let mut raw = self.send(&(sent.to_owned() + SMUGGLED), pieces).await;
            let (answer, end) = raw.read_to_end().await;
            check_refusal(what, &answer, status, word);
            assert_eq!(end, End::Closed, "{what}: the refusal arrives whole");
            self.tells(status, word);
            self.saw_nothing(what).await;
        }
        self.rows += 1;
    }

    /// The request is answered with 404 or the like and the connection carries the next one.
    pub(crate) async fn refuses_and_goes_on(&mut self, what: &str, sent: &str, status: u16, word: &str) {
        for pieces in [1, PIECES] {
            let mut raw = self.send(sent, pieces).await;
            let head = raw.head().await;
            let length: usize = field(&head, "content-length").and_then(|l| l.parse().ok()).expect(what);
            let body = raw.read_exactly(length).await;
            check_problem(what, &head, &body, status, word);
            assert_eq!(field(&head, "connection"), None, "{what}: {head}");
            self.tells(status, word);
            self.sentinel(what, &mut raw).await;
            self.saw_nothing_more(what);
        }
        self.rows += 1;
    }

    /// The request passes: the instance sees exactly this one (Fairway's own fields, which are checked, left out; the body
    /// without framing), and the connection carries the next one.
    pub(crate) async fn passes(&mut self, what: &str, sent: &str, seen: &str) {
        for pieces in [1, PIECES] {
            let mut raw = self.passed(what, sent, seen, pieces).await;
            self.sentinel(what, &mut raw).await;
            self.saw_nothing_more(what);
        }
        self.rows += 1;
    }

    /// The same, but the connection is closed after the answer, and what follows is not read.
    pub(crate) async fn passes_and_closes(&mut self, what: &str, sent: &str, seen: &str) {
        for pieces in [1, PIECES] {
            let mut raw = self.passed(what, &(sent.to_owned() + SMUGGLED), seen, pieces).await;
            assert_eq!(raw.read_to_end().await, (vec![], End::Closed), "{what}");
            self.saw_nothing(what).await;
        }
        self.rows += 1;
    }

    /// What the instance gets of this request, which must pass: for what rows do not say.
    pub(crate) async fn forwards(&mut self, what: &str, sent: &str) -> Received {
        let mut raw = self.send(sent, 1).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{what}: {head}");
        raw.read_until("ok").await;
        self.tells(200, "ok");
        self.rows += 1;
        self.only(what)
    }

    /// The head passes, then its body breaks its framing: 400, and the instance gets no end of it. If the fault is there
    /// together with the head, the instance gets nothing at all.
    pub(crate) async fn breaks(&mut self, what: &str, head: &str, body: &str, word: &str) {
        let mut raw = self.send(&[head, body, SMUGGLED].concat(), 1).await;
        let (answer, end) = raw.read_to_end().await;
        check_refusal(what, &answer, 400, word);
        assert_eq!(end, End::Closed, "{what}");
        self.tells(400, word);
        self.saw_nothing(what).await;

        let before = self.recorder.heads();
        let mut raw = self.send(head, 1).await;
        self.recorder.another_head(before).await;
        send_in_pieces(&mut raw, &octets(&(body.to_owned() + SMUGGLED)), PIECES).await;
        let (answer, end) = raw.read_to_end().await;
        check_refusal(what, &answer, 400, word);
        assert_eq!(end, End::Closed, "{what}");
        self.tells(400, word);
        let seen = self.recorder.next().await;
        assert!(seen.len() == 1 && !seen[0].whole, "{what}: the instance got {seen:?}");
        self.saw_nothing(what).await;
        self.rows += 1;
    }

    /// Checks that log and metrics tell what was expected of every row, in its order.
    pub(crate) async fn finish(self) {
        let count = self.told.len();
        let lines = self.fairway.log().find(|lines| {
            let lines: Vec<_> = lines.iter().filter_map(|line| access(line)).collect();
            (lines.len() >= count).then_some(lines)
        });
        let lines = lines.await.expect("fairway runs");
        assert_eq!(lines, self.told, "the access log");
        let mut want: BTreeMap<(u16, String), u64> = BTreeMap::new();
        for key in self.told {
            *want.entry(key).or_default() += 1;
        }
        assert_eq!(counted(&self.fairway).await, want, "the metrics");
        assert!(self.rows > 0 && self.recorder.take().is_empty());
    }

    /// A request that somebody else has made ends like this.
    pub(crate) fn tells(&mut self, status: u16, word: &str) {
        self.told.push((status, word.to_owned()));
    }

    async fn passed(&mut self, what: &str, sent: &str, seen: &str, pieces: usize) -> Raw {
        let mut raw = self.send(sent, pieces).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{what}: {head}");
        assert_eq!(raw.read_until("ok").await, b"ok", "{what}");
        self.tells(200, "ok");
        let got = self.only(what);
        check_own(what, &got, self.fairway.http());
        assert_eq!(shown(&got), seen, "{what}");
        raw
    }

    async fn send(&self, text: &str, pieces: usize) -> Raw {
        let mut raw = Raw::connect(self.fairway.http()).await;
        send_in_pieces(&mut raw, &octets(text), pieces).await;
        raw
    }

    /// The one request that the instance has got.
    fn only(&self, what: &str) -> Received {
        let mut seen = self.recorder.take();
        assert!(seen.len() == 1 && seen[0].whole, "{what}: the instance got {seen:?}");
        seen.remove(0)
    }

    /// One more request on this connection, which reaches the instance unharmed.
    async fn sentinel(&mut self, what: &str, raw: &mut Raw) {
        raw.send(SENTINEL).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{what}: {head}");
        raw.read_until("ok").await;
        self.tells(200, "ok");
        let got = self.only(what);
        assert_eq!(got.line, "GET /sentinel HTTP/1.1", "{what}");
    }

    /// Nothing came to the instance. Asked by one more request: what was sent before it would have come before it.
    async fn saw_nothing(&mut self, what: &str) {
        let mut raw = Raw::connect(self.fairway.http()).await;
        self.sentinel(what, &mut raw).await;
        self.saw_nothing_more(what);
    }

    fn saw_nothing_more(&self, what: &str) {
        let seen = self.recorder.take();
        assert!(seen.is_empty(), "{what}: the instance got {seen:?}");
    }
}

/// A Fairway with [`config`].
pub(crate) async fn start(instances: &[SocketAddr], service: &str, more: &str) -> Fairway {
    let fairway = FairwayOptions::new(BINARY).config(config(instances, service, more)).start().await;
    fairway.ready().await;
    fairway
}

/// One worker, its log as JSON, the host `a.test` with these instances, `service` lines for it, and more lines.
pub(crate) fn config(instances: &[SocketAddr], service: &str, more: &str) -> String {
    let instances: Vec<String> = instances.iter().map(|address| format!("\"{address}\"")).collect();
    let instances = instances.join(", ");
    let threads = if more.contains("[proxy]") { "" } else { "[proxy]\nthreads = 1\n" };
    format!(
        "[node]\nname = \"edge\"\n{threads}[log]\nformat = \"json\"\n{more}\n\
         [[service]]\nname = \"web\"\nroutes = [\"a.test\"]\ninstances = [{instances}]\n{service}\n"
    )
}

/// Writes octets in about so many pieces. The other side may refuse before it has taken all of them.
pub(crate) async fn send_in_pieces(raw: &mut Raw, octets: &[u8], pieces: usize) {
    for piece in octets.chunks(octets.len().div_ceil(pieces).max(1)) {
        if !raw.send(piece).await {
            return;
        }
    }
}

/// Status and reason of a line of the access log; `None` for another line.
pub(crate) fn access(line: &str) -> Option<(u16, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    line.get("client")?;
    Some((line["status"].as_u64()?.try_into().ok()?, line["reason"].as_str()?.to_owned()))
}

/// How many requests ended with each status and reason, as `/metrics` says.
pub(crate) async fn counted(fairway: &Fairway) -> BTreeMap<(u16, String), u64> {
    let text = fairway.admin("GET", "/metrics", None).await.ok("/metrics").text();
    let mut counted = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("fairway_requests_total{")) {
        let (labels, count) = line.rsplit_once("} ").expect("a sample");
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\"")).expect("a label");
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        let count: f64 = count.parse().expect("a number");
        // A status that has no name is counted as `other`.
        let code = if label("code") == "other" { 0 } else { label("code").parse().expect("a status") };
        let key = (code, label("reason"));
        *counted.entry(key).or_default() += count as u64;
    }
    counted
}

/// The value of a field of a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// One refusal and nothing behind it, which says that the connection ends.
pub(crate) fn check_refusal(what: &str, answer: &[u8], status: u16, word: &str) {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: no head: {answer:?}"));
    check_problem(what, head, body.as_bytes(), status, word);
    assert_eq!(field(head, "connection"), Some("close"), "{what}: {answer}");
}

fn check_problem(what: &str, head: &str, body: &[u8], status: u16, word: &str) {
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {head}");
    assert_eq!(field(head, "content-type"), Some("application/problem+json"), "{what}: {head}");
    assert_eq!(field(head, "content-length"), Some(body.len().to_string().as_str()), "{what}: {head}");
    let problem: Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((&problem["type"], &problem["status"]), (&word.into(), &status.into()), "{what}: {problem}");
}

/// A request without Fairway's own fields, its body without framing, its trailers behind it.
fn shown(request: &Received) -> String {
    let mut text = format!("{}\r\n", request.line);
    let others = request.fields.iter().filter(|(name, _)| !OWN.contains(&name.to_ascii_lowercase().as_str()));
    others.for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    text += "\r\n";
    text.extend(request.body.iter().map(|octet| char::from(*octet)));
    request.trailers.iter().for_each(|(name, value)| text += &format!("\r\n{name}: {value}"));
    text
}

/// Each of Fairway's own fields is there once, and says what it must of a client that nobody trusts.
fn check_own(what: &str, request: &Received, listener: SocketAddr) {
    let host = request.get("host");
    assert_eq!(host.len(), 1, "{what}: {request:?}");
    let quoted = if host[0].contains([':', '[']) { format!("\"{}\"", host[0]) } else { host[0].to_owned() };
    let port = listener.port().to_string();
    for (name, want) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", host[0]),
        ("x-forwarded-port", &port),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", &format!("for=127.0.0.1;host={quoted};proto=http")),
    ] {
        assert_eq!(request.get(name), [want], "{what}: {name} of {request:?}");
    }
    let via = request.get("via");
    assert!(via.len() == 1 && via[0].ends_with(" edge"), "{what}: {request:?}");
    let id = request.get("x-request-id");
    assert!(id.len() == 1 && id[0].len() >= 16, "{what}: {request:?}");
}
