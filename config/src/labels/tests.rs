//! The whole label language, from labels to a [`ServiceSpec`] and problems.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::known_keys::FAIRWAY;
use super::*;
use crate::names::Host;

/// The routes of a container with these labels, as `port entry`, and its problems, as `key kind`.
fn read(labels: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let parsed = parse(labels.iter().copied());
    let routes = parsed
        .spec
        .ports
        .iter()
        .flat_map(|claim| claim.entries.iter().map(|e| format!("{} {e}", claim.port)));
    let problems = parsed.problems.iter().map(|problem| format!("{} {}", problem.key, problem.kind));
    (routes.collect(), problems.collect())
}

fn only_problem(key: &str, value: &str) -> LabelProblem {
    let mut parsed = parse([(key, value)]);
    assert_eq!(parsed.problems.len(), 1, "{key}: {value}: {:?}", parsed.problems);
    parsed.problems.remove(0)
}

#[test]
fn the_documented_routing_lines_become_routes() {
    for (key, value, want) in [
        ("aliyun.routing.port_80", "wordpress", vec!["80 http://wordpress"]),
        ("aliyun.routing.port_80", "http://wordpress", vec!["80 http://wordpress"]),
        (
            "aliyun.routing.port_80",
            "wordpress;http://wp.sample.com/context",
            vec!["80 http://wordpress", "80 http://wp.sample.com/context"],
        ),
        (
            "aliyun.routing.port_80",
            "wordpress;http://www.example.com;https://www.nice.com",
            vec!["80 http://wordpress", "80 http://www.example.com", "80 https://www.nice.com"],
        ),
        (
            "aliyun.routing.port_8085",
            "aixue-recommender.local;aixue-recommender",
            vec!["8085 http://aixue-recommender.local", "8085 http://aixue-recommender"],
        ),
        (
            "aliyun.routing.port_8080",
            "a.in;a;b-c.other.net",
            vec!["8080 http://a.in", "8080 http://a", "8080 http://b-c.other.net"],
        ),
        ("aliyun.routing.port_5000", "test-link;", vec!["5000 http://test-link"]),
        ("aliyun.routing.port_80", "http://*.company.com", vec!["80 http://*.company.com"]),
        ("aliyun.routing.port_80", "HTTP://A.Company.COM", vec!["80 http://a.company.com"]),
        (
            "aliyun.routing.port_3306",
            "nnn;http://nn.abc.com",
            vec!["3306 http://nnn", "3306 http://nn.abc.com"],
        ),
    ] {
        assert_eq!(
            read(&[(key, value)]),
            (want.iter().map(ToString::to_string).collect(), vec![]),
            "{value}"
        );
    }
}

#[test]
fn the_documented_refusals_say_what_to_write() {
    for (key, value, kind, advice) in [
        (
            "aliyun.routing.port_80",
            "http://a.com,http://b.com",
            "label-comma-list",
            "`http://a.com;http://b.com`",
        ),
        ("aliyun.routing.port_8080", "http://$DOMAIN", "label-unresolved-variable", "write the value itself"),
        ("aliyun.routing.port_7001", "http://{YOUR_DOMAIN_NAME}", "label-placeholder", "real name"),
        (
            "aliyun.routing.port_80",
            "[http://wordpress](http://wordpress)",
            "label-markdown",
            "`http://wordpress`",
        ),
        ("aliyun.routing.port_80", "a.com:8080", "label-port-in-host", "`aliyun.routing.port_8080`"),
        ("aliyun.routing.port_0", "a.com", "label-bad-port", "1 to 65535"),
        ("aliyun.routing.port_80/tcp", "a.com", "label-bad-port", "`aliyun.routing.port_80`"),
        ("aliyun.routing.port_http", "a.com", "label-bad-port", "1 to 65535"),
        (
            "aliyun.monitoring.script：/opt/mp.sh",
            "",
            "label-fullwidth-colon",
            "`aliyun.monitoring.script: /opt/mp.sh`",
        ),
    ] {
        let parsed = parse([(key, value)]);
        assert_eq!(parsed.spec.ports, [], "{value}");
        assert!(!parsed.spec.is_exposed(), "{value}");
        let problem = only_problem(key, value);
        assert_eq!((problem.kind, problem.severity), (kind, Severity::Error), "{value}");
        assert_eq!((problem.key.as_str(), problem.value.as_str()), (key, value));
        assert!(problem.remedy.contains(advice), "{value}: {}", problem.remedy);
    }
}

#[test]
fn the_documented_probes_are_read() {
    let http = |port, path: &str| ProbeCheck::Http { port, path: path.into() };
    let secs = Duration::from_secs;
    for (labels, check, timeout, initial_delay) in [
        (
            vec![("aliyun.probe.url", "http://container/license.txt")],
            http(80, "/license.txt"),
            secs(1),
            secs(0),
        ),
        (
            vec![("aliyun.probe.url", "http://container:4000/index.html")],
            http(4000, "/index.html"),
            secs(1),
            secs(0),
        ),
        (
            vec![
                ("aliyun.probe.url", "tcp://container:8085"),
                ("aliyun.probe.timeout_seconds", "10"),
                ("aliyun.probe.initial_delay_seconds", "3"),
            ],
            ProbeCheck::Tcp { port: 8085 },
            secs(10),
            secs(3),
        ),
        (
            vec![("aliyun.probe.cmd", "curl -u user:pwd http://127.0.0.1:8888/")],
            ProbeCheck::Command { shell: "curl -u user:pwd http://127.0.0.1:8888/".into() },
            secs(1),
            secs(0),
        ),
    ] {
        let parsed = parse(labels.clone());
        assert_eq!(parsed.problems, [], "{labels:?}");
        assert_eq!(parsed.spec.probe, Some(ProbeSpec { check, timeout, initial_delay }), "{labels:?}");
        assert!(parsed.spec.is_exposed(), "{labels:?}");
    }
}

#[test]
fn of_two_probes_the_url_is_used_and_a_bad_url_leaves_the_command() {
    let command = ("aliyun.probe.cmd", "true");
    let both = parse([command, ("aliyun.probe.url", "tcp://container:1")]);
    assert_eq!(both.spec.probe.map(|probe| probe.check), Some(ProbeCheck::Tcp { port: 1 }));
    assert_eq!(
        both.problems.iter().map(|p| (p.kind, p.severity)).collect::<Vec<_>>(),
        [("label-two-probes", Severity::Warning)]
    );
    let bad_url = parse([command, ("aliyun.probe.url", "tcp://container")]);
    assert!(matches!(bad_url.spec.probe.map(|probe| probe.check), Some(ProbeCheck::Command { .. })));
    let timing_alone = parse([("aliyun.probe.timeout_seconds", "3")]);
    assert_eq!(timing_alone, ParsedLabels::default());
}

#[test]
fn labels_for_other_parts_of_the_original_product_are_no_problem() {
    let labels = [
        ("aliyun.latest_image", "true"),
        ("aliyun.logs", "stdout"),
        ("aliyun.log_store_x", "y"),
        ("aliyun.monitoring.addon", "y"),
        ("aliyun.auto_scaling.max_cpu", "70"),
        ("aliyun.addon", "x"),
        ("aliyun.custom_addon", "x"),
        ("aliyun.gpu", "1"),
        ("aliyun.proxy.VIRTUAL_HOST", "http://a.com"),
        ("com.docker.compose.project", "shop"),
        ("traefik.enable", "true"),
    ];
    let parsed = parse(labels);
    assert_eq!(parsed.problems, []);
    assert!(parsed.spec.custom_proxy);
    assert!(!parsed.spec.is_exposed());
}

#[test]
fn unsupported_keys_are_reported_with_what_to_do_instead() {
    for (key, advice) in [
        ("aliyun.routing.weight", "`fairway.weight`"),
        ("aliyun.routing.ssl_cert", "`[[certificate]]`"),
        ("aliyun.routing.extra_setting", "`fairway.*`"),
        ("aliyun.routing.timeout_setting", "`fairway.timeout.first_byte`"),
        ("aliyun.routing.worker", "`[proxy] threads`"),
        ("aliyun.vip.port", "`aliyun.lb.port_N"),
    ] {
        let problem = only_problem(key, "x");
        assert_eq!(problem.kind, "label-unsupported", "{key}");
        assert!(problem.remedy.contains(advice), "{key}: {}", problem.remedy);
    }
}

#[test]
fn labels_that_tell_others_are_read_and_expose_nothing() {
    let parsed = parse([
        ("aliyun.scale", "2"),
        ("aliyun.global", "true"),
        ("aliyun.depends", "db, cache;db"),
        ("aliyun.rolling_updates", "'true'".trim_matches('\'')),
        ("aliyun.rolling_updates.parallelism", "2"),
        ("aliyun.routing.session_sticky", "True"),
    ]);
    assert_eq!(parsed.problems, []);
    assert_eq!(parsed.spec.scale, Some(2));
    assert!(parsed.spec.global && parsed.spec.rolling_updates);
    assert_eq!(parsed.spec.depends, ["db".into(), "cache".into()]);
    assert_eq!(parsed.spec.rolling_parallelism, Some(2));
    assert_eq!(parsed.spec.session_sticky, Some(true));
    assert!(!parsed.spec.is_exposed());
}

#[test]
fn every_fairway_key_is_read() {
    let parsed = parse([
        ("fairway.enable", "true"),
        ("fairway.project", "shop"),
        ("fairway.service", "web"),
        ("fairway.version", "v1.2_rc-3"),
        ("fairway.weight", "0"),
        ("fairway.network", "front_net"),
        ("fairway.zone", "b"),
        ("fairway.dns", "weighted"),
        ("fairway.protocol", "h2c"),
        ("fairway.proxy_protocol", "v2"),
        ("fairway.balance", "hash:cookie:sid"),
        ("fairway.timeout.connect", "500ms"),
        ("fairway.timeout.first_byte", "3s"),
        ("fairway.timeout.idle", "1m"),
        ("fairway.timeout.total", "1h30m"),
        ("fairway.retries", "0"),
        ("fairway.outlier", "false"),
        ("fairway.drain", "0s"),
        ("fairway.in_flight_max", "50"),
        ("fairway.split_by", "client-ip"),
        ("fairway.match", "header:x-group=beta; client:10.1.0.0/16"),
        ("fairway.hedge", "p95"),
        ("fairway.tls.passthrough", " DB.company.com; *.mail.company.com;;db.company.com. "),
        ("fairway.tls.server_name", "Web.Internal"),
        ("fairway.tls.verify", "false"),
        ("fairway.body_max", "10m"),
    ]);
    assert_eq!(parsed.problems, []);
    let want = ServiceSpec {
        enable: Some(true),
        project: Some("shop".into()),
        service: Some("web".into()),
        version: Some("v1.2_rc-3".parse().expect("a version")),
        weight: Some(crate::names::Weight::ZERO),
        network: Some("front_net".into()),
        zone: Some("b".into()),
        dns_weighted: true,
        passthrough: Some(Passthrough::Hosts(vec![
            Host::Exact("db.company.com".into()),
            Host::Wildcard("mail.company.com".into()),
        ])),
        transport: Transport {
            protocol: Some(Protocol::H2c),
            proxy_protocol: Some(ProxyProtocol::V2),
            balance: Some(Balance::Hash(ClientKey::Cookie("sid".into()))),
            connect_timeout: Some(Duration::from_millis(500)),
            first_byte_timeout: Some(Duration::from_secs(3)),
            idle_timeout: Some(Duration::from_secs(60)),
            total_timeout: Some(Duration::from_secs(5400)),
            retries: Some(0),
            outlier: Some(false),
            drain: Some(Duration::ZERO),
            in_flight_max: Some(50),
            split_by: Some(SplitBy::Client(ClientKey::Ip)),
            matches: vec![
                MatchRule::Header("x-group".into(), "beta".into()),
                MatchRule::Client("10.1.0.0/16".parse().expect("a network")),
            ],
            hedge: Some(Hedge::P95),
            tls_server_name: Some("web.internal".into()),
            tls_verify: Some(false),
            body_max: Some(10 * 1024 * 1024),
        },
        has_own_labels: true,
        ..ServiceSpec::default()
    };
    assert_eq!(parsed.spec, want);
}

#[test]
fn passthrough_is_for_all_routes_for_some_hosts_or_for_none() {
    let read = |value| {
        let parsed = parse([("fairway.tls.passthrough", value)]);
        (parsed.spec.passthrough, parsed.problems.len())
    };
    assert_eq!(read("true"), (Some(Passthrough::Routes), 0));
    assert_eq!(read("false"), (None, 0));
    let host = Passthrough::Hosts(vec![Host::Exact("a.com".into())]);
    assert_eq!(read("a_b.com; https://a.com; c"), (Some(host), 2), "a bad one removes no good one");
    let many: String = (0..300).map(|n| format!("h{n}.company.com;")).collect();
    let (Some(Passthrough::Hosts(hosts)), 1) = read(&many) else {
        panic!("as many as there may be, and a problem")
    };
    assert_eq!(hosts.len(), 256);
}

#[test]
fn no_listed_fairway_key_is_left_unread() {
    for name in FAIRWAY {
        let key = format!("fairway.{name}");
        let problems = parse([(key.as_str(), "?? no value of any key ??")]).problems;
        assert!(problems.iter().any(|problem| problem.key == key), "{key}");
        assert!(problems.iter().all(|problem| problem.kind != "label-unknown-key"), "{key}");
    }
}

#[test]
fn bad_fairway_values_have_a_kind_and_a_remedy() {
    for (key, value, kind, advice) in [
        ("fairway.enable", "yes", "label-not-boolean", "`true` or `false`"),
        ("fairway.project", "a/b", "label-not-a-name", "A-Z a-z"),
        ("fairway.version", "v 1", "label-version", "1 to 64"),
        ("fairway.weight", "1001", "label-weight", "0 to 1000"),
        ("fairway.weight", "-1", "label-weight", "0 to 1000"),
        ("fairway.weight", "0.5", "label-weight", "0 to 1000"),
        ("fairway.dns", "weighed", "label-dns", "`weighted`"),
        ("fairway.protocol", "http2", "label-protocol", "`http1`"),
        ("fairway.tls.passthrough", "yes", "label-https-prefix", "`yes.company.com`"),
        ("fairway.tls.passthrough", ";", "label-no-entry", "`true`"),
        ("fairway.tls.passthrough", "a.com:443", "label-port-in-host", "`a.com`"),
        ("fairway.tls.passthrough", "a.com/x", "label-host-character", "letters"),
        ("fairway.tls.passthrough", "${HOST}", "label-unresolved-variable", "value"),
        ("fairway.proxy_protocol", "true", "label-proxy-protocol", "`v1`, `v2`"),
        ("fairway.tls.server_name", "*.internal", "label-server-name", "`web.internal`"),
        ("fairway.tls.server_name", "web:443", "label-server-name", "without port"),
        ("fairway.tls.verify", "off", "label-not-boolean", "`true` or `false`"),
        ("fairway.timeout.connect", "5", "label-not-a-duration", "`5s`"),
        ("fairway.timeout.idle", "0s", "label-duration-out-of-range", "from 1ms"),
        ("fairway.retries", "11", "label-not-a-number", "0 to 10"),
        ("fairway.drain", "25h", "label-duration-out-of-range", "24h"),
        ("fairway.hedge", "p99", "label-not-a-duration", "`p95`"),
        ("fairway.match", "x", "label-match", "`header:NAME=VALUE`"),
        ("fairway.match", "", "label-match", "leave it out"),
        ("aliyun.scale", "two", "label-not-a-number", "whole number"),
        ("aliyun.probe.timeout_seconds", "0", "label-not-a-number", "from 1"),
        ("aliyun.lb.port_80", "slb:80", "label-lb-form", "`tcp://NAME:FRONT_PORT`"),
        ("aliyun.depends", "a b", "label-not-a-name", "A-Z a-z"),
    ] {
        let problem = only_problem(key, value);
        assert_eq!(problem.kind, kind, "{key}: {value}");
        assert!(problem.remedy.contains(advice), "{key}: {value}: {}", problem.remedy);
        assert!(!parse([(key, value)]).spec.is_exposed(), "{key}: {value}");
    }
}

#[test]
fn what_exposes_a_container_and_what_does_not() {
    for (labels, want) in [
        (vec![("aliyun.routing.port_80", "a")], true),
        (vec![("aliyun.lb.port_80", "tcp://x:80")], true),
        (vec![("aliyun.probe.cmd", "true")], true),
        (vec![("fairway.enable", "true")], true),
        (vec![("fairway.weight", "5")], true),
        (vec![("fairway.enable", "false")], false),
        (vec![("fairway.enable", "false"), ("aliyun.routing.port_80", "a")], false),
        (vec![("fairway.enable", "nope"), ("aliyun.routing.port_80", "a")], true),
        (vec![("aliyun.scale", "2")], false),
        (vec![("aliyun.routing.port_80", "a_b")], false),
        (vec![("fairway.wieght", "5")], false),
        (vec![], false),
    ] {
        assert_eq!(parse(labels.clone()).spec.is_exposed(), want, "{labels:?}");
    }
}

#[test]
fn problems_come_in_key_order_whatever_the_order_of_the_labels() {
    let mut labels = [
        ("fairway.weight", "x"),
        ("aliyun.routing.port_80", "a_b;good;c_d"),
        ("aliyun.probe.cmd", "true"),
        ("aliyun.probe.url", "tcp://container:1"),
        ("aliyun.routing.port_8080", "x?y"),
        ("aliyun.routing.port_80", "z"),
    ];
    let forward = parse(labels.iter().copied());
    labels.reverse();
    assert_eq!(parse(labels.iter().copied()), forward);
    let told: Vec<_> = forward.problems.iter().map(|p| (p.key.as_str(), p.value.as_str(), p.kind)).collect();
    assert_eq!(
        told,
        [
            ("aliyun.probe.cmd", "true", "label-two-probes"),
            ("aliyun.routing.port_80", "a_b", "label-underscore"),
            ("aliyun.routing.port_80", "c_d", "label-underscore"),
            ("aliyun.routing.port_80", "z", "label-duplicate-key"),
            ("aliyun.routing.port_8080", "x?y", "label-query"),
            ("fairway.weight", "x", "label-weight"),
        ]
    );
}

#[test]
fn sizes_are_bounded_and_messages_escaped() {
    let problem = only_problem("aliyun.routing.port_80", &"x".repeat(VALUE_BYTES_MAX + 1));
    assert_eq!(problem.kind, "label-too-long");
    assert!(problem.value.len() < 200);
    let problem = only_problem("aliyun.routing.port_80", "a.com/\u{1b}[2J\nfake log line");
    for text in [&problem.value, &problem.text, &problem.remedy] {
        assert!(!text.contains(['\u{1b}', '\n']), "{text}");
    }
    let keys: Vec<String> = (0..1000).map(|i| format!("aliyun.bogus{i:04}")).collect();
    let parsed = parse(keys.iter().map(|key| (key.as_str(), "")));
    assert_eq!(parsed.problems.len(), PROBLEMS_MAX);
    assert!(parsed.problems.last().is_some_and(|p| p.text.contains("more problems")));
}

fn any_key() -> impl Strategy<Value = String> {
    let families = "(aliyun|fairway)\\.[a-z._0-9]{0,20}";
    let known = prop::sample::select(vec![
        "aliyun.routing.port_80",
        "aliyun.routing.session_sticky",
        "aliyun.lb.port_1",
        "aliyun.probe.url",
        "aliyun.probe.cmd",
        "aliyun.probe.timeout_seconds",
        "aliyun.depends",
        "fairway.match",
        "fairway.balance",
        "fairway.timeout.idle",
        "fairway.hedge",
        "fairway.weight",
    ]);
    prop_oneof![families, "(aliyun|fairway)\\.\\PC{0,20}", ".{0,20}", known.prop_map(String::from)]
}

proptest! {
    #[test]
    fn no_label_panics_and_no_control_character_leaves(labels in vec((any_key(), ".{0,40}|\\PC{0,40}"), 0..6)) {
        let parsed = parse(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        for problem in &parsed.problems {
            for text in [&problem.key, &problem.value, &problem.text, &problem.remedy] {
                prop_assert!(!text.chars().any(char::is_control), "{:?}", problem);
            }
            prop_assert!(!problem.text.is_empty() && !problem.remedy.is_empty());
        }
    }

    #[test]
    fn a_bad_label_never_removes_a_good_one(labels in vec((any_key(), "\\PC{0,40}"), 0..6)) {
        prop_assume!(labels.iter().all(|(key, _)| key != "aliyun.routing.port_443"));
        let good = ("aliyun.routing.port_443", "good.company.com");
        let all = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).chain([good]);
        let parsed = parse(all);
        prop_assert!(parsed.spec.ports.iter().any(|claim| claim.port == 443));
    }
}
