//! The path of a routing entry: one that a request could ever have.
//!
//! A claim is compared with exactly the octets that are forwarded, and a request with a dot segment, `%00`, a
//! backslash or a control octet is refused before it is routed: a claim on such a path would be a silent one.

use std::sync::Arc;

use super::flaw::{Flaw, shown};

/// Longest path, in characters (documented by the original product).
const PATH_CHARS_MAX: usize = 128;

/// Reads what follows the host: nothing, or a path with a leading `/`, perhaps with a query or fragment, which are
/// dropped with a warning. A trailing `/` is dropped without one: `/api/` and `/api` cover the same.
pub(crate) fn parse_path(rest: &str, warnings: &mut Vec<Flaw>) -> Result<Arc<str>, Flaw> {
    let path = without_query(rest, warnings);
    refuse_length(path)?;
    refuse_octets(path)?;
    refuse_dot_segments(path)?;
    if path.contains(',') {
        let text = format!("the comma in `{}` counts as part of the path", shown(path));
        warnings.push(Flaw::warning(
            "label-comma-in-path",
            text,
            "if two entries are meant, separate them with `;`",
        ));
    }
    let path = path.trim_end_matches('/');
    Ok(if path.is_empty() { "/".into() } else { path.into() })
}

fn without_query<'a>(rest: &'a str, warnings: &mut Vec<Flaw>) -> &'a str {
    let Some(cut) = rest.find(['?', '#']) else { return rest };
    let (path, dropped) = rest.split_at(cut);
    let kind = if dropped.starts_with('?') { "label-query" } else { "label-fragment" };
    let text = format!("`{}` plays no part in routing and was dropped", shown(dropped));
    warnings.push(Flaw::warning(kind, text, format!("write the path alone: `{}`", shown(path))));
    path
}

fn refuse_length(path: &str) -> Result<(), Flaw> {
    let chars = path.chars().count();
    if chars <= PATH_CHARS_MAX {
        return Ok(());
    }
    let text = format!("the path `{}` has {chars} characters", shown(path));
    Err(Flaw::refused("label-path-too-long", text, format!("write at most {PATH_CHARS_MAX} characters")))
}

fn refuse_octets(path: &str) -> Result<(), Flaw> {
    let never = |what: &str, remedy: &str| {
        let text = format!("no request can have the path `{}`: {what}", shown(path));
        Err(Flaw::refused("label-path-never-matches", text, remedy))
    };
    if path.contains('\\') || contains_escape(path, "5c") {
        return never("a backslash is refused", "write `/`");
    }
    if path.bytes().any(|b| b.is_ascii_control()) || contains_escape(path, "00") {
        return never("control characters are refused", "leave them out");
    }
    if path.bytes().any(|b| !b.is_ascii() || matches!(b, b'"' | b'<' | b'>' | b'`')) {
        return never(
            "such characters arrive percent-encoded",
            "write them percent-encoded, `%C3%BC` for `ü`",
        );
    }
    Ok(())
}

fn refuse_dot_segments(path: &str) -> Result<(), Flaw> {
    let is_dots = |segment: &str| matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..");
    if !path.split('/').any(is_dots) {
        return Ok(());
    }
    let text = format!("no request can have the path `{}`: dot segments are refused", shown(path));
    Err(Flaw::refused("label-path-never-matches", text, "write the path without `.` and `..` segments"))
}

/// Whether `path` has `%` and these two hex digits, given in lower case.
fn contains_escape(path: &str, digits: &str) -> bool {
    path.split('%').skip(1).any(|after| after.get(..2).is_some_and(|two| two.eq_ignore_ascii_case(digits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_case_and_loses_its_last_slash() {
        for (rest, want) in [
            ("", "/"),
            ("/", "/"),
            ("/Api/", "/Api"),
            ("/api/v1", "/api/v1"),
            ("/a//b", "/a//b"),
            ("/%2F..x/...", "/%2F..x/..."),
            ("/c,d", "/c,d"),
        ] {
            assert_eq!(parse_path(rest, &mut Vec::new()).as_deref(), Ok(want), "{rest}");
        }
    }

    #[test]
    fn query_and_fragment_are_dropped_with_a_warning() {
        for (rest, want, kind) in [
            ("/a?b=c#d", "/a", "label-query"),
            ("?b", "/", "label-query"),
            ("/a#b?c", "/a", "label-fragment"),
            ("/a,b", "/a,b", "label-comma-in-path"),
        ] {
            let mut warnings = Vec::new();
            assert_eq!(parse_path(rest, &mut warnings).as_deref(), Ok(want), "{rest}");
            assert_eq!(warnings.iter().map(|w| w.kind).collect::<Vec<_>>(), [kind], "{rest}");
        }
    }

    #[test]
    fn a_path_that_no_request_can_have_is_refused() {
        let long = format!("/{}", "a".repeat(128));
        for (rest, kind) in [
            ("/a/../b", "label-path-never-matches"),
            ("/.", "label-path-never-matches"),
            ("/%2E%2e/b", "label-path-never-matches"),
            ("/.%2e", "label-path-never-matches"),
            ("/a\\b", "label-path-never-matches"),
            ("/a%5Cb", "label-path-never-matches"),
            ("/a%00", "label-path-never-matches"),
            ("/a\u{7f}", "label-path-never-matches"),
            ("/bücher", "label-path-never-matches"),
            (long.as_str(), "label-path-too-long"),
        ] {
            assert_eq!(parse_path(rest, &mut Vec::new()).expect_err(rest).kind, kind, "{rest}");
        }
    }
}
