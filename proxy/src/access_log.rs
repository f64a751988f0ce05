//! One line per request, written off its way: each worker collects lines, a thread of its own writes them.
//!
//! When the thread cannot keep up, lines are dropped rather than requests delayed; how many is said in the log itself.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use fairway_config::file::LogFormat;

use crate::clock::Clock;
use crate::h1::write::push_number;
use crate::reason::Reason;
use crate::refusal::push_json;

/// A worker hands its lines over when they fill this much; the worker's tick hands over what is left.
const HAND_OVER_BYTES: usize = 64 * 1024;

/// Blocks of lines that may wait for the writer.
const QUEUE: usize = 64;

/// Longest piece of a client's text in a line, in octets.
const LONGEST_TEXT: usize = 1024;

/// Where lines go, and how they look.
pub struct AccessLogConfig {
    /// How a line is written.
    pub format: LogFormat,
    /// Where to: standard output, a file.
    pub to: Box<dyn Write + Send>,
}

impl std::fmt::Debug for AccessLogConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLogConfig").field("format", &self.format).finish_non_exhaustive()
    }
}

/// Starts the writer. It ends when the last worker is gone.
pub(crate) fn start(config: AccessLogConfig) -> std::io::Result<AccessLogSender> {
    let (sender, receiver) = sync_channel(QUEUE);
    let AccessLogConfig { format, to } = config;
    std::thread::Builder::new().name("access-log".into()).spawn(move || write_blocks(&receiver, to))?;
    Ok(AccessLogSender { format, sender })
}

fn write_blocks(blocks: &Receiver<Vec<u8>>, mut to: Box<dyn Write + Send>) {
    while let Ok(block) = blocks.recv() {
        // A full disk or a closed pipe must not end the process: the lines are lost, requests go on.
        if let Err(error) = to.write_all(&block).and_then(|()| to.flush()) {
            tracing::warn!(%error, "access log lines could not be written");
        }
    }
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub(crate) struct AccessLogSender {
    format: LogFormat,
    sender: SyncSender<Vec<u8>>,
}

impl AccessLogSender {
    /// One worker's log.
    pub(crate) fn for_worker(&self) -> AccessLog {
        AccessLog {
            sender: self.clone(),
            lines: RefCell::default(),
            waiting: Cell::new(0),
            dropped: Cell::new(0),
        }
    }
}

/// One worker's log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sender: AccessLogSender,
    lines: RefCell<Vec<u8>>,
    /// Lines collected.
    waiting: Cell<u64>,
    /// Lines dropped and not yet told.
    dropped: Cell<u64>,
}

/// What is told about a request. Empty texts are left out.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// The effective client.
    pub client: IpAddr,
    /// The method, empty when the request could not be read.
    pub method: &'a str,
    /// The host.
    pub host: &'a str,
    /// The path, without the query: queries hold secrets.
    pub path: &'a str,
    /// The status sent; 499 when the client left first.
    pub status: u16,
    /// Octets of the answer's body.
    pub bytes: u64,
    /// The route.
    pub route: &'a str,
    /// The backend.
    pub backend: &'a str,
    /// The instance.
    pub instance: &'a str,
    /// Why this version.
    pub why: &'a str,
    /// Why it ended as it did.
    pub reason: Reason,
    /// How a call of gRPC ended.
    pub grpc_status: Option<&'a str>,
    /// Instances tried.
    pub attempts: u32,
    /// From the first octet of the request to the last of the answer.
    pub total: Duration,
    /// Time spent waiting for a place at full instances; `None` if it did not wait.
    pub queued: Option<Duration>,
    /// Time spent connecting; `None` with a pooled connection.
    pub connect: Option<Duration>,
    /// From the choice of the instance to the head of its answer.
    pub first_byte: Option<Duration>,
    /// The request's id.
    pub request_id: &'a str,
}

impl AccessLog {
    /// Adds a line.
    pub(crate) fn line(&self, line: &Line<'_>, clock: &Clock) {
        let mut lines = self.lines.borrow_mut();
        let mut writer = LineWriter { out: &mut lines, format: self.sender.format, first: true };
        writer.all(line, clock);
        lines.push(b'\n');
        self.waiting.set(self.waiting.get() + 1);
        let full = lines.len() >= HAND_OVER_BYTES;
        drop(lines);
        if full {
            self.hand_over(clock);
        }
    }

    /// Gives the collected lines to the writer.
    pub(crate) fn hand_over(&self, clock: &Clock) {
        let mut lines = self.lines.borrow_mut();
        if lines.is_empty() {
            return;
        }
        let mut block = std::mem::replace(&mut *lines, Vec::with_capacity(HAND_OVER_BYTES + LONGEST_TEXT));
        let dropped = self.dropped.get();
        if dropped > 0 {
            tell_dropped(&mut block, self.sender.format, dropped, clock);
        }
        match self.sender.sender.try_send(block) {
            Ok(()) => self.dropped.set(0),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.set(dropped + self.waiting.get())
            }
        }
        self.waiting.set(0);
    }
}

fn tell_dropped(out: &mut Vec<u8>, format: LogFormat, dropped: u64, clock: &Clock) {
    let mut writer = LineWriter { out, format, first: true };
    writer.time(clock);
    writer.number("dropped_lines", dropped);
    writer.close();
    out.push(b'\n');
}

struct LineWriter<'a> {
    out: &'a mut Vec<u8>,
    format: LogFormat,
    first: bool,
}

impl LineWriter<'_> {
    fn all(&mut self, line: &Line<'_>, clock: &Clock) {
        self.time(clock);
        self.key("client");
        match self.format {
            LogFormat::Text => drop(write!(self.out, "{}", line.client)),
            LogFormat::Json => drop(write!(self.out, "\"{}\"", line.client)),
        }
        self.text("method", line.method);
        self.text("host", line.host);
        self.text("path", line.path);
        self.number("status", line.status.into());
        self.number("bytes", line.bytes);
        self.text("route", line.route);
        self.text("backend", line.backend);
        self.text("instance", line.instance);
        self.text("why", line.why);
        self.text("reason", line.reason.as_str());
        if let Some(status) = line.grpc_status {
            self.text("grpc_status", status);
        }
        self.number("attempts", line.attempts.into());
        self.millis("total_ms", Some(line.total));
        self.millis("queued_ms", line.queued);
        self.millis("connect_ms", line.connect);
        self.millis("first_byte_ms", line.first_byte);
        self.text("request_id", line.request_id);
        self.close();
    }

    fn time(&mut self, clock: &Clock) {
        match self.format {
            LogFormat::Text => clock.push_iso(self.out),
            LogFormat::Json => {
                self.out.extend_from_slice(b"{\"time\":\"");
                clock.push_iso(self.out);
                self.out.push(b'"');
            }
        }
        self.first = false;
    }

    fn close(&mut self) {
        if self.format == LogFormat::Json {
            self.out.push(b'}');
        }
    }

    fn key(&mut self, key: &str) {
        let (before, after): (&[u8], &[u8]) = match self.format {
            LogFormat::Text => (b" ", b"="),
            LogFormat::Json => (b",\"", b"\":"),
        };
        for part in [before, key.as_bytes(), after] {
            self.out.extend_from_slice(part);
        }
    }

    /// Text of a client, or of a label: bounded and escaped, so that a line stays one line and a value one value.
    fn text(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.key(key);
        let end = value.floor_char_boundary(LONGEST_TEXT);
        let value = &value[..end];
        let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'=');
        if self.format == LogFormat::Text && value.bytes().all(is_plain) {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            push_json(self.out, value);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        push_number(self.out, value);
    }

    fn millis(&mut self, key: &str, value: Option<Duration>) {
        let Some(value) = value else { return };
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.key(key);
        push_number(self.out, micros / 1000);
        let digit = |n: u64| b'0' + (n % 10) as u8;
        self.out.extend_from_slice(&[b'.', digit(micros / 100), digit(micros / 10), digit(micros)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str) -> Line<'_> {
        Line {
            client: IpAddr::from([192, 0, 2, 1]),
            method: "GET",
            host: "shop.company.com",
            path,
            status: 200,
            bytes: 12,
            route: "shop.company.com/",
            backend: "shop@v1",
            instance: "",
            why: "split",
            reason: Reason::Ok,
            grpc_status: None,
            attempts: 1,
            total: Duration::from_micros(1042),
            queued: None,
            connect: None,
            first_byte: Some(Duration::from_micros(999)),
            request_id: "id-1",
        }
    }

    fn written(format: LogFormat, path: &str) -> String {
        let (sender, receiver) = sync_channel(1);
        let log = AccessLogSender { format, sender }.for_worker();
        log.line(&line(path), &Clock::default());
        log.hand_over(&Clock::default());
        String::from_utf8(receiver.recv().expect("a block")).expect("text")
    }

    #[test]
    fn a_text_line_has_a_key_for_every_value() {
        let text = written(LogFormat::Text, "/a");
        let (time, rest) = text.split_once(' ').expect("a time and the rest");
        assert!(time.ends_with('Z'), "{time}");
        assert_eq!(
            rest,
            "client=192.0.2.1 method=GET host=shop.company.com path=/a status=200 bytes=12 route=shop.company.com/ \
             backend=shop@v1 why=split reason=ok attempts=1 total_ms=1.042 first_byte_ms=0.999 request_id=id-1\n"
        );
    }

    #[test]
    fn a_json_line_is_one_object_and_what_a_client_sent_cannot_break_it() {
        for path in ["/a", "/\"},{\"x\":\"", "/\u{1b}[31m", "/a\nb", &"/ä".repeat(2000)] {
            let text = written(LogFormat::Json, path);
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            let object: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let logged = object["path"].as_str().expect("a path");
            assert!(path.starts_with(logged) && logged.len() <= LONGEST_TEXT, "{logged}");
            assert_eq!(object["total_ms"], 1.042);
        }
    }

    #[test]
    fn a_value_that_is_not_plain_is_quoted_in_text() {
        assert!(
            written(LogFormat::Text, "/a status=200 b").contains(" path=\"/a status=200 b\" status=200 ")
        );
    }

    #[test]
    fn lines_that_find_the_queue_full_are_dropped_and_told() {
        let (sender, receiver) = sync_channel(1);
        let log = AccessLogSender { format: LogFormat::Text, sender }.for_worker();
        let clock = Clock::default();
        for _ in 0..3 {
            log.line(&line("/a"), &clock);
            log.hand_over(&clock);
        }
        receiver.recv().expect("the first block");
        log.line(&line("/b"), &clock);
        log.hand_over(&clock);
        let told = String::from_utf8(receiver.recv().expect("the last block")).expect("text");
        assert!(told.contains("path=/b") && told.contains(" dropped_lines=2\n"), "{told}");
    }
}
