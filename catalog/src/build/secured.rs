//! Whether a route that is claimed with `https://` can be served so: by a TLS listener, with a certificate for its host.
//!
//! Not here: who gets which certificate (see `proxy`), what certificates there are (see the program).

use std::sync::Arc;

use fairway_config::labels::Severity;
use fairway_config::names::{HostPattern, RouteId};

use crate::problem::Problem;

/// Why clients cannot use this route as it asks. `only` when nobody claims it for plain HTTP too; `names` are the hosts that
/// there are certificates for, sorted; `None` without a TLS listener.
pub(super) fn not_secured(route: &RouteId, only: bool, names: Option<&[Arc<str>]>) -> Option<Problem> {
    let severity = if only { Severity::Error } else { Severity::Warning };
    let Some(names) = names else {
        let text = format!("{route} is claimed with https, but there is no TLS listener");
        let remedy = "configure [https] listen and a [[certificate]], or end TLS in front and list that proxy in proxy.trusted_proxies";
        return Some(Problem::new("no-tls-listener", severity, route.to_string(), text, remedy));
    };
    if covers(names, &route.host) {
        return None;
    }
    let text = format!("{route} is claimed with https, but no certificate is for {}", route.host);
    let remedy = "add a [[certificate]] with this host among its names (SAN), or let [acme] ask for one";
    Some(Problem::new("no-certificate", severity, route.to_string(), text, remedy))
}

/// Whether a certificate has this host; a wildcard in it stands for one label.
fn covers(names: &[Arc<str>], host: &HostPattern) -> bool {
    let has = |name: &str| names.binary_search_by(|have| (**have).cmp(name)).is_ok();
    match host {
        HostPattern::Wildcard(name) => has(&format!("*.{name}")),
        HostPattern::Exact(name) => {
            has(name) || name.split_once('.').is_some_and(|(_, parent)| has(&format!("*.{parent}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_for_https_needs_a_listener_and_a_certificate_for_its_host() {
        let names: Vec<Arc<str>> = ["*.shop.test", "a.test"].map(Arc::from).to_vec();
        for (route, names, want) in [
            ("a.test/", None, Some("no-tls-listener")),
            ("a.test/", Some(&names), None),
            ("b.test/", Some(&names), Some("no-certificate")),
            ("b.shop.test/api", Some(&names), None),
            ("c.b.shop.test/", Some(&names), Some("no-certificate")),
            ("shop.test/", Some(&names), Some("no-certificate")),
            ("*.shop.test/", Some(&names), None),
            ("*.a.test/", Some(&names), Some("no-certificate")),
        ] {
            let id: RouteId = route.parse().expect("a route");
            let problem = not_secured(&id, true, names.map(Vec::as_slice));
            assert_eq!(problem.as_ref().map(|problem| problem.kind), want, "{route}");
            assert!(problem.is_none_or(|problem| problem.severity == Severity::Error));
        }
        let id: RouteId = "b.test/".parse().expect("a route");
        let shared = not_secured(&id, false, Some(&names)).expect("a problem");
        assert_eq!(shared.severity, Severity::Warning, "it is served over plain HTTP too");
    }
}
