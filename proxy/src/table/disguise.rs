//! Paths that some servers read as others: percent-encoded, with parameters, with empty or (behind `%2f`) dot segments.
//!
//! Routes match exactly the octets sent. So where a part of a host is guarded and the rest is not, `/%61dmin` would lead past the
//! guard of `/admin` to a server that may read it as `/admin` all the same.

use std::borrow::Cow;

/// The path as a server may read it that decodes, cuts parameters off, walks dots and merges slashes; `None` when it would read what was sent.
pub(super) fn plain(path: &str) -> Option<String> {
    let octets = path.as_bytes();
    let is_disguised =
        memchr::memchr2(b'%', b';', octets).is_some() || octets.windows(2).any(|pair| pair == b"//");
    if !is_disguised {
        return None;
    }
    let decoded = decoded(octets);
    let text = String::from_utf8_lossy(&decoded);
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let plain = format!("/{}", segments.join("/"));
    (plain != path).then_some(plain)
}

/// With every `%` and two hex digits as the octet that they stand for.
fn decoded(path: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', path).is_none() {
        return Cow::Borrowed(path);
    }
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                out.push(high << 4 | low);
                after
            }
            _ => {
                out.push(*first);
                after
            }
        };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_servers_may_read_it() {
        for (path, want) in [
            ("/", None),
            ("/admin/x", None),
            ("/%61dmin", Some("/admin")),
            ("/admin%2Fx", Some("/admin/x")),
            ("//admin", Some("/admin")),
            ("/admin;a=b/x", Some("/admin/x")),
            ("/admin%3Ba", Some("/admin")),
            ("/a%", None),
            ("/a%4", None),
            ("/%zz", None),
            ("//", Some("/")),
            ("/public%2f..%2Fadmin", Some("/admin")),
            ("/a%2f.%2f..%2f..", Some("/")),
            ("/%ff", Some("/\u{fffd}")),
        ] {
            assert_eq!(plain(path).as_deref(), want, "{path}");
        }
    }
}
