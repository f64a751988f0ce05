//! Few long connections are spread evenly over the workers, wherever the kernel queued them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use crate::kit::*;

/// Answers each request with the number of the connection that it came on: each worker has its own.
fn numbering(origin: Origin) {
    tokio::spawn(async move {
        for number in 0_u32.. {
            let mut wire = origin.accept_when_there_is_one().await;
            tokio::spawn(async move {
                while wire.try_read_until("\r\n\r\n").await.is_some() {
                    wire.send(ok(&format!("{number:04}"))).await;
                }
            });
        }
    });
}

async fn ask(wire: &mut Wire) -> String {
    wire.send(get("/")).await;
    wire.head().await;
    String::from_utf8(wire.read_exactly(4).await).expect("a number")
}

#[tokio::test]
async fn of_8_connections_each_of_2_workers_serves_4() {
    let origin = Origin::new().await;
    let options = Options { threads: 2, ..Options::default() };
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    numbering(origin);
    // The source ports differ from round to round, and with them the sockets that the kernel chooses.
    for round in 0..40 {
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(plane.connect().await);
        }
        let mut served = BTreeMap::<String, usize>::new();
        for client in &mut clients {
            *served.entry(ask(client).await).or_default() += 1;
        }
        assert_eq!(served.values().collect::<Vec<_>>(), [&4, &4], "round {round}: {served:?}");
        assert_eq!(plane.running.open_connections(), [4, 4], "round {round}");
        drop(clients);
        within("the connections end", async {
            while plane.running.open_connections() != [0, 0] {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn connections_that_are_handed_over_outlive_a_stop_as_others_do() {
    let origin = Origin::new().await;
    let options = Options { threads: 2, ..Options::default() };
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        clients.push(client);
    }
    let mut instances = Vec::new();
    for _ in 0..8 {
        let mut instance = origin.accept().await;
        instance.head().await;
        instances.push(instance);
    }
    let draining = tokio::spawn(plane.drain(Duration::from_secs(15)));
    for instance in &mut instances {
        instance.send(ok("finished")).await;
    }
    for client in &mut clients {
        assert!(client.read_to_end().await.ends_with("finished"));
    }
    drop(clients);
    assert_eq!(draining.await.expect("the drain ends").cut, 0);
}
