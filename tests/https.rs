//! TLS towards clients, by the real binary: certificates from files, however these change.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::tls::{Authority, Client, Pair};
use fairway_testkit::wait::{PATIENCE, within};
use fairway_testkit::{Fairway, FairwayOptions, Request, until};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

struct World {
    authority: Authority,
    folder: TempDir,
    origin: Origin,
}

impl World {
    async fn new() -> Self {
        let folder = TempDir::with_prefix("fairway-certs-").expect("a folder");
        Self { authority: Authority::new(), folder, origin: Origin::start(Identity::new("one", "v1")).await }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// One service for `routes`, one certificate in this folder.
    fn options(&self, routes: &str, certificates: &Path) -> FairwayOptions {
        let config = format!(
            "[[certificate]]\ncert = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n\
             [[service]]\nname = \"web\"\nroutes = [{routes}]\ninstances = [\"{1}\"]\n",
            certificates.display(),
            self.origin.address()
        );
        FairwayOptions::new(BINARY).config(config).https("127.0.0.1:0")
    }

    async fn start(&self, routes: &str) -> Fairway {
        let fairway = self.options(routes, self.path()).start().await;
        fairway.ready().await;
        fairway
    }
}

async fn problems(fairway: &Fairway) -> Vec<Value> {
    fairway.list("problems").await
}

/// Waits until there is a problem of this type, or none any more.
async fn problem(fairway: &Fairway, kind: &str, there: bool) -> Option<Value> {
    let find = async || {
        let found = problems(fairway).await.into_iter().find(|problem| problem["type"] == kind);
        (found.is_some() == there).then_some(found)
    };
    until(format!("problem {kind}: {there}"), PATIENCE, find).await
}

/// Waits until a line of the log has this text.
async fn logs(fairway: &Fairway, text: &str) {
    let found = fairway.log().find(|lines| lines.iter().any(|line| line.contains(text)).then_some(()));
    within(format!("{text:?} in the log"), PATIENCE, found).await.expect("it has not ended");
}

/// Waits until this certificate is shown.
async fn shows(client: &Client, address: SocketAddr, name: &str, pair: &Pair) {
    let want = pair.der();
    let shown = async || {
        let stream = client.connect(address, name).await.ok()?;
        let chain = stream.get_ref().1.peer_certificates()?;
        (chain[0] == want).then_some(())
    };
    until("the new certificate", PATIENCE, shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_served_redirected_to_counted_and_told() {
    let world = World::new().await;
    world.authority.server(&["a.test", "*.b.test"]).write(world.path());
    let fairway = world.start("\"https://a.test\", \"x.b.test\", \"https://c.test\"").await;
    let (client, https) = (world.authority.client(), fairway.https());

    let answer = client.get(https, "a.test", "/path").await;
    assert_eq!((answer.status, &answer.json()["instance"]), (200, &Value::from("one")));
    assert_eq!(client.get(https, "x.b.test", "/").await.status, 200);
    assert_eq!(fairway.get("x.b.test", "/").await.status, 200, "claimed without a scheme: both listeners");
    let redirect = fairway.get("a.test", "/path?q=1").await;
    assert_eq!(redirect.status, 308);
    assert_eq!(redirect.header("location"), format!("https://a.test:{}/path?q=1", https.port()));

    let uncovered = problem(&fairway, "no-certificate", true).await.expect("c.test has none");
    assert_eq!(uncovered["subject"], "c.test/");
    let kinds: Vec<_> = problems(&fairway).await.iter().map(|problem| problem["type"].clone()).collect();
    assert_eq!(kinds, ["no-certificate"]);

    let status = fairway.read("/api/v1/status").await;
    let listeners = status["listeners"].as_array().expect("listeners");
    assert!(
        listeners.iter().any(|one| one["kind"] == "https" && one["address"] == https.to_string()),
        "{status}"
    );

    let _open = client.connect(https, "a.test").await.expect("a connection");
    let counted = async || {
        let metrics = fairway.admin("GET", "/metrics", None).await.text();
        let line = |start: &str, end: &str| {
            metrics.lines().any(|line| line.starts_with(start) && line.ends_with(end))
        };
        let open = line("fairway_connections{listener=\"127.0.0.1:0\",protocol=\"tls\"}", " 1");
        let full = metrics.contains("fairway_tls_handshakes_total{listener=\"127.0.0.1:0\",result=\"full\"}");
        let ends = metrics.contains("fairway_certificate_not_after_seconds{name=\"a.test\"} ");
        (open && full && ends).then_some(())
    };
    until("the connection in the metrics", PATIENCE, counted).await;
    logs(&fairway, "host=a.test path=/path status=200").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_cannot_be_used_are_errors_of_the_configuration() {
    let world = World::new().await;
    let (a, b) = (world.authority.server(&["a.test"]), world.authority.server(&["b.test"]));
    Pair { cert: a.cert.clone(), key: b.key }.write(world.path());
    let missing = "\n[[certificate]]\ncert = \"/nowhere/cert.pem\"\nkey = \"/nowhere/key.pem\"\n";
    let mut options = world.options("\"a.test\"", world.path());
    options.config.push_str(missing);
    let file = world.path().join("fairway.toml");
    std::fs::write(&file, &options.config).expect("a file");
    let ended = options.run_to_end().await;
    let check =
        std::process::Command::new(BINARY).arg("check").arg("--config").arg(&file).output().expect("it runs");
    let checked = String::from_utf8_lossy(&check.stderr).into_owned();
    for (code, text) in [(ended.code, ended.text), (check.status.code(), checked)] {
        assert_eq!(code, Some(2), "{text}");
        assert!(
            text.contains("cert.pem: the key does not belong to the certificate; name the key"),
            "{text}"
        );
        assert!(text.contains("certificate[1] /nowhere/cert.pem: the file cannot be read"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_served_and_told() {
    let world = World::new().await;
    world.authority.expired(&["a.test"]).write(world.path());
    let fairway = world.start("\"a.test\"").await;
    let told = problem(&fairway, "certificate-expired", true).await.expect("it is told");
    assert!(told["subject"].as_str().is_some_and(|subject| subject.ends_with("cert.pem")), "{told}");
    let error =
        world.authority.client().connect(fairway.https(), "a.test").await.expect_err("it has expired");
    assert!(error.contains("certificate expired"), "{error}");
    let new = world.authority.server(&["a.test"]);
    new.write(world.path());
    problem(&fairway, "certificate-expired", false).await;
    shows(&world.authority.client(), fairway.https(), "a.test", &new).await;
}

/// Requests without pause over TLS, each on a connection of its own.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(client: &Client, address: SocketAddr, host: &'static str) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..4).map(|_| {
            let (client, stop, done) = (client.clone(), stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match client.try_send(&Request::get(host, "/"), address).await {
                        Ok(answer) if answer.status == 200 => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Ok(answer) => failed.push(format!("{} {}", answer.status, answer.text())),
                        Err(why) => failed.push(why),
                    }
                }
                failed
            })
        });
        Self { tasks: tasks.collect(), stop, done }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let failed = task.await.expect("it does not panic");
            assert!(failed.is_empty(), "{} requests failed, such as {:?}", failed.len(), failed[0]);
        }
        self.done.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_under_load_and_no_connection_fails() {
    let world = World::new().await;
    world.authority.server(&["a.test"]).write(world.path());
    let fairway = world.start("\"https://a.test\"").await;
    let (client, https) = (world.authority.client(), fairway.https());
    let load = Load::start(&client, https, "a.test");
    for _ in 0..3 {
        let new = world.authority.server(&["a.test"]);
        new.write(world.path());
        shows(&client, https, "a.test", &new).await;
    }
    let done = load.end().await;
    assert!(done > 10, "only {done} requests");
    assert_eq!(
        problems(&fairway).await,
        Vec::<Value>::new(),
        "a certificate written before its key is no problem"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_swapped_by_a_link_is_noticed_as_kubernetes_does_it() {
    let world = World::new().await;
    let put = |name: &str, pair: &Pair| {
        let folder = world.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        pair.write(&folder);
        let (link, new) = (world.path().join("..data"), world.path().join("..data_tmp"));
        std::os::unix::fs::symlink(name, &new).expect("a link");
        std::fs::rename(&new, &link).expect("the link is replaced");
    };
    let (first, second) =
        (world.authority.server(&["a.test"]), world.authority.server(&["a.test", "b.test"]));
    put("..one", &first);
    for name in ["cert.pem", "key.pem"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), world.path().join(name)).expect("a link");
    }
    let fairway = world.start("\"a.test\", \"https://b.test\"").await;
    let client = world.authority.client();
    shows(&client, fairway.https(), "a.test", &first).await;
    problem(&fairway, "no-certificate", true).await;
    put("..two", &second);
    shows(&client, fairway.https(), "b.test", &second).await;
    problem(&fairway, "no-certificate", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_moved_away_and_replaced_is_noticed() {
    let world = World::new().await;
    let (live, next, old) = (world.path().join("live"), world.path().join("next"), world.path().join("old"));
    let (first, second) = (world.authority.server(&["a.test"]), world.authority.server(&["a.test"]));
    for (folder, pair) in [(&live, &first), (&next, &second)] {
        std::fs::create_dir(folder).expect("a folder");
        pair.write(folder);
    }
    let fairway = world.options("\"a.test\"", &live).start().await;
    fairway.ready().await;
    std::fs::rename(&live, &old).expect("it is moved");
    std::fs::rename(&next, &live).expect("it is moved");
    shows(&world.authority.client(), fairway.https(), "a.test", &second).await;
    // The folder of that name is another one now, and its changes are noticed too.
    let third = world.authority.server(&["a.test"]);
    third.write(&live);
    shows(&world.authority.client(), fairway.https(), "a.test", &third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_or_missing_certificate_keeps_the_old_one_and_is_told_until_it_is_mended() {
    let world = World::new().await;
    let first = world.authority.server(&["a.test"]);
    let (cert, key) = first.write(world.path());
    let fairway = world.start("\"a.test\"").await;
    let (client, https) = (world.authority.client(), fairway.https());

    std::fs::write(&cert, "nonsense").expect("it can be written");
    let told = problem(&fairway, "certificate-unusable", true).await.expect("it is told");
    assert!(told["text"].as_str().is_some_and(|text| text.contains("no PEM certificate")), "{told}");
    assert_eq!(client.shown(https, "a.test").await, first.der());

    std::fs::remove_file(&cert).expect("it is there");
    std::fs::remove_file(&key).expect("it is there");
    let gone = async || {
        let found = problems(&fairway).await;
        found
            .iter()
            .any(|one| one["text"].as_str().is_some_and(|text| text.contains("cannot be read")))
            .then_some(())
    };
    until("the files are missed", PATIENCE, gone).await;
    assert_eq!(client.shown(https, "a.test").await, first.der());
    // A reload of the configuration does not lose it either.
    fairway.reload();
    logs(&fairway, "read again and is the same").await;
    assert_eq!(client.shown(https, "a.test").await, first.der());

    let second = world.authority.server(&["a.test"]);
    second.write(world.path());
    shows(&client, https, "a.test", &second).await;
    problem(&fairway, "certificate-unusable", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_brings_further_certificates_and_a_bad_one_is_refused_whole() {
    let world = World::new().await;
    world.authority.server(&["a.test"]).write(world.path());
    let fairway = world.start("\"a.test\"").await;
    let client = world.authority.client();
    let more = world.path().join("more");
    std::fs::create_dir(&more).expect("a folder");
    let before = std::fs::read_to_string(fairway.config_file()).expect("it can be read");
    let with_more =
        format!("[[certificate]]\ncert = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n{before}", more.display());
    std::fs::write(fairway.config_file(), &with_more).expect("it can be written");
    problem(&fairway, "config-refused", true).await;
    assert!(client.connect(fairway.https(), "b.test").await.is_err(), "nothing has changed");
    let second = world.authority.server(&["b.test"]);
    second.write(&more);
    fairway.reload();
    shows(&client, fairway.https(), "b.test", &second).await;
    problem(&fairway, "config-refused", false).await;
    assert_eq!(client.get(fairway.https(), "a.test", "/").await.status, 200);
}

/// How the TLS listener is written at first.
const LISTENER: &str = "listen = [\"127.0.0.1:0\"]";

/// The configuration file as it was at first.
struct Written<'a> {
    fairway: &'a Fairway,
    first: String,
}

impl Written<'_> {
    /// Writes the file with this listener anew, and has it read.
    fn listener(&self, listener: &str) {
        let text = self.first.replace(LISTENER, &format!("listen = [{listener}]"));
        std::fs::write(self.fairway.config_file(), text).expect("it can be written");
        self.fairway.reload();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_what_a_listener_asks_and_open_connections_stay() {
    let world = World::new().await;
    world.authority.server(&["a.test", "other.test"]).write(world.path());
    let clients = world.path().join("clients.pem");
    std::fs::write(&clients, world.authority.pem()).expect("a file");
    let mut options = world.options("\"a.test\"", world.path());
    options.https.clear();
    options.config.insert_str(0, &format!("[https]\n{LISTENER}\n"));
    let fairway = options.start().await;
    fairway.ready().await;
    let first = std::fs::read_to_string(fairway.config_file()).expect("it can be read");
    let (https, written) = (fairway.https(), Written { fairway: &fairway, first });
    let unknown = world.authority.client();
    let known = world.authority.client_with(&world.authority.server(&["alice"]));
    let mut open = unknown.connect(https, "a.test").await.expect("a connection");
    assert_eq!(unknown.get(https, "a.test", "/").await.status, 200);

    let asked = |ca: &Path, more: &str| {
        format!(
            "{{ addr = \"127.0.0.1:0\", client_certificates = \"required\", client_ca = \"{}\"{more} }}",
            ca.display()
        )
    };
    written.listener(&asked(&clients, ", hsts = \"max-age=60\""));
    // The handshake ends before the refusal is read, so the request may fail first, for another reason.
    let refused = async || {
        let failed = unknown.try_send(&Request::get("a.test", "/"), https).await.err();
        failed.filter(|why| why.contains("CertificateRequired") || why.contains("certificate required"))
    };
    until("clients without a certificate are refused", PATIENCE, refused).await;
    let answer = known.get(https, "a.test", "/").await;
    assert_eq!((answer.status, answer.header("strict-transport-security")), (200, "max-age=60"));
    let refusal = known.get(https, "other.test", "/").await;
    assert_eq!((refusal.status, refusal.header("strict-transport-security")), (404, "max-age=60"));
    open.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await.expect("it is open");
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.expect("it stays open");
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.to_lowercase().contains("strict-"), "{answer}");

    // A file that cannot be used: nothing changes.
    written.listener(&asked(&world.path().join("nowhere.pem"), ""));
    let told = problem(&fairway, "config-refused", true).await.expect("it is told");
    assert!(told["subject"].as_str().is_some_and(|subject| subject.contains("nowhere.pem")), "{told}");
    assert!(told["subject"].as_str().is_some_and(|subject| subject.contains("client_ca")), "{told}");
    assert_eq!(known.get(https, "a.test", "/").await.header("strict-transport-security"), "max-age=60");

    // Other authorities in the same file.
    let others = fairway_testkit::tls::Authority::new();
    written.listener(&asked(&clients, ", hsts = \"max-age=60\""));
    problem(&fairway, "config-refused", false).await;
    std::fs::write(&clients, others.pem()).expect("a file");
    let refused = async || known.try_send(&Request::get("a.test", "/"), https).await.err();
    until("clients of the other authority are refused", PATIENCE, refused).await;
    assert_eq!(problems(&fairway).await, Vec::<Value>::new(), "none of it waits for a restart");

    // An address does.
    written.listener("\"127.0.0.1:0\", \"127.0.0.2:0\"");
    let told = problem(&fairway, "restart-needed", true).await.expect("it is told");
    assert_eq!(told["key"], "https.listen");
    assert_eq!(
        unknown.get(https, "a.test", "/").await.status,
        200,
        "the listener that stays changes at once"
    );
}
