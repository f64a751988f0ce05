//! Timeouts and limits of routes: what is ordered, refused, remembered and told.

use std::fs;

use fairway_catalog::inputs::DefaultLimits;
use fairway_config::labels::Limit;
use fairway_store::FILE_NAME;
use serde_json::{Value, json};

use super::world::*;

const ROUTE: &str = "/api/v1/routes/shop.company.com%2F";
const LIMITS: &str = "/api/v1/routes/shop.company.com%2F/limits";

/// One limit as GET shows it.
async fn item(world: &World, path: &str, name: &str) -> Value {
    let limits = world.read(path).await;
    let items = limits["items"].as_array().expect("a list");
    items.iter().find(|item| item["name"] == name).expect("every limit is shown").clone()
}

async fn shown(world: &World, name: &str) -> (String, String) {
    let item = item(world, LIMITS, name).await;
    let text = |member: &str| item[member].as_str().unwrap_or("null").to_owned();
    (text("value"), text("layer"))
}

fn pair(value: &str, layer: &str) -> (String, String) {
    (value.to_owned(), layer.to_owned())
}

#[tokio::test]
async fn limits_are_live_stored_and_told_when_they_are_answered() {
    let (world, _folder) = World::new().await;
    let before = world.read(ROUTE).await;
    assert_eq!(before["limits"], Value::Null);
    assert_eq!(shown(&world, "timeout.first_byte").await, pair("1m", "default"));
    let order = json!({"timeout.first_byte": "200ms", "rate_limit": "5/s", "retries": 0, "reason": "a look"});
    let answer = world.put_with(LIMITS, &order, &[("user-agent", "test/1.0")]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let route = answer.json();
    let values = json!({"timeout.first_byte": "200ms", "rate_limit": "5/s burst 5", "retries": "0"});
    assert_eq!(route["limits"]["values"], values);
    assert_eq!(
        (&route["limits"]["author"], &route["limits"]["reason"]),
        (&json!("test/1.0"), &json!("a look"))
    );
    assert_eq!(
        (&route["etag"], &route["backends"]),
        (&before["etag"], &before["backends"]),
        "no split is made"
    );
    assert_eq!(world.read(ROUTE).await, route);
    let set = item(&world, LIMITS, "timeout.first_byte").await;
    assert_eq!(
        (&set["value"], &set["layer"], &set["author"]),
        (&json!("200ms"), &json!("api"), &json!("test/1.0"))
    );
    assert_eq!((&set["at"], &set["reason"]), (&route["limits"]["at"], &json!("a look")));
    assert_eq!(world.read(LIMITS).await["items"].as_array().map(Vec::len), Some(10));
    let stored = world.store.as_ref().expect("a store").load().expect("load").decisions;
    assert_eq!(stored, *world.inputs.current().decisions);
    let entry = &world.read("/api/v1/audit").await["items"][0];
    let detail = "timeout.first_byte=200ms retries=0 rate_limit=\"5/s burst 5\"";
    assert_eq!((&entry["action"], &entry["detail"]), (&json!("put-limits"), &json!(detail)));
    let explained = world.read("/api/v1/explain?url=http://shop.company.com/").await;
    assert_eq!(explained["route"]["limits"]["set"], detail);
    let events = world.read("/api/v1/events?after=0").await["items"].as_array().expect("a list").clone();
    let told = |event: &&Value| event["type"] == "route-limits" && event["subject"] == "shop.company.com/";
    let event = events.iter().find(told).expect("it is told");
    assert_eq!(
        (&event["from"], &event["to"], &event["reason"]),
        (&json!(""), &json!(detail), &json!("a look"))
    );

    world.put(LIMITS, &json!({"timeout.total": "5s"})).await;
    assert_eq!(
        shown(&world, "timeout.first_byte").await,
        pair("1m", "default"),
        "the whole layer is replaced"
    );
    assert_eq!(shown(&world, "timeout.total").await, pair("5s", "api"));
    let answer = world.send("DELETE", LIMITS, &[], "").await;
    assert_eq!((answer.status, &answer.json()["limits"]), (200, &Value::Null));
    assert_eq!(shown(&world, "timeout.total").await, pair("none", "default"));
    assert_eq!(world.send("DELETE", LIMITS, &[], "").await.status, 200, "once more changes nothing");
    assert!(world.store.as_ref().expect("a store").load().expect("load").decisions.limits.is_empty());
    let actions: Vec<Value> = world.read("/api/v1/audit").await["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["action"].clone())
        .collect();
    assert_eq!(actions, ["delete-limits", "put-limits", "put-limits"]);
}

#[tokio::test]
async fn limits_that_cannot_hold_are_refused_with_place_and_remedy_and_change_nothing() {
    let (world, _folder) = World::new().await;
    for (body, status, kind, says, remedy) in [
        ("{}", 422, "limits-empty", "names no limit", "DELETE"),
        (r#"{"timeout.total":"5"}"#, 422, "bad-limit", "timeout.total = \"5\"", "add a unit"),
        (r#"{"timeout.connect":"25h"}"#, 422, "bad-limit", "timeout.connect = \"25h\"", "1ms to 24h"),
        (r#"{"timeout.firstbyte":"5s"}"#, 422, "unknown-limit", "timeout.firstbyte", "`timeout.first_byte`"),
        (r#"{"drain":"5s"}"#, 422, "unknown-limit", "drain", "the limits are"),
        (r#"{"retries":11}"#, 422, "bad-limit", "retries = 11", "0 to 10"),
        (r#"{"body_max":-1}"#, 422, "bad-limit", "body_max = -1", "`none`"),
        (r#"{"rate_limit":"5"}"#, 422, "bad-limit", "rate_limit = \"5\"", "`100/s`"),
        (r#"{"retries":1,"retries":2}"#, 422, "limit-named-twice", "retries", "all but one"),
        (r#"{"retries":1,"expires_in":"soon"}"#, 422, "bad-expiry", "soon", ""),
        (r#"{"retries":1,"expires_in":"0s"}"#, 422, "bad-expiry", "DELETE", ""),
        (r#"{"retries":1,"expires_in":5}"#, 422, "bad-order", "expected a string", ""),
        (r#"{"retries":1,"reason":5}"#, 422, "bad-order", "expected a string", ""),
        ("[]", 422, "bad-order", "", ""),
        ("5", 422, "bad-order", "", ""),
        ("{", 400, "bad-json", "EOF", ""),
    ] {
        let answer = world.send("PUT", LIMITS, &[("content-type", "application/json")], body).await;
        let problem = answer.refused(status, kind);
        let has = |member: &str, text: &str| problem[member].as_str().unwrap_or_default().contains(text);
        assert!(has("detail", says) && has("remedy", remedy), "{body}: {problem}");
    }
    let several = json!({"retries": 99, "hedge": "x", "what": 1, "body_max": "1m"});
    let problem = world.put(LIMITS, &several).await.refused(422, "bad-limit");
    assert_eq!(problem["errors"].as_array().map(Vec::len), Some(3), "{problem}");
    let long = json!({"retries": 1, "reason": "x".repeat(1001)});
    world.put(LIMITS, &long).await.refused(422, "reason-too-long");
    let unknown = "/api/v1/routes/shop.company.con%2F/limits";
    world.put(unknown, &json!({"retries": 1})).await.refused(404, "unknown-route");
    world.get(unknown).await.refused(404, "unknown-route");
    world.send("DELETE", unknown, &[], "").await.refused(404, "unknown-route");
    assert!(world.inputs.current().decisions.limits.is_empty());
    assert_eq!(world.read("/api/v1/audit").await["items"], json!([]));
}

#[tokio::test]
async fn if_match_takes_the_tag_of_the_limits() {
    let (world, _folder) = World::new().await;
    let none = world.get(LIMITS).await.field("etag").to_owned();
    assert_eq!(none, world.read(LIMITS).await["etag"]);
    let order = json!({"retries": 0});
    let first = world.put_with(LIMITS, &order, &[("if-match", &none)]).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let tag = first.field("etag").to_owned();
    assert_eq!(tag, world.get(LIMITS).await.field("etag"));
    let problem = world.put_with(LIMITS, &order, &[("if-match", &none)]).await.refused(412, "limits-changed");
    assert_eq!(problem["etag"], tag);
    world.send("DELETE", LIMITS, &[("if-match", &none)], "").await.refused(412, "limits-changed");
    assert_eq!(world.read(ROUTE).await["limits"]["values"], json!({"retries": "0"}));
    assert_eq!(world.send("DELETE", LIMITS, &[("if-match", &tag)], "").await.status, 200);
    assert_eq!(world.put_with(LIMITS, &order, &[("if-match", "*")]).await.status, 200);
}

#[tokio::test]
async fn each_limit_tells_the_layer_that_it_comes_from() {
    let folder = folder();
    let mut plan = Plan::default();
    plan.settings.limits = DefaultLimits { body_max: Some(1 << 20), in_flight_max: 1024 };
    plan.settings.file = "fairway.toml".into();
    let label = |n, of, said: &[(&str, &str)]| {
        unit(n, of, &[&[("aliyun.routing.port_80", "shop.company.com")], said].concat())
    };
    plan.units = vec![
        label(
            1,
            "shop/web@v1",
            &[("fairway.retries", "3"), ("fairway.rate_limit", "9/s"), ("fairway.hedge", "p95")],
        ),
        label(2, "shop/web@v2", &[("fairway.hedge", "p95"), ("fairway.in_flight_max", "7")]),
    ];
    let world = World::start(plan, folder.path()).await;
    assert_eq!(shown(&world, "timeout.connect").await, pair("1s", "default"));
    assert_eq!(shown(&world, "rate_limit").await, pair("9/s burst 9", "label"));
    assert_eq!(shown(&world, "hedge").await, pair("p95", "label"), "both versions say so");
    assert_eq!(shown(&world, "body_max").await, pair("1m", "file"));
    assert_eq!(item(&world, LIMITS, "body_max").await["author"], "fairway.toml");
    let retries = item(&world, LIMITS, "retries").await;
    assert_eq!(
        (&retries["value"], &retries["layer"], &retries["author"]),
        (&Value::Null, &json!("label"), &json!("labels"))
    );
    let apart = json!([
        {"id": "shop/web@v1", "value": "3", "layer": "label"},
        {"id": "shop/web@v2", "value": "1", "layer": "default"},
    ]);
    assert_eq!(retries["backends"], apart);
    let order =
        json!({"retries": 2, "rate_limit": "none", "hedge": "off", "body_max": "none", "in_flight_max": 3});
    assert_eq!(world.put(LIMITS, &order).await.status, 200);
    for (name, value) in [
        ("retries", "2"),
        ("rate_limit", "none"),
        ("hedge", "off"),
        ("body_max", "none"),
        ("in_flight_max", "3"),
    ] {
        assert_eq!(shown(&world, name).await, pair(value, "api"));
    }
    assert_eq!(item(&world, LIMITS, "retries").await["backends"], json!([]));
}

#[tokio::test]
async fn how_much_an_instance_may_have_holds_in_all_its_routes_and_tells_who_said_it() {
    let folder = folder();
    let two_routes = ("aliyun.routing.port_80", "shop.company.com;other.company.com");
    let plan = Plan { units: vec![unit(1, "shop/web@v1", &[two_routes])], ..Plan::default() };
    let world = World::start(plan, folder.path()).await;
    let other = "/api/v1/routes/other.company.com%2F/limits";
    world.put(LIMITS, &json!({"in_flight_max": 5, "reason": "small"})).await;
    let seen = item(&world, other, "in_flight_max").await;
    assert_eq!(
        (&seen["value"], &seen["layer"], &seen["reason"]),
        (&json!("5"), &json!("api"), &json!("small"))
    );
    world.put(other, &json!({"in_flight_max": 2, "reason": "smaller"})).await;
    let seen = item(&world, LIMITS, "in_flight_max").await;
    assert_eq!((&seen["value"], &seen["reason"]), (&json!("2"), &json!("smaller")), "the lowest counts");
    world.send("DELETE", other, &[], "").await;
    assert_eq!(item(&world, LIMITS, "in_flight_max").await["value"], "5");
    world.send("DELETE", LIMITS, &[], "").await;
    assert_eq!(item(&world, other, "in_flight_max").await["layer"], "default");
}

#[tokio::test]
async fn after_an_expiry_the_order_before_holds_and_after_that_the_labels() {
    let (world, _folder) = World::new().await;
    world.put(LIMITS, &json!({"retries": 2, "reason": "a"})).await;
    let answer = world.put(LIMITS, &json!({"retries": 0, "expires_in": "300ms"})).await.json();
    assert!(answer["limits"]["expires_at"].is_string(), "{answer}");
    let next = async || {
        let mut catalogs = world.catalogs.clone();
        let id = "shop.company.com/".parse().expect("a route");
        let over = catalogs.wait_for(|catalog| {
            catalog.routes[&id].limits.as_ref().is_none_or(|limits| limits.expires_at.is_none())
        });
        drop(within(over).await.expect("the catalog goes on"));
        world.read(ROUTE).await["limits"].clone()
    };
    let back = next().await;
    assert_eq!((&back["values"], &back["reason"]), (&json!({"retries": "2"}), &json!("a")));
    world.send("DELETE", LIMITS, &[], "").await;
    world.put(LIMITS, &json!({"retries": 0, "expires_in": "300ms"})).await;
    assert_eq!(next().await, Value::Null);
    assert_eq!(shown(&world, "retries").await, pair("1", "default"));
    for minutes in (2..40).rev() {
        let order = json!({"retries": 1, "expires_in": format!("{minutes}m")});
        let answer = world.put(LIMITS, &order).await;
        if answer.status != 200 {
            answer.refused(409, "too-many-expiries");
            return;
        }
    }
    panic!("38 orders wait for each other's expiry");
}

#[tokio::test]
async fn a_route_of_connections_takes_the_limits_that_connections_have() {
    let (world, _folder) = World::new().await;
    let mut units = shop();
    units.push(unit(5, "shop/db@v1", &[("aliyun.lb.port_3306", "tcp://db:3306")]));
    world.set_units(units).await;
    let path = "/api/v1/routes/tcp:%2F%2F:3306/limits";
    let problem = world.put(path, &json!({"rate_limit": "5/s"})).await.refused(422, "limit-not-served");
    assert!(problem["remedy"].as_str().is_some_and(|text| text.contains("`timeout.idle`")), "{problem}");
    assert_eq!(world.put(path, &json!({"timeout.idle": "1h", "in_flight_max": 9})).await.status, 200);
    assert_eq!(item(&world, path, "timeout.idle").await["value"], "1h");
}

#[tokio::test]
async fn limits_of_a_route_that_is_gone_can_be_taken_away_and_wait_for_it_until_then() {
    let (world, _folder) = World::new().await;
    world.put(LIMITS, &json!({"retries": 0})).await;
    world.set_units(Vec::new()).await;
    world.set_units(shop()).await;
    assert_eq!(shown(&world, "retries").await, pair("0", "api"));
    let audit = world.read("/api/v1/audit").await["items"].as_array().map(Vec::len);
    assert_eq!(audit, Some(1), "coming and going is no order");
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_ordered() {
    let (world, folder) = World::new().await;
    let (path, aside) = (folder.path().join(FILE_NAME), folder.path().join("aside"));
    fs::rename(&path, &aside).expect("rename");
    let problem = world.put(LIMITS, &json!({"retries": 0})).await.refused(503, "store-gone");
    assert!(problem["remedy"].as_str().is_some_and(|text| text.contains("nothing was changed")), "{problem}");
    assert_eq!(world.read(ROUTE).await["limits"], Value::Null);
    fs::rename(&aside, &path).expect("rename");
    assert_eq!(world.put(LIMITS, &json!({"retries": 0})).await.status, 200);
    fs::rename(&path, &aside).expect("rename");
    world.send("DELETE", LIMITS, &[], "").await.refused(503, "store-gone");
    assert_eq!(shown(&world, "retries").await, pair("0", "api"), "it holds on");
    let without = super::world::folder();
    let world = World::start(Plan { store: false, ..Plan::default() }, without.path()).await;
    world.put(LIMITS, &json!({"retries": 0})).await.refused(503, "no-store");
}

#[tokio::test]
async fn the_description_names_every_limit_of_an_order() {
    let (world, _folder) = World::new().await;
    let description = world.read("/openapi.json").await;
    let schemas = &description["components"]["schemas"];
    let order = schemas["LimitsOrder"].to_string();
    assert!(order.contains("#/components/schemas/LimitValues") && order.contains("expires_in"), "{order}");
    let mut named: Vec<&String> =
        schemas["LimitValues"]["properties"].as_object().expect("fields").keys().collect();
    let mut all = Limit::ALL.map(|limit| limit.to_string());
    named.sort();
    all.sort();
    assert_eq!(named, all.iter().collect::<Vec<_>>());
}
