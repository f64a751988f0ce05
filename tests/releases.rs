//! Releases through the real binary, with requests that are really sent.

use fairway_testkit::load::{Load, LoadOptions};
use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::{Fairway, FairwayOptions, Request};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");
const RELEASE: &str = "/api/v1/routes/shop.localhost%2F/release";

/// Two versions of one static service on one route. `/health` of an origin fails while the test says so.
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
    let fairway = FairwayOptions::new(BINARY).config(config).start().await;
    fairway.ready().await;
    (fairway, one, two)
}

/// Some 200 requests per second.
fn load(fairway: &Fairway) -> Load {
    let options = LoadOptions::new(fairway.http(), "shop.localhost");
    Load::start(LoadOptions { target: "/health".to_owned(), rate: Some(200.0), ..options })
}

async fn start(fairway: &Fairway, order: Value) -> Value {
    let answer = fairway.admin("POST", RELEASE, Some(&order)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn until_state(fairway: &Fairway, state: &str) -> Value {
    let what = format!("a release that is {state}");
    fairway.wait_until(&what, RELEASE, |release| release["state"] == state).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_is_taken_back_and_gets_no_request_from_then_on() {
    let (fairway, _one, two) = two_versions().await;
    let load = load(&fairway);
    start(&fairway, json!({"to": "web@v2", "steps": [10, 50], "step_seconds": 30})).await;
    load.wait_for(400).await;
    two.set_healthy(false);
    let release = until_state(&fairway, "rolled_back").await;
    assert_eq!(release["ending"], "failures", "{release}");
    let asked = two.requests();
    load.wait_for(400).await;
    // What was on its way at that moment may have arrived since.
    assert!(two.requests() <= asked + 2, "{} after {asked}", two.requests());
    let report = load.stop().await;
    assert!(report.failed < report.sent / 10, "{} of {} failed", report.failed, report.sent);
    let route = fairway.read("/api/v1/routes/shop.localhost%2F").await;
    assert_eq!(
        (&route["backends"][1]["weight"], &route["backends"][1]["state"]),
        (&json!(0), &json!("disabled"))
    );
    assert_eq!((&route["backends"][0]["weight"], &route["backends"][0]["share"]), (&json!(100), &json!(1.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_takes_over_and_no_request_fails_on_the_way() {
    let (fairway, one, _two) = two_versions().await;
    let load = load(&fairway);
    start(&fairway, json!({"to": "v2", "steps": [20, 50], "step_seconds": 1, "reason": "good"})).await;
    until_state(&fairway, "done").await;
    let asked = one.requests();
    load.wait_for(200).await;
    assert_eq!(one.requests(), asked, "the target has everything");
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    let route = fairway.read("/api/v1/routes/shop.localhost%2F").await;
    assert_eq!((&route["split"], &route["backends"][0]["state"]), (&Value::Null, &json!("draining")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_on_after_a_kill_and_still_takes_back_what_fails() {
    let (mut fairway, _one, two) = two_versions().await;
    let before = load(&fairway);
    start(&fairway, json!({"to": "v2", "steps": [10, 40], "step_seconds": 1})).await;
    // The second step would last, were its requests not to come.
    fairway.wait_until("the second step", RELEASE, |release| release["weight"] == 40).await;
    let order = fairway.admin("POST", &format!("{RELEASE}/pause"), None).await;
    assert_eq!(order.status, 200, "{}", order.text());
    drop(before);
    fairway.kill9().await;
    fairway.restart().await;
    fairway.ready().await;
    let release = fairway.read(RELEASE).await;
    assert_eq!((&release["state"], &release["weight"]), (&json!("paused"), &json!(40)), "{release}");
    two.set_healthy(false);
    let after = load(&fairway);
    let release = until_state(&fairway, "rolled_back").await;
    assert_eq!(release["ending"], "failures", "{release}");
    after.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_refuses_what_cannot_be_and_says_what_would_do() {
    let (fairway, _one, _two) = two_versions().await;
    let post = |body: &str| Request {
        body: body.to_owned().into(),
        ..Request::new("POST", "127.0.0.1", RELEASE).header("content-type", "application/json")
    };
    for (body, status, says) in [
        ("to: v2", 400, ""),
        ("{}", 422, "to"),
        (r#"{"to":"web@v9"}"#, 422, "web@v1"),
        (r#"{"to":"web@v2","steps":[50,10]}"#, 422, "10 comes after 50"),
        (r#"{"to":"web@v2","steps":[10,101]}"#, 422, "101 is no share"),
        (r#"{"to":"web@v2","steps":[1e400]}"#, 400, ""),
        (r#"{"to":"web@v2","step_seconds":99999999999999999999}"#, 422, "step_seconds"),
        (r#"{"to":"web@v2","max_error_rate":-1}"#, 422, "max_error_rate"),
    ] {
        let answer = fairway.send_admin(&post(body)).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{body}");
        assert!(answer.text().contains(says), "{body}: {}", answer.text());
    }
    start(&fairway, json!({"to": "web@v2"})).await;
    let second = fairway.send_admin(&post(r#"{"to":"web@v2"}"#)).await;
    assert_eq!(second.status, 409, "{}", second.text());
    let split = fairway.put_split("shop.localhost/", &json!({"weights": {"web@v1": 1}})).await;
    assert_eq!(split.status, 409, "{}", split.text());
    assert!(split.text().contains("fairway release rollback shop.localhost/"), "{}", split.text());
}
