//! Rolling replacement under HTTP/2 and gRPC: a service that speaks HTTP/1.1 in one lane, one that is called over HTTP/2 in another.

use std::time::Instant;

use fairway_testkit::tls::Authority;
use fairway_testkit::{EngineOptions, FairwayOptions};

use crate::count::Apart;
use crate::page::{ROWS, tell};
use crate::replacing::{Order, lane};
use crate::stage::{BINARY, HOST, Part, Speaks, Stage, WEB, folder};
use crate::times;
use crate::traffic::Traffic;

/// An instance that is called over HTTP/2 without TLS, and says GOAWAY on SIGTERM.
const CALLED: Part<'static> = Part { service: "calls", claim: "calls", speaks: Speaks::H2c, ..WEB };
const CALLED_AT: &str = "calls.localhost";

/// A row of `count` replacements among two instances of each.
async fn rolling(row: &str, count: usize, order: Order) {
    let (authority, certificate) = (Authority::new(), folder());
    let (cert, key) = authority.server(&[HOST, CALLED_AT]).write(certificate.path());
    let config = format!("[[certificate]]\ncert = {cert:?}\nkey = {key:?}\n");
    let fairway = FairwayOptions::new(BINARY).https("127.0.0.1:0").config(config);
    let stage = Stage::set_by(EngineOptions::default(), fairway).await;
    let (web, called) = (stage.start_all(2, WEB).await, stage.start_all(2, CALLED).await);
    let began = Instant::now();
    let traffic = Traffic::start_http2(&stage, &authority.client(), WEB.service, CALLED.service, CALLED_AT);
    traffic.wait_for(50).await;
    tokio::join!(
        lane(&stage, "web", web, count / 2, order, WEB),
        lane(&stage, "calls", called, count.div_ceil(2), order, CALLED),
    );
    traffic.wait_for(50).await;
    tell(row, count, began.elapsed(), &stage.count(traffic).await.verdict(Apart::Nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_replacement_that_stops_the_old_first_loses_no_call() {
    rolling(ROWS[17], times(200, 8), Order::StopThenStart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_replacement_that_starts_the_new_first_loses_no_call() {
    rolling(ROWS[18], times(200, 8), Order::StartThenStop).await;
}
