//! What the catalog is, rule by rule of the design.

use std::collections::HashMap;
use std::net::SocketAddr;

use fairway_config::file::{FileSplit, HostClaim, SplitRoute};
use fairway_config::labels::features::RateLimit;
use fairway_config::labels::{
    BalancerClaim, BalancerProtocol, Hedge, Passthrough, PortClaim, ProbeCheck, ProbeSpec, Protocol,
    RouteLimits, ServiceSpec,
};
use fairway_config::names::{Host, HostPattern, RouteEntry, Scheme, Weight};
use proptest::prelude::*;

use super::*;
use crate::facts::{DockerHealth, Lifecycle, SourceFacts, Unit, UnitKind};
use crate::inputs::{Ejection, LimitsRecord, MirrorRecord, Settings, SplitRecord, StateRecord, Verdict};
use crate::model::{Condition, Layer};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("a time in range")
}

fn entry(text: &str) -> RouteEntry {
    let (scheme, rest) = match text.strip_prefix("https://") {
        Some(rest) => (Scheme::Https, rest),
        None => (Scheme::Http, text),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = match host.strip_prefix("*.") {
        Some(name) => Host::Wildcard(name.into()),
        None if host.contains('.') => Host::Exact(host.into()),
        None => Host::Prefix(host.into()),
    };
    RouteEntry { scheme, host, path: if path.is_empty() { "/".into() } else { path.into() } }
}

fn route(text: &str) -> RouteId {
    text.parse().expect("a route")
}

fn backend(text: &str) -> BackendId {
    text.parse().expect("a backend")
}

fn weight(value: u64) -> Weight {
    Weight::new(value).expect("a weight")
}

/// A running container number `n` of a backend that claims routes on port 80.
fn unit(n: u8, of: &str, routes: &[&str]) -> Unit {
    let entries = routes.iter().map(|text| entry(text)).collect();
    Unit {
        id: format!("{n:02x}").repeat(32).into(),
        kind: UnitKind::Container,
        name: format!("c{n}").into(),
        backend: backend(of),
        created: at(i64::from(n)),
        started: at(i64::from(n)),
        lifecycle: Lifecycle::Running,
        ip: Some([172, 17, 0, n].into()),
        network: "bridge".into(),
        address_reason: "".into(),
        exposed_ports: Vec::new(),
        spec: Arc::new(ServiceSpec {
            ports: vec![PortClaim { port: 80, entries }],
            ..ServiceSpec::default()
        }),
        label_problems: Vec::new(),
        weight: Weight::DEFAULT,
        docker_health: None,
        links: Vec::new(),
        node: "node".into(),
        zone: "".into(),
    }
}

fn with_spec(mut unit: Unit, change: impl FnOnce(&mut ServiceSpec)) -> Unit {
    change(Arc::make_mut(&mut unit.spec));
    unit
}

fn inputs(units: Vec<Unit>) -> Inputs {
    let mut inputs = Inputs::default();
    set_units(&mut inputs, units);
    inputs
}

fn set_units(inputs: &mut Inputs, units: Vec<Unit>) {
    let units = units.into_iter().map(|unit| (unit.id.clone(), Arc::new(unit))).collect();
    let facts = SourceFacts { listed: true, units, ..SourceFacts::default() };
    inputs.sources.insert(SourceId::Docker("unix:///docker.sock".into()), Arc::new(facts));
}

fn build(inputs: &Inputs) -> Catalog {
    Catalog::build(inputs, &Catalog::empty(0), at(100))
}

fn split(weights: &[(&str, u64)]) -> SplitRecord {
    SplitRecord {
        weights: weights.iter().map(|(id, value)| (backend(id), weight(*value))).collect(),
        author: "ann".into(),
        at: at(50),
        expires_at: None,
        reason: "".into(),
        then: None,
    }
}

fn order(inputs: &mut Inputs, of: &str, record: SplitRecord) {
    Arc::make_mut(&mut inputs.decisions).splits.insert(route(of), record);
}

fn shares(catalog: &Catalog, of: &str) -> Vec<(String, f64)> {
    let members = &catalog.routes[&route(of)].members;
    members.iter().map(|member| (member.backend.id.to_string(), member.share)).collect()
}

fn kinds(catalog: &Catalog) -> Vec<&'static str> {
    catalog.problems.iter().map(|problem| problem.kind).collect()
}

fn instance<'a>(catalog: &'a Catalog, name: &str) -> &'a Instance {
    catalog.instances.values().find(|instance| &*instance.unit.name == name).expect("the instance")
}

#[test]
fn without_weights_every_ready_instance_gets_an_equal_share() {
    let catalog = build(&inputs(vec![
        unit(1, "web@v1", &["shop"]),
        unit(2, "web@v1", &["shop"]),
        unit(3, "web@v1", &["shop"]),
        unit(4, "web-next@v2", &["shop"]),
    ]));
    let expected = [("web@v1".to_owned(), 0.75), ("web-next@v2".to_owned(), 0.25)];
    assert_eq!(shares(&catalog, "shop.localhost/"), expected);
    assert_eq!(catalog.routes[&route("shop.localhost/")].split, None);
}

#[test]
fn one_label_weight_makes_each_backend_without_one_count_as_100() {
    let heavy = with_spec(unit(2, "web@v2", &["shop"]), |spec| spec.weight = Some(weight(300)));
    let catalog = build(&inputs(vec![unit(1, "web@v1", &["shop"]), heavy]));
    let expected = [("web@v1".to_owned(), 0.25), ("web@v2".to_owned(), 0.75)];
    assert_eq!(shares(&catalog, "shop.localhost/"), expected);
    let split = catalog.routes[&route("shop.localhost/")].split.clone().expect("label weights");
    assert_eq!(split.layer, Layer::Label);
}

#[test]
fn a_label_zero_stands_in_when_nobody_else_can_serve() {
    let zero = with_spec(unit(2, "web@v2", &["shop"]), |spec| spec.weight = Some(Weight::ZERO));
    let mut gone = unit(1, "web@v1", &["shop"]);
    let catalog = build(&inputs(vec![gone.clone(), zero.clone()]));
    assert_eq!(shares(&catalog, "shop.localhost/")[1].1, 0.0);
    gone.lifecycle = Lifecycle::Paused;
    let catalog = build(&inputs(vec![gone, zero]));
    assert_eq!(shares(&catalog, "shop.localhost/")[1].1, 1.0);
}

#[test]
fn instances_that_disagree_on_the_weight_count_with_the_lowest_and_are_told() {
    let low = with_spec(unit(1, "web@v1", &["shop"]), |spec| spec.weight = Some(weight(10)));
    let high = with_spec(unit(2, "web@v1", &["shop"]), |spec| spec.weight = Some(weight(20)));
    let catalog = build(&inputs(vec![low, high]));
    assert_eq!(catalog.routes[&route("shop.localhost/")].members[0].weight, Some(weight(10)));
    assert_eq!(kinds(&catalog), ["weights-disagree"]);
}

#[test]
fn a_backend_that_the_split_does_not_name_gets_nothing_and_a_problem_but_stands_in() {
    let mut paused = unit(1, "web@v1", &["shop"]);
    let mut state = inputs(vec![paused.clone(), unit(2, "web@v2", &["shop"])]);
    order(&mut state, "shop.localhost/", split(&[("web@v1", 100)]));
    let catalog = build(&state);
    assert_eq!(shares(&catalog, "shop.localhost/")[1].1, 0.0);
    assert_eq!(kinds(&catalog), ["backend-not-in-split"]);

    paused.lifecycle = Lifecycle::Paused;
    set_units(&mut state, vec![paused, unit(2, "web@v2", &["shop"])]);
    assert_eq!(shares(&build(&state), "shop.localhost/")[1].1, 1.0);
}

#[test]
fn a_written_zero_is_a_promise_even_when_nobody_else_can_serve() {
    let mut paused = unit(1, "web@v1", &["shop"]);
    paused.lifecycle = Lifecycle::Paused;
    let mut state = inputs(vec![paused, unit(2, "web@v2", &["shop"])]);
    order(&mut state, "shop.localhost/", split(&[("web@v1", 100), ("web@v2", 0)]));
    assert!(shares(&build(&state), "shop.localhost/").iter().all(|(_, share)| *share == 0.0));
}

#[test]
fn an_expired_split_gives_way_to_the_one_it_replaced_and_then_to_the_layers_below() {
    let mut state = inputs(vec![unit(1, "web@v1", &["shop"]), unit(2, "web@v2", &["shop"])]);
    let older = split(&[("web@v1", 90), ("web@v2", 10)]);
    let newer = SplitRecord {
        expires_at: Some(at(200)),
        then: Some(Box::new(older)),
        ..split(&[("web@v1", 0), ("web@v2", 1)])
    };
    order(&mut state, "shop.localhost/", newer);
    let first = build(&state);
    assert_eq!(shares(&first, "shop.localhost/")[1].1, 1.0);
    assert_eq!(first.next_expiry, Some(at(200)));
    let second = Catalog::build(&state, &first, at(200));
    assert_eq!(shares(&second, "shop.localhost/")[1].1, 0.1);
    assert!(second.revision > first.revision);
}

#[test]
fn what_has_expired_holds_again_where_the_clock_is_set_back_before_its_date() {
    let mut state = inputs(vec![unit(1, "web@v1", &["shop"]), unit(2, "web@v2", &["shop"])]);
    let expires = SplitRecord { expires_at: Some(at(200)), ..split(&[("web@v1", 0), ("web@v2", 1)]) };
    order(&mut state, "shop.localhost/", expires);
    let first = build(&state);
    let expired = Catalog::build(&state, &first, Now { date: at(3700), lasting: at(101) });
    assert_eq!(shares(&expired, "shop.localhost/")[1].1, 0.5);
    let back = Catalog::build(&state, &expired, Now { date: at(102), lasting: at(102) });
    assert_eq!(shares(&back, "shop.localhost/")[1].1, 1.0);
    assert_eq!(back.next_expiry, Some(at(200)));
}

#[test]
fn what_lasts_is_neither_ended_nor_prolonged_by_a_clock_that_is_set() {
    let mut state = inputs(vec![unit(1, "web@v1", &["shop"]), unit(2, "web@v2", &["other"])]);
    let first = build(&state);
    let mut stopping = unit(2, "web@v2", &["other"]);
    stopping.lifecycle = Lifecycle::Stopping { since: at(101), timeout: Duration::from_secs(10) };
    set_units(&mut state, vec![stopping]);
    let began = Catalog::build(&state, &first, at(101));
    let (shop, hour) = (route("shop.localhost/"), 3600);
    for date in [101 + hour, 101 - hour, 101] {
        // The tombstone lasts 15 s, the grace of the stop as long.
        let before_end = Catalog::build(&state, &began, Now { date: at(date + 14), lasting: at(115) });
        assert!(before_end.routes.contains_key(&shop), "{date}");
        assert!(!instance(&before_end, "c2").overdue, "{date}");
        assert_eq!(before_end.next_end, Some(at(116)), "{date}");
        let at_end = Catalog::build(&state, &before_end, Now { date: at(date + 15), lasting: at(116) });
        assert!(!at_end.routes.contains_key(&shop), "{date}");
        assert!(instance(&at_end, "c2").overdue, "{date}");
        assert_eq!(at_end.next_end, None, "{date}");
    }
}

#[test]
fn the_first_listing_is_waited_for_10_seconds_whatever_the_date_becomes() {
    let mut state = inputs(vec![unit(1, "web@v1", &["shop"])]);
    state.settings = Arc::new(Settings { process_started: at(100), ..Settings::default() });
    let silent = SourceId::Docker("unix:///silent".into());
    state.sources.insert(silent, Arc::default());
    let empty = Catalog::empty(0);
    for date in [100 + 3600, 100 - 3600] {
        assert!(
            !Catalog::build(&state, &empty, Now { date: at(date + 9), lasting: at(109) }).settled,
            "{date}"
        );
        assert!(
            Catalog::build(&state, &empty, Now { date: at(date + 10), lasting: at(110) }).settled,
            "{date}"
        );
    }
}

#[test]
fn layers_hold_in_the_order_label_file_api() {
    let labelled = with_spec(unit(1, "web@v1", &["shop"]), |spec| spec.weight = Some(weight(1)));
    let mut state = inputs(vec![labelled, unit(2, "web@v2", &["shop"])]);
    let file = FileSplit {
        route: SplitRoute::Host(entry("shop")),
        weights: [("v1".into(), weight(30)), ("web@v2".into(), weight(70))].into(),
    };
    state.settings = Arc::new(Settings { splits: vec![file], ..Settings::default() });
    let catalog = build(&state);
    assert_eq!(shares(&catalog, "shop.localhost/")[1].1, 0.7);
    order(&mut state, "shop.localhost/", split(&[("web@v1", 1), ("web@v2", 1)]));
    assert_eq!(shares(&build(&state), "shop.localhost/")[1].1, 0.5);
}

#[test]
fn the_etag_changes_with_the_split_only() {
    let etag = |catalog: &Catalog| catalog.routes[&route("shop.localhost/")].etag.clone();
    let mut state = inputs(vec![unit(1, "web@v1", &["shop"]), unit(2, "web@v2", &["shop"])]);
    let none = etag(&build(&state));
    order(&mut state, "shop.localhost/", split(&[("web@v1", 1), ("web@v2", 1)]));
    let ordered = etag(&build(&state));
    assert_ne!(none, ordered);
    set_units(&mut state, vec![unit(1, "web@v1", &["shop"])]);
    assert_eq!(etag(&build(&state)), ordered);
    order(&mut state, "shop.localhost/", split(&[("web@v1", 1), ("web@v2", 2)]));
    assert_ne!(etag(&build(&state)), ordered);
}

#[test]
fn a_route_outlives_its_last_claim_by_15_seconds() {
    let mut state = inputs(vec![unit(1, "web@v1", &["shop"])]);
    let first = build(&state);
    set_units(&mut state, Vec::new());
    let tombstone = Catalog::build(&state, &first, at(101));
    assert_eq!(tombstone.routes[&route("shop.localhost/")].ends, Some(at(116)));
    assert_eq!(tombstone.next_end, Some(at(116)));
    let same = Catalog::build(&state, &tombstone, at(115));
    assert!(same.routes.contains_key(&route("shop.localhost/")));
    let gone = Catalog::build(&state, &same, at(116));
    assert!(gone.routes.is_empty());
    set_units(&mut state, vec![unit(2, "web@v1", &["shop"])]);
    let back = Catalog::build(&state, &tombstone, at(102));
    assert_eq!(back.routes[&route("shop.localhost/")].ends, None);
}

#[test]
fn a_route_belongs_to_the_project_that_claimed_it_first_and_stays_with_it_for_a_day() {
    let ours = unit(1, "one/web@v1", &["shop", "shop/ours"]);
    let theirs = unit(2, "two/web@v1", &["shop", "shop/theirs"]);
    let mut state = inputs(vec![ours.clone(), theirs.clone()]);
    let first = build(&state);
    let backends_of = |catalog: &Catalog, of: &str| -> Vec<String> {
        catalog.routes[&route(of)].members.iter().map(|m| m.backend.id.to_string()).collect()
    };
    assert_eq!(backends_of(&first, "shop.localhost/"), ["one/web@v1"]);
    assert_eq!(backends_of(&first, "shop.localhost/theirs"), ["two/web@v1"]);
    assert_eq!(kinds(&first), ["route-owned-elsewhere"]);
    let problem = &first.problems[0];
    assert_eq!((&*problem.subject, &*problem.value), ("c2", "shop.localhost/"));
    assert!(problem.text.contains("project one"), "{}", problem.text);

    // The owner's container is replaced by a younger one: it stays the owner.
    let mut younger = unit(9, "one/web@v1", &["shop"]);
    younger.created = at(99);
    set_units(&mut state, vec![younger, theirs.clone()]);
    let second = Catalog::build(&state, &first, at(101));
    assert_eq!(backends_of(&second, "shop.localhost/"), ["one/web@v1"]);

    // Gone: the tombstone passes, the route stays reserved for 24 h, also by what the store remembers.
    set_units(&mut state, vec![theirs]);
    let third = Catalog::build(&state, &second, at(102));
    let hour = 3600;
    let fourth = Catalog::build(&state, &third, at(23 * hour));
    assert!(!fourth.routes.contains_key(&route("shop.localhost/")));
    let mut restarted = state.clone();
    Arc::make_mut(&mut restarted.decisions).owners = fourth.owners().clone();
    assert!(!build(&restarted).routes.contains_key(&route("shop.localhost/")));
    set_units(&mut state, vec![unit(2, "two/web@v1", &["shop"])]);
    let fifth = Catalog::build(&state, &fourth, at(102 + 24 * hour));
    assert_eq!(backends_of(&fifth, "shop.localhost/"), ["two/web@v1"]);
}

#[test]
fn routing_claims_decide_before_age_and_a_wildcard_covers_its_subdomains() {
    let first = unit(1, "one/web@v1", &["www.company.com", "*.company.com"]);
    let listed = unit(2, "two/web@v1", &["www.company.com"]);
    let mut state = inputs(vec![first, listed]);
    let claim = HostClaim { host: Host::Wildcard("company.com".into()), projects: vec!["two".into()] };
    state.settings = Arc::new(Settings { claims: vec![claim], ..Settings::default() });
    let catalog = build(&state);
    let owner = &catalog.routes[&route("www.company.com/")].members[0].backend.id;
    assert_eq!(owner.to_string(), "two/web@v1");
    assert!(!catalog.routes.contains_key(&route("*.company.com/")));
}

#[test]
fn an_address_belongs_to_the_container_started_last() {
    let mut newer = unit(2, "other@v1", &["other"]);
    newer.ip = Some([172, 17, 0, 1].into());
    let catalog = build(&inputs(vec![unit(1, "web@v1", &["shop"]), newer]));
    assert_eq!(catalog.instances.len(), 1);
    assert_eq!(instance(&catalog, "c2").backend, backend("other@v1"));
    assert_eq!(kinds(&catalog), ["address-taken"]);
}

#[test]
fn containers_on_the_hosts_network_share_its_address_unless_they_take_a_port() {
    let on_host = |n, port: Option<u16>| {
        let mut unit = unit(n, &format!("agent{n}@v1"), &[]);
        unit.ip = Some([192, 0, 2, 1].into());
        unit.network = "".into();
        with_spec(unit, |spec| {
            spec.ports =
                port.map(|port| PortClaim { port, entries: vec![entry("a.local")] }).into_iter().collect();
        })
    };
    assert_eq!(build(&inputs(vec![on_host(1, None), on_host(2, None)])).instances.len(), 2);
    assert_eq!(build(&inputs(vec![on_host(1, Some(80)), on_host(2, Some(80))])).instances.len(), 1);
}

#[test]
fn an_instance_that_is_our_own_listener_is_refused() {
    let mut state = inputs(vec![unit(1, "web@v1", &["shop"])]);
    let own: SocketAddr = "172.17.0.1:80".parse().expect("an address");
    state.settings = Arc::new(Settings { own_listeners: vec![own], ..Settings::default() });
    let catalog = build(&state);
    assert!(catalog.instances.is_empty());
    assert_eq!(kinds(&catalog), ["own-listener"]);
}

#[test]
fn the_condition_follows_container_probe_and_healthcheck() {
    let probe = ProbeSpec {
        check: ProbeCheck::Tcp { port: 80 },
        timeout: Duration::from_secs(1),
        initial_delay: Duration::ZERO,
    };
    let base = || unit(1, "web@v1", &["shop"]);
    let probed = || with_spec(base(), |spec| spec.probe = Some(probe.clone()));
    let cases = [
        (base(), Condition::Ready),
        (Unit { ip: None, ..base() }, Condition::Pending),
        (Unit { lifecycle: Lifecycle::Paused, ..base() }, Condition::Pending),
        (Unit { lifecycle: Lifecycle::Restarting, ..base() }, Condition::Pending),
        (Unit { docker_health: Some(DockerHealth::Starting), ..base() }, Condition::Pending),
        (Unit { docker_health: Some(DockerHealth::Healthy), ..base() }, Condition::Ready),
        (Unit { docker_health: Some(DockerHealth::Unhealthy), ..base() }, Condition::Unhealthy),
        (probed(), Condition::Pending),
        (Unit { docker_health: Some(DockerHealth::Healthy), ..probed() }, Condition::Pending),
    ];
    for (unit, expected) in cases {
        let told = format!("{:?} {:?} {:?}", unit.lifecycle, unit.docker_health, unit.ip);
        let catalog = build(&inputs(vec![unit]));
        assert_eq!(instance(&catalog, "c1").condition, expected, "{told}");
        assert!(catalog.routes.contains_key(&route("shop.localhost/")), "the route stands: {told}");
    }
    let mut state = inputs(vec![probed()]);
    let key = instance(&build(&state), "c1").key().expect("an address");
    judge(&mut state, key, Condition::Unhealthy, at(60));
    assert_eq!(instance(&build(&state), "c1").condition, Condition::Unhealthy);
}

#[test]
fn an_ejected_instance_counts_only_where_no_other_of_its_backend_can_serve() {
    let mut other = unit(2, "web@v1", &["shop"]);
    let units =
        |other: &Unit| vec![unit(1, "web@v1", &["shop"]), other.clone(), unit(3, "web@v2", &["shop"])];
    let mut state = inputs(units(&other));
    let plain = build(&state);
    let ejection =
        Ejection { since: at(90), until: at(120), until_probed: false, reason: "5 failures in a row".into() };
    let key = instance(&plain, "c1").key().expect("an address");
    state.ejections = Arc::new(HashMap::from([(key, ejection)]));
    let catalog = Catalog::build(&state, &plain, at(100));
    let seen = instance(&catalog, "c1");
    assert_eq!((seen.condition, seen.since, seen.until), (Condition::Ejected, at(90), Some(at(120))));
    assert_eq!(catalog.backends[&backend("web@v1")].ready, 1);
    let expected = [("web@v1".to_owned(), 0.5), ("web@v2".to_owned(), 0.5)];
    assert_eq!(shares(&catalog, "shop.localhost/"), expected);
    let events = crate::event::diff(&plain, &catalog);
    let told: Vec<_> = events.iter().map(|event| (&*event.kind, &*event.to, &*event.reason)).collect();
    assert_eq!(told, [("instance-condition", "ejected", "5 failures in a row")]);

    // The other one is gone: it serves as the last.
    other.lifecycle = Lifecycle::Paused;
    set_units(&mut state, units(&other));
    assert_eq!(shares(&Catalog::build(&state, &catalog, at(100)), "shop.localhost/"), expected);

    // What its container does says more.
    let stopping = Lifecycle::Stopping { since: at(95), timeout: Duration::from_secs(10) };
    set_units(&mut state, vec![Unit { lifecycle: stopping, ..unit(1, "web@v1", &["shop"]) }]);
    let catalog = Catalog::build(&state, &catalog, at(100));
    let seen = instance(&catalog, "c1");
    assert_eq!((seen.condition, seen.until), (Condition::Stopping, None));
}

fn judge(state: &mut Inputs, key: crate::ids::InstanceKey, condition: Condition, since: Timestamp) {
    let verdict = Verdict { condition, since, reason: "".into(), problem: None };
    let mut verdicts = HashMap::clone(&state.verdicts);
    verdicts.insert(key, verdict);
    state.verdicts = Arc::new(verdicts);
}

#[test]
fn a_stopping_instance_serves_as_the_last_one_and_is_active_again_when_it_ignores_the_signal() {
    let mut stopping = unit(1, "web@v1", &["shop"]);
    stopping.lifecycle = Lifecycle::Stopping { since: at(90), timeout: Duration::from_secs(10) };
    let mut state = inputs(vec![stopping]);
    let first = build(&state);
    assert_eq!(instance(&first, "c1").condition, Condition::Stopping);
    assert_eq!(shares(&first, "shop.localhost/")[0].1, 1.0);
    assert_eq!(first.next_end, Some(at(105)));
    let key = instance(&first, "c1").key().expect("an address");
    judge(&mut state, key.clone(), Condition::Ready, at(80));
    let overdue = Catalog::build(&state, &first, at(105));
    assert!(instance(&overdue, "c1").overdue);
    assert_eq!(instance(&overdue, "c1").condition, Condition::Stopping, "it was judged before its stop");
    // Its probes judge it anew, with whatever date a clock that was set gives them.
    for date in [at(106), at(106 - 3600), at(106 + 3600)] {
        judge(&mut state, key.clone(), Condition::Ready, date);
        let again = Catalog::build(&state, &overdue, Now { date, lasting: at(106) });
        assert_eq!(instance(&again, "c1").condition, Condition::Ready);
        assert_eq!(kinds(&again), ["stop-signal-ignored"]);
        let later = Catalog::build(&state, &again, Now { date: at(200), lasting: at(200) });
        assert_eq!(instance(&later, "c1").condition, Condition::Ready);
    }
}

#[test]
fn what_never_told_its_start_is_in_its_condition_since_it_was_first_seen_so() {
    let mut ageless = unit(1, "web@v1", &["shop"]);
    ageless.started = Timestamp::UNIX_EPOCH;
    let mut state = inputs(vec![ageless.clone()]);
    let first = build(&state);
    assert_eq!(instance(&first, "c1").since, at(100));
    let second = Catalog::build(&state, &first, at(101));
    assert_eq!(instance(&second, "c1").since, at(100));
    ageless.lifecycle = Lifecycle::Paused;
    set_units(&mut state, vec![ageless]);
    assert_eq!(instance(&Catalog::build(&state, &second, at(102)), "c1").since, at(102));
}

#[test]
fn the_stronger_state_of_instance_and_backend_holds() {
    let mut state = inputs(vec![unit(1, "web@v1", &["shop"]), unit(2, "web@v1", &["shop"])]);
    let set = |state| StateRecord { state, author: "ann".into(), at: at(1), reason: "".into() };
    let decisions = Arc::make_mut(&mut state.decisions);
    let first = InstanceId::of_container(&"01".repeat(32), 80);
    decisions.states.insert(StateSubject::Instance(first), set(State::Disabled));
    decisions.states.insert(StateSubject::Backend(backend("web@v1")), set(State::Draining));
    let catalog = build(&state);
    assert_eq!(instance(&catalog, "c1").state, State::Disabled);
    assert_eq!(instance(&catalog, "c2").state, State::Draining);
    assert_eq!(catalog.backends[&backend("web@v1")].ready, 0);
    assert_eq!(
        shares(&catalog, "shop.localhost/")[0].1,
        0.0,
        "neither serves new clients, not even as the last"
    );
}

#[test]
fn what_is_disabled_in_one_route_serves_the_others_and_comes_back_with_its_state() {
    let units = vec![unit(1, "web@v1", &["shop"]), unit(2, "web@v2", &["shop", "new"])];
    let mut state = inputs(units);
    let set = StateRecord { state: State::Disabled, author: "ann".into(), at: at(1), reason: "bad".into() };
    let route = |name: &str| name.parse::<RouteId>().expect("a route");
    let subject = StateSubject::Member(route("shop.localhost/"), backend("web@v2"));
    let copies = MirrorRecord {
        to: backend("web@v2"),
        percent: fairway_config::names::Percent::new(5.0).expect("a percentage"),
        author: "ann".into(),
        at: at(1),
        reason: "".into(),
    };
    Arc::make_mut(&mut state.decisions).mirrors.insert(route("shop.localhost/"), Arc::new(copies));
    let before = build(&state);
    assert!(before.problems.is_empty(), "{:?}", before.problems);
    Arc::make_mut(&mut state.decisions).states.insert(subject.clone(), set.clone());
    let catalog = Catalog::build(&state, &before, at(100));
    let member = |catalog: &Catalog, name: &str| {
        let members = &catalog.routes[&route(name)].members;
        members.iter().find(|member| member.backend.id == backend("web@v2")).cloned().expect("a member")
    };
    let shut = member(&catalog, "shop.localhost/");
    assert_eq!((shut.state, shut.share, shut.instances[0].state), (State::Disabled, 0.0, State::Disabled));
    assert_eq!(shut.instances[0].ordered.as_ref(), Some(&set));
    let kinds: Vec<_> = catalog.problems.iter().map(|problem| problem.kind).collect();
    assert_eq!(kinds, ["mirror-without-target"], "its copies go to nobody");
    let other = member(&catalog, "new.localhost/");
    assert_eq!((other.state, other.share), (State::Active, 1.0));
    assert_eq!((instance(&catalog, "c2").state, shut.backend.state), (State::Active, State::Active));
    Arc::make_mut(&mut state.decisions).states.remove(&subject);
    let after = Catalog::build(&state, &catalog, at(101));
    assert_eq!(member(&after, "shop.localhost/").share, 0.5);
}

#[test]
fn a_state_is_told_with_the_words_of_whoever_set_it() {
    let mut state = inputs(vec![unit(1, "web@v1", &["shop"])]);
    let before = build(&state);
    let set = StateRecord { state: State::Disabled, author: "ann".into(), at: at(1), reason: "disk".into() };
    Arc::make_mut(&mut state.decisions).states.insert(StateSubject::Backend(backend("web@v1")), set);
    let after = Catalog::build(&state, &before, at(100));
    let told: Vec<_> = crate::event::diff(&before, &after)
        .into_iter()
        .map(|event| format!("{} {} {}", event.kind, event.to, event.reason))
        .collect();
    assert_eq!(told, ["backend-state disabled disk", "instance-state disabled disk"]);
}

#[test]
fn unknown_hosts_wait_until_every_source_is_listed_or_10_seconds_have_passed() {
    let mut state = inputs(Vec::new());
    state.settings = Arc::new(Settings { process_started: at(100), ..Settings::default() });
    state.sources.insert(SourceId::File, Arc::default());
    let first = build(&state);
    assert!(!first.settled);
    assert_eq!(first.next_end, Some(at(110)));
    assert!(Catalog::build(&state, &first, at(110)).settled);
    state.sources.insert(SourceId::File, Arc::new(SourceFacts { listed: true, ..SourceFacts::default() }));
    let listed = Catalog::build(&state, &first, at(101));
    assert!(listed.settled);
    state.sources.insert(SourceId::File, Arc::default());
    assert!(Catalog::build(&state, &listed, at(102)).settled, "a later loss leaves it as it is");
}

#[test]
fn a_flip_touches_only_the_routes_of_its_backend() {
    let probe = ProbeSpec {
        check: ProbeCheck::Tcp { port: 80 },
        timeout: Duration::from_secs(1),
        initial_delay: Duration::ZERO,
    };
    let probed = with_spec(unit(1, "web@v1", &["shop"]), |spec| spec.probe = Some(probe));
    let mut state = inputs(vec![probed, unit(2, "other@v1", &["other"])]);
    let before = build(&state);
    let key = instance(&before, "c1").key().expect("an address");
    judge(&mut state, key, Condition::Ready, at(60));
    let after = Catalog::build(&state, &before, at(101));
    let kept = |of: &str| Arc::ptr_eq(&before.routes[&route(of)], &after.routes[&route(of)]);
    assert!(kept("other.localhost/"));
    assert!(!kept("shop.localhost/"));
    let again = Catalog::build(&state, &after, at(102));
    assert_eq!(again.revision, after.revision, "nothing changed");
}

proptest! {
    #[test]
    fn a_catalog_kept_in_part_equals_one_built_whole(
        units in prop::collection::vec((0u8..4, 0u8..3), 1..12),
        flips in prop::collection::vec((0usize..12, 0u8..3, 0u8..4), 0..12),
    ) {
        let probe = ProbeSpec {
            check: ProbeCheck::Tcp { port: 80 },
            timeout: Duration::from_secs(1),
            initial_delay: Duration::ZERO,
        };
        let routes = ["a.com", "b.com", "a.com/x"];
        let units = units.iter().enumerate().map(|(n, (version, place))| {
            let of = format!("web{place}@v{version}");
            let unit = unit(n as u8 + 1, &of, &[routes[usize::from(*place)], "all.com"]);
            with_spec(unit, |spec| spec.probe = Some(probe.clone()))
        });
        let mut state = inputs(units.collect());
        let mut partly = build(&state);
        for (step, (which, condition, split_weight)) in flips.into_iter().enumerate() {
            let keys: Vec<_> = partly.instances.values().filter_map(|i| i.key()).collect();
            let condition = [Condition::Ready, Condition::Unhealthy, Condition::Unknown][usize::from(condition)];
            let since = at(100 + step as i64);
            judge(&mut state, keys[which % keys.len()].clone(), condition, since);
            if split_weight > 1 {
                let member = partly.routes[&route("all.com/")].members[0].backend.id.to_string();
                order(&mut state, "all.com/", split(&[(&member, u64::from(split_weight))]));
            }
            let of = ["all.com/", "a.com/", "a.com/x", "gone.com/"][which % 4];
            match split_weight {
                0 => limit(&mut state, of, &[("in_flight_max", &which.max(1).to_string())], None),
                1 => limit(&mut state, of, &[("retries", "0"), ("rate_limit", "1/s")], None),
                2 => drop(Arc::make_mut(&mut state.decisions).limits.remove(&route(of))),
                _ => {}
            }
            let whole_inputs = Inputs { settings: Arc::new((*state.settings).clone()), ..state.clone() };
            let whole = Catalog::build(&whole_inputs, &partly, since);
            partly = Catalog::build(&state, &partly, since);
            prop_assert_eq!(&partly.routes, &whole.routes);
            prop_assert_eq!(&partly.backends, &whole.backends);
            prop_assert_eq!(&partly.instances, &whole.instances);
            prop_assert_eq!(&partly.problems, &whole.problems);
        }
    }
}

#[test]
fn what_labels_ask_of_the_way_to_instances_is_served_whatever_they_speak() {
    let plain = unit(1, "web@v1", &["shop.a.com"]);
    let told = |change: fn(&mut ServiceSpec)| {
        let catalog = build(&inputs(vec![with_spec(plain.clone(), change)]));
        assert_eq!(shares(&catalog, "shop.a.com/"), [("web@v1".to_owned(), 1.0)]);
        catalog.problems.iter().map(|problem| (problem.kind, problem.key.to_string())).collect::<Vec<_>>()
    };
    let hedged_over_http2 = |spec: &mut ServiceSpec| {
        (spec.transport.hedge, spec.transport.protocol) = (Some(Hedge::P95), Some(Protocol::H2c));
    };
    assert_eq!(told(hedged_over_http2), []);
    assert_eq!(told(|spec| spec.transport.hedge = Some(Hedge::P95)), []);
    assert_eq!(told(|spec| spec.transport.drain = Some(Duration::from_secs(9))), []);
    assert_eq!(told(|spec| spec.session_sticky = Some(true)), []);
    assert_eq!(told(|spec| spec.transport.protocol = Some(Protocol::H2)), []);
}

#[test]
fn a_feature_comes_from_the_backend_that_set_it_first_and_another_value_is_told() {
    let allow = |net: &str| {
        let net: ipnet::IpNet = net.parse().expect("a network");
        move |spec: &mut ServiceSpec| spec.features.allow = Some([net].into())
    };
    let first = with_spec(unit(1, "web@v1", &["shop.a.com"]), allow("10.0.0.0/8"));
    let second = with_spec(unit(2, "web@v2", &["shop.a.com"]), |spec| {
        allow("0.0.0.0/0")(spec);
        spec.features.add_prefix = Some("/v2".into());
    });
    let features = |catalog: &Catalog| {
        let features = catalog.routes[&route("shop.a.com/")].features.clone()?;
        Some((features.allow.as_ref()?[0].to_string(), features.add_prefix.clone()))
    };
    let catalog = build(&inputs(vec![second.clone(), first.clone()]));
    assert_eq!(features(&catalog), Some(("10.0.0.0/8".to_owned(), Some("/v2".into()))));
    let told: Vec<_> = catalog.problems.iter().map(|p| (p.kind, &*p.key, &*p.subject)).collect();
    assert_eq!(told, [("route-keys-disagree", "fairway.allow", "c2")]);
    let mut state = inputs(vec![second]);
    let alone = Catalog::build(&state, &catalog, at(101));
    assert_eq!(features(&alone), Some(("0.0.0.0/0".to_owned(), Some("/v2".into()))));
    set_units(&mut state, Vec::new());
    let tombstone = Catalog::build(&state, &alone, at(102));
    assert_eq!(features(&tombstone), features(&alone), "a route without containers keeps its guards");
    let plain = build(&inputs(vec![unit(1, "web@v1", &["shop.a.com"])]));
    assert_eq!(plain.routes[&route("shop.a.com/")].features, None);
}

fn fronted(unit: Unit, protocol: BalancerProtocol, front_port: u16) -> Unit {
    let claim = BalancerClaim { port: 80, protocol, name: "db".into(), front_port };
    with_spec(unit, |spec| spec.balancers = vec![claim])
}

#[test]
fn backends_of_one_project_share_a_front_port_and_another_project_is_told_whose_it_is() {
    let tcp = |n, of| fronted(unit(n, of, &[]), BalancerProtocol::Tcp, 3306);
    let catalog = build(&inputs(vec![tcp(1, "one/db@v1"), tcp(2, "one/db@v2"), tcp(3, "two/db@v1")]));
    let expected = [("one/db@v1".to_owned(), 0.5), ("one/db@v2".to_owned(), 0.5)];
    assert_eq!(shares(&catalog, "tcp://:3306"), expected);
    assert_eq!(kinds(&catalog), ["route-owned-elsewhere"]);
    let problem = &catalog.problems[0];
    assert_eq!((&*problem.subject, &*problem.key), ("c3", "aliyun.lb.port_80"));
    assert!(problem.text.contains("project one") && problem.remedy.contains("front port"), "{problem:?}");
}

#[test]
fn a_split_weighs_the_backends_of_a_front_port() {
    let tcp = |n, of, w| {
        let unit = fronted(unit(n, of, &[]), BalancerProtocol::Tcp, 3306);
        with_spec(unit, |spec| spec.weight = Some(weight(w)))
    };
    let catalog = build(&inputs(vec![tcp(1, "db@v1", 90), tcp(2, "db@v2", 10)]));
    let expected = [("db@v1".to_owned(), 0.9), ("db@v2".to_owned(), 0.1)];
    assert_eq!(shares(&catalog, "tcp://:3306"), expected);
}

#[test]
fn a_port_for_datagrams_is_another_than_the_same_port_for_connections() {
    let mut state = inputs(vec![
        fronted(unit(1, "one/dns@v1", &[]), BalancerProtocol::Udp, 8080),
        fronted(unit(2, "two/dns@v1", &[]), BalancerProtocol::Tcp, 53),
        fronted(unit(3, "one/dns@v1", &[]), BalancerProtocol::Udp, 53),
    ]);
    let own = SocketAddr::from(([10, 0, 0, 1], 8080));
    state.settings = Arc::new(Settings { own_listeners: vec![own], ..Settings::default() });
    let catalog = build(&state);
    let routes: Vec<String> = catalog.routes.keys().map(ToString::to_string).collect();
    assert_eq!(routes, ["tcp://:53", "udp://:53", "udp://:8080"]);
    assert!(catalog.problems.is_empty(), "{:?}", catalog.problems);
}

#[test]
fn a_front_port_of_our_own_or_for_https_without_tls_is_told_and_not_opened() {
    let mut state = inputs(vec![
        fronted(unit(1, "db@v1", &[]), BalancerProtocol::Tcp, 8080),
        fronted(unit(2, "db@v1", &[]), BalancerProtocol::Http, 8081),
        fronted(unit(3, "db@v1", &[]), BalancerProtocol::Https, 9443),
    ]);
    let own = SocketAddr::from(([10, 0, 0, 1], 8080));
    state.settings = Arc::new(Settings { own_listeners: vec![own], ..Settings::default() });
    let catalog = build(&state);
    let routes = |catalog: &Catalog| catalog.routes.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(routes(&catalog), ["http://:8081"]);
    assert_eq!(kinds(&catalog), ["balancer-port-taken", "no-tls-listener"]);
    let with_tls = Settings { own_listeners: vec![own], tls: Some([].into()), ..Settings::default() };
    state.settings = Arc::new(with_tls);
    let catalog = build(&state);
    assert_eq!(routes(&catalog), ["http://:8081", "https://:9443"]);
    assert_eq!(kinds(&catalog), ["balancer-port-taken"]);
}

fn passing(unit: Unit, hosts: &[&str]) -> Unit {
    let hosts = hosts.iter().map(|host| entry(host).host).collect();
    with_spec(unit, |spec| spec.passthrough = Some(Passthrough::Hosts(hosts)))
}

fn with_listener(state: &mut Inputs) {
    state.settings = Arc::new(Settings { tls: Some([].into()), ..Settings::default() });
}

#[test]
fn hosts_whose_tls_is_passed_on_are_routes_of_their_own() {
    assert_eq!(route("tls://DB.company.com."), RouteId::tls(HostPattern::Exact("db.company.com".into())));
    assert_eq!(route("tls://*.a.com/").to_string(), "tls://*.a.com");
    assert!("tls://a.com/api".parse::<RouteId>().is_err() && "tls://".parse::<RouteId>().is_err());
    let all = with_spec(unit(2, "web@v1", &["https://a.com", "https://a.com/api", "b.com"]), |spec| {
        spec.passthrough = Some(Passthrough::Routes);
    });
    let mut state = inputs(vec![passing(unit(1, "db@v1", &["plain.com"]), &["db.com", "*.mail.com"]), all]);
    with_listener(&mut state);
    let catalog = build(&state);
    let routes: Vec<_> = catalog.routes.keys().map(ToString::to_string).collect();
    // What is a part of a host cannot be told in TLS: it is served as it was.
    let want = ["a.com/api", "tls://a.com", "b.com/", "tls://db.com", "plain.com/", "tls://*.mail.com"];
    assert_eq!(routes, want);
    assert_eq!(shares(&catalog, "tls://a.com"), [("web@v1".to_owned(), 1.0)]);
    let kinds = kinds(&catalog);
    assert!(
        kinds.contains(&"passthrough-impossible") && kinds.contains(&"passthrough-and-https"),
        "{kinds:?}"
    );
}

#[test]
fn a_passthrough_that_cannot_be_is_told_and_passes_nothing_on() {
    let two_ports = |spec: &mut ServiceSpec| spec.ports.push(PortClaim { port: 81, entries: Vec::new() });
    let asked = |unit: Unit| with_spec(unit, |spec| spec.passthrough = Some(Passthrough::Routes));
    let guarded = |spec: &mut ServiceSpec| {
        let labels =
            [("fairway.auth.basic", "a:$2y$05$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")];
        spec.features = fairway_config::labels::parse(labels).spec.features;
    };
    for (unit, want) in [
        (with_spec(passing(unit(1, "db@v1", &["a.com"]), &["db.com"]), two_ports), "passthrough-impossible"),
        (with_spec(passing(unit(1, "db@v1", &["a.com"]), &["db.com"]), guarded), "passthrough-impossible"),
        (with_spec(asked(unit(1, "db@v1", &["https://a.com"])), guarded), "passthrough-impossible"),
        (asked(unit(1, "db@v1", &["a.com"])), "passthrough-impossible"),
    ] {
        let mut state = inputs(vec![unit]);
        with_listener(&mut state);
        let catalog = build(&state);
        assert!(catalog.routes.keys().all(|id| !id.is_tls()), "{:?}", catalog.routes.keys());
        assert!(catalog.routes.contains_key(&route("a.com/")), "what else it claims is served");
        assert!(kinds(&catalog).contains(&want), "{:?}", catalog.problems);
    }
    let catalog = build(&inputs(vec![passing(unit(1, "db@v1", &["a.com"]), &["db.com"])]));
    assert_eq!(kinds(&catalog), ["no-tls-listener"]);
}

#[test]
fn the_tls_of_a_host_is_not_taken_from_the_project_that_serves_it() {
    let serves = |n| unit(n, "one/web@v1", &["https://shop.com", "shop.com/api"]);
    let takes = |n| passing(unit(n, "two/db@v1", &["other.com"]), &["shop.com", "*.shop.com"]);
    let tls = |catalog: &Catalog| -> Vec<String> {
        catalog.routes.keys().filter(|id| id.is_tls()).map(ToString::to_string).collect()
    };
    let mut state = inputs(vec![serves(1), takes(2)]);
    with_listener(&mut state);
    let first = build(&state);
    assert_eq!(
        tls(&first),
        ["tls://*.shop.com"],
        "exact hosts are above wildcards, so nothing is taken with it"
    );
    let problem = first.problems.iter().find(|p| p.kind == "route-owned-elsewhere").expect("it is told");
    assert!(
        problem.text.contains("project one") && &*problem.key == "fairway.tls.passthrough",
        "{problem:?}"
    );

    // The one that serves it is replaced by a younger container: it stays its.
    set_units(&mut state, vec![takes(2), serves(9)]);
    let second = Catalog::build(&state, &first, at(101));
    assert_eq!(tls(&second), ["tls://*.shop.com"]);

    // Whoever had the TLS first keeps it, also when its container is replaced, and the other one is told.
    let mut state = inputs(vec![takes(1), serves(2)]);
    with_listener(&mut state);
    let third = build(&state);
    assert_eq!(tls(&third), ["tls://shop.com", "tls://*.shop.com"]);
    assert!(kinds(&third).contains(&"passthrough-and-https"), "{:?}", third.problems);
    set_units(&mut state, vec![takes(9), serves(2)]);
    let fourth = Catalog::build(&state, &third, at(101));
    assert_eq!(tls(&fourth), ["tls://shop.com", "tls://*.shop.com"]);
}

fn limit(inputs: &mut Inputs, of: &str, pairs: &[(&str, &str)], then: Option<Arc<LimitsRecord>>) {
    let mut limits = RouteLimits::default();
    for (name, value) in pairs {
        limits.set(name.parse().expect("a limit"), value).expect("a value");
    }
    let expires_at = then.is_some().then(|| at(200));
    let record =
        LimitsRecord { limits, author: "ann".into(), at: at(50), expires_at, reason: "".into(), then };
    Arc::make_mut(&mut inputs.decisions).limits.insert(route(of), Arc::new(record));
}

#[test]
fn limits_of_the_api_are_above_those_of_labels_and_give_way_at_their_end() {
    let labelled = with_spec(unit(1, "web@v1", &["shop"]), |spec| {
        spec.transport.retries = Some(3);
        spec.transport.body_max = Some(10);
        spec.features.rate_limit = RateLimit::parse("1/s").ok();
        spec.features.client_rate_limit = RateLimit::parse("1/m").ok();
    });
    let mut state = inputs(vec![labelled]);
    let shop = route("shop.localhost/");
    let plain = build(&state);
    assert!(Arc::ptr_eq(
        &plain.routes[&shop].members[0].transport,
        &plain.backends[&backend("web@v1")].transport
    ));
    let rates = |catalog: &Catalog| {
        let features = catalog.routes[&shop].features.clone().expect("rates");
        (features.rate_limit, features.client_rate_limit)
    };
    limit(&mut state, "shop.localhost/", &[("timeout.total", "5s")], None);
    let below = state.decisions.limits[&shop].clone();
    let over = [("retries", "0"), ("body_max", "none"), ("rate_limit", "none")];
    limit(&mut state, "shop.localhost/", &over, Some(below));
    let first = Catalog::build(&state, &plain, at(101));
    let transport = |catalog: &Catalog| catalog.routes[&shop].members[0].transport.clone();
    assert_eq!((transport(&first).retries, transport(&first).total_timeout), (Some(0), None));
    assert_eq!(first.routes[&shop].body_max, Some(u64::MAX));
    assert_eq!(rates(&first), (None, RateLimit::parse("1/m").ok()));
    assert_eq!(first.next_expiry, Some(at(200)));
    assert_eq!(first.routes[&shop].etag, plain.routes[&shop].etag, "the etag is the split's");
    let events = crate::event::diff(&plain, &first);
    let told: Vec<_> = events.iter().map(|event| (&*event.kind, &*event.from, &*event.to)).collect();
    assert_eq!(told, [("route-limits", "", "retries=0 body_max=none rate_limit=none")]);

    let second = Catalog::build(&state, &first, at(200));
    assert_eq!(
        (transport(&second).retries, transport(&second).total_timeout),
        (Some(3), Some(Duration::from_secs(5)))
    );
    assert_eq!((second.routes[&shop].body_max, rates(&second)), (Some(10), rates(&plain)));
    assert_eq!(crate::event::diff(&first, &second)[0].to.as_ref(), "timeout.total=5s");
    assert_eq!(second.next_expiry, None);
    Arc::make_mut(&mut state.decisions).limits.clear();
    let third = Catalog::build(&state, &second, at(201));
    assert_eq!(*third.routes[&shop], *plain.routes[&shop]);
}

#[test]
fn an_order_about_limits_touches_its_route_alone_and_keeps_what_says_the_same() {
    let mut state = inputs(vec![unit(1, "web@v1", &["shop", "two"]), unit(2, "other@v1", &["other"])]);
    let plain = build(&state);
    limit(&mut state, "shop.localhost/", &[("timeout.total", "5s")], None);
    let first = Catalog::build(&state, &plain, at(101));
    let kept = |a: &Catalog, b: &Catalog, of: &str| Arc::ptr_eq(&a.routes[&route(of)], &b.routes[&route(of)]);
    assert!(!kept(&plain, &first, "shop.localhost/"));
    assert!(kept(&plain, &first, "two.localhost/") && kept(&plain, &first, "other.localhost/"));
    limit(&mut state, "shop.localhost/", &[("timeout.total", "5s"), ("rate_limit", "1/s")], None);
    let second = Catalog::build(&state, &first, at(102));
    let transport = |catalog: &Catalog, of: &str| catalog.routes[&route(of)].members[0].transport.clone();
    assert!(Arc::ptr_eq(&transport(&first, "shop.localhost/"), &transport(&second, "shop.localhost/")));

    // How much an instance may have is the same in all its routes: the lowest that is ordered.
    limit(&mut state, "shop.localhost/", &[("in_flight_max", "5")], None);
    let third = Catalog::build(&state, &second, at(103));
    assert_eq!(transport(&third, "two.localhost/").in_flight_max, Some(5));
    assert!(kept(&second, &third, "other.localhost/"));
    limit(&mut state, "two.localhost/", &[("in_flight_max", "2")], None);
    let fourth = Catalog::build(&state, &third, at(104));
    assert_eq!(transport(&fourth, "shop.localhost/").in_flight_max, Some(2));
    Arc::make_mut(&mut state.decisions).limits.clear();
    let fifth = Catalog::build(&state, &fourth, at(105));
    assert_eq!(*fifth.routes[&route("two.localhost/")], *plain.routes[&route("two.localhost/")]);
    assert_eq!(*fifth.routes[&route("shop.localhost/")], *plain.routes[&route("shop.localhost/")]);
}
