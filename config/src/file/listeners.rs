//! `[http]` and `[https]`: the listeners, each with where it was written.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use super::cursor::{Cx, Node, Spot, Table, Wrong};
use super::flags::Given;
use super::sections::list;
use super::{HttpListener, Limits, Listen, Tls, address, limits, tls};
use crate::labels::shown;

/// Stands in for an address that cannot be read.
const UNKNOWN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// A value and where it was written.
pub(super) struct Placed<T> {
    pub(super) spot: Spot,
    pub(super) item: T,
}

/// `[http]`
pub(super) fn http(
    root: &mut Table<'_>,
    over: Option<&Given>,
    limits: &Limits,
    cx: &Cx<'_>,
) -> Option<Vec<Placed<HttpListener>>> {
    let written = root.section("http").and_then(|mut table| {
        let listen = table.get("listen").and_then(|node| node.array());
        table.finish();
        let bare = |addr| plain_listener(addr, limits);
        Some(listen?.iter().filter_map(|node| listener(node, 80, bare, tls::plain_keys)).collect())
    });
    given_or_written(over, written, 80, |addr| plain_listener(addr, limits), cx)
}

/// `[https]`
pub(super) fn https(
    root: &mut Table<'_>,
    over: Option<&Given>,
    limits: &Limits,
    cx: &Cx<'_>,
) -> (Option<Vec<Placed<HttpListener>>>, Tls) {
    let mut tls = Tls::default();
    let written = root.section("https").and_then(|mut table| {
        let listen = table.get("listen").and_then(|node| node.array());
        tls = tls::section(&mut table);
        table.finish();
        let bare = |addr| tls::listener(addr, limits);
        let keys = |table: &mut Table<'_>, item: &mut HttpListener| tls::keys(cx, table, item);
        Some(listen?.iter().filter_map(|node| listener(node, 443, bare, keys)).collect())
    });
    (given_or_written(over, written, 443, |addr| tls::listener(addr, limits), cx), tls)
}

fn given_or_written(
    over: Option<&Given>,
    written: Option<Vec<Placed<HttpListener>>>,
    usual_port: u16,
    bare: impl Fn(SocketAddr) -> HttpListener,
    cx: &Cx<'_>,
) -> Option<Vec<Placed<HttpListener>>> {
    match over {
        Some(given) => {
            Some(addresses(cx, given, usual_port).into_iter().map(|placed| placed.map(&bare)).collect())
        }
        None => written,
    }
}

impl<T> Placed<T> {
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> Placed<U> {
        Placed { spot: self.spot, item: f(self.item) }
    }
}

/// Addresses given outside the file.
pub(super) fn addresses(cx: &Cx<'_>, given: &Given, usual_port: u16) -> Vec<Placed<SocketAddr>> {
    let read = |(spot, text): (Spot, &str)| match address::listener(text, usual_port) {
        Ok(item) => Some(Placed { spot, item }),
        Err(wrong) => {
            cx.error(&spot, wrong);
            None
        }
    };
    given.placed().filter_map(read).collect()
}

/// A plain listener without settings of its own.
pub(super) fn plain_listener(addr: SocketAddr, limits: &Limits) -> HttpListener {
    HttpListener {
        addr,
        proxy_protocol: false,
        upgrades: vec![Arc::from("websocket")],
        redirect_to_https: false,
        tls: None,
        limits: *limits,
    }
}

/// An address, or a table. `bare` is a listener without settings; `keys` reads those of its kind alone.
fn listener<'a>(
    node: &Node<'a>,
    usual_port: u16,
    bare: impl Fn(SocketAddr) -> HttpListener,
    keys: impl Fn(&mut Table<'a>, &mut HttpListener),
) -> Option<Placed<HttpListener>> {
    let address = |text: &str| address::listener(text, usual_port);
    if !node.is_table() {
        return Some(Placed { spot: node.spot(), item: bare(node.parsed(address)?) });
    }
    let mut table = node.table()?;
    let addr = table.require("addr", &format!("write `addr = \"0.0.0.0:{usual_port}\"`"));
    let proxy_protocol = table.get("proxy_protocol").and_then(|node| node.boolean()).unwrap_or_default();
    let upgrades = list(table.get("upgrades"), upgrade_token);
    let spot = addr.as_ref().map_or_else(|| table.spot(), Node::spot);
    // Read with any address, so that what is wrong with the other keys is told beside a wrong one.
    let parsed = addr.and_then(|addr| addr.parsed(address));
    let mut item = bare(parsed.unwrap_or(UNKNOWN));
    item.limits = limits::of_listener(&mut table, &item.limits);
    item.proxy_protocol = proxy_protocol;
    item.upgrades = upgrades.unwrap_or(item.upgrades);
    keys(&mut table, &mut item);
    table.finish();
    parsed?;
    Some(Placed { spot, item })
}

/// A protocol name (RFC 9110 section 7.8). `h2c` lets a client talk past the proxy.
fn upgrade_token(text: &str) -> Result<Arc<str>, Wrong> {
    let lower = text.to_ascii_lowercase();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&b);
    if lower == "h2c" {
        return Err(Wrong::new(
            "`h2c` is never forwarded",
            "leave it out; HTTP/2 is spoken with prior knowledge",
        ));
    }
    if lower.is_empty() || lower.len() > 64 || !lower.bytes().all(fits) {
        let wrong = format!("`{}` is no upgrade token", shown(text));
        return Err(Wrong::new(wrong, "write a protocol name, such as `websocket`"));
    }
    Ok(lower.into())
}

/// The listeners, or those that are there when nobody says.
pub(super) fn or_default<T>(configured: Option<Vec<T>>, default: impl FnOnce() -> Vec<T>) -> Listen<T> {
    match configured {
        Some(items) => Listen { items, configured: true },
        None => Listen { items: default(), configured: false },
    }
}
