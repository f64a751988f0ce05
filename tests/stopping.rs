//! SIGTERM under load through the real binary: readiness fails first, and no request is lost.

use std::time::Duration;

use fairway_testkit::load::{Load, LoadOptions};
use fairway_testkit::netns::Netns;
use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::wait::{PATIENCE, within};
use fairway_testkit::{Fairway, FairwayOptions, client};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

async fn start(origin: &Origin, delay: &str) -> Fairway {
    let config = format!(
        "log.access = false\nshutdown.delay = \"{delay}\"\n[[service]]\nname = \"web\"\nroutes = [\"a.test\"]\ninstances = [\"{}\"]\n",
        origin.address()
    );
    let fairway = FairwayOptions::new(BINARY).config(config).start().await;
    fairway.ready().await;
    fairway
}

#[tokio::test]
async fn readiness_fails_while_requests_are_served_then_the_listener_closes_and_no_request_is_lost() {
    let _netns = Netns::enter();
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = start(&origin, "2s").await;
    let http = fairway.http();
    let options = || LoadOptions { connections: 4, ..LoadOptions::new(http, "a.test") };
    let post = LoadOptions {
        method: "POST".to_owned(),
        target: "/echo".to_owned(),
        body: vec![b'x'; 20_000],
        ..options()
    };
    let one_shot = LoadOptions { keep_alive: false, ..options() };
    let loads = [options(), one_shot, post].map(Load::start);
    for load in &loads {
        load.wait_for(50).await;
    }
    let slow = tokio::spawn(async move { client::get(http, "a.test", "/slow?ms=4000").await });
    sleep(Duration::from_millis(100)).await;

    let asked = Instant::now();
    fairway.process().signal(Signal::TERM.as_raw());
    // Whoever looks at readiness, as a balancer does, sends no further requests from then on.
    within("503 from /readyz", PATIENCE, async {
        while fairway.admin("GET", "/readyz", None).await.status != 503 {}
    })
    .await;
    assert!(asked.elapsed() < Duration::from_secs(2), "before the listener closes");
    for load in &loads {
        load.wait_for(50).await;
    }
    for load in loads {
        load.stop().await.without_failure();
    }
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "the delay has not passed: it proves nothing otherwise"
    );
    assert_eq!(slow.await.expect("no panic").status, 200, "what is in flight ends by itself");
    assert!(fairway.process().wait(PATIENCE).await.success());
    assert!(asked.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_second_signal_ends_the_delay_and_not_what_is_in_flight() {
    let _netns = Netns::enter();
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = start(&origin, "10m").await;
    let http = fairway.http();
    let slow = tokio::spawn(async move { client::get(http, "a.test", "/slow?ms=1500").await });
    while origin.requests() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    fairway.process().signal(Signal::TERM.as_raw());
    within("503 from /readyz", PATIENCE, async {
        while fairway.admin("GET", "/readyz", None).await.status != 503 {}
    })
    .await;
    fairway.process().signal(Signal::TERM.as_raw());
    assert_eq!(slow.await.expect("no panic").status, 200);
    assert!(fairway.process().wait(PATIENCE).await.success());
}
