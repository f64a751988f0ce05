//! What can be read, in its shapes.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::described::misfit;
use super::world::*;
use crate::types;

#[tokio::test]
async fn a_route_tells_its_weights_shares_and_layer() {
    let (world, _folder) = World::new().await;
    let list = world.read("/api/v1/routes").await;
    let ids: Vec<&str> = items(&list).iter().filter_map(|route| route["id"].as_str()).collect();
    assert_eq!(ids, ["api.local/", "shop.company.com/", "shop.company.com/api", "two.local/"]);
    assert_eq!(list["revision"], world.catalogs.borrow().revision);
    let by_name = world.read("/api/v1/routes/shop.company.com%2F").await;
    assert_eq!(by_name, items(&list)[1], "one and the list agree");
    assert_eq!(world.read("/api/v1/routes/shop.company.com").await, by_name, "no path means /");
    assert_eq!(world.read("/api/v1/routes/SHOP.company.com.").await, by_name);
    let member = |id: &str, desired: Value| json!({"id": id, "weight": null, "share": 0.5, "ready": 1, "desired": desired, "state": "active"});
    let want = json!({
        "id": "shop.company.com/",
        "host": "shop.company.com",
        "path": "/",
        "scheme": "http",
        "etag": "\"none\"",
        "split": null,
        "mirror": null,
        "limits": null,
        "backends": [member("shop/web@v1", Value::Null), member("shop/web@v2", json!(3))],
        "project": "shop",
        "sticky": false,
        "split_by": "request",
        "ends_at": null,
    });
    assert_eq!(by_name, want);
    let answer = world.get("/api/v1/routes/shop.company.com").await;
    assert_eq!(answer.field("etag"), "\"none\"");
    assert_eq!(answer.field("cache-control"), "no-store");
}

#[tokio::test]
async fn an_unknown_route_is_404_and_offers_those_that_are_near() {
    let (world, _folder) = World::new().await;
    let problem = world.get("/api/v1/routes/shop.company.con").await.refused(404, "unknown-route");
    assert_eq!(problem["known"][0], "shop.company.com/", "{problem}");
    let slash = world.get("/api/v1/routes/shop.company.com/api").await.refused(404, "unknown-path");
    assert!(slash["remedy"].as_str().is_some_and(|text| text.contains("%2F")), "{slash}");
    for name in ["%2F", "%20", "a%00b", "*."] {
        world.get(&format!("/api/v1/routes/{name}")).await.refused(404, "unknown-route");
    }
    world.get("/api/v1/routes/%ff").await.refused(400, "bad-path");
}

#[tokio::test]
async fn a_backend_is_found_by_any_part_of_its_name_that_only_it_has() {
    let (world, _folder) = World::new().await;
    let v1 = world.read("/api/v1/backends/v1").await;
    let want = json!({
        "id": "shop/web@v1", "project": "shop", "service": "web", "version": "v1", "routes": ["shop.company.com/"],
        "ready": 1, "desired": null, "state": "active", "ordered": null, "instances": 1, "in_flight": 0,
    });
    assert_eq!(v1, want);
    assert_eq!(world.read("/api/v1/backends/web%40v1").await, want);
    assert_eq!(world.read("/api/v1/backends/shop%2Fweb%40v1").await, want);
    let problem = world.get("/api/v1/backends/v2").await.refused(409, "ambiguous-name");
    assert_eq!(problem["candidates"], json!(["shop/api@v2", "shop/web@v2"]));
    let problem = world.get("/api/v1/backends/web%40v3").await.refused(404, "unknown-backend");
    assert_eq!(problem["known"], json!(["shop/api@v2", "shop/web@v1", "shop/web@v2"]));
    let list = world.read("/api/v1/backends").await;
    assert_eq!(items(&list).len(), 3);
}

#[tokio::test]
async fn an_instance_is_found_by_id_and_a_container_by_its_name() {
    let (world, _folder) = World::new().await;
    let one = world.read(&format!("/api/v1/instances/{}", id(1, 80).replace(':', "%3A"))).await;
    assert_eq!(one["id"], id(1, 80));
    assert_eq!(one["container"], "01".repeat(32));
    for (member, value) in [
        ("name", "c1"),
        ("address", "172.17.0.1:80"),
        ("address_reason", "the only network"),
        ("backend", "shop/web@v1"),
        ("node", "node7"),
        ("zone", "a"),
        ("state", "active"),
        ("condition", "ready"),
    ] {
        assert_eq!(one[member], value, "{one}");
    }
    assert!(one["since"].is_string() && one["reason"].is_string(), "{one}");
    assert_eq!(world.read("/api/v1/instances/c1").await, one, "by name");
    assert_eq!(world.read("/api/v1/instances/010101010101").await, one, "by the id's first digits");
    let pending = world.read("/api/v1/instances/c3").await;
    assert_eq!(pending["condition"], "pending", "its probe has not succeeded yet");
    let both = world.read("/api/v1/instances/c4").await;
    assert_eq!((&both["id"], &both["also"][0]["id"]), (&json!(id(4, 80)), &json!(id(4, 81))));
    let one_port = world.read("/api/v1/instances/c4%3A81").await;
    assert_eq!(one_port["id"], id(4, 81), "by name and port");
    assert!(one_port.get("also").is_none(), "{one_port}");
    let problem = world.get("/api/v1/instances/c").await.refused(404, "unknown-instance");
    assert!(items_of(&problem["known"]).contains(&json!("c1")), "{problem}");
    assert_eq!(items(&world.read("/api/v1/instances").await).len(), 5);
}

#[tokio::test]
async fn a_name_that_two_containers_have_is_ambiguous() {
    let (world, _folder) = World::new().await;
    let mut twin = unit(5, "shop/web@v1", &[("aliyun.routing.port_80", "shop.company.com")]);
    twin.name = "c1".into();
    world.set_units([shop(), vec![twin]].concat()).await;
    let problem = world.get("/api/v1/instances/c1").await.refused(409, "ambiguous-name");
    assert_eq!(problem["candidates"], json!([id(1, 80), id(5, 80)]));
}

#[tokio::test]
async fn health_tells_instances_with_both_fields_and_backends_with_ready_and_desired() {
    let (world, _folder) = World::new().await;
    let health = world.read("/api/v1/health").await;
    assert_eq!(items(&health).len(), 5);
    let first = &items(&health)[0];
    assert_eq!((&first["state"], &first["condition"]), (&json!("active"), &json!("ready")));
    assert_eq!(first["probes"], json!([]));
    let backends = items_of(&health["backends"]);
    let v2 = backends.iter().find(|backend| backend["id"] == "shop/web@v2").expect("it is there");
    assert_eq!((&v2["ready"], &v2["desired"]), (&json!(1), &json!(3)));
    assert_eq!(health["revision"], world.catalogs.borrow().revision);
}

#[tokio::test]
async fn problems_come_with_their_remedy_errors_first() {
    let (world, _folder) = World::new().await;
    world.lose_docker().await;
    let split = json!({"weights": {"v1": 1}});
    world.put("/api/v1/routes/shop.company.com/split", &split).await;
    let list = world.read("/api/v1/problems").await;
    let kinds: Vec<&Value> = items(&list).iter().map(|problem| &problem["type"]).collect();
    assert_eq!(kinds, ["source-unreachable", "backend-not-in-split"]);
    let lost = &items(&list)[0];
    assert_eq!((&lost["severity"], &lost["subject"]), (&json!("error"), &json!(SOURCE)));
    for member in ["key", "value", "text", "remedy", "since"] {
        assert!(lost[member].is_string(), "{member}: {lost}");
    }
}

#[tokio::test]
async fn the_description_of_an_explanation_is_whole_and_fits_what_is_answered() {
    let (world, _folder) = World::new().await;
    world.put("/api/v1/routes/shop.company.com%2F/split", &json!({"weights": {"v1": 1, "v2": 1}})).await;
    let description = world.read("/openapi.json").await;
    let schema = &description["paths"]["/api/v1/explain"]["get"]["responses"]["200"]["content"]["application/json"]
        ["schema"];
    assert_eq!(schema["$ref"], "#/components/schemas/Explanation");
    for path in ["shop.company.com", "shop.company.com/api", "nowhere.com", "shop.company.com/%2e%2e/x"] {
        let explained = world.read(&format!("/api/v1/explain?url={}", path.replace('%', "%25"))).await;
        assert_eq!(misfit(&description, schema, &explained), None, "{path}: {explained}");
        let mut more = explained.clone();
        more["request"]["surprise"] = json!(1);
        assert!(misfit(&description, schema, &more).is_some(), "{more}");
    }
}

#[tokio::test]
async fn explain_tells_the_route_and_the_instance() {
    let (world, _folder) = World::new().await;
    world.put("/api/v1/routes/shop.company.com/split", &json!({"weights": {"v1": 1, "v2": 0}})).await;
    let told = world
        .read("/api/v1/explain?url=http%3A%2F%2FShop.company.com%3A8080%2Fx%3Fy%3D1&header=x%3A%201")
        .await;
    assert_eq!(told["request"]["host"], "shop.company.com");
    assert_eq!((&told["request"]["path"], &told["request"]["internal"]), (&json!("/x"), &json!(true)));
    assert_eq!(
        (&told["route"]["id"], &told["route"]["instance"]),
        (&json!("shop.company.com/"), &json!(id(1, 80)))
    );
    let local = world.read("/api/v1/explain?url=api.local&client=192.0.2.1&method=post").await;
    assert_eq!((&local["status"], &local["request"]["method"]), (&json!(404), &json!("POST")));
    for query in [
        "",
        "?url=",
        "?url=ftp://a.com",
        "?url=http://a.com&client=me",
        "?url=http://a.com&header=x",
        "?url=http://a.com&method=a%20b",
        "?url=a%20b",
    ] {
        world.get(&format!("/api/v1/explain{query}")).await.refused(400, "bad-query");
    }
}

#[tokio::test]
async fn the_status_tells_sources_listeners_store_and_counts() {
    let (world, folder) = World::new().await;
    let status: types::Status =
        serde_json::from_value(world.read("/api/v1/status").await).expect("its own type");
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert!(status.ready && status.settled && !status.draining);
    assert_eq!((status.sources[0].id.as_str(), status.sources[0].units), (SOURCE, 4));
    let listeners: Vec<(&str, &str)> =
        status.listeners.iter().map(|l| (l.kind.as_str(), l.address.as_str())).collect();
    assert_eq!(listeners, [("http", "0.0.0.0:80"), ("admin", world.running.address())]);
    assert_eq!(PathBuf::from(&status.store.path).parent(), Some(folder.path()));
    assert_eq!(status.store.error, None);
    assert_eq!((status.counts.routes, status.counts.instances, status.counts.ready), (4, 5, 4));
}

#[tokio::test]
async fn readiness_waits_for_the_sources_and_ends_with_the_drain_but_not_with_a_lost_source() {
    let folder = folder();
    let world = World::start(Plan { listed: false, ..Plan::default() }, folder.path()).await;
    assert_eq!(world.get("/readyz").await.status, 503);
    assert_eq!(world.get("/livez").await.status, 200);
    world.set_units(shop()).await;
    assert_eq!(world.get("/readyz").await.status, 200);
    world.lose_docker().await;
    let answer = world.get("/readyz?verbose").await;
    assert_eq!(answer.status, 200, "the later loss of a source leaves it ready");
    let ready: types::Ready = serde_json::from_value(answer.json()).expect("its own type");
    let by =
        |name: &str| ready.conditions.iter().find(|c| c.name == name).expect("every condition is listed");
    assert!(!by("source").ok && by("source").detail.contains("no socket"), "{ready:?}");
    assert!(!by("listener").ok && by("store").ok && by("settled").ok && !by("problems").ok, "{ready:?}");
    world.draining.send_replace(true);
    assert_eq!(world.get("/readyz").await.status, 503);
    assert_eq!(world.get("/livez").await.status, 200);
}

#[tokio::test]
async fn metrics_show_the_catalog_and_what_the_parts_count() {
    let (world, _folder) = World::new().await;
    let answer = world.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.field("content-type").starts_with("text/plain"), "{}", answer.head);
    for line in [
        "fairway_instances{backend=\"shop/web@v1\",condition=\"ready\"} 1",
        "fairway_instances{backend=\"shop/web@v1\",condition=\"ejected\"} 0",
        "fairway_instances{backend=\"shop/api@v2\",condition=\"pending\"} 1",
        "fairway_source_up{source=\"unix:///docker.sock\"} 1",
        "fairway_problems{severity=\"error\"} 0",
        "fairway_store_up 1",
    ] {
        assert!(answer.body.lines().any(|have| have == line), "{line} in\n{}", answer.body);
    }
    let revision = format!("fairway_catalog_revision {}", world.catalogs.borrow().revision);
    assert!(answer.body.contains(&revision), "{revision}");
}

#[tokio::test]
async fn the_description_is_openapi_3_1_and_lists_every_path_that_answers() {
    let (world, _folder) = World::new().await;
    let description = world.read("/openapi.json").await;
    assert!(
        description["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")),
        "{}",
        description["openapi"]
    );
    let paths = description["paths"].as_object().expect("paths");
    let want = [
        ("/api/v1/status", "get"),
        ("/api/v1/routes", "get"),
        ("/api/v1/routes/{route}", "get"),
        ("/api/v1/routes/{route}/split", "put"),
        ("/api/v1/routes/{route}/split", "delete"),
        ("/api/v1/releases", "get"),
        ("/api/v1/routes/{route}/release", "get"),
        ("/api/v1/routes/{route}/release", "post"),
        ("/api/v1/routes/{route}/release/confirm", "post"),
        ("/api/v1/routes/{route}/release/rollback", "post"),
        ("/api/v1/routes/{route}/release/pause", "post"),
        ("/api/v1/routes/{route}/release/resume", "post"),
        ("/api/v1/routes/{route}/mirror", "put"),
        ("/api/v1/routes/{route}/mirror", "delete"),
        ("/api/v1/routes/{route}/limits", "get"),
        ("/api/v1/routes/{route}/limits", "put"),
        ("/api/v1/routes/{route}/limits", "delete"),
        ("/api/v1/backends", "get"),
        ("/api/v1/backends/{id}", "get"),
        ("/api/v1/backends/{id}/state", "put"),
        ("/api/v1/instances", "get"),
        ("/api/v1/instances/{id}", "get"),
        ("/api/v1/instances/{id}/state", "put"),
        ("/api/v1/explain", "get"),
        ("/api/v1/problems", "get"),
        ("/api/v1/health", "get"),
        ("/api/v1/events", "get"),
        ("/api/v1/audit", "get"),
        ("/metrics", "get"),
        ("/livez", "get"),
        ("/readyz", "get"),
    ];
    for (path, method) in want {
        assert!(paths.get(path).is_some_and(|item| item[method].is_object()), "{method} {path}");
        let answer = world.get(&path.replace("{route}", "shop.company.com").replace("{id}", "v1")).await;
        assert_ne!(answer.json_type(), "unknown-path", "{path}");
    }
    assert_eq!(paths.len(), 26, "a path without a test: {:?}", paths.keys());
    // Every schema that is referred to is there.
    let text = description.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap_or_default();
        assert!(description["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[tokio::test]
async fn every_operation_of_the_description_has_a_name_of_its_own_and_describes_its_answers() {
    let (world, _folder) = World::new().await;
    let description = world.read("/openapi.json").await;
    let paths = description["paths"].as_object().expect("paths");
    let mut names = std::collections::BTreeSet::new();
    for (method, operation) in paths.values().flat_map(|item| item.as_object().expect("operations")) {
        let name = operation["operationId"].as_str().expect("a name");
        assert!(names.insert(name), "two operations are called {name}");
        for (status, answer) in operation["responses"].as_object().expect("answers") {
            assert!(answer["description"].is_string(), "{method} {name}: {status}");
        }
    }
}

#[tokio::test]
async fn the_page_links_to_paths_that_answer() {
    let (world, _folder) = World::new().await;
    let page = world.get("/").await;
    assert!(page.field("content-type").starts_with("text/html"));
    assert_eq!(page.field("x-content-type-options"), "nosniff");
    let links: Vec<&str> =
        page.body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() > 5, "{links:?}");
    for link in links {
        assert_eq!(world.get(link).await.status, 200, "{link}");
    }
}

#[tokio::test]
async fn a_list_of_one_revision_is_one_catalog() {
    let (world, _folder) = World::new().await;
    let before = world.read("/api/v1/instances").await;
    world.set_units(vec![shop().remove(0)]).await;
    let after = world.read("/api/v1/instances").await;
    assert_eq!((items(&before).len(), items(&after).len()), (5, 1));
    assert!(after["revision"].as_u64() > before["revision"].as_u64());
    let _: types::List<types::Instance> = serde_json::from_value(after).expect("its own type");
}

fn items(list: &Value) -> &[Value] {
    items_of(&list["items"])
}

fn items_of(list: &Value) -> &[Value] {
    list.as_array().expect("a list")
}

impl Answer {
    /// The type of a refusal; empty for another answer.
    fn json_type(&self) -> String {
        let json: Value = serde_json::from_str(&self.body).unwrap_or_default();
        json["type"].as_str().unwrap_or_default().to_owned()
    }
}
