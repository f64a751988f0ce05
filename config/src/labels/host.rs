//! The host of a routing entry: a prefix, a full name or a wildcard; and why a text is none of them.
//!
//! Not here: scheme and path (see `entry`, `path`).

use std::net::Ipv6Addr;

use super::flaw::{Flaw, shown};
use crate::names::Host;

/// Longest host, in characters (documented by the original product).
const HOST_CHARS_MAX: usize = 128;
/// Longest label between two dots (RFC 1035 section 2.3.4).
const LABEL_CHARS_MAX: usize = 63;

/// Reads the part of an entry between scheme and path.
pub(crate) fn parse_host(text: &str) -> Result<Host, Flaw> {
    if text.is_empty() {
        let remedy = "write a host, such as `shop` or `shop.company.com`";
        return Err(Flaw::refused("label-no-host", "there is no host", remedy));
    }
    refuse_user(text)?;
    refuse_address(text)?;
    refuse_port(text)?;
    refuse_length(text)?;
    refuse_characters(text)?;
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    if let Some(base) = name.strip_prefix("*.") {
        return parse_wildcard(text, base);
    }
    check_labels(text, name)?;
    Ok(if name.contains('.') { Host::Exact(name.into()) } else { Host::Prefix(name.into()) })
}

fn parse_wildcard(text: &str, base: &str) -> Result<Host, Flaw> {
    check_labels(text, base)?;
    if !base.contains('.') {
        let text = format!("`{}` would take every host under `{}`", shown(text), shown(base));
        return Err(Flaw::refused("label-wildcard", text, "write a full domain after `*.`: `*.company.com`"));
    }
    Ok(Host::Wildcard(base.into()))
}

fn refuse_user(text: &str) -> Result<(), Flaw> {
    let Some((_, host)) = text.rsplit_once('@') else { return Ok(()) };
    let text = format!("`{}` carries a user name", shown(text));
    Err(Flaw::refused("label-user-in-host", text, format!("write the host alone: `{}`", shown(host))))
}

/// IP literals: a route is found by name. A name whose last label is a number is an address to every browser
/// (WHATWG URL, "ends in a number").
fn refuse_address(text: &str) -> Result<(), Flaw> {
    let bare = text.trim_start_matches('[').split(']').next().unwrap_or(text);
    let host = text.split(':').next().unwrap_or(text);
    let last = host.strip_suffix('.').unwrap_or(host).rsplit_once('.').map(|(_, last)| last);
    let is_v4 = last.is_some_and(is_number);
    if !is_v4 && bare.parse::<Ipv6Addr>().is_err() {
        return Ok(());
    }
    let text = format!("`{}` is an IP address", shown(text));
    Err(Flaw::refused("label-ip-host", text, "write a name: `shop`, `shop.local` or `shop.company.com`"))
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn refuse_port(text: &str) -> Result<(), Flaw> {
    let Some((host, port)) = text.split_once(':') else { return Ok(()) };
    if ["http", "https", "ws", "wss"].iter().any(|scheme| host.eq_ignore_ascii_case(scheme)) {
        let text = format!("`{}` lacks the slashes after the scheme", shown(text));
        let remedy = format!("write `{}://HOST`", host.to_ascii_lowercase());
        return Err(Flaw::refused("label-scheme-slashes", text, remedy));
    }
    let in_key = match port.parse::<u16>() {
        Ok(port) if port > 0 => format!("`aliyun.routing.port_{port}`"),
        _ => "`aliyun.routing.port_N`".to_owned(),
    };
    let text = format!("`{}` carries a port", shown(text));
    let remedy = format!("write `{}`: the container's port belongs in the key, {in_key}", shown(host));
    Err(Flaw::refused("label-port-in-host", text, remedy))
}

fn refuse_length(text: &str) -> Result<(), Flaw> {
    let chars = text.chars().count();
    if chars <= HOST_CHARS_MAX {
        return Ok(());
    }
    let text = format!("the host `{}` has {chars} characters", shown(text));
    let remedy = format!("write at most {HOST_CHARS_MAX} characters");
    Err(Flaw::refused("label-host-too-long", text, remedy))
}

/// Each kind of stray character has its own advice.
fn refuse_characters(text: &str) -> Result<(), Flaw> {
    if text.contains('_') {
        let dashed = text.replace('_', "-");
        let text = format!("the host `{}` has an underscore", shown(text));
        return Err(Flaw::refused("label-underscore", text, format!("write `-`: `{}`", shown(&dashed))));
    }
    if text.strip_prefix("*.").unwrap_or(text).contains('*') {
        let text = format!("`{}` has a `*` where none can be", shown(text));
        let remedy = "write `*.` once, at the beginning: `*.company.com`";
        return Err(Flaw::refused("label-wildcard", text, remedy));
    }
    if !text.is_ascii() {
        let text = format!("the host `{}` has characters outside ASCII", shown(text));
        let remedy = "write its punycode form, the labels that begin with `xn--`";
        return Err(Flaw::refused("label-non-ascii-host", text, remedy));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '*');
    let Some(stray) = text.chars().find(|c| !fits(*c)) else { return Ok(()) };
    let text =
        format!("the host `{}` has the character `{}`", shown(text), shown(stray.encode_utf8(&mut [0; 4])));
    Err(Flaw::refused("label-host-character", text, "write letters, digits, `-` and `.` only"))
}

fn check_labels(text: &str, name: &str) -> Result<(), Flaw> {
    for label in name.split('.') {
        let wrong = match label {
            "" => "has an empty part between its dots",
            _ if label.len() > LABEL_CHARS_MAX => "has a part of more than 63 characters",
            _ if label.starts_with('-') || label.ends_with('-') => "has a part that begins or ends with `-`",
            _ => continue,
        };
        let text = format!("the host `{}` {wrong}", shown(text));
        let remedy = "write parts of 1 to 63 letters, digits and inner `-`, with a dot between them";
        return Err(Flaw::refused("label-host-parts", text, remedy));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_names_and_wildcards_are_told_apart() {
        for (text, want) in [
            ("wordpress", Host::Prefix("wordpress".into())),
            ("123", Host::Prefix("123".into())),
            ("shop.local", Host::Exact("shop.local".into())),
            ("A.Company.COM.", Host::Exact("a.company.com".into())),
            ("xn--bcher-kva.example", Host::Exact("xn--bcher-kva.example".into())),
            ("*.Company.com", Host::Wildcard("company.com".into())),
            ("1.2.3.4.com", Host::Exact("1.2.3.4.com".into())),
        ] {
            assert_eq!(parse_host(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn each_refusal_has_its_own_kind_and_says_what_to_write() {
        let long = format!("{}.com", "a.".repeat(80));
        let long_label = format!("{}.com", "a".repeat(64));
        for (text, kind, advice) in [
            ("", "label-no-host", "shop.company.com"),
            (".", "label-host-parts", "parts of 1 to 63"),
            (
                "a.com:8080",
                "label-port-in-host",
                "`a.com`: the container's port belongs in the key, `aliyun.routing.port_8080`",
            ),
            ("a.com:", "label-port-in-host", "`aliyun.routing.port_N`"),
            ("http:", "label-scheme-slashes", "`http://HOST`"),
            ("10.0.0.1", "label-ip-host", "write a name"),
            ("10.0.0.1:80", "label-ip-host", "write a name"),
            ("127.1", "label-ip-host", "write a name"),
            ("a.0x7f", "label-ip-host", "write a name"),
            ("[::1]", "label-ip-host", "write a name"),
            ("[::1]:80", "label-ip-host", "write a name"),
            ("fe80::1", "label-ip-host", "write a name"),
            ("a_b.com", "label-underscore", "`a-b.com`"),
            ("u:p@a.com", "label-user-in-host", "`a.com`"),
            ("*", "label-wildcard", "`*.company.com`"),
            ("*.com", "label-wildcard", "full domain after `*.`"),
            ("a.*.com", "label-wildcard", "at the beginning"),
            ("*.*.com", "label-wildcard", "at the beginning"),
            ("bücher.de", "label-non-ascii-host", "punycode"),
            ("a!b.com", "label-host-character", "letters, digits"),
            ("a..com", "label-host-parts", "parts of 1 to 63"),
            ("-a.com", "label-host-parts", "parts of 1 to 63"),
            (long.as_str(), "label-host-too-long", "at most 128"),
            (long_label.as_str(), "label-host-parts", "parts of 1 to 63"),
        ] {
            let flaw = parse_host(text).expect_err(text);
            assert_eq!(flaw.kind, kind, "{text}");
            assert!(flaw.remedy.contains(advice), "{text}: {}", flaw.remedy);
        }
    }
}
