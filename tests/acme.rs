//! Certificates from an authority, by the real binary and a real ACME server.

use std::net::SocketAddr;

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::pebble::{Pebble, free};
use fairway_testkit::tls::Client;
use fairway_testkit::wait::PATIENCE;
use fairway_testkit::{Fairway, FairwayOptions, until};
use rustls::pki_types::CertificateDer;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

struct World {
    pebble: Pebble,
    origin: Origin,
    http: SocketAddr,
    https: SocketAddr,
}

impl World {
    async fn new(validity_secs: u32) -> Self {
        let (http, https) = (free(), free());
        let pebble = Pebble::start(http.port(), https.port(), validity_secs).await;
        Self { pebble, origin: Origin::start(Identity::new("one", "v1")).await, http, https }
    }

    fn options(&self, routes: &str, acme: &str) -> FairwayOptions {
        let config = format!(
            "[acme]\nagree_terms = true\ncontact = [\"ops@company.com\"]\ndirectory = \"{}\"\nca = \"{}\"\n{acme}\n\
             [[service]]\nname = \"web\"\nroutes = [{routes}]\ninstances = [\"{}\"]\n",
            self.pebble.directory(),
            self.pebble.ca().display(),
            self.origin.address()
        );
        let mut options = FairwayOptions::new(BINARY).config(config).https(self.https.to_string());
        options.http = vec![self.http.to_string()];
        options
    }
}

/// Waits until there is a certificate that names `name`, other than `before`: it.
async fn certified(
    fairway: &Fairway,
    name: &str,
    before: Option<&CertificateDer<'static>>,
) -> CertificateDer<'static> {
    let client = Client::trusting_anybody();
    let shown = async || {
        let stream = client.connect(fairway.https(), name).await.ok()?;
        let shown = stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned();
        let names_it = shown.windows(name.len()).any(|octets| octets == name.as_bytes());
        (names_it && Some(&shown) != before).then_some(shown)
    };
    until(format!("a certificate for {name}"), PATIENCE, shown).await
}

async fn no_problem(fairway: &Fairway, kind: &str) {
    let none =
        async || fairway.list("problems").await.iter().all(|problem| problem["type"] != kind).then_some(());
    until(format!("no problem {kind}"), PATIENCE, none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_https_routes_get_certificates_by_a_handshake_and_keep_them_over_a_restart() {
    let world = World::new(3600 * 24).await;
    let mut options =
        world.options("\"https://a.test\", \"https://x.local\", \"b.test\"", "hosts = [\"c.test\"]");
    let state = tempfile::tempdir().expect("a folder");
    options.state_dir = Some(state.path().to_owned());
    let mut fairway = options.start().await;
    let a = certified(&fairway, "a.test", None).await;
    let c = certified(&fairway, "c.test", None).await;
    let b = Client::trusting_anybody().shown(fairway.https(), "b.test").await;
    assert!(b == a || b == c, "claimed without https: it gets none of its own");
    no_problem(&fairway, "acme-failed").await;
    assert_eq!(Client::trusting_anybody().get(fairway.https(), "a.test", "/").await.status, 200);

    fairway.restart().await;
    fairway.ready().await;
    assert_eq!(certified(&fairway, "a.test", None).await, a);
    assert_eq!(certified(&fairway, "c.test", None).await, c);
    let asked = fairway.log().lines().iter().filter(|line| line.contains("asking for a certificate")).count();
    assert_eq!(asked, 0, "what is kept is not asked for again");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_get_certificates_by_a_request_and_the_answer_is_there_no_longer_than_needed() {
    let world = World::new(3600 * 24).await;
    let fairway = world.options("\"https://a.test\"", "challenge = \"http-01\"").start().await;
    certified(&fairway, "a.test", None).await;
    no_problem(&fairway, "no-certificate").await;
    let metrics = fairway.admin("GET", "/metrics", None).await.text();
    assert!(metrics.contains("reason=\"acme-challenge\""), "{metrics}");
    assert_eq!(fairway.get("a.test", "/.well-known/acme-challenge/x").await.status, 308);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_before_it_expires() {
    let world = World::new(15).await;
    let fairway = world.options("\"https://a.test\"", "").start().await;
    let first = certified(&fairway, "a.test", None).await;
    let second = certified(&fairway, "a.test", Some(&first)).await;
    assert_ne!(first, second);
    no_problem(&fairway, "acme-failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_authority_cannot_check_is_told_with_its_reason_and_traffic_goes_on() {
    let world = World::new(3600).await;
    let mut options = world.options("\"https://a.test\", \"b.test\"", "");
    // The authority asks elsewhere.
    options.https = vec!["127.0.0.1:0".to_owned()];
    let fairway = options.start().await;
    let told =
        async || fairway.list("problems").await.into_iter().find(|problem| problem["type"] == "acme-failed");
    let told = until("the failure is told", PATIENCE, told).await;
    assert_eq!(told["subject"], "a.test");
    let text = told["text"].as_str().expect("a text");
    assert!(text.contains("check failed") && text.contains("asked again at"), "{text}");
    assert_eq!(fairway.get("b.test", "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_begins_with_an_authority_and_leaves_it() {
    let world = World::new(3600 * 24).await;
    let mut options = world.options("\"https://a.test\"", "");
    let with = options.config.clone();
    let (acme, rest) = with.split_at(with.find("[[service]]").expect("a service"));
    options.config = rest.to_owned();
    let fairway = options.start().await;
    fairway.ready().await;
    let without = std::fs::read_to_string(fairway.config_file()).expect("it can be read");
    let client = Client::trusting_anybody();
    assert!(client.connect(fairway.https(), "a.test").await.is_err(), "there is no certificate");

    std::fs::write(fairway.config_file(), format!("{acme}{without}")).expect("it can be written");
    fairway.reload();
    certified(&fairway, "a.test", None).await;
    no_problem(&fairway, "restart-needed").await;

    std::fs::write(fairway.config_file(), without).expect("it can be written");
    fairway.reload();
    let gone = async || client.connect(fairway.https(), "a.test").await.err();
    until("nobody renews the certificate, and nobody is shown it", PATIENCE, gone).await;
}
