//! The main job on a real Docker engine: containers come, serve, are asked for by name, and go.

use fairway_testkit::{
    Container, ContainerOptions, Engine, Fairway, FairwayOptions, Health, Image, Request, dns,
};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

async fn engine() -> Engine {
    let engine = Engine::start().await;
    engine.origin_image("web:v1").await;
    engine.tag("web:v1", "web:v2").await;
    engine
}

async fn fairway(engine: &Engine) -> Fairway {
    let fairway = FairwayOptions::new(BINARY).docker(engine.url()).start().await;
    fairway.ready().await;
    fairway
}

/// A container of the web service.
async fn web(engine: &Engine, name: &str, image: &str, labels: &[(&str, &str)]) -> Container {
    let version = format!("VERSION={}", image.rsplit(':').next().unwrap_or_default());
    let mut all = vec![("fairway.service", "web"), ("aliyun.probe.url", "http://container/health")];
    all.extend(labels);
    engine.run(ContainerOptions { name, image, labels: &all, env: &[&version], ..Default::default() }).await
}

/// Keys and values.
type Labels<'a> = &'a [(&'a str, &'a str)];

const SHOP: (&str, &str) = ("aliyun.routing.port_80", "shop;shop.local;http://shop.company.com/context");

fn problems_of<'a>(problems: &'a [Value], subject: &str) -> Vec<&'a str> {
    problems.iter().filter(|p| p["subject"] == subject).filter_map(|p| p["type"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_routed_named_and_gone_again() {
    let engine = engine().await;
    let fairway = fairway(&engine).await;
    assert_eq!(fairway.get("shop.localhost", "/").await.status, 404, "no such route yet");

    let one = web(&engine, "web-1", "web:v1", &[SHOP]).await;
    fairway.instances_ready("web@v1", 1).await;
    for (host, path) in
        [("shop.localhost", "/"), ("SHOP.localhost.", "/x"), ("shop.company.com", "/context/a?b=c")]
    {
        let answer = fairway.get(host, path).await.ok(host).json();
        assert_eq!(answer["instance"], one.short_id(), "{host}{path}");
        assert_eq!(answer["path"].as_str().map(|p| p.split('?').next().unwrap_or(p)), path.split('?').next());
    }
    assert_eq!(fairway.get("shop.company.com", "/contexts").await.status, 404, "whole segments only");
    assert_eq!(fairway.get("shop.local", "/").await.status, 200, "loopback is internal");

    // Names: the routed one is the proxy, the service and the container are the instance itself.
    let address = one.address().await.to_string();
    for (name, want) in [
        ("shop.local", "127.0.0.1"),
        ("shop.internal", "127.0.0.1"),
        ("web.local", address.as_str()),
        ("web-1.local", address.as_str()),
        ("v1.web.none.local", ""),
    ] {
        let answer = dns::ask(fairway.dns(), name, "A").await;
        let found: Vec<String> = answer.addresses().iter().map(ToString::to_string).collect();
        let want: Vec<String> = if want.is_empty() { vec![] } else { vec![want.to_owned()] };
        assert_eq!(found, want, "{name}");
    }

    one.stop().await;
    fairway.wait_until("no instance", "/api/v1/instances", |list| list["items"] == json!([])).await;
    let answer = fairway.get("shop.localhost", "/").await;
    assert_eq!(answer.status, 503, "the route outlives its last container for a while");
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(answer.header("content-type"), "application/problem+json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_held_for_the_next_container_of_its_route() {
    let engine = engine().await;
    let fairway = fairway(&engine).await;
    let one = web(&engine, "web-1", "web:v1", &[SHOP]).await;
    fairway.instances_ready("web@v1", 1).await;
    one.kill("KILL").await;
    fairway.wait_until("no instance", "/api/v1/instances", |list| list["items"] == json!([])).await;
    let (answer, two) =
        tokio::join!(fairway.get("shop.localhost", "/"), web(&engine, "web-2", "web:v1", &[SHOP]));
    assert_eq!(answer.ok("held").json()["instance"], two.short_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_share_a_route_by_exact_weights_that_survive_kill_9() {
    let engine = engine().await;
    let mut fairway = fairway(&engine).await;
    web(&engine, "web-1", "web:v1", &[SHOP]).await;
    web(&engine, "web-2", "web:v2", &[SHOP]).await;
    fairway.instances_ready("web@v1", 1).await;
    fairway.instances_ready("web@v2", 1).await;

    let counts = async |fairway: &Fairway| {
        let mut counts = [0, 0];
        for _ in 0..200 {
            let version = fairway.get("shop.localhost", "/").await.ok("shop").json()["version"].clone();
            counts[usize::from(version == "v2")] += 1;
        }
        counts
    };
    let [v1, v2] = counts(&fairway).await;
    assert!((60..=140).contains(&v2), "equal shares: {v1} {v2}");

    let answer =
        fairway.put_split("shop.localhost/", &json!({"weights": {"v1": 100, "web@v2": 0}})).await.ok("split");
    assert_eq!(answer.json()["split"]["layer"], "api");
    assert_eq!(counts(&fairway).await, [200, 0], "a written 0 holds from the answer on");

    fairway.kill9().await;
    fairway.restart().await;
    fairway.ready().await;
    fairway.instances_ready("web@v2", 1).await;
    fairway.instances_ready("web@v1", 1).await;
    assert_eq!(counts(&fairway).await, [200, 0], "the same after kill -9");

    let cleared = fairway.admin("DELETE", "/api/v1/routes/shop.localhost%2F/split", None).await.ok("clear");
    assert_eq!(cleared.json()["split"], Value::Null);
    let [_, v2] = counts(&fairway).await;
    assert!(v2 > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_calls_another_by_its_local_name_through_our_dns() {
    let engine = engine().await;
    let network = engine.network("front").await;
    let gateway = network.gateway.expect("a gateway").to_string();
    let fairway = FairwayOptions::new(BINARY)
        .docker(engine.url())
        .http(format!("{gateway}:80"))
        .dns(format!("{gateway}:53"))
        .start()
        .await;
    fairway.ready().await;
    let run = async |name: &'static str, labels: &[(&str, &str)]| {
        let (networks, dns): (&[&str], &[&str]) = (&["front"], &[&gateway]);
        engine
            .run(ContainerOptions { name, image: "web:v1", labels, networks, dns, ..Default::default() })
            .await
    };
    let callee = run("callee", &[("aliyun.routing.port_80", "callee.local")]).await;
    run("caller", &[("aliyun.routing.port_80", "caller")]).await;
    fairway.instances_ready("callee", 1).await;
    fairway.instances_ready("caller", 1).await;
    fairway.answers("caller.localhost", "/", 200).await;
    fairway.answers("callee.local", "/", 200).await;
    let answer = fairway.get("caller.localhost", "/call?url=http://callee.local/").await.ok("call").text();
    assert!(answer.contains(callee.short_id()), "{answer}");
    // By the name of its container it is reached directly.
    let answer = fairway.get("caller.localhost", "/call?url=http://callee.internal/").await.ok("call").text();
    assert!(answer.contains(callee.short_id()), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_container_gets_nothing_new_and_finishes_what_runs() {
    let engine = engine().await;
    let fairway = fairway(&engine).await;
    let one = web(&engine, "web-1", "web:v1", &[SHOP]).await;
    web(&engine, "web-2", "web:v1", &[SHOP]).await;
    fairway.instances_ready("web@v1", 2).await;
    fairway
        .admin("PUT", "/api/v1/instances/web-2/state", Some(&json!({"state": "draining"})))
        .await
        .ok("drain");
    let slow = async { fairway.get("shop.localhost", "/slow?ms=1500").await };
    let stop = async {
        let busy = |i: &Value| i["name"] == "web-1" && i["in_flight"].as_u64() > Some(0);
        fairway
            .wait_until("the request in flight", "/api/v1/instances", |list| {
                list["items"].as_array().is_some_and(|items| items.iter().any(busy))
            })
            .await;
        fairway
            .admin("PUT", "/api/v1/instances/web-2/state", Some(&json!({"state": "active"})))
            .await
            .ok("activate");
        tokio::join!(one.stop(), async {
            let stopping = |i: &Value| i["name"] == "web-1" && i["condition"] == "stopping";
            fairway
                .wait_until("stopping", "/api/v1/instances", |list| {
                    list["items"].as_array().is_some_and(|items| items.iter().any(stopping))
                })
                .await;
            for _ in 0..50 {
                let answer = fairway.get("shop.localhost", "/").await.ok("elsewhere").json();
                assert_ne!(answer["instance"], one.short_id());
            }
            let names = dns::ask(fairway.dns(), "web.local", "A").await.addresses();
            assert_eq!(names.len(), 1, "a stopping instance is in no answer");
        });
    };
    let (slow, ()) = tokio::join!(slow, stop);
    assert_eq!(slow.ok("the slow request ends whole").json()["instance"], one.short_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_rename_and_networks_are_followed() {
    let engine = engine().await;
    let fairway = fairway(&engine).await;
    let one = web(&engine, "web-1", "web:v1", &[SHOP]).await;
    fairway.instances_ready("web-1", 1).await;
    let is = async |name: &'static str, condition: &'static str| {
        let what = format!("{name} {condition}");
        let holds = |i: &Value| i["name"] == name && i["condition"] == condition;
        let any = |list: &Value| list["items"].as_array().is_some_and(|items| items.iter().any(holds));
        fairway.wait_until(&what, "/api/v1/instances", any).await
    };
    one.pause().await;
    is("web-1", "pending").await;
    one.unpause().await;
    is("web-1", "ready").await;
    one.rename("renamed").await;
    is("renamed", "ready").await;
    let answer = dns::ask(fairway.dns(), "renamed.local", "A").await;
    assert_eq!(answer.addresses().len(), 1);

    engine.network("back").await;
    engine.network("db").await;
    one.connect("back").await;
    one.connect("db").await;
    let id = format!("/api/v1/instances/{}%3A80", one.short_id());
    let told = fairway.wait_until("three networks", &id, |i| i.to_string().contains("also in")).await;
    assert_eq!(fairway.get("shop.localhost", "/").await.status, 200, "{told}");
    one.disconnect("bridge").await;
    let reached = |i: &Value| i["address"].as_str().is_some_and(|a| !a.starts_with(&engine.subnet()[..9]));
    let moved = fairway.wait_until("an address in another network", &id, reached).await;
    fairway.instances_ready("renamed", 1).await;
    assert_eq!(fairway.get("shop.localhost", "/").await.status, 200, "{moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_take_a_failing_container_out_of_route_and_dns_and_bring_it_back() {
    let engine = engine().await;
    engine.busybox_image("tools:v1").await;
    let check: &[&str] = &[
        "HEALTHCHECK --interval=200ms --retries=2 CMD [\"/origin\", \"check\", \"http://127.0.0.1/health\"]",
    ];
    let files: &[(&str, &std::path::Path)] = &[("origin", fairway_testkit::programs::origin())];
    let checked = Image {
        name: "checked:v1",
        files,
        entrypoint: &["/origin"],
        instructions: check,
        ..Default::default()
    };
    engine.image(checked).await;
    let fairway = fairway(&engine).await;
    let cases: [(&str, &str, Labels<'_>); 4] = [
        (
            "http",
            "web:v1",
            &[("aliyun.routing.port_80", "http"), ("aliyun.probe.url", "http://container/health")],
        ),
        (
            "cmd",
            "tools:v1",
            &[
                ("aliyun.routing.port_80", "cmd"),
                ("aliyun.probe.cmd", "/bin/origin check http://127.0.0.1/health"),
                ("aliyun.probe.timeout_seconds", "5"),
            ],
        ),
        ("healthcheck", "checked:v1", &[("aliyun.routing.port_80", "healthcheck")]),
        ("tcp", "web:v1", &[("aliyun.routing.port_80", "tcp"), ("aliyun.probe.url", "tcp://container:80")]),
    ];
    for (name, image, labels) in cases {
        let health = (name == "healthcheck").then_some(Health {
            command: &["/origin", "check", "http://127.0.0.1/health"],
            interval_ms: 200,
            retries: 2,
        });
        let container =
            engine.run(ContainerOptions { name, image, labels, health, ..Default::default() }).await;
        fairway.instances_ready(name, 1).await;
        let host = format!("{name}.localhost");
        fairway.answers(&host, "/", 200).await;
        if name == "tcp" {
            continue; // its listener is what the probe sees; it has no failing mode of its own
        }
        let socket = container.socket(80).await;
        let failing = Request::new("POST", "container", "/_health/fail").send(socket).await;
        assert_eq!(failing.status, 503, "it says how it is from now on");
        let id = format!("/api/v1/instances/{}%3A80", container.short_id());
        let told = fairway.wait_until("unhealthy", &id, |i| i["condition"] == "unhealthy").await;
        assert!(!told["reason"].as_str().unwrap_or_default().is_empty(), "{told}");
        let label = format!("{name}.local");
        let answer = dns::ask(fairway.dns(), &label, "A").await;
        assert_eq!(answer.addresses().len(), 0, "{name} has left the DNS");
        Request::new("POST", "container", "/_health/ok").send(socket).await.ok("ok");
        fairway.wait_until("ready again", &id, |i| i["condition"] == "ready").await;
        assert_eq!(fairway.get(&host, "/").await.status, 200, "{name} is back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_cannot_be_used_are_told_and_cost_no_good_route() {
    let engine = engine().await;
    let fairway = fairway(&engine).await;
    let cases: [(&str, &str, &str); 9] = [
        ("port", "aliyun.routing.port_80", "good;a.com:8080"),
        ("comma", "aliyun.routing.port_80", "good;http://a.com,http://b.com"),
        ("variable", "aliyun.routing.port_80", "good;http://$DOMAIN"),
        ("placeholder", "aliyun.routing.port_80", "good;http://{YOUR_DOMAIN_NAME}"),
        ("markdown", "aliyun.routing.port_80", "good;[http://wordpress](http://wordpress)"),
        ("ip", "aliyun.routing.port_80", "good;10.0.0.1"),
        ("underscore", "aliyun.routing.port_80", "good;my_shop.com"),
        ("httpsprefix", "aliyun.routing.port_80", "good;https://prefix"),
        ("tcp", "aliyun.routing.port_80", "good;tcp://name:80"),
    ];
    for (name, key, value) in cases {
        let value = value.replace("good", &format!("good-{name}"));
        let labels =
            [(key, value.as_str()), ("aliyun.routing.port_http", "x"), ("aliyun.routing.prot_80", "x")];
        engine.run(ContainerOptions { name, image: "web:v1", labels: &labels, ..Default::default() }).await;
        fairway.instances_ready(name, 1).await;
        // Without a probe it counts from its start, a moment before it listens.
        fairway.answers(&format!("good-{name}.localhost"), "/", 200).await;
        let problems = fairway.list("problems").await;
        assert!(problems_of(&problems, name).len() >= 3, "{name}: {problems:?}");
        let entry =
            problems.iter().find(|p| p["subject"] == name && p["key"] == key).expect("the entry's problem");
        for field in ["type", "severity", "value", "text", "remedy", "since"] {
            assert!(!entry[field].as_str().unwrap_or_default().is_empty(), "{field} of {entry}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projects_that_claim_one_host_do_not_mix() {
    let engine = engine().await;
    let fairway = fairway(&engine).await;
    let first = web(&engine, "first", "web:v1", &[SHOP, ("fairway.project", "one")]).await;
    fairway.instances_ready("first", 1).await;
    web(&engine, "second", "web:v1", &[SHOP, ("fairway.project", "two")]).await;
    fairway.instances_ready("second", 1).await;
    for _ in 0..20 {
        assert_eq!(fairway.get("shop.localhost", "/").await.json()["instance"], first.short_id());
    }
    let problems = fairway.list("problems").await;
    assert!(problems_of(&problems, "second").contains(&"route-owned-elsewhere"), "{problems:?}");
    let told = problems.iter().find(|p| p["type"] == "route-owned-elsewhere").expect("the problem");
    assert!(told["text"].as_str().is_some_and(|text| text.contains("one")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_exits_at_once_and_one_on_the_host_network_do_no_harm() {
    let engine = engine().await;
    let fairway = fairway(&engine).await;
    let labels = &[("aliyun.routing.port_80", "brief")];
    let args: &[&str] = &["check", "http://127.0.0.1:1/"];
    let brief = ContainerOptions { name: "brief", image: "web:v1", labels, args, ..Default::default() };
    engine.run(brief).await.wait().await;
    let host = ContainerOptions {
        name: "host",
        image: "web:v1",
        labels: &[("aliyun.routing.port_18099", "host")],
        env: &["PORT=18099"],
        networks: &["host"],
        ..Default::default()
    };
    engine.run(host).await;
    let items = fairway.instances_ready("host", 1).await;
    let address = items[0]["address"].as_str().unwrap_or_default();
    assert!(
        !address.starts_with("127.") && address.ends_with(":18099"),
        "the node's address, never loopback: {address}"
    );
    fairway.answers("host.localhost", "/", 200).await;
    assert!(fairway.list("instances").await.iter().all(|i| i["name"] != "brief"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_service_shares_a_route_with_a_container_and_is_moved_over_by_weight() {
    let engine = engine().await;
    let legacy =
        fairway_testkit::origin::Origin::start(fairway_testkit::origin::Identity::new("legacy", "old")).await;
    let config = format!(
        "[[service]]\nname = \"legacy-shop\"\nversion = \"old\"\nroutes = [\"shop\"]\ninstances = [\"{}\"]\n\
         probe = {{ url = \"http://container/health\" }}\n",
        legacy.address()
    );
    let config =
        config.replace("http://container/", &format!("http://container:{}/", legacy.address().port()));
    let fairway = FairwayOptions::new(BINARY).docker(engine.url()).config(config).start().await;
    fairway.ready().await;
    fairway.instances_ready("legacy-shop@old", 1).await;
    assert_eq!(fairway.get("shop.localhost", "/").await.ok("legacy").json()["instance"], "legacy");
    let new = web(&engine, "web-1", "web:v2", &[SHOP]).await;
    fairway.instances_ready("web@v2", 1).await;
    let weights = json!({"weights": {"legacy-shop@old": 0, "web@v2": 100}});
    fairway.put_split("shop.localhost/", &weights).await.ok("split");
    for _ in 0..50 {
        assert_eq!(fairway.get("shop.localhost", "/").await.json()["instance"], new.short_id());
    }
}
