//! What `[https]` and its listeners ask of TLS.
//!
//! Not here: what every listener has (see `listeners`), `[[certificate]]` (see `sections`), reading the files named.

use std::net::SocketAddr;
use std::time::Duration;

use super::cursor::{Table, Wrong};
use super::listeners::plain_listener;
use super::sections::time;
use super::{HttpListener, ListenerTls, Tls, TlsVersion};
use crate::labels::shown;

/// The keys of `[https]` beside `listen`.
pub(super) fn section(table: &mut Table<'_>) -> Tls {
    let mut tls = Tls::default();
    let timeout = table.get("handshake_timeout").and_then(|node| node.parsed(handshake_timeout));
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
pub(super) fn listener(addr: SocketAddr) -> HttpListener {
    HttpListener { tls: Some(ListenerTls::default()), ..plain_listener(addr) }
}

/// The keys that only a listener of `[https]` has.
pub(super) fn keys(table: &mut Table<'_>, listener: &mut HttpListener) {
    let min_version = table.get("min_version").and_then(|node| node.parsed(version)).unwrap_or_default();
    listener.tls = Some(ListenerTls { min_version });
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
