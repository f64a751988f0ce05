//! Deploys under load on a real engine: no request fails. The long runs are in benches/figures.rs.

use fairway_testkit::load::{Load, LoadOptions};
use fairway_testkit::{Container, ContainerOptions, Engine, Fairway, FairwayOptions};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

async fn start() -> (Engine, Fairway) {
    let engine = Engine::start().await;
    engine.origin_image("origin:v1").await;
    let fairway = FairwayOptions::new(BINARY).docker(engine.url()).start().await;
    fairway.ready().await;
    (engine, fairway)
}

async fn instance(engine: &Engine, name: &str) -> Container {
    let labels = &[
        ("aliyun.routing.port_80", "shop"),
        ("aliyun.probe.url", "http://container/health"),
        ("fairway.service", "web"),
        ("fairway.version", "v1"),
    ];
    engine.run(ContainerOptions { name, image: "origin:v1", labels, ..Default::default() }).await
}

/// GETs on kept connections, and on a connection each.
fn loads(fairway: &Fairway) -> [Load; 2] {
    let options = || LoadOptions { rate: Some(150.0), ..LoadOptions::new(fairway.http(), "shop.localhost") };
    [Load::start(options()), Load::start(LoadOptions { keep_alive: false, ..options() })]
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_replacements_of_both_orders_lose_no_request() {
    let (engine, fairway) = start().await;
    let mut instances = Vec::new();
    for n in 0..3 {
        instances.push(instance(&engine, &format!("web-{n}")).await);
    }
    fairway.instances_ready("web@v1", 3).await;
    let loads = loads(&fairway);
    for n in 3..7 {
        let name = format!("web-{n}");
        let old = instances.remove(0);
        if n % 2 == 0 {
            instances.push(instance(&engine, &name).await);
            fairway.instances_ready("web@v1", 4).await;
        }
        old.stop().await;
        old.remove().await;
        if n % 2 == 1 {
            instances.push(instance(&engine, &name).await);
        }
        fairway.instances_ready("web@v1", 3).await;
        loads[0].wait_for(50).await;
    }
    for load in loads {
        let report = load.stop().await.without_failure();
        let newest = instances.last().expect("three are running");
        assert!(report.instance(newest.short_id()) > 0, "the newest serves too: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_killed_without_a_warning_costs_no_repeatable_request() {
    let (engine, fairway) = start().await;
    let victim = instance(&engine, "web-1").await;
    instance(&engine, "web-2").await;
    fairway.instances_ready("web@v1", 2).await;
    let loads = loads(&fairway);
    loads[0].wait_for(100).await;
    victim.kill("KILL").await;
    fairway.instances_ready("web@v1", 1).await;
    loads[0].wait_for(100).await;
    for load in loads {
        load.stop().await.without_failure();
    }
}
