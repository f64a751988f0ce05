//! Front ports for datagrams (`aliyun.lb.port_N: udp://name:port`): sessions of clients, each with an instance.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::kit::*;

pub(crate) fn add(cluster: &mut Cluster, address: SocketAddr, front: u16, more: &[(&str, &str)]) -> Arc<str> {
    let key = format!("aliyun.lb.port_{}", address.port());
    let value = format!("udp://dns:{front}");
    let labels: Vec<_> = [(key.as_str(), value.as_str())].into_iter().chain(more.iter().copied()).collect();
    cluster.add(address, "", &labels)
}

async fn fronted(front: u16, instances: &[SocketAddr], more: &[(&str, &str)]) -> Plane {
    fronted_with(Options { threads: 2, ..Options::default() }, front, instances, more).await
}

/// With the port open at all workers: a client that comes in between may find one, and then another.
async fn fronted_with(
    options: Options,
    front: u16,
    instances: &[SocketAddr],
    more: &[(&str, &str)],
) -> Plane {
    fronted_by(options, |cluster| {
        for address in instances {
            add(cluster, *address, front, more);
        }
    })
    .await
}

/// The same of a cluster made by hand.
pub(crate) async fn fronted_by(options: Options, make: impl FnOnce(&mut Cluster)) -> Plane {
    let plane = Plane::with(options, make);
    let opening = async {
        while plane.running.front_sockets().expect("they can be copied").is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within("the port is open", opening).await;
    plane
}

/// An instance that says its name and what it heard.
pub(crate) async fn naming(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut heard = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut heard).await {
            let said = [name.as_bytes(), &heard[..length.min(65_000)]].concat();
            socket.send_to(&said, from).await.expect("loopback takes it");
        }
    });
    address
}

/// An address where nobody takes datagrams.
fn refusing() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// A client that hears the front port alone.
pub(crate) async fn client(front: u16) -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port");
    socket.connect(("127.0.0.1", front)).await.expect("an address");
    socket
}

pub(crate) async fn ask(client: &UdpSocket, text: &str) -> String {
    client.send(text.as_bytes()).await.expect("the port is open");
    hear(client).await
}

/// What comes next.
async fn hear(client: &UdpSocket) -> String {
    let mut heard = vec![0; 65_535];
    let length = within("a datagram", client.recv(&mut heard)).await.expect("it is not refused");
    String::from_utf8_lossy(&heard[..length]).into_owned()
}

fn metrics(plane: &Plane) -> String {
    use fairway_proxy::metrics::TableCollector;
    let registry = prometheus::Registry::new();
    let collector = TableCollector::new(plane.handle.clone()).expect("names are right");
    registry.register(Box::new(collector)).expect("it is the only one");
    prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("it is text")
}

/// Waits until a line of the metrics that begins so and has all `labels` says `count`.
pub(crate) async fn counts(plane: &Plane, name: &str, labels: &[&str], count: u64) {
    let end = format!(" {count}");
    let looking = async {
        loop {
            let text = metrics(plane);
            let found = text.lines().any(|line| {
                line.starts_with(name) && line.ends_with(&end) && labels.iter().all(|l| line.contains(l))
            });
            if found {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(&format!("{name} {labels:?} is {count}"), looking).await;
}

#[tokio::test]
async fn a_client_stays_with_its_instance_and_clients_are_balanced() {
    let front = free_port();
    let _plane = fronted(front, &[naming("a").await, naming("b").await], &[]).await;
    // One that was slow at first gets its share only when the other has many sessions.
    let mut heard = BTreeSet::new();
    for _ in 0..1_000 {
        let client = client(front).await;
        let first = ask(&client, "x").await;
        for text in ["1", "22", "333"] {
            assert_eq!(ask(&client, text).await, format!("{}{text}", &first[..1]));
        }
        heard.insert(first);
        if heard.len() == 2 {
            return;
        }
    }
    panic!("all clients got {heard:?}");
}

#[tokio::test]
async fn the_largest_datagram_passes_and_an_empty_one_too() {
    let front = free_port();
    let _plane = fronted(front, &[naming("a").await], &[]).await;
    let client = client(front).await;
    let large = "x".repeat(65_000);
    assert_eq!(ask(&client, &large).await.len(), 65_001);
    assert_eq!(ask(&client, "").await, "a");
}

#[tokio::test]
async fn a_datagram_that_is_refused_goes_to_another_instance_and_is_not_lost() {
    let front = free_port();
    let plane = fronted(front, &[refusing(), naming("b").await], &[]).await;
    for n in 0..6 {
        assert_eq!(ask(&client(front).await, &n.to_string()).await, format!("b{n}"), "at the first try");
    }
    drop(plane);
}

#[tokio::test]
async fn without_another_instance_a_refusal_is_told_and_the_client_hears_nothing() {
    let front = free_port();
    let plane = fronted(front, &[refusing()], &[]).await;
    let client = client(front).await;
    let mut octet = [0];
    client.send(b"x").await.expect("the port is open");
    let route = format!("route=\"udp://:{front}\"");
    let labels = ["code=\"502\"", "reason=\"connect-failed\"", &route];
    tokio::select! {
        heard = client.recv(&mut octet) => panic!("{heard:?}"),
        () = counts(&plane, "fairway_requests_total", &labels, 1) => {}
    }
}

#[tokio::test]
async fn an_instance_that_stops_keeps_its_clients_and_gets_no_new_ones() {
    let front = free_port();
    let (a, b) = (naming("a").await, naming("b").await);
    let mut plane = fronted(front, &[a], &[]).await;
    let old = client(front).await;
    assert_eq!(ask(&old, "1").await, "a1");
    plane.change(|cluster| {
        let first = cluster.ids()[0].clone();
        cluster.stop(&first);
        add(cluster, b, front, &[]);
    });
    for _ in 0..4 {
        assert_eq!(ask(&client(front).await, "2").await, "b2");
    }
    assert_eq!(ask(&old, "3").await, "a3");
}

#[tokio::test]
async fn a_client_that_comes_before_an_instance_waits_for_one() {
    let (front, first) = (free_port(), naming("a").await);
    let mut plane = fronted(front, &[first], &[]).await;
    plane.change(|cluster| {
        let first = cluster.ids()[0].clone();
        cluster.remove(&first);
    });
    let held = client(front).await;
    for text in ["1", "2"] {
        held.send(text.as_bytes()).await.expect("the port is open");
    }
    counts(&plane, "fairway_connections", &["protocol=\"udp\""], 1).await;
    let b = naming("b").await;
    plane.change(|cluster| {
        add(cluster, b, front, &[]);
    });
    assert_eq!((hear(&held).await, hear(&held).await), ("b1".to_owned(), "b2".to_owned()));
}

#[tokio::test]
async fn a_silent_session_ends_and_counts_as_one_request() {
    let front = free_port();
    let plane = fronted(front, &[naming("a").await], &[("fairway.timeout.idle", "200ms")]).await;
    let client = client(front).await;
    assert_eq!(ask(&client, "1").await, "a1");
    assert_eq!(ask(&client, "2").await, "a2");
    let route = format!("route=\"udp://:{front}\"");
    counts(&plane, "fairway_requests_total", &["code=\"200\"", "reason=\"ok\"", &route], 1).await;
    counts(&plane, "fairway_connections", &["protocol=\"udp\""], 0).await;
    assert_eq!(ask(&client, "3").await, "a3", "the next one begins anew");
}

#[tokio::test]
async fn clients_that_are_not_allowed_reach_no_instance() {
    let front = free_port();
    let plane = fronted(front, &[naming("a").await], &[("fairway.allow", "192.0.2.0/24")]).await;
    let client = client(front).await;
    let labels = ["code=\"403\"", "reason=\"client-refused\""];
    let mut octet = [0];
    client.send(b"x").await.expect("the port is open");
    tokio::select! {
        heard = client.recv(&mut octet) => panic!("{heard:?}"),
        () = counts(&plane, "fairway_requests_total", &labels, 1) => {}
    }
}

#[tokio::test]
async fn sessions_beyond_the_limit_are_refused_and_counted() {
    let front = free_port();
    let mut limits = fairway_config::file::Limits::default();
    limits.udp_sessions = 2;
    let plane =
        fronted_with(Options { limits, ..Options::default() }, front, &[naming("a").await], &[]).await;
    let (one, other, third) = (client(front).await, client(front).await, client(front).await);
    assert_eq!((ask(&one, "1").await, ask(&other, "2").await), ("a1".to_owned(), "a2".to_owned()));
    third.send(b"3").await.expect("the port is open");
    let listener = format!("listener=\"udp://:{front}\"");
    counts(&plane, "fairway_connections_refused_total", &["reason=\"listener-full\"", &listener], 1).await;
    assert_eq!(ask(&one, "4").await, "a4");
}

#[tokio::test]
async fn two_front_ports_that_are_each_other_s_instance_are_no_endless_loop() {
    let (front, other) = (free_port(), free_port());
    let own = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let plane = Plane::with(Options::default(), |cluster| {
        add(cluster, own(other), front, &[]);
        add(cluster, own(front), other, &[]);
    });
    let mut troubles = plane.running.front_troubles();
    let told = within("both are told", troubles.wait_for(|troubles| troubles.len() == 2)).await;
    assert!(told.expect("it lives").iter().all(|trouble| trouble.kind == "own-listener"));
    client(front).await.send(b"x").await.expect("the port is open");
    counts(&plane, "fairway_requests_total", &["reason=\"loop\""], 1).await;
}

#[tokio::test]
async fn a_port_closes_with_its_route_and_at_a_drain_sessions_end_when_they_are_silent() {
    let front = free_port();
    let plane = fronted(front, &[naming("a").await], &[]).await;
    let open = client(front).await;
    assert_eq!(ask(&open, "1").await, "a1");
    let drained = plane.drain(LONGEST).await;
    assert_eq!(drained.cut, 0);
    assert!(std::net::UdpSocket::bind(("127.0.0.1", front)).is_ok(), "nobody has the port");
}
