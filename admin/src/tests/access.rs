//! Who may ask, and where it listens.

use std::os::unix::fs::PermissionsExt;

use fairway_config::file::{Admin, AdminListen};
use serde_json::json;

use super::world::*;
use crate::BindError;

fn listening(listen: AdminListen) -> Plan {
    Plan { admin: Admin { listen, ..loopback() }, ..Plan::default() }
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_misdirected() {
    let (world, _folder) = World::new().await;
    for host in ["localhost:9900", "127.0.0.1", "[::1]:1", "admin.company.com"] {
        assert_eq!(world.send("GET", "/livez", &[("host", host)], "").await.status, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "company.com"] {
        world.send("GET", "/livez", &[("host", host)], "").await.refused(421, "host-not-allowed");
    }
}

#[tokio::test]
async fn a_browser_on_another_site_can_neither_order_nor_read() {
    let (world, _folder) = World::new().await;
    let order = json!({"state": "disabled"});
    for field in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let answer = world.put_with("/api/v1/backends/v1/state", &order, &[field]).await;
        answer.refused(403, "cross-origin");
        world.send("GET", "/api/v1/status", &[field], "").await.refused(403, "cross-origin");
    }
    // A form needs no leave of ours to be sent; it cannot be JSON.
    let form = [("content-type", "text/plain")];
    world.send("PUT", "/api/v1/backends/v1/state", &form, &order.to_string()).await.refused(415, "not-json");
    assert!(world.inputs.current().decisions.states.is_empty());
    let own = [("origin", "http://localhost"), ("sec-fetch-site", "same-origin")];
    let answer = world.put_with("/api/v1/backends/v1/state", &order, &own).await;
    assert_eq!(answer.status, 200, "our own page: {}", answer.body);
}

#[tokio::test]
async fn a_get_never_changes_anything_and_a_wrong_method_says_which_are_right() {
    let (world, _folder) = World::new().await;
    for (path, allow) in [
        ("/api/v1/routes/shop.company.com/split", "PUT,DELETE"),
        ("/api/v1/backends/v1/state", "PUT"),
        ("/api/v1/instances/c1/state", "PUT"),
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.field("allow"), allow, "{}", answer.head);
        answer.refused(405, "method-not-allowed");
    }
    let answer = world.send("POST", "/api/v1/routes", &[], "").await;
    assert_eq!(answer.field("allow"), "GET,HEAD");
    world.send("OPTIONS", "/api/v1/routes", &[], "").await.refused(405, "method-not-allowed");
    let head = world.send("HEAD", "/api/v1/routes", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(world.inputs.current().decisions.states.is_empty());
}

#[tokio::test]
async fn what_is_not_built_is_404() {
    let (world, _folder) = World::new().await;
    for path in ["/api/v1/topology", "/api/v1", "/api/v2/routes", "/favicon.ico"] {
        world.get(path).await.refused(404, "unknown-path");
    }
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_token() {
    let folder = folder();
    let anywhere = AdminListen::Tcp(([0, 0, 0, 0], 0).into());
    let refused = World::try_start(listening(anywhere.clone()), folder.path()).await.err();
    assert!(matches!(refused, Some(BindError::TokenRequired { .. })), "{refused:?}");

    let token_file = folder.path().join("token");
    let mut plan = listening(anywhere);
    plan.admin.token_file = Some(token_file.clone());
    let missing = World::try_start(plan, folder.path()).await.err();
    assert!(matches!(missing, Some(BindError::Token(_))), "{missing:?}");
}

#[tokio::test]
async fn a_token_is_asked_of_everybody_but_those_who_watch_the_process() {
    let folder = folder();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "s3cret\n").expect("write");
    let mut plan = Plan::default();
    plan.admin.token_file = Some(token_file.clone());
    let world = World::start(plan, folder.path()).await;
    let answer = world.get("/api/v1/routes").await;
    assert!(answer.field("www-authenticate").starts_with("Bearer"));
    answer.refused(401, "unauthorized");
    for path in ["/", "/metrics", "/openapi.json", "/api/v1/nothing"] {
        world.get(path).await.refused(401, "unauthorized");
    }
    for path in ["/livez", "/readyz", "/readyz?verbose"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
    let with = async |token: &str| {
        world.send("GET", "/api/v1/routes", &[("authorization", &format!("Bearer {token}"))], "").await.status
    };
    assert_eq!(with("s3cret").await, 200);
    assert_eq!(with("s3creT").await, 401);
    std::fs::write(&token_file, "another").expect("write");
    assert_eq!((with("s3cret").await, with("another").await), (401, 200));
}

#[tokio::test]
async fn a_unix_socket_serves_its_owner_and_goes_with_the_process() {
    let folder = folder();
    let path = socket(&folder);
    // A process that was killed leaves its socket's name behind.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let world = World::start(listening(AdminListen::Unix(path.clone())), folder.path()).await;
    assert_eq!(world.running.address(), format!("unix:{}", path.display()));
    let mode = std::fs::metadata(&path).expect("the socket").permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let answer = world.send("GET", "/api/v1/status", &[("host", "fairway")], "").await;
    assert_eq!(answer.status, 200, "no browser reaches a socket: {}", answer.body);
    world.put("/api/v1/backends/v1/state", &json!({"state": "draining"})).await;
    let from = world.read("/api/v1/audit").await["items"][0]["from"].clone();
    assert!(from.as_str().is_some_and(|from| from.starts_with("unix user ")), "{from}");

    let elsewhere = tempfile::tempdir().expect("a folder");
    let second = World::try_start(listening(AdminListen::Unix(path.clone())), elsewhere.path()).await.err();
    assert!(matches!(second, Some(BindError::InUse { .. })), "{second:?}");
    world.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_port_in_use_and_a_folder_that_is_missing_are_told() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let refused = World::try_start(listening(AdminListen::Tcp(address)), folder.path()).await.err();
    assert!(matches!(refused, Some(BindError::InUse { .. })), "{refused:?}");
    let text = refused.expect("asserted above").to_string();
    assert!(text.contains(&address.to_string()) && text.contains("--admin"), "{text}");
    let nowhere = AdminListen::Unix(folder.path().join("missing/admin.sock"));
    let refused = World::try_start(listening(nowhere), folder.path()).await.err();
    assert!(matches!(refused, Some(BindError::Other { .. })), "{refused:?}");
}
