//! Instances that fail are taken out for a while, and one that has just started is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fairway_catalog::InstanceId;
use jiff::Timestamp;
use tokio::time::sleep;

use crate::fronts::{add, dial};
use crate::kit::*;
use crate::limits::metric;

const FAILS: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad";

/// Instances of one version, in turn, the first of which answers what the test says.
struct Trial {
    plane: Plane,
    answer: Arc<Mutex<String>>,
    first: InstanceId,
}

impl Trial {
    /// With `others` beside the first, which answer `other` in turn.
    async fn new(others: usize, other: &'static str, labels: &[(&str, &str)]) -> Self {
        let mut labels = labels.to_vec();
        labels.push(("fairway.balance", "round-robin"));
        let answer = Arc::new(Mutex::new(ok("first")));
        let first = Origin::new().await.answer(answer.clone());
        let mut addresses = vec![first];
        for _ in 0..others {
            addresses.push(Origin::new().await.answer(Arc::new(Mutex::new(other.to_owned()))));
        }
        let options = Options { threads: 2, ..Options::default() };
        let plane = Plane::with(options, |cluster| {
            for address in &addresses {
                cluster.add(*address, "shop.test", &labels);
            }
        });
        let first = InstanceId::of_container(&plane.cluster.ids()[0], first.port());
        Self { plane, answer, first }
    }

    fn now_answers(&self, text: &str) {
        *self.answer.lock().expect("nobody panicked") = text.to_owned();
    }

    /// What so many requests get, on connections of their own, so that all workers have some.
    async fn ask(&self, times: usize) -> BTreeMap<String, usize> {
        let mut bodies = BTreeMap::new();
        for _ in 0..times {
            let request = "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
            let answer = self.plane.exchange(request).await;
            let body = answer.split_once("\r\n\r\n").expect("an answer").1;
            *bodies.entry(body.to_owned()).or_default() += 1;
        }
        bodies
    }

    fn is_ejected(&self) -> bool {
        self.plane.handle.states().ejections().borrow().keys().any(|key| key.id == self.first)
    }

    fn ejections(&self, cause: &str) -> f64 {
        metric(&self.plane, "fairway_ejections_total", &[("backend", "shop@v1"), ("cause", cause)])
    }
}

fn other() -> &'static str {
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"
}

#[tokio::test]
async fn five_gateway_failures_in_a_row_take_an_instance_out_for_every_worker_at_once() {
    let trial = Trial::new(2, other(), &[]).await;
    trial.now_answers(FAILS);
    let until_then = trial.ask(15).await;
    assert_eq!(until_then["bad"], 5, "the fifth is the last: {until_then:?}");
    assert!(trial.is_ejected());
    assert_eq!(trial.ask(40).await, BTreeMap::from([("other".to_owned(), 40)]));
    assert_eq!(trial.ejections("failures-in-a-row"), 1.0);
    let told = trial.plane.explain("shop.test");
    assert!(told.contains("ejected until "), "{told}");
    assert!(told.contains("5 failures in a row, the last: it answered 503"), "{told}");
    // A new table changes nothing.
    let mut trial = trial;
    trial.plane.change(|_| {});
    assert_eq!(trial.ask(10).await, BTreeMap::from([("other".to_owned(), 10)]));
}

#[tokio::test]
async fn nobody_is_taken_out_when_all_fail_alike_and_nobody_is_the_last() {
    let trial = Trial::new(2, FAILS, &[]).await;
    trial.now_answers(FAILS);
    assert_eq!(trial.ask(60).await, BTreeMap::from([("bad".to_owned(), 60)]));
    assert!(trial.plane.handle.states().ejections().borrow().is_empty());
    let alone = Trial::new(0, "", &[]).await;
    alone.now_answers(FAILS);
    assert_eq!(alone.ask(20).await, BTreeMap::from([("bad".to_owned(), 20)]));
    assert!(!alone.is_ejected());
}

#[tokio::test]
async fn a_backend_that_asks_for_it_keeps_its_failing_instances() {
    let trial = Trial::new(1, other(), &[("fairway.outlier", "false")]).await;
    trial.now_answers(FAILS);
    assert_eq!(trial.ask(60).await["bad"], 30);
    assert!(!trial.is_ejected());
}

#[tokio::test]
async fn an_ejected_instance_serves_as_soon_as_it_is_the_last_one() {
    let mut trial = Trial::new(1, other(), &[]).await;
    trial.now_answers(FAILS);
    trial.ask(10).await;
    assert!(trial.is_ejected());
    trial.now_answers(&ok("first"));
    let second = trial.plane.cluster.ids()[1].clone();
    trial.plane.change(|cluster| cluster.remove(&second));
    assert_eq!(trial.ask(5).await, BTreeMap::from([("first".to_owned(), 5)]));
    let told = trial.plane.explain("shop.test");
    assert!(told.contains("ejected, but no other instance can serve"), "{told}");
}

#[tokio::test]
async fn an_instance_may_take_itself_out_and_the_client_does_not_see_how() {
    let trial = Trial::new(1, other(), &[]).await;
    let leaves =
        "HTTP/1.1 200 OK\r\nX-Envoy-Immediate-Health-Check-Fail: true\r\nContent-Length: 3\r\n\r\nbye";
    trial.now_answers(leaves);
    let mut client = trial.plane.connect().await;
    let head = loop {
        client.send(get("/")).await;
        let head = client.head().await;
        if client
            .read_exactly(field(&head, "Content-Length").expect("a length").parse().expect("a number"))
            .await
            == b"bye"
        {
            break head;
        }
    };
    assert!(!head.to_ascii_lowercase().contains("envoy"), "{head}");
    within("its ejection", async {
        while !trial.is_ejected() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(trial.ask(20).await, BTreeMap::from([("other".to_owned(), 20)]));
    assert_eq!(trial.ejections("own-request"), 1.0);
    // The data plane is told when its probe has succeeded: it comes back, slowly.
    let key = trial.plane.handle.states().ejections().borrow().keys().next().expect("it is out").clone();
    trial.plane.handle.states().end_ejection(&key);
    assert!(!trial.is_ejected());
    trial.now_answers(&ok("first"));
    within("its return", async {
        while !trial.ask(5).await.contains_key("first") {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_waits_for_its_only_instance_that_has_just_started_until_it_listens() {
    let reserved = Origin::new().await;
    let address = reserved.address;
    drop(reserved);
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(address, "shop.test", &[]);
    });
    let id = plane.cluster.ids()[0].clone();
    let starts = |cluster: &mut Cluster| cluster.edit(&id, |unit| unit.started = Timestamp::now());
    plane.change(starts);
    let (mut one, mut other) = (plane.connect().await, plane.connect().await);
    one.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nhi").await;
    other.send(get("/")).await;
    let told = || plane.explain("shop.test").contains("refused the connection");
    assert!(!told(), "nothing is held against it");
    sleep(Duration::from_millis(300)).await;
    let origin = Origin::at(address).await;
    origin.serve("late");
    for client in [&mut one, &mut other] {
        assert!(client.read_until("\r\n\r\nlate").await.starts_with("HTTP/1.1 200 "));
    }
    assert!(!told());
}

#[tokio::test]
async fn a_connection_to_a_front_port_waits_for_an_instance_that_has_just_started() {
    let (address, front) = (refusing().await, free_port());
    let mut plane = Plane::with(Options::default(), |cluster| drop(add(cluster, address, front, &[])));
    let id = plane.cluster.ids()[0].clone();
    plane.change(|cluster| cluster.edit(&id, |unit| unit.started = Timestamp::now()));
    let mut client = dial(front).await;
    client.send("hello").await;
    sleep(Duration::from_millis(300)).await;
    let mut instance = Origin::at(address).await.accept().await;
    assert_eq!(instance.read_exactly(5).await, b"hello");
}

#[tokio::test]
async fn an_instance_that_never_listens_gives_502_when_the_request_was_held_for_its_time() {
    let address = refusing().await;
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(address, "shop.test", &[]);
    });
    let id = plane.cluster.ids()[0].clone();
    plane.change(|cluster| cluster.edit(&id, |unit| unit.started = Timestamp::now()));
    let begun = Instant::now();
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!((5..8).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn beside_others_an_instance_that_has_just_started_costs_no_request_and_no_retry() {
    let (silent, live) = (refusing().await, Origin::new().await);
    let mut plane = Plane::with(Options::default(), |cluster| {
        for address in [silent, live.address] {
            let labels = [("fairway.balance", "round-robin"), ("fairway.retries", "0")];
            cluster.add(address, "shop.test", &labels);
        }
    });
    let id = plane.cluster.ids()[0].clone();
    plane.change(|cluster| cluster.edit(&id, |unit| unit.started = Timestamp::now()));
    live.serve("live");
    let mut client = plane.connect().await;
    for _ in 0..20 {
        client.send(get("/")).await;
        assert!(client.read_until("\r\n\r\nlive").await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(metric(&plane, "fairway_retries_total", &[]), 0.0);
    assert!(plane.handle.states().ejections().borrow().is_empty());
}
