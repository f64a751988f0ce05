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
async fn clients_bound_to_a_version_that_is_taken_back_are_drawn_anew_though_it_alone_serves_another_host() {
    let (one, two) =
        (Origin::start(Identity::new("one", "v1")).await, Origin::start(Identity::new("two", "v2")).await);
    let service = |version: &str, routes: &str, origin: &Origin| {
        let address = origin.address();
        format!(
            "[[service]]\nname = \"web\"\nversion = \"{version}\"\nroutes = [{routes}]\ninstances = [\"{address}\"]\n\
             session_sticky = true\nmatch = \"header:x-want={version}\"\n"
        )
    };
    let config = service("v1", "\"shop\"", &one) + &service("v2", "\"shop\", \"preview\"", &two);
    let fairway = FairwayOptions::new(BINARY).config(config).start().await;
    fairway.ready().await;
    let ask = async |host: &str, fields: &[(&str, &str)]| {
        let get = Request::get(host, "/");
        let get = fields.iter().fold(get, |get, (name, value)| get.header(name, value));
        let answer = fairway.send(&get).await;
        (answer.header("x-version").to_owned(), answer.header("set-cookie").to_owned())
    };
    let (version, cookie) = ask("shop.localhost", &[("x-want", "v2")]).await;
    let bound = cookie.split(';').next().expect("a cookie").to_owned();
    assert!(version == "v2" && bound.starts_with("FAIRWAY="), "{version} {cookie}");
    start(&fairway, json!({"to": "web@v2"})).await;
    assert_eq!(ask("shop.localhost", &[("cookie", &bound)]).await.0, "v2");
    let rollback = fairway.admin("POST", &format!("{RELEASE}/rollback"), None).await;
    assert_eq!(rollback.status, 200, "{}", rollback.text());
    assert_eq!(ask("shop.localhost", &[("cookie", &bound)]).await.0, "v1", "it is drawn anew");
    assert_eq!(ask("shop.localhost", &[("x-want", "v2")]).await.0, "v1", "disabled goes before a rule");
    assert_eq!(ask("preview.localhost", &[]).await.0, "v2", "nobody else could serve it");
    let explained = fairway.cli(&["explain", "http://shop.localhost/"]).await;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("disabled by release (rolled_back): nobody is sent to it"), "{explained}");
    let activated = fairway.cli(&["activate", "web@v2"]).await;
    assert!(activated.status.success(), "{activated:?}");
    assert_eq!(ask("shop.localhost", &[("x-want", "v2")]).await.0, "v2");
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
