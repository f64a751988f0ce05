//! The sections of the file, each with the flag and the variable that go before it.
//!
//! A value that is wrong is told and replaced by its default, so that reading goes on; a configuration with errors
//! is never given out. Not here: `[[service]]` and `[[split]]` (see `service`), and what only several sections
//! together can tell (see `checks`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::cursor::{Cx, Node, Spot, Table, Wrong};
use super::flags::{Overrides, System, variable};
use super::listeners::{Placed, addresses};
use super::{
    Admin, Advertise, CertificateFiles, Dns, DnsListen, Docker, DockerHost, DockerTls, HostClaim, Log,
    LogFormat, Proxy, Routing, address,
};
use crate::duration;
use crate::labels::{network, parse_host, parse_name, shown};
use crate::names::Host;

/// A list of texts, each read by `read`; those that cannot be are told.
pub(super) fn list<T>(node: Option<Node<'_>>, read: impl Fn(&str) -> Result<T, Wrong>) -> Option<Vec<T>> {
    Some(node?.array()?.iter().filter_map(|item| item.parsed(&read)).collect())
}

fn networks(node: Option<Node<'_>>) -> Vec<IpNet> {
    list(node, |text| Ok(network(text)?)).unwrap_or_default()
}

pub(super) fn path(cx: &Cx<'_>, node: Option<Node<'_>>) -> Option<PathBuf> {
    node?.parsed(|text| match text {
        "" => Err(Wrong::new("the path is empty", "write the path of a file, or leave the key out")),
        _ => Ok(cx.path(text)),
    })
}

pub(super) fn time(text: &str) -> Result<Duration, Wrong> {
    duration::parse(text)
        .map_err(|error| Wrong::new(format!("`{}` is not a duration", shown(text)), error.why))
}

/// `state_dir`
pub(super) fn state_dir(cx: &Cx<'_>, root: &mut Table<'_>, over: &Overrides, system: &System) -> PathBuf {
    let written = path(cx, root.get("state_dir"));
    let over = over.state_dir.as_ref().and_then(|given| given.values.first()).map(PathBuf::from);
    over.or(written).unwrap_or_else(|| system.state_dir.clone())
}

/// `[node]`
pub(super) fn node(root: &mut Table<'_>, system: &System) -> super::Node {
    let mut node = super::Node { name: name_of(&system.host_name), zone: Arc::from("") };
    if let Some(mut table) = root.section("node") {
        let name = table.get("name").and_then(|node| node.parsed(|text| Ok(parse_name(text)?)));
        let zone = table.get("zone").and_then(|node| match node.string()? {
            "" => None,
            _ => node.parsed(|text| Ok(parse_name(text)?)),
        });
        node.name = name.unwrap_or(node.name);
        node.zone = zone.unwrap_or(node.zone);
        table.finish();
    }
    node
}

/// The host name, what no name can have replaced: it stands in header fields.
fn name_of(host_name: &str) -> Arc<str> {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = host_name.chars().take(128).map(fits).collect();
    match name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()) {
        "" => "fairway".into(),
        name => name.into(),
    }
}

/// `[[certificate]]`
pub(super) fn certificates(cx: &Cx<'_>, root: &mut Table<'_>) -> Vec<CertificateFiles> {
    let read = |mut table: Table<'_>| {
        let cert = path(cx, table.require("cert", "write `cert = \"cert.pem\"`"));
        let key = path(cx, table.require("key", "write `key = \"key.pem\"`"));
        let ocsp = path(cx, table.get("ocsp"));
        table.finish();
        Some(CertificateFiles { cert: cert?, key: key?, ocsp })
    };
    root.sections("certificate").into_iter().filter_map(read).collect()
}

/// `[dns]`, and where the configured listeners were written.
pub(super) fn dns(
    cx: &Cx<'_>,
    root: &mut Table<'_>,
    over: &Overrides,
) -> (Dns, Vec<Placed<std::net::SocketAddr>>) {
    let mut dns = Dns {
        listen: DnsListen::Default,
        zones: vec![Arc::from("local"), Arc::from("internal")],
        max_addresses: 8,
        advertise: Vec::new(),
        upstreams: Vec::new(),
    };
    let mut listen = None;
    if let Some(mut table) = root.section("dns") {
        listen = table.get("listen").and_then(|node| {
            let read = |node: &Node<'_>| {
                Some(Placed { spot: node.spot(), item: node.parsed(|text| address::listener(text, 53))? })
            };
            Some(node.array()?.iter().filter_map(read).collect())
        });
        if let Some(zones) = list(table.get("zones"), address::domain) {
            dns.zones.clear();
            zones.into_iter().for_each(|zone| {
                if !dns.zones.contains(&zone) {
                    dns.zones.push(zone)
                }
            });
        }
        let max = table.get("max_addresses").and_then(|node| node.whole(0..=1000));
        dns.max_addresses = max.and_then(|max| usize::try_from(max).ok()).unwrap_or(dns.max_addresses);
        let advertise = table.get("advertise").and_then(|node| node.array()).unwrap_or_default();
        dns.advertise = advertise.iter().filter_map(advertised).collect();
        dns.upstreams = list(table.get("upstreams"), address::resolver).unwrap_or_default();
        table.finish();
    }
    if let Some(given) = &over.dns {
        listen = Some(addresses(cx, given, 53));
    }
    if let Some(listen) = &listen {
        dns.listen = DnsListen::Configured(listen.iter().map(|placed| placed.item).collect());
    }
    (dns, listen.unwrap_or_default())
}

fn advertised(node: &Node<'_>) -> Option<Advertise> {
    let mut table = node.table()?;
    let form = "write `{ clients = \"10.0.0.0/8\", address = \"10.0.0.5\" }`";
    let clients = table.require("clients", form).and_then(|node| node.parsed(|text| Ok(network(text)?)));
    let address = table.require("address", form).and_then(|node| {
        node.parsed(|text| {
            let wrong =
                || Wrong::new(format!("`{}` is not an IP address", shown(text)), "write one, without a port");
            text.parse().map_err(|_| wrong())
        })
    });
    table.finish();
    Some(Advertise { clients: clients?, address: address? })
}

/// `[admin]`, and where its listener was written.
pub(super) fn admin(cx: &Cx<'_>, root: &mut Table<'_>, over: &Overrides) -> (Admin, Spot) {
    let default = std::net::SocketAddr::from(([127, 0, 0, 1], 9900));
    let mut listen = None;
    let mut admin = Admin {
        listen: super::AdminListen::Tcp(default),
        configured: false,
        hosts: Vec::new(),
        token_file: None,
    };
    if let Some(mut table) = root.section("admin") {
        listen = table.get("listen").and_then(|node| Some((node.spot(), node.parsed(address::admin)?)));
        admin.hosts = list(table.get("hosts"), address::domain).unwrap_or_default();
        admin.token_file = path(cx, table.get("token_file"));
        table.finish();
    }
    if let Some((spot, text)) = over.admin.as_ref().and_then(|given| given.placed().next()) {
        match address::admin(text) {
            Ok(item) => listen = Some((spot, item)),
            Err(wrong) => cx.error(&spot, wrong),
        }
    }
    match listen {
        Some((spot, listen)) => (Admin { listen, configured: true, ..admin }, spot),
        None => (admin, Spot::outside("admin.listen", "")),
    }
}

/// `[docker]`
pub(super) fn docker(
    cx: &Cx<'_>,
    root: &mut Table<'_>,
    over: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Docker {
    let mut enabled = true;
    let mut hosts = None;
    if let Some(mut table) = root.section("docker") {
        enabled = table.get("enabled").and_then(|node| node.boolean()).unwrap_or(true);
        let written = table.get("hosts").and_then(|node| node.array());
        hosts =
            written.map(|nodes| nodes.iter().filter_map(|node| docker_host(cx, node)).collect::<Vec<_>>());
        table.finish();
    }
    if let Some(given) = &over.docker {
        hosts = Some(given.placed().filter_map(|(spot, url)| engine(cx, spot, url)).collect());
    }
    let hosts = hosts.unwrap_or_else(|| default_engine(cx, env).into_iter().collect());
    for (i, host) in hosts.iter().enumerate() {
        if hosts[..i].iter().any(|other| other.item.url == host.item.url) {
            cx.error(&host.spot, Wrong::new("the engine is listed twice", "leave one of them out"));
        }
    }
    Docker { enabled, hosts: hosts.into_iter().map(|host| host.item).collect() }
}

fn engine(cx: &Cx<'_>, spot: Spot, url: &str) -> Option<Placed<DockerHost>> {
    match address::docker(url) {
        Ok(endpoint) => {
            Some(Placed { spot, item: DockerHost { url: url.into(), endpoint, tls: None, zone: None } })
        }
        Err(wrong) => {
            cx.error(&spot, wrong);
            None
        }
    }
}

/// `DOCKER_HOST`, with the TLS variables of Docker's own client, else the socket.
fn default_engine(cx: &Cx<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<Placed<DockerHost>> {
    let Some(url) = variable("DOCKER_HOST", env) else {
        return engine(cx, Spot::outside("docker.hosts", ""), "unix:///var/run/docker.sock");
    };
    let mut host = engine(cx, Spot::outside("DOCKER_HOST", &url), url.trim())?;
    let folder = variable("DOCKER_CERT_PATH", env).map(PathBuf::from);
    if let (Some(_), Some(folder)) = (variable("DOCKER_TLS_VERIFY", env), folder) {
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|file| folder.join(file));
        host.item.tls = Some(DockerTls { ca, cert, key });
    }
    Some(host)
}

/// A URL, or a table.
fn docker_host(cx: &Cx<'_>, node: &Node<'_>) -> Option<Placed<DockerHost>> {
    if !node.is_table() {
        return engine(cx, node.spot(), node.string()?);
    }
    let mut table = node.table()?;
    let url = table.require("url", "write `url = \"tcp://10.0.0.6:2376\"`");
    let files = ["ca", "cert", "key"].map(|name| path(cx, table.get(name)));
    let zone = table.get("zone").and_then(|node| node.parsed(|text| Ok(parse_name(text)?)));
    let tls = match files {
        [Some(ca), Some(cert), Some(key)] => Some(DockerTls { ca, cert, key }),
        [None, None, None] => None,
        _ => {
            table.error(Wrong::new("`ca`, `cert` and `key` belong together", "write all three, or none"));
            None
        }
    };
    table.finish();
    let url = url?;
    let mut host = engine(cx, url.spot(), url.string()?)?;
    if tls.is_some() && matches!(host.item.endpoint, super::DockerEndpoint::Unix(_)) {
        url.error(Wrong::new("a Unix socket speaks no TLS", "leave `ca`, `cert` and `key` out"));
    }
    (host.item.tls, host.item.zone) = (tls, zone);
    Some(host)
}

/// `[routing]`
pub(super) fn routing(cx: &Cx<'_>, root: &mut Table<'_>) -> Routing {
    let mut routing = Routing {
        domain_suffix: Arc::from("localhost"),
        sticky_default: false,
        sticky_secret_file: None,
        internal: Vec::new(),
        claims: Vec::new(),
    };
    if let Some(mut table) = root.section("routing") {
        let suffix = table.get("domain_suffix").and_then(|node| node.parsed(address::domain));
        routing.domain_suffix = suffix.unwrap_or(routing.domain_suffix);
        let sticky = table.get("sticky_default");
        routing.sticky_default = sticky.as_ref().and_then(Node::boolean).unwrap_or_default();
        routing.sticky_secret_file = path(cx, table.get("sticky_secret_file"));
        routing.internal = networks(table.get("internal"));
        let claims = table.get("claims").and_then(|node| node.array()).unwrap_or_default();
        routing.claims = claims.iter().filter_map(claim).collect();
        table.finish();
    }
    routing
}

fn claim(node: &Node<'_>) -> Option<HostClaim> {
    let mut table = node.table()?;
    let form = "write `{ host = \"*.company.com\", projects = [\"shop\"] }`";
    let host = table.require("host", form).and_then(|node| {
        node.parsed(|text| match parse_host(text)? {
            Host::Prefix(prefix) => {
                let wrong = format!("`{prefix}` is a prefix");
                Err(Wrong::new(wrong, "write the full name, with the domain suffix"))
            }
            host => Ok(host),
        })
    });
    let listed = table.require("projects", form);
    let projects = list(listed.clone(), |text| Ok(parse_name(text)?));
    if let (Some(node), Some([])) = (listed, projects.as_deref()) {
        node.error(Wrong::new(
            "no project is listed, so nobody could use the host",
            "list at least one project",
        ));
    }
    table.finish();
    Some(HostClaim { host: host?, projects: projects? })
}

/// `[proxy]`, and whether any peer is meant to be trusted, be it one that could not be read.
pub(super) fn proxy(root: &mut Table<'_>) -> (Proxy, bool) {
    let mut proxy = Proxy { threads: 0, trusted_proxies: Vec::new() };
    let Some(mut table) = root.section("proxy") else { return (proxy, false) };
    let threads = table.get("threads").and_then(|node| node.whole(0..=1024)).unwrap_or_default();
    proxy.threads = usize::try_from(threads).unwrap_or_default();
    let trusted = table.get("trusted_proxies");
    let trusts_somebody = trusted.as_ref().is_some_and(|node| node.array_len() != Some(0));
    proxy.trusted_proxies = networks(trusted);
    table.finish();
    (proxy, trusts_somebody)
}

/// `[balancers]`: what holds for all front ports.
pub(super) fn balancers(root: &mut Table<'_>, trusts_somebody: bool) -> bool {
    let Some(mut table) = root.section("balancers") else { return false };
    let node = table.get("proxy_protocol");
    let wanted = node.as_ref().and_then(Node::boolean).unwrap_or_default();
    if let Some(node) = node.filter(|_| wanted && !trusts_somebody) {
        let text = "front ports want a PROXY header, but no peer is trusted to send one";
        let remedy = "list the balancers in front in `[proxy] trusted_proxies`, or leave it out";
        node.error(Wrong::new(text, remedy));
    }
    table.finish();
    wanted
}

/// `[log]`
pub(super) fn log(cx: &Cx<'_>, root: &mut Table<'_>, over: &Overrides) -> Log {
    let mut log = Log { format: LogFormat::Text, access: true };
    if let Some(mut table) = root.section("log") {
        log.format = table.get("format").and_then(|node| node.parsed(log_format)).unwrap_or_default();
        log.access = table.get("access").and_then(|node| node.boolean()).unwrap_or(true);
        table.finish();
    }
    if let Some((spot, text)) = over.log_format.as_ref().and_then(|given| given.placed().next()) {
        match log_format(text) {
            Ok(format) => log.format = format,
            Err(wrong) => cx.error(&spot, wrong),
        }
    }
    log
}

fn log_format(text: &str) -> Result<LogFormat, Wrong> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Wrong::new(format!("`{}` is no log format", shown(text)), "write `text` or `json`")),
    }
}

/// `--replace`, `FAIRWAY_REPLACE`
pub(super) fn replace(cx: &Cx<'_>, over: &Overrides) -> bool {
    let Some((spot, text)) = over.replace.as_ref().and_then(|given| given.placed().next()) else {
        return false;
    };
    match text {
        "true" | "1" => true,
        "false" | "0" => false,
        _ => {
            let wrong = format!("`{}` is neither true nor false", shown(text));
            cx.error(&spot, Wrong::new(wrong, "write `true` or `false`"));
            false
        }
    }
}

/// `[shutdown]`: `grace` and `delay`.
pub(super) fn shutdown(root: &mut Table<'_>) -> (Duration, Duration) {
    let (mut grace, mut delay) = (Duration::from_secs(30), Duration::ZERO);
    if let Some(mut table) = root.section("shutdown") {
        grace = table.get("grace").and_then(|node| node.parsed_scalar(time)).unwrap_or(grace);
        delay = table.get("delay").and_then(|node| node.parsed_scalar(shutdown_delay)).unwrap_or(delay);
        table.finish();
    }
    (grace, delay)
}

fn shutdown_delay(text: &str) -> Result<Duration, Wrong> {
    match time(text)? {
        delay if delay <= Duration::from_secs(600) => Ok(delay),
        _ => Err(Wrong::new(
            format!("`{}` is out of range", shown(text)),
            "write a duration from `0s` to `10m`",
        )),
    }
}
