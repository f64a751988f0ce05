//! `fairway.tls.passthrough`: TLS that ends at an instance, beside TLS that ends here, on one listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_config::file::Tls;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::kit::*;
use crate::logged::{lines, logged};
use crate::secure_origins::{Made, Secure, made};
use crate::tls::{self, Client, shown};

/// `shop.test` is served here, `db.test` and everything under it by the instance itself.
struct Both {
    plane: Plane,
    instance: Secure,
    ours: CertificateDer<'static>,
    theirs: Made,
    client: Client,
}

impl Both {
    async fn new(options: Options, labels: &[(&str, &str)]) -> Self {
        let theirs = made(&["db.test", "*.db.test"], |_| {});
        let instance = Secure::usual(&theirs).await;
        Self::with(options, labels, instance, theirs).await
    }

    async fn with(options: Options, labels: &[(&str, &str)], instance: Secure, theirs: Made) -> Self {
        let (certificate, ours) = tls::certificate(&["shop.test", "plain.test"]);
        let limits = options.https.map(|https| https.limits).unwrap_or_default();
        let https = Https { certificates: tls::store(&[certificate]), limits, ..Https::default() };
        let shop = Origin::new().await.serve("hello");
        let own = [("fairway.tls.passthrough", "db.test;*.db.test"), ("fairway.version", "db")];
        let labels: Vec<_> = own.iter().chain(labels).copied().collect();
        let options = Options { https: Some(https), ..options };
        let plane = Plane::with(options, |cluster| {
            cluster.add(shop, "shop.test", &[]);
            cluster.add(instance.address(), "plain.test", &labels);
        });
        let client = Client::new(&[ours.clone(), theirs.der.clone()], rustls::ALL_VERSIONS);
        Self { plane, instance, ours, theirs, client }
    }

    async fn serves_shop(&self) {
        let mut wire = self.client.connect(&self.plane, "shop.test").await;
        assert_eq!(shown(&wire), self.ours);
        wire.send(get("/")).await;
        wire.read_until("hello").await;
    }
}

/// A connection to `name` at this address.
async fn connect(client: &Client, to: SocketAddr, name: &str) -> tls::Secure {
    let tcp = TcpStream::connect(to).await.expect("it accepts");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connected = within("the handshake", TlsConnector::from(client.0.clone()).connect(name, tcp)).await;
    Wire::over(connected.expect("it succeeds"))
}

/// Stands in front of `to` and sends the first record of each connection in the pieces that `cut` makes of it.
async fn cutting(to: SocketAddr, cut: fn(&[u8]) -> Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(to).await.expect("it accepts");
            server.set_nodelay(true).expect("a socket");
            tokio::spawn(async move {
                let mut head = [0; 5];
                client.read_exact(&mut head).await.expect("a record");
                let mut record = vec![0; 5 + usize::from(u16::from_be_bytes([head[3], head[4]]))];
                record[..5].copy_from_slice(&head);
                client.read_exact(&mut record[5..]).await.expect("all of it");
                for piece in cut(&record) {
                    server.write_all(&piece).await.expect("it is taken");
                    tokio::task::yield_now().await;
                }
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

/// Each octet by itself.
fn in_single_octets(record: &[u8]) -> Vec<Vec<u8>> {
    record.iter().map(|octet| vec![*octet]).collect()
}

/// A record for each few octets (RFC 8446 section 5.1), all at once.
fn in_many_records(record: &[u8]) -> Vec<Vec<u8>> {
    let records = record[5..].chunks(7).map(|part| [&[0x16, 3, 1, 0, part.len() as u8], part].concat());
    vec![records.collect::<Vec<_>>().concat()]
}

#[tokio::test]
async fn the_name_in_the_handshake_decides_whether_tls_ends_here_or_at_the_instance() {
    let both = Both::new(Options::default(), &[]).await;
    both.serves_shop().await;
    for name in ["db.test", "a.db.test"] {
        let connecting = both.client.connect(&both.plane, name);
        let (mut client, mut instance) = tokio::join!(connecting, both.instance.accept());
        assert_eq!(shown(&client), both.theirs.der, "{name}");
        assert_eq!(instance.stream.get_ref().1.server_name(), Some(name));
        client.send("to you").await;
        assert_eq!(instance.read_exactly(6).await, b"to you");
        instance.send("and back").await;
        assert_eq!(client.read_exactly(8).await, b"and back");
        client.finish().await;
        assert!(instance.ends().await, "an end is passed on");
    }
    both.serves_shop().await;
}

#[tokio::test]
async fn requests_of_a_host_whose_tls_is_passed_on_are_not_served() {
    let both = Both::new(Options::default(), &[]).await;
    let mut wire = both.plane.connect().await;
    wire.send("GET / HTTP/1.1\r\nHost: db.test\r\n\r\n").await;
    wire.read_until("no-route").await;
    // Nor on a connection that was made for another host.
    let mut wire = both.client.connect(&both.plane, "shop.test").await;
    wire.send("GET / HTTP/1.1\r\nHost: db.test\r\n\r\n").await;
    wire.read_until("no-route").await;
}

#[tokio::test]
async fn a_first_message_in_pieces_is_read_and_passed_on_as_it_came() {
    let both = Both::new(Options::default(), &[]).await;
    let to = both.plane.https.expect("a TLS listener");
    for cut in [in_single_octets as fn(&[u8]) -> Vec<Vec<u8>>, in_many_records] {
        let through = cutting(to, cut).await;
        let connecting = connect(&both.client, through, "db.test");
        let (mut client, mut instance) = tokio::join!(connecting, both.instance.accept());
        client.send("hello").await;
        assert_eq!(instance.read_exactly(5).await, b"hello");
        let mut wire = connect(&both.client, through, "shop.test").await;
        wire.send(get("/")).await;
        wire.read_until("hello").await;
    }
}

#[tokio::test]
async fn tls_1_2_is_passed_on_too() {
    let both = Both::new(Options::default(), &[]).await;
    let old = Client::new(std::slice::from_ref(&both.theirs.der), &[&version::TLS12]);
    let (client, _instance) = tokio::join!(old.connect(&both.plane, "db.test"), both.instance.accept());
    assert_eq!(shown(&client), both.theirs.der);
}

#[tokio::test]
async fn a_clients_certificate_reaches_the_instance() {
    let (theirs, person) = (made(&["db.test"], |_| {}), made(&["person"], |_| {}));
    let instance = Secure::new(&theirs, Some(&person), rustls::ALL_VERSIONS).await;
    let both = Both::with(Options::default(), &[], instance, theirs).await;
    let mut roots = RootCertStore::empty();
    roots.add(both.theirs.der.clone()).expect("a certificate");
    let key = PrivateKeyDer::try_from(person.key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots);
    let config = config.with_client_auth_cert(vec![person.der.clone()], key).expect("a certificate");
    let client = Client(Arc::new(config));
    let (_client, instance) = tokio::join!(client.connect(&both.plane, "db.test"), both.instance.accept());
    let seen = instance.stream.get_ref().1.peer_certificates().expect("it was shown");
    assert_eq!(seen[0], person.der);
}

#[tokio::test]
async fn what_asks_for_no_host_or_is_no_tls_is_treated_as_ever() {
    let limits = Tls { handshake_timeout: Duration::from_millis(300), ..Tls::default() };
    let https = Https { limits, ..Https::default() };
    let both = Both::new(Options { https: Some(https), ..Options::default() }, &[]).await;
    let to = both.plane.https.expect("a TLS listener");
    let open = async || Wire::new(TcpStream::connect(to).await.expect("it accepts"));

    let mut plain = open().await;
    plain.send(get("/")).await;
    let answer = plain.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("use https://"), "{answer}");
    for octets in [
        &b"\x00\x01\x02\x03"[..],
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x03\x01\x00\x04nope",
        b"\x80\x2e\x01\x00\x02",
    ] {
        let mut wire = open().await;
        wire.send(octets).await;
        wire.finish().await;
        let answer = wire.read_to_end().await;
        assert!(!answer.contains("HTTP"), "{octets:?}: {answer:?}");
    }
    // A message that says it has 65,535 octets, and more of them than anybody needs.
    let mut endless = open().await;
    endless.send(b"\x16\x03\x01\x00\x04\x01\x00\xff\xff").await;
    for _ in 0..6 {
        endless.send([&b"\x16\x03\x01\x40\x00"[..], &[0; 0x4000]].concat()).await;
    }
    endless.read_to_end().await;

    let nameless = ServerName::IpAddress(to.ip().into());
    let mut session = ClientConnection::new(both.client.0.clone(), nameless).expect("a session");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("a vector takes it");
    let mut wire = open().await;
    wire.send(&hello).await;
    assert_eq!(wire.read_exactly(1).await, [0x16], "a handshake with us");

    let (mut silent, mut half) = (open().await, open().await);
    half.send(&hello[..100]).await;
    assert!(silent.ends().await && half.ends().await, "in the time of a handshake");
    both.serves_shop().await;
}

#[tokio::test]
async fn a_client_without_an_instance_is_told_in_an_alert_and_the_log_says_why() {
    let (options, receiver) = logged();
    let theirs = made(&["db.test"], |_| {});
    let instance = Secure::usual(&theirs).await;
    let mut both = Both::with(options, &[("fairway.retries", "0")], instance, theirs).await;
    // Nobody listens there any more.
    both.instance.origin = Origin::new().await;
    let error = both.client.try_connect(&both.plane, "db.test").await.expect_err("there is no instance");
    assert!(error.to_string().contains("InternalError"), "{error}");
    both.serves_shop().await;
    let lines = lines(both.plane, receiver).await;
    let line = lines.iter().find(|line| line["method"] == "TLS").expect("it is told");
    assert_eq!((&line["reason"], &line["host"]), (&"connect-failed".into(), &"db.test".into()), "{line}");
    assert_eq!((&line["route"], &line["status"]), (&"tls://db.test".into(), &502.into()), "{line}");
}

#[tokio::test]
async fn a_client_that_is_not_allowed_is_refused() {
    let both = Both::new(Options::default(), &[("fairway.allow", "192.0.2.0/24")]).await;
    let error = both.client.try_connect(&both.plane, "db.test").await.expect_err("it is not allowed");
    assert!(error.to_string().contains("AccessDenied"), "{error}");
}

#[tokio::test]
async fn the_instance_may_be_told_whose_connection_it_is() {
    let options = Options { trusted: vec!["127.0.0.0/8"], proxy_protocol: true, ..Options::default() };
    let both = Both::new(options, &[("fairway.proxy_protocol", "v2")]).await;
    let mut tcp = TcpStream::connect(both.plane.https.expect("TLS")).await.expect("it accepts");
    tcp.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 258 443\r\n").await.expect("it is taken");
    let name = ServerName::try_from("db.test").expect("a name");
    let connecting = TlsConnector::from(both.client.0.clone()).connect(name, tcp);
    let accepting = async {
        let mut wire = both.instance.origin.accept().await;
        let want = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x16\xc0\0\x02\x01\xc0\0\x02\x02\x01\x02\x01\xbb\x02\0\x07db.test";
        let mut header = vec![0; want.len()];
        wire.stream.read_exact(&mut header).await.expect("a header");
        assert_eq!(header, want);
        both.instance.acceptor.accept(wire.stream).await.expect("TLS behind it")
    };
    let (client, _) = within("the handshake", async { tokio::join!(connecting, accepting) }).await;
    assert_eq!(shown(&Wire::over(client.expect("it succeeds"))), both.theirs.der);
}

#[tokio::test]
async fn an_instance_that_stops_keeps_its_connections_and_a_drain_lets_them_go_on() {
    let mut both = Both::new(Options::default(), &[]).await;
    let connecting = both.client.connect(&both.plane, "db.test");
    let (mut client, mut instance) = tokio::join!(connecting, both.instance.accept());
    let other = Secure::usual(&both.theirs).await;
    both.plane.change(|cluster| {
        let first = cluster.ids()[1].clone();
        cluster.stop(&first);
        let labels = [("fairway.tls.passthrough", "db.test")];
        cluster.add(other.address(), "plain.test", &labels);
    });
    let connecting = both.client.connect(&both.plane, "db.test");
    let (second, _) = tokio::join!(connecting, other.accept());
    drop(second);
    let drain = tokio::spawn(both.plane.drain(LONGEST));
    client.send("still").await;
    assert_eq!(instance.read_exactly(5).await, b"still");
    client.finish().await;
    assert!(instance.ends().await);
    instance.finish().await;
    assert_eq!(drain.await.expect("it ends").cut, 0);
}

#[tokio::test]
async fn a_host_is_passed_on_as_soon_as_somebody_asks_for_it_and_served_again_afterwards() {
    let (mut plane, client) = tls::plane(|_| {}, Origin::new().await.serve("hello"));
    let theirs = made(&["shop.test"], |_| {});
    let instance = Secure::usual(&theirs).await;
    let strict = Client::new(std::slice::from_ref(&theirs.der), rustls::ALL_VERSIONS);
    client.connect(&plane, "shop.test").await;
    let mut id = None;
    plane.change(|cluster| {
        let labels = [("fairway.tls.passthrough", "shop.test"), ("fairway.version", "v2")];
        id = Some(cluster.add(instance.address(), "plain.test", &labels));
    });
    let (passed, _) = tokio::join!(strict.connect(&plane, "shop.test"), instance.accept());
    assert_eq!(shown(&passed), theirs.der);
    plane.change(|cluster| cluster.remove(&id.expect("it was added")));
    plane.change(|cluster| cluster.later(Duration::from_secs(16)));
    let mut wire = client.connect(&plane, "shop.test").await;
    wire.send(get("/")).await;
    wire.read_until("hello").await;
}
