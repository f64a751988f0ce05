//! Splits and states: what is refused, what is promised.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use fairway_config::file::{FileSplit, SplitRoute};
use fairway_config::labels::parse_entry;
use fairway_config::names::Weight;
use fairway_store::FILE_NAME;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::world::*;

const ROUTE: &str = "/api/v1/routes/shop.company.com%2F";
const SPLIT: &str = "/api/v1/routes/shop.company.com%2F/split";

/// Backends and weights of the route, as in `web@v1=1`.
fn weights(route: &Value) -> Vec<String> {
    let members = route["backends"].as_array().expect("backends");
    members
        .iter()
        .map(|member| format!("{}={}", member["id"].as_str().unwrap_or_default(), member["weight"]))
        .collect()
}

#[tokio::test]
async fn a_split_is_live_and_stored_when_it_is_answered() {
    let (world, _folder) = World::new().await;
    let order = json!({"weights": {"web@v1": 95, "v2": 5}, "reason": "first users"});
    // `v2` alone names only one backend of this route, though there are two in the cluster.
    let answer = world.put_with(SPLIT, &order, &[("user-agent", "test/1.0")]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let route = answer.json();
    assert_eq!(weights(&route), ["shop/web@v1=95", "shop/web@v2=5"]);
    assert_eq!(route["backends"][0]["share"], 0.95);
    let split = &route["split"];
    assert_eq!((&split["layer"], &split["author"]), (&json!("api"), &json!("test/1.0")));
    assert_eq!((&split["reason"], &split["expires_at"]), (&json!("first users"), &Value::Null));
    assert_eq!(answer.field("etag"), route["etag"].as_str().expect("an etag"));
    assert_eq!(world.read(ROUTE).await, route);
    let stored = world.store.as_ref().expect("a store").load().expect("load").decisions;
    assert_eq!(stored.splits.len(), 1);
    assert_eq!(stored, *world.inputs.current().decisions);
    let audit = world.read("/api/v1/audit").await;
    let entry = &audit["items"][0];
    assert_eq!((&entry["action"], &entry["who"]), (&json!("put-split"), &json!("test/1.0")));
    assert_eq!((&entry["subject"], &entry["reason"]), (&json!("shop.company.com/"), &json!("first users")));
    assert_eq!(entry["detail"], "shop/web@v1=95 shop/web@v2=5");
    assert!(entry["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{entry}");
}

#[tokio::test]
async fn a_put_replaces_the_whole_split_and_delete_removes_it() {
    let (world, _folder) = World::new().await;
    world.put(SPLIT, &json!({"weights": {"v1": 1, "v2": 1}})).await;
    let route = world.put(SPLIT, &json!({"weights": {"v2": 7}})).await.json();
    assert_eq!(weights(&route), ["shop/web@v1=0", "shop/web@v2=7"]);
    let answer = world.send("DELETE", SPLIT, &[], "").await;
    assert_eq!((answer.status, &answer.json()["split"]), (200, &Value::Null));
    assert_eq!(world.read(ROUTE).await["etag"], "\"none\"");
    assert_eq!(world.send("DELETE", SPLIT, &[], "").await.status, 200, "once more changes nothing");
    let audit = world.read("/api/v1/audit").await;
    let actions: Vec<&Value> =
        audit["items"].as_array().expect("a list").iter().map(|e| &e["action"]).collect();
    assert_eq!(actions, ["delete-split", "put-split", "put-split"]);
    assert_eq!(items(&world.read("/api/v1/audit?limit=1").await), 1);
    world.get("/api/v1/audit?limit=0").await.refused(400, "bad-query");
}

#[tokio::test]
async fn a_split_that_cannot_hold_is_refused_and_changes_nothing() {
    let (world, _folder) = World::new().await;
    for (body, status, kind, says) in [
        (r#"{"weights":{"web@v1":-1,"web@v2":5}}"#, 422, "weight-negative", "web@v1"),
        (r#"{"weights":{"web@v1":0.5,"web@v2":5}}"#, 422, "weight-fractional", "web@v1"),
        (r#"{"weights":{"web@v1":1001}}"#, 422, "weight-too-large", "1000"),
        (r#"{"weights":{"web@v1":"1"}}"#, 422, "weight-not-a-number", "web@v1"),
        (r#"{"weights":{"web@v1":0,"web@v2":0}}"#, 422, "weights-all-zero", "zero"),
        (r#"{"weights":{}}"#, 422, "weights-empty", "DELETE"),
        (r#"{"weights":{"web@v3":1}}"#, 422, "unknown-backend", "web@v3"),
        (r#"{"weights":{"shop/api@v2":1}}"#, 422, "unknown-backend", "shop/api@v2"),
        (r#"{"weights":{"v1":1,"web@v1":1}}"#, 422, "backend-named-twice", "as v1 and as web@v1"),
        (r#"{"weights":{"v1":1,"v1":1}}"#, 422, "backend-named-twice", "shop/web@v1"),
        (r#"{"weights":{"v1":1},"expires_in":"soon"}"#, 422, "bad-expiry", "soon"),
        (r#"{"weights":{"v1":1},"expires_in":"0s"}"#, 422, "bad-expiry", "DELETE"),
        (r#"{"weights":{"v1":1},"expires":"2h"}"#, 422, "bad-order", "expires_in"),
        (r#"{"weights":[1]}"#, 422, "bad-order", "an object of backends"),
        (r#"{"reason":"none"}"#, 422, "bad-order", "weights"),
        (r#"[]"#, 422, "bad-order", "SplitOrder"),
    ] {
        let answer = world.send("PUT", SPLIT, &[("content-type", "application/json")], body).await;
        let problem = answer.refused(status, kind);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{body}: {problem}");
    }
    let known = world.put(SPLIT, &json!({"weights": {"v9": 1}})).await.json();
    assert_eq!(known["known"], json!(["shop/web@v1", "shop/web@v2"]), "those of the route, in full");
    let both = world.put(SPLIT, &json!({"weights": {"v1": -1, "v9": 1}})).await.json();
    assert_eq!(both["errors"].as_array().map(Vec::len), Some(2), "{both}");
    let long = json!({"weights": {"v1": 1}, "reason": "x".repeat(1001)});
    world.put(SPLIT, &long).await.refused(422, "reason-too-long");
    let order = json!({"weights": {"v1": 1}});
    world.put("/api/v1/routes/nowhere.com/split", &order).await.refused(404, "unknown-route");
    world.send("DELETE", "/api/v1/routes/nowhere.com/split", &[], "").await.refused(404, "unknown-route");
    assert_eq!(world.read(ROUTE).await["split"], Value::Null);
    assert_eq!(items(&world.read("/api/v1/audit").await), 0);
}

#[tokio::test]
async fn a_part_of_a_name_that_two_backends_of_the_route_have_is_ambiguous() {
    let (world, _folder) = World::new().await;
    let twin = unit(5, "shop/next@v2", &[("aliyun.routing.port_80", "shop.company.com")]);
    world.set_units([shop(), vec![twin]].concat()).await;
    let problem = world.put(SPLIT, &json!({"weights": {"v2": 1}})).await.refused(409, "ambiguous-name");
    assert_eq!(problem["candidates"], json!(["shop/next@v2", "shop/web@v2"]));
    assert_eq!(world.put(SPLIT, &json!({"weights": {"next@v2": 1}})).await.status, 200);
}

#[tokio::test]
async fn if_match_takes_the_etag_of_the_split_and_no_other() {
    let (world, _folder) = World::new().await;
    let order = json!({"weights": {"v1": 1}});
    let first = world.put_with(SPLIT, &order, &[("if-match", "\"none\"")]).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let etag = first.field("etag").to_owned();
    let problem = world.put_with(SPLIT, &order, &[("if-match", "\"none\"")]).await;
    assert_eq!(problem.field("etag"), etag, "what it is now");
    assert_eq!(problem.refused(412, "split-changed")["etag"], etag);
    // Instances and health do not change it.
    world.set_units(shop()[..3].to_vec()).await;
    assert_eq!(world.read(ROUTE).await["etag"], etag);
    let weak = format!("W/{etag}");
    world.put_with(SPLIT, &order, &[("if-match", &weak)]).await.refused(412, "split-changed");
    let list = format!("\"other\", {etag}");
    assert_eq!(world.put_with(SPLIT, &order, &[("if-match", &list)]).await.status, 200);
    assert_eq!(world.put_with(SPLIT, &order, &[("if-match", "*")]).await.status, 200);
    let delete = world.send("DELETE", SPLIT, &[("if-match", "\"none\"")], "").await;
    delete.refused(412, "split-changed");
    assert_ne!(world.read(ROUTE).await["split"], Value::Null);
}

#[tokio::test]
async fn after_an_expiry_the_split_before_returns() {
    let (world, _folder) = World::new().await;
    world.put(SPLIT, &json!({"weights": {"v1": 30, "v2": 70}, "reason": "a"})).await;
    let route = world.put(SPLIT, &json!({"weights": {"v2": 1}, "expires_in": "300ms"})).await.json();
    assert_eq!(weights(&route), ["shop/web@v1=0", "shop/web@v2=1"]);
    assert!(route["split"]["expires_at"].is_string(), "{route}");
    let back = next_split(&world).await;
    assert_eq!(weights(&back), ["shop/web@v1=30", "shop/web@v2=70"]);
    assert_eq!((&back["split"]["reason"], &back["split"]["expires_at"]), (&json!("a"), &Value::Null));
}

#[tokio::test]
async fn without_a_split_before_the_backends_of_that_time_share_equally_and_later_ones_get_nothing() {
    let (world, _folder) = World::new().await;
    world.put(SPLIT, &json!({"weights": {"v2": 1}, "expires_in": "300ms"})).await;
    let later = unit(5, "shop/web@v3", &[("aliyun.routing.port_80", "shop.company.com")]);
    world.set_units([shop(), vec![later]].concat()).await;
    let back = next_split(&world).await;
    assert_eq!(weights(&back), ["shop/web@v1=100", "shop/web@v2=100", "shop/web@v3=0"]);
    let problems = world.read("/api/v1/problems").await;
    assert_eq!(problems["items"][0]["type"], "backend-not-in-split");
}

#[tokio::test]
async fn after_an_expiry_the_layers_below_hold_again() {
    let folder = folder();
    let mut plan = Plan::default();
    plan.settings.splits = vec![FileSplit {
        route: SplitRoute::Host(parse_entry("shop.company.com").expect("an entry").0),
        weights: [("web@v1".into(), Weight::new(3).expect("a weight"))].into(),
    }];
    let world = World::start(plan, folder.path()).await;
    assert_eq!(world.read(ROUTE).await["split"]["layer"], "file");
    world.put(SPLIT, &json!({"weights": {"v2": 1}, "expires_in": "300ms"})).await;
    let back = next_split(&world).await;
    assert_eq!((&back["split"]["layer"], weights(&back)[0].as_str()), (&json!("file"), "shop/web@v1=3"));
}

#[tokio::test]
async fn an_expiry_within_an_expiry_ends_with_what_holds_then() {
    let (world, _folder) = World::new().await;
    let order = |weight: u64, length: &str| json!({"weights": {"v1": weight, "v2": 1}, "expires_in": length});
    world.put(SPLIT, &json!({"weights": {"v1": 1, "v2": 1}})).await;
    world.put(SPLIT, &order(2, "1h")).await;
    world.put(SPLIT, &order(3, "2h")).await;
    let record = world.inputs.current().decisions.splits.values().next().cloned().expect("a split");
    let then = record.then.expect("something returns");
    assert_eq!(then.expires_at, None, "in 2 h the one of 1 h is over, too");
    for hours in (2..40).rev() {
        let answer = world.put(SPLIT, &order(hours, &format!("{hours}m"))).await;
        if answer.status != 200 {
            answer.refused(409, "too-many-expiries");
            let depth = std::iter::successors(
                world.inputs.current().decisions.splits.values().next().cloned(),
                |record| record.then.as_deref().cloned(),
            );
            assert_eq!(depth.count(), 16);
            return;
        }
    }
    panic!("expiries are not bounded");
}

#[tokio::test]
async fn a_backend_and_an_instance_are_drained_disabled_and_activated() {
    let (world, _folder) = World::new().await;
    let order = |state: &str| json!({"state": state, "reason": "maintenance"});
    let backend = world.put("/api/v1/backends/web%40v2/state", &order("draining")).await;
    assert_eq!((backend.status, &backend.json()["state"]), (200, &json!("draining")));
    assert_eq!(backend.json()["ready"], 0);
    assert_eq!(world.read(ROUTE).await["backends"][1]["share"], 0.0);
    let both = world.put("/api/v1/instances/c4/state", &order("disabled")).await.json();
    assert_eq!((&both["state"], &both["also"][0]["state"]), (&json!("disabled"), &json!("disabled")));
    assert_eq!(world.inputs.current().decisions.states.len(), 3);
    let one = format!("/api/v1/instances/{}/state", id(4, 81));
    assert_eq!(world.put(&one, &order("active")).await.json()["state"], "active");
    assert_eq!(world.read("/api/v1/instances/c4").await["state"], "disabled", "the other port is still out");
    world.put("/api/v1/backends/web%40v2/state", &order("active")).await;
    assert_eq!(world.read(ROUTE).await["backends"][1]["share"], 0.5);
    let stored = world.store.as_ref().expect("a store").load().expect("load").decisions;
    assert_eq!(stored.states, world.inputs.current().decisions.states);
    assert_eq!(stored.states.len(), 1);
    let audit = world.read("/api/v1/audit").await;
    assert_eq!(
        (&audit["items"][2]["subject"], &audit["items"][2]["detail"]),
        (&json!(format!("{} {}", id(4, 80), id(4, 81))), &json!("disabled"))
    );
}

#[tokio::test]
async fn the_end_of_a_drain_is_told_until_the_instance_is_active_again() {
    let (world, _folder) = World::new().await;
    let path = format!("/api/v1/instances/{}", id(1, 80));
    let set = async |state: &str| {
        let set =
            world.put(&format!("{path}/state"), &json!({"state": state, "reason": "maintenance"})).await;
        assert_eq!(set.status, 200, "{}", set.body);
    };
    set("draining").await;
    let instance = world.read(&path).await;
    assert_eq!(
        (&instance["drained_at"], &instance["ordered"]["reason"]),
        (&Value::Null, &json!("maintenance"))
    );
    let before = world.catalogs.borrow().revision;
    let at = jiff::Timestamp::now();
    world.inputs.update(|inputs| {
        let ended = fairway_catalog::inputs::Drained { at, cut: 2 };
        let instance = fairway_catalog::InstanceId::of_container(&"01".repeat(32), 80);
        std::sync::Arc::make_mut(&mut inputs.drained).insert(instance, ended);
    });
    world.catch_up().await;
    assert_eq!(world.read(&path).await["drained_at"], json!(at));
    let events = world.read(&format!("/api/v1/events?after={before}")).await;
    let told = |event: &&Value| event["type"] == "instance-drained" && event["subject"] == json!(id(1, 80));
    let event = events["items"].as_array().into_iter().flatten().find(told).expect("the event");
    assert!(event["reason"].as_str().is_some_and(|reason| reason.starts_with("2 still ran")), "{event}");
    set("active").await;
    let instance = world.read(&path).await;
    assert_eq!((&instance["drained_at"], &instance["ordered"]), (&Value::Null, &Value::Null));
    // The end of an earlier drain is not that of a later one.
    set("draining").await;
    assert_eq!(world.read(&path).await["drained_at"], Value::Null);
}

#[tokio::test]
async fn a_state_that_cannot_hold_is_refused() {
    let (world, _folder) = World::new().await;
    let order = json!({"state": "draining"});
    for (path, body, status, kind) in [
        ("backends/web%40v9", &order, 404, "unknown-backend"),
        ("backends/v2", &order, 409, "ambiguous-name"),
        ("instances/c9", &order, 404, "unknown-instance"),
        ("instances/c1", &json!({"state": "gone"}), 422, "bad-order"),
        ("instances/c1", &json!({"state": "active", "force": true}), 422, "bad-order"),
        ("instances/c1", &json!({}), 422, "bad-order"),
    ] {
        world.put(&format!("/api/v1/{path}/state"), body).await.refused(status, kind);
    }
    assert!(world.inputs.current().decisions.states.is_empty());
}

#[tokio::test]
async fn without_a_store_every_order_is_503_and_changes_nothing() {
    let folder = folder();
    let world = World::start(Plan { store: false, ..Plan::default() }, folder.path()).await;
    let order = json!({"weights": {"v1": 1}});
    world.put(SPLIT, &order).await.refused(503, "no-store");
    world.put("/api/v1/backends/v1/state", &json!({"state": "disabled"})).await.refused(503, "no-store");
    world.get("/api/v1/audit").await.refused(503, "no-store");
    assert_eq!(world.read(ROUTE).await["split"], Value::Null);
    assert_eq!(world.read("/api/v1/status").await["store"]["path"], "");
    assert_eq!(world.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_store_that_is_gone_refuses_orders_shows_a_problem_and_recovers() {
    let (world, folder) = World::new().await;
    let (path, aside) = (folder.path().join(FILE_NAME), folder.path().join("aside"));
    fs::rename(&path, &aside).expect("rename");
    let answer = world.put(SPLIT, &json!({"weights": {"v1": 1}})).await;
    let problem = answer.refused(503, "store-gone");
    assert!(problem["remedy"].as_str().is_some_and(|text| text.contains("nothing was changed")), "{problem}");
    assert!(!answer.field("retry-after").is_empty());
    assert_eq!(world.read(ROUTE).await["split"], Value::Null);
    world.catch_up().await;
    assert_eq!(world.read("/api/v1/problems").await["items"][0]["type"], "store-gone");
    fs::rename(&aside, &path).expect("rename");
    assert_eq!(world.put(SPLIT, &json!({"weights": {"v1": 1, "v2": 1}})).await.status, 200);
    let mut catalogs = world.catalogs.clone();
    let mended = within(catalogs.wait_for(|catalog| catalog.problems.is_empty())).await;
    drop(mended.expect("the catalog goes on"));
}

#[tokio::test]
async fn an_order_that_is_stored_and_not_live_everywhere_is_202() {
    let folder = folder();
    let world = World::start(Plan { hanging: true, ..Plan::default() }, folder.path()).await;
    let answer = world.put(SPLIT, &json!({"weights": {"v1": 1, "v2": 0}})).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(weights(&answer.json()), ["shop/web@v1=1", "shop/web@v2=0"]);
    assert_eq!(world.store.as_ref().expect("a store").load().expect("load").decisions.splits.len(), 1);
}

#[tokio::test]
async fn orders_at_the_same_time_are_carried_out_one_after_the_other() {
    let (world, _folder) = World::new().await;
    let world = Arc::new(world);
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let orders = (1..=20).map(|weight| {
                let world = world.clone();
                tokio::task::spawn_local(async move {
                    let order = json!({"weights": {"v1": weight, "v2": 1}});
                    (weight, world.put_with(SPLIT, &order, &[("if-match", "\"none\"")]).await.status)
                })
            });
            let mut winners = Vec::new();
            for order in orders.collect::<Vec<_>>() {
                let (weight, status) = within(order).await.expect("no panic");
                match status {
                    200 => winners.push(weight),
                    other => assert_eq!(other, 412),
                }
            }
            assert_eq!(winners.len(), 1, "If-Match lets one through");
            let route = world.read(ROUTE).await;
            assert_eq!(route["backends"][0]["weight"], winners[0]);
        })
        .await;
}

#[tokio::test]
async fn an_order_whose_client_hangs_up_is_in_the_store_and_in_the_inputs_or_in_neither() {
    let (world, _folder) = World::new().await;
    for weight in 1..=30 {
        let body = json!({"weights": {"v1": weight, "v2": 1}}).to_string();
        let mut stream = world.connect().await;
        let head = format!(
            "PUT {SPLIT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        within(stream.write_all(head.as_bytes())).await.expect("it can be sent");
        tokio::time::sleep(Duration::from_micros(weight * 100)).await;
        drop(stream);
    }
    // An order waits for those before it.
    world.put("/api/v1/backends/v1/state", &json!({"state": "active"})).await;
    let stored = world.store.as_ref().expect("a store").load().expect("load").decisions;
    assert_eq!(stored.splits, world.inputs.current().decisions.splits);
}

#[tokio::test]
async fn the_split_of_a_route_that_is_gone_can_be_removed() {
    let (world, _folder) = World::new().await;
    world.put(SPLIT, &json!({"weights": {"v1": 1, "v2": 1}})).await;
    // The route of a project that nobody claims any more lasts as a tombstone; a store from elsewhere has none.
    let gone = "old.company.com/".parse().expect("a route");
    world.inputs.update(|inputs| {
        let decisions = Arc::make_mut(&mut inputs.decisions);
        let record = decisions.splits.values().next().cloned().expect("a split");
        decisions.splits.insert(gone, record);
    });
    let answer = world.send("DELETE", "/api/v1/routes/old.company.com/split", &[], "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(world.inputs.current().decisions.splits.len(), 1);
}

#[tokio::test]
async fn what_is_no_json_says_where_and_what_is_too_large_or_of_another_type_is_refused() {
    let (world, _folder) = World::new().await;
    let json_type = [("content-type", "application/json")];
    let problem =
        world.send("PUT", SPLIT, &json_type, "{\n  \"weights\": {\"v1\": }}").await.refused(400, "bad-json");
    assert_eq!((&problem["line"], &problem["column"]), (&json!(2), &json!(21)), "{problem}");
    for body in ["", "weights: 1", "{\"weights\"", "{}{}", "\u{feff}{}"] {
        let answer = world.send("PUT", SPLIT, &json_type, body).await;
        assert!(matches!(answer.status, 400 | 422), "{body}: {}", answer.body);
    }
    let deep = "[".repeat(5000);
    world
        .send("PUT", SPLIT, &json_type, &format!("{{\"weights\":{{\"v1\":{deep}"))
        .await
        .refused(400, "bad-json");
    let huge = format!("{{\"reason\":\"{}\"}}", "x".repeat(70_000));
    world.send("PUT", SPLIT, &json_type, &huge).await.refused(413, "body-too-large");
    for other in ["text/plain", "multipart/form-data; boundary=x", "application/xml"] {
        world.send("PUT", SPLIT, &[("content-type", other)], "{}").await.refused(415, "not-json");
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    world.send("PUT", SPLIT, &form, "weights=1").await.refused(400, "bad-json");
}

#[tokio::test]
async fn a_script_need_not_say_that_its_body_is_json() {
    let (world, _folder) = World::new().await;
    let order = r#"{"weights":{"v1":1,"v2":1}}"#;
    // What `curl -d` says of itself, nothing at all, and a type that builds on JSON.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let suffix = [("content-type", "Application/merge-patch+JSON; charset=utf-8")];
    for fields in [&form[..], &[], &suffix] {
        let answer = world.send("PUT", SPLIT, fields, order).await;
        assert_eq!(answer.status, 200, "{fields:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn an_etag_without_its_quotes_is_the_same_etag() {
    let (world, _folder) = World::new().await;
    let order = json!({"weights": {"v1": 1, "v2": 1}});
    let route = world.put(SPLIT, &order).await.json();
    let etag = route["etag"].as_str().expect("an etag").trim_matches('"').to_owned();
    let answer = world.put_with(SPLIT, &order, &[("if-match", &etag)]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    world.put_with(SPLIT, &order, &[("if-match", "\"other\"")]).await.refused(412, "split-changed");
}

fn items(list: &Value) -> usize {
    list["items"].as_array().map_or(0, Vec::len)
}

/// The route once its split has an expiry no more.
async fn next_split(world: &World) -> Value {
    let mut catalogs = world.catalogs.clone();
    let id = "shop.company.com/".parse().expect("a route");
    let over = |catalog: &Arc<fairway_catalog::Catalog>| {
        catalog
            .routes
            .get(&id)
            .is_some_and(|r| r.split.as_ref().is_none_or(|split| split.expires_at.is_none()))
    };
    drop(within(catalogs.wait_for(over)).await.expect("the catalog goes on"));
    world.read(ROUTE).await
}
