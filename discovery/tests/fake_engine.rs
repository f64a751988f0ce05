//! The watch over an engine that a test makes slow, wrong, forgetful or huge.

mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fairway_catalog::facts::Lifecycle;
use fairway_config::file::{DockerEndpoint, DockerHost};
use fairway_testkit::fake_engine::{FakeEngine, Fault, container_id, recorded_container};
use fairway_testkit::until;
use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use watched::Watched;

const PATIENCE: Duration = Duration::from_secs(20);

/// The name of [`recorded_container`] number `n`.
fn name(n: usize) -> String {
    format!("shop_web{}_{}", n / 3, n % 3 + 1)
}

async fn with_containers(count: usize) -> FakeEngine {
    let engine = FakeEngine::start().await;
    (0..count).for_each(|n| engine.put(recorded_container(n)));
    engine
}

/// Waits until a request whose text contains `what` has come.
async fn asked(engine: &FakeEngine, what: &str) {
    let seen = async || engine.take_requests().iter().any(|request| request.contains(what)).then_some(());
    until(format_args!("a request for {what}"), PATIENCE, seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_containers_are_listed_in_one_go() {
    let engine = with_containers(1000).await;
    let begin = Instant::now();
    let watched = Watched::socket(&engine.socket());
    let facts = watched.found().await;
    eprintln!("1,000 containers listed in {:?}", begin.elapsed());
    assert_eq!(facts.units.len(), 1000);
    assert!(facts.units.values().all(|unit| unit.ip.is_some() && unit.label_problems.is_empty()));
    let serial = watched.inputs.borrow().serial;
    assert_eq!(serial, 2, "the source itself, then all at once: no part of a list is ever told");
    let unit = &facts.units[container_id(7).as_str()];
    assert_eq!(unit.backend.to_string(), "shop/web2@v1.4.2");
    assert_eq!(&*unit.address_reason, "network shop_default: named by fairway.network (also in shop_data)");
    assert_eq!(unit.links, [Arc::from("redis")]);
    assert_eq!(unit.spec.scale, Some(3));
}

#[tokio::test]
async fn every_call_but_the_first_speaks_version_1_41() {
    let engine = with_containers(1).await;
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    let requests = engine.take_requests();
    let calls = ["/info", "/events", "/containers/json", "/networks"];
    for call in calls.map(|call| format!("GET /v1.41{call}")) {
        assert!(requests.contains(&call), "{call} in {requests:?}");
    }
    let others: Vec<_> = requests.iter().filter(|request| !request.starts_with("GET /v1.41/")).collect();
    assert_eq!(others, ["GET /version"]);
}

#[tokio::test]
async fn an_engine_that_demands_a_newer_version_gets_it() {
    let engine = with_containers(1).await;
    engine.set_versions("1.44", "1.52");
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    assert!(engine.take_requests().contains(&"GET /v1.44/containers/json".to_owned()));
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_told_so_and_tried_again() {
    let engine = with_containers(1).await;
    engine.set_versions("1.12", "1.40");
    let watched = Watched::socket(&engine.socket());
    watched.lost("API 1.40 at most; Docker Engine 20.10 or newer").await;
    engine.set_versions("1.12", "1.41");
    watched.found().await;
}

#[tokio::test]
async fn only_containers_with_labels_of_ours_are_inspected() {
    let engine = FakeEngine::start().await;
    for n in 0..20 {
        let mut plain = recorded_container(n);
        plain["Config"]["Labels"] = json!({ "maintainer": "somebody" });
        engine.put(plain);
    }
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    for n in 0..20 {
        engine.tell(&container_id(n), "start", &[]);
    }
    engine.put(recorded_container(100));
    engine.tell(&container_id(100), "start", &[]);
    watched.running(&name(100)).await;
    let inspects = engine.take_requests().iter().filter(|request| request.ends_with("/json")).count();
    assert_eq!(inspects, 2, "the list and the one that is labelled");
}

#[tokio::test]
async fn an_event_is_told_at_once_and_its_lag_is_measured() {
    let engine = with_containers(2).await;
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    let id = container_id(0);
    engine.tell(&id, "kill", &[("signal", "3")]);
    let stopping = |unit: &fairway_catalog::facts::Unit| matches!(unit.lifecycle, Lifecycle::Stopping { .. });
    watched.unit(&name(0), "stopping", stopping).await;
    engine.change(&id, |inspect| inspect["State"] = json!({ "Status": "exited", "Running": false }));
    engine.tell(&id, "die", &[("exitCode", "0")]);
    watched.gone(&name(0)).await;
    assert_eq!(watched.lag.get_sample_count(), 2);
    assert!(watched.lag.get_sample_sum() < 5.0, "{}", watched.lag.get_sample_sum());
}

#[tokio::test]
async fn the_signal_of_another_kind_changes_nothing() {
    let engine = with_containers(1).await;
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    let before = watched.inputs.borrow().serial;
    engine.tell(&container_id(0), "kill", &[("signal", "15")]); // its StopSignal is SIGQUIT
    engine.put(recorded_container(5));
    engine.tell(&container_id(5), "start", &[]);
    watched.running(&name(5)).await;
    assert_eq!(watched.running(&name(0)).await.lifecycle, Lifecycle::Running);
    assert_eq!(watched.inputs.borrow().serial, before + 1, "the start alone was told");
}

#[tokio::test]
async fn a_late_answer_never_overwrites_a_newer_event() {
    let engine = with_containers(1).await;
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    let id = container_id(0);
    engine.take_requests();
    engine.fail("/containers/", Fault::Delay(Duration::from_millis(300)));
    engine.tell(&id, "update", &[]);
    asked(&engine, &id).await; // an answer is on its way that says `running`
    engine.tell(&id, "kill", &[("signal", "3")]);
    watched.unit(&name(0), "stopping", |unit| unit.lifecycle != Lifecycle::Running).await;
    engine.change(&id, |inspect| inspect["State"]["Status"] = json!("paused"));
    engine.tell(&id, "pause", &[]);
    watched.unit(&name(0), "paused", |unit| unit.lifecycle == Lifecycle::Paused).await;
    engine.mend();
    engine.put(recorded_container(3));
    engine.tell(&container_id(3), "start", &[]);
    watched.running(&name(3)).await;
    tokio::time::sleep(Duration::from_millis(400)).await; // whatever was late has come by now
    let unit = watched.unit(&name(0), "there", |_| true).await;
    assert_eq!(unit.lifecycle, Lifecycle::Paused);
}

#[tokio::test]
async fn a_kill_before_the_first_answer_counts() {
    let engine = with_containers(0).await;
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    engine.fail("/containers/", Fault::Delay(Duration::from_millis(200)));
    engine.put(recorded_container(0));
    engine.tell(&container_id(0), "start", &[]);
    engine.tell(&container_id(0), "kill", &[("signal", "3")]);
    let unit = watched.unit(&name(0), "seen", |_| true).await;
    assert!(matches!(unit.lifecycle, Lifecycle::Stopping { .. }), "{:?}", unit.lifecycle);
}

#[tokio::test]
async fn a_stop_signal_from_before_we_came_counts_in_that_life_and_as_long_as_it_may_still_be_obeyed() {
    let engine = with_containers(3).await;
    let ago = |seconds: i64| {
        let at = Timestamp::now().as_nanosecond() - i128::from(seconds) * 1_000_000_000;
        i64::try_from(at).expect("the clock is before 2262")
    };
    for n in 0..3 {
        engine.change(&container_id(n), |inspect| {
            // The last one was restarted after the signal.
            let started = Timestamp::from_nanosecond(ago(if n == 2 { 1 } else { 600 }).into());
            inspect["State"]["StartedAt"] = json!(started.expect("a time").to_string());
            inspect["Config"]["StopTimeout"] = json!(if n == 1 { 10 } else { 120 });
        });
        engine.tell_raw(&json!({
            "Type": "container", "Action": "kill", "scope": "local", "time": ago(60) / 1_000_000_000, "timeNano": ago(60),
            "Actor": { "ID": container_id(n), "Attributes": { "signal": "3" } },
        }));
    }
    engine.set_clock(&Timestamp::now().to_string());
    let watched = Watched::socket(&engine.socket());
    let facts = watched.found().await;
    let lifecycle = |n| facts.units[container_id(n).as_str()].lifecycle;
    let Lifecycle::Stopping { since, .. } = lifecycle(0) else { panic!("{:?}", lifecycle(0)) };
    let counted = Timestamp::now().duration_since(since).as_secs();
    assert!((59..120).contains(&counted), "from when it was sent: {counted} s ago");
    assert_eq!(lifecycle(1), Lifecycle::Running, "ignored long ago");
    assert_eq!(lifecycle(2), Lifecycle::Running, "of an earlier life");
}

#[tokio::test]
async fn what_happened_while_the_stream_was_cut_is_caught_up_with() {
    let engine = with_containers(6).await;
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    engine.close();
    watched.lost("there is no socket at").await;
    engine.remove(&container_id(0));
    engine.put(recorded_container(9));
    engine.change(&container_id(1), |inspect| inspect["Name"] = json!("/renamed"));
    engine.change(&container_id(2), |inspect| inspect["State"]["StartedAt"] = json!("2030-01-01T00:00:00Z"));
    assert_eq!(watched.facts().units.len(), 6, "what was known stays");
    engine.open();
    let facts = watched.found().await;
    let names: Vec<String> = facts.units.values().map(|unit| unit.name.to_string()).collect();
    assert!(
        !names.contains(&name(0)) && names.contains(&name(9)) && names.contains(&"renamed".to_owned()),
        "{names:?}"
    );
    assert_eq!(facts.units[container_id(2).as_str()].started.to_string(), "2030-01-01T00:00:00Z");
}

#[tokio::test]
async fn a_stream_that_is_cut_is_opened_again_and_nothing_is_forgotten() {
    let engine = with_containers(3).await;
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    for n in 10..15 {
        engine.cut_streams();
        engine.put(recorded_container(n));
        watched.running(&name(n)).await;
    }
    assert_eq!(watched.found().await.units.len(), 8);
}

#[tokio::test]
async fn events_that_never_came_are_made_up_for_by_the_diff() {
    let engine = with_containers(3).await;
    let watched = Watched::often(&engine.socket(), Duration::from_millis(200));
    watched.found().await;
    engine.remove(&container_id(0));
    watched.gone(&name(0)).await;
    engine.put(recorded_container(9));
    watched.running(&name(9)).await;
    engine.change(&container_id(1), |inspect| inspect["State"]["Status"] = json!("paused"));
    watched.unit(&name(1), "paused", |unit| unit.lifecycle == Lifecycle::Paused).await;
    engine.change(&container_id(2), |inspect| inspect["State"]["StartedAt"] = json!("2030-01-01T00:00:00Z"));
    watched.unit(&name(2), "in its new life", |unit| unit.started.to_string().starts_with("2030")).await;
}

#[tokio::test]
async fn a_container_without_an_address_is_pending_until_it_has_one() {
    let engine = FakeEngine::start().await;
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    let mut late = recorded_container(0);
    let networks = late["NetworkSettings"]["Networks"].take();
    engine.put(late);
    engine.tell(&container_id(0), "start", &[]);
    let unit = watched.unit(&name(0), "seen", |_| true).await;
    assert_eq!((unit.ip, &*unit.address_reason), (None, "it is in no network"));
    engine.change(&container_id(0), |inspect| inspect["NetworkSettings"]["Networks"] = networks);
    watched.running(&name(0)).await; // without any event
}

#[tokio::test]
async fn one_container_that_cannot_be_read_costs_no_other() {
    let engine = with_containers(4).await;
    let broken = format!("/containers/{}", container_id(1));
    engine.fail(&broken, Fault::Status(500));
    engine.fail(&format!("/containers/{}", container_id(2)), Fault::Garbage("{\"State\": 7}"));
    let watched = Watched::socket(&engine.socket());
    let facts = watched.found().await;
    assert_eq!(facts.units.len(), 2);
    let kinds: Vec<_> = facts.problems.iter().map(|problem| problem.kind).collect();
    assert_eq!(kinds, ["container-unreadable"; 2]);
    engine.mend();
    let facts = watched.until("all four", |facts| facts.units.len() == 4).await;
    watched.until("no problem left", |facts| facts.problems.is_empty()).await;
    assert!(facts.lost.is_none());
}

#[tokio::test]
async fn a_container_whose_every_label_is_refused_is_told_though_not_routed() {
    let engine = FakeEngine::start().await;
    let mut wrong = recorded_container(0);
    wrong["Config"]["Labels"] = json!({ "aliyun.routing.port_80": "a.com:8080" });
    engine.put(wrong);
    let watched = Watched::socket(&engine.socket());
    let facts = watched.found().await;
    assert!(facts.units.is_empty());
    assert_eq!(facts.problems.len(), 1);
    assert_eq!((&*facts.problems[0].subject, &*facts.problems[0].key), (&*name(0), "aliyun.routing.port_80"));
    engine.remove(&container_id(0));
    engine.tell(&container_id(0), "destroy", &[]);
    watched.until("the problem gone", |facts| facts.problems.is_empty()).await;
}

#[tokio::test]
async fn answers_that_stall_break_off_or_make_no_sense_lose_the_engine_until_it_mends() {
    for (path, fault, why) in [
        ("/version", Fault::Stall, "no answer to /version within 3 s"),
        ("/version", Fault::Garbage("<html>"), "is not a Docker engine"),
        ("/version", Fault::Garbage("{}"), "names no API version"),
        ("/version", Fault::Status(404), "it answers /version with 404"),
        ("/containers/json", Fault::Status(500), "answered /containers/json with 500: something is wrong"),
        ("/containers/json", Fault::Garbage("[{]"), "answer to /containers/json makes no sense"),
        ("/containers/json", Fault::Break, "the connection broke during /containers/json"),
        ("/networks", Fault::Break, "the connection broke during /networks"),
        ("/events", Fault::Status(403), "answered /events with 403"),
        ("/events", Fault::Garbage("nonsense\n"), "/events"),
    ] {
        let engine = with_containers(2).await;
        engine.fail(path, fault.clone());
        let watched = Watched::socket(&engine.socket());
        let lost = watched.lost(why).await;
        assert!(!lost.listed || path == "/events", "{path} {fault:?}");
        engine.mend();
        assert_eq!(watched.found().await.units.len(), 2, "{path} {fault:?}");
        watched.stop().await;
    }
}

#[tokio::test]
async fn a_filter_that_hides_info_and_networks_costs_no_container() {
    let engine = with_containers(1).await;
    engine.fail("/info", Fault::Status(403));
    engine.fail("/networks", Fault::Status(403));
    let watched = Watched::socket(&engine.socket());
    let facts = watched.found().await;
    assert_eq!((facts.units.len(), facts.problems.len()), (1, 1));
    assert!(facts.units.values().all(|unit| unit.ip.is_some()));
}

#[tokio::test]
async fn words_that_are_not_known_yet_cost_nothing() {
    let engine = FakeEngine::start().await;
    let mut new = recorded_container(0);
    new["State"]["Status"] = json!("hibernating");
    new["State"]["Health"]["Status"] = json!("resting");
    new["HostConfig"]["RestartPolicy"]["Name"] = json!("on-sunday");
    new["Mounts"] = json!([{ "Type": "hologram", "Mode": 7 }]);
    engine.put(new);
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    assert_eq!(watched.running(&name(0)).await.docker_health, None);
}

#[tokio::test]
async fn what_stands_in_place_of_the_socket_is_told() {
    let engine = with_containers(1).await;
    engine.close();
    let watched = Watched::socket(&engine.socket());
    let lost = watched.lost("there is no socket at").await;
    assert!(!lost.listed);
    let since = lost.lost.as_ref().map(|lost| lost.since);
    std::fs::write(engine.socket(), "x").expect("a file in its place");
    let lost = watched.lost("is not a socket but a file").await;
    assert_eq!(lost.lost.as_ref().map(|lost| lost.since), since, "lost since the first failure");
    std::fs::remove_file(engine.socket()).expect("the file is there");
    std::fs::create_dir(engine.socket()).expect("a folder in its place");
    watched.lost("is not a socket but a folder").await;
    std::fs::remove_dir(engine.socket()).expect("the folder is there");
    drop(UnixListener::bind(engine.socket()).expect("a socket that nobody listens at"));
    watched.lost("nothing listens at").await;
    std::fs::remove_file(engine.socket()).expect("the socket is there");
    engine.open();
    watched.found().await;
}

#[tokio::test]
async fn something_that_speaks_another_language_is_no_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    for (greeting, why) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "is not a Docker engine"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "is not a Docker engine"),
        (
            "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n",
            "it answers /version with 302",
        ),
        ("", ""),
    ] {
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(greeting.as_bytes()).await;
            }
        });
        let watched = Watched::socket(&path);
        watched.lost(why).await;
        watched.stop().await;
        server.abort();
        std::fs::remove_file(&path).expect("the socket is there");
    }
}

#[tokio::test]
async fn an_engine_over_tcp_is_another_node_unless_it_is_at_loopback() {
    let engine = with_containers(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    let socket = engine.socket();
    let relay = tokio::spawn(async move {
        while let Ok((mut outer, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut inner = tokio::net::UnixStream::connect(socket).await.expect("the engine listens");
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    let host = DockerHost {
        url: format!("tcp://{address}").into(),
        endpoint: DockerEndpoint::Tcp(address.as_str().into()),
        tls: None,
        zone: Some("b".into()),
    };
    let watched = Watched::host(host, fairway_discovery::docker::DIFF_EVERY);
    let unit = watched.running(&name(0)).await;
    assert_eq!((&*unit.node, &*unit.zone), ("here", "b"));
    relay.abort();
}

#[tokio::test]
async fn the_watch_ends_when_it_is_told_to_and_what_is_known_stays() {
    let engine = with_containers(1).await;
    let watched = Watched::socket(&engine.socket());
    watched.found().await;
    let inputs = watched.inputs.clone();
    watched.stop().await;
    let closed = async || (engine.listeners() == 0).then_some(());
    until("the end of the stream", PATIENCE, closed).await;
    assert!(inputs.borrow().sources.values().all(|facts| facts.units.len() == 1));
}
