//! TLS towards instances: whose certificates are believed, what is shown, and what a client is told when there is no TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use fairway_proxy::tls::{Certificate, Trust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::kit::*;

/// A certificate with its key.
pub(crate) struct Made {
    pub der: CertificateDer<'static>,
    pem: String,
    pub key: KeyPair,
}

pub(crate) fn made(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Made {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Made { der: certificate.der().clone(), pem: certificate.pem(), key }
}

/// An origin that speaks TLS.
pub(crate) struct Secure {
    pub origin: Origin,
    pub acceptor: TlsAcceptor,
}

impl Secure {
    pub(crate) async fn new(
        made: &Made,
        asks_for: Option<&Made>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .expect("versions");
        let builder = match asks_for {
            Some(client) => {
                let mut roots = RootCertStore::empty();
                roots.add(client.der.clone()).expect("a certificate");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::try_from(made.key.serialize_der()).expect("a key");
        let config = builder.with_single_cert(vec![made.der.clone()], key).expect("a certificate");
        Self { origin: Origin::new().await, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Offers these protocols by ALPN.
    async fn speaking(made: &Made, protocols: &[&[u8]]) -> Self {
        let secure = Self::usual(made).await;
        let mut config = (**secure.acceptor.config()).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), ..secure }
    }

    pub(crate) async fn usual(made: &Made) -> Self {
        Self::new(made, None, rustls::ALL_VERSIONS).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.origin.address
    }

    pub(crate) async fn accept(&self) -> Wire<TlsStream<TcpStream>> {
        let tcp = self.origin.accept().await.stream;
        Wire::over(within("the handshake", self.acceptor.accept(tcp)).await.expect("it succeeds"))
    }

    /// Takes connections whose handshakes fail.
    fn refuse(self) {
        tokio::spawn(async move {
            loop {
                let tcp = self.origin.accept_when_there_is_one().await.stream;
                let acceptor = self.acceptor.clone();
                tokio::spawn(async move {
                    // Under TLS 1.3 a client's certificate is refused after the client has done its part.
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        Wire::over(stream).read_to_end().await;
                    }
                });
            }
        });
    }
}

fn trusting(ca: &[&Made], identity: Option<&Made>) -> Arc<Trust> {
    let identity = identity.map(|made| {
        let key = made.key.serialize_pem();
        Certificate::from_pem(made.pem.as_bytes(), key.as_bytes(), None).expect("it is good")
    });
    Trust::new(ca.iter().map(|made| made.der.clone()).collect(), identity.as_ref(), true).expect("TLS")
}

fn plane(trust: Arc<Trust>, origin: SocketAddr, labels: &[(&str, &str)]) -> Plane {
    Plane::with(Options { trust: Some(trust), ..Options::default() }, |cluster| {
        let https = [("fairway.protocol", "https"), ("fairway.retries", "0")];
        let labels: Vec<_> = https.into_iter().chain(labels.iter().copied()).collect();
        cluster.add(origin, "shop.test", &labels);
    })
}

/// A GET whose connection ends with its answer.
fn once() -> String {
    get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
}

fn asked_for(wire: &Wire<TlsStream<TcpStream>>) -> Option<&str> {
    wire.stream.get_ref().1.server_name()
}

fn kind(wire: &Wire<TlsStream<TcpStream>>) -> Option<HandshakeKind> {
    wire.stream.get_ref().1.handshake_kind()
}

#[tokio::test]
async fn an_instance_that_speaks_tls_is_known_by_the_name_of_its_service_and_kept_for_the_next_request() {
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let shop = made(&["shop"], |_| {});
        let origin = Secure::new(&shop, None, versions).await;
        let plane = plane(trusting(&[&shop], None), origin.address(), &[]);
        let mut client = plane.connect().await;
        client.send(get("/a")).await;
        let mut up = origin.accept().await;
        assert_eq!(asked_for(&up), Some("shop"));
        let head = up.head().await;
        assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "{head}");
        let body = "x".repeat(1_000_000);
        let mut answer = Box::pin(up.send(ok(&body)));
        let read = async {
            client.head().await;
            client.read_exactly(body.len()).await
        };
        let ((), got) = within("a large answer", async { tokio::join!(&mut answer, read) }).await;
        assert_eq!(got, body.as_bytes());
        drop(answer);
        client.send(get("/b")).await;
        assert!(up.head().await.starts_with("GET /b "), "on the same connection");
        up.send(ok("kept")).await;
        client.read_until("kept").await;
        // What could not be sent again takes a connection of its own.
        let upload = format!("POST /c HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send(upload).await;
        let (_, mut up) = tokio::join!(client.send(&body), async {
            let mut up = origin.accept().await;
            up.head().await;
            assert_eq!(up.read_exactly(body.len()).await, body.as_bytes());
            up
        });
        up.send(ok("taken")).await;
        client.read_until("taken").await;
    }
}

#[tokio::test]
async fn the_next_connection_to_the_same_instance_takes_the_session_up_again() {
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let shop = made(&["shop"], |_| {});
        let origin = Secure::new(&shop, None, versions).await;
        let plane = plane(trusting(&[&shop], None), origin.address(), &[]);
        for want in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = plane.connect().await;
            client.send(get("/")).await;
            let mut up = origin.accept().await;
            up.head().await;
            assert_eq!(kind(&up), Some(want));
            up.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
            client.read_until("ok").await;
            up.finish().await;
        }
    }
}

#[tokio::test]
async fn labels_say_whom_the_certificate_is_for_or_that_nobody_checks_it() {
    let other = made(&["web.internal"], |_| {});
    for (trust, labels, name) in [
        (trusting(&[&other], None), &[("fairway.tls.server_name", "web.internal")][..], "web.internal"),
        (trusting(&[], None), &[("fairway.tls.verify", "false")], "shop"),
    ] {
        let origin = Secure::usual(&other).await;
        let plane = plane(trust, origin.address(), labels);
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let mut up = origin.accept().await;
        assert_eq!(asked_for(&up), Some(name));
        up.head().await;
        up.send(ok("ok")).await;
        client.read_until("ok").await;
    }
}

#[tokio::test]
async fn a_certificate_that_signed_itself_as_an_authority_is_believed_when_it_is_named() {
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let shop = made(&["shop"], authority);
    let other = made(&["web"], authority);
    let old = made(&["shop"], |params| {
        authority(params);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    for (made, detail) in
        [(&shop, None), (&other, Some("`fairway.tls.server_name`")), (&old, Some("has expired"))]
    {
        let origin = Secure::usual(made).await;
        let plane = plane(trusting(&[made], None), origin.address(), &[]);
        if let Some(detail) = detail {
            origin.refuse();
            let answer = plane.exchange(once()).await;
            assert!(answer.contains("upstream-tls-failed") && answer.contains(detail), "{answer}");
        } else {
            let mut client = plane.connect().await;
            client.send(get("/")).await;
            let mut up = origin.accept().await;
            up.head().await;
            up.send(ok("ok")).await;
            client.read_until("ok").await;
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_told_in_words() {
    let shop = made(&["shop"], |_| {});
    let other = made(&["web"], |_| {});
    let old = made(&["shop"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let stranger = made(&["client"], |_| {});
    for (origin, trust, detail) in [
        (Secure::usual(&shop).await, trusting(&[], None), "`[upstream_tls] ca`"),
        (Secure::usual(&shop).await, trusting(&[&other], None), "`[upstream_tls] ca`"),
        (Secure::usual(&other).await, trusting(&[&other], None), "`fairway.tls.server_name`"),
        (Secure::usual(&old).await, trusting(&[&old], None), "has expired"),
        (
            Secure::new(&shop, Some(&stranger), &[&version::TLS12]).await,
            trusting(&[&shop], None),
            "`[upstream_tls] cert`",
        ),
    ] {
        let plane = plane(trust, origin.address(), &[]);
        origin.refuse();
        let answer = plane.exchange(once()).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream-tls-failed"), "{answer}");
        assert!(answer.contains(detail), "{detail}: {answer}");
        let explained = plane.explain("shop.test");
        assert!(explained.contains("upstream-tls-failed, ") && explained.contains(detail), "{explained}");
    }
}

#[tokio::test]
async fn our_certificate_is_shown_to_an_instance_that_asks_for_one() {
    let (shop, edge) = (made(&["shop"], |_| {}), made(&["edge"], |_| {}));
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let origin = Secure::new(&shop, Some(&edge), versions).await;
        let plane = plane(trusting(&[&shop], Some(&edge)), origin.address(), &[]);
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let mut up = origin.accept().await;
        let shown = up.stream.get_ref().1.peer_certificates().expect("a certificate");
        assert_eq!(shown[0], edge.der);
        up.head().await;
        up.send(ok("ok")).await;
        client.read_until("ok").await;
    }
    let origin = Secure::new(&shop, Some(&edge), &[&version::TLS13]).await;
    let plane = plane(trusting(&[&shop], None), origin.address(), &[]);
    origin.refuse();
    let answer = plane.exchange(once()).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("[upstream_tls] cert"), "{answer}");
}

#[tokio::test]
async fn a_port_without_tls_is_told_and_one_that_keeps_silent_takes_no_longer_than_a_connection_may() {
    let plain = Origin::new().await;
    let plane_of = |address, labels: &[(&str, &str)]| plane(trusting(&[], None), address, labels);
    let asked = plane_of(plain.address, &[]);
    let answer = async { asked.exchange(once()).await };
    let (answer, ()) = tokio::join!(answer, async {
        let mut up = plain.accept().await;
        up.read_more().await;
        up.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        up.read_to_end().await;
    });
    assert!(answer.contains("does not speak TLS on this port"), "{answer}");

    let silent = Origin::new().await;
    let asked = plane_of(silent.address, &[("fairway.timeout.connect", "200ms")]);
    let answer = asked.exchange(once()).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("connect-timeout"), "{answer}");

    let closing = Origin::new().await;
    let asked = plane_of(closing.address, &[]);
    let answer = async { asked.exchange(once()).await };
    let (answer, ()) = tokio::join!(answer, async {
        let mut up = closing.accept().await;
        up.read_more().await;
        up.finish().await;
        up.read_to_end().await;
    });
    assert!(answer.contains("upstream-tls-failed") && answer.contains("does it speak TLS?"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_tls_is_cut_for_the_client() {
    let shop = made(&["shop"], |_| {});
    let origin = Secure::usual(&shop).await;
    let plane = plane(trusting(&[&shop], None), origin.address(), &[]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut up = origin.accept().await;
    up.head().await;
    up.send("HTTP/1.1 200 OK\r\n\r\nhalf").await;
    client.read_until("half").await;
    // Without the farewell of TLS nobody knows whether the rest was cut off on the way.
    drop(up);
    let rest = client.read_to_end().await;
    assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn http2_over_tls_is_agreed_upon_by_alpn_and_its_absence_is_told() {
    let shop = made(&["shop"], |_| {});
    let h2 = [("fairway.protocol", "h2"), ("fairway.retries", "0")];
    let with = |origin: SocketAddr| {
        Plane::with(Options { trust: Some(trusting(&[&shop], None)), ..Options::default() }, |cluster| {
            drop(cluster.add(origin, "shop.test", &h2));
        })
    };
    let origin = Secure::speaking(&shop, &[b"h2", b"http/1.1"]).await;
    let plane = with(origin.address());
    let (answer, ()) = tokio::join!(plane.exchange(once()), async {
        let stream = origin.accept().await.stream;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
        let (request, mut respond) =
            within("a request", connection.accept()).await.expect("one").expect("one");
        assert_eq!(request.uri(), "https://shop.test/");
        let mut body = respond.send_response(http::Response::new(()), false).expect("it is open");
        body.send_data(bytes::Bytes::from_static(b"secure"), true).expect("it is open");
        // What was said goes out while the connection is looked after.
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
    });
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("secure"), "{answer}");
    for (offers, detail) in
        [(&[][..], "no `h2` by ALPN"), (&[&b"http/1.1"[..]], "`fairway.protocol` names (ALPN)")]
    {
        let origin = Secure::speaking(&shop, offers).await;
        let plane = with(origin.address());
        origin.refuse();
        let answer = plane.exchange(once()).await;
        assert!(answer.contains("upstream-tls-failed") && answer.contains(detail), "{answer}");
    }
}
