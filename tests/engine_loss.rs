//! Docker absent, late, restarted, or not Docker at all: traffic goes on, the condition is shown, everything catches up.

use std::os::unix::net::UnixListener;

use fairway_testkit::load::{Load, LoadOptions};
use fairway_testkit::{ContainerOptions, Engine, EngineOptions, Fairway, FairwayOptions, until};
use serde_json::Value;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

async fn lost(fairway: &Fairway) -> Value {
    let is_lost = |p: &Value| p["type"] == "source-unreachable";
    let list = fairway
        .wait_until("the loss is told", "/api/v1/problems", |list| {
            list["items"].as_array().is_some_and(|items| items.iter().any(is_lost))
        })
        .await;
    list["items"].as_array().into_iter().flatten().find(|p| is_lost(p)).cloned().unwrap_or_default()
}

async fn found(fairway: &Fairway) {
    fairway
        .wait_until("the loss is over", "/api/v1/problems", |list| {
            list["items"]
                .as_array()
                .is_some_and(|items| items.iter().all(|p| p["type"] != "source-unreachable"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_starts_later_is_found_and_until_then_unknown_hosts_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let fairway = FairwayOptions::new(BINARY).docker(format!("unix://{}", socket.display())).start().await;
    let answer = fairway.get("shop.localhost", "/").await;
    assert_eq!(answer.status, 503, "not 404 before the engine was listed once");
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(fairway.admin("GET", "/readyz", None).await.status, 503);
    assert!(lost(&fairway).await["text"].as_str().is_some_and(|text| text.contains("docker.sock")));

    let engine = Engine::start().await;
    engine.origin_image("web:v1").await;
    let labels = &[("aliyun.routing.port_80", "shop")];
    engine.run(ContainerOptions { name: "web", image: "web:v1", labels, ..Default::default() }).await;
    std::os::unix::fs::symlink(engine.socket(), &socket).expect("a link");
    found(&fairway).await;
    fairway.answers("shop.localhost", "/", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_docker_is_named_for_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("file"), "not a socket").expect("a file");
    let garbage = UnixListener::bind(path("garbage")).expect("a socket");
    std::thread::spawn(move || {
        for stream in garbage.incoming().flatten() {
            use std::io::Write;
            let _ = (&stream).write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        }
    });
    for name in ["missing", "file", "garbage"] {
        let fairway =
            FairwayOptions::new(BINARY).docker(format!("unix://{}", path(name).display())).start().await;
        let problem = lost(&fairway).await;
        let text = problem["text"].as_str().unwrap_or_default();
        assert!(text.contains(name) && text.len() > name.len() + 20, "{name}: {text}");
        assert!(!problem["remedy"].as_str().unwrap_or_default().is_empty());
        assert_eq!(fairway.admin("GET", "/livez", None).await.status, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_goes_on_while_the_engine_restarts_and_changes_in_between_are_caught_up() {
    for live_restore in [true, false] {
        let engine = Engine::start_with(EngineOptions { live_restore, ..EngineOptions::default() }).await;
        engine.origin_image("web:v1").await;
        let labels = &[("aliyun.routing.port_80", "shop"), ("aliyun.probe.url", "http://container/health")];
        let options = ContainerOptions {
            name: "web",
            image: "web:v1",
            labels,
            restart: "always",
            ..Default::default()
        };
        engine.run(options).await;
        let fairway = FairwayOptions::new(BINARY).docker(engine.url()).start().await;
        fairway.ready().await;
        fairway.answers("shop.localhost", "/", 200).await;
        let load = Load::start(LoadOptions {
            rate: Some(200.0),
            ..LoadOptions::new(fairway.http(), "shop.localhost")
        });
        load.wait_for(50).await;
        engine.stop().await;
        lost(&fairway).await;
        assert_eq!(fairway.admin("GET", "/readyz", None).await.status, 200, "a later loss leaves it ready");
        engine.start_again().await;
        found(&fairway).await;
        let back = async || (fairway.get("shop.localhost", "/").await.status == 200).then_some(());
        until("the container serves again", Duration::from_secs(30), back).await;
        load.wait_for(50).await;
        let report = load.stop().await;
        // Without live restore the engine ends its containers, and the only instance of the route with them.
        assert!(!live_restore || report.failed == 0, "the container ran all the time: {report}");
        let labels = &[("aliyun.routing.port_80", "later")];
        engine.run(ContainerOptions { name: "later", image: "web:v1", labels, ..Default::default() }).await;
        fairway.answers("later.localhost", "/", 200).await;
    }
}
