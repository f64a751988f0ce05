//! The rules by which events, answers and lists keep the book right.

mod simulation;

use fairway_catalog::facts::{DockerHealth, Lifecycle};

use super::answers::{SPOT_CHECKS, UNREADABLE_RETRY};
use super::*;
use crate::docker::address;
use crate::docker::container::Restart;
use crate::docker::container::tests::container;
use crate::docker::event::{Change, Event, What};
use crate::docker::signal::Signal;

const SECOND: i64 = 1_000_000_000;

/// A time by the engine's clock; containers are started at second 100.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_nanosecond((second * SECOND).into()).expect("a time")
}

fn happened(id: &str, second: i64, change: Change) -> Event {
    Event { at: Some(at(second)), what: What::Container(id.into(), change) }
}

/// Our clock runs beside the engine's.
fn now() -> Timestamp {
    at(1_000_000)
}

fn found(container: Container) -> Inspected {
    Inspected::Found(Box::new(container))
}

fn listed(container: &Container) -> Listed {
    let mut ips: Vec<IpAddr> = container.attachments.iter().filter_map(|at| at.ip).collect();
    ips.sort_unstable();
    Listed {
        id: container.id.clone(),
        name: container.name.clone(),
        phase: container.phase,
        ips,
        interesting: container.is_exposed() || tells_problems(container),
    }
}

/// The network of [`container`]s.
fn front() -> Network {
    Network {
        id: "n-front".into(),
        name: "front".into(),
        driver: "bridge".into(),
        ingress: false,
        subnets: Vec::new(),
        gateways: Vec::new(),
        gateway_is_local: true,
    }
}

struct Fixture(Book);

impl Fixture {
    /// A book that knows these containers.
    fn knowing(containers: &[Container]) -> Self {
        let mut book = Book::new(Place { node: "here".into(), ..Place::default() });
        book.connected(Place { node: "here".into(), ..Place::default() }, None);
        let list: Vec<Listed> = containers.iter().map(listed).collect();
        book.listed(book.now(), &list, true);
        for container in containers {
            book.inspected(&container.id, found(container.clone()));
        }
        book.networks_listed(vec![front()]);
        assert!(book.is_settled());
        book.take_changes();
        Self(book)
    }

    fn event(&mut self, id: &str, second: i64, change: Change) -> Changes {
        self.0.event(&happened(id, second, change), now());
        self.0.take_changes()
    }

    fn answer(&mut self, id: &str, answer: Inspected) -> Changes {
        self.0.inspected(&id.into(), answer);
        self.0.take_changes()
    }

    fn lifecycle(&self, id: &str) -> Option<Lifecycle> {
        self.0.units().get(id).map(|unit| unit.lifecycle)
    }

    fn is_stopping(&self, id: &str) -> bool {
        matches!(self.lifecycle(id), Some(Lifecycle::Stopping { .. }))
    }
}

fn inspect(id: &str) -> Ask {
    Ask::Inspect { id: id.into(), urgent: true }
}

const TERM: Change = Change::Signalled(Some(Signal::TERM));

#[test]
fn a_start_is_told_after_one_inspect_of_that_container() {
    let mut book = Fixture::knowing(&[]);
    let changes = book.event("a", 101, Change::Started { interesting: true });
    assert_eq!((changes.asks, changes.changed), (vec![inspect("a")], false));
    let changes = book.answer("a", found(container("a")));
    assert_eq!((changes.asks, changes.changed, changes.settled), (vec![], true, vec![at(101)]));
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Running));
}

#[test]
fn a_start_of_a_container_that_concerns_nobody_asks_nothing() {
    let mut book = Fixture::knowing(&[]);
    let changes = book.event("a", 101, Change::Started { interesting: false });
    assert_eq!(changes, Changes::default());
    for change in [TERM, Change::Died { exit_code: 0 }, Change::Paused, Change::Connected, Change::Destroyed]
    {
        assert_eq!(book.event("a", 102, change), Changes::default());
    }
}

#[test]
fn the_stop_signal_counts_from_the_event_alone() {
    let mut book = Fixture::knowing(&[container("a")]);
    let changes = book.event("a", 102, TERM);
    assert_eq!((changes.asks, changes.changed, changes.settled), (vec![], true, vec![at(102)]));
    let timeout = Duration::from_secs(10);
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Stopping { since: now(), timeout }));
}

#[test]
fn another_signal_changes_nothing() {
    let mut book = Fixture::knowing(&[container("a")]);
    for signal in [Signal::parse("USR1"), Signal::parse("QUIT"), Some(Signal::KILL), None] {
        assert_eq!(book.event("a", 102, Change::Signalled(signal)), Changes::default(), "{signal:?}");
    }
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Running));
}

#[test]
fn stopping_lasts_for_that_life_and_no_longer() {
    let mut book = Fixture::knowing(&[container("a")]);
    book.event("a", 102, TERM);
    book.event("a", 103, Change::Updated);
    book.answer("a", found(container("a")));
    assert!(book.is_stopping("a"), "an inspect does not know of the signal");
    book.event("a", 110, Change::Started { interesting: true });
    book.answer("a", found(Container { started: at(110), ..container("a") }));
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Running));
}

#[test]
fn an_answer_that_is_older_than_an_event_is_void_and_asked_for_again() {
    let mut book = Fixture::knowing(&[container("a")]);
    book.event("a", 102, Change::Updated);
    book.event("a", 103, Change::Paused);
    let changes = book.answer("a", found(container("a")));
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Paused), "not overwritten by `running`");
    assert_eq!(changes.asks, [inspect("a")]);
    book.answer("a", found(Container { phase: Phase::Paused, ..container("a") }));
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Paused));
}

#[test]
fn an_answer_never_brings_back_what_is_gone() {
    let mut book = Fixture::knowing(&[]);
    book.event("a", 101, Change::Started { interesting: true });
    book.event("a", 102, Change::Died { exit_code: 0 });
    book.event("a", 103, Change::Destroyed);
    let changes = book.answer("a", found(container("a")));
    assert_eq!((changes.asks, book.lifecycle("a")), (vec![], None));
}

#[test]
fn what_dies_before_its_first_answer_is_looked_at_again() {
    let mut book = Fixture::knowing(&[]);
    book.event("a", 101, Change::Started { interesting: true });
    book.event("a", 102, Change::Died { exit_code: 1 });
    let changes = book.answer("a", found(container("a")));
    assert_eq!((changes.asks, book.lifecycle("a")), (vec![inspect("a")], None));
    book.answer("a", found(Container { phase: Phase::Restarting, ..container("a") }));
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Restarting));
}

#[test]
fn a_stop_signal_before_the_first_answer_counts_once_that_is_there() {
    let mut book = Fixture::knowing(&[]);
    book.event("a", 101, Change::Started { interesting: true });
    book.event("a", 102, TERM);
    book.answer("a", found(container("a"))); // void
    book.answer("a", found(container("a")));
    assert!(book.is_stopping("a"));
}

#[test]
fn a_stop_signal_between_a_restart_and_its_inspect_counts_for_the_new_life() {
    let first = Container { restart: Restart::Always, ..container("a") };
    let mut book = Fixture::knowing(std::slice::from_ref(&first));
    book.event("a", 150, Change::Died { exit_code: 1 });
    book.event("a", 200, Change::Started { interesting: true });
    book.event("a", 201, TERM);
    book.answer("a", found(Container { started: at(200), ..first.clone() })); // void
    book.answer("a", found(Container { started: at(200), ..first }));
    assert!(book.is_stopping("a"));
}

#[test]
fn events_of_an_earlier_life_say_nothing_of_this_one() {
    // The answer to an early question may already show the next life, whose events are still on their way.
    let next = Container { started: at(200), restart: Restart::Always, ..container("a") };
    for change in [TERM, Change::Died { exit_code: 1 }, Change::Stopped, Change::Paused] {
        let mut book = Fixture::knowing(std::slice::from_ref(&next));
        let changes = book.event("a", 150, change.clone());
        assert_eq!(book.lifecycle("a"), Some(Lifecycle::Running), "{change:?}");
        assert_eq!(changes.asks, [inspect("a")], "{change:?}");
    }
}

#[test]
fn an_end_removes_unless_the_restart_policy_follows() {
    let exit = |exit_code| Change::Died { exit_code };
    for (restart, signal, exit_code, want) in [
        (Restart::Never, None, 0, None),
        (Restart::Always, None, 0, Some(Lifecycle::Restarting)),
        (Restart::Always, Some(Signal::TERM), 0, None),
        (Restart::Always, Some(Signal::KILL), 137, None),
        (Restart::Always, Signal::parse("HUP"), 1, Some(Lifecycle::Restarting)),
        (Restart::OnFailure(0), None, 0, None),
        (Restart::OnFailure(0), None, 1, Some(Lifecycle::Restarting)),
    ] {
        let mut book = Fixture::knowing(&[Container { restart, ..container("a") }]);
        if let Some(signal) = signal {
            book.event("a", 102, Change::Signalled(Some(signal)));
        }
        let changes = book.event("a", 103, exit(exit_code));
        assert_eq!(book.lifecycle("a"), want, "{restart:?} {signal:?} {exit_code}");
        let is_confirmed = changes.asks == [inspect("a")];
        assert_eq!(is_confirmed, restart != Restart::Never, "the guess is checked");
    }
}

#[test]
fn a_wrong_guess_about_a_restart_is_put_right() {
    let always = Container { restart: Restart::Always, ..container("a") };
    let mut book = Fixture::knowing(std::slice::from_ref(&always));
    book.event("a", 102, Change::Died { exit_code: 0 });
    book.answer("a", found(Container { phase: Phase::Down, ..always.clone() }));
    assert_eq!(book.lifecycle("a"), None, "somebody had stopped it in a way we did not see");
    let mut book = Fixture::knowing(std::slice::from_ref(&always));
    book.event("a", 102, TERM);
    book.event("a", 103, Change::Died { exit_code: 0 });
    book.answer("a", found(Container { phase: Phase::Restarting, ..always }));
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Restarting));
}

#[test]
fn pause_rename_and_health_count_from_the_event_alone() {
    let mut book = Fixture::knowing(&[container("a")]);
    assert_eq!(book.event("a", 102, Change::Paused).asks, []);
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Paused));
    assert_eq!(book.event("a", 103, Change::Unpaused).asks, []);
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Running));
    assert_eq!(book.event("a", 104, Change::Renamed { name: "new".into() }).asks, []);
    let unit = &book.0.units()["a"];
    assert_eq!((&*unit.name, &*unit.backend.service), ("new", "new"));
    assert_eq!(book.event("a", 105, Change::Health(DockerHealth::Unhealthy)).asks, []);
    assert_eq!(book.0.units()["a"].docker_health, Some(DockerHealth::Unhealthy));
}

#[test]
fn a_paused_container_is_out_though_it_was_told_to_stop() {
    let mut book = Fixture::knowing(&[container("a")]);
    book.event("a", 102, TERM);
    book.event("a", 103, Change::Paused);
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Paused));
    book.event("a", 104, Change::Unpaused);
    assert!(book.is_stopping("a"));
}

#[test]
fn a_network_that_is_left_is_left_at_once() {
    let mut book = Fixture::knowing(&[container("a")]);
    let network = book.0.units()["a"].network.clone();
    let changes = book.event("a", 102, Change::Disconnected(network));
    assert_eq!((changes.asks, changes.changed), (vec![inspect("a")], true));
    assert_eq!(book.0.units()["a"].ip, None);
}

#[test]
fn a_container_without_an_address_is_looked_at_again_twice() {
    let mut book = Fixture::knowing(&[]);
    let bare = Container { attachments: Vec::new(), ..container("a") };
    book.event("a", 101, Change::Started { interesting: true });
    for delay in [Some(100), Some(500), None] {
        let changes = book.answer("a", found(bare.clone()));
        let want: Vec<Ask> =
            delay.into_iter().map(|ms| Ask::InspectLater("a".into(), Duration::from_millis(ms))).collect();
        assert_eq!(changes.asks, want);
        assert_eq!(book.0.units()["a"].ip, None, "pending, not lost");
        book.0.look_again(&"a".into());
        assert_eq!(book.0.take_changes().asks, [inspect("a")]);
    }
}

#[test]
fn a_list_removes_what_is_not_there_and_asks_for_what_is_new_or_differs() {
    let known: Vec<Container> = ["a", "b", "c"].map(container).into();
    let mut book = Fixture::knowing(&known);
    let renamed = Listed { name: "other".into(), ..listed(&container("b")) };
    let boring = Listed { interesting: false, ..listed(&container("e")) };
    let list = [renamed, listed(&container("c")), listed(&container("d")), boring];
    let asked = book.0.now();
    assert!(book.0.listed(asked, &list, true));
    let asks = book.0.take_changes().asks;
    let quietly = |id: &str| Ask::Inspect { id: id.into(), urgent: false };
    assert_eq!(asks, [quietly("b"), quietly("c"), quietly("d"), Ask::Networks]);
    assert_eq!(book.lifecycle("a"), None);
}

#[test]
fn a_list_that_is_older_than_an_event_says_nothing_of_that_container() {
    let mut book = Fixture::knowing(&[container("a"), container("b")]);
    let asked = book.0.now();
    let list = [listed(&container("a"))];
    book.event("a", 102, Change::Destroyed);
    book.event("b", 102, Change::Paused);
    assert!(!book.0.listed(asked, &list, true), "nothing that no event had told");
    assert_eq!(book.0.take_changes().asks, [Ask::Networks], "`a` is not asked for");
    assert_eq!((book.lifecycle("a"), book.lifecycle("b")), (None, Some(Lifecycle::Paused)));
}

#[test]
fn a_diff_inspects_unusual_containers_and_some_of_the_rest_in_turn() {
    let all: Vec<Container> = (0..250).map(|n| container(&format!("c{n:03}"))).collect();
    let mut book = Fixture::knowing(&all);
    book.event("c200", 102, TERM);
    let list: Vec<Listed> = all.iter().map(listed).collect();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let asked = book.0.now();
        assert!(!book.0.listed(asked, &list, false));
        let asks = book.0.take_changes().asks;
        let ids: Vec<Arc<str>> = asks
            .into_iter()
            .filter_map(|ask| match ask {
                Ask::Inspect { id, .. } => Some(id),
                _ => None,
            })
            .collect();
        assert!(ids.len() <= SPOT_CHECKS + 1 && ids.contains(&"c200".into()), "{}", ids.len());
        ids.iter().for_each(|id| book.0.inspected(id, found(container(id))));
        book.0.networks_listed(vec![front()]);
        seen.extend(ids);
    }
    assert_eq!(seen.len(), 250, "all in turn");
    assert!(book.is_stopping("c200"), "a diff does not end a drain");
}

#[test]
fn a_failed_inspect_keeps_what_is_known_and_is_told_until_it_works() {
    let mut book = Fixture::knowing(&[container("a")]);
    book.event("a", 102, Change::Updated);
    let changes = book.answer("a", Inspected::Failed("500: \u{1b}[31mno".to_owned()));
    assert_eq!(changes.asks, [Ask::InspectLater("a".into(), UNREADABLE_RETRY)]);
    assert_eq!(book.lifecycle("a"), Some(Lifecycle::Running));
    let problems = book.0.problems();
    assert!(problems[0].text.contains("500: \\u{1b}[31mno"), "{}", problems[0].text);
    book.0.look_again(&"a".into());
    book.0.take_changes();
    assert!(book.answer("a", found(container("a"))).changed);
    assert!(book.0.problems().is_empty());
}

#[test]
fn what_could_not_be_read_is_asked_for_again_by_the_next_connection() {
    let mut book = Fixture::knowing(&[]);
    book.event("a", 101, Change::Started { interesting: true });
    book.answer("a", Inspected::Failed("500".to_owned()));
    let asked = book.0.now();
    assert!(!book.0.listed(asked, &[listed(&container("a"))], false), "it is known, and looked at later");
    assert_eq!(book.0.take_changes().asks, [Ask::Networks]);
    book.0.connected(Place::default(), None);
    book.0.listed(book.0.now(), &[listed(&container("a"))], true);
    let quietly = Ask::Inspect { id: "a".into(), urgent: false };
    assert!(book.0.take_changes().asks.contains(&quietly));
}

#[test]
fn a_list_is_settled_once_each_of_its_containers_is_known() {
    let mut book = Book::new(Place::default());
    book.connected(Place::default(), None);
    book.listed(book.now(), &["a", "b", "c"].map(|id| listed(&container(id))), true);
    book.networks_listed(vec![front()]);
    for (id, answer) in
        [("a", found(container("a"))), ("b", Inspected::Absent), ("c", Inspected::Failed("no".to_owned()))]
    {
        assert!(!book.is_settled(), "before {id}");
        book.inspected(&id.into(), answer);
    }
    assert!(book.is_settled());
    assert_eq!(book.units().len(), 1);
}

#[test]
fn a_container_in_anothers_network_is_found_at_that_ones_address_and_follows_it() {
    let sharing = Container { namespace: Namespace::Container("pod".into()), ..container("a") };
    let mut book = Fixture::knowing(&[]);
    book.event("a", 101, Change::Started { interesting: true });
    let changes = book.answer("a", found(sharing));
    assert_eq!(changes.asks, [inspect("pod")], "the other is looked at, though it has no label");
    let unit = book.0.units()["a"].clone();
    assert_eq!(
        (unit.ip, &*unit.address_reason),
        (None, "shares the network of container pod, which does not run")
    );
    let pod = Container { spec: Arc::default(), ..container("pod") };
    let changes = book.answer("pod", found(pod.clone()));
    assert!(changes.changed);
    assert_eq!(book.0.units().len(), 1, "the other is no unit");
    assert_eq!(book.0.units()["a"].ip, pod.attachments[0].ip);
    book.event("pod", 102, Change::Died { exit_code: 0 });
    assert_eq!(book.0.units()["a"].ip, None);
    let changes = book.event("pod", 103, Change::Started { interesting: false });
    assert_eq!(changes.asks, [inspect("pod")]);
}

#[test]
fn containers_that_share_in_a_circle_are_pending() {
    let of =
        |id: &str, other: &str| Container { namespace: Namespace::Container(other.into()), ..container(id) };
    let book = Fixture::knowing(&[of("a", "b"), of("b", "a")]);
    assert!(book.0.units().values().all(|unit| unit.ip.is_none()));
}

#[test]
fn a_host_network_container_is_at_its_nodes_address() {
    let mut book = Fixture::knowing(&[Container { namespace: Namespace::Host, ..container("a") }]);
    assert_eq!(book.0.units()["a"].ip, None);
    book.0.set_node_address("192.0.2.7".parse().ok());
    let unit = book.0.units()["a"].clone();
    assert_eq!(unit.ip, "192.0.2.7".parse().ok());
    assert_eq!((&*unit.network, &*unit.address_reason), ("", "host network: the address of its node"));
}

#[test]
fn the_networks_of_our_own_container_come_first() {
    let attachments = |names: &[&str]| -> Vec<address::Attachment> {
        let at = |(i, name): (usize, &&str)| address::Attachment {
            name: (*name).into(),
            network: (*name).into(),
            ip: format!("10.0.{i}.2").parse().ok(),
        };
        names.iter().enumerate().map(at).collect()
    };
    let own = Container { spec: Arc::default(), attachments: attachments(&["z"]), ..container("own") };
    let web = Container { attachments: attachments(&["a", "z"]), ..container("web") };
    let mut book = Book::new(Place::default());
    book.connected(Place::default(), Some(own.clone()));
    book.listed(book.now(), &[listed(&own), listed(&web)], true);
    book.inspected(&"own".into(), found(own));
    book.inspected(&"web".into(), found(web));
    assert_eq!(&*book.units()["web"].address_reason, "network z: shared with the proxy (also in a)");
    book.event(&happened("own", 102, Change::Disconnected("z".into())), now());
    assert!(book.units()["web"].address_reason.starts_with("network a: first by name"));
}

#[test]
fn a_network_that_an_answer_names_first_is_asked_for() {
    let mut book = Fixture::knowing(&[]);
    book.event("a", 101, Change::Started { interesting: true });
    let other = address::Attachment { name: "new".into(), network: "n9".into(), ip: "10.9.0.2".parse().ok() };
    let changes = book.answer("a", found(Container { attachments: vec![other], ..container("a") }));
    assert_eq!(changes.asks, [Ask::Networks]);
    assert_eq!(book.0.units()["a"].ip, "10.9.0.2".parse().ok(), "and not waited for");
}

#[test]
fn networks_listed_before_one_was_made_or_gone_are_asked_for_again() {
    for what in [What::NetworkMade, What::NetworkGone("n1".into())] {
        let mut book = Fixture::knowing(&[]);
        book.0.event(&Event { at: None, what: What::NetworkMade }, now());
        assert_eq!(book.0.take_changes().asks, [Ask::Networks]);
        book.0.event(&Event { at: None, what }, now());
        assert_eq!(book.0.take_changes().asks, []);
        book.0.networks_listed(Vec::new());
        assert_eq!(book.0.take_changes().asks, [Ask::Networks]);
    }
}

#[test]
fn problems_of_containers_that_are_not_routed_to_are_told_while_they_run() {
    let parsed = fairway_config::labels::parse([("aliyun.routing.port_80", "a.com:8080")]);
    let wrong = Container { spec: Arc::new(parsed.spec), label_problems: parsed.problems, ..container("a") };
    let mut book = Fixture::knowing(std::slice::from_ref(&wrong));
    assert!(book.0.units().is_empty());
    assert_eq!(book.0.problems().len(), 1);
    assert!(book.event("a", 102, Change::Died { exit_code: 0 }).changed);
    assert!(book.0.problems().is_empty());
    let hidden =
        fairway_config::labels::parse([("aliyun.routing.port_80", "a.com:1"), ("fairway.enable", "false")]);
    let hidden = Container { spec: Arc::new(hidden.spec), label_problems: hidden.problems, ..wrong };
    assert!(Fixture::knowing(&[hidden]).0.problems().is_empty());
}

#[test]
fn what_is_remembered_of_events_is_forgotten_with_the_next_list() {
    let mut book = Fixture::knowing(&[]);
    for n in 0..1000 {
        book.event(&format!("c{n}"), 101, Change::Destroyed);
    }
    assert_eq!(book.0.touched.len(), 1000);
    let asked = book.0.now();
    book.0.listed(asked, &[], false);
    assert!(book.0.touched.is_empty());
}

#[test]
fn hidden_networks_are_told_and_cost_no_address() {
    let mut book = Fixture::knowing(&[container("a")]);
    book.0.event(&Event { at: None, what: What::NetworkMade }, now());
    book.0.networks_hidden("403");
    assert!(book.0.is_settled() && book.0.take_changes().changed);
    assert_eq!(book.0.problems()[0].kind, "networks-hidden");
    assert!(book.0.units()["a"].ip.is_some());
    book.0.event(&Event { at: None, what: What::NetworkMade }, now());
    book.0.networks_listed(vec![front()]);
    assert!(book.0.problems().is_empty());
}

#[test]
fn what_a_real_engine_listed_is_what_it_answered_of_the_same_container() {
    let list: Vec<crate::docker::raw::Summary> =
        serde_json::from_str(include_str!("../../../tests/fixtures/list.json")).expect("a list of the API");
    let inspect =
        serde_json::from_str(include_str!("../../../tests/fixtures/inspect.json")).expect("an answer");
    let container = Container::read(inspect).expect("a container");
    let read: Vec<Listed> = list.into_iter().filter_map(Listed::read).collect();
    assert_eq!(read, [listed(&container)]);
}

#[test]
fn a_line_of_a_list_has_the_containers_own_name_and_only_if_it_runs() {
    let read = |state: &str, names: &[&str]| {
        let summary = serde_json::json!({ "Id": "abc", "Names": names, "State": state, "Labels": null });
        Listed::read(serde_json::from_value(summary).expect("a line of the API"))
    };
    let named = |names: &[&str]| read("running", names).map(|listed| listed.name.to_string());
    assert_eq!(named(&["/web/cache", "/redis"]).as_deref(), Some("redis"), "links are other names");
    assert_eq!(named(&[]).as_deref(), Some(""));
    for (state, want) in [
        ("running", Some(Phase::Running)),
        ("paused", Some(Phase::Paused)),
        ("restarting", Some(Phase::Restarting)),
        ("stopping", Some(Phase::Running)),
        ("exited", None),
        ("created", None),
        ("removing", None),
        ("dead", None),
    ] {
        assert_eq!(read(state, &["/web"]).map(|listed| listed.phase), want, "{state}");
    }
}
