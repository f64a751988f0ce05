//! The private engine: it starts, runs containers, survives what tests do to it, and leaves nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fairway_testkit::client;
use fairway_testkit::dns::Question;
use fairway_testkit::netns::{self, Netns};
use fairway_testkit::process::Process;
use fairway_testkit::{ContainerOptions, Engine, EngineOptions, Health, Image, programs, until};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

/// A container of the image `origin:v1`, which the engine must have.
fn web(name: &str) -> ContainerOptions<'_> {
    ContainerOptions { name, image: "origin:v1", env: &["VERSION=v1"], ..ContainerOptions::default() }
}

async fn engine() -> Engine {
    let engine = Engine::start().await;
    engine.origin_image("origin:v1").await;
    engine
}

#[tokio::test]
async fn a_container_made_from_scratch_answers_at_its_address() {
    let engine = engine().await;
    let container = engine.run(web("web-1")).await;
    let address = container.listening(80).await;
    let told = client::get(address, "any", "/").await.json();
    assert_eq!(told["instance"], container.short_id());
    assert_eq!(told["version"], "v1");
    assert_eq!(container.address_in("bridge").await.map(Into::into), Some(address.ip()));
    assert!(told["peer"].as_str().is_some_and(|peer| peer.starts_with(&engine.gateway().to_string())));
}

#[tokio::test]
async fn two_engines_know_nothing_of_each_other() {
    let (one, two) = tokio::join!(engine(), engine());
    assert_ne!(one.subnet(), two.subnet());
    let (a, b) = tokio::join!(one.run(web("same-name")), two.run(web("same-name")));
    for (container, engine) in [(&a, &one), (&b, &two)] {
        let told = client::get(container.listening(80).await, "any", "/").await.json();
        assert_eq!(told["instance"], container.short_id());
        let all = engine.api().get("/containers/json").await;
        assert_eq!(all.as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test]
async fn live_restore_keeps_containers_over_a_restart_and_a_kill() {
    let engine = Engine::start_with_live_restore().await;
    engine.origin_image("origin:v1").await;
    let container = engine.run(web("kept")).await;
    let address = container.listening(80).await;
    let pid = container.inspect().await["State"]["Pid"].clone();
    engine.restart().await;
    assert_eq!(container.inspect().await["State"]["Pid"], pid);
    engine.kill().await;
    assert_eq!(client::get(address, "any", "/").await.status, 200, "while the engine is down");
    engine.start_again().await;
    assert_eq!(container.inspect().await["State"]["Pid"], pid);
    assert_eq!(container.exec(&["/origin", "check", "http://127.0.0.1/health"]).await.code, 0);
}

#[tokio::test]
async fn without_live_restore_a_restart_stops_containers() {
    let engine = engine().await;
    let container = engine.run(web("stopped")).await;
    let always = engine.run(ContainerOptions { restart: "always", ..web("again") }).await;
    always.listening(80).await;
    engine.restart().await;
    assert_eq!(container.inspect().await["State"]["Running"], false);
    always.listening(80).await;
}

#[tokio::test]
async fn everything_that_happens_to_a_container_is_told_as_an_event() {
    let engine = engine().await;
    let mut events = engine.api().events().await;
    let container = engine.run(web("first")).await;
    events.next_of("start", "first").await;
    container.pause().await;
    events.next_of("pause", "first").await;
    container.unpause().await;
    events.next_of("unpause", "first").await;
    container.rename("second").await;
    events.next_of("rename", "second").await;
    let killed = async {
        container.kill("SIGTERM").await;
        container.wait().await
    };
    assert_eq!(killed.await, 0, "the origin finishes");
    assert_eq!(events.next_of("kill", "second").await["Actor"]["Attributes"]["signal"], "15");
    assert_eq!(events.next_of("die", "second").await["Actor"]["Attributes"]["exitCode"], "0");
    container.start().await;
    container.listening(80).await;
    container.stop().await;
    container.restart().await;
    container.remove().await;
    events.next_of("destroy", "second").await;
}

#[tokio::test]
async fn a_container_in_several_networks_has_an_address_in_each() {
    let engine = engine().await;
    let (front, back) = (engine.network("front").await, engine.network("back").await);
    assert_ne!(front.subnet, back.subnet);
    let container = engine.run(ContainerOptions { networks: &["front", "back"], ..web("both") }).await;
    container.listening(80).await;
    for network in ["front", "back"] {
        let address = container.address_in(network).await.expect("an address in each");
        assert_eq!(client::get((address, 80).into(), "any", "/").await.status, 200, "{network}");
    }
    container.disconnect("back").await;
    assert_eq!(container.address_in("back").await, None);
    container.connect("bridge").await;
    assert!(container.address_in("bridge").await.is_some());
    assert!(front.gateway.is_some());
}

#[tokio::test]
async fn containers_find_each_other_and_published_ports_work() {
    let engine = engine().await;
    engine.network("shop").await;
    let a = engine.run(ContainerOptions { networks: &["shop"], publish: &[(80, 0)], ..web("caller") }).await;
    let b = engine.run(ContainerOptions { networks: &["shop"], ..web("called") }).await;
    b.listening(80).await;
    let told = client::get(a.listening(80).await, "any", "/call?url=http://called/").await;
    assert_eq!(
        told.json()["body"]["instance"],
        b.short_id(),
        "by the engine's own resolver: {}",
        told.text()
    );
    let ports = a.inspect().await["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].clone();
    let port: u16 = ports.as_str().and_then(|port| port.parse().ok()).expect("a published port");
    let published = client::get(([127, 0, 0, 1], port).into(), "any", "/").await;
    assert_eq!(published.json()["instance"], a.short_id());
}

#[tokio::test]
async fn a_name_server_given_to_a_container_is_asked_by_it() {
    let engine = engine().await;
    let server =
        tokio::net::UdpSocket::bind((engine.gateway(), 53)).await.expect("port 53 of an own bridge is free");
    let asked = tokio::spawn(async move {
        let mut octets = [0; 512];
        let (length, from) = server.recv_from(&mut octets).await.expect("a question");
        (octets[..length].to_vec(), from)
    });
    let gateway = engine.gateway().to_string();
    let container = engine.run(ContainerOptions { dns: &[&gateway], ..web("asks") }).await;
    let exec = {
        let container = container.clone();
        tokio::spawn(async move { container.exec(&["/origin", "resolve", "shop.local"]).await })
    };
    let (question, from) = asked.await.expect("the server task does not panic");
    assert!(question.windows(11).any(|part| part == b"\x04shop\x05local"), "{question:?}");
    assert_eq!(Some(from.ip()), container.address_in("bridge").await.map(Into::into));
    exec.abort(); // nobody answers it
}

#[tokio::test]
async fn images_carry_health_checks_signals_and_a_shell() {
    let engine = Engine::start().await;
    let health =
        r#"HEALTHCHECK --interval=100ms --retries=1 CMD ["/origin", "check", "http://127.0.0.1/health"]"#;
    let image = Image {
        name: "healthy:1",
        files: &[("origin", programs::origin())],
        entrypoint: &["/origin"],
        instructions: &["EXPOSE 8080", "STOPSIGNAL SIGQUIT", health],
        ..Image::default()
    };
    engine.image(image).await;
    let container = engine.run(ContainerOptions { image: "healthy:1", ..web("healthy") }).await;
    container.wait_for_health("healthy").await;
    let address = container.listening(80).await;
    client::Request::new("POST", "any", "/_health/fail").send(address).await;
    container.wait_for_health("unhealthy").await;
    let config = container.inspect().await["Config"].clone();
    assert_eq!(config["StopSignal"], "SIGQUIT");
    assert_eq!(config["ExposedPorts"], json!({ "8080/tcp": {} }));

    engine.busybox_image("shell:1").await;
    engine.tag("shell:1", "shell:2").await;
    let command: &[&str] = &["/bin/origin", "check", "http://127.0.0.1/health"];
    let own = Some(Health { command, interval_ms: 100, retries: 1 });
    let shell = engine.run(ContainerOptions { image: "shell:2", health: own, ..web("shell") }).await;
    shell.wait_for_health("healthy").await;
    let done = shell.exec(&["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!(done.code, 7);
    assert!(done.output.contains("out\n") && done.output.contains("err\n"), "{done:?}");
    let page = shell.exec(&["sh", "-c", "wget -q -O - http://127.0.0.1/count"]).await;
    assert!(page.output.contains("requests"), "{page:?}");
    assert!(shell.logs().await.contains("listening 0.0.0.0:80"));
}

#[tokio::test]
async fn a_container_in_the_network_of_the_machine_has_no_address_of_its_own() {
    let engine = engine().await;
    let env = &["ADDRESS=127.0.0.1", "PORT=0"];
    let container = engine.run(ContainerOptions { networks: &["host"], env, ..web("host") }).await;
    assert_eq!(container.inspect().await["HostConfig"]["NetworkMode"], "host");
    assert_eq!(container.address_in("host").await, None);
}

#[tokio::test]
async fn a_frozen_engine_takes_connections_and_answers_nobody() {
    let engine = engine().await;
    engine.freeze().await;
    let socket = engine.socket().to_owned();
    let ping =
        tokio::spawn(async move { client::Request::get("docker", "/_ping").send_to_socket(&socket).await });
    let silent = tokio::time::timeout(Duration::from_millis(300), async {
        until("the end of a call", PATIENCE, async || ping.is_finished().then_some(())).await;
    });
    assert!(silent.await.is_err(), "a frozen engine has answered");
    engine.thaw();
    assert_eq!(ping.await.expect("the call does not panic").status, 200);
}

#[tokio::test]
async fn the_docker_command_reaches_the_engine() {
    let engine = engine().await;
    engine.run(web("seen")).await;
    let listed = engine.docker(&["ps", "--format", "{{.Names}}"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "seen", "{listed:?}");
}

/// What an engine has put on this machine.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traces {
    mounts: BTreeSet<String>,
    processes: BTreeSet<String>,
    links: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    folder: bool,
}

impl Traces {
    /// Of the engine with this folder, bridge and cgroup; found by other means than those that remove them.
    fn find(folder: &str, bridge: &str, cgroup: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let inside = format!("{folder}/");
        let mounts = read("/proc/self/mountinfo");
        let mounts = mounts.lines().filter(|line| line.contains(&inside)).map(str::to_owned).collect();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.parse::<u32>().is_ok());
        let processes = pids.filter(|pid| {
            let in_cgroup = read(&format!("/proc/{pid}/cgroup")).contains(&format!("/{cgroup}/"));
            let command = read(&format!("/proc/{pid}/cmdline"));
            // What has ended and is not yet reaped has no arguments left.
            !command.is_empty() && (in_cgroup || command.contains(&inside))
        });
        let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let links = links.filter_map(|link| link.file_name().into_string().ok());
        let further = format!("{bridge}n");
        Self {
            mounts,
            processes: processes.collect(),
            links: links.filter(|link| link == bridge || link.starts_with(&further)).collect(),
            cgroups: cgroups(cgroup),
            folder: fs::exists(folder).unwrap_or(true),
        }
    }
}

fn cgroups(name: &str) -> BTreeSet<PathBuf> {
    let mut hierarchies = vec![PathBuf::from("/sys/fs/cgroup")];
    hierarchies
        .extend(fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()));
    hierarchies.into_iter().map(|path| path.join(name)).filter(|path| path.exists()).collect()
}

/// Holds up other tests that start an engine, which would take the place of one that has just been removed.
fn no_other_starts() -> File {
    let turns = File::create(std::env::temp_dir().join("fairway-engines.lock")).expect("a lock of the kit");
    turns.lock().expect("the file system of temporary files has locks");
    turns
}

/// The folder, bridge and cgroup of an engine.
fn names(engine: &Engine) -> (String, String, String) {
    let folder = engine.socket().parent().expect("a socket lies in a folder");
    let number = folder.display().to_string();
    let number = number.rsplit('-').next().expect("a number at the end").to_owned();
    let cgroup = folder.file_name().expect("a folder has a name").display().to_string();
    (folder.display().to_string(), format!("fwt{number}"), cgroup)
}

#[tokio::test]
async fn nothing_is_left_of_an_engine_in_any_condition() {
    for live_restore in [true, false] {
        let engine = Engine::start_with(EngineOptions { live_restore, ..EngineOptions::default() }).await;
        engine.origin_image("origin:v1").await;
        engine.network("more").await;
        let stubborn = &["ON_TERM=ignore"];
        engine.run(ContainerOptions { env: stubborn, restart: "always", ..web("stubborn") }).await;
        engine.run(ContainerOptions { networks: &["more"], publish: &[(80, 0)], ..web("published") }).await;
        engine.run(web("paused")).await.pause().await;
        if live_restore {
            engine.kill().await; // containers without an engine
        }
        let (folder, bridge, cgroup) = names(&engine);
        let before = Traces::find(&folder, &bridge, &cgroup);
        assert!(before.folder && before.processes.len() >= 7, "{before:?}");
        assert!(
            before.links.len() == 2 && !before.mounts.is_empty() && !before.cgroups.is_empty(),
            "{before:?}"
        );
        let turns = no_other_starts();
        drop(engine);
        assert_eq!(Traces::find(&folder, &bridge, &cgroup), Traces::default(), "live restore {live_restore}");
        drop(turns);
    }
}

#[tokio::test]
async fn an_engine_runs_in_a_network_namespace_of_its_own() {
    let outside = fs::read_link("/proc/thread-self/ns/net").expect("every thread has a network namespace");
    {
        let _quiet = Netns::enter();
        let engine = engine().await;
        engine.network("more").await;
        let container = engine.run(ContainerOptions { networks: &["more"], ..web("inside") }).await;
        let told = client::get(container.listening(80).await, "any", "/").await.json();
        assert_eq!(told["instance"], container.short_id());
        let (_, bridge, _) = names(&engine);
        assert!(links().contains(&format!("{bridge}n1")), "{}", links());
        drop(engine);
        assert!(!links().contains(&bridge), "{}", links());
    }
    assert_eq!(fs::read_link("/proc/thread-self/ns/net").ok(), Some(outside));
}

#[tokio::test]
async fn a_filter_that_drops_what_is_forwarded_does_not_part_containers() {
    let _quiet = Netns::enter();
    netns::run("iptables", &["-P", "FORWARD", "DROP"]); // as the machine's own engine does
    let engine = engine().await;
    let (caller, called) = tokio::join!(engine.run(web("caller")), engine.run(web("called")));
    let path = format!("/call?url=http://{}/", called.listening(80).await);
    let told = client::get(caller.listening(80).await, "any", &path).await;
    assert_eq!(told.json()["body"]["instance"], called.short_id(), "{}", told.text());
    drop(engine);
    let rules = netns::try_run("iptables", &["-S", "FORWARD"]).expect("`iptables` is installed");
    assert_eq!(rules.trim(), "-P FORWARD DROP");
}

fn links() -> String {
    netns::try_run("ip", &["-o", "link"]).expect("`ip` is installed")
}

#[tokio::test]
async fn a_panicking_test_leaves_nothing() {
    let (told, names_told) = tokio::sync::oneshot::channel();
    let test = tokio::spawn(async move {
        let engine = engine().await;
        engine.run(web("orphan")).await;
        // The receiver waits for exactly this.
        let _ = told.send(names(&engine));
        panic!("as a test does");
    });
    let (folder, bridge, cgroup) = names_told.await.expect("the engine starts");
    assert!(test.await.is_err_and(|error| error.is_panic()));
    assert_eq!(Traces::find(&folder, &bridge, &cgroup), Traces::default());
}

/// Set for the process that runs [`an_engine_until_killed`].
const TO_BE_KILLED: &str = "FAIRWAY_TEST_TO_BE_KILLED";

#[tokio::test]
#[ignore = "the other half of the next test, which runs it in a process of its own"]
async fn an_engine_until_killed() {
    if std::env::var_os(TO_BE_KILLED).is_none() {
        return;
    }
    let engine = engine().await;
    let container = engine.run(ContainerOptions { restart: "always", ..web("orphan") }).await;
    println!("container process {}", container.inspect().await["State"]["Pid"]);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn what_a_killed_test_left_is_removed_by_the_next_one() {
    let mut command = Command::new(std::env::current_exe().expect("a running test has a path"));
    command.env(TO_BE_KILLED, "1").args(["--ignored", "--exact", "an_engine_until_killed", "--nocapture"]);
    let (killed, log) = Process::spawn_logged(&mut command);
    let find = |lines: &[String]| {
        lines.iter().find_map(|line| line.split_once("container process ")?.1.parse().ok())
    };
    let container: u32 = log.find(find).await.unwrap_or_else(|| panic!("{}", log.text()));
    let arguments = || fs::read_to_string(format!("/proc/{container}/cmdline")).unwrap_or_default();
    assert!(arguments().contains("/origin"), "{}", log.text());
    killed.signal(libc::SIGKILL);
    killed.wait(PATIENCE).await;
    assert!(arguments().contains("/origin"), "a container outlives whoever started its engine");

    let _next = Engine::start().await;
    assert_eq!(arguments(), "");
}

#[tokio::test]
async fn a_question_can_be_asked_from_an_address_of_a_bridge() {
    let engine = Engine::start().await;
    let server = tokio::net::UdpSocket::bind((engine.gateway(), 0)).await.expect("the bridge has an address");
    let address = server.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        let mut octets = [0; 512];
        while let Ok((length, from)) = server.recv_from(&mut octets).await {
            octets[2] |= 0x80; // QR: an answer, with nothing in it
            octets[3] = 3; // NXDOMAIN
            // The test waits for it.
            let _ = server.send_to(&octets[..length], from).await;
        }
    });
    let answer = Question::new("shop.local", "A").from(engine.gateway()).ask(address).await;
    assert_eq!(answer.rcode().to_string(), "Non-Existent Domain");
    assert!(answer.answers().is_empty() && answer.authority().is_empty() && !answer.truncated());
}
