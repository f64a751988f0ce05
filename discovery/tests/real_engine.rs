//! The watch over a real engine: every event that counts, restarts of the engine, addresses, commands.
//!
//! Each test starts a private dockerd and removes whatever it made. Without root or dockerd there is nothing to test
//! against, and the tests say so and pass.

mod watched;

use std::path::Path;
use std::time::Duration;

use fairway_catalog::facts::{DockerHealth, Lifecycle};
use fairway_config::file::{DockerEndpoint, DockerHost, DockerTls};
use fairway_discovery::docker::DIFF_EVERY;
use fairway_discovery::exec::ExecError;
use fairway_testkit::{ContainerOptions, Engine, EngineOptions, Health, Image};
use watched::Watched;

/// An image of nothing but busybox, which waits for its end and obeys signals.
const IMAGE: &str = "busy:v1";
const ROUTED: &[(&str, &str)] = &[("aliyun.routing.port_80", "shop.local")];

fn can_run() -> bool {
    let find = |name| {
        ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(name).exists())
    };
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    let can = is_root && find("dockerd") && find("containerd") && Path::new("/bin/busybox").is_file();
    if !can {
        eprintln!("skipped: needs root, dockerd, containerd and busybox");
    }
    can
}

async fn with_image(engine: Engine) -> Engine {
    let files: &[(&str, &Path)] = &[("bin/busybox", Path::new("/bin/busybox"))];
    let links = &[("bin/sh", "/bin/busybox"), ("bin/sleep", "/bin/busybox"), ("bin/echo", "/bin/busybox")];
    let entrypoint = &["/bin/sh", "-c"];
    let cmd = &["trap 'exit 0' TERM QUIT; trap '' USR1; while :; do sleep 0.1; done"];
    let instructions = &["EXPOSE 80/tcp", "EXPOSE 53/udp", "EXPOSE 8080"];
    engine.image(Image { name: IMAGE, files, links, entrypoint, cmd, instructions }).await;
    engine
}

fn web(name: &str) -> ContainerOptions<'_> {
    ContainerOptions { name, image: IMAGE, labels: ROUTED, ..ContainerOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_followed_from_start_to_end() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start().await).await;
    let before = engine.run(web("before")).await;
    let watched = Watched::socket(engine.socket());
    let facts = watched.found().await;
    assert!(facts.peer.starts_with("Docker Engine 2"), "{}", facts.peer);
    assert_eq!(facts.units.len(), 1);
    let bridge =
        facts.networks.values().find(|network| &*network.name == "bridge").expect("the default bridge");
    assert!(
        bridge.gateway_is_local && bridge.gateways == [std::net::IpAddr::V4(engine.gateway())],
        "{bridge:?}"
    );
    let unit = watched.running("before").await;
    assert_eq!((&*unit.id, &*unit.node, &*unit.zone), (before.id.as_str(), "here", "a"));
    assert_eq!(unit.ip, Some(before.address().await.into()));
    assert_eq!(unit.network, bridge.id);
    assert_eq!(&*unit.address_reason, "network bridge: this machine is its gateway");
    assert_eq!(unit.backend.to_string(), "before@v1");
    assert_eq!(unit.exposed_ports, [80, 8080]);
    assert!(unit.created < unit.started);

    let web1 = engine.run(web("web-1")).await;
    engine.run(ContainerOptions { labels: &[], ..web("plain") }).await;
    let first = watched.running("web-1").await;
    assert_eq!(watched.facts().units.len(), 2, "one without a label is none of ours");

    web1.pause().await;
    watched.unit("web-1", "paused", |unit| unit.lifecycle == Lifecycle::Paused).await;
    web1.unpause().await;
    watched.running("web-1").await;
    web1.rename("web-one").await;
    watched.running("web-one").await;

    web1.kill("SIGUSR1").await;
    web1.restart().await;
    let second = watched.unit("web-one", "started anew", |unit| unit.started > first.started).await;
    assert_eq!((second.lifecycle, &second.id), (Lifecycle::Running, &first.id));

    web1.stop().await;
    watched.gone("web-one").await;
    web1.start().await;
    watched.running("web-one").await;
    web1.remove().await;
    watched.gone("web-one").await;
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_stop_signal_makes_it_stopping() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start().await).await;
    let watched = Watched::socket(engine.socket());
    watched.found().await;
    // Takes both signals and goes on, so that what is seen is seen at leisure.
    let stubborn = &["trap '' TERM QUIT USR1; while :; do sleep 0.1; done"];
    let web = engine
        .run(ContainerOptions { stop_signal: "SIGQUIT", stop_timeout: Some(7), args: stubborn, ..web("web") })
        .await;
    watched.running("web").await;
    web.kill("SIGTERM").await;
    web.kill("SIGUSR1").await;
    web.kill("SIGQUIT").await;
    let seen = watched.unit("web", "stopping", |unit| unit.lifecycle != Lifecycle::Running).await;
    let Lifecycle::Stopping { timeout, .. } = seen.lifecycle else { panic!("{:?}", seen.lifecycle) };
    assert_eq!(timeout, Duration::from_secs(7));
    web.kill("SIGKILL").await;
    watched.gone("web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_policy_keeps_it_and_an_exit_for_good_removes_it() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start().await).await;
    let watched = Watched::socket(engine.socket());
    watched.found().await;
    engine.run(ContainerOptions { restart: "always", args: &["sleep 0.2; exit 1"], ..web("again") }).await;
    let first = watched.running("again").await;
    watched.unit("again", "restarting", |unit| unit.lifecycle == Lifecycle::Restarting).await;
    watched
        .unit("again", "running again", |unit| {
            unit.lifecycle == Lifecycle::Running && unit.started > first.started
        })
        .await;
    engine.run(ContainerOptions { args: &["sleep 0.2"], ..web("once") }).await;
    watched.running("once").await;
    watched.gone("once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_come_and_go_under_a_running_container() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start().await).await;
    let watched = Watched::socket(engine.socket());
    watched.found().await;
    engine.network("front").await;
    engine.network("back").await;
    watched
        .until("both networks", |facts| facts.networks.values().filter(|n| n.gateway_is_local).count() == 3)
        .await;
    let labels = &[("aliyun.routing.port_80", "shop.local"), ("fairway.network", "front")];
    let web = engine.run(ContainerOptions { labels, networks: &["back"], ..web("web") }).await;
    let unit = watched.running("web").await;
    assert_eq!(&*unit.address_reason, "network back: this machine is its gateway");
    assert_eq!(unit.label_problems.len(), 1, "{:?}", unit.label_problems);
    web.connect("front").await;
    let named = |unit: &fairway_catalog::facts::Unit| unit.address_reason.starts_with("network front: named");
    let unit = watched.unit("web", "in front", named).await;
    assert_eq!(unit.ip, web.address_in("front").await.map(Into::into));
    assert!(unit.label_problems.is_empty());
    web.disconnect("front").await;
    web.disconnect("back").await;
    watched.unit("web", "without an address", |unit| unit.ip.is_none()).await;
    web.connect("back").await;
    watched.running("web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_borrow_a_network_are_found_at_its_address() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start().await).await;
    let watched = Watched::socket(engine.socket());
    watched.found().await;
    let pod = engine.run(ContainerOptions { labels: &[], ..web("pod") }).await;
    let mode = format!("container:{}", pod.id);
    engine.run(ContainerOptions { networks: &[&mode], ..web("side") }).await;
    let side = watched.running("side").await;
    assert_eq!(side.ip, Some(pod.address().await.into()));
    assert!(
        side.address_reason.starts_with("shares the network of pod: network bridge"),
        "{}",
        side.address_reason
    );
    engine.run(ContainerOptions { networks: &["none"], ..web("alone") }).await;
    let alone = watched.unit("alone", "seen", |_| true).await;
    assert_eq!((alone.ip, &*alone.address_reason), (None, "it has no network: its network mode is none"));
    engine.run(ContainerOptions { networks: &["host"], ..web("bare") }).await;
    let bare = watched.unit("bare", "seen", |_| true).await;
    assert!(bare.address_reason.starts_with("host network"), "{}", bare.address_reason);
    assert!(bare.ip.is_some_and(|ip| !ip.is_loopback()), "{bare:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_is_lost_and_found_again() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start().await).await;
    let web = engine.run(web("web")).await;
    let watched = Watched::often(engine.socket(), Duration::from_millis(200));
    watched.found().await;
    watched.running("web").await;
    engine.freeze().await;
    let lost = watched.lost("no answer to").await;
    assert_eq!(lost.units.len(), 1);
    engine.thaw();
    watched.found().await;
    web.stop().await;
    watched.gone("web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_behind_tls_is_watched_and_a_stranger_is_not() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let Some(()) = certificates(folder.path()) else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = format!("127.0.0.1:{}", port.expect("loopback has ports").port());
    let file = |name: &str| folder.path().join(name);
    let flags = vec![
        "--tlsverify".to_owned(),
        format!("--tlscacert={}", file("ca.pem").display()),
        format!("--tlscert={}", file("server.pem").display()),
        format!("--tlskey={}", file("server-key.pem").display()),
        format!("--host=tcp://{address}"),
    ];
    let engine =
        with_image(Engine::start_with(EngineOptions { flags, ..EngineOptions::default() }).await).await;
    engine.run(web("web")).await;
    let host = |tls| DockerHost {
        url: format!("tcp://{address}").into(),
        endpoint: DockerEndpoint::Tcp(address.as_str().into()),
        tls,
        zone: None,
    };
    let tls = DockerTls { ca: file("ca.pem"), cert: file("client.pem"), key: file("client-key.pem") };
    let watched = Watched::host(host(Some(tls.clone())), DIFF_EVERY);
    watched.running("web").await;
    for (tls, why) in [
        (None, "it answers /version with 400"),
        (Some(DockerTls { ca: file("missing.pem"), ..tls.clone() }), "missing.pem cannot be read as PEM"),
        (Some(DockerTls { cert: file("other.pem"), key: file("other-key.pem"), ..tls }), ""),
    ] {
        let watched = Watched::host(host(tls), DIFF_EVERY);
        let lost = watched.lost(why).await;
        eprintln!("{:?}", lost.lost);
        assert!(!lost.listed);
    }
}

/// An authority, a server at 127.0.0.1, a client, and a client that another authority knows. `None` without openssl.
fn certificates(folder: &Path) -> Option<()> {
    let openssl = |arguments: &str| {
        let words = arguments.split(' ');
        let done = std::process::Command::new("openssl").args(words).current_dir(folder).output();
        done.is_ok_and(|done| done.status.success()).then_some(())
    };
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for ca in ["ca", "other-ca"] {
        openssl(&format!("req -x509 {new_key} -subj /CN={ca} -keyout {ca}-key.pem -out {ca}.pem"))?;
    }
    for (name, ca, usage) in
        [("server", "ca", "serverAuth"), ("client", "ca", "clientAuth"), ("other", "other-ca", "clientAuth")]
    {
        let extensions = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n");
        std::fs::write(folder.join("ext"), extensions).expect("the folder can be written");
        openssl(&format!("req {new_key} -subj /CN={name} -keyout {name}-key.pem -out {name}.csr"))?;
        let signed = format!("-CA {ca}.pem -CAkey {ca}-key.pem -CAcreateserial -days 2 -extfile ext");
        openssl(&format!("x509 -req -in {name}.csr {signed} -out {name}.pem"))?;
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engines_own_health_check_is_told() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start().await).await;
    let watched = Watched::socket(engine.socket());
    watched.found().await;
    let health = Some(Health {
        command: &["/bin/sh", "-c", "test -e /sick || exit 0; exit 1"],
        interval_ms: 200,
        retries: 1,
    });
    let web = engine.run(ContainerOptions { health, ..web("web") }).await;
    watched.unit("web", "healthy", |unit| unit.docker_health == Some(DockerHealth::Healthy)).await;
    web.exec(&["/bin/sh", "-c", ": > /sick"]).await;
    watched.unit("web", "unhealthy", |unit| unit.docker_health == Some(DockerHealth::Unhealthy)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_state_is_kept_while_the_engine_is_away() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start_with_live_restore().await).await;
    let web1 = engine.run(web("web-1")).await;
    engine.run(web("web-2")).await;
    let watched = Watched::socket(engine.socket());
    watched.found().await;
    let first = watched.running("web-1").await;
    engine.stop().await;
    let lost = watched.lost("").await;
    assert_eq!(lost.units.len(), 2, "what was known stays");
    engine.start_again().await;
    let found = watched.found().await;
    assert_eq!(found.units.len(), 2);
    assert_eq!(watched.running("web-1").await.started, first.started, "live restore: the same life");
    web1.stop().await;
    watched.gone("web-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_engine_that_ends_its_containers_is_caught_up_with() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start().await).await;
    engine.run(web("once")).await;
    engine.run(ContainerOptions { restart: "always", ..web("always") }).await;
    let watched = Watched::socket(engine.socket());
    watched.found().await;
    let first = watched.running("always").await;
    watched.running("once").await;
    engine.restart().await;
    let again = watched.unit("always", "running again", |unit| {
        unit.lifecycle == Lifecycle::Running && unit.started > first.started && unit.ip.is_some()
    });
    again.await;
    watched.found().await;
    watched.gone("once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_inside_containers() {
    if !can_run() {
        return;
    }
    let engine = with_image(Engine::start().await).await;
    let options = web;
    let web = engine.run(options("web")).await;
    let watched = Watched::socket(engine.socket());
    watched.found().await;
    let (engines, source) = (watched.engines.clone(), watched.source.clone());
    let exec = async |shell: &str, millis| {
        engines.exec(&source, &web.id, shell, Duration::from_millis(millis)).await
    };
    let done = exec("echo fine; exit 0", 10_000).await.expect("it runs");
    assert_eq!((done.exit_code, &*done.output), (0, "fine"));
    let failed = exec("echo broken >&2; exit 3", 10_000).await.expect("it runs");
    assert_eq!((failed.exit_code, &*failed.output), (3, "broken"));
    assert_eq!(exec("sleep 1.5", 300).await, Err(ExecError::Timeout));
    assert_eq!(exec("exit 0", 300).await, Err(ExecError::Timeout), "the one before still runs");
    let free = async || exec("exit 0", 10_000).await.is_ok().then_some(());
    fairway_testkit::until("the end of the one that hung", Duration::from_secs(10), free).await;
    let files: &[(&str, &Path)] = &[("busybox", Path::new("/bin/busybox"))];
    let entrypoint = &["/busybox", "sleep", "100"];
    engine.image(Image { name: "shellless:v1", files, entrypoint, ..Image::default() }).await;
    let bare = engine.run(ContainerOptions { name: "bare", image: "shellless:v1", ..options("bare") }).await;
    let no_shell =
        engines.exec(&source, &bare.id, "exit 0", Duration::from_secs(10)).await.expect("it is tried");
    assert!([126, 127].contains(&no_shell.exit_code), "{no_shell:?}");
    assert!(no_shell.output.contains("executable file not found"), "{no_shell:?}");
    web.pause().await;
    assert_eq!(exec("exit 0", 5_000).await, Err(ExecError::Gone));
    web.remove().await;
    assert_eq!(exec("exit 0", 5_000).await, Err(ExecError::Gone));
    let nowhere = fairway_catalog::facts::SourceId::Docker("unix:///nowhere".into());
    let unknown = engines.exec(&nowhere, &web.id, "exit 0", Duration::from_secs(1)).await;
    assert!(matches!(unknown, Err(ExecError::Other(_))), "{unknown:?}");
}
