//! The request target (RFC 9112 section 3.2), the host, and paths that another parser could read as other paths.

use std::net::Ipv6Addr;
use std::ops::Range;

use crate::reason::Reason;

/// What a request asks for, as spans of its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host and port of the absolute form.
    pub authority: Option<Range<usize>>,
    /// The path; empty when an absolute target has none.
    pub path: Range<usize>,
    /// What follows the first `?`, without it.
    pub query: Option<Range<usize>>,
    /// `*`, of OPTIONS.
    pub is_asterisk: bool,
    /// The default port of the absolute form's scheme.
    pub default_port: Option<u16>,
}

/// Why a target is refused.
pub type TargetError = (Reason, &'static str);

impl Target {
    /// Reads the target of a request with this method. CONNECT is not served: its targets never come here.
    pub fn read(target: &str, method: &str) -> Result<Self, TargetError> {
        let (target, method) = (target.as_bytes(), method.as_bytes());
        check_octets(target)?;
        let (authority, start, default_port) = match target {
            b"*" if method == b"OPTIONS" => return Ok(Self::asterisk()),
            [b'/', ..] => (None, 0, None),
            _ => absolute(target)
                .map(|(authority, port)| (Some(authority.clone()), authority.end, Some(port)))?,
        };
        let question = memchr::memchr(b'?', &target[start..]).map(|at| start + at);
        let path = start..question.unwrap_or(target.len());
        check_path(&target[path.clone()])?;
        let query = question.map(|at| at + 1..target.len());
        Ok(Self { authority, path, query, is_asterisk: false, default_port })
    }

    fn asterisk() -> Self {
        Self { authority: None, path: 0..1, query: None, is_asterisk: true, default_port: None }
    }
}

fn check_octets(target: &[u8]) -> Result<(), TargetError> {
    if target.contains(&b'#') {
        return Err((Reason::PathInvalid, "the request target holds a `#`"));
    }
    if target.iter().any(|b| *b <= b' ' || *b == 0x7f) {
        return Err((Reason::PathInvalid, "the request target holds a control octet"));
    }
    Ok(())
}

/// Where host and port of the absolute form lie, and the default port of its scheme.
fn absolute(target: &[u8]) -> Result<(Range<usize>, u16), TargetError> {
    let starts =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    let (start, port) = match () {
        () if starts(b"http://") => (7, 80),
        () if starts(b"https://") => (8, 443),
        () => return Err((Reason::RequestInvalid, "the request target is neither a path nor an http URL")),
    };
    let end =
        target[start..].iter().position(|b| matches!(b, b'/' | b'?')).map_or(target.len(), |at| start + at);
    Ok((start..end, port))
}

/// Refuses what another parser could read as another path. Nothing is decoded or merged: `%2f` and `//` are octets like
/// others.
pub(crate) fn check_path(path: &[u8]) -> Result<(), TargetError> {
    // Three octets that make a path doubtful; without them there is nothing to look at closely.
    if memchr::memchr3(b'.', b'%', b'\\', path).is_none() {
        return Ok(());
    }
    let invalid = |text| Err((Reason::PathInvalid, text));
    if path.contains(&b'\\') {
        return invalid("the path holds a backslash");
    }
    for at in memchr::memchr_iter(b'%', path) {
        match path.get(at + 1..at + 3) {
            Some(b"00") => return invalid("the path holds %00"),
            Some([b'5', b'c' | b'C']) => return invalid("the path holds %5c, a backslash"),
            _ => {}
        }
    }
    if path.split(|b| *b == b'/').any(is_dot_segment) {
        return invalid("the path holds a `.` or `..` segment");
    }
    Ok(())
}

/// `.` and `..`, also as `%2e`, also with parameters: some servers cut `;x` off before they walk the path.
fn is_dot_segment(segment: &[u8]) -> bool {
    let mut rest = segment;
    for dots in 0..3 {
        match rest {
            [] | [b';', ..] => return dots > 0,
            [b'.', more @ ..] | [b'%', b'2', b'e' | b'E', more @ ..] => rest = more,
            _ => return false,
        }
    }
    false
}

/// Host and port of a `Host` field or an absolute target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The name or address, an IPv6 address in brackets, as sent.
    pub host: &'a str,
    /// The port, if one is written.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host[:port]`; `None` when it is not one valid host. A name is 1 to 255 octets of letters, digits, `-`, `_`
    /// and single dots between them; one dot may follow.
    pub fn read(text: &'a str) -> Option<Self> {
        let (host, port) = if text.starts_with('[') {
            let (host, rest) = text.split_at(text.find(']')? + 1);
            host[1..host.len() - 1].parse::<Ipv6Addr>().ok()?;
            (host, rest)
        } else {
            let (host, port) = text.split_at(text.bytes().position(|b| b == b':').unwrap_or(text.len()));
            if !is_name(host) {
                return None;
            }
            (host, port)
        };
        Some(Self { host, port: if port.is_empty() { None } else { Some(read_port(port)?) } })
    }

    /// Whether both name the same host and port, a missing port standing for the default one.
    pub fn is_same(&self, other: &Self, default_port: Option<u16>) -> bool {
        let bare = |host: &'a str| host.strip_suffix('.').unwrap_or(host);
        let same_host =
            bare(self.host).eq_ignore_ascii_case(other.host.strip_suffix('.').unwrap_or(other.host));
        same_host && self.port.or(default_port) == other.port.or(default_port)
    }
}

/// `:` and 1 to 5 digits.
fn read_port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn is_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut before = b'.';
    let all_labels = name.bytes().all(|b| {
        let fits = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_') || (b == b'.' && before != b'.');
        before = b;
        fits
    });
    (1..=255).contains(&host.len()) && all_labels && before != b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(target: &str, method: &str) -> Option<Reason> {
        Target::read(target, method).err().map(|(reason, _)| reason)
    }

    #[test]
    fn paths_are_taken_as_they_are_or_refused() {
        for path in [
            "/",
            "/a/b",
            "//a//b",
            "/a%2fb",
            "/a.b",
            "/...",
            "/a..",
            "/..a",
            "/%2e%2e%2e",
            "/a;b=c",
            "/%",
            "/%2",
            "/ä",
            "/?a=%5c&b=..&c=%00",
            "/a?/../b",
            "/.well-known/acme",
            "/a/.git/b",
            "/%3b",
        ] {
            assert_eq!(reason(path, "GET"), None, "{path}");
        }
        for path in [
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e%2e/b",
            "/.%2E/b",
            "/%2e",
            "/..;/b",
            "/.;a/b",
            "/a\\b",
            "/a%5cb",
            "/a%5Cb",
            "/a%00",
            "/a#b",
            "/a?b#c",
            "/a\u{1}",
            "/a\u{7f}",
        ] {
            assert_eq!(reason(path, "GET"), Some(Reason::PathInvalid), "{path:?}");
        }
    }

    #[test]
    fn each_form_gives_its_parts() {
        let read = |target: &'static str| {
            let got = Target::read(target, "GET").expect("a target");
            let text = |range: Range<usize>| &target[range];
            (got.authority.clone().map(text), text(got.path.clone()), got.query.clone().map(text))
        };
        assert_eq!(read("/a?b?c"), (None, "/a", Some("b?c")));
        assert_eq!(read("/a?"), (None, "/a", Some("")));
        assert_eq!(read("http://h:1/a?b"), (Some("h:1"), "/a", Some("b")));
        assert_eq!(read("HTTP://h"), (Some("h"), "", None));
        assert_eq!(read("https://h?q"), (Some("h"), "", Some("q")));
        assert!(Target::read("*", "OPTIONS").expect("an asterisk").is_asterisk);
        for target in ["*", "a/b", "ftp://h/", "h:80", "", "http:/h"] {
            assert_eq!(reason(target, "GET"), Some(Reason::RequestInvalid), "{target}");
        }
    }

    #[test]
    fn a_host_is_one_name_or_address() {
        let read = |text: &'static str| Authority::read(text).map(|a| (a.host, a.port));
        assert_eq!(read("a.b"), Some(("a.b", None)));
        assert_eq!(read("A.b.:8080"), Some(("A.b.", Some(8080))));
        assert_eq!(read("10.0.0.1:80"), Some(("10.0.0.1", Some(80))));
        assert_eq!(read("[::1]:80"), Some(("[::1]", Some(80))));
        assert_eq!(read("a_b"), Some(("a_b", None)));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a:",
            "a:b",
            "a:65536",
            "a:000080",
            "a:+1",
            "a/b",
            "a@b",
            "a b",
            "a,b",
            "a%62",
            "[::1",
            "[::1]80",
            "[fe80::1%eth0]",
            "[a]",
            "::1",
            "a\tb",
            "http://a",
            "ä",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_default_port_makes_no_difference() {
        let same = |a: &str, b: &str, port| {
            let read = |text: &'_ str| Authority::read(text).map(|a| (a.host.to_owned(), a.port));
            let (a, b) = (read(a).expect("a host"), read(b).expect("a host"));
            Authority { host: &a.0, port: a.1 }.is_same(&Authority { host: &b.0, port: b.1 }, port)
        };
        assert!(same("A.b", "a.b:80", Some(80)));
        assert!(same("a.b.", "a.b", Some(80)));
        assert!(!same("a.b:443", "a.b:80", Some(443)));
        assert!(!same("a.b", "a.c", Some(80)));
    }
}
