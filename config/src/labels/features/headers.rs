//! `fairway.headers.request` and `.response`: fields that are set, added and removed.
//!
//! ```text
//! edits  = edit *( ";" edit )
//! edit   = ( "set" | "add" ) name ":" value | "remove" name
//! value  = text | quoted                     a quoted one may hold ";", and white space at its ends
//! quoted = <"> *( text | "\" <"> | "\\" ) <">
//! ```
//!
//! `{host}`, `{client_ip}`, `{request_id}` and `{scheme}` in a value stand for what the request says.

use std::sync::Arc;

use super::super::clients::one_of;
use super::super::flaw::{Flaw, shown};
use super::super::scalar;

/// Most edits in one value.
const EDITS_MAX: usize = 64;
/// Longest value of a field, in octets.
const VALUE_BYTES_MAX: usize = 4096;

/// One edit. What is set or removed is what came; what is added comes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderEdit {
    /// What is done.
    pub action: HeaderAction,
    /// The field, a token in the case written.
    pub name: Arc<str>,
    /// The value in parts, which put together are a valid field value; empty of what is removed.
    pub value: Arc<[ValuePart]>,
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderAction {
    /// It is there once, with this value.
    Set,
    /// It is there once more.
    Add,
    /// It is not there.
    Remove,
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValuePart {
    /// These octets.
    Text(Arc<str>),
    /// `{host}`: the host asked for, lower case, no port.
    Host,
    /// `{client_ip}`: the effective address of the client.
    ClientIp,
    /// `{request_id}`
    RequestId,
    /// `{scheme}`: `http` or `https`, as the client sees it.
    Scheme,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// Fields that speak to the next hop alone, or that frame a message.
const OF_THE_HOP: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "x-envoy-immediate-health-check-fail",
    "keep-alive",
    "proxy",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
/// Fields by which the instance learns where a request came from: a label could not be told from the truth.
const OF_THE_ORIGIN: [&str; 11] = [
    "forwarded",
    "host",
    "x-client-cert-fingerprint",
    "x-client-cert-subject",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];
/// Fields that say what the octets of an answer are.
const OF_THE_BODY: [&str; 2] = ["content-encoding", "content-range"];

/// The good edits; the others are added to `found`, each with its text. `None` without a good one.
pub(super) fn edits<'a>(
    value: &'a str,
    side: Side,
    found: &mut Vec<(&'a str, Flaw)>,
) -> Option<Arc<[HeaderEdit]>> {
    let mut edits: Vec<HeaderEdit> = Vec::new();
    let mut written = pieces(value).map(str::trim).filter(|text| !text.is_empty()).peekable();
    if written.peek().is_none() {
        found.push((value, wrong("there is no edit")));
    }
    for text in written.by_ref().take(EDITS_MAX) {
        match edit(text, side) {
            Ok(new) if edits.iter().any(|old| contradicts(old, &new)) => {
                let what =
                    format!("`{}` is set or removed before; only one of them can hold", shown(&new.name));
                found.push((
                    text,
                    Flaw::refused("label-headers", what, "leave one of them out, or write `add`"),
                ));
            }
            Ok(new) => edits.push(new),
            Err(flaw) => found.push((text, flaw)),
        }
    }
    if let Some(text) = written.next() {
        let what = format!("there are more than {EDITS_MAX} edits; the rest is left out");
        found.push((text, Flaw::refused("label-headers", what, "use fewer")));
    }
    (!edits.is_empty()).then(|| edits.into())
}

fn wrong(text: impl Into<String>) -> Flaw {
    Flaw::refused(
        "label-headers",
        text,
        "write `set NAME: VALUE`, `add NAME: VALUE` or `remove NAME`, separated by `;`",
    )
}

fn contradicts(old: &HeaderEdit, new: &HeaderEdit) -> bool {
    let replaces = |edit: &HeaderEdit| edit.action != HeaderAction::Add;
    replaces(old) && replaces(new) && old.name.eq_ignore_ascii_case(&new.name)
}

/// The text between semicolons that stand in no quotes.
fn pieces(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped, mut named, mut behind_colon) = (false, false, false, false);
        for (at, c) in text.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' if quoted => quoted = false,
                '"' if behind_colon => quoted = true,
                ';' if !quoted => {
                    rest = Some(&text[at + 1..]);
                    return Some(&text[..at]);
                }
                _ => {}
            }
            // A quote opens only right behind the colon of the name: others are part of the value.
            behind_colon = (c == ':' && !named) || (behind_colon && c.is_whitespace());
            named |= c == ':';
        }
        rest = None;
        Some(text)
    })
}

fn edit(text: &str, side: Side) -> Result<HeaderEdit, Flaw> {
    let (word, rest) =
        text.split_once(char::is_whitespace).ok_or_else(|| wrong(format!("`{}` is no edit", shown(text))))?;
    let action = match word {
        "set" => HeaderAction::Set,
        "add" => HeaderAction::Add,
        "remove" => HeaderAction::Remove,
        _ => return Err(one_of("label-headers", "edit", word, &["set", "add", "remove"])),
    };
    let (name, value) = match (action, rest.split_once(':')) {
        (HeaderAction::Remove, None) => (rest.trim(), None),
        (HeaderAction::Remove, Some(_)) => {
            return Err(wrong(format!("`{}` gives a value to what is removed", shown(text))));
        }
        (_, Some((name, value))) => (name.trim(), Some(value.trim())),
        (_, None) => return Err(wrong(format!("`{}` has no `:` behind the name", shown(text)))),
    };
    check_name(name, side)?;
    let value = value.map_or_else(|| Ok(Arc::default()), parts)?;
    Ok(HeaderEdit { action, name: name.into(), value })
}

fn check_name(name: &str, side: Side) -> Result<(), Flaw> {
    if !scalar::is_token(name) {
        return Err(wrong(format!("`{}` is no name of a field", shown(name))));
    }
    // Some servers take `_` for `-`.
    let plain = name.to_ascii_lowercase().replace('_', "-");
    let is_among = |names: &[&str]| names.contains(&&*plain);
    let (what, remedy) = match side {
        _ if is_among(&OF_THE_HOP) => ("belongs to each connection by itself", "leave it out"),
        Side::Request if is_among(&OF_THE_ORIGIN) => (
            "tells the instance where a request came from, and is Fairway's own",
            "use a field of another name, such as `X-Shop-Host`",
        ),
        Side::Response if is_among(&OF_THE_BODY) => (
            "says what the octets of the body are",
            "let the service set it; for compression write `fairway.compress`",
        ),
        _ => return Ok(()),
    };
    Err(Flaw::refused("label-headers-own", format!("the field `{name}` cannot be edited: it {what}"), remedy))
}

/// The value without its quotes, in parts.
fn parts(written: &str) -> Result<Arc<[ValuePart]>, Flaw> {
    let value = match written.strip_prefix('"') {
        Some(quoted) => unquote(quoted).ok_or_else(|| {
            wrong(format!("the quotes of `{}` do not end where the value does", shown(written)))
        })?,
        None => written.to_owned(),
    };
    if value.chars().any(|c| c.is_control() && c != '\t') || value.len() > VALUE_BYTES_MAX {
        let text = format!("`{}` cannot be the value of a field", shown(&value));
        let remedy =
            format!("write at most {VALUE_BYTES_MAX} octets on one line, without control characters");
        return Err(Flaw::refused("label-headers-value", text, remedy));
    }
    let (mut parts, mut rest, mut literal) = (Vec::new(), &*value, String::new());
    while let Some((before, behind)) = rest.split_once('{') {
        literal.push_str(before);
        match variable(behind)? {
            Some((part, after)) => {
                if !literal.is_empty() {
                    parts.push(ValuePart::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(part);
                rest = after;
            }
            None => {
                literal.push('{');
                rest = behind;
            }
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(ValuePart::Text(literal.into()));
    }
    Ok(parts.into())
}

/// What a `{` opens: a variable, or nothing, as in JSON.
fn variable(behind: &str) -> Result<Option<(ValuePart, &str)>, Flaw> {
    let Some((name, after)) = behind.split_once('}') else { return Ok(None) };
    let part = match name {
        "host" => ValuePart::Host,
        "client_ip" => ValuePart::ClientIp,
        "request_id" => ValuePart::RequestId,
        "scheme" => ValuePart::Scheme,
        "" => return Ok(None),
        _ if !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => return Ok(None),
        _ => {
            let known = ["host", "client_ip", "request_id", "scheme"];
            return Err(one_of("label-headers-variable", "variable", name, &known));
        }
    };
    Ok(Some((part, after)))
}

/// What stands before the closing quote, which must be the last character.
fn unquote(quoted: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return chars.as_str().trim().is_empty().then_some(value),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
    None
}
