//! Copies of requests: what is ordered, refused, remembered and told.

use serde_json::{Value, json};

use super::world::*;

const ROUTE: &str = "/api/v1/routes/shop.company.com%2F";
const MIRROR: &str = "/api/v1/routes/shop.company.com%2F/mirror";

#[tokio::test]
async fn a_mirror_is_live_stored_and_told_when_it_is_answered() {
    let (world, _folder) = World::new().await;
    let before = world.read(ROUTE).await;
    assert_eq!(before["mirror"], Value::Null);
    let order = json!({"to": "v2", "percent": 10, "reason": "a look"});
    let answer = world.put_with(MIRROR, &order, &[("user-agent", "test/1.0")]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let route = answer.json();
    let mirror = &route["mirror"];
    assert_eq!((&mirror["to"], &mirror["percent"]), (&json!("shop/web@v2"), &json!(10)));
    assert_eq!((&mirror["author"], &mirror["reason"]), (&json!("test/1.0"), &json!("a look")));
    assert_eq!(route["etag"], before["etag"], "the etag is the split's");
    assert_eq!(route["backends"], before["backends"], "nobody's share is another");
    assert_eq!(world.read(ROUTE).await, route);
    let stored = world.store.as_ref().expect("a store").load().expect("load").decisions;
    assert_eq!(stored, *world.inputs.current().decisions);
    let entry = &world.read("/api/v1/audit").await["items"][0];
    assert_eq!((&entry["action"], &entry["detail"]), (&json!("put-mirror"), &json!("10 % to shop/web@v2")));
    let explained = world.read("/api/v1/explain?url=http://shop.company.com/").await;
    assert_eq!(explained["route"]["mirror"]["to"], "shop/web@v2");

    let replaced = world.put(MIRROR, &json!({"to": "web@v1", "percent": 0.5})).await.json();
    assert_eq!(
        (&replaced["mirror"]["to"], &replaced["mirror"]["percent"]),
        (&json!("shop/web@v1"), &json!(0.5))
    );
    let answer = world.send("DELETE", MIRROR, &[], "").await;
    assert_eq!((answer.status, &answer.json()["mirror"]), (200, &Value::Null));
    assert_eq!(world.send("DELETE", MIRROR, &[], "").await.status, 200, "once more changes nothing");
    assert!(world.store.as_ref().expect("a store").load().expect("load").decisions.mirrors.is_empty());
}

#[tokio::test]
async fn a_mirror_that_cannot_hold_is_refused_and_changes_nothing() {
    let (world, _folder) = World::new().await;
    for (body, status, kind, says) in [
        (r#"{"to":"v2","percent":0}"#, 422, "bad-percent", "`0` is not a percentage"),
        (r#"{"to":"v2","percent":-10}"#, 422, "bad-percent", "above 0"),
        (r#"{"to":"v2","percent":100.5}"#, 422, "bad-percent", "up to 100"),
        (r#"{"to":"v2","percent":0.0001}"#, 422, "bad-percent", "three decimals"),
        (r#"{"to":"v2","percent":1e300}"#, 422, "bad-percent", "up to 100"),
        (r#"{"to":"v2","percent":"10"}"#, 422, "bad-percent", "not a number"),
        (r#"{"to":"v2","percent":null}"#, 422, "bad-percent", "not a number"),
        (r#"{"to":"v2"}"#, 422, "bad-order", "percent"),
        (r#"{"percent":10}"#, 422, "bad-order", "to"),
        (r#"{"to":"v2","percent":10,"per":1}"#, 422, "bad-order", "per"),
        (r#"{"to":"v9","percent":10}"#, 422, "unknown-backend", "v9"),
        (r#"{"to":"api@v2","percent":10}"#, 422, "unknown-backend", "api@v2"),
        (r#"{"to":"","percent":10}"#, 422, "unknown-backend", "no backend"),
        ("{", 400, "bad-json", "EOF"),
    ] {
        let answer = world.send("PUT", MIRROR, &[("content-type", "application/json")], body).await;
        let problem = answer.refused(status, kind);
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(says)), "{body}: {problem}");
    }
    let problem = world.put(MIRROR, &json!({"to": "v9", "percent": 1})).await.refused(422, "unknown-backend");
    assert_eq!(problem["known"], json!(["shop/web@v1", "shop/web@v2"]), "{problem}");
    let long = json!({"to": "v2", "percent": 1, "reason": "x".repeat(1001)});
    world.put(MIRROR, &long).await.refused(422, "reason-too-long");
    let unknown = "/api/v1/routes/shop.company.con%2F/mirror";
    world.put(unknown, &json!({"to": "v2", "percent": 1})).await.refused(404, "unknown-route");
    world.send("DELETE", unknown, &[], "").await.refused(404, "unknown-route");
    assert!(world.inputs.current().decisions.mirrors.is_empty());
    assert_eq!(world.read("/api/v1/audit").await["items"], json!([]));
}

#[tokio::test]
async fn a_name_that_several_backends_of_the_route_have_is_asked_for_again() {
    let (world, _folder) = World::new().await;
    let mut units = shop();
    units.push(unit(5, "shop/blog@v2", &[("aliyun.routing.port_80", "shop.company.com")]));
    world.set_units(units).await;
    let problem = world.put(MIRROR, &json!({"to": "v2", "percent": 1})).await.refused(409, "ambiguous-name");
    assert_eq!(problem["candidates"], json!(["shop/blog@v2", "shop/web@v2"]));
}

#[tokio::test]
async fn a_mirror_whose_backend_is_gone_or_out_is_a_problem_until_it_is_back() {
    let (world, _folder) = World::new().await;
    assert_eq!(world.put(MIRROR, &json!({"to": "web@v2", "percent": 1})).await.status, 200);
    let problems = async || {
        let list = world.read("/api/v1/problems").await;
        let all = list["items"].as_array().expect("a list").clone();
        all.into_iter().filter(|problem| problem["type"] == "mirror-without-target").collect::<Vec<_>>()
    };
    assert_eq!(problems().await, Vec::<Value>::new());
    world.put("/api/v1/backends/web@v2/state", &json!({"state": "disabled"})).await;
    let told = problems().await;
    assert!(told[0]["text"].as_str().is_some_and(|text| text.contains("which is disabled")), "{told:?}");
    world.put("/api/v1/backends/web@v2/state", &json!({"state": "active"})).await;
    assert_eq!(problems().await, Vec::<Value>::new());
    let without: Vec<_> = shop().into_iter().filter(|unit| &*unit.name != "c2").collect();
    world.set_units(without).await;
    assert_eq!(problems().await.len(), 1);
    assert_eq!(world.read(ROUTE).await["mirror"]["to"], "shop/web@v2", "it waits");
    world.set_units(shop()).await;
    assert_eq!(problems().await, Vec::<Value>::new());
}

#[tokio::test]
async fn connections_cannot_be_copied() {
    let (world, _folder) = World::new().await;
    let mut units = shop();
    units.push(unit(5, "shop/db@v1", &[("aliyun.lb.port_3306", "tcp://db:3306")]));
    world.set_units(units).await;
    let order = json!({"to": "db@v1", "percent": 1});
    world.put("/api/v1/routes/tcp:%2F%2F:3306/mirror", &order).await.refused(422, "not-requests");
}

#[tokio::test]
async fn without_a_store_nothing_is_ordered() {
    let folder = folder();
    let world = World::start(Plan { store: false, ..Plan::default() }, folder.path()).await;
    world.put(MIRROR, &json!({"to": "web@v2", "percent": 1})).await.refused(503, "no-store");
    assert_eq!(world.read(ROUTE).await["mirror"], Value::Null);
}
