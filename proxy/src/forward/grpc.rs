//! What a proxy knows of gRPC: which messages are its, how long a call may take, how it ended, and how our own refusals are
//! said in its words (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::time::Duration;

use tokio::time::Instant;

use crate::h1::syntax::decimal;
use crate::h1::{FieldIndex, Known, RequestHead, ResponseHead};
use crate::reason::Reason;

/// A call, as far as a proxy has to do with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GrpcCall {
    /// When its client gives it up.
    pub deadline: Option<Instant>,
}

impl GrpcCall {
    /// What this request calls, if it calls anything.
    pub(crate) fn of(head: &RequestHead, began: Instant) -> Option<Self> {
        // The method first: other requests are not looked through for it.
        if head.method() != "POST" || !is_grpc(head.values(Known::ContentType)) {
            return None;
        }
        let patience = named(&head.fields, head.raw(), b"grpc-timeout").and_then(timeout);
        Some(Self { deadline: patience.and_then(|patience| began.checked_add(patience)) })
    }
}

/// The status in the head of an answer that has no message.
pub(crate) fn status_of(head: &ResponseHead) -> Option<Status> {
    named(&head.fields, head.raw(), b"grpc-status").map(Status::read)
}

fn named<'h>(fields: &'h FieldIndex, raw: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    fields.iter().find(|field| field.name(raw).eq_ignore_ascii_case(name)).map(|field| field.value(raw))
}

/// Whether the content of a message is gRPC: `application/grpc`, with or without `+proto` and the like. gRPC-Web is none:
/// its trailers are in the body.
pub(crate) fn is_grpc<'v>(mut content_type: impl Iterator<Item = &'v [u8]>) -> bool {
    let Some(value) = content_type.next() else { return false };
    const NAME: &[u8] = b"application/grpc";
    let Some((start, rest)) = value.split_at_checked(NAME.len()) else { return false };
    start.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// Whether a request is a conversation for as long as both sides like: a call of gRPC, or a stream of Connect
/// (<https://connectrpc.com/docs/protocol>), which has other trailers.
pub(crate) fn is_talk(content_type: Option<&[u8]>) -> bool {
    const STREAM: &[u8] = b"application/connect+";
    let is_stream = content_type
        .and_then(|value| value.get(..STREAM.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(STREAM));
    is_stream || is_grpc(content_type.into_iter())
}

/// The status of a call, 0 to 16, as counted; what is none of these is [`Status::OTHER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u8);

impl Status {
    /// The client ended the call.
    pub(crate) const CANCELLED: Self = Self(1);
    /// Nothing better is known.
    pub(crate) const UNKNOWN: Self = Self(2);
    /// The deadline passed.
    pub(crate) const DEADLINE_EXCEEDED: Self = Self(4);
    /// The server has no such method.
    pub(crate) const UNIMPLEMENTED: Self = Self(12);
    /// The server broke a promise of its own.
    pub(crate) const INTERNAL: Self = Self(13);
    /// The server cannot take calls now: the one that says that the instance failed.
    pub(crate) const UNAVAILABLE: Self = Self(14);
    /// The server lost what it was to keep.
    pub(crate) const DATA_LOSS: Self = Self(15);
    /// A status that gRPC does not know.
    pub(crate) const OTHER: Self = Self(17);

    /// How many there are, [`Status::OTHER`] among them.
    pub(crate) const COUNT: usize = 18;

    /// From the value of `grpc-status`.
    pub(crate) fn read(value: &[u8]) -> Self {
        match value {
            [digit @ b'0'..=b'9'] => Self(digit - b'0'),
            [b'1', digit @ b'0'..=b'6'] => Self(10 + digit - b'0'),
            _ => Self::OTHER,
        }
    }

    /// From lines that may have `grpc-status` among them.
    pub(crate) fn in_lines(lines: &[u8]) -> Option<Self> {
        const NAME: &[u8] = b"grpc-status:";
        let mut lines = lines.split(|octet| *octet == b'\n');
        let value = lines.find_map(|line| {
            let (name, value) = line.split_at_checked(NAME.len())?;
            name.eq_ignore_ascii_case(NAME).then_some(value)
        })?;
        Some(Self::read(value.trim_ascii()))
    }

    /// What clients make of an answer that has none
    /// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
    pub(crate) fn of_http(status: u16) -> Self {
        Self(match status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => 14,
            _ => 2,
        })
    }

    /// How a call ended that we answered ourselves: by its HTTP status, but a deadline is known as one.
    pub(crate) fn of_refusal(reason: Reason) -> Self {
        match reason {
            Reason::TotalTimeout => Self::DEADLINE_EXCEEDED,
            Reason::ClientLeft => Self::CANCELLED,
            reason => reason.status().map_or(Self::UNKNOWN, Self::of_http),
        }
    }

    /// As it is told: the number, or `other`.
    pub(crate) fn name(self) -> &'static str {
        const NAMES: [&str; Status::COUNT] = [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
            "other",
        ];
        NAMES[self.number()]
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// Its place among [`Status::COUNT`].
    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }
}

/// How long the call may take, as `grpc-timeout` says: up to 8 digits and a unit. What is none is passed on and means nothing
/// here.
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) {
        return None;
    }
    let number = decimal(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Appends text as `grpc-message` holds it: what is not printable ASCII, and `%`, as `%XX`.
pub(crate) fn push_message(out: &mut Vec<u8>, text: &str) {
    for octet in text.bytes() {
        match octet {
            b'%' | 0..=0x1f | 0x7f.. => out.extend_from_slice(format!("%{octet:02X}").as_bytes()),
            plain => out.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_calls_of_grpc_and_streams_of_connect() {
        for (value, want) in [
            ("application/grpc+json", true),
            ("Application/Connect+proto", true),
            ("application/connect", false),
            ("application/proto", false),
        ] {
            assert_eq!(is_talk(Some(value.as_bytes())), want, "{value}");
        }
        assert!(!is_talk(None));
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (value, want) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(std::iter::once(value.as_bytes())), want, "{value}");
        }
        assert!(!is_grpc(std::iter::empty()));
    }

    #[test]
    fn timeouts_have_up_to_eight_digits_and_a_unit() {
        for (value, want) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("100m", Some(Duration::from_millis(100))),
            ("5u", Some(Duration::from_micros(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("0m", Some(Duration::ZERO)),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("5", None),
            ("-5S", None),
            ("5s", None),
        ] {
            assert_eq!(timeout(value.as_bytes()), want, "{value}");
        }
    }

    #[test]
    fn a_status_is_found_in_lines_and_what_is_none_is_other() {
        let in_lines = |lines: &str| Status::in_lines(lines.as_bytes()).map(Status::number);
        assert_eq!(in_lines("grpc-message: x\r\ngrpc-status: 14\r\n"), Some(14));
        assert_eq!(in_lines("Grpc-Status:0\r\n"), Some(0));
        assert_eq!(in_lines("grpc-status-details-bin: x\r\n"), None);
        for odd in ["17", "-1", "", "007", "ok"] {
            assert_eq!(Status::read(odd.as_bytes()), Status::OTHER, "{odd}");
        }
        assert!((0..17).all(|n| Status::read(n.to_string().as_bytes()).number() == n));
    }

    #[test]
    fn refusals_have_the_status_that_clients_expect() {
        for (reason, want) in [
            (Reason::NoRoute, 12),
            (Reason::NoReadyInstance, 14),
            (Reason::ConnectFailed, 14),
            (Reason::UpstreamTimeout, 14),
            (Reason::TotalTimeout, 4),
            (Reason::BodyInvalid, 13),
            (Reason::ClientLeft, 1),
            (Reason::Internal, 2),
        ] {
            assert_eq!(Status::of_refusal(reason).number(), want, "{reason}");
        }
    }

    #[test]
    fn messages_stay_one_line_of_printable_ascii() {
        let mut out = Vec::new();
        push_message(&mut out, "50 %\nä");
        assert_eq!(String::from_utf8_lossy(&out), "50 %25%0A%C3%A4");
    }
}
