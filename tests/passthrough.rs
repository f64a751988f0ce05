//! TLS that is passed on as it is (`fairway.tls.passthrough`), and PROXY headers to whoever gets it: two of the real program,
//! one behind the other.

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::tls::{Authority, Client};
use fairway_testkit::wait::{PATIENCE, until};
use fairway_testkit::{Fairway, FairwayOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// `a.test` is served by the edge; the TLS of `b.test` goes to another Fairway, which wants PROXY headers.
struct World {
    edge: Fairway,
    inner: Fairway,
    authority: Authority,
    _origins: [Origin; 2],
    _folder: TempDir,
}

fn certificate(authority: &Authority, folder: &TempDir, host: &str) -> String {
    let folder = folder.path().join(host);
    std::fs::create_dir(&folder).expect("the folder can be written");
    let (cert, key) = authority.server(&[host]).write(&folder);
    format!("[[certificate]]\ncert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display())
}

async fn start(config: String) -> Fairway {
    let fairway = FairwayOptions::new(BINARY).config(config).start().await;
    fairway.ready().await;
    fairway
}

impl World {
    async fn new(edge_labels: &str) -> Self {
        let folder = TempDir::with_prefix("fairway-passthrough-").expect("a folder");
        let authority = Authority::new();
        let (near, far) = (
            Origin::start(Identity::new("near", "v1")).await,
            Origin::start(Identity::new("far", "v1")).await,
        );
        let inner = start(format!(
            "https.listen = [{{ addr = \"127.0.0.1:0\", proxy_protocol = true }}]\n\
             proxy.trusted_proxies = [\"127.0.0.0/8\"]\n{}\
             [[service]]\nname = \"far\"\nroutes = [\"https://b.test\"]\ninstances = [\"{}\"]\n",
            certificate(&authority, &folder, "b.test"),
            far.address()
        ))
        .await;
        let edge = start(format!(
            "https.listen = [\"127.0.0.1:0\"]\n{}\
             [[service]]\nname = \"near\"\nroutes = [\"a.test\"]\ninstances = [\"{}\"]\n\
             [[service]]\nname = \"inner\"\ninstances = [\"{}\"]\ntls.passthrough = [\"b.test\"]\n{edge_labels}\n",
            certificate(&authority, &folder, "a.test"),
            near.address(),
            inner.https()
        ))
        .await;
        Self { edge, inner, authority, _origins: [near, far], _folder: folder }
    }

    fn client(&self) -> Client {
        self.authority.client()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_is_served_and_the_tls_of_another_ends_behind_with_the_client_named() {
    let world = World::new("proxy_protocol = \"v2\"").await;
    let (client, https) = (world.client(), world.edge.https());
    assert_eq!(client.get(https, "a.test", "/").await.json()["instance"], "near");
    let answer = client.get(https, "b.test", "/").await;
    assert_eq!((answer.status, &answer.json()["instance"]), (200, &Value::from("far")));
    // The inner one heard from the header which port the client had asked for.
    let port = json!(["x-forwarded-port", https.port().to_string()]);
    let seen = answer.json();
    assert!(seen["headers"].as_array().is_some_and(|headers| headers.contains(&port)), "{seen}");
    client.connect(world.inner.https(), "b.test").await.expect_err("without a header it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn such_a_host_is_a_route_with_counts_lines_problems_and_an_explanation() {
    let world = World::new("proxy_protocol = \"v1\"").await;
    let (client, edge) = (world.client(), &world.edge);
    assert_eq!(client.get(edge.https(), "b.test", "/").await.status, 200);

    let routes = edge.list("routes").await;
    let route = routes.iter().find(|route| route["id"] == "tls://b.test").expect("the route");
    assert_eq!((&route["host"], &route["scheme"]), (&json!("b.test"), &json!("tls")), "{route}");
    assert_eq!(edge.list("problems").await, Vec::<Value>::new());
    let put = edge.put_split("tls://b.test", &json!({ "weights": { "inner@static": 5 } })).await;
    assert_eq!(put.status, 200, "{}", put.text());

    let found = edge.log().find(|lines| {
        lines.iter().any(|line| line.contains("TLS") && line.contains("tls://b.test")).then_some(())
    });
    assert!(found.await.is_some(), "{}", edge.log().text());
    let counted = async || {
        let metrics = edge.admin("GET", "/metrics", None).await.text();
        let requests = metrics.lines().any(|line| {
            line.starts_with("fairway_requests_total{") && line.contains("route=\"tls://b.test\"")
        });
        let passed = metrics.lines().any(|line| {
            line.starts_with("fairway_tls_handshakes_total{") && line.contains("result=\"passed-on\"")
        });
        (requests && passed).then_some(())
    };
    until("the counts", PATIENCE, counted).await;
    let explained = edge.cli(&["explain", "https://b.test/"]).await;
    assert!(String::from_utf8_lossy(&explained.stdout).contains("takes the TLS"), "{explained:?}");
}
