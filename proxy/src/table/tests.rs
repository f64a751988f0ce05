use std::sync::Arc;

use fairway_catalog::{Catalog, Condition, State};
use fairway_config::names::{HostPattern, RouteId};
use proptest::prelude::*;

use super::fixture::*;
use super::path_match::covers;
use super::{Find, RouteTable};
use crate::request::{FieldList, RequestView};

/// What a request leads to, in words.
fn found(table: &RouteTable, request: &RequestView<'_>) -> String {
    match table.find(request) {
        Find::Route(entry) => entry.name.to_string(),
        Find::RedirectToHttps(entry) => format!("https {}", entry.name),
        Find::Disguised(entry) => format!("disguised {}", entry.name),
        Find::Unknown => "unknown".to_owned(),
        Find::NotSettled => "not settled".to_owned(),
    }
}

/// An internal client on TLS may go everywhere.
fn asked(host: &str, path: &str, table: &RouteTable) -> String {
    let fields = FieldList::default();
    found(table, &RequestView { internal: true, secure: true, ..request(host, path, &fields) })
}

fn table_of(routes: &[&str]) -> RouteTable {
    let mut catalog = catalog();
    routes.iter().for_each(|route| put(&mut catalog, route, &[version("v1", &[READY])]));
    RouteTable::build(&catalog, &lasting(), None)
}

#[test]
fn the_most_specific_host_wins_and_then_the_longest_path() {
    let table = table_of(&[
        "shop.test/",
        "shop.test/api",
        "shop.test/api/v1",
        "*.test.org/",
        "*.deep.test.org/",
        "*.deep.test.org/api",
        "one.deep.test.org/x",
    ]);
    for (host, path, want) in [
        ("shop.test", "/", "shop.test/"),
        ("shop.test", "/api", "shop.test/api"),
        ("shop.test", "/api/v1/x", "shop.test/api/v1"),
        ("shop.test", "/api/v10", "shop.test/api"),
        ("shop.test", "/apix", "shop.test/"),
        ("test.org", "/", "unknown"),
        ("a.test.org", "/", "*.test.org/"),
        ("a.b.c.test.org", "/", "*.test.org/"),
        ("deep.test.org", "/", "*.test.org/"),
        ("a.deep.test.org", "/api", "*.deep.test.org/api"),
        ("one.deep.test.org", "/x/y", "one.deep.test.org/x"),
        ("one.deep.test.org", "/api", "*.deep.test.org/api"),
        ("atest.org", "/", "unknown"),
        (".test.org", "/", "*.test.org/"),
        ("", "/", "unknown"),
        ("nowhere.test", "/", "unknown"),
    ] {
        assert_eq!(asked(host, path, &table), want, "{host}{path}");
    }
}

#[test]
fn a_local_host_answers_in_every_zone_unless_the_name_is_claimed() {
    let mut catalog = catalog();
    catalog.settings = zones(&["local", "internal", "corp.example"]);
    for route in ["a.local/", "a.local/api", "a.internal/api", "*.b.local/", "c.internal/"] {
        put(&mut catalog, route, &[version("v1", &[READY])]);
    }
    let table = RouteTable::build(&catalog, &lasting(), None);
    for (host, path, want) in [
        ("a.local", "/api", "a.local/api"),
        ("a.internal", "/api", "a.internal/api"),
        ("a.internal", "/", "a.local/"),
        ("a.corp.example", "/api/x", "a.local/api"),
        ("x.b.internal", "/", "*.b.local/"),
        ("c.internal", "/", "c.internal/"),
        ("c.local", "/", "unknown"),
        ("a.example", "/", "unknown"),
    ] {
        assert_eq!(asked(host, path, &table), want, "{host}{path}");
    }
}

#[test]
fn internal_names_do_not_exist_for_external_clients() {
    let mut catalog = catalog();
    catalog.settings = zones(&["local", "internal", "corp.example"]);
    for route in ["a.local/", "x.internal/", "*.example/", "in.corp.example/", "notlocal/", "public.example/"]
    {
        put(&mut catalog, route, &[version("v1", &[READY])]);
    }
    let table = RouteTable::build(&catalog, &lasting(), None);
    let fields = FieldList::default();
    for (host, external, internal) in [
        ("a.local", "unknown", "a.local/"),
        ("a.internal", "unknown", "a.local/"),
        ("x.internal", "unknown", "x.internal/"),
        ("in.corp.example", "unknown", "in.corp.example/"),
        ("other.corp.example", "unknown", "*.example/"),
        ("xcorp.example", "*.example/", "*.example/"),
        ("public.example", "public.example/", "public.example/"),
        ("notlocal", "notlocal/", "notlocal/"),
    ] {
        let outside = request(host, "/", &fields);
        assert_eq!(found(&table, &outside), external, "{host} from outside");
        assert_eq!(found(&table, &RequestView { internal: true, ..outside }), internal, "{host} from inside");
    }
}

#[test]
fn a_route_for_tls_redirects_plain_clients_to_https() {
    let mut catalog = catalog();
    put_route(&mut catalog, "shop.test/", &[version("v1", &[READY])], |route| route.secure = true);
    let table = RouteTable::build(&catalog, &lasting(), None);
    let fields = FieldList::default();
    let plain = request("shop.test", "/", &fields);
    assert_eq!(found(&table, &plain), "https shop.test/");
    assert_eq!(found(&table, &RequestView { secure: true, ..plain }), "shop.test/");
}

#[test]
fn until_the_sources_are_listed_an_unknown_host_may_still_come() {
    let mut catalog = catalog();
    catalog.settled = false;
    put(&mut catalog, "shop.test/", &[version("v1", &[READY])]);
    let table = RouteTable::build(&catalog, &lasting(), None);
    assert_eq!(asked("other.test", "/", &table), "not settled");
    assert_eq!(asked("shop.test", "/", &table), "shop.test/");
}

#[test]
fn a_health_flip_makes_one_entry_anew_and_keeps_everything_else() {
    let (mut catalog, lasting) = (catalog(), lasting());
    for route in ["a.test/", "b.test/", "c.test/"] {
        put(&mut catalog, route, &[version("v1", &[READY, READY])]);
    }
    let before = RouteTable::build(&catalog, &lasting, None);
    put(&mut catalog, "b.test/", &[version("v1", &[READY, UNHEALTHY])]);
    let after = RouteTable::build(&catalog, &lasting, Some(&before));
    assert!(after.keeps_matcher_of(&before));
    let kept = |n: usize| Arc::ptr_eq(&before.entries()[n], &after.entries()[n]);
    assert_eq!([kept(0), kept(1), kept(2)], [true, false, true]);
    let state = |table: &RouteTable, n: usize| table.entries()[1].versions()[0].endpoints()[n].state.uid;
    assert_eq!(state(&before, 0), state(&after, 0), "its numbers live on");
    assert_eq!(after.entries()[1].versions()[0].serving().len(), 1);
    let same = |a: &RouteTable, b: &RouteTable| Arc::ptr_eq(&a.entries()[1].series, &b.entries()[1].series);
    assert!(same(&before, &after), "its counters live on");
}

#[test]
fn an_instance_that_leaves_is_retired_with_its_connections_and_comes_back_as_another() {
    let (mut catalog, lasting) = (catalog(), lasting());
    put(&mut catalog, "a.test/", &[version("v1", &[READY, READY])]);
    let first = RouteTable::build(&catalog, &lasting, None);
    let states: Vec<_> = first.entries()[0].endpoints().map(|endpoint| endpoint.state.clone()).collect();
    put(&mut catalog, "a.test/", &[version("v1", &[READY])]);
    let second = RouteTable::build(&catalog, &lasting, Some(&first));
    assert_eq!(states.iter().map(|state| state.is_retired()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(lasting.states.len(), 1);
    put(&mut catalog, "a.test/", &[version("v1", &[READY, READY])]);
    let third = RouteTable::build(&catalog, &lasting, Some(&second));
    let uids: Vec<_> = third.entries()[0].endpoints().map(|endpoint| endpoint.state.uid).collect();
    assert!(uids.contains(&states[0].uid) && !uids.contains(&states[1].uid));
    remove(&mut catalog, "a.test/");
    RouteTable::build(&catalog, &lasting, Some(&third));
    assert!(lasting.states.is_empty() && states[0].is_retired());
}

#[test]
fn an_instance_that_was_told_to_stop_says_so_until_it_is_active_again_and_workers_are_told() {
    let (mut catalog, lasting) = (catalog(), lasting());
    let mut build = |is| {
        put(&mut catalog, "a.test/", &[version("v1", &[READY, is])]);
        let table = RouteTable::build(&catalog, &lasting, None);
        let states = table.entries()[0].endpoints().map(|endpoint| endpoint.state.is_stopping());
        states.filter(|stops| *stops).count()
    };
    assert_eq!(build(READY), 0);
    let mut told = lasting.states.stops();
    assert_eq!(build(STOPPING), 1);
    assert!(told.has_changed().expect("the states live"));
    told.mark_unchanged();
    assert_eq!(build(STOPPING), 1);
    assert_eq!(build(READY), 0);
    assert!(!told.has_changed().expect("the states live"), "once for each stop");
}

#[test]
fn an_instance_that_only_fails_its_probe_keeps_its_state() {
    let (mut catalog, lasting) = (catalog(), lasting());
    put(&mut catalog, "a.test/", &[version("v1", &[READY])]);
    let first = RouteTable::build(&catalog, &lasting, None);
    let state = first.entries()[0].versions()[0].endpoints()[0].state.clone();
    for is in [UNHEALTHY, STOPPING, DISABLED] {
        put(&mut catalog, "a.test/", &[version("v1", &[is])]);
        let next = RouteTable::build(&catalog, &lasting, Some(&first));
        assert_eq!(next.entries()[0].versions()[0].endpoints()[0].state.uid, state.uid);
        assert!(!state.is_retired());
    }
}

/// Hosts and paths from so few parts that they meet often.
fn route_name() -> impl Strategy<Value = String> {
    let label = prop_oneof![Just("a"), Just("b"), Just("ab")];
    let host = proptest::collection::vec(label, 1..4).prop_map(|labels| labels.join("."));
    let top = prop_oneof![Just("test.org"), Just("local"), Just("internal"), Just("corp.local")];
    (any::<bool>(), host, top, "(/[ab]{1,2}){0,3}").prop_map(|(wild, host, top, path)| {
        format!("{}{host}.{top}{}", if wild { "*." } else { "" }, if path.is_empty() { "/" } else { &path })
    })
}

fn asked_for() -> impl Strategy<Value = (String, String)> {
    (route_name(), "(/[ab]{0,2}){1,4}").prop_map(|(route, path)| {
        let host = route.split('/').next().unwrap_or_default().replace('*', "b");
        (host, path)
    })
}

/// Every route looked at, nothing clever: the one that covers and is the most specific, an alias only where no route has
/// that name itself.
fn reference<'a>(routes: &'a [RouteId], zones: &[&str], host: &str, path: &str) -> Option<&'a RouteId> {
    let mut named: Vec<(RouteId, &RouteId)> = routes.iter().map(|route| (route.clone(), route)).collect();
    for route in routes.iter().filter(|route| route.host.is_local()) {
        for zone in zones.iter().filter(|zone| **zone != "local") {
            let text = route.to_string();
            let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
            let alias = format!("{}{zone}{path}", host.strip_suffix("local").expect("it is local"));
            let alias: RouteId = alias.parse().expect("a route");
            if !routes.contains(&alias) {
                named.push((alias, route));
            }
        }
    }
    let fits = |host_pattern: &HostPattern| match host_pattern {
        HostPattern::Exact(name) => **name == *host,
        HostPattern::Wildcard(name) => host.ends_with(&format!(".{name}")),
    };
    let covering = named.iter().filter(|(name, _)| fits(&name.host) && covers(&name.path, path));
    let specific = |name: &RouteId| {
        (matches!(name.host, HostPattern::Exact(_)), name.host.name().len(), name.path.len())
    };
    covering.max_by_key(|(name, _)| specific(name)).map(|(_, route)| *route)
}

/// One change of a cluster.
#[derive(Debug, Clone)]
enum Change {
    Put(String, Vec<Is>, Option<u16>),
    Remove(String),
    Zones(bool),
}

fn change() -> impl Strategy<Value = Change> {
    let name = prop_oneof![
        Just("a.test/"),
        Just("a.test/x"),
        Just("*.test/"),
        Just("a.local/"),
        Just("b.internal/x")
    ];
    let is = prop_oneof![Just(READY), Just(UNHEALTHY), Just(STOPPING), Just(DRAINING)];
    let instances = proptest::collection::vec(is, 0..4);
    prop_oneof![
        6 => (name.clone(), instances, proptest::option::of(0u16..5))
            .prop_map(|(name, is, weight)| Change::Put(name.to_owned(), is, weight)),
        2 => name.prop_map(|name| Change::Remove(name.to_owned())),
        1 => any::<bool>().prop_map(Change::Zones),
    ]
}

impl Change {
    fn apply(&self, catalog: &mut Catalog) {
        match self {
            Self::Put(name, instances, weight) => {
                let version = version("v1", instances);
                put(catalog, name, &[weight.map_or(version.clone(), |weight| version.weight(weight))]);
            }
            Self::Remove(name) => remove(catalog, name),
            Self::Zones(more) => {
                catalog.settings = zones(if *more { &["local", "internal"] } else { &["local"] });
            }
        }
    }
}

/// Everything of a table that requests can tell.
fn picture(table: &RouteTable) -> String {
    let entries: Vec<_> = table
        .entries()
        .iter()
        .map(|entry| {
            let versions: Vec<_> = entry
                .versions()
                .iter()
                .map(|v| (&v.name, v.weight, ids(v.serving()), ids(v.stopping())))
                .collect();
            format!("{} {:?} {versions:?}", entry.name, entry.lots)
        })
        .collect();
    let hosts = ["a.test", "b.test", "a.local", "a.internal", "b.internal"];
    let asks = hosts.iter().flat_map(|host| ["/", "/x", "/x/y"].map(|path| asked(host, path, table)));
    format!("{entries:#?} {:?}", asks.collect::<Vec<_>>())
}

fn ids(endpoints: &[Arc<crate::endpoint::Endpoint>]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.key.id.to_string()).collect()
}

proptest! {
    #[test]
    fn the_table_finds_what_a_look_at_every_route_finds(
        names in proptest::collection::btree_set(route_name(), 0..12),
        asks in proptest::collection::vec(asked_for(), 16),
    ) {
        let zone_names = ["local", "internal", "corp.local"];
        let mut catalog = catalog();
        catalog.settings = zones(&zone_names);
        names.iter().for_each(|name| put(&mut catalog, name, &[version("v1", &[READY])]));
        let table = RouteTable::build(&catalog, &lasting(), None);
        let routes: Vec<RouteId> = catalog.routes.keys().cloned().collect();
        for (host, path) in asks {
            let want = reference(&routes, &zone_names, &host, &path);
            let want = want.map_or_else(|| "unknown".to_owned(), ToString::to_string);
            prop_assert_eq!(asked(&host, &path, &table), want, "{}{}", host, path);
        }
    }

    #[test]
    fn a_table_made_from_the_one_before_equals_one_made_from_nothing(
        changes in proptest::collection::vec(change(), 1..20),
    ) {
        let (mut catalog, lasting) = (catalog(), lasting());
        let mut table = RouteTable::build(&catalog, &lasting, None);
        for change in changes {
            change.apply(&mut catalog);
            table = RouteTable::build(&catalog, &lasting, Some(&table));
            let whole = RouteTable::build(&catalog, &super::fixture::lasting(), None);
            prop_assert_eq!(picture(&table), picture(&whole));
            let keys: std::collections::HashSet<_> =
                table.entries().iter().flat_map(|entry| entry.endpoints()).map(|endpoint| &endpoint.key).collect();
            prop_assert_eq!(lasting.states.len(), keys.len(), "no state is kept for nobody");
        }
    }
}

#[test]
fn draining_and_disabled_instances_are_neither_serving_nor_stopping() {
    let stopping_but_drained = (State::Draining, Condition::Stopping, 1);
    let entry = entry(&[version("v1", &[DRAINING, DISABLED, stopping_but_drained])]);
    assert_eq!(entry.versions()[0].endpoints().len(), 3);
    assert!(entry.versions()[0].serving().is_empty() && entry.versions()[0].stopping().is_empty());
}

#[test]
fn the_most_specific_host_decides_whether_tls_is_passed_on() {
    let mut catalog = catalog();
    catalog.settings = zones(&["local", "internal"]);
    for route in
        ["tls://db.a.com", "tls://*.b.com", "web.b.com/api", "*.x.b.com/", "tls://y.x.b.com", "*.a.com/"]
    {
        put(&mut catalog, route, &[version("v1", &[READY])]);
    }
    put(&mut catalog, "tls://in.local", &[version("v1", &[READY])]);
    let table = RouteTable::build(&catalog, &lasting(), None);
    assert!(table.passes_tls());
    let found = |host: &str, internal| table.find_tls(host, internal).map_or("served", |entry| &entry.name);
    for (host, want) in [
        ("db.a.com", "tls://db.a.com"),
        ("web.a.com", "served"),
        ("a.com", "served"),
        ("z.b.com", "tls://*.b.com"),
        ("z.z.b.com", "tls://*.b.com"),
        ("b.com", "served"),
        ("web.b.com", "served"),
        ("z.x.b.com", "served"),
        ("y.x.b.com", "tls://y.x.b.com"),
        ("in.local", "tls://in.local"),
        ("in.internal", "tls://in.local"),
        ("", "served"),
        ("tls:", "served"),
    ] {
        assert_eq!(found(host, true), want, "{host}");
    }
    assert_eq!(found("in.local", false), "served", "such names do not exist for others");
    for (host, path, want) in
        [("db.a.com", "/", "*.a.com/"), ("z.b.com", "/", "unknown"), ("in.local", "/", "unknown")]
    {
        assert_eq!(asked(host, path, &table), want, "a request of {host}");
    }
    put(&mut catalog, "plain.test/", &[version("v1", &[READY])]);
    catalog.routes.retain(|id, _| !id.is_tls());
    assert!(!RouteTable::build(&catalog, &lasting(), Some(&table)).passes_tls());
}

#[test]
fn a_path_in_disguise_does_not_lead_past_a_guard() {
    let guard = |route: &mut fairway_catalog::Route| {
        let asked = fairway_config::labels::parse([("fairway.allow", "10.0.0.0/8")]).spec.features;
        route.features = Some(asked.into());
    };
    let mut catalog = catalog();
    put(&mut catalog, "a.test/", &[version("v1", &[READY])]);
    put_route(&mut catalog, "a.test/admin", &[version("v1", &[READY])], guard);
    put(&mut catalog, "a.test/api", &[version("v1", &[READY])]);
    put_route(&mut catalog, "b.test/", &[version("v1", &[READY])], guard);
    put(&mut catalog, "b.test/public", &[version("v1", &[READY])]);
    let lasting = lasting();
    let table = RouteTable::build(&catalog, &lasting, None);
    let found = |table: &RouteTable, host: &str, path: &str| asked(host, path, table);
    for (host, path, want) in [
        ("a.test", "/x", "a.test/"),
        ("a.test", "/admin/x", "a.test/admin"),
        ("a.test", "/adminx", "a.test/"),
        ("a.test", "/%61dmin/x", "disguised a.test/"),
        ("a.test", "//admin", "disguised a.test/"),
        ("a.test", "/admin;x", "disguised a.test/"),
        ("a.test", "/admin%2fx", "disguised a.test/"),
        ("a.test", "/%61pi", "a.test/"),
        ("a.test", "/admin/%61", "a.test/admin"),
        ("a.test", "/caf%C3%A9", "a.test/"),
        ("b.test", "/%61dmin", "b.test/"),
        ("b.test", "/public/x", "b.test/public"),
        ("b.test", "/public/x%2f..%2f..%2fadmin", "disguised b.test/public"),
        ("b.test", "/public/a%2f..%2fb", "b.test/public"),
        ("b.test", "/public%2f..%2fadmin", "b.test/"),
    ] {
        assert_eq!(found(&table, host, path), want, "{host}{path}");
    }
    let same = RouteTable::build(&catalog, &lasting, Some(&table));
    assert_eq!(found(&same, "a.test", "/%61dmin"), "disguised a.test/", "the next table knows it, too");
    put(&mut catalog, "a.test/admin", &[version("v1", &[READY])]);
    put(&mut catalog, "b.test/", &[version("v1", &[READY])]);
    let open = RouteTable::build(&catalog, &lasting, Some(&same));
    assert_eq!(found(&open, "a.test", "/%61dmin"), "a.test/");
}
