//! Front ports (`aliyun.lb.port_N`, `balancers` in the file) through the real binary: who gets what comes there, splits,
//! metrics and problems.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use fairway_testkit::port::free_port;
use fairway_testkit::raw::Raw;
use fairway_testkit::wait::{PATIENCE, until};
use fairway_testkit::{Fairway, FairwayOptions};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// An instance that greets every connection with its name, then says back what it hears.
async fn greeting(name: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // The client may be gone: that is its business.
                let _ = stream.write_all(name.as_bytes()).await;
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

/// One version of the service `db` behind the front port.
fn version(name: &str, instance: SocketAddr, front: u16) -> String {
    format!(
        "[[service]]\nname = \"db\"\nversion = \"{name}\"\nbalancers = [\"tcp://db:{front}\"]\ninstances = [\"{instance}\"]\n"
    )
}

async fn start(config: String) -> Fairway {
    let fairway = FairwayOptions::new(BINARY).config(config).start().await;
    fairway.ready().await;
    fairway
}

/// A connection to the front port, as soon as it is open.
async fn dial(front: u16) -> Raw {
    let opened = async || TcpStream::connect(("127.0.0.1", front)).await.ok();
    Raw::new(until(format!("port {front} opens"), PATIENCE, opened).await)
}

async fn name_of(connection: &mut Raw) -> String {
    String::from_utf8(connection.read_exactly(2).await).expect("a name")
}

#[tokio::test]
async fn connections_follow_the_split_of_their_front_port_and_are_counted() {
    let front = free_port();
    let config = version("v1", greeting("v1").await, front) + &version("v2", greeting("v2").await, front);
    let fairway = start(config).await;
    let mut connection = dial(front).await;
    let first = name_of(&mut connection).await;
    connection.send("x").await;
    assert_eq!(connection.read_exactly(1).await, b"x");
    drop(connection);

    let route = format!("tcp://:{front}");
    let put = fairway.put_split(&route, &json!({ "weights": { "db@v1": 1, "db@v2": 0 } })).await;
    assert_eq!(put.status, 200, "{}", put.text());
    for _ in 0..8 {
        assert_eq!(name_of(&mut dial(front).await).await, "v1");
    }
    let log = fairway.log().find(|lines| {
        let ours = lines.iter().filter(|line| line.contains(&route) && line.contains("TCP"));
        (ours.count() == 9).then_some(())
    });
    assert!(log.await.is_some(), "a line for each: {}", fairway.log().text());
    let labels = [format!("backend=\"db@{first}\""), "code=\"200\"".to_owned(), format!("route=\"{route}\"")];
    let counted = async || {
        let metrics = fairway.admin("GET", "/metrics", None).await.text();
        let ours = |line: &str| {
            line.starts_with("fairway_requests_total{") && labels.iter().all(|label| line.contains(label))
        };
        metrics.lines().any(ours).then_some(())
    };
    until(format!("a count with {labels:?}"), PATIENCE, counted).await;
}

#[tokio::test]
async fn a_split_of_the_file_may_name_a_front_port() {
    let front = free_port();
    let config = version("v1", greeting("v1").await, front)
        + &version("v2", greeting("v2").await, front)
        + &format!("[[split]]\nroute = \"tcp://:{front}\"\nweights = {{ \"db@v1\" = 0, \"db@v2\" = 5 }}\n");
    let fairway = start(config).await;
    for _ in 0..8 {
        assert_eq!(name_of(&mut dial(front).await).await, "v2");
    }
    let routes = fairway.list("routes").await;
    let route = routes.iter().find(|route| route["id"] == format!("tcp://:{front}")).expect("the route");
    assert_eq!(route["split"]["layer"], "file", "{route}");
    assert!(fairway.list("problems").await.is_empty());
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_problem_until_it_is_free_and_open() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let front = taken.local_addr().expect("an address").port();
    let fairway = start(version("v1", greeting("v1").await, front)).await;
    let of = |list: &serde_json::Value| {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().find(|problem| problem["type"] == "balancer-port-failed")
    };
    let shown = fairway.wait_until("the problem", "/api/v1/problems", |list| of(list).is_some()).await;
    let problem = of(&shown).expect("it was there");
    assert_eq!(problem["subject"], format!("tcp://:{front}"), "{problem}");
    let (text, remedy) = (problem["text"].to_string(), problem["remedy"].to_string());
    assert!(text.contains("in use by") && text.contains(&std::process::id().to_string()), "{text}");
    assert!(remedy.contains("choose another front port"), "{remedy}");
    drop(taken);
    assert_eq!(name_of(&mut dial(front).await).await, "v1");
    fairway.wait_until("it is over", "/api/v1/problems", |list| list.is_object() && of(list).is_none()).await;
}

#[tokio::test]
async fn an_instance_that_is_a_front_port_gets_nothing_and_is_a_problem() {
    let (front, other) = (free_port(), free_port());
    let own = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let circle =
        version("v1", own(other), front) + &version("v1", own(front), other).replace("\"db\"", "\"bd\"");
    let fairway = start(circle).await;
    let told = |list: &serde_json::Value| {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter(|problem| problem["type"] == "own-listener").count()
    };
    fairway.wait_until("both are told", "/api/v1/problems", |list| told(list) == 2).await;
    let (octets, _) = dial(front).await.read_to_end().await;
    assert!(octets.is_empty());
    let log = fairway.log().find(|lines| lines.iter().any(|line| line.contains("loop")).then_some(()));
    assert!(log.await.is_some(), "{}", fairway.log().text());
}

#[tokio::test]
async fn datagrams_are_answered_from_the_address_that_was_asked_and_survive_an_instance_that_dies() {
    let name = async |name: &'static str| {
        let socket = tokio::net::UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        let answering = tokio::spawn(async move {
            let mut heard = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut heard).await {
                socket.send_to(name.as_bytes(), from).await.expect("loopback takes it");
            }
        });
        (address, answering)
    };
    let ((one, answering), (two, _)) = (name("v1").await, name("v2").await);
    let front = free_port();
    let udp = |text: String| text.replace("tcp://", "udp://");
    let config = udp(version("v1", one, front)) + &udp(version("v2", two, front));
    let fairway = FairwayOptions { http: vec!["0.0.0.0:0".to_owned()], ..FairwayOptions::new(BINARY) };
    let fairway = fairway.config(config).start().await;
    fairway.ready().await;
    let ask = async |client: &tokio::net::UdpSocket| {
        let mut heard = [0; 64];
        // It may not be open yet.
        let _ = client.send(b"?").await;
        let answer = tokio::time::timeout(Duration::from_millis(500), client.recv(&mut heard)).await;
        answer.ok()?.ok().map(|length| String::from_utf8_lossy(&heard[..length]).into_owned())
    };
    // A connected socket hears nobody but the address that it asks.
    let dial = async |ip: &str| {
        let client = tokio::net::UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port");
        client.connect((ip, front)).await.expect("an address");
        client
    };
    let (mut of_one, mut clients) = (Vec::new(), 0);
    while of_one.is_empty() || clients < 4 {
        let client = dial(["127.0.0.1", "127.0.0.2"][clients % 2]).await;
        let answer = until("an answer", PATIENCE, async || ask(&client).await).await;
        clients += 1;
        if answer == "v1" {
            of_one.push(client);
        }
    }
    answering.abort();
    assert!(answering.await.expect_err("it was ended").is_cancelled());
    for client in &of_one {
        assert_eq!(until("an answer", PATIENCE, async || ask(client).await).await, "v2");
    }
    assert!(fairway.terminate().await.success());
    let lines = fairway.log().lines();
    let told = lines.iter().filter(|line| line.contains("method=UDP") && line.contains("status=200")).count();
    assert_eq!(told, clients, "{}", fairway.log().text());
}
