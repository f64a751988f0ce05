//! Which names there are, what they lead to, and for whom.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fairway_catalog::config::file::Advertise;
use fairway_catalog::facts::{DockerHealth, Lifecycle};
use fairway_catalog::{Catalog, Condition, Ejection, State};
use fastrand::Rng;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, RecordType};

use super::*;
use crate::testkit::{
    Cluster, addresses, ask, ask_from, at, config, container, ip, shown, static_instance, ttl,
};

const WEB: &[(&str, &str)] = &[("aliyun.routing.port_80", "web.local;shop.company.com")];
const PLAIN: &[(&str, &str)] = &[("fairway.enable", "true")];
const PROBED: &[(&str, &str)] =
    &[("aliyun.routing.port_80", "web.local"), ("aliyun.probe.url", "http://container/")];

/// A shop with two versions of `web` and a `db`, and another project with a `db` of its own.
fn shop() -> Cluster {
    Cluster::of(vec![
        container(11, "shop_web_1", "shop/web@v1", WEB),
        container(12, "shop_web_2", "shop/web@v1", WEB),
        container(13, "shop_web_3", "shop/web@v2.1", WEB),
        container(14, "shop_db_1", "shop/db@15", PLAIN),
        container(21, "blog_db_1", "blog/db@16", PLAIN),
    ])
}

#[test]
fn a_name_whose_tls_is_passed_on_is_the_proxy_and_offers_no_http() {
    let passed = [("fairway.tls.passthrough", "db.data.local")];
    let cluster = Cluster::of(vec![static_instance("shop/db@v1", "10.9.0.7:8443", &passed)]);
    let zone = cluster.zone();
    for name in ["db.data.local.", "db.data.internal."] {
        assert_eq!(addresses(&zone, name), ["172.20.0.1"], "{name}");
    }
    assert_eq!(shown(ask(&zone, "_http._tcp.db.shop.local.", RecordType::SRV)), ["NXDomain"]);
    assert!(shown(ask(&zone, "_8443._tcp.db.shop.local.", RecordType::SRV))[0].starts_with("0 100 8443 "));
}

#[test]
fn every_name_exists_in_every_zone_and_whatever_its_case() {
    let zone = shop().zone();
    for name in ["shop-web-1.local.", "shop-web-1.internal.", "Shop-WEB-1.Local."] {
        assert_eq!(addresses(&zone, name), ["172.20.0.11"], "{name}");
    }
    assert_eq!(addresses(&zone, "shop-web-1.example."), ["not ours"]);
}

#[test]
fn a_routed_name_is_the_proxy_and_the_others_are_ready_instances() {
    let zone = shop().zone();
    for (name, want) in [
        ("web.local.", vec!["172.20.0.1"]),
        ("web.internal.", vec!["172.20.0.1"]),
        ("web.shop.local.", vec!["172.20.0.11", "172.20.0.12", "172.20.0.13"]),
        ("v1.web.shop.local.", vec!["172.20.0.11", "172.20.0.12"]),
        ("v2-1.web.shop.internal.", vec!["172.20.0.13"]),
        ("db.shop.local.", vec!["172.20.0.14"]),
        ("db.blog.local.", vec!["172.20.0.21"]),
        ("blog-db-1.local.", vec!["172.20.0.21"]),
    ] {
        assert_eq!(addresses(&zone, name), want, "{name}");
    }
}

#[test]
fn a_host_outside_our_zones_is_not_ours() {
    assert_eq!(addresses(&shop().zone(), "shop.company.com."), ["not ours"]);
    let mut zones = config();
    zones.zones.push("company.com".into());
    let zone = shop().zone_with(zones);
    // Under one of our zones it counts in every zone.
    for name in ["shop.company.com.", "shop.local.", "web.company.com."] {
        assert_eq!(addresses(&zone, name), ["172.20.0.1"], "{name}");
    }
}

#[test]
fn a_service_of_two_projects_is_for_the_clients_of_each() {
    let zone = shop().zone();
    let db = |client: &str| shown(ask_from(&zone, client, "db.local.", RecordType::A));
    assert_eq!(db("172.20.0.11"), ["172.20.0.14"]);
    assert_eq!(db("172.20.0.21"), ["172.20.0.21"]);
    assert_eq!(db("172.20.0.99"), ["NXDomain"]);
}

#[test]
fn an_address_that_units_of_two_projects_share_tells_no_project() {
    let mut cluster = shop();
    let on_host = |n, name: &str, of: &str| {
        let mut unit = container(n, name, of, PLAIN);
        unit.ip = Some(ip("192.0.2.1"));
        unit.network = "".into();
        unit
    };
    cluster.set(on_host(31, "h1", "shop/agent@1"));
    cluster.set(on_host(32, "h2", "blog/other@1"));
    let zone = cluster.zone();
    assert_eq!(shown(ask_from(&zone, "192.0.2.1", "db.local.", RecordType::A)), ["NXDomain"]);
    assert_eq!(addresses(&zone, "agent.local."), ["192.0.2.1"]);
}

#[test]
fn a_service_without_a_project_has_its_version_below_its_name() {
    let cluster = Cluster::of(vec![static_instance("legacy@static", "10.0.0.7:8080", PLAIN)]);
    let zone = cluster.zone();
    assert_eq!(addresses(&zone, "legacy.local."), ["10.0.0.7"]);
    assert_eq!(addresses(&zone, "static.legacy.local."), ["10.0.0.7"]);
    assert_eq!(shown(ask(&zone, "7.0.0.10.in-addr.arpa.", RecordType::PTR)), ["legacy.local."]);
}

#[test]
fn wildcards_cover_one_or_more_labels_but_no_name_of_its_own() {
    let cluster = Cluster::of(vec![
        container(11, "t1", "saas/tenant@1", &[("aliyun.routing.port_80", "*.t.local")]),
        container(12, "t2", "t/db@1", PLAIN),
    ]);
    let zone = cluster.zone();
    for (name, want) in [
        ("a.t.local.", "172.20.0.1"),
        ("b.a.t.internal.", "172.20.0.1"),
        ("t.local.", "no data"),
        ("db.t.local.", "172.20.0.12"),
        ("1.db.t.local.", "172.20.0.12"),
        ("x.local.", "NXDomain"),
    ] {
        assert_eq!(addresses(&zone, name), [want], "{name}");
    }
    assert_eq!(shown(ask(&zone, "_http._tcp.a.t.local.", RecordType::SRV)), ["0 100 80 t1.local."]);
}

#[test]
fn unknown_names_names_between_and_other_types_are_told_apart() {
    let zone = shop().zone();
    for (name, kind, want) in [
        ("nothing.local.", RecordType::A, "NXDomain"),
        ("shop.local.", RecordType::A, "no data"), // `web.shop` is below it
        ("web.local.", RecordType::AAAA, "no data"),
        ("db.shop.local.", RecordType::MX, "no data"),
        ("_tcp.web.shop.local.", RecordType::SRV, "no data"),
        ("_tcp.db.shop.local.", RecordType::SRV, "NXDomain"),
        ("_http._tcp.web.shop.local.", RecordType::A, "no data"),
        ("_443._tcp.web.shop.local.", RecordType::SRV, "NXDomain"),
        ("_http._udp.web.shop.local.", RecordType::SRV, "NXDomain"),
        ("local.", RecordType::A, "no data"),
        ("dns.local.", RecordType::A, "no data"),
    ] {
        assert_eq!(shown(ask(&zone, name, kind)), [want], "{name} {kind}");
    }
    let answer = ask(&zone, "nothing.local.", RecordType::A).expect("ours");
    assert_eq!((ttl(&answer.authorities), answer.authorities[0].name.to_string()), (1, "local.".to_owned()));
}

#[test]
fn a_service_that_only_some_see_still_exists_when_others_are_below_it() {
    let mut cluster = shop();
    cluster.set(container(31, "x", "db/web@1", PLAIN));
    // Now `web.db` is below `db`.
    assert_eq!(addresses(&cluster.zone(), "db.local."), ["no data"]);
}

#[test]
fn before_the_sources_are_listed_an_unknown_name_is_a_failure_of_ours() {
    let mut cluster = shop();
    let unlisted = fairway_catalog::SourceFacts::default();
    cluster.inputs.sources.insert(fairway_catalog::SourceId::File, unlisted.into());
    cluster.inputs.settings =
        fairway_catalog::Settings { process_started: at(99), ..Default::default() }.into();
    let zone = cluster.zone();
    assert_eq!(addresses(&zone, "nothing.local."), ["ServFail"]);
    assert_eq!(addresses(&zone, "db.shop.local."), ["172.20.0.14"]);
}

#[test]
fn the_apex_has_soa_and_ns_with_the_address_asked() {
    let zone = shop().zone();
    let soa = shown(ask(&zone, "internal.", RecordType::SOA));
    assert_eq!(soa.len(), 1);
    assert!(soa[0].starts_with("ns.dns.internal. hostmaster.internal. 8 "), "{soa:?}");
    let ns = ask(&zone, "local.", RecordType::NS).expect("ours");
    assert_eq!(ns.answers[0].data.to_string(), "ns.dns.local.");
    assert_eq!(ns.additionals[0].data.to_string(), "172.20.0.1");
    assert_eq!(addresses(&zone, "ns.dns.local."), ["172.20.0.1"]);
}

#[test]
fn an_unhealthy_or_pending_instance_leaves_the_answer_but_its_name_stays() {
    let mut cluster = Cluster::of(vec![
        container(11, "a", "shop/web@v1", PROBED),
        container(12, "b", "shop/web@v1", PROBED),
        container(13, "c", "shop/web@v1", PROBED),
    ]);
    assert_eq!(addresses(&cluster.zone(), "web.shop.local."), ["no data"]);
    cluster.verdict("a", Condition::Ready);
    cluster.verdict("b", Condition::Unhealthy);
    let zone = cluster.zone();
    assert_eq!(addresses(&zone, "web.shop.local."), ["172.20.0.11"]);
    assert_eq!(addresses(&zone, "b.local."), ["no data"]);
    assert_eq!(addresses(&zone, "c.local."), ["no data"]);
}

#[test]
fn a_stopping_or_draining_instance_is_in_an_answer_only_as_the_last() {
    let stopping = Lifecycle::Stopping { since: at(95), timeout: std::time::Duration::from_secs(10) };
    let mut cluster = shop();
    let before = ask(&cluster.zone(), "v1.web.shop.local.", RecordType::A).expect("ours");
    assert_eq!(ttl(&before.answers), 5);

    cluster.change("shop_web_1", |unit| unit.lifecycle = stopping);
    let one_left = ask(&cluster.zone(), "v1.web.shop.local.", RecordType::A);
    assert_eq!(ttl(&one_left.clone().expect("ours").answers), 1);
    assert_eq!(shown(one_left), ["172.20.0.12"]);

    cluster.state("0c0c0c0c0c0c:80", State::Draining);
    assert_eq!(addresses(&cluster.zone(), "v1.web.shop.local."), ["172.20.0.11", "172.20.0.12"]);
    assert_eq!(addresses(&cluster.zone(), "web.shop.local."), ["172.20.0.13"]);

    cluster.state("0c0c0c0c0c0c:80", State::Disabled);
    assert_eq!(addresses(&cluster.zone(), "v1.web.shop.local."), ["172.20.0.11"]);
    assert_eq!(addresses(&cluster.zone(), "shop-web-2.local."), ["no data"]);
}

#[test]
fn an_ejected_instance_is_in_an_answer_only_as_the_last() {
    let mut cluster = shop();
    let eject = |cluster: &mut Cluster, ids: &[&str]| {
        let catalog = cluster.catalog();
        let out = ids.iter().map(|id| {
            let instance = catalog.instances.values().find(|instance| instance.id.as_str() == *id);
            let key = instance.and_then(|instance| instance.key()).expect("it has an address");
            let (since, until, reason) = (at(90), at(120), "it failed".into());
            (key, Ejection { since, until, until_probed: false, reason })
        });
        cluster.inputs.ejections = Arc::new(out.collect());
    };
    eject(&mut cluster, &["0b0b0b0b0b0b:80"]);
    assert_eq!(addresses(&cluster.zone(), "v1.web.shop.local."), ["172.20.0.12"]);
    eject(&mut cluster, &["0b0b0b0b0b0b:80", "0c0c0c0c0c0c:80"]);
    assert_eq!(addresses(&cluster.zone(), "v1.web.shop.local."), ["172.20.0.11", "172.20.0.12"]);
}

#[test]
fn a_container_without_a_port_has_names_while_it_runs_and_is_healthy() {
    let mut cluster = Cluster::of(vec![container(11, "job", "shop/job@1", PLAIN)]);
    assert_eq!(addresses(&cluster.zone(), "job.shop.local."), ["172.20.0.11"]);
    cluster.change("job", |unit| unit.docker_health = Some(DockerHealth::Unhealthy));
    assert_eq!(addresses(&cluster.zone(), "job.shop.local."), ["no data"]);
    cluster.change("job", |unit| {
        unit.docker_health = None;
        unit.lifecycle = Lifecycle::Paused;
    });
    assert_eq!(addresses(&cluster.zone(), "job.shop.local."), ["no data"]);
}

#[test]
fn ipv6_addresses_are_aaaa_records() {
    let mut cluster = shop();
    cluster.change("shop_db_1", |unit| unit.ip = Some(ip("fd00:20::e")));
    let zone = cluster.zone();
    assert_eq!(shown(ask(&zone, "db.shop.local.", RecordType::AAAA)), ["fd00:20::e"]);
    assert_eq!(addresses(&zone, "db.shop.local."), ["no data"]);
    let reverse = format!("{}0.2.0.0.0.0.d.f.ip6.arpa.", "e.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.");
    assert_eq!(shown(ask(&zone, &reverse, RecordType::PTR)), ["shop-db-1.local."]);
}

#[test]
fn published_addresses_have_names_and_others_are_not_ours() {
    let zone = shop().zone();
    let ptr = |name: &str, kind| shown(ask(&zone, name, kind));
    assert_eq!(ptr("11.0.20.172.in-addr.arpa.", RecordType::PTR), ["shop-web-1.local."]);
    assert_eq!(ptr("11.0.20.172.IN-ADDR.ARPA.", RecordType::A), ["no data"]);
    assert_eq!(ptr("1.0.20.172.in-addr.arpa.", RecordType::PTR), ["ns.dns.local."]);
    for not_ours in
        ["77.0.20.172.in-addr.arpa.", "0.20.172.in-addr.arpa.", "011.0.20.172.in-addr.arpa.", "arpa."]
    {
        assert_eq!(ptr(not_ours, RecordType::PTR), ["not ours"], "{not_ours}");
    }
}

#[test]
fn services_tell_port_and_the_splits_weights() {
    let mut cluster = shop();
    cluster.split("web.local/", &[("shop/web@v1", 90), ("shop/web@v2.1", 10)]);
    let zone = cluster.zone();
    let v1_each_half =
        ["0 10 80 shop-web-3.local.", "0 45 80 shop-web-1.local.", "0 45 80 shop-web-2.local."];
    for name in ["_http._tcp.web.shop.local.", "_80._tcp.web.shop.local.", "_http._tcp.web.local."] {
        assert_eq!(shown(ask(&zone, name, RecordType::SRV)), v1_each_half, "{name}");
    }
    let answer = ask(&zone, "_80._tcp.v2-1.web.shop.internal.", RecordType::SRV).expect("ours");
    assert_eq!(answer.answers[0].data.to_string(), "0 100 80 shop-web-3.internal.");
    assert_eq!(answer.additionals[0].data.to_string(), "172.20.0.13");
}

#[test]
fn a_written_zero_is_in_no_service_answer_and_an_unnamed_backend_only_as_the_last() {
    let mut cluster = shop();
    let srv = |cluster: &Cluster| shown(ask(&cluster.zone(), "_http._tcp.web.local.", RecordType::SRV));
    cluster.split("web.local/", &[("shop/web@v1", 0), ("shop/web@v2.1", 10)]);
    assert_eq!(srv(&cluster), ["0 10 80 shop-web-3.local."]);
    cluster.change("shop_web_3", |unit| unit.lifecycle = Lifecycle::Paused);
    assert_eq!(srv(&cluster), ["no data"]);
    cluster.split("web.local/", &[("shop/web@v2.1", 10)]);
    assert_eq!(srv(&cluster), ["0 100 80 shop-web-1.local.", "0 100 80 shop-web-2.local."]);
}

#[test]
fn weights_that_are_larger_than_srv_can_say_keep_their_proportions() {
    let mut cluster = shop();
    cluster.split("web.local/", &[("shop/web@v1", 10_000_000), ("shop/web@v2.1", 1)]);
    let srv = shown(ask(&cluster.zone(), "_http._tcp.web.local.", RecordType::SRV));
    let mut weights: Vec<u32> =
        srv.iter().filter_map(|target| target.split(' ').nth(1)?.parse().ok()).collect();
    weights.sort_unstable();
    // Two instances share the first one's weight.
    assert_eq!(weights, [1, 65534, 65534]);
}

#[test]
fn an_instance_that_no_name_leads_to_alone_gets_one_from_its_address() {
    // Both containers' names are the service's: hidden.
    let cluster = Cluster::of(vec![
        container(11, "web", "shop/web@v1", &[("aliyun.routing.port_80", "shop")]),
        static_instance("shop/web@static", "10.0.0.7:8080", PLAIN),
    ]);
    let zone = cluster.zone();
    let targets: Vec<String> = ["_80._tcp.web.shop.local.", "_8080._tcp.web.shop.local."]
        .iter()
        .flat_map(|name| shown(ask(&zone, name, RecordType::SRV)))
        .collect();
    assert_eq!(
        targets,
        ["0 100 80 ip-172-20-0-11.v1.web.shop.local.", "0 100 8080 ip-10-0-0-7.static.web.shop.local."]
    );
    assert_eq!(addresses(&zone, "ip-10-0-0-7.static.web.shop.local."), ["10.0.0.7"]);
}

#[test]
fn texts_tell_version_and_state() {
    let mut cluster = shop();
    cluster.state("0d0d0d0d0d0d:80", State::Draining);
    let texts = shown(ask(&cluster.zone(), "web.shop.local.", RecordType::TXT));
    assert_eq!(texts.len(), 2);
    assert!(texts[0].contains("version=v1") && texts[0].contains("state=active"), "{texts:?}");
    assert!(texts[0].contains("ready=2"), "{texts:?}");
    assert!(texts[1].contains("version=v2.1") && texts[1].contains("state=draining"), "{texts:?}");
}

#[test]
fn an_answer_has_so_many_addresses_at_most_and_all_come_in_turn() {
    let units = (1..=20).map(|n| container(n, &format!("c{n}"), "shop/web@v1", WEB)).collect();
    let zone = Cluster::of(units).zone_with(ZoneConfig { max_addresses: 3, ..config() });
    let client = Client { address: ip("172.20.1.1"), arrived_on: None, route_to: &|_| None };
    let name = Name::from_ascii("web.shop.local.").expect("a name");
    let mut rng = Rng::with_seed(7);
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let answer = zone.answer(&name, RecordType::A, &client, &mut rng).expect("ours");
        let data: BTreeSet<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        assert_eq!(data.len(), 3);
        seen.extend(data);
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn a_weighted_name_answers_one_version_at_a_time_in_proportion() {
    let labels: Vec<_> = WEB.iter().copied().chain([("fairway.dns", "weighted")]).collect();
    let mut cluster = Cluster::of(vec![
        container(11, "a", "shop/web@v1", &labels),
        container(12, "b", "shop/web@v1", &labels),
        container(13, "c", "shop/web@v2", &labels),
        container(14, "d", "shop/web@v3", &labels),
    ]);
    cluster.split("web.local/", &[("shop/web@v1", 90), ("shop/web@v2", 10), ("shop/web@v3", 0)]);
    let zone = cluster.zone();
    let client = Client { address: ip("172.20.1.1"), arrived_on: None, route_to: &|_| None };
    let name = Name::from_ascii("web.shop.local.").expect("a name");
    let mut rng = Rng::with_seed(7);
    let mut counts: HashMap<Vec<String>, u32> = HashMap::new();
    for _ in 0..10_000 {
        *counts.entry(shown(zone.answer(&name, RecordType::A, &client, &mut rng))).or_default() += 1;
    }
    let count = |addresses: &[&str]| counts[&addresses.iter().map(|a| a.to_string()).collect::<Vec<_>>()];
    // Three standard deviations of 10,000 draws at 10 % are 90.
    assert!((9910 - 1000..=9090).contains(&count(&["172.20.0.11", "172.20.0.12"])), "{counts:?}");
    assert_eq!(count(&["172.20.0.11", "172.20.0.12"]) + count(&["172.20.0.13"]), 10_000);
}

#[test]
fn the_proxys_address_is_advertised_or_asked_or_on_the_way_to_the_client() {
    let advertise = |clients: &str, address: &str| Advertise {
        clients: clients.parse().expect("a subnet"),
        address: ip(address),
    };
    let listed = vec![
        advertise("172.20.9.0/24", "192.0.2.1"),
        advertise("172.20.0.0/16", "fd00::1"),
        advertise("172.20.0.0/16", "192.0.2.2"),
    ];
    let cluster = shop();
    let ask =
        |http: &str, listed: &[Advertise], client: &str, arrived_on: Option<&str>, route: Option<&str>| {
            let http = http.split(' ').filter_map(|text| text.parse().ok()).collect();
            let zone = cluster.zone_with(ZoneConfig { http, advertise: listed.to_vec(), ..config() });
            let client =
                Client { address: ip(client), arrived_on: arrived_on.map(ip), route_to: &|_| route.map(ip) };
            let name = Name::from_ascii("web.local.").expect("a name");
            let answer = |kind| zone.answer(&name, kind, &client, &mut Rng::with_seed(1));
            let a = answer(RecordType::A);
            let missing = a.as_ref().is_some_and(|answer| answer.without_proxy_address);
            (shown(a).join(" "), shown(answer(RecordType::AAAA)).join(" "), missing)
        };
    let none = || ("no data".to_owned(), "no data".to_owned(), true);
    let v4 = |address: &str| (address.to_owned(), "no data".to_owned(), false);
    let all = "0.0.0.0:80";
    assert_eq!(ask(all, &[], "172.20.0.5", Some("172.20.0.1"), Some("10.0.0.1")), v4("172.20.0.1"));
    assert_eq!(ask(all, &[], "172.20.0.5", None, Some("10.0.0.1")), v4("10.0.0.1"));
    assert_eq!(ask(all, &[], "172.20.0.5", None, None), none());
    // Only where a listener serves it.
    assert_eq!(ask("10.0.0.1:80", &[], "172.20.0.5", Some("172.20.0.1"), Some("10.0.0.1")), v4("10.0.0.1"));
    assert_eq!(ask("10.0.0.9:80", &[], "172.20.0.5", Some("172.20.0.1"), Some("10.0.0.1")), none());
    assert_eq!(ask("", &[], "172.20.0.5", Some("172.20.0.1"), Some("172.20.0.1")), none());
    assert_eq!(ask("[::]:80", &[], "172.20.0.5", Some("172.20.0.1"), None), v4("172.20.0.1"));
    assert_eq!(
        ask("[::]:80", &[], "fd00:20::5", Some("fd00:20::1"), None),
        ("no data".to_owned(), "fd00:20::1".to_owned(), false)
    );
    // What is advertised needs no listener: it may be another machine's, or a port published elsewhere.
    assert_eq!(
        ask("", &listed, "172.20.9.5", Some("172.20.0.1"), None),
        ("192.0.2.1".to_owned(), "fd00::1".to_owned(), false)
    );
    assert_eq!(ask("", &listed, "172.20.8.5", None, None).0, "192.0.2.2");
    assert_eq!(ask(all, &listed, "127.0.0.1", Some("127.0.0.1"), None), v4("127.0.0.1"));
}

#[test]
fn names_that_become_alike_are_told_and_the_one_written_so_has_the_name() {
    let cluster = Cluster::of(vec![
        container(11, "c1", "shop/my_web@v1", PLAIN),
        container(12, "c2", "shop/my-web@v1", PLAIN),
        container(13, "c3", "shop/api@1.0", PLAIN),
        container(14, "c4", "shop/api@1-0", PLAIN),
        container(15, "same", "shop/x@1", PLAIN),
        container(16, "same", "shop/y@1", PLAIN),
    ]);
    assert_eq!(
        cluster.collisions(),
        [
            ("shop/my_web".to_owned(), "my-web.shop".to_owned()),
            ("same".to_owned(), "same".to_owned()),
            ("shop/api@1.0".to_owned(), "1-0.api.shop".to_owned()),
        ]
    );
    let zone = cluster.zone();
    assert_eq!(addresses(&zone, "my-web.shop.local."), ["172.20.0.12"]);
    assert_eq!(addresses(&zone, "1-0.api.shop.local."), ["172.20.0.14"]);
    assert_eq!(addresses(&zone, "same.local."), ["172.20.0.15"]);
}

#[test]
fn a_name_hidden_by_something_else_is_told_and_by_its_own_route_or_service_is_not() {
    let own = Cluster::of(vec![container(11, "web", "shop/web@v1", WEB)]);
    assert_eq!(own.collisions(), []);
    let other = Cluster::of(vec![
        container(11, "front", "shop/front@v1", &[("aliyun.routing.port_80", "db.local")]),
        container(12, "c2", "shop/db@1", PLAIN),
        container(13, "front", "blog/x@1", PLAIN),
    ]);
    let hidden = other.collisions();
    assert!(hidden.contains(&("shop/db".to_owned(), "db".to_owned())), "{hidden:?}");
    assert!(hidden.contains(&("front".to_owned(), "front".to_owned())), "{hidden:?}");
    assert_eq!(addresses(&other.zone(), "db.local."), ["172.20.0.1"]);
    assert_eq!(addresses(&other.zone(), "db.shop.local."), ["172.20.0.12"]);
}

#[test]
fn labels_of_hostile_length_and_form_take_no_name_away() {
    let long = "x".repeat(300);
    let odd = "\u{0}.\u{202e}é/..";
    let cluster = Cluster::of(vec![
        container(11, &long, "shop/web@v1", PLAIN),
        container(12, odd, "p/s@v1", PLAIN),
        container(13, "good", &format!("{long}/{long}@v1"), PLAIN),
        container(14, "", "shop/db@1", PLAIN),
    ]);
    let zone = cluster.zone();
    assert_eq!(addresses(&zone, "web.shop.local."), ["172.20.0.11"]);
    assert_eq!(addresses(&zone, "db.shop.local."), ["172.20.0.14"]);
    assert_eq!(addresses(&zone, &format!("{}.local.", "x".repeat(63))).len(), 1);
    assert_eq!(addresses(&zone, "good.local."), ["172.20.0.13"]);
}

/// Every name with what it answers, for comparing zones.
fn everything(zone: &Zone) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for key in zone.index.names.keys() {
        let dotted = key::shown(key);
        for prefix in ["", "_http._tcp.", "_80._tcp."] {
            let name = format!(
                "{prefix}{}local.",
                if dotted.is_empty() { String::new() } else { format!("{dotted}.") }
            );
            for kind in [RecordType::A, RecordType::SRV, RecordType::TXT] {
                let answer = ask(zone, &name, kind).expect("ours");
                let ttl = answer.answers.iter().map(|record| record.ttl).max();
                all.push((format!("{name} {kind} {ttl:?}"), shown(Some(answer))));
            }
        }
    }
    all.sort();
    all
}

/// A change in words, and what it does.
type Change = (&'static str, fn(&mut Cluster));

#[test]
fn a_zone_made_from_the_one_before_equals_one_made_anew() {
    let mut cluster = shop();
    let mut catalog = cluster.catalog();
    let settings = Arc::new(config());
    let (mut zone, _) = Zone::build(&catalog, &settings, None);
    let changes: [Change; 8] = [
        ("a flip", |c| c.change("shop_web_1", |unit| unit.docker_health = Some(DockerHealth::Unhealthy))),
        ("a split", |c| c.split("web.local/", &[("shop/web@v1", 1), ("shop/web@v2.1", 3)])),
        ("a state", |c| c.state("0c0c0c0c0c0c:80", State::Draining)),
        ("another address", |c| c.change("shop_web_3", |unit| unit.ip = Some([172, 20, 0, 33].into()))),
        ("a new version", |c| c.set(container(41, "n", "shop/web@v3", WEB))),
        ("a pause", |c| c.change("n", |unit| unit.lifecycle = Lifecycle::Paused)),
        ("another name", |c| c.change("n", |unit| unit.name = "m".into())),
        ("another route", |c| {
            c.set(container(42, "o", "shop/o@1", &[("aliyun.routing.port_80", "o.local")]))
        }),
    ];
    for (what, change) in changes {
        change(&mut cluster);
        catalog = cluster.catalog_after(&catalog);
        let (kept, problems) = Zone::build(&catalog, &settings, Some(&zone));
        let (anew, problems_anew) = Zone::build(&catalog, &settings, None);
        assert_eq!(everything(&kept), everything(&anew), "{what}");
        assert_eq!(problems, problems_anew, "{what}");
        zone = kept;
    }
}

#[test]
fn a_flip_leaves_the_other_names_as_they_are() {
    let mut cluster = shop();
    let catalog = cluster.catalog();
    let settings = Arc::new(config());
    let (before, _) = Zone::build(&catalog, &settings, None);
    cluster.change("shop_web_1", |unit| unit.docker_health = Some(DockerHealth::Unhealthy));
    let (after, _) = Zone::build(&cluster.catalog_after(&catalog), &settings, Some(&before));
    assert!(Arc::ptr_eq(&before.index, &after.index));
    let made_anew = before.nodes.iter().zip(&after.nodes).filter(|(old, new)| !Arc::ptr_eq(old, new)).count();
    // The route, its service, two versions and three containers share the route's weights; neither `db` does.
    assert_eq!(made_anew, 7);
}

#[test]
fn an_empty_catalog_answers_too() {
    let (zone, problems) = Zone::build(&Catalog::empty(0).into(), &config().into(), None);
    assert_eq!(problems, []);
    assert_eq!(shown(ask(&zone, "local.", RecordType::SOA)).len(), 1);
    assert_eq!(shown(ask(&zone, "x.local.", RecordType::A)), ["ServFail"]);
    let answer = ask(&zone, "x.other.", RecordType::A);
    assert!(answer.is_none());
}

#[test]
fn any_gets_one_small_record() {
    let zone = shop().zone();
    let answer = ask(&zone, "web.shop.local.", RecordType::ANY).expect("ours");
    assert!(matches!(answer.answers.as_slice(), [record] if matches!(record.data, RData::HINFO(_))));
    assert_eq!(ask(&zone, "no.local.", RecordType::ANY).expect("ours").code, ResponseCode::NXDomain);
}
