//! TLS towards clients: what is agreed upon, which certificate is shown, and what becomes of those who do not speak it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_config::file::{ClientCertificates, HttpListener, Limits, ListenerTls, Tls, TlsVersion};
use fairway_proxy::tls::{Certificate, Certificates};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::kit::*;
use crate::limits::metric;

pub(crate) type Secure = Wire<TlsStream<TcpStream>>;

/// A certificate for these names, and what a client must trust to believe it.
pub(crate) fn certificate(names: &[&str]) -> (Certificate, CertificateDer<'static>) {
    let made =
        rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .expect("a certificate");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes(), None).expect("it is good");
    (certificate, made.cert.der().clone())
}

/// The TLS listener of a plane without wishes of its own.
fn secure_listener() -> HttpListener {
    HttpListener {
        addr: ([127, 0, 0, 1], 0).into(),
        proxy_protocol: false,
        upgrades: Vec::new(),
        redirect_to_https: false,
        tls: Some(ListenerTls::default()),
        limits: Limits::default(),
    }
}

pub(crate) fn store(all: &[Certificate]) -> Arc<Certificates> {
    Certificates::new(all, Timestamp::now())
}

/// A plane with one origin that answers `origin`, TLS with one certificate, and a client that trusts it.
pub(crate) fn plane(change: impl FnOnce(&mut Https), origin: SocketAddr) -> (Plane, Client) {
    plane_with(change, origin, &[])
}

/// The same with labels of the origin.
pub(crate) fn plane_with(
    change: impl FnOnce(&mut Https),
    origin: SocketAddr,
    labels: &[(&str, &str)],
) -> (Plane, Client) {
    let (certificate, trusted) = certificate(&["shop.test", "*.shop.test"]);
    let mut https = Https { certificates: store(&[certificate]), ..Https::default() };
    change(&mut https);
    let plane = Plane::with(Options { https: Some(https), ..Options::default() }, |cluster| {
        cluster.add(origin, "shop.test", labels);
    });
    (plane, Client::new(&[trusted], rustls::ALL_VERSIONS))
}

pub(crate) struct Client(pub Arc<ClientConfig>);

impl Client {
    pub(crate) fn new(
        trusted: &[CertificateDer<'static>],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        trusted.iter().for_each(|one| roots.add(one.clone()).expect("a certificate"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
        Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }

    pub(crate) fn speaking(&self, protocols: &[&str]) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    pub(crate) async fn try_connect(&self, plane: &Plane, name: &str) -> std::io::Result<Secure> {
        let tcp = TcpStream::connect(plane.https.expect("a TLS listener")).await.expect("it accepts");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connected = within("the handshake", TlsConnector::from(self.0.clone()).connect(name, tcp)).await;
        connected.map(Wire::over)
    }

    pub(crate) async fn connect(&self, plane: &Plane, name: &str) -> Secure {
        self.try_connect(plane, name).await.expect("the handshake succeeds")
    }
}

pub(crate) fn session(wire: &Secure) -> &rustls::ClientConnection {
    wire.stream.get_ref().1
}

pub(crate) fn shown(wire: &Secure) -> CertificateDer<'static> {
    let chain = session(wire).peer_certificates().expect("a server shows a certificate");
    chain[0].clone().into_owned()
}

#[tokio::test]
async fn requests_over_tls_are_served_in_both_versions_and_the_instance_knows() {
    for (versions, want) in [
        (&[&version::TLS13][..], ProtocolVersion::TLSv1_3),
        (&[&version::TLS12][..], ProtocolVersion::TLSv1_2),
    ] {
        let origin = Origin::new().await;
        let (certificate, trusted) = certificate(&["shop.test"]);
        let https = Https { certificates: store(&[certificate]), ..Https::default() };
        let options = Options { https: Some(https), ..Options::default() };
        let plane = Plane::with(options, |cluster| drop(cluster.add(origin.address, "shop.test", &[])));
        let client = Client::new(&[trusted], versions).speaking(&["h2c", "http/1.1"]);
        let mut wire = client.connect(&plane, "shop.test").await;
        assert_eq!(session(&wire).protocol_version(), Some(want));
        assert_eq!(session(&wire).alpn_protocol(), Some(&b"http/1.1"[..]));
        wire.send(get("/a")).await;
        let mut up = origin.accept().await;
        let head = up.head().await;
        assert_eq!(field(&head, "x-forwarded-proto"), Some("https"), "{head}");
        up.send(ok("one")).await;
        wire.read_until("one").await;
        wire.send(get("/b")).await;
        up.head().await;
        up.send(ok("two")).await;
        wire.read_until("two").await;
    }
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name_and_the_first_one_serves_the_rest() {
    let all = [certificate(&["first.test"]), certificate(&["*.shop.test"]), certificate(&["a.shop.test"])];
    let (certificates, ders): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let https = Https { certificates: store(&certificates), ..Https::default() };
    let plane = Plane::with(Options { https: Some(https), ..Options::default() }, |_| {});
    let client = Client::new(&ders, rustls::ALL_VERSIONS);
    for (name, want) in [("first.test", 0), ("b.shop.test", 1), ("a.shop.test", 2), ("A.Shop.TEST", 2)] {
        assert_eq!(shown(&client.connect(&plane, name).await), ders[want], "{name}");
    }
    let error = client.try_connect(&plane, "other.test").await.expect_err("no certificate has this name");
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_replaced_serves_the_next_handshake_and_open_connections_stay() {
    let origin = Origin::new().await;
    let (old, old_der) = certificate(&["shop.test"]);
    let (new, new_der) = certificate(&["shop.test"]);
    let certificates = store(&[old]);
    let (plane, _) = plane(|https| https.certificates = certificates.clone(), origin.address);
    let client = Client::new(&[old_der.clone(), new_der.clone()], &[&version::TLS13]);
    let mut before = client.connect(&plane, "shop.test").await;
    assert_eq!(shown(&before), old_der);
    certificates.replace(&[new], Timestamp::now());
    let after =
        Client::new(&[old_der, new_der.clone()], &[&version::TLS13]).connect(&plane, "shop.test").await;
    assert_eq!(shown(&after), new_der);
    let _address = origin.serve("still there");
    before.send(get("/")).await;
    before.read_until("still there").await;
}

#[tokio::test]
async fn a_session_is_resumed_by_one_ticket_also_on_another_worker() {
    for versions in [&[&version::TLS13][..], &[&version::TLS12][..]] {
        let address = Origin::new().await.serve("hello");
        let (certificate, trusted) = certificate(&["shop.test"]);
        let https = Https { certificates: store(&[certificate]), ..Https::default() };
        let options = Options { https: Some(https), threads: 4, ..Options::default() };
        let plane = Plane::with(options, |cluster| drop(cluster.add(address, "shop.test", &[])));
        let client = Client::new(&[trusted], versions);
        for round in 0..8 {
            if round == 4 {
                // A reload that changes nothing of TLS changes no keys.
                let checked =
                    plane.running.check(&[secure_listener()], &Tls::default()).expect("it can be served");
                plane.running.set_listeners(&Limits::default(), checked);
            }
            let mut wire = client.connect(&plane, "shop.test").await;
            let want = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(session(&wire).handshake_kind(), Some(want), "round {round}");
            wire.send(get("/")).await;
            wire.read_until("hello").await;
        }
    }
}

#[tokio::test]
async fn large_bodies_go_both_ways_and_arrive_as_they_were() {
    let origin = Origin::new().await;
    let (plane, client) = plane(|_| {}, origin.address);
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut wire = client.connect(&plane, "shop.test").await;
    let head = format!("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {}\r\n\r\n", body.len());
    let sent = body.clone();
    let up = async {
        let mut up = origin.accept().await;
        up.head().await;
        assert!(up.read_exactly(sent.len()).await == sent, "the body of the request");
        up.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len())).await;
        up.send(&sent).await;
    };
    let down = async {
        wire.send(head).await;
        wire.send(&body).await;
        wire.head().await;
        assert!(wire.read_exactly(body.len()).await == body, "the body of the answer");
    };
    tokio::join!(up, down);
}

#[tokio::test]
async fn a_client_hello_in_single_octets_is_read() {
    let address = Origin::new().await.serve("hello");
    let (plane, client) = plane(|_| {}, address);
    let mut session =
        rustls::ClientConnection::new(client.0.clone(), ServerName::try_from("shop.test").expect("a name"))
            .expect("a session");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("a vector takes it");
    let mut wire = Wire::new(TcpStream::connect(plane.https.expect("TLS")).await.expect("it accepts"));
    for octet in &hello {
        wire.send([*octet]).await;
        tokio::task::yield_now().await;
    }
    let answer = wire.read_exactly(5).await;
    assert_eq!(answer[0], 0x16, "a handshake record follows: {answer:?}");
}

#[tokio::test]
async fn plain_http_at_the_tls_port_is_told_so() {
    let (plane, _) = plane(|_| {}, refusing().await);
    let mut wire = Wire::new(TcpStream::connect(plane.https.expect("TLS")).await.expect("it accepts"));
    wire.send(get("/")).await;
    let answer = wire.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("request-invalid") && answer.contains("use https://"), "{answer}");
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_closed() {
    let (plane, client) = plane(|_| {}, refusing().await);
    for octets in [
        &b"\x00\x01\x02\x03"[..],
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x03\x01\x00\x04nope",
        b"\x80\x2e\x01\x00\x02",
    ] {
        let mut wire = Wire::new(TcpStream::connect(plane.https.expect("TLS")).await.expect("it accepts"));
        wire.send(octets).await;
        wire.finish().await;
        let answer = wire.read_to_end().await;
        assert!(!answer.contains("HTTP"), "{octets:?}: {answer:?}");
    }
    client.connect(&plane, "shop.test").await;
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_in_time_is_closed_and_others_are_served() {
    let address = Origin::new().await.serve("hello");
    let limits = Tls { handshake_timeout: Duration::from_millis(300), ..Tls::default() };
    let (plane, client) = plane(|https| https.limits = limits, address);
    let mut silent = Wire::new(TcpStream::connect(plane.https.expect("TLS")).await.expect("it accepts"));
    let mut half = Wire::new(TcpStream::connect(plane.https.expect("TLS")).await.expect("it accepts"));
    half.send(b"\x16\x03\x01\x02\x00\x01").await;
    let mut wire = client.connect(&plane, "shop.test").await;
    wire.send(get("/")).await;
    wire.read_until("hello").await;
    assert!(silent.ends().await && half.ends().await);
}

#[tokio::test]
async fn of_too_many_handshakes_the_oldest_goes() {
    let address = Origin::new().await.serve("hello");
    let limits = Tls { handshakes_max: 2, handshake_timeout: Duration::from_secs(60), ..Tls::default() };
    let (plane, client) = plane(|https| https.limits = limits, address);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::new(TcpStream::connect(plane.https.expect("TLS")).await.expect("it accepts"));
        wire.send(b"\x16\x03\x01").await;
        waiting.push(wire);
    }
    assert!(waiting[0].ends().await, "the first of three made room");
    client.connect(&plane, "shop.test").await;
    assert!(waiting[1].ends().await, "the second made room for a client that speaks");
}

#[tokio::test]
async fn without_a_certificate_every_handshake_fails_and_nothing_else() {
    let address = Origin::new().await.serve("hello");
    let (plane, client) = plane(|https| https.certificates = Arc::default(), address);
    client.try_connect(&plane, "shop.test").await.expect_err("there is nothing to show");
    assert!(plane.exchange("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await.contains("hello"));
}

#[tokio::test]
async fn a_listener_for_tls_1_3_alone_refuses_1_2() {
    let listener = ListenerTls { min_version: TlsVersion::V13, ..ListenerTls::default() };
    let (certificate, trusted) = certificate(&["shop.test"]);
    let https = Https { listener, certificates: store(&[certificate]), ..Https::default() };
    let plane = Plane::with(Options { https: Some(https), ..Options::default() }, |_| {});
    let old = Client::new(std::slice::from_ref(&trusted), &[&version::TLS12]);
    old.try_connect(&plane, "shop.test").await.expect_err("TLS 1.2 is not spoken");
    Client::new(&[trusted], rustls::ALL_VERSIONS).connect(&plane, "shop.test").await;
}

#[tokio::test]
async fn a_route_for_https_alone_is_served_over_tls_and_redirected_to_its_port_otherwise() {
    let address = Origin::new().await.serve("hello");
    let (certificate, trusted) = certificate(&["shop.test"]);
    let https = Https { certificates: store(&[certificate]), ..Https::default() };
    let plane = Plane::with(Options { https: Some(https), ..Options::default() }, |cluster| {
        cluster.add(address, "https://shop.test", &[]);
    });
    let answer = plane.exchange("GET /a?b=c HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    let port = plane.https.expect("TLS").port();
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert_eq!(field(&answer, "location"), Some(&*format!("https://shop.test:{port}/a?b=c")));
    let mut wire = Client::new(&[trusted], rustls::ALL_VERSIONS).connect(&plane, "shop.test").await;
    wire.send(get("/a")).await;
    wire.read_until("hello").await;
}

#[tokio::test]
async fn a_client_over_tls_that_leaves_while_its_request_is_held_gives_its_place_up() {
    let (mut plane, client) = plane(|_| {}, refusing().await);
    let old = plane.cluster.ids()[0].clone();
    plane.change(|cluster| cluster.stop(&old));
    for (left, says_so) in [(1.0, true), (2.0, false)] {
        let mut wire = client.connect(&plane, "shop.test").await;
        wire.send(get("/")).await;
        if says_so {
            wire.finish().await;
        }
        drop(wire);
        within("the end of the wait", async {
            while metric(&plane, "fairway_requests_total", &[("reason", "client-left")]) < left {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_drain_tells_clients_over_tls_to_close_and_ends() {
    let address = Origin::new().await.serve("hello");
    let (plane, client) = plane(|_| {}, address);
    let mut wire = client.connect(&plane, "shop.test").await;
    wire.send(get("/")).await;
    wire.read_until("hello").await;
    let drained = plane.drain(Duration::from_secs(10)).await;
    assert_eq!(drained.cut, 0);
    assert!(wire.ends().await, "with TLS's own end, or this is an error");
}

/// Certificates made by an authority of this test.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), made.pem()).expect("it can be written");
        Self { issuer: rcgen::Issuer::new(params, key), file }
    }

    /// A client that trusts `server` and shows a certificate of this authority.
    fn client(&self, server: &CertificateDer<'static>) -> (Client, CertificateDer<'static>) {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Comp\u{e4}ny");
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(server.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![made.der().clone()], key.into())
            .expect("a good pair");
        (Client(Arc::new(config)), made.der().clone())
    }
}

fn asking(authority: &Authority, required: bool, origin: SocketAddr) -> (Plane, CertificateDer<'static>) {
    let clients = Some(ClientCertificates { required, ca: authority.file.path().to_owned() });
    let (certificate, trusted) = certificate(&["shop.test"]);
    let listener = ListenerTls { clients, ..ListenerTls::default() };
    let https = Https { listener, certificates: store(&[certificate]), ..Https::default() };
    let options = Options { https: Some(https), trusted: vec!["127.0.0.0/8"], ..Options::default() };
    (Plane::with(options, |cluster| drop(cluster.add(origin, "shop.test", &[]))), trusted)
}

/// Sends a request with spoofed fields, and gives its head as the instance got it.
async fn asked_with_spoofed_fields(wire: &mut Secure, origin: &Origin) -> String {
    let spoofed = "X-Client-Cert-Subject: CN=root\r\nx-client-cert-fingerprint: 00\r\nX_Client_Cert_Subject: CN=root\r\n";
    wire.send(format!(
        "GET / HTTP/1.1\r\nHost: shop.test\r\n{spoofed}Connection: x-client-cert-subject\r\n\r\n"
    ))
    .await;
    let mut up = origin.accept().await;
    let head = up.head().await;
    up.send(ok("hello")).await;
    wire.read_until("hello").await;
    assert!(!head.contains("root") && !head.contains("X_Client"), "{head}");
    head
}

#[tokio::test]
async fn the_instance_learns_who_the_client_is_by_its_certificate_and_nobody_can_pretend() {
    for required in [false, true] {
        let (origin, authority) = (Origin::new().await, Authority::new());
        let (plane, server) = asking(&authority, required, origin.address);
        let (client, shown) = authority.client(&server);
        let digest = rustls_digest(&shown);
        // The second connection resumes the session of the first.
        for round in 0..2 {
            let mut wire = client.connect(&plane, "shop.test").await;
            let head = asked_with_spoofed_fields(&mut wire, &origin).await;
            assert_eq!(
                field(&head, "x-client-cert-subject"),
                Some(r"CN=alice,O=Comp\C3\A4ny"),
                "{round}: {head}"
            );
            assert_eq!(field(&head, "x-client-cert-fingerprint"), Some(&*digest), "{round}");
        }
    }
}

fn rustls_digest(der: &[u8]) -> String {
    let rustls::SupportedCipherSuite::Tls13(suite) =
        rustls::crypto::aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256
    else {
        panic!("it is a suite of TLS 1.3");
    };
    suite.common.hash_provider.hash(der).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[tokio::test]
async fn a_client_without_a_certificate_is_served_where_it_is_optional_and_refused_where_it_is_required() {
    let (origin, authority) = (Origin::new().await, Authority::new());
    let (plane, server) = asking(&authority, false, origin.address);
    let without = Client::new(std::slice::from_ref(&server), rustls::ALL_VERSIONS);
    let mut wire = without.connect(&plane, "shop.test").await;
    let head = asked_with_spoofed_fields(&mut wire, &origin).await;
    assert_eq!(field(&head, "x-client-cert-subject"), None);

    // In TLS 1.3 a client learns of its refusal with the first answer.
    let refused = async |client: Client, plane: &Plane| match client.try_connect(plane, "shop.test").await {
        Ok(mut wire) => {
            wire.send(get("/")).await;
            wire.ends().await
        }
        Err(_) => true,
    };
    let (plane, server) = asking(&authority, true, origin.address);
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        assert!(refused(Client::new(std::slice::from_ref(&server), versions), &plane).await);
    }
    let (stranger, _) = Authority::new().client(&server);
    assert!(refused(stranger, &plane).await, "another authority's certificate is worth nothing");
}

#[tokio::test]
async fn answers_over_tls_have_the_listeners_hsts_policy_unless_the_instance_has_its_own() {
    let origin = Origin::new().await;
    let hsts = Some("max-age=31536000; includeSubDomains".into());
    let (plane, client) = plane(|https| https.listener.hsts = hsts, origin.address);
    let mut wire = client.connect(&plane, "shop.test").await;
    wire.send(get("/")).await;
    let mut up = origin.accept().await;
    up.head().await;
    up.send(ok("one")).await;
    let head = wire.head().await;
    assert_eq!(
        field(&head, "strict-transport-security"),
        Some("max-age=31536000; includeSubDomains"),
        "{head}"
    );
    wire.read_until("one").await;
    wire.send(get("/")).await;
    up.head().await;
    up.send("HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\nContent-Length: 0\r\n\r\n").await;
    let head = wire.head().await;
    assert_eq!(head.to_ascii_lowercase().matches("strict-transport-security").count(), 1, "{head}");
    assert_eq!(field(&head, "strict-transport-security"), Some("max-age=1"));

    wire.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    let refusal = wire.read_until("}\n").await;
    assert!(refusal.starts_with("HTTP/1.1 404"), "{refusal}");
    assert!(field(&refusal, "strict-transport-security").is_some(), "{refusal}");
    wire.send("nonsense\r\n\r\n").await;
    let refusal = wire.read_to_end().await;
    assert!(refusal.starts_with("HTTP/1.1 400"), "{refusal}");
    assert!(field(&refusal, "strict-transport-security").is_some(), "{refusal}");
    // RFC 6797 section 7.2: not without TLS, at the same port neither.
    let mut plain =
        Wire::new(TcpStream::connect(plane.https.expect("a listener")).await.expect("it accepts"));
    plain.send(get("/")).await;
    let refusal = plain.read_to_end().await;
    assert!(refusal.starts_with("HTTP/1.1 400"), "{refusal}");
    assert_eq!(field(&refusal, "strict-transport-security"), None, "{refusal}");
}

#[tokio::test]
async fn a_plain_listener_may_send_everybody_to_https_but_for_internal_names_and_those_who_used_tls() {
    let address = Origin::new().await.serve("hello");
    let options = Options { redirect_to_https: true, trusted: vec!["127.0.0.0/8"], ..Options::default() };
    let plane = Plane::with(options, |cluster| {
        cluster.add(address, "shop.test;shop.local", &[]);
    });
    let answer = plane.exchange("GET /a?b HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert_eq!(
        field(&answer, "location"),
        Some("https://shop.test/a?b"),
        "without a TLS listener: the usual port"
    );
    let in_front = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n";
    let answer = plane.exchange(format!("GET / HTTP/1.0\r\nHost: shop.test\r\n{in_front}\r\n")).await;
    assert!(answer.contains("hello"), "TLS ended in front: {answer}");
    let answer = plane.exchange("GET / HTTP/1.0\r\nHost: other.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}
