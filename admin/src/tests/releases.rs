//! Releases: what is refused, what each move makes of split and states, what happens when the store refuses.
//!
//! The clock is the test's: it looks at the releases as often as it likes, and says what the versions did meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use fairway_catalog::facts::{Lifecycle, Unit};
use fairway_config::file::{FileSplit, SplitRoute};
use fairway_config::labels::parse_entry;
use fairway_config::names::{RouteId, Weight};
use fairway_proxy::metrics::VersionFigures;
use fairway_release::latency::Latencies;
use fairway_store::FILE_NAME;
use serde_json::{Value, json};

use super::world::*;
use crate::Figures;

const ROUTE: &str = "/api/v1/routes/shop.company.com%2F";
const RELEASE: &str = "/api/v1/routes/shop.company.com%2F/release";
const SPLIT: &str = "/api/v1/routes/shop.company.com%2F/split";

/// What the versions of the route have done so far.
#[derive(Default)]
struct Traffic(Mutex<BTreeMap<&'static str, VersionFigures>>);

impl Figures for Traffic {
    fn of(&self, _: &RouteId) -> Vec<VersionFigures> {
        self.0.lock().expect("no test panics with it").values().cloned().collect()
    }
}

impl Traffic {
    /// So many more requests to a version, so many of which failed.
    fn add(&self, backend: &'static str, requests: u64, failures: u64) {
        let mut all = self.0.lock().expect("no test panics with it");
        let new = || VersionFigures {
            backend: backend.parse().expect("a backend"),
            requests: 0,
            failures: 0,
            latencies: Latencies::default(),
        };
        let figures = all.entry(backend).or_insert_with(new);
        figures.requests += requests;
        figures.failures += failures;
        (0..requests).for_each(|_| figures.latencies.count(Duration::from_millis(10)));
    }

    /// Looks so many seconds, in each of which `web@v2` got some requests of which so many failed, and `web@v1` got more.
    async fn seconds(&self, world: &World, seconds: u64, failures: u64) {
        for _ in 0..seconds {
            self.add("shop/web@v1", 90, 0);
            self.add("shop/web@v2", 10, failures);
            world.look(self).await;
        }
    }
}

impl World {
    async fn look(&self, traffic: &Traffic) {
        for work in self.control.look_at_releases(traffic, Duration::from_secs(1)) {
            work.await.expect("no move panics");
        }
        self.catch_up().await;
    }

    /// Whether a problem of this kind is told.
    async fn tells(&self, kind: &str) -> bool {
        let problems = self.read("/api/v1/problems").await;
        problems["items"].as_array().is_some_and(|items| items.iter().any(|problem| problem["type"] == kind))
    }

    async fn until_told(&self, kind: &str, told: bool) {
        within(async {
            while self.tells(kind).await != told {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// What is in force is what is stored.
    async fn is_stored(&self) {
        let stored = self.store.as_ref().expect("a store").load().expect("load");
        assert_eq!(stored.decisions, *self.inputs.current().decisions);
        assert!(stored.releases.values().all(|release| release.stage.is_ended()));
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], &body.to_string()).await
    }

    /// A release of `web@v2` in steps of 10, 50 and 100 % of 5 s.
    async fn start_release(&self, more: Value) -> Value {
        let mut order = json!({"to": "web@v2", "steps": [10, 50], "step_seconds": 5});
        for (name, value) in more.as_object().expect("members") {
            order[name] = value.clone();
        }
        let answer = self.post(RELEASE, &order).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()
    }

    async fn state(&self) -> String {
        text(&self.read(RELEASE).await["state"])
    }

    /// The route's weights, as in `web@v1=90 web@v2=10`; `-` without a split.
    async fn weights(&self) -> String {
        let route = self.read(ROUTE).await;
        let members = route["backends"].as_array().expect("backends");
        let weight = |member: &Value| match member["weight"].as_u64() {
            Some(weight) => format!("{}={weight}", text(&member["id"]).replace("shop/", "")),
            None => "-".to_owned(),
        };
        members.iter().map(weight).collect::<Vec<_>>().join(" ")
    }

    async fn backend_state(&self, name: &str) -> String {
        text(&self.read(&format!("/api/v1/backends/web%40{name}")).await["state"])
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_good_release_steps_by_itself_and_ends_with_the_target_alone_and_no_split() {
    let (world, _folder) = World::new().await;
    let begun = world.start_release(json!({"reason": "1.2.3"})).await;
    assert_eq!(
        (&begun["state"], &begun["step"], &begun["weight"]),
        (&json!("stepping"), &json!(1), &json!(10))
    );
    assert_eq!((&begun["route"], &begun["to"]), (&json!("shop.company.com/"), &json!("shop/web@v2")));
    assert_eq!((&begun["from"], &begun["steps"]), (&json!(["shop/web@v1"]), &json!([10, 50, 100])));
    assert_eq!(begun["ordered"]["reason"], "1.2.3");
    assert_eq!(world.weights().await, "web@v1=90 web@v2=10");
    let traffic = Traffic::default();
    let mut seen = Vec::new();
    for _ in 0..30 {
        traffic.seconds(&world, 1, 0).await;
        let now = (world.state().await, world.weights().await);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    let seen: Vec<_> = seen.iter().map(|(state, weights)| format!("{state} {weights}")).collect();
    let want = [
        "stepping web@v1=90 web@v2=10",
        "stepping web@v1=50 web@v2=50",
        "stepping web@v1=0 web@v2=100",
        "confirming web@v1=0 web@v2=100",
        "done - -",
    ];
    assert_eq!(seen, want);
    assert_eq!(
        (world.backend_state("v1").await, world.backend_state("v2").await),
        ("draining".into(), "active".into())
    );
    let route = world.read(ROUTE).await;
    assert_eq!((&route["split"], &route["backends"][1]["share"]), (&Value::Null, &json!(1.0)));
    let release = world.read(RELEASE).await;
    assert_eq!((&release["ending"], &release["weight"]), (&json!("completed"), &json!(100)));
    let canary = &release["evidence"]["canary"];
    assert!(canary["requests"].as_u64() > Some(100) && canary["failures"] == 0, "{release}");
    let events = world.read("/api/v1/events").await;
    let told: Vec<_> = events["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter(|event| text(&event["type"]).starts_with("release-"))
        .map(|event| format!("{} {} -> {}", text(&event["type"]), text(&event["from"]), text(&event["to"])))
        .collect();
    let want = [
        "release-state  -> stepping",
        "release-step shop/web@v2 0 % -> shop/web@v2 10 %",
        "release-step shop/web@v2 10 % -> shop/web@v2 50 %",
        "release-step shop/web@v2 50 % -> shop/web@v2 100 %",
        "release-state stepping -> confirming",
        "release-state confirming -> done",
    ];
    assert_eq!(told, want);
    let metrics = world.get("/metrics").await.body;
    for line in [
        "fairway_releases{route=\"shop.company.com/\",state=\"done\"} 1",
        "fairway_releases_ended_total{ending=\"completed\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let audit = world.read("/api/v1/audit").await;
    let actions: Vec<_> =
        audit["items"].as_array().expect("items").iter().map(|entry| text(&entry["action"])).collect();
    let want =
        ["release-done", "release-confirming", "release-stepping", "release-stepping", "release-start"];
    assert_eq!(actions, want);
}

#[tokio::test]
async fn one_that_fails_is_back_at_the_former_split_with_a_0_and_disabled_until_it_is_activated() {
    let (world, _folder) = World::new().await;
    world.put(SPLIT, &json!({"weights": {"v1": 70, "v2": 30}, "reason": "before"})).await;
    world.start_release(json!({})).await;
    let traffic = Traffic::default();
    traffic.seconds(&world, 2, 0).await;
    for _ in 0..10 {
        traffic.seconds(&world, 1, 10).await;
    }
    let release = world.read(RELEASE).await;
    assert_eq!((&release["state"], &release["ending"]), (&json!("rolled_back"), &json!("failures")));
    let why = text(&release["reason"]);
    assert!(
        why.starts_with("more of its requests fail; canary: ") && why.contains("(125:1 needed)"),
        "{why}"
    );
    assert_eq!(world.weights().await, "web@v1=70 web@v2=0");
    let split = world.read(ROUTE).await["split"].clone();
    assert_eq!((&split["layer"], &split["reason"]), (&json!("api"), &json!("before")));
    assert_eq!(world.backend_state("v2").await, "disabled");
    let backend = world.read("/api/v1/backends/web%40v2").await;
    let ordered =
        |subject: &Value| (text(&subject["ordered"]["author"]), text(&subject["ordered"]["reason"]));
    assert_eq!(ordered(&backend), ("release".into(), "rolled_back".into()));
    let instance = world.read("/api/v1/instances/020202020202%3A80").await;
    assert_eq!(ordered(&instance), ordered(&backend), "what is set on the backend as a whole");
    // What is in force is what is stored.
    let stored = world.store.as_ref().expect("a store").load().expect("load");
    assert_eq!(stored.decisions, *world.inputs.current().decisions);
    world.post(RELEASE, &json!({"to": "v2"})).await.refused(409, "target-disabled");
    world.put("/api/v1/backends/web%40v2/state", &json!({"state": "active"})).await;
    assert_eq!(world.weights().await, "web@v1=70 web@v2=0", "the 0 is a promise");
    world.start_release(json!({})).await;
    assert_eq!(world.weights().await, "web@v1=90 web@v2=10");
}

#[tokio::test]
async fn the_others_keep_their_proportions_whatever_numbers_that_takes_and_a_restart_knows_them() {
    let (world, _folder) = World::new().await;
    let mut units = shop();
    units.push(unit(7, "shop/web@v3", &[("aliyun.routing.port_80", "http://shop.company.com")]));
    world.set_units(units).await;
    world.put(SPLIT, &json!({"weights": {"v1": 333, "v2": 0, "v3": 667}})).await;
    world.start_release(json!({"steps": [1]})).await;
    assert_eq!(world.weights().await, "web@v1=32967 web@v2=1000 web@v3=66033");
    let share = world.read(ROUTE).await["backends"][1]["share"].as_f64().expect("a share");
    assert!((share - 0.01).abs() < 1e-12, "{share}");
    let stored = world.store.as_ref().expect("a store").load().expect("load");
    assert_eq!(stored.decisions, *world.inputs.current().decisions);
    world.send("POST", &format!("{RELEASE}/rollback"), &[], "").await;
    assert_eq!(world.weights().await, "web@v1=333 web@v2=0 web@v3=667");
}

#[tokio::test]
async fn a_version_that_is_down_at_the_start_is_not_left_out_for_good() {
    let (world, _folder) = World::new().await;
    let mut units = shop();
    let routed = &[("aliyun.routing.port_80", "http://shop.company.com")];
    let away = Unit { lifecycle: Lifecycle::Paused, ..unit(7, "shop/web@v3", routed) };
    units.push(away);
    world.set_units(units).await;
    world.start_release(json!({})).await;
    world.send("POST", &format!("{RELEASE}/rollback"), &[], "").await;
    assert_eq!(world.weights().await, "web@v1=100 web@v2=0 web@v3=100");
}

#[tokio::test]
async fn orders_that_cannot_be_are_refused_with_what_would_do() {
    let (world, _folder) = World::new().await;
    for (order, status, kind) in [
        (json!({}), 422, "bad-order"),
        (json!({"to": "web@v3"}), 422, "unknown-backend"),
        (json!({"to": "api@v2"}), 422, "unknown-backend"),
        (json!({"to": ""}), 422, "unknown-backend"),
        (json!({"to": "v2", "step": [5]}), 422, "bad-order"),
        (json!({"to": "v2", "steps": []}), 422, "bad-release"),
        (json!({"to": "v2", "steps": [50, 5]}), 422, "bad-release"),
        (json!({"to": "v2", "steps": [5, 5]}), 422, "bad-release"),
        (json!({"to": "v2", "steps": [5, 101]}), 422, "bad-release"),
        (json!({"to": "v2", "steps": [0, 5]}), 422, "bad-release"),
        (json!({"to": "v2", "steps": [-5]}), 422, "bad-release"),
        (json!({"to": "v2", "steps": [0.5]}), 422, "bad-release"),
        (json!({"to": "v2", "steps": (1..=33).collect::<Vec<_>>()}), 422, "bad-release"),
        (json!({"to": "v2", "steps": ["5"]}), 422, "bad-order"),
        (json!({"to": "v2", "step_seconds": 0}), 422, "bad-release"),
        (json!({"to": "v2", "step_seconds": -1}), 422, "bad-release"),
        (json!({"to": "v2", "step_seconds": 86_401}), 422, "bad-release"),
        (json!({"to": "v2", "step_seconds": 1.5}), 422, "bad-release"),
        (json!({"to": "v2", "max_error_rate": 0}), 422, "bad-release"),
        (json!({"to": "v2", "max_error_rate": 1}), 422, "bad-release"),
        (json!({"to": "v2", "max_error_rate": 5}), 422, "bad-release"),
        (json!({"to": "v2", "manual": true, "steps": [5]}), 422, "bad-release"),
        (json!({"to": "v2", "reason": "x".repeat(1001)}), 422, "reason-too-long"),
    ] {
        let problem = world.post(RELEASE, &order).await.refused(status, kind);
        if kind == "unknown-backend" {
            assert_eq!(problem["known"], json!(["shop/web@v1", "shop/web@v2"]), "{order}");
        }
    }
    let several = json!({"to": "v2", "steps": [0, 101], "step_seconds": 0});
    let problem = world.post(RELEASE, &several).await.refused(422, "bad-release");
    assert_eq!(problem["errors"].as_array().map(Vec::len), Some(3), "{problem}");
    world
        .post("/api/v1/routes/nowhere.com/release", &json!({"to": "v2"}))
        .await
        .refused(404, "unknown-route");
    world.get(RELEASE).await.refused(404, "no-release");
    world.get("/api/v1/routes/nowhere.com/release").await.refused(404, "unknown-route");
    for order in ["confirm", "rollback", "pause", "resume"] {
        world.send("POST", &format!("{RELEASE}/{order}"), &[], "").await.refused(404, "no-release");
    }
    assert!(world.inputs.current().decisions.splits.is_empty(), "nothing was changed");
    // `two.local` has one version alone; the target of another already has everything.
    world
        .post("/api/v1/routes/two.local/release", &json!({"to": "v2"}))
        .await
        .refused(422, "nothing-to-take-over");
    world.put(SPLIT, &json!({"weights": {"v2": 1}})).await;
    world.post(RELEASE, &json!({"to": "v2"})).await.refused(422, "nothing-to-take-over");
}

#[tokio::test]
async fn connections_tell_nothing_of_a_version_so_they_are_released_by_hand() {
    let (world, _folder) = World::new().await;
    let probe = ("aliyun.probe.url", "tcp://container:3306");
    let db = |n, version: &str| {
        unit(n, &format!("shop/db@{version}"), &[("aliyun.lb.port_3306", "tcp://db:3306"), probe])
    };
    let mut units = shop();
    units.extend([db(5, "v1"), db(6, "v2")]);
    world.set_units(units).await;
    let release = "/api/v1/routes/tcp:%2F%2F:3306/release";
    let refused = world.post(release, &json!({"to": "db@v2"})).await.refused(422, "not-requests");
    assert!(text(&refused["remedy"]).contains("start tcp://:3306 --to shop/db@v2 --manual"), "{refused}");
    let begun = world.post(release, &json!({"to": "db@v2", "manual": true})).await;
    assert_eq!((begun.status, text(&begun.json()["state"])), (201, "waiting".to_owned()), "{}", begun.body);
}

#[tokio::test]
async fn one_release_at_a_time_and_its_weights_are_its_own() {
    let (world, _folder) = World::new().await;
    world.start_release(json!({})).await;
    let problem = world.post(RELEASE, &json!({"to": "v1"})).await.refused(409, "release-running");
    assert!(text(&problem["remedy"]).contains("fairway release confirm shop.company.com/"), "{problem}");
    for paused in [false, true] {
        if paused {
            world.send("POST", &format!("{RELEASE}/pause"), &[], "").await;
        }
        let order = json!({"weights": {"v1": 1}});
        let problem = world.put(SPLIT, &order).await.refused(409, "release-running");
        assert!(text(&problem["remedy"]).contains("fairway release rollback"), "{problem}");
        world.send("DELETE", SPLIT, &[], "").await.refused(409, "release-running");
    }
    assert_eq!(world.weights().await, "web@v1=90 web@v2=10");
    let answer = world.post(&format!("{RELEASE}/rollback"), &json!({"reason": "enough"})).await;
    assert_eq!((answer.status, text(&answer.json()["state"])), (200, "rolled_back".to_owned()));
    assert!(text(&answer.json()["reason"]).contains("(enough)"), "{}", answer.body);
    world.post(&format!("{RELEASE}/pause"), &json!({})).await.refused(409, "release-ended");
    assert_eq!(world.put(SPLIT, &json!({"weights": {"v1": 1}})).await.status, 200);
}

#[tokio::test]
async fn releases_that_work_against_each_other_are_refused() {
    let said: &[(&str, &str)] = &[("aliyun.routing.port_80", "shop.company.com;other.company.com")];
    let units = vec![unit(1, "shop/web@v1", said), unit(2, "shop/web@v2", said)];
    let folder = folder();
    let world = World::start(Plan { units, ..Plan::default() }, folder.path()).await;
    world.start_release(json!({})).await;
    let other = "/api/v1/routes/other.company.com/release";
    world.post(other, &json!({"to": "v1"})).await.refused(409, "release-contradicts");
    assert_eq!(world.post(other, &json!({"to": "v2"})).await.status, 201);
    // The first to end leaves the other version to the route that still counts on it.
    let done = world.post(&format!("{RELEASE}/confirm"), &json!({})).await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!((world.backend_state("v1").await, world.weights().await), ("active".into(), "- -".into()));
    assert_eq!(states(&world, "shop").await, ["draining", "active"]);
    assert_eq!(states(&world, "other").await, ["active", "active"]);
    world.post(&format!("{other}/confirm"), &json!({})).await;
    assert_eq!(world.backend_state("v1").await, "draining");
    assert_eq!(world.read("/api/v1/routes/other.company.com").await["split"], Value::Null);
}

/// The states of a route's backends, in the order of their names.
async fn states(world: &World, host: &str) -> Vec<String> {
    let route = world.read(&format!("/api/v1/routes/{host}.company.com")).await;
    let members = route["backends"].as_array().expect("backends");
    members.iter().map(|member| text(&member["state"])).collect()
}

#[tokio::test]
async fn a_version_that_was_replaced_drains_in_all_routes_that_the_target_serves_as_well() {
    let both: &[(&str, &str)] = &[("aliyun.routing.port_80", "shop.company.com;other.company.com")];
    let units = vec![unit(1, "shop/web@v1", both), unit(2, "shop/web@v2", both)];
    let folder = folder();
    let world = World::start(Plan { units, ..Plan::default() }, folder.path()).await;
    world.start_release(json!({})).await;
    world.post(&format!("{RELEASE}/confirm"), &json!({})).await;
    assert_eq!((world.weights().await, world.backend_state("v1").await), ("- -".into(), "draining".into()));
    assert_eq!(states(&world, "other").await, ["draining", "active"]);
    // A release back is of its route alone: nobody would watch the version that comes back in the other one.
    world.start_release(json!({"to": "v1"})).await;
    assert_eq!(world.backend_state("v1").await, "active");
    assert_eq!(
        (states(&world, "shop").await, states(&world, "other").await),
        (vec!["active".to_owned(); 2], vec!["draining".to_owned(), "active".to_owned()],)
    );
    world.look(&Traffic::default()).await;
    world.post(&format!("{RELEASE}/confirm"), &json!({})).await;
    assert_eq!(states(&world, "shop").await, ["active", "draining"]);
    assert_eq!(states(&world, "other").await, ["draining", "active"]);
    // And so is the way back of the other one, after which nothing of it all is left.
    let other = "/api/v1/routes/other.company.com/release";
    assert_eq!(world.post(other, &json!({"to": "v1"})).await.status, 201);
    world.look(&Traffic::default()).await;
    assert_eq!(world.post(&format!("{other}/confirm"), &json!({})).await.status, 200);
    assert_eq!(
        (world.backend_state("v1").await, world.backend_state("v2").await),
        ("active".into(), "draining".into())
    );
    assert_eq!(
        (states(&world, "shop").await, states(&world, "other").await),
        (vec!["active".to_owned(), "draining".to_owned()], vec!["active".to_owned(), "draining".to_owned()],)
    );
}

#[tokio::test]
async fn what_people_have_set_stays_when_a_release_ends() {
    let routed = &[("aliyun.routing.port_80", "shop.company.com")];
    let elsewhere = &[("aliyun.routing.port_80", "other.company.com")];
    let all =
        vec![unit(1, "shop/web@v1", routed), unit(2, "shop/web@v2", routed), unit(3, "shop/web@v0", routed)];
    let folder = folder();
    let world = World::start(Plan { units: all.clone(), ..Plan::default() }, folder.path()).await;
    world.put("/api/v1/backends/web%40v0/state", &json!({"state": "disabled"})).await;
    world.start_release(json!({})).await;
    // It serves another route now, and is none of this one's members any more.
    world.set_units(vec![all[0].clone(), all[1].clone(), unit(3, "shop/web@v0", elsewhere)]).await;
    world.post(&format!("{RELEASE}/confirm"), &json!({})).await;
    assert_eq!(
        (world.backend_state("v0").await, world.backend_state("v1").await),
        ("disabled".into(), "draining".into())
    );
}

#[tokio::test]
async fn a_version_that_another_route_counts_on_drains_in_the_route_of_the_release_alone() {
    let both: &[(&str, &str)] = &[("aliyun.routing.port_80", "shop.company.com;other.company.com")];
    let one: &[(&str, &str)] = &[("aliyun.routing.port_80", "shop.company.com")];
    let alone = vec![unit(1, "shop/web@v1", both), unit(2, "shop/web@v2", one)];
    let split = vec![unit(1, "shop/web@v1", both), unit(2, "shop/web@v2", both)];
    for (units, others) in [(alone, 1), (split, 2)] {
        let folder = folder();
        let world = World::start(Plan { units: units.clone(), ..Plan::default() }, folder.path()).await;
        if others == 2 {
            let other = "/api/v1/routes/other.company.com/split";
            assert_eq!(world.put(other, &json!({"weights": {"v1": 9, "v2": 1}})).await.status, 200);
        }
        let promote = async |to: &str| {
            world.start_release(json!({"to": to})).await;
            world.look(&Traffic::default()).await; // one that drained is ready again
            let done = world.post(&format!("{RELEASE}/confirm"), &json!({})).await;
            assert_eq!(done.status, 200, "{}", done.body);
            assert_eq!(world.weights().await, "- -");
        };
        promote("v2").await;
        assert_eq!(states(&world, "shop").await, ["draining", "active"]);
        assert_eq!(
            (states(&world, "other").await, world.backend_state("v1").await),
            (vec!["active".to_owned(); others], "active".into())
        );
        // What is left of it goes with a release back, with an order of people, or when the version has gone for good.
        promote("v1").await;
        assert_eq!(states(&world, "shop").await, ["active", "draining"]);
        promote("v2").await;
        world.put("/api/v1/backends/web%40v1/state", &json!({"state": "active"})).await;
        assert_eq!(states(&world, "shop").await, ["active", "active"]);
        promote("v1").await;
        promote("v2").await;
        assert_eq!(states(&world, "shop").await, ["draining", "active"]);
        world.set_units(vec![units[1].clone()]).await;
        let minutes = Duration::from_secs(15 * 60);
        world.control.clear_leftovers(&mut BTreeMap::new(), minutes).await;
        world.set_units(units).await;
        assert_eq!(states(&world, "shop").await, ["active", "active"]);
        let stored = world.store.as_ref().expect("a store").load().expect("load").decisions;
        assert_eq!(stored.states, world.inputs.current().decisions.states);
    }
}

#[tokio::test]
async fn a_target_without_a_ready_instance_is_waited_for_at_0_and_cannot_be_confirmed() {
    let probe = ("aliyun.probe.url", "http://container/health");
    let routed = ("aliyun.routing.port_80", "shop.company.com");
    let unready = vec![unit(1, "shop/web@v1", &[routed]), unit(2, "shop/web@v2", &[routed, probe])];
    let ready = vec![unit(1, "shop/web@v1", &[routed]), unit(2, "shop/web@v2", &[routed])];
    let folder = folder();
    let world = World::start(Plan { units: unready, ..Plan::default() }, folder.path()).await;
    let begun = world.start_release(json!({})).await;
    assert_eq!(
        (&begun["state"], &begun["weight"], &begun["step"]),
        (&json!("waiting"), &json!(0), &json!(0))
    );
    assert_eq!(world.weights().await, "web@v1=100 web@v2=0");
    world.post(&format!("{RELEASE}/confirm"), &json!({})).await.refused(409, "target-not-ready");
    let traffic = Traffic::default();
    world.look(&traffic).await;
    assert_eq!(world.state().await, "waiting");
    world.set_units(ready.clone()).await;
    world.look(&traffic).await;
    assert_eq!(
        (world.state().await, world.weights().await),
        ("stepping".into(), "web@v1=90 web@v2=10".into())
    );
    // Half-way it is removed.
    world.set_units(ready[..1].to_vec()).await;
    world.look(&traffic).await;
    let release = world.read(RELEASE).await;
    assert_eq!((&release["state"], &release["ending"]), (&json!("rolled_back"), &json!("not-ready")));
}

#[tokio::test]
async fn a_manual_release_starts_at_0_takes_the_weights_of_people_and_waits_for_them() {
    let (world, _folder) = World::new().await;
    let order = json!({"to": "v2", "manual": true});
    let begun = world.post(RELEASE, &order).await;
    assert_eq!((begun.status, text(&begun.json()["state"])), (201, "stepping".to_owned()));
    assert_eq!(world.weights().await, "web@v1=100 web@v2=0");
    let traffic = Traffic::default();
    for (weights, want) in [(json!({"v1": 3, "v2": 1}), 25), (json!({"v1": 0, "v2": 7}), 100)] {
        assert_eq!(world.put(SPLIT, &json!({"weights": weights})).await.status, 200);
        traffic.seconds(&world, 400, 0).await;
        let release = world.read(RELEASE).await;
        assert_eq!((&release["state"], &release["weight"]), (&json!("stepping"), &json!(want)));
    }
    let done = world.post(&format!("{RELEASE}/confirm"), &json!({})).await;
    assert_eq!((done.status, text(&done.json()["ending"])), (200, "confirmed".to_owned()));
    assert_eq!((world.weights().await, world.backend_state("v1").await), ("- -".into(), "draining".into()));
}

#[tokio::test]
async fn a_target_that_goes_in_the_second_in_which_it_gets_a_weight_is_taken_back() {
    let (world, _folder) = World::new().await;
    assert_eq!(world.post(RELEASE, &json!({"to": "web@v2", "manual": true})).await.status, 201);
    world.look(&Traffic::default()).await;
    world.put(SPLIT, &json!({"weights": {"v1": 90, "v2": 10}})).await;
    world.set_units(vec![shop().remove(0)]).await;
    world.look(&Traffic::default()).await;
    let release = world.read(RELEASE).await;
    assert_eq!((&release["state"], &release["ending"]), (&json!("rolled_back"), &json!("not-ready")));
    world.set_units(shop()).await;
    assert_eq!(
        (world.weights().await, world.backend_state("v2").await),
        ("web@v1=100 web@v2=0".into(), "disabled".into())
    );
}

#[tokio::test]
async fn keep_weights_leaves_split_and_states_as_they_are() {
    let (world, _folder) = World::new().await;
    world.start_release(json!({})).await;
    let done = world.post(&format!("{RELEASE}/confirm"), &json!({"keep_weights": true})).await.json();
    assert_eq!((&done["state"], &done["weight"]), (&json!("done"), &json!(10)));
    assert_eq!(
        (world.weights().await, world.backend_state("v1").await),
        ("web@v1=90 web@v2=10".into(), "active".into())
    );
}

#[tokio::test]
async fn a_split_stays_where_the_layers_below_would_keep_the_target_from_what_it_holds() {
    let zero = ("fairway.weight", "0");
    let routed = ("aliyun.routing.port_80", "shop.company.com");
    let labelled = vec![unit(1, "shop/web@v1", &[routed]), unit(2, "shop/web@v2", &[routed, zero])];
    let mut filed = Plan::default();
    filed.settings.splits = vec![FileSplit {
        route: SplitRoute::Host(parse_entry("shop.company.com").expect("an entry").0),
        weights: [("web@v1".into(), Weight::DEFAULT), ("web@v2".into(), Weight::ZERO)].into(),
    }];
    for plan in [Plan { units: labelled, ..Plan::default() }, filed] {
        let folder = folder();
        let world = World::start(plan, folder.path()).await;
        world.start_release(json!({})).await;
        world.post(&format!("{RELEASE}/confirm"), &json!({})).await;
        assert_eq!(world.weights().await, "web@v1=0 web@v2=100");
        let route = world.read(ROUTE).await;
        assert_eq!(route["backends"][1]["share"], 1.0, "{route}");
        assert_eq!(world.backend_state("v1").await, "draining");
    }
}

#[tokio::test]
async fn the_only_version_of_another_route_is_disabled_where_others_serve_and_stays_where_nobody_does() {
    let all: &[(&str, &str)] =
        &[("aliyun.routing.port_80", "shop.company.com;old.company.com;new.company.com")];
    let two: &[(&str, &str)] = &[("aliyun.routing.port_80", "shop.company.com;old.company.com")];
    let units = vec![unit(1, "shop/web@v1", two), unit(2, "shop/web@v2", all)];
    let folder = folder();
    let world = World::start(Plan { units: units.clone(), ..Plan::default() }, folder.path()).await;
    let in_route = async |world: &World, host: &str| {
        let route = world.read(&format!("/api/v1/routes/{host}.company.com")).await;
        let members = route["backends"].as_array().expect("backends").clone();
        let target = members.into_iter().find(|member| member["id"] == "shop/web@v2").expect("it claims it");
        (text(&target["state"]), target["share"].as_f64().expect("a share"))
    };
    world.start_release(json!({})).await;
    world.post(&format!("{RELEASE}/rollback"), &json!({})).await;
    assert_eq!(
        (world.weights().await, world.backend_state("v2").await),
        ("web@v1=100 web@v2=0".into(), "active".into())
    );
    assert_eq!(in_route(&world, "shop").await, ("disabled".into(), 0.0), "bound clients are drawn anew");
    assert_eq!(in_route(&world, "old").await, ("disabled".into(), 0.0));
    assert_eq!(in_route(&world, "new").await, ("active".into(), 1.0), "nobody else could serve it");
    world.post(RELEASE, &json!({"to": "v2"})).await.refused(409, "target-disabled");
    let stored = world.store.as_ref().expect("a store").load().expect("load");
    assert_eq!(stored.decisions, *world.inputs.current().decisions);
    world.stop().await;

    let world = World::start(Plan { units, ..Plan::default() }, folder.path()).await;
    assert_eq!(in_route(&world, "shop").await.0, "disabled", "after a restart, too");
    world.put("/api/v1/backends/web%40v2/state", &json!({"state": "active"})).await;
    assert_eq!(in_route(&world, "shop").await, ("active".into(), 0.0), "the 0 is a promise");
    assert_eq!(in_route(&world, "old").await, ("active".into(), 0.5));
    world.start_release(json!({})).await;
}

#[tokio::test]
async fn a_release_back_to_a_version_that_drains_makes_it_active_again() {
    let (world, _folder) = World::new().await;
    world.start_release(json!({})).await;
    world.post(&format!("{RELEASE}/confirm"), &json!({})).await;
    assert_eq!(world.backend_state("v1").await, "draining");
    world.start_release(json!({"to": "v1"})).await;
    let traffic = Traffic::default();
    world.look(&traffic).await;
    assert_eq!(
        (world.backend_state("v1").await, world.weights().await),
        ("active".into(), "web@v1=10 web@v2=90".into())
    );
}

#[tokio::test]
async fn a_version_that_drained_and_has_gone_for_good_is_active_when_it_is_deployed_again() {
    let (world, _folder) = World::new().await;
    world.start_release(json!({})).await;
    world.post(&format!("{RELEASE}/confirm"), &json!({})).await;
    world.put("/api/v1/backends/api%40v2/state", &json!({"state": "draining"})).await;
    let mut absent = BTreeMap::new();
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    world.control.clear_leftovers(&mut absent, minutes(20)).await;
    assert_eq!(world.backend_state("v1").await, "draining", "it is there");
    world.set_units(vec![shop().remove(1)]).await;
    world.control.clear_leftovers(&mut absent, minutes(14)).await;
    world.set_units(shop()).await;
    world.control.clear_leftovers(&mut absent, minutes(14)).await;
    assert_eq!(world.backend_state("v1").await, "draining", "it was restarted");
    world.set_units(vec![shop().remove(1)]).await;
    world.control.clear_leftovers(&mut absent, minutes(14)).await;
    world.control.clear_leftovers(&mut absent, minutes(1)).await;
    world.set_units(shop()).await;
    assert_eq!(world.backend_state("v1").await, "active");
    let api = world.read("/api/v1/backends/api%40v2").await;
    assert_eq!(api["state"], "draining", "what people set they lift");
    let stored = world.store.as_ref().expect("a store").load().expect("load").decisions;
    assert_eq!(stored.states, world.inputs.current().decisions.states);
}

#[tokio::test]
async fn a_release_goes_on_after_a_restart_and_its_end_is_remembered() {
    let folder = folder();
    let world = World::start(Plan::default(), folder.path()).await;
    world.start_release(json!({"max_error_rate": 0.05, "reason": "why"})).await;
    let traffic = Traffic::default();
    traffic.seconds(&world, 7, 0).await;
    let before = world.read(RELEASE).await;
    assert_eq!(before["weight"], 50);
    world.stop().await;
    let world = World::start(Plan::default(), folder.path()).await;
    let after = world.read(RELEASE).await;
    for same in [
        "route",
        "to",
        "from",
        "state",
        "step",
        "steps",
        "weight",
        "max_error_rate",
        "since",
        "reason",
        "ordered",
    ] {
        assert_eq!(after[same], before[same], "{same}");
    }
    traffic.seconds(&world, 20, 0).await;
    assert_eq!((world.state().await, world.weights().await), ("done".into(), "- -".into()));
    world.stop().await;
    let world = World::start(Plan::default(), folder.path()).await;
    assert_eq!((world.state().await, world.backend_state("v1").await), ("done".into(), "draining".into()));
}

#[tokio::test]
async fn too_few_requests_hold_it_with_a_problem_and_resume_takes_the_next_step() {
    let (world, _folder) = World::new().await;
    world.start_release(json!({})).await;
    let traffic = Traffic::default();
    for _ in 0..30 {
        traffic.add("shop/web@v1", 90, 0);
        world.look(&traffic).await;
    }
    assert_eq!(
        (world.state().await, world.weights().await),
        ("inconclusive".into(), "web@v1=90 web@v2=10".into())
    );
    let kinds = |problems: Value| -> Vec<String> {
        let items = problems["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|problem| text(&problem["type"]))
            .filter(|kind| kind.starts_with("release"))
            .collect()
    };
    assert_eq!(kinds(world.read("/api/v1/problems").await), ["release-inconclusive"]);
    let answer = world.send("POST", &format!("{RELEASE}/resume"), &[], "").await;
    assert_eq!(
        (answer.status, text(&answer.json()["state"])),
        (200, "stepping".to_owned()),
        "{}",
        answer.body
    );
    assert_eq!(world.weights().await, "web@v1=50 web@v2=50");
    assert!(kinds(world.read("/api/v1/problems").await).is_empty());
}

#[tokio::test]
async fn a_store_that_refuses_holds_a_release_and_never_a_rollback() {
    let (world, folder) = World::new().await;
    world.start_release(json!({})).await;
    let traffic = Traffic::default();
    let (file, aside) = (folder.path().join(FILE_NAME), folder.path().join("aside"));
    fs::rename(&file, &aside).expect("renamed");
    traffic.seconds(&world, 10, 0).await;
    assert_eq!(
        (world.state().await, world.weights().await),
        ("stepping".into(), "web@v1=90 web@v2=10".into())
    );
    assert!(world.tells("release-held").await);
    world.post(&format!("{RELEASE}/confirm"), &json!({})).await.refused(503, "store-gone");
    traffic.seconds(&world, 10, 10).await;
    assert_eq!(
        (world.state().await, world.weights().await),
        ("rolled_back".into(), "web@v1=100 web@v2=0".into())
    );
    assert_eq!(world.backend_state("v2").await, "disabled");
    assert!(world.tells("release-not-stored").await && !world.tells("release-held").await);
    world
        .put("/api/v1/backends/web%40v2/state", &json!({"state": "active"}))
        .await
        .refused(503, "store-gone");
    world.post(RELEASE, &json!({"to": "v1"})).await.refused(503, "store-gone");
    fs::rename(&aside, &file).expect("renamed back");
    world.look(&traffic).await;
    assert!(!world.tells("release-not-stored").await);
    world.is_stored().await;
}

#[tokio::test]
async fn a_store_that_does_not_answer_delays_no_rollback_and_the_step_that_waits_for_it_is_late() {
    let (world, _folder) = World::new().await;
    world.start_release(json!({})).await;
    let traffic = Traffic::default();
    traffic.seconds(&world, 4, 0).await;
    let silent = world.store.as_ref().expect("a store").silenced();
    let mut work = Vec::new();
    for second in 0..12 {
        traffic.add("shop/web@v1", 90, 0);
        // The step to 50 % is due in the second second, and waits.
        traffic.add("shop/web@v2", 10, if second < 3 { 0 } else { 10 });
        work.extend(world.control.look_at_releases(&traffic, Duration::from_secs(1)));
        // For what was begun to come as far as the store.
        tokio::task::yield_now().await;
    }
    world.catch_up().await;
    let is_back = async || {
        assert_eq!(
            (world.state().await, world.weights().await, world.backend_state("v2").await),
            ("rolled_back".into(), "web@v1=100 web@v2=0".into(), "disabled".into())
        );
    };
    is_back().await;
    let refused = world.put(SPLIT, &json!({"weights": {"v1": 1}})).await;
    assert!(text(&refused.refused(503, "store-silent")["remedy"]).contains("nothing was changed"));
    assert!(world.tells("store-silent").await);
    world.until_told("release-not-stored", true).await;
    drop(silent);
    for work in work {
        within(work).await.expect("no move panics");
    }
    world.until_told("release-not-stored", false).await;
    assert!(!world.tells("store-silent").await);
    is_back().await;
    world.is_stored().await;
}

#[tokio::test]
async fn a_split_that_waits_for_the_store_does_not_undo_the_rollback_that_people_order_meanwhile() {
    let (world, _folder) = World::new().await;
    assert_eq!(world.post(RELEASE, &json!({"to": "web@v2", "manual": true})).await.status, 201);
    let silent = world.store.as_ref().expect("a store").silenced();
    let order = json!({"weights": {"v1": 50, "v2": 50}});
    let (put, back) = tokio::join!(world.put(SPLIT, &order), async {
        world.until_told("store-silent", true).await;
        let (path, why) = (format!("{RELEASE}/rollback"), json!({"reason": "enough"}));
        let (back, ()) = tokio::join!(world.post(&path, &why), async {
            within(async {
                while world.state().await != "rolled_back" {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
            drop(silent);
        });
        back
    });
    assert!([200, 202].contains(&back.status), "{}", back.body);
    assert_eq!(
        text(&put.refused(409, "release-ended")["detail"]).split(": ").last(),
        Some("it is rolled_back")
    );
    assert_eq!(world.weights().await, "web@v1=100 web@v2=0");
    world.until_told("store-silent", false).await;
    world.is_stored().await;
    let audit = world.read("/api/v1/audit").await.to_string();
    assert!(audit.contains("release-rolled-back") && audit.contains("enough"), "{audit}");
}

#[tokio::test]
async fn while_another_process_has_the_store_nothing_goes_forward_and_what_fails_goes_back() {
    let (world, _folder) = World::new().await;
    world.start_release(json!({})).await;
    let traffic = Traffic::default();
    world.control.hand_over();
    world.store.as_ref().expect("a store").hand_over();
    traffic.seconds(&world, 10, 0).await;
    assert_eq!(world.weights().await, "web@v1=90 web@v2=10");
    assert!(!world.tells("release-held").await, "it is only waiting");
    traffic.seconds(&world, 10, 10).await;
    assert_eq!(
        (world.state().await, world.weights().await),
        ("rolled_back".into(), "web@v1=100 web@v2=0".into())
    );
    world.store.as_ref().expect("a store").take_back();
    world.control.take_back();
    world.look(&traffic).await;
    world.is_stored().await;
}

#[tokio::test]
async fn a_held_release_makes_its_move_once_the_store_takes_it() {
    let (world, folder) = World::new().await;
    world.start_release(json!({})).await;
    let traffic = Traffic::default();
    let (file, aside) = (folder.path().join(FILE_NAME), folder.path().join("aside"));
    fs::rename(&file, &aside).expect("renamed");
    traffic.seconds(&world, 10, 0).await;
    fs::rename(&aside, &file).expect("renamed back");
    traffic.seconds(&world, 1, 0).await;
    assert_eq!(world.weights().await, "web@v1=50 web@v2=50");
    let problems = world.read("/api/v1/problems").await.to_string();
    assert!(!problems.contains("release-held"), "{problems}");
}

#[tokio::test]
async fn without_a_store_nothing_begins() {
    let folder = folder();
    let world = World::start(Plan { store: false, ..Plan::default() }, folder.path()).await;
    world.post(RELEASE, &json!({"to": "v2"})).await.refused(503, "no-store");
    assert!(world.inputs.current().decisions.splits.is_empty());
}
