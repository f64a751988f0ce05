//! What is to be probed, and how: a pure function of the catalog.
//!
//! Not here: when (see `rise_fall` and `task`), by which means (see `attempt`).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::config::labels::{ProbeCheck, ProxyProtocol, ServiceSpec};
use fairway_catalog::config::names::BackendId;
use fairway_catalog::facts::UnitKind;
use fairway_catalog::{Catalog, Instance, InstanceKey, Lifecycle};
use jiff::Timestamp;

/// Longest wait for a connection where no label says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// How one life of an instance, or of all of a container's, is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Those that its answer is about: the instances of one container share its probe. Never empty.
    pub keys: Vec<InstanceKey>,
    /// Its backend, for metrics.
    pub backend: BackendId,
    /// The container's (or static entry's) name, for people.
    pub name: Arc<str>,
    /// What is tried.
    pub check: Check,
    /// The connection is to start with a PROXY header that says that it is our own.
    pub header: Option<ProxyProtocol>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// No attempt before this.
    pub not_before: Timestamp,
    /// When its container started.
    pub started: Timestamp,
    /// It should have stopped long ago: three answers in a row make it ready, and until then nothing is said of it.
    pub overdue: bool,
}

/// One kind of attempt, complete with its target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Check {
    /// GET answers 2xx or 3xx.
    Http {
        /// Where.
        address: SocketAddr,
        /// Path and query.
        path: Arc<str>,
    },
    /// The connection is established.
    Tcp {
        /// Where.
        address: SocketAddr,
    },
    /// `grpc.health.v1.Health/Check` over HTTP/2 without TLS answers `SERVING`.
    Grpc {
        /// Where.
        address: SocketAddr,
        /// The service asked for, empty for the whole server.
        service: Arc<str>,
    },
    /// A shell command inside the container exits 0.
    Command {
        /// The full container id.
        container: Arc<str>,
        /// Given to `sh -c`.
        shell: Arc<str>,
    },
    /// Cannot be tried by this version, or on this kind of instance.
    Impossible(Impossible),
}

/// Why a probe cannot be tried at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Impossible {
    /// A static instance has no container to run a command in.
    NoContainer,
    /// The engine refuses exec; known only after an attempt.
    ExecRefused,
}

impl Check {
    /// Where a connection is made to, if one is.
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Http { address, .. } | Self::Tcp { address } | Self::Grpc { address, .. } => Some(*address),
            Self::Command { .. } | Self::Impossible(_) => None,
        }
    }

    /// The metric label `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Tcp { .. } => "tcp",
            Self::Grpc { .. } => "grpc",
            Self::Command { .. } | Self::Impossible(_) => "cmd",
        }
    }
}

/// Every life of an instance that is to be probed, by the first of those that share the probe: those that run and have
/// a probe, and those that still run long after their stop signal (design rule 6). One that is paused, restarted or
/// stopping is not asked: its condition is known.
pub fn of(catalog: &Catalog) -> BTreeMap<InstanceKey, Probe> {
    let mut plan: BTreeMap<InstanceKey, Probe> = BTreeMap::new();
    // An engine runs one probe command at a time in a container, and one answer is enough for all of its ports.
    let mut shared: HashMap<(Arc<str>, Check), InstanceKey> = HashMap::new();
    for instance in catalog.instances.values() {
        let Some((key, probe)) = instance.key().and_then(|key| Some((key.clone(), probe_of(instance, key)?)))
        else {
            continue;
        };
        match shared.entry((instance.unit.id.clone(), probe.check.clone())) {
            Entry::Vacant(free) => {
                free.insert(key.clone());
                plan.insert(key, probe);
            }
            Entry::Occupied(first) => {
                if let Some(probe) = plan.get_mut(first.get()) {
                    probe.keys.push(key);
                }
            }
        }
    }
    plan
}

fn probe_of(instance: &Instance, key: InstanceKey) -> Option<Probe> {
    let unit = &instance.unit;
    let address = instance.address?;
    let wanted = match unit.lifecycle {
        Lifecycle::Running => unit.spec.probe.is_some(),
        Lifecycle::Stopping { .. } => instance.overdue,
        Lifecycle::Restarting | Lifecycle::Paused => false,
    };
    if !wanted {
        return None;
    }
    let (check, timeout, delay) = match &unit.spec.probe {
        Some(spec) => (check_of(instance, address, &spec.check), spec.timeout, spec.initial_delay),
        None => (Check::Tcp { address }, DEFAULT_TIMEOUT, Duration::ZERO),
    };
    let routed = check.address().is_some_and(|at| at == address || is_routed(&unit.spec, at.port()));
    Some(Probe {
        keys: vec![key],
        backend: instance.backend.clone(),
        name: unit.name.clone(),
        check,
        header: unit.spec.transport.proxy_protocol.filter(|_| routed),
        timeout,
        not_before: unit.started.saturating_add(delay).unwrap_or(Timestamp::MAX),
        started: unit.started,
        overdue: instance.overdue,
    })
}

/// Whether connections of clients come to this port. Another one, open for probes alone, expects no PROXY header: that is
/// how HAProxy's `check port` has it, too.
fn is_routed(spec: &ServiceSpec, port: u16) -> bool {
    spec.ports.iter().any(|claim| claim.port == port) || spec.balancers.iter().any(|claim| claim.port == port)
}

/// The probe's port is the container's, which need not be the instance's.
fn check_of(instance: &Instance, address: SocketAddr, check: &ProbeCheck) -> Check {
    let at = |port: u16| SocketAddr::new(address.ip(), port);
    match check {
        ProbeCheck::Http { port, path } => Check::Http { address: at(*port), path: path.clone() },
        ProbeCheck::Tcp { port } => Check::Tcp { address: at(*port) },
        ProbeCheck::Grpc { port, service } => Check::Grpc { address: at(*port), service: service.clone() },
        ProbeCheck::Command { .. } if instance.unit.kind == UnitKind::Static => {
            Check::Impossible(Impossible::NoContainer)
        }
        ProbeCheck::Command { shell } => {
            Check::Command { container: instance.unit.id.clone(), shell: shell.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use fairway_catalog::config::labels::ProbeSpec;

    use super::*;
    use crate::testing::{catalog_of, container, key_of, probed, spec, stopping_since, two_ports};

    const ADDRESS: &str = "10.1.0.2:8080";

    fn http(port: u16) -> ProbeSpec {
        ProbeSpec {
            check: ProbeCheck::Http { port, path: "/up".into() },
            timeout: Duration::from_secs(2),
            initial_delay: Duration::from_secs(3),
        }
    }

    #[test]
    fn only_instances_with_a_probe_are_probed() {
        let plain = container("a", ADDRESS);
        let with_probe = probed(container("b", "10.1.0.3:8080"), http(9000));
        let key = key_of(&with_probe, 8080);
        let plan = of(&catalog_of([plain, with_probe]));
        assert_eq!(plan.keys().collect::<Vec<_>>(), [&key]);
    }

    #[test]
    fn the_probe_asks_its_own_port_after_its_delay() {
        let unit = probed(container("a", ADDRESS), http(9000));
        let (key, started) = (key_of(&unit, 8080), unit.started);
        let plan = of(&catalog_of([unit]));
        let probe = &plan[&key];
        assert_eq!(
            probe.check,
            Check::Http { address: "10.1.0.2:9000".parse().expect("a constant"), path: "/up".into() }
        );
        assert_eq!(probe.timeout, Duration::from_secs(2));
        assert_eq!(probe.not_before, started + Duration::from_secs(3));
        assert!(!probe.overdue);
    }

    #[test]
    fn a_port_that_expects_proxy_headers_gets_one_and_a_port_for_probes_alone_does_not() {
        for (port, want) in [(8080, Some(ProxyProtocol::V2)), (9090, Some(ProxyProtocol::V2)), (9000, None)] {
            let mut unit = two_ports(probed(container("a", ADDRESS), http(port)));
            Arc::make_mut(&mut unit.spec).transport.proxy_protocol = Some(ProxyProtocol::V2);
            let headers: Vec<_> = of(&catalog_of([unit])).into_values().map(|probe| probe.header).collect();
            assert_eq!(headers, [want], "{port}");
        }
    }

    #[test]
    fn the_ports_of_one_container_share_its_probe() {
        let unit =
            two_ports(probed(container("a", ADDRESS), spec(ProbeCheck::Command { shell: "true".into() })));
        let keys = vec![key_of(&unit, 8080), key_of(&unit, 9090)];
        let plan = of(&catalog_of([unit]));
        assert_eq!(plan.values().map(|probe| &probe.keys).collect::<Vec<_>>(), [&keys]);
    }

    #[test]
    fn paused_restarting_and_stopping_ones_are_left_alone() {
        for lifecycle in [
            Lifecycle::Paused,
            Lifecycle::Restarting,
            Lifecycle::Stopping { since: Timestamp::now(), timeout: Duration::from_secs(10) },
        ] {
            let mut unit = probed(container("a", ADDRESS), http(80));
            unit.lifecycle = lifecycle;
            assert!(of(&catalog_of([unit])).is_empty(), "{lifecycle:?}");
        }
    }

    #[test]
    fn one_that_ignores_its_stop_signal_is_asked_by_its_probe_else_by_a_connection() {
        let long_ago = Timestamp::now() - Duration::from_secs(60);
        let plain = stopping_since(container("a", ADDRESS), long_ago);
        let with_probe = stopping_since(probed(container("b", "10.1.0.3:8080"), http(80)), long_ago);
        let keys = [key_of(&plain, 8080), key_of(&with_probe, 8080)];
        let plan = of(&catalog_of([plain, with_probe]));
        assert_eq!(plan[&keys[0]].check, Check::Tcp { address: ADDRESS.parse().expect("a constant") });
        assert_eq!(plan[&keys[1]].check.kind(), "http");
        assert!(plan.values().all(|probe| probe.overdue));
    }

    #[test]
    fn what_cannot_be_tried_is_said_so() {
        let mut fixed =
            probed(container("b", "10.1.0.3:8080"), spec(ProbeCheck::Command { shell: "true".into() }));
        fixed.kind = UnitKind::Static;
        let checks: Vec<_> = of(&catalog_of([fixed])).into_values().map(|probe| probe.check).collect();
        assert!(checks.contains(&Check::Impossible(Impossible::NoContainer)), "{checks:?}");
    }
}
