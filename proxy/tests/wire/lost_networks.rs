//! Instances that lose their address while they are asked: nothing tells on their connections that nothing will come.

use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::http2_origins::kit::{H2C, H2Origin};
use crate::kit::*;

/// A request with this method and body of two octets.
fn request(method: &str) -> String {
    format!("{method} /{method} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nab")
}

#[tokio::test]
async fn what_may_be_repeated_goes_elsewhere_at_once_and_the_rest_stays_where_it_is() {
    for elsewhere in [None, Some([127, 0, 0, 9].into())] {
        let (first, second) = (Origin::new().await, Origin::new().await);
        let mut plane = Plane::shop(&[&first]);
        let (mut put, mut post, mut begun) =
            (plane.connect().await, plane.connect().await, plane.connect().await);
        // As many clients do, the body behind the head.
        let whole = request("PUT");
        let (head, body) = whole.split_at(whole.len() - 2);
        put.send(head).await;
        let mut silent = first.accept().await;
        silent.head().await;
        put.send(body).await;
        assert_eq!(silent.read_exactly(2).await, b"ab");
        let mut hinted = plane.connect().await;
        hinted.send(get("/hinted")).await;
        let mut early = first.accept().await;
        early.head().await;
        early.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
        assert!(hinted.head().await.starts_with("HTTP/1.1 103 "));
        post.send(request("POST")).await;
        let mut slow = first.accept().await;
        slow.read_until("\r\n\r\nab").await;
        begun.send(get("/download")).await;
        let mut download = first.accept().await;
        download.head().await;
        download.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun").await;
        begun.read_until("begun").await;
        plane.change(|cluster| {
            let id = cluster.ids().remove(0);
            cluster.edit(&id, |unit| unit.ip = elsewhere);
            cluster.add(second.address, "shop.test", &[]);
        });
        let mut instead = second.accept().await;
        assert!(instead.read_until("\r\n\r\nab").await.starts_with("PUT /PUT "));
        // An answer has begun with what comes before it.
        early.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter").await;
        hinted.read_until("after").await;
        instead.send(ok("instead")).await;
        assert!(put.read_until("instead").await.starts_with("HTTP/1.1 200 "));
        // The network may come back with the same address.
        slow.send(ok("at last")).await;
        assert!(post.read_until("at last").await.starts_with("HTTP/1.1 200 "));
        download.send("goes.").await;
        begun.read_until("goes.").await;
    }
}

#[tokio::test]
async fn a_stream_of_http2_goes_elsewhere_as_well() {
    let (mut first, mut second) = (H2Origin::new().await, H2Origin::new().await);
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(first.address, "shop.test", &[H2C]);
    });
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let _silent = first.asked().await;
    plane.change(|cluster| {
        let id = cluster.ids().remove(0);
        cluster.edit(&id, |unit| unit.ip = None);
        cluster.add(second.address, "shop.test", &[H2C]);
    });
    second.asked().await.answer("instead");
    client.read_until("instead").await;
}

#[tokio::test]
async fn nobody_goes_on_knocking_at_an_address_that_the_instance_has_lost() {
    let (deaf, second) = (TcpSocket::new_v4().expect("a socket"), Origin::new().await);
    deaf.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let deaf = deaf.listen(1).expect("it listens");
    let address = deaf.local_addr().expect("bound");
    // Its queue is full: connections to it are neither taken nor refused.
    let mut queued = Vec::new();
    while let Ok(one) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        queued.push(one.expect("it listens"));
    }
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(address, "shop.test", &[("fairway.timeout.connect", "1h")]);
    });
    let mut client = plane.connect().await;
    client.send(request("POST")).await;
    let id = plane.cluster.ids().remove(0);
    let table = plane.handle.load();
    let state = table.entries()[0].endpoints().next().expect("an instance").state.clone();
    within("the attempt", async {
        while state.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    plane.change(|cluster| {
        cluster.edit(&id, |unit| unit.ip = None);
        cluster.add(second.address, "shop.test", &[]);
    });
    let mut instead = second.accept().await;
    instead.read_until("\r\n\r\nab").await;
    instead.send(ok("instead")).await;
    assert!(client.read_until("instead").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn without_another_instance_it_is_held_for_one_like_any_other() {
    let (first, second) = (Origin::new().await, Origin::new().await);
    let mut plane = Plane::shop(&[&first]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut silent = first.accept().await;
    silent.head().await;
    let id = plane.cluster.ids().remove(0);
    plane.change(|cluster| cluster.edit(&id, |unit| unit.ip = None));
    assert!(silent.ends().await, "nobody waits there any more");
    plane.change(|cluster| drop(cluster.add(second.address, "shop.test", &[])));
    let mut instead = second.accept().await;
    instead.head().await;
    instead.send(ok("instead")).await;
    client.read_until("instead").await;
}
