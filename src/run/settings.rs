//! Configuration to the catalog's settings: pure, but for the list of this machine's addresses that is handed in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fairway_catalog::Settings;
use fairway_catalog::inputs::DefaultLimits;
use fairway_config::Config;
use jiff::Timestamp;

use super::certificates::Names;

/// What the process knows beside its configuration.
pub(crate) struct Surroundings {
    /// When the process started.
    pub(crate) started: Timestamp,
    /// Every listener as bound.
    pub(crate) bound: Vec<SocketAddr>,
    /// The hosts that there were certificates for at the start; `None` when no listener speaks TLS.
    pub(crate) tls: Option<Names>,
    /// The addresses of this machine.
    pub(crate) local: Vec<IpAddr>,
}

/// The settings that follow from a configuration read now.
pub(crate) fn settings(config: &Config, around: &Surroundings, now: Timestamp) -> Settings {
    let file = config.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    Settings {
        process_started: around.started,
        loaded: now,
        file: file.into(),
        node: config.node.name.clone(),
        zone: config.node.zone.clone(),
        domain_suffix: config.routing.domain_suffix.clone(),
        zones: config.dns.zones.clone(),
        claims: config.routing.claims.clone(),
        internal: config.routing.internal.clone(),
        splits: config.splits.clone(),
        sticky_default: config.routing.sticky_default,
        limits: DefaultLimits {
            body_max: config.limits.body_max,
            in_flight_max: config.limits.requests_per_instance,
        },
        tls: around.tls.clone(),
        own_listeners: expand(&around.bound, &around.local),
    }
}

/// The same, kept as it is when only the time of reading differs, so that a reload that changes nothing builds nothing.
pub(crate) fn unless_same(old: &Arc<Settings>, new: Settings) -> Arc<Settings> {
    let dated = Settings { loaded: old.loaded, ..new.clone() };
    if dated == **old { old.clone() } else { Arc::new(new) }
}

/// A listener on an unspecified address is one on each address of the machine.
fn expand(bound: &[SocketAddr], local: &[IpAddr]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = bound
        .iter()
        .flat_map(|listener| {
            let ips = if listener.ip().is_unspecified() { local.to_vec() } else { vec![listener.ip()] };
            ips.into_iter().map(|ip| SocketAddr::new(ip, listener.port()))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_any_address_is_one_on_each_of_the_machine() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let local = ["127.0.0.1".parse().expect("an address"), "10.0.0.1".parse().expect("an address")];
        let all = expand(&[address("0.0.0.0:80"), address("10.0.0.1:80"), address("10.0.0.2:81")], &local);
        assert_eq!(all, [address("10.0.0.1:80"), address("10.0.0.2:81"), address("127.0.0.1:80")]);
    }
}
