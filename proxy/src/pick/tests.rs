use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairway_catalog::inputs::{SplitRecord, StateRecord, StateSubject};
use fairway_catalog::{
    Catalog, Condition, Decisions, Ejection, Inputs, InstanceId, InstanceKey, Lifecycle, Settings,
    SourceFacts, SourceId, State,
};
use fairway_config::labels::{Balance, ClientKey, MatchRule, PortClaim, ServiceSpec, SplitBy, Transport};
use fairway_config::names::{BackendId, Host, RouteEntry as ConfiguredRoute, RouteId, Scheme, Weight};
use fairway_release::plan::Plan;
use fastrand::Rng;
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::ring::Seats;
use super::{Crowded, NoInstance, Pick, Tried, Why, stable_hash};
use crate::endpoint::{Endpoint, IN_FLIGHT_MAX};
use crate::outlier::stamp;
use crate::request::{FieldList, RequestView};
use crate::sticky::Bound;
use crate::table::fixture::*;
use crate::table::{RouteEntry, RouteTable};

const NAMES: [&str; 6] = ["v0", "v1", "v2", "v3", "v4", "v5"];

/// Chooses for one ordinary request after these failures.
fn pick(entry: &RouteEntry, tried: &Tried, rng: &mut Rng) -> Result<Pick, NoInstance> {
    let fields = FieldList::default();
    entry.pick(&request("shop.test", "/", &fields), tried, rng, Instant::now())
}

/// A request that differs from others in what binds it to a version or instance.
#[derive(Default)]
struct Asked {
    fields: FieldList,
    query: Option<&'static str>,
    client: Option<[u8; 4]>,
}

impl Asked {
    fn field(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push(name, value);
        self
    }

    fn view(&self) -> RequestView<'_> {
        let client = IpAddr::from(self.client.unwrap_or([192, 0, 2, 1]));
        RequestView { client, query: self.query, ..request("shop.test", "/", &self.fields) }
    }

    fn pick(&self, entry: &RouteEntry) -> Pick {
        let mut rng = Rng::with_seed(1);
        entry.pick(&self.view(), &Tried::default(), &mut rng, Instant::now()).expect("there is an instance")
    }
}

fn of_client(number: u32) -> Asked {
    Asked { client: Some(number.to_be_bytes()), ..Asked::default() }
}

fn name(pick: &Pick) -> String {
    pick.version.backend.id.version.to_string()
}

/// How often each version is chosen.
fn versions_drawn(entry: &RouteEntry, draws: u32, rng: &mut Rng) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for _ in 0..draws {
        let drawn = pick(entry, &Tried::default(), rng).expect("there is an instance");
        *counts.entry(name(&drawn)).or_default() += 1;
    }
    counts
}

/// How often each instance is chosen, one request at a time.
fn instances_drawn(entry: &RouteEntry, draws: u32) -> Vec<u32> {
    let mut rng = Rng::with_seed(7);
    let mut counts: HashMap<u64, u32> = HashMap::new();
    for _ in 0..draws {
        let drawn = pick(entry, &Tried::default(), &mut rng).expect("there is an instance");
        *counts.entry(drawn.endpoint.state.uid).or_default() += 1;
    }
    entry.endpoints().map(|endpoint| counts.get(&endpoint.state.uid).copied().unwrap_or(0)).collect()
}

/// Whether a count may come of the share: chance alone goes beyond with a probability of less than 2e-13 (Chernoff's bound of
/// the binomial distribution, in the form of Hoeffding 1963, theorem 1; unlike standard deviations it holds for rare events, too).
fn fits(count: u32, share: f64, draws: u32) -> bool {
    let part = f64::from(count) / f64::from(draws);
    // Kullback and Leibler's divergence of two coins; what cannot happen must not.
    let term = |seen: f64, said: f64| if seen == 0.0 { 0.0 } else { seen * (seen / said).ln() };
    f64::from(draws) * (term(part, share) + term(1.0 - part, 1.0 - share)) <= 30.0
}

/// What the weights promise.
fn shares(weights: &[u16]) -> Vec<f64> {
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    weights.iter().map(|weight| f64::from(*weight) / total).collect()
}

fn weighted(weights: &[u16]) -> Vec<Version> {
    weights.iter().zip(NAMES).map(|(weight, name)| version(name, &[READY]).weight(*weight)).collect()
}

/// Weights as people write them and at the edges: zeros, ones, the largest.
fn weights() -> impl Strategy<Value = Vec<u16>> {
    let weight = prop_oneof![2 => Just(0), 2 => Just(1), 2 => Just(1000), 4 => 0u16..=1000];
    vec(weight, 1..=6).prop_filter("not all zero", |weights| weights.iter().any(|weight| *weight > 0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn versions_are_drawn_exactly_by_weight_and_a_zero_never(weights in weights(), seed: u64) {
        const DRAWS: u32 = 10_000;
        let entry = entry(&weighted(&weights));
        let counts = versions_drawn(&entry, DRAWS, &mut Rng::with_seed(seed));
        for ((name, share), weight) in NAMES.iter().zip(shares(&weights)).zip(&weights) {
            let count = counts.get(*name).copied().unwrap_or(0);
            prop_assert!(*weight > 0 || count == 0, "{name} has weight 0 and was drawn {count} times");
            prop_assert!(fits(count, share, DRAWS), "{name}: {count} of {DRAWS} for {weights:?}");
        }
    }

    #[test]
    fn a_version_without_a_ready_instance_leaves_its_share_to_the_others(
        weights in weights(), gone: proptest::sample::Index, seed: u64,
    ) {
        const DRAWS: u32 = 5_000;
        let gone = gone.index(weights.len());
        let mut versions = weighted(&weights);
        versions[gone] = version(NAMES[gone], &[UNHEALTHY, DRAINING, DISABLED]).weight(weights[gone]);
        let entry = entry(&versions);
        let mut left = weights.clone();
        left[gone] = 0;
        if left.iter().all(|weight| *weight == 0) {
            // Only written zeros are left: nobody, ever.
            prop_assert_eq!(pick(&entry, &Tried::default(), &mut Rng::with_seed(seed)).err(), Some(NoInstance::NoneReady));
            return Ok(());
        }
        let counts = versions_drawn(&entry, DRAWS, &mut Rng::with_seed(seed));
        for (name, share) in NAMES.iter().zip(shares(&left)) {
            let count = counts.get(*name).copied().unwrap_or(0);
            prop_assert!(fits(count, share, DRAWS), "{name}: {count} of {DRAWS} for {left:?}");
        }
    }

    #[test]
    fn without_a_split_every_ready_instance_has_an_equal_share(
        instances in vec(0usize..5, 1..5).prop_filter("some", |i| i.iter().sum::<usize>() > 0), seed: u64,
    ) {
        const DRAWS: u32 = 5_000;
        let versions: Vec<_> = instances
            .iter()
            .zip(NAMES)
            .map(|(ready, name)| version(name, &[vec![READY; *ready], vec![UNHEALTHY]].concat()))
            .collect();
        let counts = versions_drawn(&entry(&versions), DRAWS, &mut Rng::with_seed(seed));
        let total = instances.iter().sum::<usize>() as f64;
        for (name, ready) in NAMES.iter().zip(&instances) {
            let count = counts.get(*name).copied().unwrap_or(0);
            prop_assert!(fits(count, *ready as f64 / total, DRAWS), "{name}: {count} of {DRAWS} for {instances:?}");
        }
    }

    #[test]
    fn raising_a_weight_moves_clients_to_the_raised_version_only(
        weights in weights(), raised: proptest::sample::Index, by in 1u16..500,
    ) {
        let raised = raised.index(weights.len());
        let mut more = weights.clone();
        more[raised] = (more[raised] + by).min(1000);
        let by_client = |weights: &[u16]| {
            let key = SplitBy::Client(ClientKey::Ip);
            entry_with(&weighted(weights), |route| route.split_by = key)
        };
        let (before, after) = (by_client(&weights), by_client(&more));
        for client in 0..400 {
            let (was, is) = (name(&of_client(client).pick(&before)), name(&of_client(client).pick(&after)));
            prop_assert!(was == is || is == NAMES[raised], "client {client} moved from {was} to {is}");
        }
    }
}

/// The version of each of these clients by the weights of a split.
fn assigned(weights: &BTreeMap<BackendId, Weight>, clients: Range<u32>) -> Vec<&'static str> {
    let name =
        |id: &BackendId| NAMES.into_iter().find(|name| id.version.as_str() == *name).expect("one of ours");
    let names: Vec<_> = weights.keys().map(name).collect();
    let versions: Vec<_> = names
        .iter()
        .zip(weights.values())
        .map(|(name, weight)| version(name, &[READY]).weighs(*weight))
        .collect();
    let entry = entry_with(&versions, |route| route.split_by = SplitBy::Client(ClientKey::Ip));
    let drawn = |client| entry.lots.draw_for(client, entry.versions()).expect("somebody has a part");
    clients.map(|client| names[drawn(stable_hash::of(&client.to_be_bytes()))]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_release_moves_clients_to_its_target_only_and_a_rollback_moves_each_back(
        weights in weights(), target: proptest::sample::Index, first in 0u32..u32::MAX - 300,
    ) {
        let id = |name: &str| -> BackendId { format!("shop@{name}").parse().expect("a backend") };
        let from: BTreeMap<_, _> = NAMES.iter().zip(&weights)
            .map(|(name, weight)| (id(name), Weight::new((*weight).into()).expect("a weight"))).collect();
        let to = NAMES[target.index(NAMES.len())];
        let from: BTreeMap<_, _> = from.into_iter().filter(|(backend, _)| *backend != id(to)).collect();
        prop_assume!(from.values().any(|weight| *weight > Weight::ZERO));
        let plan = Plan::check(id(to), None, None, false, None).expect("the defaults are a plan");
        let mut former = from.clone();
        former.insert(id(to), Weight::ZERO);
        let before = assigned(&former, first..first + 300);
        let mut last = before.clone();
        for percent in 0..=100 {
            let now = assigned(&plan.weights(percent, &from), first..first + 300);
            for ((was, is), first) in last.iter().zip(&now).zip(&before) {
                prop_assert!(is == was || *is == to, "at {percent} % from {was} to {is} in {from:?}");
                prop_assert!(*is == to || is == first);
            }
            last = now;
        }
        prop_assert!(last.iter().all(|is| *is == to));
        // What a rollback writes is what was before.
        prop_assert_eq!(assigned(&plan.weights(0, &from), first..first + 300), before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_draw_of_a_client_is_the_same_on_every_node_and_only_clients_of_a_version_that_is_gone_move(
        weights in weights(), gone: proptest::sample::Index, first in 0u32..u32::MAX - 400,
    ) {
        let gone = gone.index(weights.len());
        for key in [ClientKey::Ip, ClientKey::Header("x-user".into()), ClientKey::Cookie("user".into())] {
            // Each node builds its own table; what they have in common are the names.
            let node = |versions: &[Version]| {
                entry_with(versions, |route| route.split_by = SplitBy::Client(key.clone()))
            };
            let (one, another) = (node(&weighted(&weights)), node(&weighted(&weights)));
            let mut less = weighted(&weights);
            less[gone] = version(NAMES[gone], &[UNHEALTHY]).weight(weights[gone]);
            let less = node(&less);
            for client in first..first + 100 {
                let user = format!("{client:x}");
                let asked = of_client(client).field("x-user", user.clone()).field("cookie", format!("user={user}"));
                let drawn = name(&asked.pick(&one));
                prop_assert_eq!(&drawn, &name(&asked.pick(&another)));
                let left = less.pick(&asked.view(), &Tried::default(), &mut Rng::new(), Instant::now());
                match left {
                    Ok(left) => prop_assert!(name(&left) == drawn || drawn == NAMES[gone], "{drawn} was not gone"),
                    Err(none) => prop_assert_eq!(none, NoInstance::NoneReady, "only written zeros are left"),
                }
            }
        }
    }
}

#[test]
fn the_vectors_that_people_write_come_out_exactly() {
    const DRAWS: u32 = 60_000;
    let mut rng = Rng::new();
    let hundred = || version("v0", &[READY; 100]).weight(50);
    for (versions, want) in [
        (weighted(&[0, 100]), [0.0, 1.0, 0.0]),
        (weighted(&[100, 0]), [1.0, 0.0, 0.0]),
        (weighted(&[100, 100, 100]), [1.0 / 3.0; 3]),
        (weighted(&[1, 2]), [1.0 / 3.0, 2.0 / 3.0, 0.0]),
        (weighted(&[1000, 1]), [1000.0 / 1001.0, 1.0 / 1001.0, 0.0]),
        (weighted(&[1, 1000, 1000]), [1.0 / 2001.0, 1000.0 / 2001.0, 1000.0 / 2001.0]),
        (
            vec![
                version("v0", &[DISABLED]).weight(98),
                version("v1", &[READY]).weight(1),
                version("v2", &[READY]).weight(1),
            ],
            [0.0, 0.5, 0.5],
        ),
        (vec![hundred(), version("v1", &[READY]).weight(50)], [0.5, 0.5, 0.0]),
        (
            vec![hundred(), version("v1", &[STOPPING]).weight(50), version("v2", &[READY]).weight(100)],
            [1.0 / 3.0, 0.0, 2.0 / 3.0],
        ),
    ] {
        let counts = versions_drawn(&entry(&versions), DRAWS, &mut rng);
        for (name, share) in NAMES.iter().zip(want) {
            let count = counts.get(*name).copied().unwrap_or(0);
            assert!(fits(count, share, DRAWS), "{name}: {count} of {DRAWS}, not {share}");
        }
    }
}

#[test]
fn a_canary_raised_from_5_to_25_takes_clients_and_gives_none_back() {
    const CLIENTS: u32 = 4000;
    let at = |canary: u16| {
        let key = SplitBy::Client(ClientKey::Cookie("user".into()));
        entry_with(&weighted(&[100 - canary, canary]), |route| route.split_by = key)
    };
    let mut before: Vec<bool> = vec![false; CLIENTS as usize];
    for canary in [1, 5, 25, 50, 100] {
        let entry = at(canary);
        let drawn =
            |user| name(&Asked::default().field("cookie", format!("user={user}")).pick(&entry)) == "v1";
        let now: Vec<bool> = (0..CLIENTS).map(drawn).collect();
        assert!(before.iter().zip(&now).all(|(was, is)| !was || *is), "a client went back at {canary}");
        let count = now.iter().filter(|is| **is).count();
        assert!(fits(count as u32, f64::from(canary) / 100.0, CLIENTS), "{count} clients at {canary}");
        before = now;
    }
}

/// One backend of a catalog that is built from its inputs: instances as (running, stopping, paused, drained, ejected), and the
/// weight that the split gives it, if it names it.
type Backends = Vec<([usize; 5], Option<u16>)>;

fn an_ejection() -> Ejection {
    let (since, until) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
    Ejection { since, until, until_probed: false, reason: "it failed".into() }
}

fn built(backends: &Backends, split: bool) -> Catalog {
    let entry =
        ConfiguredRoute { scheme: Scheme::Http, host: Host::Exact("shop.test".into()), path: "/".into() };
    let ports = vec![PortClaim { port: 80, entries: vec![entry] }];
    let spec = Arc::new(ServiceSpec { ports, has_own_labels: true, ..ServiceSpec::default() });
    let (mut facts, mut decisions) =
        (SourceFacts { listed: true, ..SourceFacts::default() }, Decisions::default());
    let (author, at, reason): (Arc<str>, _, Arc<str>) = ("tests".into(), Timestamp::UNIX_EPOCH, "".into());
    let (mut weights, mut ejected) = (BTreeMap::new(), HashMap::new());
    for ((instances, weight), name) in backends.iter().zip(NAMES) {
        let id: BackendId = format!("shop@{name}").parse().expect("a backend");
        let kinds = instances.iter().enumerate().flat_map(|(kind, count)| vec![kind; *count]);
        for (kind, number) in kinds.zip(0..) {
            let mut unit = unit(&id, number, 1, kind == 1);
            unit.spec = spec.clone();
            match kind {
                2 => unit.lifecycle = Lifecycle::Paused,
                3 => {
                    let subject = StateSubject::Instance(InstanceId::of_container(&unit.id, 80));
                    let (author, reason) = (author.clone(), reason.clone());
                    decisions
                        .states
                        .insert(subject, StateRecord { state: State::Draining, author, at, reason });
                }
                4 => {
                    let (id, address) =
                        (InstanceId::of_container(&unit.id, 80), unit.ip.map(|ip| (ip, 80).into()));
                    let address = address.expect("it has one");
                    ejected.insert(InstanceKey { id, started: unit.started, address }, an_ejection());
                }
                _ => {}
            }
            facts.units.insert(unit.id.clone(), Arc::new(unit));
        }
        weights.extend(weight.map(|weight| (id, Weight::new(weight.into()).expect("a weight"))));
    }
    if split {
        let route: RouteId = "shop.test/".parse().expect("a route");
        decisions
            .splits
            .insert(route, SplitRecord { weights, author, at, expires_at: None, reason, then: None });
    }
    let (decisions, ejections) = (Arc::new(decisions), Arc::new(ejected));
    let mut inputs = Inputs { decisions, ejections, ..Inputs::default() };
    inputs.sources.insert(SourceId::File, Arc::new(facts));
    Catalog::build(&inputs, &Catalog::empty(0), Timestamp::UNIX_EPOCH)
}

proptest! {
    #[test]
    fn the_share_that_the_catalog_tells_is_the_one_that_is_drawn(
        backends in vec(([0usize..3, 0..2, 0..2, 0..2, 0..3], proptest::option::of(0u16..4)), 1..5),
        split: bool,
    ) {
        let catalog = built(&backends, split);
        let table = RouteTable::build(&catalog, &lasting(), None);
        for entry in table.entries() {
            for (number, member) in entry.route.members.iter().enumerate() {
                let drawn = entry.lots.share(number);
                prop_assert!((drawn - member.share).abs() < 1e-9, "{}: {drawn}, not {}", member.backend.id, member.share);
            }
        }
    }
}

#[test]
fn clients_are_spread_over_the_versions_by_weight() {
    const CLIENTS: u32 = 20_000;
    let weights = [70, 25, 5, 0];
    let key = SplitBy::Client(ClientKey::Header("x-user".into()));
    let entry = entry_with(&weighted(&weights), |route| route.split_by = key);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for client in 0..CLIENTS {
        let pick = Asked::default().field("X-User", format!("user-{client}")).pick(&entry);
        assert_eq!(pick.why, Why::Client);
        *counts.entry(name(&pick)).or_default() += 1;
    }
    for (name, share) in NAMES.iter().zip(shares(&weights)) {
        let count = counts.get(*name).copied().unwrap_or(0);
        assert!(fits(count, share, CLIENTS), "{name}: {count} of {CLIENTS}");
    }
}

#[test]
fn a_request_that_does_not_tell_its_client_is_drawn_like_any_other() {
    let key = SplitBy::Client(ClientKey::Cookie("user".into()));
    let entry = entry_with(&weighted(&[50, 50]), |route| route.split_by = key);
    let counts = versions_drawn(&entry, 2000, &mut Rng::with_seed(3));
    assert!(counts.values().all(|count| fits(*count, 0.5, 2000)), "{counts:?}");
    // Whoever is logged out may send the cookie all the same, and is not one client with all others.
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let (logged_out, mut rng) = (Asked::default().field("Cookie", "user="), Rng::with_seed(3));
    for _ in 0..2000 {
        let pick = entry.pick(&logged_out.view(), &Tried::default(), &mut rng, Instant::now());
        let pick = pick.expect("there is an instance");
        assert_eq!(pick.why, Why::Split, "nothing tells the client");
        *counts.entry(name(&pick)).or_default() += 1;
    }
    assert!(counts.values().all(|count| fits(*count, 0.5, 2000)), "{counts:?}");
}

#[test]
fn each_tier_serves_only_when_the_one_above_has_nobody() {
    let v = version;
    for (versions, want) in [
        (vec![v("v0", &[READY]).weight(1), v("v1", &[READY]).unnamed()], Ok(("v0", Why::Split))),
        (vec![v("v0", &[READY])], Ok(("v0", Why::Equal))),
        (vec![v("v0", &[UNHEALTHY]).weight(1), v("v1", &[READY]).unnamed()], Ok(("v1", Why::StandIn))),
        (vec![v("v0", &[STOPPING]).weight(1), v("v1", &[READY]).unnamed()], Ok(("v1", Why::StandIn))),
        (vec![v("v0", &[STOPPING, READY]).weight(1)], Ok(("v0", Why::Split))),
        (vec![v("v0", &[STOPPING, UNHEALTHY]).weight(1)], Ok(("v0", Why::Stopping))),
        (vec![v("v0", &[UNHEALTHY]).weight(1), v("v1", &[STOPPING]).unnamed()], Ok(("v1", Why::Stopping))),
        (vec![v("v0", &[STOPPING]).weight(9), v("v1", &[STOPPING]).weight(0)], Ok(("v0", Why::Stopping))),
        // A written zero is a promise, stopping or not.
        (
            vec![v("v0", &[UNHEALTHY]).weight(1), v("v1", &[READY, STOPPING]).weight(0)],
            Err(NoInstance::NoneReady),
        ),
        // Ordered out is out.
        (vec![v("v0", &[DRAINING]).weight(1), v("v1", &[DISABLED]).unnamed()], Err(NoInstance::NoneReady)),
        (vec![v("v0", &[(State::Draining, Condition::Stopping, 1)])], Err(NoInstance::NoneReady)),
        (vec![v("v0", &[(State::Active, Condition::Pending, 1)])], Err(NoInstance::NoneReady)),
        // An ejected one is out only as long as there is another.
        (vec![v("v0", &[EJECTED])], Ok(("v0", Why::Equal))),
        (vec![v("v0", &[EJECTED]).weight(1), v("v1", &[READY]).unnamed()], Ok(("v0", Why::Split))),
        // What cannot be probed counts as ready.
        (vec![v("v0", &[(State::Active, Condition::Unknown, 1)])], Ok(("v0", Why::Equal))),
        (vec![], Err(NoInstance::NoneReady)),
    ] {
        for seed in 0..20 {
            let got = pick(&entry(&versions), &Tried::default(), &mut Rng::with_seed(seed));
            let got = got.map(|pick| (name(&pick), pick.why));
            assert_eq!(got, want.map(|(name, why)| (name.to_owned(), why)), "{versions:?}");
        }
    }
}

#[test]
fn a_rule_that_fits_is_above_the_split_and_a_state_above_the_rule() {
    let rules = |transport: &mut Transport| {
        transport.matches = vec![
            MatchRule::Header("x-group".into(), "beta".into()),
            MatchRule::Cookie("beta".into(), "1".into()),
            MatchRule::Query("preview".into(), "1".into()),
            MatchRule::Client("10.1.0.0/16".parse().expect("a network")),
        ];
    };
    let canary = |instances: &[Is]| {
        vec![version("v0", &[READY]).weight(1), version("v1", instances).weight(0).with(rules)]
    };
    let dark = entry(&canary(&[READY]));
    for (asked, want) in [
        (Asked::default(), "v0"),
        (Asked::default().field("X-Group", "beta"), "v1"),
        (Asked::default().field("X-Group", "betas"), "v0"),
        (Asked::default().field("Cookie", "a=b; beta=1"), "v1"),
        (Asked { query: Some("a&preview=1"), ..Asked::default() }, "v1"),
        (Asked { query: Some("preview=10"), ..Asked::default() }, "v0"),
        (Asked { client: Some([10, 1, 2, 3]), ..Asked::default() }, "v1"),
        (Asked { client: Some([10, 2, 2, 3]), ..Asked::default() }, "v0"),
    ] {
        assert_eq!(name(&asked.pick(&dark)), want, "{:?} {:?}", asked.fields, asked.query);
    }
    let beta = Asked::default().field("X-Group", "beta");
    assert_eq!(beta.pick(&dark).why, Why::Rule);
    for out in [DISABLED, DRAINING, UNHEALTHY, STOPPING] {
        assert_eq!(name(&beta.pick(&entry(&canary(&[out])))), "v0", "{out:?}");
    }
}

#[test]
fn a_retry_never_goes_where_the_request_has_been_and_ends_when_it_has_been_everywhere() {
    let entry = entry(&[version("v0", &[READY; 3]), version("v1", &[READY, STOPPING, UNHEALTHY])]);
    for seed in 0..50 {
        let (mut tried, mut been, mut rng) = (Tried::default(), Vec::new(), Rng::with_seed(seed));
        let end = loop {
            match pick(&entry, &tried, &mut rng) {
                Ok(pick) => {
                    assert!(!been.contains(&pick.endpoint.state.uid));
                    been.push(pick.endpoint.state.uid);
                    assert_eq!(pick.why == Why::Stopping, been.len() == 5, "the stopping one comes last");
                    tried.add(&pick);
                }
                Err(end) => break end,
            }
        };
        assert_eq!((end, been.len()), (NoInstance::NoneReady, 5));
        assert!(!entry.has_instance_beside(&tried) && entry.has_instance_beside(&Tried::default()));
    }
}

#[test]
fn a_retry_prefers_another_version_than_the_failing_one() {
    let two = entry(&[
        version("v0", &[READY, READY]).weight(1),
        version("v1", &[READY, READY]).weight(99),
        version("v2", &[READY]).weight(0),
    ]);
    for seed in 0..100 {
        let mut rng = Rng::with_seed(seed);
        let first = pick(&two, &Tried::default(), &mut rng).expect("there is an instance");
        let mut tried = Tried::default();
        tried.add(&first);
        let second = pick(&two, &tried, &mut rng).expect("there is another");
        assert_ne!(name(&first), name(&second));
        tried.add(&second);
        // Both have failed: any version, another instance, never the promised zero.
        let third = pick(&two, &tried, &mut rng).expect("there are two left");
        assert_ne!(name(&third), "v2");
        assert!(![&first, &second].map(|p| p.endpoint.state.uid).contains(&third.endpoint.state.uid));
    }
}

#[test]
fn what_is_too_much_for_one_version_is_refused_rather_than_poured_over_another() {
    let split = entry(&[version("v0", &[READY]).weight(1000), version("v1", &[READY]).weight(1)]);
    let mut rng = Rng::with_seed(5);
    let mut running = Vec::new();
    let refused = loop {
        match pick(&split, &Tried::default(), &mut rng) {
            Ok(pick) => running.push(pick),
            Err(why) => break why,
        }
    };
    assert!(matches!(refused, NoInstance::Full(Crowded { version: Some(0), .. })), "{refused:?}");
    let of_v0 = running.iter().filter(|pick| name(pick) == "v0").count();
    assert_eq!(of_v0, IN_FLIGHT_MAX as usize);
    assert!(running.len() - of_v0 < 50, "the small version does not take what the large one cannot");
    running.clear();
    assert!(pick(&split, &Tried::default(), &mut rng).is_ok());
}

#[test]
fn without_a_split_every_instance_is_filled_before_a_request_is_refused() {
    let equal = entry(&[version("v0", &[READY]), version("v1", &[READY, READY])]);
    let mut rng = Rng::with_seed(5);
    let running: Vec<_> = std::iter::from_fn(|| pick(&equal, &Tried::default(), &mut rng).ok()).collect();
    assert_eq!(running.len(), 3 * IN_FLIGHT_MAX as usize);
    let full = Crowded { version: None, why: Why::Equal };
    assert_eq!(pick(&equal, &Tried::default(), &mut rng).err(), Some(NoInstance::Full(full)));
}

fn balanced(balance: Balance, weights: &[u16]) -> Arc<RouteEntry> {
    let instances: Vec<Is> =
        weights.iter().map(|weight| (State::Active, Condition::Ready, *weight)).collect();
    entry(&[version("v0", &instances).with(|transport| transport.balance = Some(balance))])
}

proptest! {
    #[test]
    fn a_full_turn_gives_each_instance_exactly_its_weight(weights in vec(1u16..=20, 1..8)) {
        let turn: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
        let entry = balanced(Balance::RoundRobin, &weights);
        for turns in [1, 2] {
            let got = instances_drawn(&entry, turn * turns);
            let want: Vec<u32> = weights.iter().map(|weight| u32::from(*weight) * turns).collect();
            prop_assert_eq!(got, want);
        }
    }
}

#[test]
fn turns_are_spread_rather_than_taken_in_runs() {
    let entry = balanced(Balance::RoundRobin, &[5, 1, 1]);
    let mut rng = Rng::with_seed(1);
    let heavy = entry.versions()[0].endpoints()[0].state.uid;
    let turn: Vec<bool> = (0..14)
        .map(|_| pick(&entry, &Tried::default(), &mut rng).expect("there is one").endpoint.state.uid == heavy)
        .collect();
    let longest = turn.split(|heavy| !heavy).map(<[bool]>::len).max();
    assert!(longest <= Some(4), "{turn:?}");
}

#[test]
fn random_follows_the_weights_of_the_instances() {
    const DRAWS: u32 = 20_000;
    let weights = [1, 2, 5, 1000];
    let counts = instances_drawn(&balanced(Balance::Random, &weights), DRAWS);
    assert!(
        counts.iter().zip(shares(&weights)).all(|(count, share)| fits(*count, share, DRAWS)),
        "{counts:?}"
    );
}

#[test]
fn least_request_fills_instances_evenly_for_their_weight() {
    let entry = balanced(Balance::LeastRequest, &[1, 1, 2]);
    let mut rng = Rng::with_seed(1);
    let running: Vec<_> =
        (0..400).map(|_| pick(&entry, &Tried::default(), &mut rng).expect("there is one")).collect();
    let in_flight: Vec<_> = entry.endpoints().map(|endpoint| endpoint.state.in_flight()).collect();
    assert_eq!(running.len(), 400);
    assert!(
        in_flight.iter().zip([100, 100, 200]).all(|(got, want)| got.abs_diff(want) <= 1),
        "{in_flight:?}"
    );
}

#[test]
fn p2c_avoids_the_slow_and_the_failing_instance() {
    let entry = balanced(Balance::P2cEwma, &[1; 4]);
    let now = Instant::now();
    for (endpoint, ms) in entry.endpoints().zip([10, 10, 10, 200]) {
        endpoint.state.observe(Duration::from_millis(ms), now);
    }
    let first = entry.versions()[0].endpoints()[0].clone();
    let counts = instances_drawn(&entry, 3000);
    assert_eq!(counts[3], 0, "the slow one always loses: {counts:?}");
    first.state.observe_failure(Duration::ZERO, now, "connect-failed");
    let counts = instances_drawn(&entry, 3000);
    assert!(counts[0] == 0 && counts[1] > 1000, "{counts:?}");
}

#[test]
fn p2c_gives_instances_that_are_about_as_fast_their_weights_shares() {
    let entry = balanced(Balance::P2cEwma, &[1, 1, 2]);
    let now = Instant::now();
    for (endpoint, micros) in entry.endpoints().zip([300, 900, 5000]) {
        endpoint.state.observe(Duration::from_micros(micros), now);
    }
    let counts = instances_drawn(&entry, 4000);
    assert!((900..=1100).contains(&counts[0]) && (900..=1100).contains(&counts[1]), "{counts:?}");
}

#[test]
fn p2c_spreads_requests_that_run_at_the_same_time() {
    let entry = balanced(Balance::P2cEwma, &[1; 10]);
    let now = Instant::now();
    entry.endpoints().for_each(|endpoint| endpoint.state.observe(Duration::from_millis(5), now));
    let mut rng = Rng::with_seed(1);
    let running: Vec<_> =
        (0..1000).map(|_| pick(&entry, &Tried::default(), &mut rng).expect("there is one")).collect();
    let in_flight: Vec<_> = entry.endpoints().map(|endpoint| endpoint.state.in_flight()).collect();
    assert_eq!(running.len(), 1000);
    assert!(in_flight.iter().all(|n| (90..=110).contains(n)), "{in_flight:?}");
}

#[test]
fn the_hash_keeps_a_client_at_its_instance_and_moves_only_those_of_one_that_is_gone() {
    let by_ip = |instances: &[Is]| {
        entry(&[
            version("v0", instances).with(|transport| transport.balance = Some(Balance::Hash(ClientKey::Ip)))
        ])
    };
    let (all, fewer) = (by_ip(&[READY; 5]), by_ip(&[READY, READY, UNHEALTHY, READY, READY]));
    let gone = fewer
        .endpoints()
        .find(|endpoint| endpoint.instance.condition == Condition::Unhealthy)
        .expect("one is out");
    let mut counts: HashMap<String, u32> = HashMap::new();
    for client in 0..5000 {
        let (was, again) = (of_client(client).pick(&all), of_client(client).pick(&all));
        assert_eq!(was.endpoint.key, again.endpoint.key);
        let is = of_client(client).pick(&fewer);
        assert!(
            is.endpoint.key == was.endpoint.key || was.endpoint.key == gone.key,
            "client {client} moved for nothing"
        );
        *counts.entry(was.endpoint.key.id.to_string()).or_default() += 1;
    }
    assert!(counts.len() == 5 && counts.values().all(|count| fits(*count, 0.2, 5000)), "{counts:?}");
}

#[test]
fn a_client_with_very_many_requests_spills_over_to_its_next_instance() {
    let entry = balanced(Balance::Hash(ClientKey::Ip), &[1; 4]);
    let running: Vec<_> = (0..400).map(|_| of_client(7).pick(&entry)).collect();
    let most = entry.endpoints().map(|endpoint| endpoint.state.in_flight()).max();
    assert_eq!(running.len(), 400);
    assert!(most <= Some(126), "{most:?} of 400 at one of four instances");
}

/// The instances in flight at, of so many, when a version has this many requests of this many clients at the same time.
fn spread_over_many(balance: Balance, instances: usize, requests: u32, clients: u32) -> Vec<u32> {
    let entry = balanced(balance, &vec![1; instances]);
    let mut rng = Rng::with_seed(3);
    let running: Vec<_> = (0..requests)
        .map(|n| entry.pick(&of_client(n % clients).view(), &Tried::default(), &mut rng, Instant::now()))
        .collect();
    assert!(running.iter().all(Result::is_ok));
    entry.endpoints().map(|endpoint| endpoint.state.in_flight()).collect()
}

#[test]
fn least_request_of_many_looks_at_some_and_spreads_nearly_as_evenly() {
    let in_flight = spread_over_many(Balance::LeastRequest, 300, 3000, 1);
    assert!(in_flight.iter().all(|n| (5..=13).contains(n)), "{in_flight:?}");
}

#[test]
fn the_clients_of_a_hash_never_bury_an_instance_of_many() {
    // Ten clients with 300 requests each: at their own ten instances there would be 300 each, on average there are 30.
    let in_flight = spread_over_many(Balance::Hash(ClientKey::Ip), 100, 3000, 10);
    assert_eq!(in_flight.iter().sum::<u32>(), 3000);
    // 1.25 times what a sample of a third of them has on average; the sample may have more of the busy ones.
    assert!(in_flight.iter().all(|n| *n <= 60), "{in_flight:?}");
}

#[test]
fn two_nodes_that_know_of_other_failures_agree_about_all_other_clients() {
    let node = |instances: &[Is]| {
        entry(&[version("v0", instances).with(|t| t.balance = Some(Balance::Hash(ClientKey::Ip)))])
    };
    let out_at = |out: usize| {
        let mut instances = [READY; 20];
        instances[out] = UNHEALTHY;
        node(&instances)
    };
    let id_of = |entry: &RouteEntry| {
        let out = entry.endpoints().find(|e| e.instance.condition == Condition::Unhealthy);
        out.expect("one is out").key.id.clone()
    };
    let (one, other) = (out_at(3), out_at(11));
    let (out_here, out_there) = (id_of(&one), id_of(&other));
    let mut apart = 0;
    for client in 0..2000 {
        let here = of_client(client).pick(&one).endpoint.key.id.clone();
        let there = of_client(client).pick(&other).endpoint.key.id.clone();
        apart += u32::from(here != there);
        assert!(here == there || here == out_there || there == out_here, "client {client}");
    }
    // Those of the two instances that one of the nodes cannot reach: 1 of 10.
    assert!((100..300).contains(&apart), "{apart}");
}

#[test]
fn the_turns_of_an_instance_that_is_full_are_nobody_elses() {
    let entry = balanced(Balance::RoundRobin, &[1; 5]);
    let full = entry.versions()[0].serving()[2].clone();
    let _places: Vec<_> = std::iter::from_fn(|| full.state.begin()).collect();
    let counts = instances_drawn(&entry, 400);
    for (endpoint, count) in entry.endpoints().zip(counts) {
        assert_eq!(count, if endpoint.key == full.key { 0 } else { 100 });
    }
}

#[test]
fn the_ring_of_a_version_outlives_weights_and_failures_and_is_made_anew_when_an_instance_comes() {
    let (lasting, mut catalog) = (lasting(), catalog());
    let mut build = |instances: &[Is], weight: u16, before: Option<&RouteTable>| {
        let by_ip = |transport: &mut Transport| transport.balance = Some(Balance::Hash(ClientKey::Ip));
        put(&mut catalog, "shop.test/", &[version("v0", instances).weight(weight).with(by_ip)]);
        RouteTable::build(&catalog, &lasting, before)
    };
    let first = build(&[READY; 50], 100, None);
    let flipped: Vec<Is> = (0..50).map(|n| if n == 7 { UNHEALTHY } else { READY }).collect();
    let second = build(&flipped, 5, Some(&first));
    let third = build(&[READY; 51], 5, Some(&second));
    fn seats(table: &RouteTable) -> &Seats {
        table.entries()[0].versions()[0].seats.as_ref().expect("its balance binds clients")
    }
    assert!(seats(&second).shares_ring_with(seats(&first)));
    assert!(!seats(&third).shares_ring_with(seats(&second)));
    assert!(seats(&first).heap_bytes() < 50 * 800, "{}", seats(&first).heap_bytes());
    for client in 0..200 {
        let (was, is) =
            (of_client(client).pick(&first.entries()[0]), of_client(client).pick(&second.entries()[0]));
        let gone = second.entries()[0].versions()[0].endpoints()[49].key.id.clone();
        assert!(was.endpoint.key == is.endpoint.key || was.endpoint.key.id == gone);
    }
}

/// Where a bound client goes, and why.
fn bound_to(
    entry: &RouteEntry,
    version: usize,
    instance: usize,
    asked: &Asked,
    tried: &Tried,
) -> Result<Pick, NoInstance> {
    let version = &entry.versions()[version];
    let instance = &version.backend.instances[instance];
    let bound = Bound {
        backend: (&*version.name).into(),
        instance: instance.id.as_str().into(),
        since: 1,
        renewed: 1,
    };
    entry.pick_bound(&asked.view(), Some(&bound), tried, &mut Rng::new(), Instant::now())
}

fn went(pick: &Result<Pick, NoInstance>) -> Option<(String, usize, Why)> {
    let pick = pick.as_ref().ok()?;
    let instances = &pick.version.backend.instances;
    let number = instances.iter().position(|instance| instance.id == pick.endpoint.key.id)?;
    Some((name(pick), number, pick.why))
}

#[test]
fn a_bound_client_stays_at_its_instance_whatever_the_weights() {
    for (weight, is) in [(1, READY), (0, READY), (0, DRAINING), (1000, DRAINING)] {
        let entry =
            entry(&[version("v1", &[READY, is, READY]).weight(weight), version("v2", &[READY]).weight(1000)]);
        let pick = bound_to(&entry, 0, 1, &Asked::default(), &Tried::default());
        assert_eq!(went(&pick), Some(("v1".into(), 1, Why::Sticky)), "weight {weight}, {is:?}");
    }
    let draining = entry(&[version("v1", &[DRAINING]).weight(1), version("v2", &[READY]).weight(1)]);
    for seed in 0..64 {
        let new = pick(&draining, &Tried::default(), &mut Rng::with_seed(seed)).expect("an instance");
        assert_eq!(name(&new), "v2", "a draining one gets no new client");
    }
}

#[test]
fn a_client_whose_instance_is_gone_falls_to_its_version_and_then_to_any() {
    let v2 = || version("v2", &[READY]).weight(1000);
    for (is, others, want) in [
        (UNHEALTHY, READY, ("v1", 1, Why::Sticky)),
        (DISABLED, READY, ("v1", 1, Why::Sticky)),
        (STOPPING, READY, ("v1", 1, Why::Sticky)),
        (UNHEALTHY, DRAINING, ("v1", 1, Why::Sticky)),
        (UNHEALTHY, UNHEALTHY, ("v2", 0, Why::Split)),
        (STOPPING, STOPPING, ("v2", 0, Why::Split)),
        (DISABLED, DISABLED, ("v2", 0, Why::Split)),
    ] {
        let entry = entry(&[version("v1", &[is, others]).weight(0), v2()]);
        let pick = bound_to(&entry, 0, 0, &Asked::default(), &Tried::default());
        assert_eq!(went(&pick), Some((want.0.into(), want.1, want.2)), "{is:?}, {others:?}");
    }
    let entry = entry(&[version("v1", &[READY])]);
    for (backend, instance) in [("gone@v0", "x:80"), (&*entry.versions()[0].name, "x:80")] {
        let bound = Bound { backend: backend.into(), instance: instance.into(), since: 1, renewed: 1 };
        let asked = Asked::default();
        let pick =
            entry.pick_bound(&asked.view(), Some(&bound), &Tried::default(), &mut Rng::new(), Instant::now());
        assert!(pick.is_ok(), "{backend} {instance}");
    }
}

#[test]
fn a_client_stays_at_its_stopping_instance_while_no_other_one_is_ready() {
    let entry = entry(&[
        version("v1", &[STOPPING, STOPPING]).weight(0),
        version("v2", &[STOPPING, UNHEALTHY]).weight(1),
    ]);
    for instance in [0, 1] {
        let pick = bound_to(&entry, 0, instance, &Asked::default(), &Tried::default());
        assert_eq!(went(&pick), Some(("v1".into(), instance, Why::Stopping)));
    }
}

#[test]
fn a_rule_is_above_the_cookie_which_still_tells_the_instance() {
    let rule = MatchRule::Header("x-group".into(), "beta".into());
    let entry = entry(&[
        version("v1", &[READY; 3]).weight(1),
        version("v2", &[READY; 3]).weight(0).with(|transport| transport.matches = vec![rule]),
    ]);
    let beta = || Asked::default().field("x-group", "beta");
    for instance in 0..3 {
        let of_v1 = bound_to(&entry, 0, instance, &beta(), &Tried::default()).expect("an instance");
        assert_eq!((name(&of_v1), of_v1.why), ("v2".into(), Why::Rule));
        let of_v2 = bound_to(&entry, 1, instance, &beta(), &Tried::default());
        assert_eq!(went(&of_v2), Some(("v2".into(), instance, Why::Rule)));
    }
}

#[test]
fn a_retry_of_a_bound_client_stays_at_its_version_unless_that_is_a_canary() {
    for (weights, want) in [([1, 1], "v1"), ([9, 1], "v1"), ([1, 9], "v2"), ([0, 9], "v2")] {
        let versions =
            [version("v1", &[READY; 2]).weight(weights[0]), version("v2", &[READY; 2]).weight(weights[1])];
        let entry = entry(&versions);
        let mut tried = Tried::default();
        let first = bound_to(&entry, 0, 0, &Asked::default(), &tried);
        assert_eq!(went(&first), Some(("v1".into(), 0, Why::Sticky)));
        tried.add(&first.expect("an instance"));
        let second = bound_to(&entry, 0, 0, &Asked::default(), &tried).expect("an instance");
        assert_eq!(name(&second), want, "{weights:?}");
    }
    let entry = entry(&[version("v1", &[READY; 2]), version("v2", &[READY; 8])]);
    let mut tried = Tried::default();
    tried.add(&bound_to(&entry, 0, 0, &Asked::default(), &tried).expect("an instance"));
    let second = bound_to(&entry, 0, 0, &Asked::default(), &tried);
    assert_eq!(went(&second), Some(("v1".into(), 1, Why::Sticky)), "without a split no version is a canary");
}

#[test]
fn a_bound_client_of_a_full_instance_goes_elsewhere() {
    let entry = entry(&[version("v1", &[READY; 2])]);
    let full: Vec<_> = (0..IN_FLIGHT_MAX)
        .map_while(|_| bound_to(&entry, 0, 0, &Asked::default(), &Tried::default()).ok())
        .collect();
    assert!(full.iter().all(|pick| pick.endpoint.state.uid == full[0].endpoint.state.uid));
    let next = bound_to(&entry, 0, 0, &Asked::default(), &Tried::default());
    assert_eq!(went(&next), Some(("v1".into(), 1, Why::Sticky)));
}

#[test]
fn a_bound_client_waits_for_its_full_version_where_weights_hold() {
    let versions = |weight: Option<u16>| {
        let versions = [version("v1", &[READY]), version("v2", &[READY])];
        versions.map(|version| weight.map_or(version.clone(), |weight| version.weight(weight)))
    };
    for (weight, waits) in [(Some(1), true), (None, false)] {
        let entry = entry(&versions(weight));
        let _full: Vec<_> = (0..IN_FLIGHT_MAX)
            .map_while(|_| bound_to(&entry, 0, 0, &Asked::default(), &Tried::default()).ok())
            .collect();
        match bound_to(&entry, 0, 0, &Asked::default(), &Tried::default()) {
            Err(NoInstance::Full(crowded)) => {
                assert!(waits && crowded.version == Some(0) && crowded.why == Why::Sticky, "{crowded:?}");
            }
            other => assert!(!waits && went(&other) == Some(("v2".into(), 0, Why::Equal)), "{other:?}"),
        }
    }
}

// What some instances do not take part in: ejected, new, in another zone.

/// A version as it is when its first table is older than `ages` say, which are those of its instances in seconds.
fn aged(balance: Balance, ages: &[i64]) -> Arc<RouteEntry> {
    let mut catalog = catalog();
    let instances = vec![READY; ages.len()];
    put(
        &mut catalog,
        "shop.test/",
        &[version("v0", &instances).with(|transport| transport.balance = Some(balance))],
    );
    catalog.at = Timestamp::from_second(1_000_000).expect("a time");
    change_instances(&mut catalog, "shop.test/", |number, instance| {
        instance.since = catalog_second(1_000_000 - ages[number]);
    });
    RouteTable::build(&catalog, &lasting(), None).entries()[0].clone()
}

fn catalog_second(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// How often each instance is chosen at this time, one request at a time, each of another client.
fn drawn_at(entry: &RouteEntry, draws: u32, now: Instant) -> Vec<u32> {
    let mut rng = Rng::with_seed(9);
    let mut counts: HashMap<u64, u32> = HashMap::new();
    for client in 0..draws {
        let asked = of_client(client);
        let drawn =
            entry.pick(&asked.view(), &Tried::default(), &mut rng, now).expect("there is an instance");
        *counts.entry(drawn.endpoint.state.uid).or_default() += 1;
    }
    entry.endpoints().map(|endpoint| counts.get(&endpoint.state.uid).copied().unwrap_or(0)).collect()
}

fn balances() -> [Balance; 5] {
    [
        Balance::P2cEwma,
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::Random,
        Balance::Hash(ClientKey::Ip),
    ]
}

#[test]
fn a_new_instance_gets_a_part_that_grows_from_a_tenth_to_the_whole_with_every_balance() {
    const DRAWS: u32 = 8000;
    for balance in balances() {
        let entry = aged(balance.clone(), &[60, 60, 60, 0]);
        let fresh = entry.endpoints().position(|endpoint| endpoint.is_new).expect("one is new");
        let ready_at = entry.endpoints().nth(fresh).expect("it is there").ready_at;
        for (seconds, part) in [(0.0, 0.1), (5.0, 0.5), (10.0, 1.0)] {
            let now = ready_at + Duration::from_secs_f64(seconds);
            entry.endpoints().for_each(|endpoint| endpoint.state.observe(Duration::from_millis(5), now));
            let counts = drawn_at(&entry, DRAWS, now);
            let share = f64::from(counts[fresh]) / f64::from(DRAWS);
            assert!((share - part / 4.0).abs() < 0.03, "{balance:?} after {seconds} s: {counts:?}");
        }
    }
}

#[test]
fn the_clients_of_a_hash_come_to_a_new_instance_one_by_one_and_none_goes_back() {
    let entry = aged(Balance::Hash(ClientKey::Ip), &[60, 60, 0]);
    let fresh = entry.endpoints().find(|endpoint| endpoint.is_new).expect("one is new").clone();
    let at = |client: u32, seconds: u32| {
        let now = fresh.ready_at + Duration::from_secs(seconds.into());
        let mut rng = Rng::with_seed(1);
        let pick = entry.pick(&of_client(client).view(), &Tried::default(), &mut rng, now);
        pick.expect("there is an instance").endpoint.key.clone()
    };
    for client in 0..500 {
        let way: Vec<_> = (0..=10).map(|second| at(client, second)).collect();
        for (was, is) in way.iter().zip(&way[1..]) {
            assert!(was == is || *is == fresh.key, "client {client} goes from {was:?} to {is:?}");
        }
    }
}

#[test]
fn the_first_instances_of_a_version_are_not_new_and_neither_is_one_of_a_version_that_has_no_older() {
    for ages in [&[0, 0, 0][..], &[0], &[5, 0], &[9, 3, 0], &[60, 60]] {
        let entry = aged(Balance::P2cEwma, ages);
        assert!(entry.endpoints().all(|endpoint| !endpoint.is_new), "{ages:?}");
        assert!(entry.versions()[0].is_calm(Instant::now()), "and nothing is looked at: {ages:?}");
    }
    let entry = aged(Balance::P2cEwma, &[60, 5, 0]);
    assert_eq!(entry.endpoints().filter(|endpoint| endpoint.is_new).count(), 2);
}

#[test]
fn one_that_was_unhealthy_or_ordered_out_is_new_when_it_is_back_and_one_that_stays_is_not() {
    for out in [UNHEALTHY, DISABLED, STOPPING] {
        let (lasting, mut catalog) = (lasting(), catalog());
        put(&mut catalog, "shop.test/", &[version("v0", &[READY, out])]);
        catalog.at = catalog_second(60);
        let first = RouteTable::build(&catalog, &lasting, None);
        let stayed = first.entries()[0].versions()[0].serving()[0].key.clone();
        put(&mut catalog, "shop.test/", &[version("v0", &[READY, READY])]);
        let second = RouteTable::build(&catalog, &lasting, Some(&first));
        for endpoint in second.entries()[0].versions()[0].serving() {
            assert_eq!(endpoint.is_new, endpoint.key != stayed, "{out:?}");
        }
        // The next table keeps that in mind.
        put(&mut catalog, "shop.test/", &[version("v0", &[READY, READY, UNHEALTHY])]);
        let third = RouteTable::build(&catalog, &lasting, Some(&second));
        let (old, new) = (second.entries()[0].clone(), third.entries()[0].clone());
        for endpoint in new.versions()[0].serving() {
            let before = old.endpoints().find(|old| old.key == endpoint.key).expect("it was there");
            assert_eq!((endpoint.is_new, endpoint.ready_at), (before.is_new, before.ready_at), "{out:?}");
        }
    }
}

/// Ejects this instance, of which there must be peers.
fn eject(endpoint: &Endpoint, now: Instant) {
    (0..5).for_each(|_| endpoint.state.observe_failure(Duration::ZERO, now, "it answered 503"));
}

#[test]
fn no_balance_sends_anything_to_an_ejected_instance_while_another_may_serve() {
    for balance in balances() {
        let entry = balanced(balance.clone(), &[1; 4]);
        let now = Instant::now();
        let out = entry.versions()[0].serving()[1].clone();
        eject(&out, now);
        let counts = drawn_at(&entry, 2000, now);
        let mut some = 0;
        for (endpoint, count) in entry.endpoints().zip(&counts) {
            assert_eq!(*count == 0, endpoint.key == out.key, "{balance:?}: {counts:?}");
            some += usize::from(*count > 0);
        }
        assert_eq!(some, 3);
        let fields = FieldList::default();
        let foreseen =
            entry.foresee(&request("shop.test", "/", &fields), now).instances[0].expect("one serves");
        assert_ne!(foreseen.key, out.key, "{balance:?}");
    }
}

#[test]
fn a_retry_goes_to_an_ejected_instance_when_it_has_been_everywhere_else() {
    let entry = balanced(Balance::RoundRobin, &[1; 3]);
    let out = entry.versions()[0].serving()[0].clone();
    eject(&out, Instant::now());
    let (mut tried, mut rng, mut last) = (Tried::default(), Rng::with_seed(1), None);
    while let Ok(pick) = pick(&entry, &tried, &mut rng) {
        assert!(last.is_none(), "the ejected one is the last");
        last = (pick.endpoint.key == out.key).then_some(());
        tried.add(&pick);
    }
    assert_eq!((tried.len(), last), (3, Some(())));
}

#[test]
fn a_second_instance_for_a_slow_answer_is_never_an_ejected_one() {
    let (entry, now) = (balanced(Balance::RoundRobin, &[1; 2]), Instant::now());
    eject(&entry.versions()[0].serving()[0], now);
    let mut rng = Rng::with_seed(1);
    let first = pick(&entry, &Tried::default(), &mut rng).expect("the other");
    let fields = FieldList::default();
    let asked = request("shop.test", "/", &fields);
    assert!(entry.pick_beside(&first, &asked, &mut rng, now).is_none());
}

#[test]
fn what_is_too_much_for_the_others_does_not_go_to_an_ejected_instance() {
    let entry = balanced(Balance::RoundRobin, &[1; 2]);
    eject(&entry.versions()[0].serving()[0], Instant::now());
    let mut rng = Rng::with_seed(1);
    let running: Vec<_> = std::iter::from_fn(|| pick(&entry, &Tried::default(), &mut rng).ok()).collect();
    assert_eq!(running.len(), IN_FLIGHT_MAX as usize);
}

#[test]
fn ejection_is_ignored_when_too_few_are_left() {
    // Two of four are ejected, and one of the others becomes unhealthy: one of four is left, fewer than a third.
    let (lasting, mut catalog) = (lasting(), catalog());
    put(&mut catalog, "shop.test/", &[version("v0", &[READY; 4])]);
    let first = RouteTable::build(&catalog, &lasting, None);
    let now = Instant::now();
    let serving = first.entries()[0].versions()[0].serving().to_vec();
    serving[..2].iter().for_each(|endpoint| eject(endpoint, now));
    // 133 or 200 each are expected; with a tenth of its part an ejected one would get 20 or so.
    let used = |entry: &RouteEntry| drawn_at(entry, 400, now).iter().filter(|count| **count > 70).count();
    assert_eq!(used(&first.entries()[0]), 2);
    let gone = serving[3].key.id.clone();
    put(&mut catalog, "shop.test/", &[version("v0", &[READY; 4])]);
    change_instances(&mut catalog, "shop.test/", |_, instance| {
        if instance.id == gone {
            instance.condition = Condition::Unhealthy;
        }
    });
    let second = RouteTable::build(&catalog, &lasting, Some(&first));
    assert_eq!(used(&second.entries()[0]), 3, "all but the unhealthy one");
}

#[test]
fn a_version_of_which_nobody_listens_yet_leaves_its_requests_to_others_and_gets_them_if_there_are_none() {
    let splits: [&dyn Fn(Version) -> Version; 2] = [&|version| version, &|version| version.weight(50)];
    for split in splits {
        let entry = entry(&[split(version("v0", &[READY; 2])), split(version("v1", &[READY; 2]))]);
        let now = Instant::now();
        assert!(stamp(now) > 0, "stamps begin here");
        let silence = |version: usize| {
            for endpoint in entry.versions()[version].serving() {
                endpoint.state.peers.does_not_listen(&endpoint.state, now);
            }
        };
        let fields = FieldList::default();
        let mut rng = Rng::with_seed(2);
        let mut drawn = |now| {
            let asked = request("shop.test", "/", &fields);
            let picks = (0..200).map(|_| entry.pick(&asked, &Tried::default(), &mut rng, now));
            picks.map(|pick| name(&pick.expect("there is one"))).collect::<std::collections::BTreeSet<_>>()
        };
        silence(1);
        assert_eq!(drawn(now).len(), 1, "nobody waits while another version listens");
        assert_eq!(drawn(now + Duration::from_secs(1)).len(), 2, "it is asked again");
        silence(0);
        assert_eq!(drawn(now).len(), 2);
    }
}

#[test]
fn a_zone_of_many_instances_is_known_by_some_of_them() {
    // All of them, 70 % of them (1.4 times that is 98 %), a third of them (47 %) serve.
    for (here, down, least, most) in [(200, 0, 2000, 2000), (140, 60, 1900, 2000), (66, 134, 950, 1200)] {
        let stay = stay_here(&zoned(here, 400, down), 2000);
        assert!((least..=most).contains(&stay), "{here} of {}: {stay}", here + down);
    }
}

/// A version with instances in our zone `a` and in `b`.
fn zoned(here: usize, elsewhere: usize, down_here: usize) -> Arc<RouteEntry> {
    let mut catalog = catalog();
    catalog.settings = Arc::new(Settings { zone: "a".into(), ..Settings::default() });
    let all = [vec![READY; here + elsewhere], vec![UNHEALTHY; down_here]].concat();
    let balance = |transport: &mut Transport| transport.balance = Some(Balance::Random);
    put(&mut catalog, "shop.test/", &[version("v0", &all).with(balance)]);
    let mut ready = 0;
    change_instances(&mut catalog, "shop.test/", |_, instance| {
        let is_ready = instance.condition == Condition::Ready;
        let is_here = !is_ready || ready < here;
        ready += usize::from(is_ready);
        Arc::make_mut(&mut instance.unit).zone = if is_here { "a".into() } else { "b".into() };
    });
    RouteTable::build(&catalog, &lasting(), None).entries()[0].clone()
}

fn stay_here(entry: &RouteEntry, draws: u32) -> u32 {
    let counts = drawn_at(entry, draws, Instant::now());
    entry.endpoints().zip(counts).filter(|(endpoint, _)| endpoint.is_local).map(|(_, count)| count).sum()
}

#[test]
fn requests_stay_in_our_zone_as_long_as_enough_of_its_instances_serve_and_then_in_proportion() {
    const DRAWS: u32 = 4000;
    for (here, elsewhere, down_here, share) in [
        (2, 6, 0, 1.0),
        // 3 of 4, which is more than 71 %.
        (3, 3, 1, 1.0),
        // 1 of 2: 1.4 / 2 stay, and of the others as many as fall to it among all, 1 of 4.
        (1, 3, 1, 0.7 + 0.3 / 4.0),
        (1, 3, 3, 0.35 + 0.65 / 4.0),
        (0, 4, 2, 0.0),
    ] {
        let stays = stay_here(&zoned(here, elsewhere, down_here), DRAWS);
        assert!(fits(stays, share, DRAWS), "{here} + {elsewhere}, {down_here} down: {stays} of {DRAWS}");
    }
}

#[test]
fn what_is_too_much_for_our_zone_spills_over_until_the_others_have_half_as_many() {
    let entry = zoned(2, 2, 0);
    let mut rng = Rng::with_seed(3);
    let running: Vec<_> =
        (0..1200).map(|_| pick(&entry, &Tried::default(), &mut rng).expect("there is one")).collect();
    let here = running.iter().filter(|pick| pick.endpoint.is_local).count();
    assert!((760..=840).contains(&here), "{here} of 1200: twice as many as elsewhere");
    assert!(running[..32].iter().all(|pick| pick.endpoint.is_local), "16 at each are easy");
}

#[test]
fn without_a_zone_of_ours_or_instances_in_it_zones_are_nothing() {
    for (here, elsewhere) in [(0, 4), (4, 0)] {
        assert!(zoned(here, elsewhere, 0).versions()[0].is_calm(Instant::now()));
    }
}

proptest! {
    #[test]
    fn what_is_out_gets_nothing_while_another_may_serve_and_the_last_always_serves(
        kinds in vec(0usize..6, 1..9), balance in 0usize..5, silent in 0usize..9, seed: u64,
    ) {
        let is = [READY, READY, UNHEALTHY, DISABLED, DRAINING, STOPPING];
        let instances: Vec<Is> = kinds.iter().map(|kind| is[*kind]).collect();
        let entry = entry(&[
            version("v0", &instances).with(|transport| transport.balance = Some(balances()[balance].clone()))
        ]);
        let now = Instant::now();
        let serving = entry.versions()[0].serving().to_vec();
        // As many as may be are ejected, and perhaps one does not listen.
        serving.iter().for_each(|endpoint| eject(endpoint, now));
        if let Some(endpoint) = serving.get(silent) {
            endpoint.state.peers.does_not_listen(&endpoint.state, now);
        }
        let at = crate::outlier::stamp(now);
        let is_out = |endpoint: &Endpoint| {
            endpoint.state.standing.is_ejected(at) || endpoint.state.standing.is_silent(at)
        };
        let out = serving.iter().filter(|endpoint| is_out(endpoint)).count();
        let mut rng = Rng::with_seed(seed);
        for _ in 0..20 {
            match pick(&entry, &Tried::default(), &mut rng) {
                Ok(pick) if serving.is_empty() => prop_assert_eq!(pick.why, Why::Stopping),
                Ok(pick) => {
                    let panics = (serving.len() - out) * 3 < entry.versions()[0].wanted;
                    prop_assert!(!is_out(&pick.endpoint) || out == serving.len() || panics);
                    prop_assert!(serving.iter().any(|endpoint| endpoint.key == pick.endpoint.key));
                }
                Err(why) => {
                    prop_assert_eq!(why, NoInstance::NoneReady);
                    prop_assert!(serving.is_empty() && !instances.contains(&STOPPING));
                }
            }
        }
    }
}
