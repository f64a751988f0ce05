//! `[acme]`
//!
//! Not here: asking the authority (the program's business).

use std::sync::Arc;

use super::cursor::{Cx, Table, Wrong};
use super::sections::{list, path};
use super::{Acme, AcmeChallenge};
use crate::labels::{parse_host, shown};
use crate::names::Host;

/// Where certificates come from unless another directory is named.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// `[acme]`
pub(super) fn acme(cx: &Cx<'_>, root: &mut Table<'_>) -> Option<Acme> {
    let mut table = root.section("acme")?;
    let agreed = table.get("agree_terms").and_then(|node| node.boolean());
    let directory = table.get("directory").and_then(|node| node.parsed(directory));
    let acme = Acme {
        directory: directory.unwrap_or_else(|| LETS_ENCRYPT.into()),
        ca: path(cx, table.get("ca")),
        contact: list(table.get("contact"), contact).unwrap_or_default(),
        hosts: list(table.get("hosts"), host).unwrap_or_default(),
        routes: table.get("routes").and_then(|node| node.boolean()).unwrap_or(true),
        challenge: table.get("challenge").and_then(|node| node.parsed(challenge)).unwrap_or_default(),
    };
    if agreed != Some(true) {
        let text = "an authority certifies only who agrees to its terms of service";
        table.error(Wrong::new(text, "read them, and write `agree_terms = true`"));
    }
    table.finish();
    Some(acme)
}

fn directory(text: &str) -> Result<Arc<str>, Wrong> {
    let host = text.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or_default());
    let plain = text.bytes().all(|b| b.is_ascii_graphic());
    if host.is_none_or(str::is_empty) || !plain {
        let wrong = format!("`{}` is no directory of an authority", shown(text));
        return Err(Wrong::new(wrong, format!("write its URL, such as `{LETS_ENCRYPT}`")));
    }
    Ok(text.into())
}

/// A mail address, with or without `mailto:`.
fn contact(text: &str) -> Result<Arc<str>, Wrong> {
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let parts = address.split_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty());
    if parts.is_none() || !address.bytes().all(|b| b.is_ascii_graphic()) {
        let wrong = format!("`{}` is no mail address", shown(text));
        return Err(Wrong::new(wrong, "write `ops@company.com`"));
    }
    Ok(format!("mailto:{address}").into())
}

fn host(text: &str) -> Result<Arc<str>, Wrong> {
    match parse_host(text)? {
        Host::Exact(name) => Ok(name),
        Host::Prefix(name) => Err(Wrong::new(format!("`{name}` is a prefix"), "write the full name")),
        Host::Wildcard(name) => Err(Wrong::new(
            format!("`*.{name}` is a wildcard, which can be proven by DNS alone"),
            "list the hosts, or name a certificate for all of them in a `[[certificate]]`",
        )),
    }
}

fn challenge(text: &str) -> Result<AcmeChallenge, Wrong> {
    match text {
        "tls-alpn-01" => Ok(AcmeChallenge::TlsAlpn01),
        "http-01" => Ok(AcmeChallenge::Http01),
        _ => Err(Wrong::new(
            format!("`{}` is no challenge that can be met here", shown(text)),
            "write `tls-alpn-01` or `http-01`",
        )),
    }
}
