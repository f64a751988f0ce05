//! What is read out of an inspect answer.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(answer: serde_json::Value) -> Option<Container> {
    Container::read(serde_json::from_value(answer).expect("an answer of the API"))
}

#[test]
fn everything_needed_is_read() {
    let container = read(json!({
        "Id": "abc", "Name": "/shop_web_1", "Created": "2026-01-02T03:04:05.123456789Z", "RestartCount": 2,
        "Image": "sha256:00",
        "State": { "Status": "running", "Running": true, "StartedAt": "2026-01-02T03:04:06Z", "Health": { "Status": "starting" } },
        "HostConfig": {
            "NetworkMode": "shop_default", "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 },
            "Links": ["/redis:/shop_web_1/cache", "/db:/shop_web_1/db"],
        },
        "Config": {
            "Image": "web:v1", "StopSignal": "SIGQUIT", "StopTimeout": 30, "ExposedPorts": { "443/tcp": {}, "80/tcp": {}, "53/udp": {} },
            "Labels": { "aliyun.routing.port_80": "shop", "com.docker.compose.project": "shop", "com.docker.compose.service": "web" },
        },
        "NetworkSettings": {
            "Ports": { "8080/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }], "80/tcp": null },
            "Networks": {
                "shop_default": { "NetworkID": "n1", "IPAddress": "172.20.0.3", "Links": ["mail:smtp", "redis:cache"] },
                "bridge6": { "NetworkID": "n2", "IPAddress": "", "GlobalIPv6Address": "fd00::3" },
                "fresh": { "NetworkID": "n3", "IPAddress": "" },
            },
        },
    }))
    .expect("a container");
    assert_eq!(&*container.name, "shop_web_1");
    assert_eq!(container.phase, Phase::Running);
    assert_eq!(container.created.to_string(), "2026-01-02T03:04:05.123456789Z");
    assert_eq!(container.started.to_string(), "2026-01-02T03:04:06Z");
    assert_eq!(container.health, Some(DockerHealth::Starting));
    assert_eq!(Some(container.stop_signal), Signal::parse("QUIT"));
    assert_eq!(container.stop_timeout, Duration::from_secs(30));
    assert_eq!((container.restart, container.restarts), (Restart::OnFailure(3), 2));
    assert_eq!(container.namespace, Namespace::Own);
    assert_eq!(container.exposed_ports, [80, 443, 8080]);
    let links: Vec<&str> = container.links.iter().map(|link| &**link).collect();
    assert_eq!(links, ["db", "mail", "redis"]);
    let addresses: Vec<_> = container.attachments.iter().map(|at| (&*at.name, at.ip)).collect();
    let (v4, v6) = ("172.20.0.3".parse().ok(), "fd00::3".parse().ok());
    assert_eq!(addresses, [("bridge6", v6), ("fresh", None), ("shop_default", v4)]);
    assert!(container.is_exposed());
}

#[test]
fn what_is_missing_has_dockers_defaults() {
    assert_eq!(read(json!({})), None);
    assert_eq!(read(json!({ "Id": "../secrets" })), None);
    let container = read(json!({ "Id": "abc" })).expect("a container");
    assert_eq!(container.phase, Phase::Down);
    assert_eq!((container.stop_signal, container.stop_timeout), (Signal::TERM, Duration::from_secs(10)));
    assert_eq!((container.restart, container.namespace), (Restart::Never, Namespace::Own));
    assert_eq!(container.started, Timestamp::UNIX_EPOCH);
}

#[test]
fn each_state_of_docker_is_a_phase() {
    for (state, want) in [
        (json!({ "Status": "running" }), Phase::Running),
        (json!({ "Status": "paused", "Running": true }), Phase::Paused),
        (json!({ "Status": "restarting", "Running": true }), Phase::Restarting),
        (json!({ "Status": "exited" }), Phase::Down),
        (json!({ "Status": "created" }), Phase::Down),
        (json!({ "Status": "removing" }), Phase::Down),
        (json!({ "Status": "dead" }), Phase::Down),
        (json!({ "Status": "", "Running": true }), Phase::Running),
        (json!({ "Running": true }), Phase::Running),
        (json!({}), Phase::Down),
    ] {
        let container = read(json!({ "Id": "abc", "State": state })).expect("a container");
        assert_eq!(container.phase, want, "{state}");
    }
}

#[test]
fn the_network_mode_says_whose_network_it_uses() {
    for (mode, want) in [
        ("default", Namespace::Own),
        ("shop_default", Namespace::Own),
        ("host", Namespace::Host),
        ("none", Namespace::None),
        ("container:0123abcd", Namespace::Container("0123abcd".into())),
        ("container:../../info", Namespace::Own),
    ] {
        let container =
            read(json!({ "Id": "abc", "HostConfig": { "NetworkMode": mode } })).expect("a container");
        assert_eq!(container.namespace, want, "{mode}");
    }
}

#[test]
fn a_restart_policy_says_what_follows_an_end() {
    for (name, most, restarts, exit_code, want) in [
        ("", 0, 0, 1, false),
        ("no", 0, 0, 1, false),
        ("always", 0, 9, 0, true),
        ("unless-stopped", 0, 9, 0, true),
        ("on-failure", 0, 9, 1, true),
        ("on-failure", 0, 0, 0, false),
        ("on-failure", 3, 2, 1, true),
        ("on-failure", 3, 3, 1, false),
    ] {
        let policy = json!({ "Name": name, "MaximumRetryCount": most });
        let answer =
            json!({ "Id": "abc", "RestartCount": restarts, "HostConfig": { "RestartPolicy": policy } });
        let container = read(answer).expect("a container");
        assert_eq!(container.restarts_after(exit_code), want, "{name} {most} {restarts} {exit_code}");
    }
}

#[test]
fn stop_timeouts_out_of_range_are_bounded() {
    assert_eq!(stop_timeout(None), Duration::from_secs(10));
    assert_eq!(stop_timeout(Some(0)), Duration::ZERO);
    assert_eq!(stop_timeout(Some(-1)), STOP_TIMEOUT_MAX);
    assert_eq!(stop_timeout(Some(i64::MAX)), STOP_TIMEOUT_MAX);
}

#[test]
fn names_that_docker_would_not_give_are_escaped_and_cut() {
    assert_eq!(&*plain_name("/web-1"), "web-1");
    assert_eq!(&*plain_name("/a\u{1b}[31m"), "a\\u{1b}[31m");
    assert!(plain_name(&"x".repeat(10_000)).len() < 200);
}

#[test]
fn one_off_and_hidden_containers_are_not_exposed() {
    for (label, value, want) in [
        ("x", "y", true),
        ("com.docker.compose.oneoff", "True", false),
        ("com.docker.compose.oneoff", "False", true),
        ("fairway.enable", "false", false),
    ] {
        let labels = json!({ "aliyun.routing.port_80": "shop", label: value });
        let container = read(json!({ "Id": "abc", "Config": { "Labels": labels } })).expect("a container");
        assert_eq!(container.is_exposed(), want, "{label}={value}");
    }
}

/// A container that runs since second 100 of the engine's clock, routed to, with one address.
pub(in crate::docker) fn container(id: &str) -> Container {
    read(json!({
        "Id": id, "Name": format!("/{id}"), "Created": "1970-01-01T00:01:30Z", "Image": "sha256:00",
        "State": { "Status": "running", "StartedAt": "1970-01-01T00:01:40Z" },
        "Config": { "Image": "web:v1", "Labels": { "aliyun.routing.port_80": "shop.local" } },
        "NetworkSettings": { "Networks": { "front": { "NetworkID": "n-front", "IPAddress": "10.0.0.2" } } },
    }))
    .expect("a container")
}

#[test]
fn what_a_real_engine_answered_is_read() {
    let recorded = include_str!("../../../tests/fixtures/inspect.json");
    let container = read(serde_json::from_str(recorded).expect("JSON")).expect("a container");
    assert!(container.is_exposed() && container.label_problems.is_empty(), "{:?}", container.label_problems);
    assert_eq!((&*container.name, container.phase), ("shop_web_1", Phase::Running));
    assert_eq!(Some(container.stop_signal), Signal::parse("SIGQUIT"));
    assert_eq!((container.stop_timeout, container.restart), (Duration::from_secs(20), Restart::Always));
    assert_eq!(container.exposed_ports, [8080, 8443]);
    assert_eq!(container.health, Some(DockerHealth::Healthy));
    assert_eq!(container.started.to_string(), "2026-11-21T05:22:25.811804255Z");
    let addresses: Vec<_> = container.attachments.iter().map(|at| (&*at.name, at.ip)).collect();
    let ip = |text: &str| text.parse().ok();
    assert_eq!(addresses, [("shop_data", ip("198.19.1.34")), ("shop_default", ip("198.19.1.2"))]);
}

proptest! {
    #[test]
    fn no_words_of_an_engine_or_a_container_panic(
        words in prop::collection::vec("\\PC{0,20}|[:/@.a-f0-9-]{0,80}|sha256:[a-f0-9]{0,64}|container:\\PC*", 12),
        number in any::<i64>(),
    ) {
        let word = |i: usize| &words[i];
        let container = read(json!({
            "Id": "abc", "Name": word(0), "Created": word(1), "Image": word(2), "RestartCount": number,
            "State": { "Status": word(3), "StartedAt": word(4), "Health": { "Status": word(5) } },
            "HostConfig": { "NetworkMode": word(6), "Links": [word(7)], "RestartPolicy": { "Name": word(3), "MaximumRetryCount": number } },
            "Config": {
                "Image": word(8), "StopSignal": word(9), "StopTimeout": number, "ExposedPorts": { word(10): {} },
                "Labels": { "aliyun.routing.port_80": word(11), "com.docker.compose.service": word(0), "com.docker.compose.project": word(1) },
            },
            "NetworkSettings": { "Networks": { word(6): { "NetworkID": word(7), "IPAddress": word(8) } } },
        }))
        .expect("a container");
        let backend = super::super::identity::backend(
            &container.spec, &container.origin, &container.name, &container.image, &container.image_id,
        );
        let printed = backend.to_string();
        prop_assert_eq!(printed.parse().ok(), Some(backend), "{} prints what parses", printed);
        prop_assert!(container.name.chars().all(|c| !c.is_control()));
    }
}
