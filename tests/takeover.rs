//! `fairway run --replace` through the real binary: the sockets go over, no connection is refused or reset, and a new
//! process that fails costs nothing.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fairway_testkit::load::{Load, LoadOptions};
use fairway_testkit::netns::Netns;
use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::port::free_port;
use fairway_testkit::wait::{PATIENCE, until, within};
use fairway_testkit::{Fairway, FairwayOptions, client, dns};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// Chunks of the long download, and the pause between them: it spans every takeover.
const CHUNKS: u64 = 300;
const PAUSE_MS: u64 = 40;

fn options(origin: &Origin, state: &TempDir) -> FairwayOptions {
    let config = format!(
        "log.access = false\n[[service]]\nname = \"web\"\nversion = \"v1\"\nroutes = [\"a.test\", \"web.local\"]\ninstances = [\"{}\"]\n",
        origin.address()
    );
    FairwayOptions { state_dir: Some(state.path().to_owned()), ..FairwayOptions::new(BINARY).config(config) }
}

async fn start(options: FairwayOptions) -> Fairway {
    let fairway = options.start().await;
    fairway.ready().await;
    fairway
}

async fn logs(fairway: &Fairway, text: &str) {
    let found = fairway.log().find(|lines| lines.iter().any(|line| line.contains(text)).then_some(()));
    let found = within(&format!("`{text}` in the log"), PATIENCE, found).await;
    assert!(found.is_some(), "the log ended without `{text}`: {}", fairway.log().text());
}

/// Everything that a takeover must not disturb.
struct Traffic {
    loads: Vec<Load>,
    download: tokio::task::JoinHandle<String>,
}

impl Traffic {
    async fn start(fairway: &Fairway) -> Self {
        let http = fairway.http();
        let gets = || LoadOptions { connections: 4, ..LoadOptions::new(http, "a.test") };
        let posts = || LoadOptions {
            method: "POST".to_owned(),
            target: "/echo".to_owned(),
            body: vec![b'x'; 20_000],
            connections: 2,
            ..LoadOptions::new(http, "a.test")
        };
        let one_shot = |options: LoadOptions| LoadOptions { keep_alive: false, ..options };
        let loads = [gets(), one_shot(gets()), posts(), one_shot(posts())].map(Load::start).into();
        let target = format!("/chunked?n={CHUNKS}&ms={PAUSE_MS}");
        let download = tokio::spawn(async move { client::get(http, "a.test", &target).await.text() });
        let traffic = Self { loads, download };
        traffic.goes_on().await;
        traffic
    }

    async fn goes_on(&self) {
        for load in &self.loads {
            load.wait_for(50).await;
        }
    }

    async fn end(self) {
        for load in self.loads {
            load.stop().await.without_failure();
        }
        let text = within("the long download", PATIENCE, self.download).await.expect("no panic");
        assert!(text.contains(&format!("chunk {}\n", CHUNKS - 1)), "it came whole: {} octets", text.len());
    }
}

#[tokio::test]
async fn five_takeovers_under_load_refuse_and_reset_no_connection() {
    let _netns = Netns::enter();
    let (state, origin) =
        (TempDir::new().expect("a folder"), Origin::start(Identity::new("one", "v1")).await);
    let first = start(options(&origin, &state)).await;
    let (http, dns_server) = (first.http(), first.dns());
    let traffic = Traffic::start(&first).await;
    let mut processes = vec![first];
    for takeover in 1..=5 {
        let old = processes.last().expect("one runs");
        let put =
            old.put_split("a.test/", &json!({ "weights": { "web@v1": takeover }, "reason": "a test" })).await;
        assert_eq!(put.status, 200, "{}", put.text());
        // As many workers as before, more, and fewer.
        let config = format!("[proxy]\nthreads = {}\n", [2, 3, 1, 4, 2][takeover - 1]);
        let mut options = options(&origin, &state).args(&["--replace"]);
        options.config.push_str(&config);
        let new = start(options).await;
        assert_eq!((new.http(), new.dns()), (http, dns_server), "takeover {takeover}");
        assert_eq!(new.listening().admin, old.listening().admin);
        logs(old, "replaced").await;
        traffic.goes_on().await;
        let route = new.read("/api/v1/routes/a.test%2F").await;
        assert_eq!(route["backends"][0]["weight"], takeover, "what was ordered before is known: {route}");
        let answer = dns::ask(dns_server, "web.local.", "A").await;
        assert!(!answer.answers().is_empty(), "{answer:?}");
        processes.push(new);
    }
    traffic.end().await;
    let newest = processes.pop().expect("one runs");
    for old in &processes {
        assert!(old.process().wait(PATIENCE).await.success(), "{}", old.log().text());
    }
    assert!(newest.terminate().await.success());
    assert!(TcpListener::bind(http).is_ok(), "with the last process the sockets are closed");
}

#[tokio::test]
async fn without_a_running_process_it_is_a_plain_start() {
    let (state, origin) =
        (TempDir::new().expect("a folder"), Origin::start(Identity::new("one", "v1")).await);
    let fairway = start(options(&origin, &state).args(&["--replace"])).await;
    assert_eq!(fairway.get("a.test", "/").await.status, 200);
    logs(&fairway, "no process to replace").await;
    fairway.kill9().await;
    // What a process leaves that was killed is in nobody's way.
    let next = start(FairwayOptions {
        env: vec![("FAIRWAY_REPLACE".into(), "true".into())],
        ..options(&origin, &state)
    })
    .await;
    assert_eq!(next.get("a.test", "/").await.status, 200);
    logs(&next, "no process to replace").await;
}

#[tokio::test]
async fn a_new_process_that_cannot_start_leaves_everything_as_it_was() {
    let (state, origin) =
        (TempDir::new().expect("a folder"), Origin::start(Identity::new("one", "v1")).await);
    let old = start(options(&origin, &state)).await;
    let traffic = Load::start(LoadOptions::new(old.http(), "a.test"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let ended = options(&origin, &state).http(address).args(&["--replace"]).run_to_end().await;
    assert_eq!(ended.code, Some(1), "{}", ended.text);
    assert!(ended.text.contains("in use"), "{}", ended.text);
    logs(&old, "we go on as before").await;
    traffic.wait_for(50).await;
    let put = old.put_split("a.test/", &json!({ "weights": { "web@v1": 7 } })).await;
    assert_eq!(put.status, 200, "the store is its own again: {}", put.text());
    traffic.stop().await.without_failure();
    // And the next one may try.
    let new = start(options(&origin, &state).args(&["--replace"])).await;
    assert_eq!(new.http(), old.http());
    assert!(old.process().wait(PATIENCE).await.success());
}

#[tokio::test]
async fn until_the_new_process_is_ready_the_old_one_serves_and_a_third_is_told_to_wait() {
    let (state, origin) =
        (TempDir::new().expect("a folder"), Origin::start(Identity::new("one", "v1")).await);
    let old = start(options(&origin, &state)).await;
    // An engine that nobody answers for: its containers are not known, so it must not take over.
    let hanging = options(&origin, &state).docker("unix:///no/such/docker.sock").args(&["--replace"]);
    let new = hanging.start().await;
    logs(&old, "a process takes over").await;
    assert_eq!(old.get("a.test", "/").await.status, 200);
    let put = old.put_split("a.test/", &json!({ "weights": { "web@v1": 7 } })).await;
    assert_eq!(put.status, 503, "{}", put.text());
    assert!(put.text().contains("store-handed-over") || put.text().contains("handed over"), "{}", put.text());

    let third = options(&origin, &state).args(&["--replace"]).run_to_end().await;
    assert_eq!(third.code, Some(1), "{}", third.text);
    assert!(third.text.contains("is taking over already"), "{}", third.text);

    new.kill9().await;
    logs(&old, "we go on as before").await;
    let put = old.put_split("a.test/", &json!({ "weights": { "web@v1": 7 } })).await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(old.get("a.test", "/").await.status, 200);
}

#[tokio::test]
async fn listeners_that_the_new_process_does_not_have_end_with_the_old_one() {
    let (state, origin) =
        (TempDir::new().expect("a folder"), Origin::start(Identity::new("one", "v1")).await);
    let admin = state.path().join("admin.sock");
    let on_socket = |options: FairwayOptions, admin: &Path| FairwayOptions {
        admin: Some(format!("unix:{}", admin.display())),
        ..options
    };
    // A second address of loopback, so that the two are not mistaken for one another.
    let old = start(on_socket(options(&origin, &state).http("127.0.0.2:0"), &admin)).await;
    let [stays, goes] = old.listening().http[..] else { panic!("{:?}", old.listening()) };
    let new =
        start(on_socket(options(&origin, &state).http("127.0.0.3:0").args(&["--replace"]), &admin)).await;
    assert!(old.process().wait(PATIENCE).await.success());
    assert_eq!(new.listening().http[0], stays);
    assert!(TcpListener::bind(goes).is_ok(), "{goes} is closed");
    for address in &new.listening().http {
        assert_eq!(client::get(*address, "a.test", "/").await.status, 200, "{address}");
    }
    assert_eq!(new.read("/api/v1/status").await["ready"], true, "the admin socket answers");
}

#[tokio::test]
async fn a_download_that_outlasts_the_grace_is_all_that_is_cut() {
    let (state, origin) =
        (TempDir::new().expect("a folder"), Origin::start(Identity::new("one", "v1")).await);
    let mut short = options(&origin, &state);
    short.config.push_str("[shutdown]\ngrace = \"1s\"\n");
    let old = start(short).await;
    let http = old.http();
    let download =
        tokio::spawn(
            async move { client::Request::get("a.test", "/chunked?n=1000&ms=50").try_send(http).await },
        );
    while origin.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _new = start(options(&origin, &state).args(&["--replace"])).await;
    assert!(old.process().wait(PATIENCE).await.success());
    assert!(download.await.expect("no panic").is_err(), "it would have lasted 50 s");
    assert!(old.log().text().contains("cut after the grace time"), "{}", old.log().text());
}

#[tokio::test]
async fn a_process_that_waits_before_it_stops_hands_over_and_one_that_is_stopping_says_so() {
    let (state, origin) =
        (TempDir::new().expect("a folder"), Origin::start(Identity::new("one", "v1")).await);
    let mut patient = options(&origin, &state);
    patient.config.push_str("[shutdown]\ndelay = \"10m\"\n");
    let old = start(patient).await;
    old.process().signal(Signal::TERM.as_raw());
    logs(&old, "stopping soon").await;
    let new = start(options(&origin, &state).args(&["--replace"])).await;
    assert_eq!(new.http(), old.http());
    assert!(old.process().wait(PATIENCE).await.success());
    logs(&old, "replaced").await;

    let http = new.http();
    let slow = tokio::spawn(async move { client::get(http, "a.test", "/slow?ms=3000").await.status });
    while origin.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    new.process().signal(Signal::TERM.as_raw());
    logs(&new, "requests in flight end").await;
    let late = options(&origin, &state).args(&["--replace"]).run_to_end().await;
    assert_eq!(late.code, Some(1), "{}", late.text);
    assert!(late.text.contains("it is stopping: start again when it has ended"), "{}", late.text);
    assert_eq!(slow.await.expect("no panic"), 200);
    assert!(new.process().wait(PATIENCE).await.success());
}

#[tokio::test]
async fn a_release_goes_on_in_the_new_process_and_in_no_other() {
    const RELEASE: &str = "/api/v1/routes/a.test%2F/release";
    let state = TempDir::new().expect("a folder");
    let (one, two) =
        (Origin::start(Identity::new("one", "v1")).await, Origin::start(Identity::new("two", "v2")).await);
    let both = || {
        let mut options = options(&one, &state);
        options.config.push_str(&format!(
            "[[service]]\nname = \"web\"\nversion = \"v2\"\nweight = 0\nroutes = [\"a.test\"]\ninstances = [\"{}\"]\n",
            two.address()
        ));
        options
    };
    let old = start(both()).await;
    let http = old.http();
    let load = |target: &str, keep_alive| {
        let options = LoadOptions { keep_alive, rate: Some(100.0), ..LoadOptions::new(http, "a.test") };
        Load::start(LoadOptions { target: target.to_owned(), ..options })
    };
    let loads = [load("/", true), load("/", false)];
    let order = json!({"to": "web@v2", "steps": [20, 50], "step_seconds": 4});
    assert_eq!(old.admin("POST", RELEASE, Some(&order)).await.status, 201);
    loads[0].wait_for(100).await;
    let new = start(both().args(&["--replace"])).await;
    assert_eq!(new.http(), http);
    let release = new.read(RELEASE).await;
    assert_eq!((&release["state"], &release["weight"]), (&json!("stepping"), &json!(20)), "{release}");
    let release = new.wait_until("the next step", RELEASE, |release| release["weight"] == 50).await;
    // Its figures began anew, and say nothing against a good version.
    assert_eq!(release["evidence"]["canary"]["failures"], 0, "{release}");
    for load in loads {
        load.stop().await.without_failure();
    }
    let asking = load("/health", true);
    asking.wait_for(50).await;
    two.set_healthy(false);
    let release = new.wait_until("the rollback", RELEASE, |release| release["state"] == "rolled_back").await;
    assert_eq!(release["ending"], "failures", "{release}");
    drop(asking);
    assert!(old.process().wait(PATIENCE).await.success());
    let moves =
        |fairway: &Fairway| fairway.log().lines().iter().filter(|line| line.contains(" release: ")).count();
    assert_eq!((moves(&old), moves(&new)), (0, 2), "{}", old.log().text());
}

/// Instances of front ports: TCP that echoes connections, UDP that echoes datagrams.
async fn echoes() -> (SocketAddr, SocketAddr) {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let addresses = (tcp.local_addr().expect("an address"), udp.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    tokio::spawn(async move {
        let mut heard = [0; 64];
        while let Ok((length, from)) = udp.recv_from(&mut heard).await {
            let _ = udp.send_to(&heard[..length], from).await;
        }
    });
    addresses
}

/// One connection to the port: an octet there and back, then the end of both directions.
async fn connect_once(port: u16) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"x").await?;
    let mut heard = Vec::new();
    stream.shutdown().await?;
    stream.read_to_end(&mut heard).await?;
    if heard == b"x" { Ok(()) } else { Err(std::io::Error::other(format!("{heard:?}"))) }
}

/// One datagram of a new client to the port, and its answer.
async fn ask_once(port: u16) -> std::io::Result<()> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(("127.0.0.1", port)).await?;
    socket.send(b"x").await?;
    let mut heard = [0; 8];
    tokio::time::timeout(PATIENCE, socket.recv(&mut heard)).await??;
    Ok(())
}

/// Does it again and again until told to stop; how often.
fn again_and_again<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    work: impl Fn() -> F + Send + 'static,
) -> (Arc<AtomicU64>, Arc<AtomicBool>, tokio::task::JoinHandle<()>) {
    let (done, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, stop) = (done.clone(), ends.clone());
    let working = tokio::spawn(async move {
        while !stop.load(Relaxed) {
            work().await.expect("nothing is refused, reset or lost");
            count.fetch_add(1, Relaxed);
        }
    });
    (done, ends, working)
}

#[tokio::test]
async fn front_ports_go_over_without_a_connection_refused_or_a_datagram_lost() {
    let (state, origin) =
        (TempDir::new().expect("a folder"), Origin::start(Identity::new("one", "v1")).await);
    let ((tcp, udp), (of_tcp, of_udp)) = (echoes().await, (free_port(), free_port()));
    let fronted = || {
        let mut options = options(&origin, &state);
        for (name, scheme, port, instance) in [("db", "tcp", of_tcp, tcp), ("names", "udp", of_udp, udp)] {
            options.config.push_str(&format!(
                "[[service]]\nname = \"{name}\"\nbalancers = [\"{scheme}://{name}:{port}\"]\ninstances = [\"{instance}\"]\n"
            ));
        }
        options
    };
    let first = start(fronted()).await;
    for front in [format!("tcp://:{of_tcp}"), format!("udp://:{of_udp}")] {
        logs(&first, &format!("open front={front}")).await;
    }
    let mut kept = tokio::net::TcpStream::connect(("127.0.0.1", of_tcp)).await.expect("it is open");
    let traffic = [again_and_again(move || connect_once(of_tcp)), again_and_again(move || ask_once(of_udp))];
    let mut processes = vec![first];
    for threads in [3, 1, 2] {
        let mut options = fronted().args(&["--replace"]);
        options.config.push_str(&format!("[proxy]\nthreads = {threads}\n"));
        let new = start(options).await;
        logs(processes.last().expect("one runs"), "replaced").await;
        for (done, ..) in &traffic {
            let before = done.load(Relaxed);
            until("traffic goes on", PATIENCE, async || (done.load(Relaxed) > before + 50).then_some(()))
                .await;
        }
        assert!(!new.log().text().contains("balancer-port-failed"), "{}", new.log().text());
        processes.push(new);
    }
    let mut heard = [0];
    kept.write_all(b"k").await.expect("the first process still serves it");
    kept.read_exact(&mut heard).await.expect("and its instance answers");
    drop(kept);
    for (_, ends, working) in traffic {
        ends.store(true, Relaxed);
        working.await.expect("nothing is refused, reset or lost");
    }
    let newest = processes.pop().expect("one runs");
    for old in &processes {
        assert!(old.process().wait(PATIENCE).await.success(), "{}", old.log().text());
    }
    assert!(newest.terminate().await.success());
    assert!(TcpListener::bind(("127.0.0.1", of_tcp)).is_ok(), "with the last process the port is closed");
}
