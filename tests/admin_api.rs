//! The admin API of the real binary: what it refuses, what it promises, what survives.

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::wait::PATIENCE;
use fairway_testkit::{Fairway, FairwayOptions, Request, until};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// Two versions of one static service on one route.
async fn two_versions() -> (Fairway, Origin, Origin) {
    let (one, two) =
        (Origin::start(Identity::new("one", "v1")).await, Origin::start(Identity::new("two", "v2")).await);
    let service = |version: &str, origin: &Origin| {
        let address = origin.address();
        format!(
            "[[service]]\nname = \"web\"\nversion = \"{version}\"\nroutes = [\"shop\"]\ninstances = [\"{address}\"]\n"
        )
    };
    let config = service("v1", &one) + &service("v2", &two);
    let fairway = FairwayOptions::new(BINARY).config(config).args(&[]).start().await;
    fairway.ready().await;
    (fairway, one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_cannot_hold_are_refused_with_the_reason_and_change_nothing() {
    let (fairway, _one, _two) = two_versions().await;
    let put = |body: &str| Request {
        body: body.to_owned().into(),
        ..Request::new("PUT", "127.0.0.1", "/api/v1/routes/shop.localhost%2F/split")
            .header("content-type", "application/json")
    };
    let huge = format!("{{\"reason\":\"{}\"}}", "x".repeat(200_000));
    let cases = [
        ("not json", put("weights: 1"), 400, ""),
        ("too large", put(&huge), 413, ""),
        ("negative", put(r#"{"weights":{"web@v1":-1,"web@v2":5}}"#), 422, "web@v1"),
        ("fractional", put(r#"{"weights":{"web@v1":0.5,"web@v2":5}}"#), 422, "web@v1"),
        ("too heavy", put(r#"{"weights":{"web@v1":1001}}"#), 422, "1000"),
        ("all zero", put(r#"{"weights":{"web@v1":0,"web@v2":0}}"#), 422, "zero"),
        ("unknown backend", put(r#"{"weights":{"web@v3":1}}"#), 422, "web@v1"),
        ("bad expiry", put(r#"{"weights":{"web@v1":1},"expires_in":"soon"}"#), 422, "soon"),
    ];
    for (what, request, status, says) in cases {
        let answer = fairway.send_admin(&request).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
        let problem = answer.json();
        assert!(problem["type"].is_string() && problem["title"].is_string(), "{what}: {problem}");
        assert!(answer.text().contains(says), "{what}: {problem}");
    }
    let unknown = fairway.put_split("nowhere.com/", &json!({"weights": {"web@v1": 1}})).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    let route = fairway.read("/api/v1/routes/shop.localhost%2F").await;
    assert_eq!(route["split"], Value::Null, "nothing changed: {route}");
}

#[tokio::test(flavor = "multi_thread")]
async fn if_match_guards_a_split_and_an_expiry_brings_the_former_one_back() {
    let (fairway, _one, _two) = two_versions().await;
    let first = fairway
        .put_split("shop.localhost/", &json!({"weights": {"v1": 1, "v2": 0}, "reason": "a"}))
        .await
        .ok("put");
    let etag = first.json()["etag"].as_str().expect("an etag").to_owned();
    let put = |etag: &str, weights: Value| {
        Request::new("PUT", "127.0.0.1", "/api/v1/routes/shop.localhost%2F/split")
            .header("if-match", etag)
            .json(&weights)
    };
    let weights = json!({"weights": {"v1": 0, "v2": 1}, "expires_in": "2s"});
    assert_eq!(fairway.send_admin(&put("\"old\"", weights.clone())).await.status, 412);
    let second = fairway.send_admin(&put(&etag, weights)).await.ok("with the right etag").json();
    assert!(second["split"]["expires_at"].is_string(), "{second}");
    assert_eq!(fairway.get("shop.localhost", "/").await.json()["instance"], "two");
    let back =
        |route: &Value| route["backends"][0]["weight"] == 1 && route["split"]["expires_at"] == Value::Null;
    fairway.wait_until("the former split", "/api/v1/routes/shop.localhost%2F", back).await;
    assert_eq!(fairway.get("shop.localhost", "/").await.json()["instance"], "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn states_weights_events_and_metrics_can_be_read_and_survive_a_restart() {
    let (mut fairway, _one, _two) = two_versions().await;
    fairway.put_split("shop.localhost/", &json!({"weights": {"v1": 30, "v2": 70}})).await.ok("put");
    let state = json!({"state": "disabled", "reason": "maintenance"});
    fairway.admin("PUT", "/api/v1/backends/web%40v2/state", Some(&state)).await.ok("disable");
    for _ in 0..20 {
        assert_eq!(
            fairway.get("shop.localhost", "/").await.json()["instance"],
            "one",
            "disabled serves nobody"
        );
    }
    let before = fairway.read("/api/v1/status").await;
    fairway.terminate().await;
    fairway.restart().await;
    fairway.ready().await;
    let route = fairway.read("/api/v1/routes/shop.localhost").await;
    assert_eq!(route["backends"][1]["weight"], 70, "{route}");
    assert_eq!(route["backends"][1]["state"], "disabled");
    let after = fairway.read("/api/v1/status").await;
    assert!(
        after["revision"].as_u64() >= before["revision"].as_u64(),
        "revisions grow across restarts: {before} {after}"
    );
    let events = fairway.read("/api/v1/events?after=0").await;
    let kinds: Vec<&str> =
        events["items"].as_array().into_iter().flatten().filter_map(|e| e["type"].as_str()).collect();
    assert!(kinds.contains(&"route-split") && kinds.contains(&"backend-state"), "{kinds:?}");
    let audit = fairway.read("/api/v1/audit").await;
    assert!(audit["items"].as_array().is_some_and(|items| items.len() >= 2), "{audit}");
    fairway.get("shop.localhost", "/").await.ok("a request to count");
    for name in [
        "fairway_requests_total",
        "fairway_request_duration_seconds",
        "fairway_instances",
        "fairway_catalog_revision",
        "fairway_build_seconds",
        "fairway_requests_in_flight",
    ] {
        // A request is counted when its answer has gone, which its client may have before.
        let told = async || {
            let metrics = fairway.admin("GET", "/metrics", None).await.ok("metrics").text();
            metrics.contains(name).then_some(())
        };
        until(format!("{name} in the metrics"), PATIENCE, told).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_on_another_site_cannot_give_orders() {
    let (fairway, _one, _two) = two_versions().await;
    let body = json!({"weights": {"v1": 1}});
    let put = || Request::new("PUT", "127.0.0.1", "/api/v1/routes/shop.localhost%2F/split").json(&body);
    for request in
        [put().header("origin", "http://evil.example"), put().header("sec-fetch-site", "cross-site")]
    {
        assert_eq!(fairway.send_admin(&request).await.status, 403);
    }
    let mut rebound = put();
    rebound.host = "evil.example".to_owned();
    let status = fairway.send_admin(&rebound).await.status;
    assert!(matches!(status, 403 | 421), "{status}");
    let answer = fairway.admin("GET", "/openapi.json", None).await.ok("openapi").json();
    assert!(
        answer["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{}",
        answer["openapi"]
    );
    assert!(answer["paths"]["/api/v1/routes/{route}/split"]["put"].is_object());
}
