//! Front ports for HTTP (`aliyun.lb.port_N: http://name:port` and `https://`): requests balanced over instances, whatever
//! host and path they ask for.

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fronts::dial;
use crate::kit::*;
use crate::tls::{Client, certificate, store};

/// Adds an instance behind this front port.
fn add(cluster: &mut Cluster, origin: &Origin, front: &str, version: &str) {
    let key = format!("aliyun.lb.port_{}", origin.address.port());
    let labels = [(key.as_str(), front), ("fairway.version", version)];
    cluster.add(origin.address, "", &labels);
}

#[tokio::test]
async fn whatever_host_and_path_a_request_asks_for_it_goes_to_the_service() {
    let (front, origin) = (free_port(), Origin::new().await);
    let _plane = Plane::with(Options::default(), |cluster| {
        add(cluster, &origin, &format!("http://web:{front}"), "v1");
    });
    let mut client = dial(front).await;
    let mut instance = None;
    for (host, path) in [("shop.test", "/"), ("127.0.0.1", "/a/b?c"), ("anything.else:81", "/x")] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let wire = match &mut instance {
            Some(wire) => wire,
            none => none.insert(origin.accept().await),
        };
        let head = wire.head().await;
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n")), "{head}");
        assert_eq!(field(&head, "X-Forwarded-Port"), Some(front.to_string().as_str()), "{head}");
        wire.send(ok("a")).await;
        let answer = client.read_until("\r\n\r\na").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn each_request_of_a_connection_is_drawn_anew_by_the_weights() {
    let (front, old, new) = (free_port(), Origin::new().await, Origin::new().await);
    let name = format!("http://web:{front}");
    let _plane = Plane::with(Options::default(), |cluster| {
        add(cluster, &old, &name, "v1");
        add(cluster, &new, &name, "v2");
    });
    let (_, _) = (old.serve("old"), new.serve("new"));
    let mut client = dial(front).await;
    let mut seen = Vec::new();
    // With equal weights the chance that one version is never drawn is 2 in 2^64.
    for _ in 0..64 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = field(&head, "Content-Length").expect("a length").parse().expect("a number");
        seen.push(String::from_utf8(client.read_exactly(length).await).expect("text"));
    }
    for name in ["old", "new"] {
        assert!(seen.iter().any(|body| body.contains(name)), "{seen:?}");
    }
}

#[tokio::test]
async fn https_is_spoken_with_the_certificates_of_the_tls_listener_and_every_host_is_the_service() {
    let (front, origin) = (free_port(), Origin::new().await);
    let (own, trusted) = certificate(&["shop.test"]);
    let https = Https { certificates: store(&[own]), ..Https::default() };
    let _plane = Plane::with(Options { https: Some(https), ..Options::default() }, |cluster| {
        add(cluster, &origin, &format!("https://web:{front}"), "v1");
    });
    drop(dial(front).await);
    let tcp = TcpStream::connect(("127.0.0.1", front)).await.expect("the front port is open");
    let name = ServerName::try_from("shop.test").expect("a name");
    let connector = TlsConnector::from(Client::new(&[trusted], rustls::ALL_VERSIONS).0);
    let mut client = Wire::over(within("the handshake", connector.connect(name, tcp)).await.expect("TLS"));
    client.send("GET / HTTP/1.1\r\nHost: another.test\r\n\r\n").await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert_eq!(field(&head, "X-Forwarded-Proto"), Some("https"), "{head}");
    instance.send(ok("secret")).await;
    let answer = client.read_until("secret").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
