//! Front ports (`aliyun.lb.port_N: tcp://name:port`): connections balanced over instances, octets as they are.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kit::*;

/// The containers at these addresses behind one front port.
fn fronted(front: u16, instances: &[SocketAddr]) -> Plane {
    Plane::with(Options { threads: 2, ..Options::default() }, |cluster| {
        for address in instances {
            add(cluster, *address, front, &[]);
        }
    })
}

pub(crate) fn add(
    cluster: &mut Cluster,
    address: SocketAddr,
    front: u16,
    more: &[(&str, &str)],
) -> std::sync::Arc<str> {
    let key = format!("aliyun.lb.port_{}", address.port());
    let value = format!("tcp://db:{front}");
    let labels: Vec<_> = [(key.as_str(), value.as_str())].into_iter().chain(more.iter().copied()).collect();
    cluster.add(address, "", &labels)
}

/// A connection to the front port, as soon as it is open.
pub(crate) async fn dial(front: u16) -> Wire {
    let dialling = async {
        loop {
            match TcpStream::connect(("127.0.0.1", front)).await {
                Ok(stream) => return Wire::new(stream),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    within("the front port opens", dialling).await
}

/// An instance that greets every connection with its name, then says back what it hears until it hears the end.
async fn greeting(name: &'static str) -> SocketAddr {
    let origin = Origin::new().await;
    let address = origin.address;
    tokio::spawn(async move {
        loop {
            let mut wire = origin.accept_when_there_is_one().await;
            tokio::spawn(async move {
                wire.send(name).await;
                let (mut read, mut write) = wire.stream.split();
                // The client may reset it: that is its business.
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}

async fn name_of(wire: &mut Wire) -> String {
    String::from_utf8(wire.read_exactly(1).await).expect("a name")
}

#[tokio::test]
async fn connections_are_balanced_and_the_server_may_speak_first() {
    let front = free_port();
    let _plane = fronted(front, &[greeting("a").await, greeting("b").await]);
    let (mut seen, mut open) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let mut wire = dial(front).await;
        seen.push(name_of(&mut wire).await);
        open.push(wire);
    }
    // Those that are open count as in flight: the others go where there are fewer.
    assert_eq!(seen.iter().filter(|name| *name == "a").count(), 4, "{seen:?}");
}

#[tokio::test]
async fn each_side_may_end_its_direction_alone_and_nothing_of_a_large_transfer_is_lost() {
    let front = free_port();
    let _plane = fronted(front, &[greeting("a").await]);
    let mut wire = dial(front).await;
    assert_eq!(name_of(&mut wire).await, "a");
    let sent: Vec<u8> = (0..8 * 1024 * 1024_u32).map(|n| (n / 3) as u8).collect();
    let (mut read, mut write) = wire.stream.split();
    let (mut back, upwards) = (Vec::with_capacity(sent.len()), async {
        write.write_all(&sent).await.expect("it is taken");
        write.shutdown().await.expect("one direction ends");
    });
    let downwards = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut back);
    let (_, read) = within("all comes back", async { tokio::join!(upwards, downwards) }).await;
    read.expect("the end, and no reset");
    assert!(back == sent, "{} octets came back", back.len());
}

#[tokio::test]
async fn a_reset_of_the_instance_is_a_reset_for_the_client() {
    let (front, origin) = (free_port(), Origin::new().await);
    let _plane = fronted(front, &[origin.address]);
    let mut wire = dial(front).await;
    let mut instance = origin.accept().await;
    instance.send("a").await;
    assert_eq!(name_of(&mut wire).await, "a", "the two are joined");
    instance.reset();
    let mut octet = [0];
    let read = within("the end", tokio::io::AsyncReadExt::read(&mut wire.stream, &mut octet)).await;
    assert_eq!(read.expect_err("no ordinary end").kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_that_one_instance_refuses_goes_to_another() {
    let front = free_port();
    let _plane = fronted(front, &[refusing().await, greeting("b").await]);
    for _ in 0..6 {
        assert_eq!(name_of(&mut dial(front).await).await, "b");
    }
}

#[tokio::test]
async fn an_instance_that_stops_keeps_its_connections_and_gets_no_new_ones() {
    let front = free_port();
    let (a, b) = (greeting("a").await, greeting("b").await);
    let mut plane = fronted(front, &[a]);
    let mut old = dial(front).await;
    assert_eq!(name_of(&mut old).await, "a");
    plane.change(|cluster| {
        let first = cluster.ids()[0].clone();
        cluster.stop(&first);
        add(cluster, b, front, &[]);
    });
    for _ in 0..6 {
        assert_eq!(name_of(&mut dial(front).await).await, "b");
    }
    old.send("x").await;
    assert_eq!(name_of(&mut old).await, "x");
}

#[tokio::test]
async fn a_connection_without_an_instance_waits_for_one() {
    let (front, first) = (free_port(), greeting("a").await);
    let mut plane = fronted(front, &[first]);
    drop(dial(front).await);
    plane.change(|cluster| {
        let first = cluster.ids()[0].clone();
        cluster.remove(&first);
    });
    let mut held = dial(front).await;
    let b = greeting("b").await;
    plane.change(|cluster| {
        add(cluster, b, front, &[]);
    });
    assert_eq!(name_of(&mut held).await, "b");
}

#[tokio::test]
async fn the_port_opens_with_the_label_and_closes_when_its_tombstone_ends() {
    let (front, address) = (free_port(), greeting("a").await);
    let mut plane = fronted(front, &[]);
    assert!(TcpStream::connect(("127.0.0.1", front)).await.is_err(), "nobody asks for it yet");
    plane.change(|cluster| {
        add(cluster, address, front, &[]);
    });
    let mut open = dial(front).await;
    assert_eq!(name_of(&mut open).await, "a");
    plane.change(|cluster| {
        let first = cluster.ids()[0].clone();
        cluster.remove(&first);
    });
    plane.change(|cluster| cluster.later(Duration::from_secs(16)));
    let closed = async {
        while TcpStream::connect(("127.0.0.1", front)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("the port closes", closed).await;
    open.send("x").await;
    assert_eq!(name_of(&mut open).await, "x", "what is open stays");
}

#[tokio::test]
async fn a_port_that_is_taken_opens_as_soon_as_it_is_free() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let front = taken.local_addr().expect("an address").port();
    let _plane = fronted(front, &[greeting("a").await]);
    drop(taken);
    assert_eq!(name_of(&mut dial(front).await).await, "a");
}

#[tokio::test]
async fn a_drain_closes_the_port_and_lets_open_connections_go_on() {
    let front = free_port();
    let plane = fronted(front, &[greeting("a").await]);
    let mut open = dial(front).await;
    assert_eq!(name_of(&mut open).await, "a");
    let drain = tokio::spawn(plane.drain(LONGEST));
    let closed = async {
        while TcpStream::connect(("127.0.0.1", front)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("the port closes", closed).await;
    open.send("x").await;
    assert_eq!(name_of(&mut open).await, "x");
    open.finish().await;
    assert!(open.ends().await);
    assert_eq!(drain.await.expect("it ends").cut, 0);
}

#[tokio::test]
async fn an_instance_that_is_the_front_port_itself_is_no_endless_loop() {
    let front = free_port();
    let _plane = fronted(front, &[SocketAddr::from(([127, 0, 0, 1], front))]);
    assert!(dial(front).await.ends().await);
}

#[tokio::test]
async fn two_front_ports_that_are_each_other_s_instance_are_no_endless_loop() {
    let (front, other) = (free_port(), free_port());
    let own = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let plane = Plane::with(Options { threads: 2, ..Options::default() }, |cluster| {
        add(cluster, own(other), front, &[]);
        add(cluster, own(front), other, &[]);
    });
    let mut troubles = plane.running.front_troubles();
    let told = within("both are told", troubles.wait_for(|troubles| troubles.len() == 2)).await;
    assert!(told.expect("it lives").iter().all(|trouble| trouble.kind == "own-listener"));
    assert!(dial(front).await.ends().await && dial(other).await.ends().await);
}
