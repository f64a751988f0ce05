//! What a `[[service]]` entry is in the catalog's inputs.

use std::time::Duration;

use fairway_config::labels::{ProbeSpec, parse_entry};
use fairway_config::names::Weight;
use tokio::time::Instant;

use super::*;

fn node() -> NodeInfo {
    NodeInfo { name: "here".into(), zone: "a".into() }
}

fn service(project: Option<&str>, instances: &[(&str, u16)]) -> StaticService {
    let instance = |(host, port): &(&str, u16)| StaticInstance {
        host: host.parse().map(StaticHost::Ip).unwrap_or_else(|_| StaticHost::Name((*host).into())),
        port: *port,
        weight: Weight::new(2).expect("a weight"),
        zone: None,
    };
    StaticService {
        balancers: Vec::new(),
        name: "legacy".into(),
        project: project.map(Into::into),
        version: "v1".parse().expect("a version"),
        routes: vec![parse_entry("shop.local").expect("an entry").0],
        instances: instances.iter().map(instance).collect(),
        spec: ServiceSpec { scale: Some(3), ..ServiceSpec::default() },
        probe_own_port: false,
        auth_file: None,
    }
}

fn built(services: &[StaticService], names: &Names) -> (Vec<Arc<Unit>>, Vec<Problem>) {
    let (units, problems) = build(services, names, &node(), &BTreeMap::new());
    (units.into_values().collect(), problems)
}

#[test]
fn each_instance_is_a_unit_that_claims_the_routes_at_its_port() {
    let services = [service(Some("shop"), &[("10.0.0.7", 8080), ("fd00::7", 9090)])];
    let (units, problems) = built(&services, &Names::default());
    let ids: Vec<&str> = units.iter().map(|unit| &*unit.id).collect();
    assert_eq!(ids, ["legacy@v1/10.0.0.7:8080", "legacy@v1/[fd00::7]:9090"]);
    let [unit, other] = units.as_slice() else { panic!("{units:?}") };
    assert_eq!(unit.backend.to_string(), "shop/legacy@v1");
    assert_eq!((unit.name.clone(), unit.kind), (unit.id.clone(), UnitKind::Static));
    assert_eq!(unit.ip, "10.0.0.7".parse().ok());
    assert_eq!((unit.created, unit.started), (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH));
    assert_eq!((unit.weight.get(), unit.spec.scale, &*unit.zone), (2, Some(3), "a"));
    assert_eq!(unit.spec.ports, [PortClaim { port: 8080, entries: services[0].routes.clone() }]);
    assert_eq!(other.spec.ports[0].port, 9090);
    assert!(unit.spec.is_exposed() && problems.is_empty());
}

#[test]
fn a_service_without_routes_has_its_instances_all_the_same() {
    let bare = StaticService { routes: Vec::new(), ..service(None, &[("10.0.0.7", 5432)]) };
    let (units, _) = built(&[bare], &Names::default());
    assert_eq!(units[0].spec.ports, [PortClaim { port: 5432, entries: Vec::new() }]);
    assert!(units[0].spec.is_exposed());
}

#[test]
fn a_disabled_service_has_none() {
    let mut off = service(None, &[("10.0.0.7", 80)]);
    off.spec.enable = Some(false);
    assert!(built(&[off], &Names::default()).0.is_empty());
}

#[test]
fn two_projects_may_use_one_address() {
    let both = [service(None, &[("10.0.0.7", 80)]), service(Some("shop"), &[("10.0.0.7", 80)])];
    let (units, _) = built(&both, &Names::default());
    let ids: Vec<&str> = units.iter().map(|unit| &*unit.id).collect();
    assert_eq!(ids, ["legacy@v1/10.0.0.7:80", "shop/legacy@v1/10.0.0.7:80"]);
}

#[test]
fn a_probe_without_a_port_goes_to_each_instances_own() {
    for (own, want) in [(true, 8080), (false, 80)] {
        let mut probed = StaticService { probe_own_port: own, ..service(None, &[("10.0.0.7", 8080)]) };
        let second = Duration::from_secs(1);
        let check = ProbeCheck::Http { port: 80, path: "/health".into() };
        probed.spec.probe = Some(ProbeSpec { check, timeout: second, initial_delay: Duration::ZERO });
        let (units, _) = built(&[probed], &Names::default());
        let check = units[0].spec.probe.as_ref().map(|probe| probe.check.clone());
        assert_eq!(check, Some(ProbeCheck::Http { port: want, path: "/health".into() }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_pending_then_an_address_then_the_last_good_one() {
    let services = [service(None, &[("db.example.com", 5432)])];
    let mut names = Names::default();
    names.keep(&services, Instant::now());
    let told = |names: &Names| {
        let (units, problems) = built(&services, names);
        let severity = problems.first().map(|problem| problem.severity);
        (units[0].ip.map(|ip| ip.to_string()), units[0].address_reason.to_string(), severity)
    };
    assert_eq!(told(&names), (None, "db.example.com is being resolved".into(), None));
    names.answered("db.example.com", Err("refused".into()), Instant::now());
    assert_eq!(told(&names), (None, "db.example.com does not resolve".into(), Some(Severity::Error)));
    let answer = Ok(("10.0.0.5".parse().into_iter().collect(), Duration::from_secs(5)));
    names.answered("db.example.com", answer, Instant::now());
    let ip = Some("10.0.0.5".to_owned());
    assert_eq!(told(&names), (ip.clone(), "what db.example.com resolves to".into(), None));
    names.answered("db.example.com", Err("refused".into()), Instant::now());
    assert_eq!(told(&names), (ip, "the last good answer for db.example.com".into(), Some(Severity::Warning)));
}

#[test]
fn what_did_not_change_is_kept_by_pointer() {
    let services = [service(None, &[("10.0.0.7", 80), ("10.0.0.8", 80)])];
    let (before, _) = build(&services, &Names::default(), &node(), &BTreeMap::new());
    let mut changed = services.clone();
    changed[0].instances[1].weight = Weight::ZERO;
    let (after, _) = build(&changed, &Names::default(), &node(), &before);
    let same = |id: &str| Arc::ptr_eq(&before[id], &after[id]);
    assert!(same("legacy@v1/10.0.0.7:80") && !same("legacy@v1/10.0.0.8:80"));
}
