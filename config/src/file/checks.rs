//! What only several sections together can tell.

use std::net::SocketAddr;

use super::cursor::{Cx, Spot, Wrong};
use super::listeners::Placed;
use super::{Acme, AcmeChallenge, Admin, AdminListen, HttpListener};

/// PROXY headers are believed from trusted peers only: without any, every connection would be closed.
pub(super) fn proxy_protocol(cx: &Cx<'_>, listeners: &[Placed<HttpListener>], trusts_somebody: bool) {
    for listener in listeners.iter().filter(|listener| listener.item.proxy_protocol && !trusts_somebody) {
        let text =
            format!("`{}` wants a PROXY header, but no peer is trusted to send one", listener.item.addr);
        let remedy =
            "list the balancers in front in `[proxy] trusted_proxies`, or leave `proxy_protocol` out";
        cx.error(&listener.spot, Wrong::new(text, remedy));
    }
}

/// Whoever reaches the admin API may move traffic.
pub(super) fn admin_token(cx: &Cx<'_>, admin: &Admin, spot: &Spot) {
    let AdminListen::Tcp(addr) = &admin.listen else { return };
    if admin.token_file.is_none() && !addr.ip().to_canonical().is_loopback() {
        let text = format!("the admin API would listen on `{addr}` without a token");
        let remedy = "name a file with one in `[admin] token_file`, or listen on 127.0.0.1 or `unix:/path`";
        cx.error(spot, Wrong::new(text, remedy));
    }
}

/// Two TCP listeners on one address and port; the later one is told. DNS listens on TCP too.
pub(super) fn one_listener_each(cx: &Cx<'_>, listeners: &[(Spot, SocketAddr)]) {
    for (i, (spot, addr)) in listeners.iter().enumerate() {
        let Some((first, _)) = listeners[..i].iter().find(|(_, other)| other == addr && addr.port() != 0)
        else {
            continue;
        };
        let text = format!("`{addr}` is listened on already by {}", first.place());
        cx.error(spot, Wrong::new(text, "choose another address or port for one of them"));
    }
}

/// TLS needs something to show.
pub(super) fn https_certificate(cx: &Cx<'_>, listeners: &[Placed<HttpListener>], any: bool) {
    if let (Some(listener), false) = (listeners.first(), any) {
        let text = "there is a listener for https, but no certificate";
        cx.warning(
            &listener.spot,
            Wrong::new(text, "add a `[[certificate]]` with `cert` and `key`, or an `[acme]`"),
        );
    }
}

/// Who is sent to https must find somebody there: a listener, or (`elsewhere`) a program in front that ends TLS.
pub(super) fn redirect_target(
    cx: &Cx<'_>,
    http: &[Placed<HttpListener>],
    https: &[Placed<HttpListener>],
    elsewhere: bool,
) {
    let redirects = http.iter().filter(|listener| listener.item.redirect_to_https);
    for listener in redirects.filter(|_| https.is_empty() && !elsewhere) {
        let text = "clients are sent to https, and no listener speaks it";
        let remedy =
            "set `[https] listen`; where a balancer in front ends TLS, list it in `[proxy] trusted_proxies`";
        cx.warning(&listener.spot, Wrong::new(text, remedy));
    }
}

/// What an authority asks must reach us.
pub(super) fn acme_listener(
    cx: &Cx<'_>,
    acme: Option<&Acme>,
    http: &[Placed<HttpListener>],
    https: &[Placed<HttpListener>],
) {
    let Some(acme) = acme else { return };
    let spot = Spot::outside("acme", "");
    if https.is_empty() {
        let text = "certificates are asked for, but no listener speaks TLS";
        cx.error(&spot, Wrong::new(text, "set `[https] listen`, or leave `[acme]` out"));
    }
    if acme.challenge == AcmeChallenge::Http01 && http.is_empty() {
        let text = "`http-01` is answered at a plain listener, and there is none";
        cx.error(&spot, Wrong::new(text, "set `[http] listen`, or `challenge = \"tls-alpn-01\"`"));
    }
}
