//! What a start finds of the run before.

use serde_json::{Value, json};

use super::world::*;

#[tokio::test]
async fn splits_states_and_the_audit_are_the_same_after_a_restart() {
    let folder = folder();
    let world = World::start(Plan::default(), folder.path()).await;
    let order = json!({"weights": {"v1": 30, "v2": 70}, "reason": "why", "expires_in": "2h"});
    world.put("/api/v1/routes/shop.company.com/split", &order).await;
    world.put("/api/v1/backends/web%40v2/state", &json!({"state": "disabled"})).await;
    world.put("/api/v1/instances/c1/state", &json!({"state": "draining"})).await;
    let paths = [
        "/api/v1/routes/shop.company.com",
        "/api/v1/backends/web%40v2",
        "/api/v1/instances/c1",
        "/api/v1/audit",
    ];
    let before = read(&world, &paths).await;
    world.stop().await;
    let world = World::start(Plan::default(), folder.path()).await;
    assert_eq!(read(&world, &paths).await, before);
}

/// What these paths say, but for what a new life changes.
async fn read(world: &World, paths: &[&str]) -> Vec<Value> {
    let mut all = Vec::new();
    for path in paths {
        let mut value = world.read(path).await;
        for changing in ["revision", "since"] {
            value.as_object_mut().expect("an object").remove(changing);
        }
        all.push(value);
    }
    all
}
