//! `fairway.*`: what the older label language lacks.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::clients::{self, one_of};
use super::entry::residue;
use super::flaw::Flaw;
use super::{Hedge, Passthrough, Protocol, ProxyProtocol, ServiceSpec, parse_host, scalar};
use crate::names::{Host, NotAVersion, NotAWeight};

/// `fairway.timeout.*`
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
/// `fairway.drain`
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
/// Most hosts of `fairway.tls.passthrough`.
const PASSTHROUGH_MAX: usize = 256;
/// `fairway.hedge`
const HEDGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// Enters the value of `fairway.<name>` into `spec`. A name that is none changes nothing. Problems of single rules
/// are added to `found`.
pub(super) fn apply<'a>(
    spec: &mut ServiceSpec,
    name: &str,
    value: &'a str,
    found: &mut Vec<(&'a str, Flaw)>,
) -> Result<(), Flaw> {
    let to = &mut spec.transport;
    match name {
        "enable" => spec.enable = Some(scalar::boolean(value)?),
        "project" => spec.project = Some(scalar::name(value)?),
        "service" => spec.service = Some(scalar::name(value)?),
        "version" => spec.version = Some(value.parse().map_err(|_: NotAVersion| version_flaw(value))?),
        "weight" => spec.weight = Some(value.parse().map_err(|_: NotAWeight| weight_flaw(value))?),
        "network" => spec.network = Some(scalar::name(value)?),
        "zone" => spec.zone = Some(scalar::name(value)?),
        "dns" => spec.dns_weighted = dns_weighted(value)?,
        "protocol" => to.protocol = Some(protocol(value)?),
        "proxy_protocol" => to.proxy_protocol = Some(proxy_protocol(value)?),
        "balance" => to.balance = Some(clients::balance(value)?),
        "timeout.connect" => to.connect_timeout = Some(scalar::time(value, TIMEOUT)?),
        "timeout.first_byte" => to.first_byte_timeout = Some(scalar::time(value, TIMEOUT)?),
        "timeout.idle" => to.idle_timeout = Some(scalar::time(value, TIMEOUT)?),
        "timeout.total" if value == "none" => to.total_timeout = None,
        "timeout.total" => to.total_timeout = Some(scalar::time(value, TIMEOUT)?),
        "retries" => {
            to.retries = scalar::whole(value, 0..=10, "").map(|retries| u8::try_from(retries).ok())?
        }
        "in_flight_max" => to.in_flight_max = Some(scalar::whole(value, 1..=1_000_000, "")?),
        "outlier" => to.outlier = Some(scalar::boolean(value)?),
        "drain" => to.drain = Some(scalar::time(value, DRAIN)?),
        "split_by" => to.split_by = Some(clients::split_by(value)?),
        "match" => to.matches = clients::rules(value, found),
        "hedge" => to.hedge = hedge(value)?,
        "tls.passthrough" => spec.passthrough = passthrough(value, found)?,
        "tls.server_name" => to.tls_server_name = Some(server_name(value)?),
        "tls.verify" => to.tls_verify = Some(scalar::boolean(value)?),
        "body_max" => to.body_max = Some(scalar::size(value)?),
        _ => {}
    }
    Ok(())
}

/// `true`, `false` or hosts; `None` when nothing is to be passed on. What is no host is added to `found`.
fn passthrough<'a>(value: &'a str, found: &mut Vec<(&'a str, Flaw)>) -> Result<Option<Passthrough>, Flaw> {
    if let Ok(all) = scalar::boolean(value) {
        return Ok(all.then_some(Passthrough::Routes));
    }
    let mut hosts: Vec<Host> = Vec::new();
    let written = value.split(';').map(str::trim).filter(|text| !text.is_empty());
    for (number, text) in written.enumerate() {
        match full_host(text) {
            _ if number == PASSTHROUGH_MAX => {
                let what = format!("the label has more than {PASSTHROUGH_MAX} hosts; the rest is left out");
                let remedy = "use a wildcard, `*.company.com`, or fewer hosts";
                found.push((text, Flaw::refused("label-too-many-entries", what, remedy)));
                break;
            }
            Ok(host) if hosts.contains(&host) => {}
            Ok(host) => hosts.push(host),
            Err(flaw) => found.push((text, flaw)),
        }
    }
    if hosts.is_empty() && found.is_empty() {
        let remedy = "write `true`, or hosts such as `db.company.com;*.mail.company.com`";
        return Err(Flaw::refused("label-no-entry", "it names no host", remedy));
    }
    Ok((!hosts.is_empty()).then_some(Passthrough::Hosts(hosts)))
}

/// A host that a client can ask for in a TLS handshake: no prefix, which stands for different names at different places.
fn full_host(text: &str) -> Result<Host, Flaw> {
    if let Some(flaw) = residue(text) {
        return Err(flaw);
    }
    match parse_host(text.strip_prefix("https://").unwrap_or(text))? {
        Host::Prefix(host) => {
            let text = format!("`{host}` is a prefix, and TLS needs a full domain");
            Err(Flaw::refused("label-https-prefix", text, format!("write `{host}.company.com`")))
        }
        full => Ok(full),
    }
}

/// A DNS name or an address, as a certificate names it. A wildcard is what certificates hold, not what is asked for.
fn server_name(value: &str) -> Result<Arc<str>, Flaw> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if value.parse::<IpAddr>().is_ok() || (value.len() <= 253 && value.split('.').all(is_label)) {
        return Ok(value.to_ascii_lowercase().into());
    }
    let text = format!("`{}` is no name that a certificate could be for", super::shown(value));
    Err(Flaw::refused(
        "label-server-name",
        text,
        "write a DNS name such as `web.internal`, without port or wildcard",
    ))
}

fn version_flaw(value: &str) -> Flaw {
    let text = format!("`{}` is not a version", super::shown(value));
    Flaw::refused("label-version", text, "write 1 to 64 of A-Z a-z 0-9 . _ -")
}

fn weight_flaw(value: &str) -> Flaw {
    let text = format!("`{}` is not a weight", super::shown(value));
    Flaw::refused("label-weight", text, "write a whole number from 0 to 1000")
}

fn dns_weighted(value: &str) -> Result<bool, Flaw> {
    match value {
        "weighted" => Ok(true),
        _ => Err(one_of("label-dns", "way to answer", value, &["weighted"])),
    }
}

fn protocol(value: &str) -> Result<Protocol, Flaw> {
    match value {
        "http1" => Ok(Protocol::Http1),
        "h2c" => Ok(Protocol::H2c),
        "https" => Ok(Protocol::Https),
        "h2" => Ok(Protocol::H2),
        _ => Err(one_of("label-protocol", "protocol", value, &["http1", "h2c", "https", "h2"])),
    }
}

fn proxy_protocol(value: &str) -> Result<ProxyProtocol, Flaw> {
    match value {
        "v1" => Ok(ProxyProtocol::V1),
        "v2" => Ok(ProxyProtocol::V2),
        _ => Err(one_of("label-proxy-protocol", "version of the PROXY protocol", value, &["v1", "v2"])),
    }
}

/// `None` for `off`, which is the default.
fn hedge(value: &str) -> Result<Option<Hedge>, Flaw> {
    match value {
        "p95" => Ok(Some(Hedge::P95)),
        "off" => Ok(None),
        _ => scalar::time(value, HEDGE)
            .map(|after| Some(Hedge::After(after)))
            .map_err(|flaw| Flaw { remedy: format!("{}; or write `p95` or `off`", flaw.remedy), ..flaw }),
    }
}
