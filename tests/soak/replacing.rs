//! Rolling replacement: one instance after the other makes room for its successor, in two lanes at the same time.

use std::time::Instant;

use fairway_testkit::Container;

use crate::page::{ROWS, tell};
use crate::stage::{HOST, Part, Stage, WEB};
use crate::times;
use crate::traffic::Traffic;

/// Which comes first, the end of the old or the start of the new.
#[derive(Clone, Copy)]
enum Order {
    StopThenStart,
    StartThenStop,
}

/// Replaces `count` times the older of the two instances of a lane.
async fn lane(
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
async fn rolling(row: &str, count: usize, order: Order, part: Part<'_>, apart: bool) {
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
    let verdict = traffic.stop().await.verdict(apart);
    tell(row, count, began.elapsed(), &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_replacement_that_stops_the_old_first_loses_no_request() {
    rolling(ROWS[0], times(200, 10), Order::StopThenStart, WEB, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_replacement_that_starts_the_new_first_loses_no_request() {
    rolling(ROWS[1], times(200, 10), Order::StartThenStop, WEB, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_exit_at_once_cost_what_was_written_to_them_and_nothing_else() {
    rolling(ROWS[6], times(40, 6), Order::StopThenStart, Part { on_term: "exit", ..WEB }, true).await;
}

/// Longer than any request of the load takes.
const STOP_TIMEOUT: u32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_ignore_their_stop_signal_are_drained_before_they_are_killed() {
    let part = Part { on_term: "ignore", stop_timeout: STOP_TIMEOUT, ..WEB };
    rolling(ROWS[7], times(20, 2), Order::StopThenStart, part, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_refuse_connections_from_their_stop_signal_on_lose_no_request() {
    let part = Part { on_term: "close-listener", stop_timeout: STOP_TIMEOUT, ..WEB };
    rolling(ROWS[8], times(20, 2), Order::StopThenStart, part, false).await;
}
