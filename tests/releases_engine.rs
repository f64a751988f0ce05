//! Releases of containers on a real engine, each case a service with a host of its own, under load.
//!
//! Not here: what needs no container (see `releases`), the moves one by one (see the tests of `admin`).

use fairway_testkit::load::{Load, LoadOptions};
use fairway_testkit::wait::{PATIENCE, within};
use fairway_testkit::{Container, ContainerOptions, Engine, Fairway, FairwayOptions, Request};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// The origin's `/health` is asked, which a test can have fail.
const ASKED: &str = "http://container/health";
/// Nobody asks: so `/health` can stand for requests that fail.
const CONNECTED: &str = "tcp://container:80";

async fn stage() -> (Engine, Fairway) {
    let engine = Engine::start().await;
    engine.origin_image("origin:v1").await;
    let fairway =
        FairwayOptions::new(BINARY).docker(engine.url()).config("log.access = false\n").start().await;
    fairway.ready().await;
    (engine, fairway)
}

/// A service on a host of its own.
struct Case<'a> {
    engine: &'a Engine,
    fairway: &'a Fairway,
    service: &'static str,
    probe: &'static str,
    /// What the load asks for.
    target: &'static str,
}

impl Case<'_> {
    /// A new instance, once it is ready.
    async fn instance(&self, version: &str, env: &[&str]) -> Container {
        let labels = &[
            ("aliyun.routing.port_80", self.service),
            ("aliyun.probe.url", self.probe),
            ("fairway.service", self.service),
            ("fairway.version", version),
        ];
        let version = format!("VERSION={version}");
        let env: Vec<&str> = [version.as_str()].into_iter().chain(env.iter().copied()).collect();
        let options = ContainerOptions { image: "origin:v1", labels, env: &env, ..Default::default() };
        let container = self.engine.run(options).await;
        self.condition(&container, "ready").await;
        container
    }

    /// Waits until a container's instance is in this condition; the instance.
    async fn condition(&self, container: &Container, condition: &str) -> Value {
        let path = format!("/api/v1/instances/{}%3A80", container.short_id());
        let what = format!("{} is {condition}", self.service);
        self.fairway.wait_until(&what, &path, |instance| instance["condition"] == condition).await
    }

    /// Has an instance answer `/health` with 503.
    async fn fail(&self, container: &Container) {
        let socket = container.socket(80).await;
        Request::new("POST", "container", "/_health/fail").send(socket).await;
    }

    fn route(&self) -> String {
        format!("{}.localhost/", self.service)
    }

    fn path(&self, end: &str) -> String {
        format!("/api/v1/routes/{}.localhost%2F{end}", self.service)
    }

    fn backend(&self, version: &str) -> String {
        format!("{}@{version}", self.service)
    }

    async fn split(&self, weights: &[(&str, u32)]) {
        let weights: serde_json::Map<String, Value> =
            weights.iter().map(|(version, weight)| (self.backend(version), json!(weight))).collect();
        self.fairway.put_split(&self.route(), &json!({ "weights": weights })).await.ok("split");
    }

    async fn release(&self, mut order: Value) {
        order["to"] = json!(self.backend("v2"));
        let answer = self.fairway.admin("POST", &self.path("/release"), Some(&order)).await;
        assert_eq!(answer.status, 201, "{}: {}", self.service, answer.text());
    }

    async fn until_release(&self, member: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        let what = format!("the release of {} with {member} {value}", self.service);
        self.fairway.wait_until(&what, &self.path("/release"), |release| release[member] == value).await
    }

    async fn is_rolled_back(&self, ending: &str) -> Value {
        let release = self.until_release("state", "rolled_back").await;
        assert_eq!(release["ending"], ending, "{release}");
        release
    }

    /// Weight and state of each version, as in `v1=7 active, v2=0 disabled`; `-` without a split.
    async fn weights(&self) -> String {
        let route = self.fairway.read(&self.path("")).await;
        let version = |member: &Value| {
            let id = member["id"].as_str().unwrap_or_default();
            let weight = member["weight"].as_u64().map_or("-".to_owned(), |weight| weight.to_string());
            let state = member["state"].as_str().unwrap_or_default();
            format!("{}={weight} {state}", id.rsplit('@').next().unwrap_or_default())
        };
        let members = route["backends"].as_array().into_iter().flatten();
        members.map(version).collect::<Vec<_>>().join(", ")
    }

    fn options(&self) -> LoadOptions {
        let options = LoadOptions::new(self.fairway.http(), &format!("{}.localhost", self.service));
        LoadOptions { target: self.target.to_owned(), rate: Some(100.0), ..options }
    }

    /// GETs on kept connections.
    fn gets(&self) -> Load {
        Load::start(self.options())
    }

    /// POSTs with a body on a connection each.
    fn posts(&self) -> Load {
        let body = vec![b'x'; 2000];
        let options = LoadOptions { method: "POST".to_owned(), body, keep_alive: false, ..self.options() };
        Load::start(LoadOptions { rate: Some(30.0), ..options })
    }

    /// Waits until each version of a kind has answered `gets` so often that its share shows; nothing failed meanwhile.
    async fn only_answered_by(&self, version: &str) {
        let load = self.gets();
        load.wait_for(60).await;
        let report = load.stop().await.without_failure();
        assert_eq!(report.version(version), report.sent, "{}: {report}", self.service);
    }

    async fn cli(&self, arguments: &[&str]) -> String {
        let done = self.fairway.cli(arguments).await;
        let text =
            [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(done.status.success(), "{arguments:?}: {text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_no_worse_takes_over_by_itself_or_by_hand_and_no_request_fails() {
    let (engine, fairway) = &stage().await;
    tokio::join!(
        by_itself(Case { engine, fairway, service: "good", probe: ASKED, target: "/" }),
        by_hand(Case { engine, fairway, service: "manual", probe: ASKED, target: "/" }),
        one_of_three_fails(Case { engine, fairway, service: "third", probe: CONNECTED, target: "/health" }),
    );
}

async fn by_itself(case: Case<'_>) {
    let old = case.instance("v1", &[]).await;
    case.split(&[("v1", 100)]).await;
    let loads = [case.gets(), case.posts()];
    let mut newest = case.instance("v2", &[]).await;
    case.release(json!({ "steps": [20, 50], "step_seconds": 1 })).await;
    case.until_release("weight", 50).await;
    case.until_release("state", "confirming").await;
    let release = case.until_release("state", "done").await;
    assert_eq!(release["ending"], "completed", "{release}");
    assert_eq!(case.weights().await, "v1=- draining, v2=- active");
    assert_eq!(case.fairway.read(&case.path("")).await["split"], Value::Null);
    case.only_answered_by("v2").await;
    // What comes after it needs no split, and knows nothing of the release.
    old.stop().await;
    old.remove().await;
    for _ in 0..2 {
        let next = case.instance("v2", &[]).await;
        newest.stop().await;
        newest.remove().await;
        newest = next;
        loads[0].wait_for(30).await;
    }
    for load in loads {
        let report = load.stop().await.without_failure();
        assert!(report.version("v1") > 0 && report.instance(newest.short_id()) > 0, "{report}");
    }
}

async fn by_hand(case: Case<'_>) {
    let (route, blue, green) = (case.route(), case.backend("v1"), case.backend("v2"));
    case.instance("v1", &[]).await;
    case.split(&[("v1", 100)]).await;
    let load = case.gets();
    case.instance("v2", &[]).await;
    case.cli(&["release", "start", &route, "--to", &green, "--manual"]).await;
    assert_eq!(case.weights().await, "v1=100 active, v2=0 active");
    case.only_answered_by("v1").await;
    case.cli(&["split", &route, &format!("{blue}=50"), &format!("{green}=50")]).await;
    case.until_release("weight", 50).await;
    case.cli(&["split", &route, &format!("{blue}=0"), &format!("{green}=100")]).await;
    case.only_answered_by("v2").await;
    let told = case.cli(&["release", "confirm", &route, "--reason", "looks well"]).await;
    assert!(told.contains("done (confirmed)") && told.contains("looks well"), "{told}");
    assert_eq!(case.weights().await, "v1=- draining, v2=- active");
    // And back, half of it for good.
    case.cli(&["release", "start", &route, "--to", &blue, "--manual"]).await;
    assert_eq!(case.weights().await, "v1=0 active, v2=100 active");
    case.cli(&["split", &route, &format!("{blue}=30"), &format!("{green}=70")]).await;
    case.until_release("weight", 30).await;
    case.cli(&["release", "confirm", &route, "--keep-weights"]).await;
    case.until_release("state", "done").await;
    assert_eq!(case.weights().await, "v1=30 active, v2=70 active");
    load.stop().await.without_failure();
}

async fn one_of_three_fails(case: Case<'_>) {
    let victim = case.instance("v1", &[]).await;
    case.instance("v1", &[]).await;
    case.instance("v1", &[]).await;
    let load = case.gets();
    load.wait_for(30).await;
    let began = Timestamp::now();
    case.fail(&victim).await;
    let ejected = case.condition(&victim, "ejected").await;
    let until: Timestamp = ejected["until"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let soonest = began.checked_add(30.seconds()).expect("in range");
    assert!(until >= soonest && until <= Timestamp::now().checked_add(30.seconds()).expect("in range"));
    load.wait_for(30).await;
    let report = load.stop().await;
    // Five in a row, and one more on the other connection at most.
    assert!((5..=6).contains(&report.failed), "{report}");
    assert_eq!(report.by_cause.len(), 1, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_is_taken_back_whatever_it_is_that_fails() {
    let (engine, fairway) = &stage().await;
    tokio::join!(
        its_requests_fail(Case { engine, fairway, service: "bad", probe: CONNECTED, target: "/health" }),
        it_is_removed(Case { engine, fairway, service: "gone", probe: ASKED, target: "/" }),
        its_probe_fails(Case { engine, fairway, service: "sick", probe: ASKED, target: "/" }),
    );
}

async fn its_requests_fail(case: Case<'_>) {
    case.instance("v1", &[]).await;
    case.split(&[("v1", 7)]).await;
    let canary = case.instance("v2", &["HEALTH=fail"]).await;
    let load = case.gets();
    case.release(json!({ "steps": [20, 50], "step_seconds": 30 })).await;
    let release = case.is_rolled_back("failures").await;
    let figures = release["reason"].as_str().unwrap_or_default().to_owned();
    assert!(figures.contains("requests failed (") && figures.contains("needed"), "{figures}");
    assert_eq!(case.weights().await, "v1=7 active, v2=0 disabled");
    let canary = case.fairway.read(&format!("/api/v1/instances/{}%3A80", canary.short_id())).await;
    assert_eq!((&canary["state"], &canary["ordered"]["reason"]), (&json!("disabled"), &json!("rolled_back")));
    assert!(case.cli(&["backends"]).await.contains("disabled  rolled_back"));
    case.only_answered_by("v1").await;
    let report = load.stop().await;
    let told = release["evidence"]["canary"]["failures"].as_u64().unwrap_or_default();
    // What ended after the last look is in no figures; of 100 requests/s a fifth for a second or two at most.
    assert!(report.failed >= told && report.failed <= told + 60, "{told} told: {report}");
    let events = case.fairway.list("events?after=0").await;
    let ends = |event: &&Value| event["subject"] == case.route() && event["to"] == "rolled_back";
    let event = events.iter().find(ends).expect("the event");
    assert_eq!((&event["type"], &event["reason"]), (&json!("release-state"), &json!(figures)));
    let is_out = |event: &Value| event["type"] == "backend-state" && event["subject"] == case.backend("v2");
    let out = events.iter().find(|event| is_out(event)).expect("the event");
    assert_eq!((&out["to"], &out["reason"]), (&json!("disabled"), &json!("rolled_back")));
    let metrics = case.fairway.admin("GET", "/metrics", None).await.text();
    for line in [
        format!("fairway_releases{{route=\"{}\",state=\"rolled_back\"}} 1", case.route()),
        "fairway_releases_ended_total{ending=\"failures\"} 1".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line}");
    }
    let line = case.fairway.log().find(|lines| {
        let ours = |line: &&String| line.contains("WARN") && line.contains(&figures);
        lines.iter().find(ours).cloned()
    });
    let line = within("the line of the log", PATIENCE, line).await.expect("it runs");
    assert!(line.contains(&case.route()) && line.contains(&case.backend("v2")), "{line}");
    case.cli(&["activate", &case.backend("v2"), "--reason", "mended"]).await;
    assert_eq!(case.weights().await, "v1=7 active, v2=0 active");
    case.only_answered_by("v1").await;
}

async fn it_is_removed(case: Case<'_>) {
    case.instance("v1", &[]).await;
    case.split(&[("v1", 100)]).await;
    let canary = case.instance("v2", &[]).await;
    let (gets, posts) = (case.gets(), case.posts());
    case.release(json!({ "steps": [50], "step_seconds": 30 })).await;
    gets.wait_for(50).await;
    posts.wait_for(20).await;
    canary.remove().await;
    case.is_rolled_back("not-ready").await;
    case.only_answered_by("v1").await;
    gets.stop().await.without_failure();
    let report = posts.stop().await;
    // What it had been sent and can be sent only once: one on each connection at most.
    assert!(report.failed <= 2, "{report}");
    // Deployed again it gets nothing until somebody says that it is mended.
    case.instance("v2", &[]).await;
    assert_eq!(case.weights().await, "v1=100 active, v2=0 disabled");
    case.only_answered_by("v1").await;
}

async fn its_probe_fails(case: Case<'_>) {
    case.instance("v1", &[]).await;
    case.split(&[("v1", 100)]).await;
    case.instance("v2", &[]).await;
    let sick = case.instance("v2", &[]).await;
    let load = case.gets();
    case.release(json!({ "steps": [50], "step_seconds": 30 })).await;
    load.wait_for(50).await;
    case.fail(&sick).await;
    let release = case.is_rolled_back("probe").await;
    let why = release["reason"].as_str().unwrap_or_default();
    assert!(why.contains(&format!("the probe of {}:80 fails", sick.short_id())), "{why}");
    assert_eq!(case.weights().await, "v1=100 active, v2=0 disabled");
    load.stop().await.without_failure();
}
