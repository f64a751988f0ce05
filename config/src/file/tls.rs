//! What `[https]` and its listeners ask of TLS, and `[upstream_tls]`.
//!
//! Not here: what every listener has (see `listeners`), `[[certificate]]` (see `sections`), reading the files named.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::cursor::{Cx, Table, Wrong};
use super::listeners::plain_listener;
use super::sections::{path, time};
use super::{
    ClientCertificates, HttpListener, Limits, ListenerTls, Tls, TlsVersion, UpstreamIdentity, UpstreamTls,
};
use crate::labels::shown;

/// The keys of `[https]` beside `listen`.
pub(super) fn section(table: &mut Table<'_>) -> Tls {
    let mut tls = Tls::default();
    let timeout = table.get("handshake_timeout").and_then(|node| node.parsed_scalar(handshake_timeout));
    tls.handshake_timeout = timeout.unwrap_or(tls.handshake_timeout);
    let max = table.get("handshakes_max").and_then(|node| node.whole(1..=1_000_000));
    tls.handshakes_max = max.and_then(|max| usize::try_from(max).ok()).unwrap_or(tls.handshakes_max);
    let port = table.get("public_port").and_then(|node| node.whole(1..=65535));
    tls.public_port = port.and_then(|port| u16::try_from(port).ok());
    tls
}

fn handshake_timeout(text: &str) -> Result<Duration, Wrong> {
    let timeout = time(text)?;
    if !(Duration::from_millis(100)..=Duration::from_secs(300)).contains(&timeout) {
        let wrong = format!("`{}` is out of range", shown(text));
        return Err(Wrong::new(wrong, "write a duration from `100ms` to `5m`"));
    }
    Ok(timeout)
}

/// A TLS listener without settings of its own.
pub(super) fn listener(addr: SocketAddr, limits: &Limits) -> HttpListener {
    HttpListener { tls: Some(ListenerTls::default()), ..plain_listener(addr, limits) }
}

/// The keys that only a listener of `[https]` has.
pub(super) fn keys(cx: &Cx<'_>, table: &mut Table<'_>, listener: &mut HttpListener) {
    let min_version = table.get("min_version").and_then(|node| node.parsed(version)).unwrap_or_default();
    let hsts = table.get("hsts").and_then(|node| node.parsed(hsts));
    listener.tls = Some(ListenerTls { min_version, clients: clients(cx, table), hsts });
}

/// The keys that only a listener of `[http]` has.
pub(super) fn plain_keys(table: &mut Table<'_>, listener: &mut HttpListener) {
    let redirect = table.get("redirect_to_https").and_then(|node| node.boolean());
    listener.redirect_to_https = redirect.unwrap_or_default();
}

/// `client_certificates` and `client_ca`
fn clients(cx: &Cx<'_>, table: &mut Table<'_>) -> Option<ClientCertificates> {
    let wanted = table.get("client_certificates");
    let ca = path(cx, table.get("client_ca"));
    let required = wanted.as_ref().and_then(|node| node.parsed(demand)).flatten();
    match (required, ca) {
        (Some(required), Some(ca)) => Some(ClientCertificates { required, ca }),
        (Some(_), None) => {
            let text = "nobody could tell a good client certificate from another";
            table.error(Wrong::new(text, "name the file of their authority: `client_ca = \"ca.pem\"`"));
            None
        }
        (None, Some(_)) if wanted.is_none() => {
            let text = "`client_ca` is named, but clients are asked for no certificate";
            table.error(Wrong::new(text, "write `client_certificates = \"required\"` or `\"optional\"` too"));
            None
        }
        (None, _) => None,
    }
}

/// Whether a client must have one; `None`: it is not asked.
fn demand(text: &str) -> Result<Option<bool>, Wrong> {
    match text {
        "none" => Ok(None),
        "optional" => Ok(Some(false)),
        "required" => Ok(Some(true)),
        _ => {
            let wrong = format!("`{}` is no demand on client certificates", shown(text));
            Err(Wrong::new(wrong, "write `none`, `optional` or `required`"))
        }
    }
}

/// A value of `Strict-Transport-Security` (RFC 6797 section 6.1).
fn hsts(text: &str) -> Result<Arc<str>, Wrong> {
    let form = "write `max-age=31536000`, and perhaps `; includeSubDomains` and `; preload` behind it";
    let mut ages = 0;
    for directive in text.split(';').map(str::trim) {
        match directive.split_once('=') {
            Some((name, age)) if name.eq_ignore_ascii_case("max-age") => {
                if age.is_empty() || age.len() > 10 || !age.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(Wrong::new(format!("`{}` is no number of seconds", shown(age)), form));
                }
                ages += 1;
            }
            None if directive.eq_ignore_ascii_case("includeSubDomains") => {}
            None if directive.eq_ignore_ascii_case("preload") => {}
            _ => {
                return Err(Wrong::new(format!("`{}` is no part of an HSTS policy", shown(directive)), form));
            }
        }
    }
    if ages != 1 {
        return Err(Wrong::new("an HSTS policy has one `max-age`", form));
    }
    Ok(text.trim().into())
}

fn version(text: &str) -> Result<TlsVersion, Wrong> {
    match text {
        "1.2" => Ok(TlsVersion::V12),
        "1.3" => Ok(TlsVersion::V13),
        _ => Err(Wrong::new(
            format!("`{}` is no version of TLS that is spoken here", shown(text)),
            "write \"1.2\" or \"1.3\"",
        )),
    }
}

/// `[upstream_tls]`
pub(super) fn upstream(cx: &Cx<'_>, root: &mut Table<'_>) -> UpstreamTls {
    let mut tls = UpstreamTls::default();
    let Some(mut table) = root.section("upstream_tls") else { return tls };
    tls.ca = match table.get("ca") {
        Some(node) if node.is_array() => {
            let files = node.array().unwrap_or_default();
            files.into_iter().filter_map(|file| path(cx, Some(file))).collect()
        }
        node => path(cx, node).into_iter().collect(),
    };
    tls.identity = match ["cert", "key"].map(|name| path(cx, table.get(name))) {
        [Some(cert), Some(key)] => Some(UpstreamIdentity { cert, key }),
        [None, None] => None,
        _ => {
            table.error(Wrong::new("`cert` and `key` belong together", "write both, or none"));
            None
        }
    };
    tls.verify = table.get("verify").and_then(|node| node.boolean()).unwrap_or(true);
    table.finish();
    tls
}
