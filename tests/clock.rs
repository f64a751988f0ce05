//! The wall clock of the running program is set an hour ahead, then a day back: what lasts goes by its own clock, what has a
//! date follows the wall clock, and nothing breaks.
//!
//! Not here: the machine's clock, which nobody touches (see `fairway_testkit::clock`).

#![cfg(target_arch = "x86_64")] // the clock is replaced by code of this architecture

use std::time::Duration;

use fairway_testkit::clock::WallClock;
use fairway_testkit::load::{Load, LoadOptions};
use fairway_testkit::netns::Netns;
use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::wait::{PATIENCE, until};
use fairway_testkit::{Fairway, FairwayOptions, Request};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Two versions of one service at each of these hosts, an instance each.
async fn start(hosts: &[(&str, &str)]) -> (Vec<Origin>, Fairway) {
    let (mut origins, mut config) = (Vec::new(), "log.access = false\n".to_owned());
    for version in ["v1", "v2"] {
        let origin = Origin::start(Identity::new(version, version)).await;
        for (host, more) in hosts {
            let name = host.split('.').next().unwrap_or_default();
            config += &format!(
                "[[service]]\nname = {name:?}\nversion = {version:?}\nroutes = [{host:?}]\ninstances = [\"{}\"]\n{more}\n",
                origin.address()
            );
        }
        origins.push(origin);
    }
    config += &format!(
        "[[service]]\nname = \"out\"\nroutes = [\"out.test\"]\nbalance = \"round-robin\"\ninstances = [{:?}, {:?}]\n",
        origins[0].address().to_string(),
        origins[1].address().to_string()
    );
    let fairway = FairwayOptions::new(BINARY).config(config).start().await;
    fairway.ready().await;
    (origins, fairway)
}

/// How far the clock of the program is ahead of ours, as its orders tell.
async fn told_ahead(fairway: &Fairway) -> i64 {
    let body = json!({ "state": "active", "reason": "what time is it?" });
    fairway.admin("PUT", "/api/v1/backends/time@v1/state", Some(&body)).await.ok("an order");
    let audit = fairway.list("audit").await;
    let at = audit.iter().find(|entry| entry["reason"] == "what time is it?").expect("the order");
    let at: Timestamp = at["at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    at.duration_since(Timestamp::now()).as_secs()
}

fn no_panic(fairway: &Fairway) {
    assert!(!fairway.log().text().contains("panicked"), "{}", fairway.log().text());
}

#[tokio::test]
async fn a_release_takes_its_steps_in_their_time_whatever_the_wall_clock_says() {
    const STEP: Duration = Duration::from_secs(3);
    let _netns = Netns::enter();
    let (_origins, fairway) = start(&[("a.test", "")]).await;
    let clock = WallClock::of(fairway.process()).await;
    let load = Load::start(LoadOptions { rate: Some(200.0), ..LoadOptions::new(fairway.http(), "a.test") });
    load.wait_for(50).await;
    let route = "/api/v1/routes/a.test%2F/release";
    let body = json!({ "to": "a@v2", "steps": [10, 50, 100], "step_seconds": STEP.as_secs() });
    let began = Instant::now();
    fairway.admin("POST", route, Some(&body)).await.ok("a release");
    let mut ahead = 0;
    let jumps = [(HOUR, json!(50)), (-DAY, json!(100)), (DAY, json!("confirming")), (0, json!("done"))];
    for (steps, (jump, next)) in (1..).zip(jumps) {
        ahead += jump;
        clock.set_ahead(ahead);
        let is_next = |release: &Value| release["weight"] == next || release["state"] == next;
        fairway.wait_until(&format!("{next}"), route, is_next).await;
        // What is told of it may be a second old.
        assert!(
            began.elapsed() > STEP * steps - Duration::from_secs(1),
            "{next} after {:?}",
            began.elapsed()
        );
    }
    load.stop().await.without_failure();
    no_panic(&fairway);
}

/// GETs of a host, and what they are answered with.
async fn version(fairway: &Fairway, host: &str) -> String {
    fairway.get(host, "/").await.ok("an answer").header("x-version").to_owned()
}

#[tokio::test]
async fn what_lasts_goes_on_and_what_has_a_date_follows_the_wall_clock() {
    let _netns = Netns::enter();
    let (origins, fairway) = start(&[
        ("time.test", ""),
        ("split.test", ""),
        ("sticky.test", "session_sticky = true"),
        ("rate.test", "rate_limit = \"1/h burst 3\""),
        ("drain.test", ""),
        ("gone.test", ""),
    ])
    .await;
    let clock = WallClock::of(fairway.process()).await;
    assert!(told_ahead(&fairway).await.abs() < 30);

    // A split and limits that expire in half an hour.
    let split = |v1: u32, v2: u32| json!({ "split@v1": v1, "split@v2": v2 });
    fairway.put_split("split.test/", &json!({ "weights": split(100, 0) })).await.ok("a split");
    let body = json!({ "weights": split(0, 100), "expires_in": "30m" });
    fairway.put_split("split.test/", &body).await.ok("one that expires");
    let limits = "/api/v1/routes/split.test%2F/limits";
    let body = json!({ "timeout.first_byte": "200ms", "expires_in": "30m" });
    fairway.admin("PUT", limits, Some(&body)).await.ok("limits");
    assert_eq!(version(&fairway, "split.test").await, "v2");
    assert_eq!(fairway.get("split.test", "/slow?ms=1000").await.status, 504);

    // A session, a rate that is used up, an instance that is ejected.
    let first = fairway.get("sticky.test", "/").await;
    let cookie = first.header("set-cookie").split(';').next().expect("a cookie").to_owned();
    let bound =
        async || fairway.send(&Request::get("sticky.test", "/").header("cookie", &cookie)).await.ok("bound");
    assert_eq!(bound().await.header("set-cookie"), "");
    let rate = async || fairway.get("rate.test", "/").await.status;
    assert_eq!([rate().await, rate().await, rate().await, rate().await], [200, 200, 200, 429]);
    origins[1].set_healthy(false);
    let ejected = Instant::now();
    let failed = async || {
        let mut failed = 0;
        for _ in 0..20 {
            failed += usize::from(fairway.get("out.test", "/health").await.status == 503);
        }
        failed
    };
    assert_eq!(failed().await, 5, "then it is out for 30 s");

    // A request in flight at an instance that is drained.
    let http = fairway.http();
    let slow = tokio::spawn(async move { Request::get("drain.test", "/slow?ms=8000").send(http).await });
    let asked = async || {
        let list = fairway.list("instances").await;
        list.iter().find(|item| item["in_flight"] == 1).map(|item| item["backend"].clone())
    };
    let busy = until("the slow request", PATIENCE, asked).await;
    let state = format!("/api/v1/backends/{}/state", busy.as_str().expect("a backend"));
    fairway.admin("PUT", &state, Some(&json!({ "state": "draining" }))).await.ok("a drain");

    // A route whose last claim is gone.
    let file = std::fs::read_to_string(fairway.config_file()).expect("it is there");
    std::fs::write(fairway.config_file(), file.replace("gone.test", "other.test"))
        .expect("it can be written");
    let removed = Instant::now();
    fairway.reload();
    let told =
        |list: &Value| list["items"].as_array().into_iter().flatten().any(|item| item["id"] == "other.test/");
    fairway.wait_until("the reload", "/api/v1/routes", told).await;

    for (ahead, expired) in [(HOUR, true), (-DAY, false), (2 * DAY, true), (0, false)] {
        clock.set_ahead(ahead);
        assert!((told_ahead(&fairway).await - ahead).abs() < 30, "the clock is {ahead} ahead");
        let want = if expired { "v1" } else { "v2" };
        let follows = async || (version(&fairway, "split.test").await == want).then_some(());
        until(format!("{want} at {ahead}"), PATIENCE, follows).await;
        let want = if expired { 200 } else { 504 };
        assert_eq!(fairway.get("split.test", "/slow?ms=1000").await.status, want, "the limit at {ahead}");
        assert_eq!(rate().await, 429, "an hour is an hour");
        let again = bound().await;
        if ahead == 0 {
            assert_eq!(again.header("x-version"), first.header("x-version"), "its own time is back");
        } else {
            assert_ne!(again.header("set-cookie"), "", "{ahead}: a session of another time begins anew");
        }
        let gone = fairway.get("gone.test", "/").await.status;
        let is_over = removed.elapsed() > Duration::from_secs(10);
        assert!(gone == 503 || (gone == 404 && is_over), "{gone} at {ahead}: its route lasts 15 s");
        let failures = failed().await;
        assert!(failures == 0 || ejected.elapsed() > Duration::from_secs(30), "{failures} at {ahead}");
        assert_eq!(fairway.admin("GET", "/readyz", None).await.status, 200);
    }
    let until_gone = async || (fairway.get("gone.test", "/").await.status == 404).then_some(());
    until("the end of the tombstone", PATIENCE, until_gone).await;
    assert!(removed.elapsed() > Duration::from_secs(14), "{:?}", removed.elapsed());
    assert_eq!(slow.await.expect("no panic").status, 200, "nobody cuts it");
    let drained = |list: &Value| {
        list["items"].as_array().into_iter().flatten().any(|item| item["drained_at"].is_string())
    };
    fairway.wait_until("the end of the drain", "/api/v1/instances", drained).await;
    no_panic(&fairway);
}
