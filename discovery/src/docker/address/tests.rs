//! Which network wins, and the reason told.

use proptest::prelude::*;

use super::*;

fn at(name: &str, ip: &str) -> Attachment {
    Attachment { name: name.into(), network: format!("id-{name}").into(), ip: ip.parse().ok() }
}

fn network(name: &str, driver: &str, local: bool, ingress: bool) -> (Arc<str>, Arc<Network>) {
    let id: Arc<str> = format!("id-{name}").into();
    let network = Network {
        id: id.clone(),
        name: name.into(),
        driver: driver.into(),
        ingress,
        subnets: Vec::new(),
        gateways: Vec::new(),
        gateway_is_local: local,
    };
    (id, Arc::new(network))
}

/// `front` and `back` are bridges of this machine, `far` an overlay, `lan` a macvlan, `mesh` Swarm's.
fn networks() -> BTreeMap<Arc<str>, Arc<Network>> {
    BTreeMap::from([
        network("front", "bridge", true, false),
        network("back", "bridge", true, false),
        network("remote", "bridge", false, false),
        network("far", "overlay", false, false),
        network("lan", "macvlan", true, false),
        network("a-mesh", "overlay", false, true),
    ])
}

fn chosen(label: Option<&str>, shared: &[&str], attachments: &[Attachment]) -> (String, String) {
    let shared = shared.iter().map(|name| format!("id-{name}").into()).collect();
    let choice = choose(label, Some("shop"), attachments, Reach { shared: &shared, networks: &networks() });
    let ip = choice.ip.map_or("none".to_owned(), |ip| ip.to_string());
    (format!("{ip} {}", choice.network), choice.reason.to_string())
}

#[test]
fn a_label_beats_a_shared_network_beats_a_routable_one_beats_the_first_by_name() {
    let all = [at("far", "10.4.0.2"), at("front", "10.1.0.2"), at("back", "10.2.0.2")];
    for (label, shared, want, reason) in [
        (
            Some("far"),
            &["back"][..],
            "10.4.0.2 id-far",
            "network far: named by fairway.network (also in back, front)",
        ),
        (None, &["far"], "10.4.0.2 id-far", "network far: shared with the proxy (also in back, front)"),
        (None, &[], "10.2.0.2 id-back", "network back: this machine is its gateway (also in far, front)"),
    ] {
        assert_eq!(chosen(label, shared, &all), (want.to_owned(), reason.to_owned()));
    }
    let unknown = [at("remote", "10.3.0.2"), at("far", "10.4.0.2"), at("lan", "10.5.0.2")];
    let want = "network far: first by name, none is known to be reachable (also in lan, remote)";
    assert_eq!(chosen(None, &[], &unknown), ("10.4.0.2 id-far".to_owned(), want.to_owned()));
}

#[test]
fn a_label_names_a_network_by_name_or_compose_form_or_id() {
    let both = [at("front", "10.1.0.2"), at("shop_data", "10.6.0.2")];
    for label in ["shop_data", "data", "id-shop_data"] {
        assert_eq!(chosen(Some(label), &["front"], &both).0, "10.6.0.2 id-shop_data", "{label}");
    }
    let twins = [at("data", "10.7.0.2"), at("shop_data", "10.6.0.2")];
    assert_eq!(chosen(Some("data"), &[], &twins).0, "10.7.0.2 id-data", "the exact name first");
}

#[test]
fn a_label_that_names_no_network_of_it_is_told_and_costs_nothing() {
    let shared = BTreeSet::new();
    let networks = networks();
    let reach = Reach { shared: &shared, networks: &networks };
    let choice = choose(Some("nowhere"), None, &[at("front", "10.1.0.2")], reach);
    assert!(choice.label_missed);
    assert_eq!(choice.ip, "10.1.0.2".parse().ok());
    let choice = choose(Some("front"), None, &[at("front", "10.1.0.2")], reach);
    assert!(!choice.label_missed);
}

#[test]
fn one_network_needs_no_comparison() {
    let reason = |at| chosen(None, &[], &[at]).1;
    assert_eq!(reason(at("front", "10.1.0.2")), "network front: this machine is its gateway");
    assert_eq!(reason(at("far", "10.4.0.2")), "network far: its only network");
    assert_eq!(reason(at("brand-new", "10.9.0.2")), "network brand-new: its only network");
}

#[test]
fn a_network_without_an_address_is_left_for_one_that_has_one() {
    let both = [at("back", ""), at("far", "10.4.0.2")];
    assert_eq!(chosen(None, &["back"], &both).0, "10.4.0.2 id-far");
}

#[test]
fn a_labelled_network_without_an_address_is_waited_for() {
    let both = [at("back", ""), at("far", "10.4.0.2")];
    let want = ("none ".to_owned(), "network back: no address in it yet (also in far)".to_owned());
    assert_eq!(chosen(Some("back"), &[], &both), want);
}

#[test]
fn without_any_address_it_is_pending_with_a_reason() {
    assert_eq!(chosen(None, &[], &[]), ("none ".to_owned(), "it is in no network".to_owned()));
    let want = ("none ".to_owned(), "network front: no address in it yet".to_owned());
    assert_eq!(chosen(None, &[], &[at("front", "")]), want);
}

#[test]
fn the_routing_mesh_is_the_last_resort() {
    let both = [at("a-mesh", "10.0.0.9"), at("far", "10.4.0.2")];
    assert_eq!(chosen(None, &[], &both).0, "10.4.0.2 id-far");
    assert_eq!(chosen(None, &[], &both[..1]).0, "10.0.0.9 id-a-mesh");
}

#[test]
fn an_ipv6_address_will_do() {
    assert_eq!(chosen(None, &[], &[at("front", "fd00::2")]).0, "fd00::2 id-front");
}

#[test]
fn names_are_escaped_and_not_listed_without_end() {
    let mut many: Vec<Attachment> = (0..20).map(|i| at(&format!("n{i:02}"), "10.9.0.1")).collect();
    many.push(at("a\u{1b}[2J", "10.1.0.2"));
    let (_, reason) = chosen(None, &[], &many);
    assert!(reason.starts_with("network a\\u{1b}[2J: first by name"), "{reason}");
    assert!(reason.ends_with("n06, n07, 12 more)"), "{reason}");
}

proptest! {
    #[test]
    fn the_order_in_which_docker_lists_networks_does_not_matter(
        mut names in prop::collection::btree_set("front|back|remote|far|lan|a-mesh|x|y", 1..6)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>()),
        label in prop::option::of("front|back|z"),
        shared in prop::option::of("front|far"),
        turn in 0..6usize,
    ) {
        let attachments = |names: &[String]| -> Vec<Attachment> {
            names.iter().map(|name| at(name, &format!("10.0.0.{}", name.len()))).collect()
        };
        let shared: Vec<&str> = shared.as_deref().into_iter().collect();
        let first = chosen(label.as_deref(), &shared, &attachments(&names));
        let by = turn % names.len();
        names.rotate_left(by);
        prop_assert_eq!(first, chosen(label.as_deref(), &shared, &attachments(&names)));
    }
}
