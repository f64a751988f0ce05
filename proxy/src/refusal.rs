//! What Fairway itself answers: problem+json (RFC 9457) with a stable `type`, the reason's word.
//!
//! Not here: when it refuses (see `h1`, `downstream`), the words (see `reason`).

use bytes::Bytes;

use crate::clock::Clock;
use crate::forward::grpc::{Status, push_message};
use crate::h1::write::{HeadWriter, push_number};
use crate::reason::Reason;

/// Seconds after which a client may well try again, where trying again may help.
const RETRY_AFTER_SECS: u64 = 1;

/// An answer of our own.
#[derive(Debug)]
pub(crate) struct Refusal<'a> {
    /// Why.
    pub reason: Reason,
    /// One sentence that holds nothing of the request; empty to leave it out.
    pub detail: &'a str,
    /// The request's id, empty when it has none.
    pub request_id: &'a str,
    /// The answer is to a HEAD request: no body.
    pub to_head: bool,
    /// The connection is closed after it.
    pub close: bool,
    /// Say that it stays open, to a client of HTTP/1.0.
    pub says_keep_alive: bool,
    /// What it says besides.
    pub says: Says<'a>,
    /// Fields that it has besides, whole lines.
    pub added: &'a [u8],
    /// `Strict-Transport-Security`, if the listener has one.
    pub hsts: Option<&'a str>,
    /// The request is a call of gRPC over HTTP/2: it is refused in the words of gRPC.
    pub grpc: bool,
}

/// What a refusal of some kinds says besides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Says<'a> {
    /// Nothing.
    #[default]
    Nothing,
    /// Where the client should go instead.
    Location(&'a [u8]),
    /// The same, with the status of a route's own.
    Redirect(u16, &'a [u8]),
    /// After how many seconds the client may well try again.
    RetryAfter(u64),
    /// How the client may tell who it is.
    Challenge(&'a str),
}

impl Refusal<'_> {
    /// The status sent. 499 exists in the log only.
    pub(crate) fn status(&self) -> u16 {
        match self.says {
            Says::Redirect(status, _) => status,
            _ => self.reason.status().unwrap_or(500),
        }
    }

    /// Appends the head of the answer, and gives its body.
    pub(crate) fn write(&self, out: &mut Vec<u8>, clock: &Clock) -> Bytes {
        if self.grpc {
            self.write_grpc(out, clock);
            return Bytes::new();
        }
        let body = self.body();
        let status = self.status();
        let mut writer = HeadWriter::response(out, status, status_text(status).as_bytes());
        clock.with_date(|date| writer.field(b"Date", date.as_bytes()));
        writer.field(b"Content-Type", self.content_type());
        writer.number(b"Content-Length", body.len() as u64);
        writer.field(b"Cache-Control", b"no-store");
        if let Some(hsts) = self.hsts {
            writer.field(b"Strict-Transport-Security", hsts.as_bytes());
        }
        match self.says {
            Says::Nothing => {}
            Says::RetryAfter(seconds) => {
                writer.number(b"Retry-After", seconds.max(1));
            }
            Says::Location(location) | Says::Redirect(_, location) => {
                writer.field(b"Location", location);
            }
            Says::Challenge(challenge) => {
                writer.field(b"WWW-Authenticate", challenge.as_bytes());
            }
        }
        if status == 503 {
            writer.number(b"Retry-After", RETRY_AFTER_SECS);
        }
        if !self.request_id.is_empty() {
            writer.field(b"X-Request-Id", self.request_id.as_bytes());
        }
        if self.close {
            writer.field(b"Connection", b"close");
        } else if self.says_keep_alive {
            writer.field(b"Connection", b"keep-alive");
        }
        out.extend_from_slice(self.added);
        out.extend_from_slice(b"\r\n");
        if self.to_head { Bytes::new() } else { body.into() }
    }

    /// A head alone, which says what trailers would (gRPC over HTTP/2, Trailers-Only): clients read no status of HTTP.
    fn write_grpc(&self, out: &mut Vec<u8>, clock: &Clock) {
        let mut writer = HeadWriter::response(out, 200, b"OK");
        clock.with_date(|date| writer.field(b"Date", date.as_bytes()));
        writer.field(b"Content-Type", b"application/grpc");
        writer.number(b"Grpc-Status", Status::of_refusal(self.reason).number() as u64);
        let mut message = Vec::with_capacity(128);
        let detail = if self.detail.is_empty() { "" } else { ": " };
        for text in [self.reason.as_str(), ": ", self.reason.title(), detail, self.detail] {
            push_message(&mut message, text);
        }
        writer.field(b"Grpc-Message", &message);
        if !self.request_id.is_empty() {
            writer.field(b"X-Request-Id", self.request_id.as_bytes());
        }
        out.extend_from_slice(self.added);
        out.extend_from_slice(b"\r\n");
    }

    fn content_type(&self) -> &'static [u8] {
        match self.reason {
            Reason::AcmeChallenge => b"application/octet-stream",
            _ => b"application/problem+json",
        }
    }

    fn body(&self) -> Vec<u8> {
        if self.reason == Reason::AcmeChallenge {
            return self.detail.as_bytes().to_vec(); // the answer, and nothing else
        }
        let mut body = Vec::with_capacity(256);
        body.extend_from_slice(b"{\"type\":");
        push_json(&mut body, self.reason.as_str());
        body.extend_from_slice(b",\"title\":");
        push_json(&mut body, self.reason.title());
        body.extend_from_slice(b",\"status\":");
        push_number(&mut body, u64::from(self.status()));
        for (key, text) in [("detail", self.detail), ("request_id", self.request_id)] {
            if !text.is_empty() {
                body.extend_from_slice(b",\"");
                body.extend_from_slice(key.as_bytes());
                body.extend_from_slice(b"\":");
                push_json(&mut body, text);
            }
        }
        body.extend_from_slice(b"}\n");
        body
    }
}

/// Appends a JSON string: quotes, backslashes and control characters escaped, so that it stays one line and one string.
pub(crate) fn push_json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text;
    loop {
        // Mostly nothing needs a closer look. Some of what is not ASCII is a control character, too.
        let is_plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
        let plain = rest.bytes().position(|b| !is_plain(b)).unwrap_or(rest.len());
        out.extend_from_slice(&rest.as_bytes()[..plain]);
        let mut chars = rest[plain..].chars();
        match chars.next() {
            None => break,
            Some('"') => out.extend_from_slice(b"\\\""),
            Some('\\') => out.extend_from_slice(b"\\\\"),
            Some(c) if c.is_control() => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = chars.as_str();
    }
    out.push(b'"');
}

fn status_text(status: u16) -> &'static str {
    let known = http::StatusCode::from_u16(status).ok();
    known.and_then(|status| status.canonical_reason()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: Reason) -> Refusal<'static> {
        let (detail, request_id) = ("say \"why\"", "id-1");
        Refusal {
            reason,
            detail,
            request_id,
            to_head: false,
            close: true,
            says_keep_alive: false,
            says: Says::Nothing,
            added: b"",
            hsts: None,
            grpc: false,
        }
    }

    #[test]
    fn every_refusal_is_one_answer_with_its_reason_as_type() {
        for reason in Reason::ALL.iter().filter(|reason| **reason != Reason::AcmeChallenge) {
            let mut out = Vec::new();
            let body = refusal(*reason).write(&mut out, &Clock::default());
            let head = String::from_utf8(out).expect("text");
            assert!(head.ends_with("\r\n\r\n"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
            let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(problem["type"], reason.as_str());
            assert_eq!(problem["status"], reason.status().unwrap_or(500));
            assert_eq!(problem["detail"], "say \"why\"");
            assert_eq!(head.contains("Retry-After"), reason.status() == Some(503), "{reason}");
        }
    }

    #[test]
    fn a_call_of_grpc_is_refused_by_a_head_alone() {
        let mut out = Vec::new();
        let body =
            Refusal { grpc: true, ..refusal(Reason::ConnectFailed) }.write(&mut out, &Clock::default());
        assert!(body.is_empty());
        let head = String::from_utf8(out).expect("text");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: application/grpc\r\nGrpc-Status: 14\r\n"), "{head}");
        let message = "Grpc-Message: connect-failed: connecting to the instance failed: say \"why\"\r\n";
        assert!(head.contains(message), "{head}");
        assert!(!head.contains("Content-Length"), "{head}");
    }

    #[test]
    fn an_answer_to_head_has_the_length_and_no_body() {
        let mut out = Vec::new();
        let body = Refusal { to_head: true, ..refusal(Reason::NoRoute) }.write(&mut out, &Clock::default());
        assert!(body.is_empty());
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(!text.contains("Content-Length: 0"));
    }

    #[test]
    fn text_cannot_break_out_of_its_string() {
        let mut out = Vec::new();
        push_json(&mut out, "a\"b\\c\nd\u{1b}\u{85}é");
        assert_eq!(String::from_utf8(out).expect("text"), "\"a\\\"b\\\\c\\u000ad\\u001b\\u0085é\"");
    }
}
