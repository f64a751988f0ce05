//! Zones over real connections: requests stay in the node's zone while its instances can take them, and come back.

use std::sync::Arc;
use std::time::Duration;

use fairway_testkit::netns::Netns;
use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::wait::{PATIENCE, until};
use fairway_testkit::{Fairway, FairwayOptions, client};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// Two instances in the node's zone, then two in another.
struct World {
    origins: Vec<Origin>,
    fairway: Fairway,
}

impl World {
    async fn new() -> Self {
        let (mut origins, mut entries) = (Vec::new(), Vec::new());
        for (n, zone) in ["here", "here", "there", "there"].into_iter().enumerate() {
            let origin = Origin::start(Identity::new(&n.to_string(), "v1")).await;
            entries.push(format!("{{ addr = \"{}\", zone = {zone:?} }}", origin.address()));
            origins.push(origin);
        }
        let config = format!(
            "log.access = false\nnode.zone = \"here\"\n[[service]]\nname = \"web\"\nroutes = [\"a.test\"]\nbalance = \"round-robin\"\n\
             instances = [{}]\n",
            entries.join(", ")
        );
        let fairway = FairwayOptions::new(BINARY).config(config).start().await;
        fairway.ready().await;
        fairway.instances_ready("web@static", 4).await;
        Self { origins, fairway }
    }

    /// How many requests each instance has had.
    fn had(&self) -> Vec<u64> {
        self.origins.iter().map(Origin::requests).collect()
    }

    /// Sends so many requests one after the other: how many came to each instance.
    async fn send(&self, count: usize) -> Vec<u64> {
        let before = self.had();
        for _ in 0..count {
            self.fairway.get("a.test", "/health").await;
        }
        self.had().iter().zip(before).map(|(now, before)| now - before).collect()
    }

    /// Sets the state of one.
    async fn set(&self, which: usize, state: &str) {
        let address = self.origins[which].address().to_string();
        let list = self.fairway.list("instances").await;
        let id = list.iter().find(|item| item["address"] == address).and_then(|item| item["id"].as_str());
        let id = id.expect("it is listed").replace('/', "%2F");
        let body = json!({ "state": state });
        self.fairway.admin("PUT", &format!("/api/v1/instances/{id}/state"), Some(&body)).await.ok("a state");
    }

    /// Waits until all of 100 requests in a row stay.
    async fn all_stay(&self) {
        let stay = async || {
            let came = self.send(100).await;
            (came[2] + came[3] == 0).then_some(())
        };
        until("100 requests in our zone", PATIENCE, stay).await;
    }
}

#[tokio::test]
async fn requests_stay_in_the_zone_leave_it_as_its_instances_go_and_come_back_with_them() {
    let _netns = Netns::enter();
    let world = World::new().await;
    let came = world.send(200).await;
    assert_eq!(came[2] + came[3], 0, "{came:?}");
    assert!(came[0] >= 20 && came[1] >= 20, "{came:?}");

    world.set(0, "disabled").await;
    let came = world.send(100).await;
    assert_eq!(came, [0, 100, 0, 0], "who is disabled was not counted upon");
    world.set(1, "disabled").await;
    let came = world.send(100).await;
    assert_eq!(came[2] + came[3], 100, "{came:?}");
    world.set(0, "active").await;
    world.set(1, "active").await;
    world.all_stay().await; // new ones begin with little

    // One of two is ejected: 1.4 halves of the requests stay, of the others one in three goes to the one that is left.
    world.origins[0].set_healthy(false);
    let out = |list: &Value| {
        list["items"].as_array().into_iter().flatten().any(|item| item["condition"] == "ejected")
    };
    let ejected = async || {
        world.send(20).await;
        out(&world.fairway.read("/api/v1/instances").await).then_some(())
    };
    until("the ejection", PATIENCE, ejected).await;
    let came = world.send(300).await;
    let left = came[2] + came[3];
    assert!(came[0] == 0 && (18..=102).contains(&left), "60 are expected to leave: {came:?}");
    world.set(1, "disabled").await;
    let came = world.send(100).await;
    assert_eq!(came[2] + came[3], 100, "an ejected one keeps nobody: {came:?}");
    world.set(1, "active").await;
    let stay = async || (world.send(50).await[1] >= 25).then_some(());
    until("requests that stay again", PATIENCE, stay).await;
}

#[tokio::test]
async fn requests_leave_the_zone_when_its_instances_have_much_more_to_do_and_come_back() {
    let _netns = Netns::enter();
    let world = Arc::new(World::new().await);
    let before = world.had();
    let mut slow = JoinSet::new();
    for _ in 0..80 {
        let http = world.fairway.http();
        slow.spawn(async move { client::get(http, "a.test", "/slow?ms=6000").await.status });
    }
    let asked = async || (world.had().iter().sum::<u64>() == before.iter().sum::<u64>() + 80).then_some(());
    until("80 requests at instances", Duration::from_secs(20), asked).await;
    let had = world.had();
    let (here, there) = (had[0] + had[1], had[2] + had[3]);
    // 16 each stay, and from then on twice as many as there.
    assert!(here >= 32 && there >= 10 && here > there, "{had:?}");
    while let Some(status) = slow.join_next().await {
        assert_eq!(status.expect("no panic"), 200);
    }
    let came = world.send(100).await;
    assert_eq!(came[2] + came[3], 0, "{came:?}");
}
