//! One entry of a routing label, `[scheme://]host[path]`; the configuration file's routes are the same.
//!
//! Here: what spoils an entry as a whole (Markdown, placeholders, comma lists), and the scheme.
//! Not here: the list around it (see `routing`), the host (`host`), the path (`path`).

use super::flaw::{Flaw, shown};
use super::host::parse_host;
use super::path::parse_path;
use crate::names::{Host, RouteEntry, Scheme};

/// Reads one entry, white space around it ignored. Gives the entry and what was dropped from it, or why there is none.
pub fn parse_entry(text: &str) -> Result<(RouteEntry, Vec<Flaw>), Flaw> {
    let text = text.trim();
    if let Some(flaw) = residue(text) {
        return Err(flaw);
    }
    refuse_lists(text)?;
    let (scheme, rest) = split_scheme(text)?;
    let (host, rest) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let host = parse_host(host)?;
    if scheme.is_secure() && matches!(host, Host::Prefix(_)) {
        let text = format!("`{}` asks for TLS on a prefix", shown(text));
        let remedy = format!(
            "write a full domain, `{}://{host}.company.com`, or leave the scheme out",
            scheme.as_str()
        );
        return Err(Flaw::refused("label-https-prefix", text, remedy));
    }
    let mut warnings = Vec::new();
    let path = parse_path(rest, &mut warnings)?;
    Ok((RouteEntry { scheme, host, path }, warnings))
}

/// What a copy from a document or an unfinished template leaves behind.
pub(super) fn residue(text: &str) -> Option<Flaw> {
    let refuse = |kind, what: &str, remedy: String| {
        Some(Flaw::refused(kind, format!("`{}` {what}", shown(text)), remedy))
    };
    if let Some(address) = markdown_address(text) {
        return refuse(
            "label-markdown",
            "is Markdown",
            format!("write the address alone: `{}`", shown(address)),
        );
    }
    if is_unresolved(text) {
        let remedy =
            "write the value itself, or set the variable where the containers are started".to_owned();
        return refuse("label-unresolved-variable", "has a variable that nobody replaced", remedy);
    }
    if text.contains(['{', '}']) || text.starts_with('<') && text.ends_with('>') {
        let remedy = "write the real name in place of the placeholder".to_owned();
        return refuse("label-placeholder", "has a placeholder that nobody filled in", remedy);
    }
    if text.starts_with(['"', '\'']) {
        let bare = text.trim_matches(['"', '\'']);
        let remedy =
            format!("leave the quotes out, in a YAML list they become part of the value: `{}`", shown(bare));
        return refuse("label-quotes", "has quotes in it", remedy);
    }
    if let Some(wide) = text.chars().find(|c| matches!(c, '：' | '；' | '，' | '／' | '。')) {
        let plain = text.replace('：', ":").replace(['；', '，'], ";").replace('／', "/").replace('。', ".");
        let what = format!("has the full-width character `{wide}`");
        return refuse("label-fullwidth-character", &what, format!("write `{}`", shown(&plain)));
    }
    None
}

/// Several entries where one is expected.
fn refuse_lists(text: &str) -> Result<(), Flaw> {
    let host_end = text.find("://").map_or(0, |at| at + 3);
    let host_end = text[host_end..].find(['/', '?', '#']).map_or(text.len(), |at| host_end + at);
    if text[..host_end].contains(',') || text.contains(",http://") || text.contains(",https://") {
        let remedy = format!("separate entries with `;`: `{}`", shown(&text.replace(',', ";")));
        return Err(Flaw::refused("label-comma-list", format!("`{}` is a comma list", shown(text)), remedy));
    }
    if text.contains(';') {
        let text = format!("`{}` is a list", shown(text));
        return Err(Flaw::refused("label-list", text, "write each entry by itself"));
    }
    if text.contains(char::is_whitespace) {
        let parts = text.split_whitespace().collect::<Vec<_>>().join(";");
        let text = format!("`{}` has white space in it", shown(text));
        let remedy = format!("leave it out, or if several entries are meant, write `;`: `{}`", shown(&parts));
        return Err(Flaw::refused("label-white-space", text, remedy));
    }
    Ok(())
}

/// The address inside `[text](address)`, `<http://address>` or backticks.
fn markdown_address(text: &str) -> Option<&str> {
    if let Some((before, after)) = text.split_once("](") {
        let inside = before.rsplit('[').next().unwrap_or(before);
        let target = after.split(')').next().unwrap_or(after);
        return Some(if target.is_empty() { inside } else { target });
    }
    if let Some(inside) = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')) {
        return inside.contains("://").then_some(inside);
    }
    // A bracketed text that is no IPv6 address: half a link, or a YAML list that became a text.
    if let Some(inside) = text.strip_prefix('[').and_then(|t| t.split(']').next()) {
        let is_address = inside.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'%'));
        return (!is_address || inside.is_empty()).then_some(inside);
    }
    text.starts_with('`').then(|| text.trim_matches('`'))
}

/// `${NAME}`, `$NAME`, `%NAME%` and the like. A lone `$` in a path is an octet like another.
fn is_unresolved(text: &str) -> bool {
    let begins_name = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '{' | '(');
    text.split('$').skip(1).any(|after| after.starts_with(begins_name))
        || text.starts_with('%') && text.len() > 1 && text.ends_with('%')
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), Flaw> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok((Scheme::Http, text)) };
    if scheme.contains(['/', '?', '#']) {
        return Ok((Scheme::Http, text)); // the `://` stands in the path
    }
    let known = [Scheme::Http, Scheme::Https, Scheme::Ws, Scheme::Wss];
    if let Some(known) = known.into_iter().find(|known| scheme.eq_ignore_ascii_case(known.as_str())) {
        return Ok((known, rest));
    }
    let what = format!("`{}://` is no scheme of a route", shown(scheme));
    if scheme.eq_ignore_ascii_case("tcp") || scheme.eq_ignore_ascii_case("udp") {
        let scheme = scheme.to_ascii_lowercase();
        let remedy =
            format!("{scheme} needs a listener of its own: `aliyun.lb.port_N: {scheme}://NAME:FRONT_PORT`");
        return Err(Flaw::refused("label-tcp-route", what, remedy));
    }
    Err(Flaw::refused("label-scheme", what, "write `http://`, `https://`, `ws://`, `wss://` or none"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed(text: &str) -> String {
        parse_entry(text).map(|(entry, _)| entry.to_string()).expect(text)
    }

    #[test]
    fn schemes_hosts_and_paths_are_read() {
        for (text, want) in [
            ("wordpress", "http://wordpress"),
            ("http://wordpress", "http://wordpress"),
            (" HTTP://A.Company.COM ", "http://a.company.com"),
            ("https://www.nice.com/", "https://www.nice.com"),
            ("wss://chat.company.com/Ws/", "wss://chat.company.com/Ws"),
            ("WS://chat", "ws://chat"),
            ("*.company.com/api", "http://*.company.com/api"),
            ("aixue-recommender.local", "http://aixue-recommender.local"),
            ("https://shop.local", "https://shop.local"),
            ("a.com?x=http://b", "http://a.com"),
            ("a.com/http://b", "http://a.com/http://b"),
            ("a.com/price$", "http://a.com/price$"),
            ("a.com/100%", "http://a.com/100%"),
            ("a.com/'?q", "http://a.com/'"),
        ] {
            assert_eq!(printed(text), want, "{text}");
        }
    }

    #[test]
    fn each_refusal_has_its_own_kind_and_says_what_to_write() {
        for (text, kind, advice) in [
            ("", "label-no-host", "shop.company.com"),
            ("http://", "label-no-host", "shop.company.com"),
            ("/api", "label-no-host", "shop.company.com"),
            ("http://a.com,http://b.com", "label-comma-list", "`http://a.com;http://b.com`"),
            ("a.com,b.com", "label-comma-list", "`a.com;b.com`"),
            ("a.com/x,http://b.com/y", "label-comma-list", "`a.com/x;http://b.com/y`"),
            ("a.com;b.com", "label-list", "by itself"),
            ("a.com b.com", "label-white-space", "`a.com;b.com`"),
            ("http://$DOMAIN", "label-unresolved-variable", "write the value itself"),
            ("${X}", "label-unresolved-variable", "write the value itself"),
            ("a.com/$X", "label-unresolved-variable", "write the value itself"),
            ("%DOMAIN%", "label-unresolved-variable", "write the value itself"),
            ("http://{YOUR_DOMAIN_NAME}", "label-placeholder", "real name"),
            ("{{ domain }}", "label-placeholder", "real name"),
            ("<YOUR_DOMAIN>", "label-placeholder", "real name"),
            ("[http://wordpress](http://wordpress)", "label-markdown", "`http://wordpress`"),
            ("[http://a]()", "label-markdown", "`http://a`"),
            ("http://[a](b)", "label-markdown", "`b`"),
            ("<http://a.com>", "label-markdown", "`http://a.com`"),
            ("`a.com`", "label-markdown", "`a.com`"),
            ("[a.com]", "label-markdown", "`a.com`"),
            ("\"a.com\"", "label-quotes", "`a.com`"),
            ("http：//a.com", "label-fullwidth-character", "`http://a.com`"),
            ("a.com；b.com", "label-fullwidth-character", "`a.com;b.com`"),
            ("https://shop", "label-https-prefix", "`https://shop.company.com`"),
            ("wss://shop/x", "label-https-prefix", "`wss://shop.company.com`"),
            ("tcp://a.com:3306", "label-tcp-route", "aliyun.lb.port_N: tcp://"),
            ("udp://a.com", "label-tcp-route", "aliyun.lb.port_N: udp://"),
            ("ftp://a.com", "label-scheme", "`http://`"),
            ("http:/a.com", "label-scheme-slashes", "`http://HOST`"),
            ("a.com:8080/x", "label-port-in-host", "aliyun.routing.port_8080"),
            ("http://[::1]/", "label-ip-host", "write a name"),
            ("http://a.com\\b", "label-path-never-matches", "write `/`"),
        ] {
            let flaw = parse_entry(text).expect_err(text);
            assert_eq!(flaw.kind, kind, "{text}: {flaw}");
            assert!(flaw.remedy.contains(advice), "{text}: {}", flaw.remedy);
        }
    }

    fn any_entry() -> impl Strategy<Value = String> {
        (
            "(HTTP://|http://|https://|ws://|wss://)?",
            "(\\*\\.)?",
            "[a-zA-Z0-9]{1,9}(\\.[a-z0-9-]{1,9}){0,3}\\.?",
            "(/[!-~]{0,9}){0,4}",
        )
            .prop_map(|(scheme, star, host, path)| format!("{scheme}{star}{host}{path}"))
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}|[a-z\\[\\]():/.;,$*%{} ：]{0,40}") {
            let _ = parse_entry(&text);
        }

        #[test]
        fn what_is_printed_is_read_back(text in any_entry()) {
            if let Ok((entry, _)) = parse_entry(&text) {
                let (again, _) = parse_entry(&entry.to_string()).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(&again, &entry);
                prop_assert_eq!(again.to_string(), entry.to_string());
            }
        }

        #[test]
        fn a_plain_entry_is_always_read(host in "[a-z][a-z0-9]{0,9}(\\.[a-z][a-z0-9]{0,9}){1,3}", path in "(/[a-zA-Z0-9_~%-]{1,9}){0,4}") {
            prop_assume!(!path.to_ascii_lowercase().contains("%5c") && !path.contains("%00"));
            prop_assert_eq!(printed(&format!("{host}{path}")), format!("http://{host}{path}"));
        }
    }
}
