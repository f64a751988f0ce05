//! Fairway in a container of the engine that it watches: which of an instance's addresses it takes.

use std::path::Path;

use fairway_testkit::wait::{PATIENCE, until};
use fairway_testkit::{ContainerOptions, Engine, Image, Request};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// Where the folder of the engine's socket is in the container; Fairway puts its own there, too.
const ENGINE: &str = "/engine";

#[tokio::test(flavor = "multi_thread")]
async fn in_a_container_of_the_engine_its_own_networks_come_first() {
    let engine = Engine::start().await;
    engine.origin_image("origin:v1").await;
    let files: &[(&str, &Path)] = &[("fairway", Path::new(BINARY))];
    let (docker, admin) = (format!("unix://{ENGINE}/docker.sock"), format!("unix:{ENGINE}/admin.sock"));
    let entrypoint = &[
        "/fairway",
        "run",
        "--docker",
        &docker,
        "--admin",
        &admin,
        "--state-dir",
        "/tmp",
        "--http",
        "0.0.0.0:8080",
        "--dns",
        "127.0.0.1:5300",
    ];
    engine.image(Image { name: "fairway:v1", files, entrypoint, ..Image::default() }).await;
    for name in ["a", "b", "c"] {
        engine.network(name).await;
    }
    let folder = engine.socket().parent().expect("a socket is in a folder").to_path_buf();
    let mounts = json!({ "HostConfig": { "Binds": [format!("{}:{ENGINE}", folder.display())] } });
    let proxy = ContainerOptions {
        name: "proxy",
        image: "fairway:v1",
        networks: &["c"],
        more: Some(&mounts),
        ..ContainerOptions::default()
    };
    let proxy = engine.run(proxy).await;
    for (name, networks) in [("web", &["a", "b", "c"][..]), ("far", &["b", "a"]), ("bare", &["host"])] {
        let labels = &[("aliyun.routing.port_80", "shop.local")];
        // Nobody asks them anything, and in the host's network others may have port 80.
        let env = &["PORT=0"];
        let options =
            ContainerOptions { name, image: "origin:v1", labels, networks, env, ..Default::default() };
        engine.run(options).await;
    }
    let socket = folder.join("admin.sock");
    let told = async |name: &str, what: &str| {
        let look = async || {
            let list =
                Request::get("localhost", "/api/v1/instances").try_send_to_socket(&socket).await.ok()?.json();
            let is_it = |item: &&Value| item["name"] == name && item["address_reason"] == what;
            list["items"].as_array()?.iter().find(is_it).cloned()
        };
        until(format!("{name}: {what}"), PATIENCE, look).await
    };
    let web = told("web", "network c: shared with the proxy (also in a, b)").await;
    let address = web["address"].as_str().and_then(|address| address.split(':').next()).unwrap_or_default();
    let subnet = engine.api().get("/networks/c").await["IPAM"]["Config"][0].clone();
    let gateway = subnet["Gateway"].as_str().expect("a gateway").to_owned();
    let of_subnet = |address: &str| address.rsplit_once('.').map(|(start, _)| start.to_owned());
    assert_eq!(of_subnet(address), of_subnet(&gateway), "{web}");
    told("far", "network a: first by name, none is known to be reachable (also in b)").await;
    let bare = told("bare", "host network: the address of its node").await;
    assert_eq!(bare["address"], format!("{gateway}:80"));
    proxy.connect("b").await;
    told("far", "network b: shared with the proxy (also in a)").await;
}
