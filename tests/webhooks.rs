//! Webhooks of the real program: what is sent, in which order, and what becomes of a receiver that fails.

use std::sync::Arc;

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::raw::Raw;
use fairway_testkit::raw_origin::RawOrigin;
use fairway_testkit::tls::{Authority, Pair};
use fairway_testkit::wait::{PATIENCE, within};
use fairway_testkit::{Fairway, FairwayOptions};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// A delivery: its head in lower case, and its body.
async fn delivery(receiver: &RawOrigin) -> (Raw, String, Value) {
    let mut connection = receiver.accept().await;
    let head = connection.head().await.to_ascii_lowercase();
    let length = field(&head, "content-length").parse().expect("a length");
    let body = connection.read_exactly(length).await;
    (connection, head, serde_json::from_slice(&body).expect("JSON"))
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}

async fn problem(fairway: &Fairway, there: bool) {
    let is_told = |list: &Value| {
        let all = list["items"].as_array().expect("a list");
        all.iter().any(|problem| problem["type"] == "webhook-failing") == there
    };
    fairway.wait_until("the problem of the webhook", "/api/v1/problems", is_told).await;
}

async fn split(fairway: &Fairway, weight: u32) {
    fairway.put_split("shop.localhost/", &json!({"weights": {"web@v1": weight}})).await.ok("put");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_signed_and_again_until_they_are_taken() {
    let (origin, receiver) = (Origin::start(Identity::new("one", "v1")).await, RawOrigin::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("a file");
    let config = format!(
        "[node]\nname = \"edge-7\"\n[[webhook]]\nurl = \"http://{}/hook?key=hidden\"\nevents = [\"route-split\"]\n\
         secret_file = \"{}\"\n[[service]]\nname = \"web\"\nversion = \"v1\"\nroutes = [\"shop\"]\ninstances = [\"{}\"]\n",
        receiver.address(),
        secret.display(),
        origin.address()
    );
    let fairway = FairwayOptions::new(BINARY).config(config).args(&[]).start().await;
    fairway.ready().await;
    split(&fairway, 1).await;
    let (mut connection, head, event) = delivery(&receiver).await;
    assert!(head.starts_with("post /hook?key=hidden http/1.1\r\n"), "{head}");
    assert_eq!((&event["type"], &event["node"]), (&json!("route-split"), &json!("edge-7")));
    assert_eq!((&event["subject"], &event["to"]), (&json!("shop.localhost/"), &json!("web@v1=1")));
    assert!(field(&head, "webhook-signature").starts_with("v1,"), "{head}");
    assert!(field(&head, "webhook-timestamp").parse::<u64>().is_ok(), "{head}");
    let id = field(&head, "webhook-id").to_owned();
    // Orders are carried out though nobody answers, and what comes meanwhile waits its turn.
    split(&fairway, 2).await;
    connection.send("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await;
    problem(&fairway, true).await;
    let (mut connection, head, event) = delivery(&receiver).await;
    assert_eq!(
        (field(&head, "webhook-id"), &event["to"]),
        (id.as_str(), &json!("web@v1=1")),
        "the same again"
    );
    connection.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    let (mut connection, head, event) = delivery(&receiver).await;
    assert_eq!(event["to"], "web@v1=2");
    assert_ne!(field(&head, "webhook-id"), id);
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    problem(&fairway, false).await;
    let metrics = fairway.admin("GET", "/metrics", None).await.text();
    let delivered = format!(
        "fairway_webhook_deliveries_total{{result=\"delivered\",webhook=\"{}\"}} 2",
        receiver.address()
    );
    assert!(metrics.contains(&delivered), "{delivered}");
    assert!(!metrics.contains("hidden"), "a URL's path may be a secret");
}

/// Takes the next delivery over TLS with this certificate, whoever was refused before it.
async fn delivery_over_tls(receiver: &RawOrigin, shown: &Pair) -> Value {
    let chain = vec![shown.der()];
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        config.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let Ok(mut tls) = acceptor.accept(receiver.accept().await.stream).await else { continue };
        let mut read = Vec::new();
        let body = within("a delivery", PATIENCE, async {
            loop {
                tls.read_buf(&mut read).await.expect("it is sent whole");
                let end = read.windows(4).position(|four| four == b"\r\n\r\n");
                let body = end.and_then(|end| serde_json::from_slice(&read[end + 4..]).ok());
                if let Some(body) = body {
                    return body;
                }
            }
        });
        let body = body.await;
        tls.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            .await
            .expect("it takes the answer");
        tls.shutdown().await.expect("it takes the end");
        return body;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_believed_for_the_authority_that_the_configuration_names_and_for_no_other() {
    let (origin, receiver) = (Origin::start(Identity::new("one", "v1")).await, RawOrigin::start().await);
    let (ours, other) = (Authority::new(), Authority::new());
    let shown = ours.server(&["127.0.0.1"]);
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, other.pem()).expect("a file");
    let config = format!(
        "[[webhook]]\nurl = \"https://{}/hook\"\nevents = [\"route-split\"]\nca = \"{}\"\n\
         [[service]]\nname = \"web\"\nversion = \"v1\"\nroutes = [\"shop\"]\ninstances = [\"{}\"]\n",
        receiver.address(),
        ca.display(),
        origin.address()
    );
    let fairway = FairwayOptions::new(BINARY).config(config).args(&[]).start().await;
    fairway.ready().await;
    let taken = tokio::spawn(async move { delivery_over_tls(&receiver, &shown).await });
    split(&fairway, 1).await;
    problem(&fairway, true).await;
    assert!(!taken.is_finished(), "nothing is sent to one that another authority vouches for");
    // The file is read again for the next attempt.
    std::fs::write(&ca, ours.pem()).expect("a file");
    let event = within("the event", PATIENCE, taken).await.expect("no panic");
    assert_eq!(event["to"], "web@v1=1");
    problem(&fairway, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_moves_is_told_at_its_new_place_and_what_waited_for_the_old_one_is_gone() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let (old, new, other) = (RawOrigin::start().await, RawOrigin::start().await, RawOrigin::start().await);
    let config = |moving: &RawOrigin| {
        let webhook = |at: &RawOrigin| {
            format!("[[webhook]]\nurl = \"http://{}/hook\"\nevents = [\"route-split\"]\n", at.address())
        };
        format!(
            "{}{}[docker]\nenabled = false\n[[service]]\nname = \"web\"\nversion = \"v1\"\nroutes = [\"shop\"]\ninstances = [\"{}\"]\n",
            webhook(moving),
            webhook(&other),
            origin.address()
        )
    };
    let fairway = FairwayOptions::new(BINARY).config(config(&old)).start().await;
    fairway.ready().await;
    split(&fairway, 1).await;
    split(&fairway, 2).await;
    // Both hang with the first event, and the second one waits.
    let (_hanging, _, event) = delivery(&old).await;
    assert_eq!(event["to"], "web@v1=1");
    let (mut kept, _, event) = delivery(&other).await;
    assert_eq!(event["to"], "web@v1=1");
    std::fs::write(fairway.config_file(), config(&new)).expect("the file can be written");
    fairway.reload();
    let reloaded = fairway.log().find(|lines| {
        lines.iter().any(|line| line.contains("the changed configuration holds")).then_some(())
    });
    within("the reload", PATIENCE, reloaded).await.expect("it runs");
    split(&fairway, 3).await;
    let (mut connection, _, event) = delivery(&new).await;
    assert_eq!(event["to"], "web@v1=3", "nothing of what waited for the old place");
    connection.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    // The one that stays as it was keeps what waits for it.
    for weight in [2, 3] {
        kept.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        let (connection, _, event) = delivery(&other).await;
        assert_eq!(event["to"], format!("web@v1={weight}"));
        kept = connection;
    }
}
