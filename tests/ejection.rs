//! Outlier ejection over real connections: who fails goes, comes back after its time, and stays away longer each time.
//!
//! Not here: figures at which a rate stands out (the units of `proxy::outlier`), containers (`releases_engine.rs`).

use std::time::Duration;

use fairway_testkit::netns::Netns;
use fairway_testkit::origin::{Identity, Mode, Origin};
use fairway_testkit::wait::{PATIENCE, until};
use fairway_testkit::{Fairway, FairwayOptions};
use serde_json::Value;
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// Gateway failures in a row that eject an instance, and for how long the first time.
const IN_A_ROW: usize = 5;
const FIRST: Duration = Duration::from_secs(30);

/// Fairway before static instances on port 8080 of 127.0.1.1, 127.0.1.2 and so on, each taken in its turn.
struct World {
    origins: Vec<Origin>,
    fairway: Fairway,
}

impl World {
    /// `more`: further keys of the service.
    async fn of(count: u8, more: &str) -> Self {
        let mut origins = Vec::new();
        for n in 1..=count {
            let identity = Identity::new(&n.to_string(), "v1");
            let bound = Origin::bind(identity, Mode::Http, &[([127, 0, 1, n], 8080).into()]).await;
            origins.push(bound.expect("the port is free in a namespace of its own"));
        }
        let addresses: Vec<String> =
            origins.iter().map(|origin| format!("{:?}", origin.address().to_string())).collect();
        let config = format!(
            "log.access = false\n[[service]]\nname = \"web\"\nroutes = [\"a.test\"]\nbalance = \"round-robin\"\n\
             instances = [{}]\n{more}\n",
            addresses.join(", ")
        );
        let fairway = FairwayOptions::new(BINARY).config(config).start().await;
        fairway.ready().await;
        fairway.instances_ready("web@static", usize::from(count)).await;
        Self { origins, fairway }
    }

    /// From now on these answer 503 to `/health`, the others 200.
    fn fail(&self, which: &[usize]) {
        for (n, origin) in self.origins.iter().enumerate() {
            origin.set_healthy(!which.contains(&n));
        }
    }

    /// Sends so many requests one after the other: how many failed, and how many came to each instance.
    async fn send(&self, count: usize) -> (usize, Vec<u64>) {
        let before: Vec<u64> = self.origins.iter().map(Origin::requests).collect();
        let mut failed = 0;
        for _ in 0..count {
            failed += usize::from(self.fairway.get("a.test", "/health").await.status == 503);
        }
        let came = self.origins.iter().zip(before).map(|(origin, before)| origin.requests() - before);
        (failed, came.collect())
    }

    /// What the API tells of an instance.
    async fn told(&self, which: usize) -> Value {
        self.is(which, |_| true).await
    }

    /// Waits until this holds of what the API tells of an instance.
    async fn is(&self, which: usize, holds: impl Fn(&Value) -> bool) -> Value {
        let address = self.origins[which].address().to_string();
        let find = |list: &Value| {
            list["items"].as_array()?.iter().find(|item| item["address"] == address && holds(item)).cloned()
        };
        let what = format!("the wanted state of {address}");
        let list = self.fairway.wait_until(&what, "/api/v1/instances", |list| find(list).is_some()).await;
        find(&list).expect("it was there")
    }

    async fn is_ejected(&self, which: usize) -> Value {
        self.is(which, |told| told["condition"] == "ejected").await
    }

    /// Numbers of the instances that are ejected.
    async fn ejected(&self) -> Vec<usize> {
        let mut out = Vec::new();
        for which in 0..self.origins.len() {
            if self.told(which).await["condition"] == "ejected" {
                out.push(which);
            }
        }
        out
    }

    async fn metric(&self, line: &str) -> bool {
        self.fairway.admin("GET", "/metrics", None).await.text().lines().any(|is| is == line)
    }
}

fn seconds(told: &Value) -> i64 {
    let time = |key: &str| -> jiff::Timestamp {
        told[key].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{key}: {told}"))
    };
    time("until").duration_since(time("since")).as_secs()
}

/// 30 s of it are the ejection itself.
#[tokio::test]
async fn an_instance_that_fails_is_out_for_30_seconds_serves_again_and_is_out_for_60_the_next_time() {
    let _netns = Netns::enter();
    let world = World::of(4, "").await;
    let bad = 3;
    world.fail(&[bad]);
    let began = Instant::now();
    let (failed, came) = world.send(100).await;
    assert_eq!((failed, came[bad]), (IN_A_ROW, IN_A_ROW as u64), "{came:?}");
    assert!(came[..bad].iter().all(|came| *came > 25), "the others share what it got: {came:?}");

    let told = world.is_ejected(bad).await;
    assert_eq!(seconds(&told), 30, "{told}");
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("ejected until") && reason.contains("5 failures in a row"), "{reason}");
    let id = told["id"].as_str().expect("an id");
    let table = String::from_utf8(world.fairway.cli(&["instances"]).await.stdout).expect("text");
    assert!(table.lines().any(|line| line.contains(id) && line.contains("ejected")), "{table}");
    let change = |event: &&Value, to: &str| {
        event["type"] == "instance-condition" && event["subject"] == id && event["to"] == to
    };
    let events = world.fairway.list("events?after=0").await;
    let out = events.iter().find(|event| change(event, "ejected")).expect("an event").clone();
    assert!(out["reason"].as_str().is_some_and(|why| why.contains("5 failures in a row")), "{out}");
    let backend = "web@static";
    let ejections =
        |n| format!("fairway_ejections_total{{backend=\"{backend}\",cause=\"failures-in-a-row\"}} {n}");
    assert!(world.metric(&ejections(1)).await);
    assert!(
        world.metric(&format!("fairway_instances{{backend=\"{backend}\",condition=\"ejected\"}} 1")).await
    );

    world.fail(&[]);
    let mut after = out["revision"].as_u64().expect("a revision");
    let back = loop {
        assert!(began.elapsed() < FIRST + PATIENCE, "it is never back");
        let (_, came) = world.send(4).await;
        let path = format!("/api/v1/events?after={after}&wait=1s");
        let events = world.fairway.read(&path).await;
        after = events["revision"].as_u64().expect("a revision").max(after);
        if let Some(back) =
            events["items"].as_array().into_iter().flatten().find(|event| change(event, "ready"))
        {
            break back.clone();
        }
        assert_eq!(came[bad], 0, "it gets nothing while it is out");
    };
    assert!(began.elapsed() >= FIRST, "{:?}: {back}", began.elapsed());
    let serves = async || (world.send(20).await.1[bad] > 0).then_some(());
    until("requests to the one that is back", PATIENCE, serves).await;
    assert!(
        world.metric(&format!("fairway_instances{{backend=\"{backend}\",condition=\"ejected\"}} 0")).await
    );

    world.fail(&[bad]);
    let (mut failed, again) = (0, Instant::now());
    while world.told(bad).await["condition"] != "ejected" {
        assert!(again.elapsed() < PATIENCE, "no second ejection");
        failed += world.send(20).await.0;
    }
    assert_eq!(failed, IN_A_ROW);
    assert_eq!(seconds(&world.told(bad).await), 60);
    assert!(world.metric(&ejections(2)).await);
}

#[tokio::test]
async fn at_most_half_are_out_and_all_serve_while_fewer_than_a_third_are_left() {
    let _netns = Netns::enter();
    let world = World::of(4, "probe = { url = \"tcp://container:8080\" }").await;
    let good = 0;
    world.fail(&[1, 2, 3]);
    world.send(200).await;
    let (_, came) = world.send(60).await;
    let out: Vec<usize> = (1..4).filter(|which| came[*which] == 0).collect();
    assert_eq!(out.len(), 2, "half of them: {came:?}");
    for which in &out {
        world.is_ejected(*which).await;
    }
    assert_eq!(world.ejected().await, out);
    let kept = (1..4).find(|which| !out.contains(which)).expect("one of three");
    assert!(came[good] >= 20 && came[kept] >= 20, "{came:?}");

    // One of four would take the load of all.
    world.fail(&[]);
    world.origins[kept].close_listeners();
    world.is(kept, |told| told["condition"] == "unhealthy").await;
    let (failed, came) = world.send(60).await;
    assert_eq!((failed, came[kept]), (0, 0), "{came:?}");
    assert!(out.iter().all(|which| came[*which] >= 15) && came[good] >= 15, "all that are left: {came:?}");
    assert_eq!(world.ejected().await, out, "they are not back for that");
}

#[tokio::test]
async fn the_last_one_stays_and_none_goes_while_all_fail_alike() {
    let _netns = Netns::enter();
    let world = World::of(2, "").await;
    world.fail(&[0, 1]);
    assert_eq!(world.send(40).await, (40, vec![20, 20]), "a database that is down takes nobody out");
    assert_eq!(world.ejected().await, Vec::<usize>::new());
    world.fail(&[1]);
    let (_, came) = world.send(40).await;
    assert!(came[1] <= 6, "{came:?}");
    world.is_ejected(1).await;
    world.fail(&[0, 1]);
    let (failed, came) = world.send(40).await;
    assert_eq!(
        (failed, came),
        (40, vec![40, 0]),
        "somebody has to answer, and it is not the one that is out"
    );
    assert_eq!(world.ejected().await, [1]);
    world.fail(&[1]);
    assert_eq!(world.send(10).await, (0, vec![10, 0]));
}
