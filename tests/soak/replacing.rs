//! Rolling replacement: one instance after the other makes room for its successor, in two lanes at the same time.

use std::time::Instant;

use fairway_testkit::{Container, FairwayOptions};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::acts::row_under;
use crate::count::Apart;
use crate::page::{ROWS, tell};
use crate::stage::{BINARY, HOST, Part, Stage, WEB};
use crate::times;
use crate::traffic::Traffic;

/// Which comes first, the end of the old or the start of the new.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    StopThenStart,
    StartThenStop,
}

/// Replaces `count` times the older of the two instances of a lane.
pub(crate) async fn lane(
    stage: &Stage,
    name: &str,
    mut instances: Vec<Container>,
    count: usize,
    order: Order,
    part: Part<'_>,
) {
    for n in 0..count {
        let old = instances.remove(0);
        let start = async || {
            let new = stage.start(&format!("{name}-{n}"), part).await;
            stage.is_ready(&new).await;
            new
        };
        let stop = async || {
            old.stop().await;
            old.remove().await;
        };
        match order {
            Order::StopThenStart => {
                stop().await;
                instances.push(start().await);
            }
            Order::StartThenStop => {
                instances.push(start().await);
                stop().await;
            }
        }
    }
}

/// A row of `count` replacements among four instances.
async fn rolling(row: &str, count: usize, order: Order, part: Part<'_>, apart: Apart) {
    let stage = Stage::set().await;
    let mut first = stage.start_all(4, part).await;
    let second = first.split_off(2);
    let began = Instant::now();
    let traffic = Traffic::start(stage.fairway.http(), HOST, part.service);
    traffic.wait_for(50).await;
    tokio::join!(
        lane(&stage, "left", first, count.div_ceil(2), order, part),
        lane(&stage, "right", second, count / 2, order, part),
    );
    traffic.wait_for(50).await;
    let verdict = stage.count(traffic).await.verdict(apart);
    tell(row, count, began.elapsed(), &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_replacement_that_stops_the_old_first_loses_no_request() {
    rolling(ROWS[0], times(200, 10), Order::StopThenStart, WEB, Apart::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_replacement_that_starts_the_new_first_loses_no_request() {
    rolling(ROWS[1], times(200, 10), Order::StartThenStop, WEB, Apart::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_exit_at_once_cost_what_was_written_to_them_and_nothing_else() {
    rolling(
        ROWS[6],
        times(40, 6),
        Order::StopThenStart,
        Part { on_term: "exit", ..WEB },
        Apart::BeyondRepeat,
    )
    .await;
}

/// Longer than any request of the load takes.
const STOP_TIMEOUT: u32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_ignore_their_stop_signal_are_drained_before_they_are_killed() {
    let part = Part { on_term: "ignore", stop_timeout: STOP_TIMEOUT, ..WEB };
    rolling(ROWS[7], times(20, 2), Order::StopThenStart, part, Apart::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_refuse_connections_from_their_stop_signal_on_lose_no_request() {
    let part = Part { on_term: "close-listener", stop_timeout: STOP_TIMEOUT, ..WEB };
    rolling(ROWS[8], times(20, 2), Order::StopThenStart, part, Apart::Nothing).await;
}

/// A row in which the only instance is replaced as compose does: the new one is made under another name, takes the name of the
/// old one when that is gone, and is started then. Whoever asks meanwhile is held.
async fn only_one(row: &str, on_term: &str) {
    let stage = Stage::set().await;
    let part = Part { on_term, ..WEB };
    let only = Mutex::new(stage.start("web-1", part).await);
    stage.is_ready(&*only.lock().await).await;
    let traffic = Traffic::start_short(stage.fairway.http(), HOST, part.service);
    row_under(traffic, row, &stage, times(40, 2), Apart::Nothing, async |n, _| {
        let mut only = only.lock().await;
        let new = stage.create(&format!("new-{n}"), part).await;
        only.stop().await;
        only.remove().await;
        new.rename("web-1").await;
        new.start().await;
        stage.is_ready(&new).await;
        *only = new;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_instance_is_replaced_and_no_request_is_lost() {
    only_one(ROWS[13], "finish").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_instance_is_replaced_though_it_waits_until_its_clients_are_gone() {
    only_one(ROWS[14], "await-clients").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_in_the_middle_of_a_stop_loses_no_request() {
    let stage = Stage::set().await;
    let part = Part { on_term: "ignore", stop_timeout: STOP_TIMEOUT, ..WEB };
    let (instances, processes) = (Mutex::new(stage.start_all(3, part).await), Mutex::new(Vec::new()));
    let traffic = Traffic::start(stage.fairway.http(), HOST, part.service);
    row_under(traffic, ROWS[15], &stage, times(20, 2), Apart::Nothing, async |n, _| {
        let mut instances = instances.lock().await;
        let old = instances.remove(0);
        let stop = async {
            old.stop().await;
            old.remove().await;
        };
        let stops = |list: &Value| {
            list["items"].as_array().into_iter().flatten().any(|item| item["condition"] == "stopping")
        };
        let take_over = async {
            stage.fairway.wait_until("the news of the stop", "/api/v1/instances", stops).await;
            let options = FairwayOptions {
                state_dir: Some(stage.fairway.state_dir().to_owned()),
                ..FairwayOptions::new(BINARY).docker(stage.engine.url()).args(&["--replace"])
            };
            let new = options.start().await;
            new.ready().await;
            new
        };
        let ((), new) = tokio::join!(stop, take_over);
        processes.lock().await.push(new);
        let next = stage.start(&format!("next-{n}"), part).await;
        stage.is_ready(&next).await;
        instances.push(next);
    })
    .await;
}
