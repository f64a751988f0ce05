//! Drains that people order, and their ends.

use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::event::diff;
use fairway_catalog::inputs::{StateRecord, StateSubject};
use fairway_catalog::{Catalog, InputsHandle, State, publish};
use fairway_proxy::drains::end_drains;
use fairway_proxy::table::follow;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::datagrams;
use crate::fronts::{add, dial};
use crate::http2::kit::{client, read, send};
use crate::http2_origins::kit::H2Origin;
use crate::kit::*;

/// A running plane whose catalogs are published as in the real program.
struct Live {
    plane: Plane,
    inputs: InputsHandle,
    catalogs: watch::Receiver<Arc<Catalog>>,
}

impl Live {
    fn start(mut plane: Plane) -> Self {
        let inputs = InputsHandle::new(plane.cluster.inputs());
        let live = watch::Sender::new(Arc::new(Catalog::empty(1)));
        let catalogs = live.subscribe();
        tokio::spawn(publish(inputs.subscribe(), live));
        tokio::spawn(follow(catalogs.clone(), plane.handle.clone()));
        tokio::spawn(end_drains(catalogs.clone(), inputs.clone(), plane.handle.clone()));
        Self { plane, inputs, catalogs }
    }

    /// Sets the state of the backend, and waits until that is live.
    async fn order(&self, state: State) {
        let serial = self.inputs.update(|inputs| {
            let subject = StateSubject::Backend("shop@v1".parse().expect("a backend"));
            let record =
                StateRecord { state, author: "a test".into(), at: Timestamp::now(), reason: "".into() };
            let states = &mut Arc::make_mut(&mut inputs.decisions).states;
            match state {
                State::Active => drop(states.remove(&subject)),
                _ => drop(states.insert(subject, record)),
            }
        });
        let mut applied = self.plane.handle.applied();
        within("the order", applied.wait_for(|applied| *applied >= serial)).await.expect("it is applied");
    }

    /// Waits until so many instances of the backend are drained; gives what still ran then.
    async fn drained(&mut self, count: usize) -> u32 {
        let ended = |catalog: &Arc<Catalog>| {
            catalog.instances.values().filter(|instance| instance.drained.is_some()).count() == count
        };
        let waited = within("the end", self.catalogs.wait_for(ended)).await;
        let catalog = waited.expect("they are published").clone();
        let mut applied = self.plane.handle.applied();
        let live = applied.wait_for(|applied| *applied >= catalog.serial);
        within("the table of it", live).await.expect("it is applied");
        catalog.instances.values().filter_map(|instance| Some(instance.drained.as_ref()?.cut)).sum()
    }
}

fn plane(origin: &Origin, other: &Origin, drain: &str) -> Live {
    Live::start(Plane::with(Options { threads: 2, ..Options::default() }, |cluster| {
        cluster.add(origin.address, "shop.test", &[("fairway.drain", drain), ("fairway.version", "v1")]);
        cluster.add(other.address, "shop.test", &[("fairway.version", "v2"), ("fairway.weight", "0")]);
    }))
}

/// A request that runs at the first instance.
async fn running(live: &Live, origin: &Origin, request: &str) -> (Wire, Wire) {
    let mut client = live.plane.connect().await;
    client.send(request).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    (client, instance)
}

#[tokio::test]
async fn a_drain_ends_when_nothing_is_in_flight_and_begins_anew_after_it_was_lifted() {
    let (origin, other) = (Origin::new().await, Origin::new().await);
    let mut live = plane(&origin, &other, "1h");
    let (mut client, mut instance) = running(&live, &origin, &get("/")).await;
    let mut catalogs = live.catalogs.clone();
    live.order(State::Draining).await;
    assert_eq!(live.catalogs.borrow().instances.values().filter(|i| i.drained.is_some()).count(), 0);
    let before = catalogs.borrow_and_update().clone();
    instance.send(ok("done")).await;
    assert!(client.read_until("done").await.starts_with("HTTP/1.1 200"));
    assert_eq!(live.drained(1).await, 0);
    let after = live.catalogs.borrow().clone();
    let events = diff(&before, &after);
    let event = events.iter().find(|event| &*event.kind == "instance-drained").expect("an event");
    assert_eq!((&*event.to, &*event.reason), ("drained", "nothing runs there any more"));
    assert!(live.plane.explain("shop.test").contains("drained by "));
    live.order(State::Active).await;
    live.drained(0).await;
    drop(instance);
    let (_client, _instance) = running(&live, &origin, &get("/again")).await;
    live.order(State::Draining).await;
    live.drained(0).await;
}

#[tokio::test]
async fn what_still_runs_after_the_longest_drain_is_ended() {
    let (origin, other) = (Origin::new().await, Origin::new().await);
    let mut live = plane(&origin, &other, "300ms");
    let (mut download, mut from) = running(&live, &origin, &get("/download")).await;
    from.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun").await;
    download.read_until("begun").await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (mut socket, mut at) = running(&live, &origin, upgrade).await;
    at.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").await;
    socket.head().await;
    let (mut post, _held) =
        running(&live, &origin, "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nab").await;
    let (mut asked, _silent) = running(&live, &origin, &get("/slow")).await;
    live.order(State::Draining).await;
    assert_eq!(live.drained(1).await, 4);
    let rest = download.read_to_end().await;
    assert!(rest.len() < 995, "it is cut: {rest}");
    assert!(socket.ends().await);
    let answer = post.read_until("}\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"drain-ended\""), "{answer}");
    // What may be asked twice is asked elsewhere.
    let mut instead = other.accept().await;
    assert!(instead.head().await.contains("/slow"));
    instead.send(ok("instead")).await;
    assert!(asked.read_until("instead").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn what_waits_to_be_asked_a_second_time_is_ended_too() {
    for protocol in ["http1", "h2c"] {
        let (h1, mut h2) = (Origin::new().await, H2Origin::new().await);
        let other = Origin::new().await.serve("instead");
        let address = if protocol == "h2c" { h2.address } else { h1.address };
        let mut live = Live::start(Plane::with(Options { threads: 2, ..Options::default() }, |cluster| {
            let labels =
                [("fairway.drain", "300ms"), ("fairway.hedge", "1h"), ("fairway.protocol", protocol)];
            cluster.add(address, "shop.test", &[&labels[..], &[("fairway.version", "v1")]].concat());
            cluster.add(other, "shop.test", &[("fairway.version", "v2"), ("fairway.weight", "0")]);
        }));
        let mut client = live.plane.connect().await;
        client.send(get("/slow")).await;
        let (_stream, _wire) = if protocol == "h2c" {
            (Some(h2.asked().await), None)
        } else {
            let mut wire = h1.accept().await;
            wire.head().await;
            (None, Some(wire))
        };
        live.order(State::Draining).await;
        assert_eq!(live.drained(1).await, 1);
        assert!(client.read_until("instead").await.starts_with("HTTP/1.1 200"), "{protocol}");
    }
}

#[tokio::test]
async fn streams_of_http2_are_ended_too() {
    let (origin, other) = (Origin::new().await, Origin::new().await);
    let mut live = plane(&origin, &other, "300ms");
    let client = client(&live.plane).await;
    let request = http::Request::get("http://shop.test/").body(()).expect("a request");
    let (answer, mut from) = {
        let answering = send(&client, request, None);
        let instance = async {
            let mut from = origin.accept().await;
            from.head().await;
            from.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun").await;
            from
        };
        tokio::join!(answering, instance)
    };
    live.order(State::Draining).await;
    assert_eq!(live.drained(1).await, 1);
    assert!(
        within("the end", read(answer.expect("an answer").into_body())).await.is_err(),
        "the stream is reset"
    );
    assert!(from.ends().await);
}

#[tokio::test]
async fn connections_of_front_ports_are_ended_too() {
    let (origin, front) = (Origin::new().await, free_port());
    let mut live = Live::start(Plane::with(Options::default(), |cluster| {
        let labels = [("fairway.drain", "300ms"), ("fairway.version", "v1")];
        add(cluster, origin.address, front, &labels);
    }));
    let mut client = dial(front).await;
    let mut instance = origin.accept().await;
    client.send("hello").await;
    instance.read_until("hello").await;
    live.order(State::Draining).await;
    assert_eq!(live.drained(1).await, 1);
    assert!(client.ends().await && instance.ends().await);
}

#[tokio::test]
async fn a_session_of_datagrams_ends_with_the_drain_and_the_client_goes_on_elsewhere() {
    let front = free_port();
    let (one, other) = (datagrams::naming("1").await, datagrams::naming("2").await);
    let mut live = Live::start(
        datagrams::fronted_by(Options::default(), |cluster| {
            let drained = [("fairway.drain", "300ms"), ("fairway.version", "v1")];
            datagrams::add(cluster, one, front, &drained);
            // Stands in, once the other is drained.
            datagrams::add(cluster, other, front, &[("fairway.version", "v2"), ("fairway.weight", "0")]);
        })
        .await,
    );
    let client = datagrams::client(front).await;
    assert_eq!(datagrams::ask(&client, "a").await, "1a");
    live.order(State::Draining).await;
    live.drained(1).await;
    let metrics = "fairway_requests_total";
    datagrams::counts(&live.plane, metrics, &["reason=\"drain-ended\"", "code=\"200\""], 1).await;
    assert_eq!(datagrams::ask(&client, "b").await, "2b");
}

#[tokio::test]
async fn where_clients_are_bound_a_drain_takes_its_whole_time() {
    let (origin, other) = (Origin::new().await, Origin::new().await);
    let mut live = Live::start(Plane::with(Options::default(), |cluster| {
        let sticky = ("aliyun.routing.session_sticky", "true");
        let labels = [sticky, ("fairway.drain", "400ms"), ("fairway.version", "v1")];
        cluster.add(origin.address, "shop.test", &labels);
        cluster.add(other.address, "shop.test", &[sticky, ("fairway.version", "v2")]);
    }));
    let ordered = tokio::time::Instant::now();
    live.order(State::Draining).await;
    assert_eq!(live.drained(1).await, 0);
    // From the order on, which was a moment before the wait began.
    assert!(ordered.elapsed() >= Duration::from_millis(390), "{:?}", ordered.elapsed());
}
