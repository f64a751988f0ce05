//! The configuration: file, environment and flags to one [`Config`], with every error at once.
//!
//! Here: the order of precedence (flags, environment, file, defaults) and the one read of the file. Not here: the
//! walk over the file (`cursor`), its keys (`sections`, `listeners`, `service`), what they mean together (`checks`), how
//! addresses are written (`address`), users in files of their own (`users`), what is given outside the file (`flags`).

mod acme;
mod address;
mod checks;
mod cursor;
mod flags;
mod limits;
mod listeners;
mod sections;
mod service;
mod tls;
mod types;
mod users;
mod webhook;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;

use cursor::{Cx, Spot, Table};
use flags::Overrides;
pub use flags::{Flags, System};
pub use limits::Limits;
use listeners::{Placed, plain_listener};
use toml::de::DeTable;
pub use types::*;

use crate::labels::shown;

/// Largest file that is read, in octets.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

impl Config {
    /// Reads the file that `flags` or the environment name, if any, and puts everything together.
    ///
    /// Fails with every error of file, environment and flags at once; each names its place, the value and what to
    /// write instead.
    pub fn load(
        flags: &Flags,
        env: &dyn Fn(&str) -> Option<String>,
        system: &System,
    ) -> Result<Self, ConfigErrors> {
        let Some(path) = flags::config_file(flags, env) else {
            return Self::from_text(None, flags, env, system);
        };
        let text = read(&path).map_err(|error| ConfigErrors(vec![unreadable(&path, &error)]))?;
        let mut config = Self::from_text(Some((&path, &text)), flags, env, system)?;
        users::read(&mut config)?;
        Ok(config)
    }

    /// As [`Config::load`], with the file's path and text given; reads nothing itself.
    pub fn from_text(
        file: Option<(&Path, &str)>,
        flags: &Flags,
        env: &dyn Fn(&str) -> Option<String>,
        system: &System,
    ) -> Result<Self, ConfigErrors> {
        let (path, text) = file.map_or((None, ""), |(path, text)| (Some(path), text));
        let (table, errors) = DeTable::parse_recoverable(text);
        let cx = Cx::new(path, text);
        errors.iter().for_each(|error| cx.syntax_error(error));
        let config = assemble(&cx, table.get_ref(), &Overrides::new(flags, env), env, system);
        let warnings = cx.finish()?;
        Ok(Self { file: path.map(Path::to_owned), warnings, ..config })
    }
}

/// Every section, whatever is wrong with the others.
fn assemble(
    cx: &Cx<'_>,
    table: &DeTable<'_>,
    over: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
    system: &System,
) -> Config {
    let mut root = Table::root(cx, table);
    let state_dir = sections::state_dir(cx, &mut root, over, system);
    let node = sections::node(&mut root, system);
    let limits = limits::section(&mut root);
    let http = listeners::http(&mut root, over.http.as_ref(), &limits, cx);
    let (https, tls) = listeners::https(&mut root, over.https.as_ref(), &limits, cx);
    let certificates = sections::certificates(cx, &mut root);
    let acme = acme::acme(cx, &mut root);
    let (dns, dns_listeners) = sections::dns(cx, &mut root, over);
    let (admin, admin_spot) = sections::admin(cx, &mut root, over);
    let docker = sections::docker(cx, &mut root, over, env);
    let routing = sections::routing(cx, &mut root);
    let (proxy, trusts_somebody) = sections::proxy(&mut root);
    let balancers_proxy_protocol = sections::balancers(&mut root, trusts_somebody);
    let upstream_tls = tls::upstream(cx, &mut root);
    let log = sections::log(cx, &mut root, over);
    let (shutdown_grace, shutdown_delay) = sections::shutdown(&mut root);
    let replace = sections::replace(cx, over);
    let services = service::services(cx, &mut root);
    let splits = service::splits(&mut root, &routing.domain_suffix);
    let webhooks = webhook::webhooks(cx, &mut root);
    root.finish();

    let http = listeners::or_default(http, || vec![default_http(&limits)]);
    let https = listeners::or_default(https, Vec::new);
    for listeners in [&http.items, &https.items] {
        checks::proxy_protocol(cx, listeners, trusts_somebody);
    }
    checks::https_certificate(cx, &https.items, !certificates.is_empty() || acme.is_some());
    checks::redirect_target(cx, &http.items, &https.items, trusts_somebody || tls.public_port.is_some());
    checks::acme_listener(cx, acme.as_ref(), &http.items, &https.items);
    checks::admin_token(cx, &admin, &admin_spot);
    checks::one_listener_each(cx, &all_listeners(&http, &https, &dns_listeners, &admin, &admin_spot));
    Config {
        file: None,
        state_dir,
        node,
        http: http.unplaced(),
        https: https.unplaced(),
        tls,
        certificates,
        acme,
        dns,
        admin,
        docker,
        routing,
        proxy,
        balancers_proxy_protocol,
        upstream_tls,
        limits,
        log,
        shutdown_grace,
        shutdown_delay,
        replace,
        services,
        splits,
        webhooks,
        warnings: Vec::new(),
    }
}

fn default_http(limits: &Limits) -> Placed<HttpListener> {
    let addr = SocketAddr::from(([0, 0, 0, 0], 80));
    Placed { spot: Spot::outside("the default of http.listen", ""), item: plain_listener(addr, limits) }
}

fn all_listeners(
    http: &Listen<Placed<HttpListener>>,
    https: &Listen<Placed<HttpListener>>,
    dns: &[Placed<SocketAddr>],
    admin: &Admin,
    admin_spot: &Spot,
) -> Vec<(Spot, SocketAddr)> {
    let of_http = http.items.iter().chain(&https.items).map(|placed| (placed.spot.clone(), placed.item.addr));
    let of_dns = dns.iter().map(|placed| (placed.spot.clone(), placed.item));
    let of_admin = match &admin.listen {
        AdminListen::Tcp(addr) => Some((admin_spot.clone(), *addr)),
        AdminListen::Unix(_) => None,
    };
    of_http.chain(of_dns).chain(of_admin).collect()
}

impl<T> Listen<Placed<T>> {
    fn unplaced(self) -> Listen<T> {
        Listen {
            items: self.items.into_iter().map(|placed| placed.item).collect(),
            configured: self.configured,
        }
    }
}

/// The whole file, if it is one of a bearable size: a device or a pipe could go on for ever.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 4 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        io::Error::other(format!("line {line} is not UTF-8"))
    })
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path, or leave `--config` out: no file is needed",
        io::ErrorKind::PermissionDenied => "let the user that Fairway runs as read it",
        _ => "name a TOML file",
    };
    ConfigError {
        place: shown(&path.to_string_lossy()),
        given: String::new(),
        text: format!("the file cannot be read: {error}"),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests;
