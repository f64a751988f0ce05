//! Copies of requests through the real program: ordered on the command line, seen by the other version, unseen by clients.

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::raw_origin::RawOrigin;
use fairway_testkit::wait::PATIENCE;
use fairway_testkit::{Fairway, FairwayOptions, Request, until};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");
const ROUTE: &str = "/api/v1/routes/shop.localhost%2F";

fn service(version: &str, weight: u16, address: impl std::fmt::Display) -> String {
    format!(
        "[[service]]\nname = \"web\"\nversion = \"{version}\"\nweight = {weight}\nroutes = [\"shop\"]\ninstances = [\"{address}\"]\n"
    )
}

/// Lines of `/metrics` about copies.
async fn results(fairway: &Fairway) -> String {
    let text = fairway.admin("GET", "/metrics", None).await.text();
    text.lines().filter(|line| line.starts_with("fairway_mirrored_requests_total")).collect()
}

async fn wait_for_result(fairway: &Fairway, result: &str, count: u32) {
    until(format!("{count} copies that are {result}"), PATIENCE, || async {
        let results = results(fairway).await;
        let found =
            results.contains(&format!("result=\"{result}\"")) && results.ends_with(&format!(" {count}"));
        found.then_some(())
    })
    .await;
}

fn text(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_ordered_seen_counted_kept_over_a_restart_and_taken_back() {
    let old = Origin::start(Identity::new("old", "v1")).await;
    let new = RawOrigin::start().await;
    let config = service("v1", 1, old.address()) + &service("v2", 0, new.address());
    let mut fairway = FairwayOptions::new(BINARY).config(config).args(&[]).start().await;
    fairway.ready().await;
    let ordered =
        fairway.cli(&["mirror", "shop.localhost/", "v2", "--percent", "100", "--reason", "look"]).await;
    assert!(ordered.status.success(), "{}", text(&ordered));
    assert!(text(&ordered).contains("100 % copied to web@v2"), "{}", text(&ordered));
    assert_eq!(fairway.read(ROUTE).await["mirror"]["percent"], json!(100));

    let body = "a body that is not JSON \u{0} at all";
    let ask = || Request {
        body: body.to_owned().into(),
        ..Request::new("POST", "shop.localhost", "/echo").header("x-fairway-mirror", "mine")
    };
    let marked = ask().send(fairway.http()).await;
    assert_eq!(
        (marked.status, marked.text().as_str()),
        (200, body),
        "what is marked is served and not copied"
    );
    let plain = Request { headers: Vec::new(), ..ask() };
    let answer = plain.send(fairway.http()).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, body),
        "the version that keeps silent delays nobody"
    );
    let mut copy = new.accept().await;
    let head = copy.head().await.to_ascii_lowercase();
    assert!(
        head.starts_with("post /echo http/1.1\r\n") && head.contains("\r\nx-fairway-mirror: 1\r\n"),
        "{head}"
    );
    assert_eq!(copy.read_exactly(body.len()).await, body.as_bytes());
    copy.send("HTTP/1.1 500 Oh no\r\nContent-Length: 0\r\n\r\n").await;
    wait_for_result(&fairway, "failed", 1).await;
    let explained = text(&fairway.cli(&["explain", "http://shop.localhost/"]).await);
    assert!(explained.contains("100 % of the requests are copied to web@v2"), "{explained}");
    let events = fairway.read("/api/v1/events?after=0").await;
    let events = events["items"].as_array().expect("a list").clone();
    let told = |event: &Value| event["type"] == "route-mirror" && event["to"] == "100 % to web@v2";
    assert!(events.iter().any(told), "{events:?}");

    // Gone, and the requests go on; back with a restart, and so is the order.
    drop((copy, new));
    for _ in 0..3 {
        assert_eq!(fairway.get("shop.localhost", "/").await.json()["version"], "v1");
    }
    fairway.restart().await;
    fairway.ready().await;
    assert_eq!(fairway.get("shop.localhost", "/").await.json()["version"], "v1");
    wait_for_result(&fairway, "unreachable", 1).await;
    let taken_back = fairway.cli(&["mirror", "shop.localhost/", "--off"]).await;
    assert!(taken_back.status.success(), "{}", text(&taken_back));
    assert_eq!(fairway.read(ROUTE).await["mirror"], Value::Null);
    let audit = fairway.list("audit").await;
    let actions: Vec<&Value> = audit.iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["delete-mirror", "put-mirror"]);
}
