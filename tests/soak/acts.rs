//! Rows with one act that is done again and again to one of several instances, and what else happens to containers.

use std::time::{Duration, Instant};

use fairway_testkit::{Container, EngineOptions};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::count::Apart;
use crate::page::{ROWS, tell};
use crate::stage::{HOST, Part, Stage, WEB};
use crate::times;
use crate::traffic::Traffic;

/// GETs that end between two acts: the load is back to what it was.
const BETWEEN: u64 = 40;

/// A row of `count` acts under the whole load.
async fn row(row: &str, stage: &Stage, count: usize, apart: Apart, act: impl AsyncFn(usize, &Traffic)) {
    let traffic = Traffic::start(stage.fairway.http(), HOST, WEB.service);
    row_under(traffic, row, stage, count, apart, act).await;
}

/// A row of `count` acts under this load.
pub(crate) async fn row_under(
    traffic: Traffic,
    row: &str,
    stage: &Stage,
    count: usize,
    apart: Apart,
    act: impl AsyncFn(usize, &Traffic),
) {
    let began = Instant::now();
    for n in 0..count {
        traffic.wait_for(BETWEEN).await;
        act(n, &traffic).await;
    }
    traffic.wait_for(BETWEEN).await;
    tell(row, count, began.elapsed(), &stage.count(traffic).await.verdict(apart));
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_up_and_down_loses_no_request() {
    let stage = Stage::set().await;
    stage.start_all(1, WEB).await;
    row(ROWS[2], &stage, times(20, 2), Apart::Nothing, async |n, traffic| {
        let names: Vec<String> = (0..4).map(|more| format!("more-{n}-{more}")).collect();
        let more: [Container; 4] = {
            let start = |at: usize| stage.start(names.get(at).map_or("", String::as_str), WEB);
            tokio::join!(start(0), start(1), start(2), start(3)).into()
        };
        for container in &more {
            stage.is_ready(container).await;
        }
        traffic.wait_for(BETWEEN).await;
        let end = async |at: usize| {
            more[at].stop().await;
            more[at].remove().await;
        };
        tokio::join!(end(0), end(1), end(2), end(3));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flips_between_two_versions_lose_no_request_and_hold_from_their_answer_on() {
    let stage = Stage::set().await;
    for version in ["blue", "green"] {
        stage.start_all(2, Part { version, ..WEB }).await;
    }
    row(ROWS[3], &stage, times(100, 10), Apart::Nothing, async |n, _| {
        let (on, off) = if n % 2 == 0 { ("green", "blue") } else { ("blue", "green") };
        let weights = json!({ "weights": { format!("web@{on}"): 100, format!("web@{off}"): 0 } });
        stage.fairway.put_split(&format!("{HOST}/"), &weights).await.ok("the flip");
        for _ in 0..5 {
            assert_eq!(stage.fairway.get(HOST, "/").await.header("x-version"), on, "flip {n}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_containers_lose_no_request() {
    let stage = Stage::set().await;
    let instances = stage.start_all(2, WEB).await;
    row(ROWS[4], &stage, times(40, 4), Apart::Nothing, async |n, _| {
        let one = &instances[n % 2];
        one.restart().await;
        stage.is_ready(one).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_containers_cost_what_was_written_to_them_and_nothing_else() {
    let stage = Stage::set().await;
    let instances = stage.start_all(3, WEB).await;
    row(ROWS[5], &stage, times(40, 6), Apart::BeyondRepeat, async |n, _| {
        let one = &instances[n % 3];
        one.kill("KILL").await;
        one.wait().await;
        one.start().await;
        stage.is_ready(one).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_containers_keep_requests_waiting_and_lose_none() {
    let stage = Stage::set().await;
    let instances = stage.start_all(3, WEB).await;
    row(ROWS[9], &stage, times(20, 3), Apart::Nothing, async |n, traffic| {
        let one = &instances[n % 3];
        one.pause().await;
        traffic.wait_for(BETWEEN).await;
        one.unpause().await;
        stage.is_ready(one).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_lose_their_network_cost_what_was_written_to_them_and_nothing_else() {
    let stage = Stage::set().await;
    stage.engine.network("front").await;
    let part = Part { network: "front", ..WEB };
    let instances = stage.start_all(3, part).await;
    row(ROWS[10], &stage, times(20, 2), Apart::BeyondRepeat, async |n, traffic| {
        let one = &instances[n % 3];
        one.disconnect("front").await;
        traffic.wait_for(BETWEEN).await;
        one.connect("front").await;
        stage.is_ready(one).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_stops_and_starts_again_costs_no_request() {
    let options = EngineOptions { live_restore: true, ..EngineOptions::default() };
    let stage = Stage::set_with(options).await;
    let instances = stage.start_all(2, WEB).await;
    row(ROWS[11], &stage, times(10, 1), Apart::Nothing, async |_, traffic| {
        stage.engine.stop().await;
        traffic.wait_for(BETWEEN).await;
        stage.engine.start_again().await;
        for one in &instances {
            stage.is_ready(one).await;
        }
    })
    .await;
}

/// Time for the engine to have the address free again, which it tells nobody.
const ADDRESS_FREE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_goes_on_to_another_service_brings_it_no_request_of_the_first() {
    const OTHER: Part<'static> = Part { service: "other", claim: "other", ..WEB };
    let stage = Stage::set().await;
    stage.start_all(2, WEB).await;
    stage.start_all(1, OTHER).await;
    let mut victim = stage.start("victim", WEB).await;
    stage.is_ready(&victim).await;
    let other = Traffic::start(stage.fairway.http(), "other.localhost", OTHER.service);
    let (count, began) = (times(40, 4), Instant::now());
    let web = Traffic::start(stage.fairway.http(), HOST, WEB.service);
    for n in 0..count {
        web.wait_for(BETWEEN).await;
        // By turns an instance of the one and of the other service, at an address that was the other's a moment ago.
        let (part, name) = if n % 2 == 0 { (OTHER, format!("other-{n}")) } else { (WEB, format!("web-{n}")) };
        let address = victim.address().await;
        victim.stop().await;
        victim.remove().await;
        victim = loop {
            let heir = stage.start(&name, part).await;
            if heir.address().await == address {
                break heir;
            }
            heir.remove().await;
            sleep(ADDRESS_FREE).await;
        };
        stage.is_ready(&victim).await;
        other.wait_for(BETWEEN).await;
    }
    let (web, other) = tokio::join!(stage.count(web), other.stop());
    tell(ROWS[12], count, began.elapsed(), &web.and(other).verdict(Apart::Nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_get_no_time_cost_what_was_written_to_them_and_nothing_else() {
    let stage = Stage::set().await;
    let instances = Mutex::new(stage.start_all(3, WEB).await);
    row(ROWS[16], &stage, times(40, 4), Apart::BeyondRepeat, async |n, _| {
        let mut instances = instances.lock().await;
        let one = instances.remove(0);
        if n % 2 == 0 {
            let stopped = stage.engine.docker(&["stop", "-t", "0", one.short_id()]);
            assert!(stopped.status.success(), "{stopped:?}");
        }
        one.remove().await;
        let next = stage.start(&format!("next-{n}"), WEB).await;
        stage.is_ready(&next).await;
        instances.push(next);
    })
    .await;
}
