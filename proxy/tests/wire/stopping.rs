//! The stop of the data plane: nothing in flight is lost, nothing new is refused before the listeners close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use fairway_proxy::Adopted;
use tokio::net::TcpStream;

use crate::kit::*;

#[tokio::test]
async fn a_request_in_flight_is_finished_and_its_connection_closed() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let address = plane.address;
    let mut idle = plane.connect().await;
    idle.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    idle.head().await;
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    let draining = tokio::spawn(plane.drain(Duration::from_secs(15)));
    idle.read_to_end().await;
    within("the listener closes", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(!draining.is_finished(), "a request is in flight");
    instance.send(ok("finished")).await;
    let answer = client.read_to_end().await;
    assert!(answer.ends_with("finished"), "{answer}");
    assert_eq!(field(&answer, "Connection"), Some("close"), "{answer}");
    assert_eq!(draining.await.expect("the drain ends").cut, 0);
}

#[tokio::test]
async fn all_that_waits_to_be_accepted_at_a_stop_is_served_however_many_wait() {
    let address = Origin::new().await.serve("a");
    let adopted = Adopted { waits: true, ..Adopted::default() };
    let plane = Plane::with(Options { adopted, ..Options::default() }, |cluster| {
        cluster.add(address, "shop.test", &[]);
    });
    let mut waiting = Vec::new();
    for _ in 0..300 {
        let mut client = plane.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        waiting.push(client);
    }
    let draining = tokio::spawn(plane.drain(LONGEST));
    for (number, client) in waiting.iter_mut().enumerate() {
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{number}: {answer:?}");
    }
    assert_eq!(draining.await.expect("the drain ends").cut, 0);
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_is_cut_and_counted() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    assert_eq!(plane.drain(Duration::from_millis(100)).await.cut, 1);
    assert!(client.ends().await && instance.ends().await);
}

#[tokio::test]
async fn clients_that_send_request_after_request_lose_none_to_a_stop() {
    let origin = Origin::new().await;
    let options = Options { threads: 2, ..Options::default() };
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    let address = plane.address;
    origin.serve("a");
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                // A new connection after each `Connection: close`; a refused one means that the listener is closed.
                while let Ok(stream) = TcpStream::connect(address).await {
                    let mut wire = Wire::new(stream);
                    loop {
                        wire.send(get("/")).await;
                        let Some(head) = wire.try_read_until("\r\n\r\n").await else {
                            return Err("a request got no answer".to_owned());
                        };
                        if !head.starts_with("HTTP/1.1 200 ") {
                            return Err(head);
                        }
                        wire.read_exactly(1).await;
                        answered.fetch_add(1, Ordering::Relaxed);
                        if field(&head, "Connection") == Some("close") {
                            break;
                        }
                    }
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                }
                Ok(())
            })
        })
        .collect();
    within("some requests", async {
        while answered.load(Ordering::Relaxed) < 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    assert_eq!(plane.drain(Duration::from_secs(15)).await.cut, 0);
    for client in clients {
        assert_eq!(client.await.expect("the client ends"), Ok(()));
    }
}

#[tokio::test]
async fn an_idle_process_stops_at_once() {
    let plane = Plane::with(Options { threads: 2, ..Options::default() }, |_| {});
    let start = std::time::Instant::now();
    assert_eq!(plane.drain(Duration::from_secs(30)).await.cut, 0);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn another_data_plane_takes_the_sockets_over_and_no_connection_is_lost() {
    let origin = Origin::new().await;
    let address = origin.address;
    let old = Plane::with(Options { threads: 2, ..Options::default() }, |cluster| {
        cluster.add(address, "shop.test", &[]);
    });
    origin.serve("a");
    let listening = old.address;
    let adopted = Adopted {
        sockets: old.running.listening_sockets().expect("they can be duplicated"),
        waits: true,
        ..Adopted::default()
    };
    let new = Plane::with(Options { threads: 3, adopted, ..Options::default() }, |cluster| {
        cluster.add(address, "shop.test", &[]);
    });
    assert_eq!(new.address, listening);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (stop, answered) = (stop.clone(), answered.clone());
        clients.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let mut client = Wire::new(TcpStream::connect(listening).await.expect("it is accepted"));
                client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
                let answer = client.read_to_end().await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let more = async |than: u32| {
        within("further answers", async {
            while answered.load(Ordering::Relaxed) < than + 100 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        answered.load(Ordering::Relaxed)
    };
    let before = more(0).await;
    assert_eq!(new.running.open_connections(), [0, 0, 0], "nothing is accepted before it is opened");
    // For a moment nobody accepts: connections wait in the sockets that both have.
    let handed_over = within("the end of the old one", old.running.hand_over(Duration::from_secs(15))).await;
    assert_eq!(handed_over.cut, 0);
    new.running.open();
    more(before + 1).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request was lost");
    }
    assert_eq!(new.drain(Duration::from_secs(15)).await.cut, 0);
    assert!(TcpStream::connect(listening).await.is_err(), "with the last process the sockets are closed");
}
