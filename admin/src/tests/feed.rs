//! The event feed: lists, long polls, streams, and what is no longer kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fairway_catalog::Catalog;
use fairway_store::EVENTS_KEPT;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::*;
use crate::feed::{Feed, Missed};

const SPLIT: &str = "/api/v1/routes/shop.company.com%2F/split";

fn kinds(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items.iter().filter_map(|event| event["type"].as_str()).collect()
}

/// The feed's revision once it is that of the catalog.
async fn settled(world: &World) -> u64 {
    let revision = world.catalogs.borrow().revision;
    let mut list = world.read("/api/v1/events").await;
    while list["revision"].as_u64().is_none_or(|seen| seen < revision) {
        tokio::task::yield_now().await;
        list = world.read("/api/v1/events").await;
    }
    revision
}

#[tokio::test]
async fn what_changed_is_told_after_a_revision() {
    let (world, _folder) = World::new().await;
    let revision = settled(&world).await;
    let all = world.read("/api/v1/events").await;
    assert_eq!(kinds(&all).iter().filter(|kind| **kind == "instance-added").count(), 5);
    assert_eq!(world.read(&format!("/api/v1/events?after={revision}")).await["items"], json!([]));
    world.put(SPLIT, &json!({"weights": {"v1": 1, "v2": 2}, "reason": "why not"})).await;
    settled(&world).await;
    let list = world.read(&format!("/api/v1/events?after={revision}")).await;
    assert_eq!(kinds(&list), ["route-split"]);
    let event = &list["items"][0];
    assert_eq!((&event["subject"], &event["from"]), (&json!("shop.company.com/"), &json!("equal")));
    assert_eq!((&event["to"], &event["reason"]), (&json!("shop/web@v1=1 shop/web@v2=2"), &json!("why not")));
    assert!(event["at"].is_string() && event["revision"].as_u64() > Some(revision), "{event}");
    assert_eq!(list["revision"], event["revision"]);
    let audit = world.read("/api/v1/audit").await;
    assert_eq!(audit["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_long_poll_ends_with_the_event_and_not_before() {
    let (world, _folder) = World::new().await;
    let revision = settled(&world).await;
    let polled = format!("/api/v1/events?after={revision}&wait=30s");
    let (list, ()) = tokio::join!(world.read(&polled), async {
        world.set_units(shop()[..2].to_vec()).await;
    });
    assert!(kinds(&list).contains(&"instance-removed"), "{list}");
}

#[tokio::test]
async fn a_long_poll_without_an_event_ends_with_its_wait() {
    let (world, _folder) = World::new().await;
    let revision = settled(&world).await;
    let begin = Instant::now();
    let list = world.read(&format!("/api/v1/events?after={revision}&wait=200ms")).await;
    assert_eq!((&list["items"], &list["revision"]), (&json!([]), &json!(revision)));
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    for query in ["after=x", "after=-1", "after=1&wait=1", "wait=soon", "after=99999999999999999999"] {
        world.get(&format!("/api/v1/events?{query}")).await.refused(400, "bad-query");
    }
}

/// Reads a stream until `enough`.
async fn read_until(stream: &mut Box<dyn Stream>, enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut octets = [0; 4096];
    while !enough(&text) {
        let n = within(stream.read(&mut octets)).await.expect("it can be read");
        assert!(n > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&octets[..n]));
    }
    text
}

async fn open_stream(world: &World, path: &str, fields: &str) -> Box<dyn Stream> {
    let mut stream = world.connect().await;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{fields}\r\n");
    within(stream.write_all(head.as_bytes())).await.expect("it can be sent");
    stream
}

#[tokio::test]
async fn a_stream_tells_what_was_and_then_what_comes_with_revisions_as_ids() {
    let (world, _folder) = World::new().await;
    settled(&world).await;
    let mut stream = open_stream(&world, "/api/v1/events", "").await;
    let past = read_until(&mut stream, |text| text.contains("\nid: ")).await;
    assert!(past.starts_with("HTTP/1.1 200"), "{past}");
    assert!(past.contains("content-type: text/event-stream"), "{past}");
    assert!(past.contains("data: {\"revision\":") && past.contains("\"type\":\"instance-added\""), "{past}");
    world.put(SPLIT, &json!({"weights": {"v1": 1, "v2": 2}})).await;
    let revision = settled(&world).await;
    let id = format!("id: {revision}\n");
    let next = read_until(&mut stream, |text| text.contains(&id)).await;
    assert!(next.contains("\"type\":\"route-split\""), "{next}");
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_id() {
    let (world, _folder) = World::new().await;
    let revision = settled(&world).await;
    world.put(SPLIT, &json!({"weights": {"v1": 1, "v2": 2}})).await;
    settled(&world).await;
    let resume = format!("Last-Event-ID: {revision}\r\n");
    let mut stream = open_stream(&world, "/api/v1/events?after=0", &resume).await;
    let text = read_until(&mut stream, |text| text.contains("\nid: ")).await;
    assert!(text.contains("route-split") && !text.contains("instance-added"), "{text}");
}

#[tokio::test]
async fn streams_and_polls_end_at_a_stop() {
    let (world, _folder) = World::new().await;
    let revision = settled(&world).await;
    let mut stream = open_stream(&world, &format!("/api/v1/events?after={revision}"), "").await;
    read_until(&mut stream, |text| text.contains("retry:")).await;
    let mut poll = world.connect().await;
    let head = format!(
        "GET /api/v1/events?after={revision}&wait=60s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    within(poll.write_all(head.as_bytes())).await.expect("it can be sent");
    // A later request on another connection is answered: the poll before it is being served.
    world.get("/livez").await;
    let begin = Instant::now();
    world.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(4), "cut off rather than ended: {:?}", begin.elapsed());
    let mut rest = String::new();
    within(poll.read_to_string(&mut rest)).await.expect("a whole answer");
    assert!(rest.is_empty() || rest.contains("\"items\":[]"), "{rest}");
}

#[tokio::test]
async fn what_is_no_longer_kept_and_what_never_was_is_410() {
    let folder = folder();
    let world = World::start(Plan { store: false, ..Plan::default() }, folder.path()).await;
    let revision = settled(&world).await;
    let ahead =
        world.get(&format!("/api/v1/events?after={}", revision + 1)).await.refused(410, "revision-ahead");
    assert_eq!(ahead["revision"], revision);
    let path = format!("/api/v1/events?after={}", revision + 1);
    let mut stream = open_stream(&world, &path, "Connection: close\r\n").await;
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("a whole answer");
    assert!(answer.starts_with("HTTP/1.1 410"), "{answer}");
    // A shop with as many instances as events are kept pushes the first ones out.
    let said = ("aliyun.routing.port_80", "shop.company.com");
    let many = (0..EVENTS_KEPT + 10).map(|n| {
        let mut unit = unit(1, "shop/web@v1", &[said]);
        unit.id = format!("{n:064}").chars().rev().collect::<String>().into();
        unit.ip = Some([10, 0, (n / 256) as u8, (n % 256) as u8].into());
        unit
    });
    world.set_units(many.collect()).await;
    settled(&world).await;
    let gone = world.get("/api/v1/events?after=0").await.refused(410, "events-compacted");
    let oldest = gone["revision"].as_u64().expect("where to go on");
    assert_eq!(world.get(&format!("/api/v1/events?after={oldest}")).await.status, 200);
    assert_eq!(world.get("/api/v1/events").await.status, 200, "what is kept needs no revision");
}

#[tokio::test]
async fn events_outlive_the_process_and_revisions_go_on() {
    let folder = folder();
    let world = World::start(Plan::default(), folder.path()).await;
    world.put(SPLIT, &json!({"weights": {"v1": 1, "v2": 2}})).await;
    let revision = settled(&world).await;
    world.stop().await;
    let world = World::start(Plan::default(), folder.path()).await;
    let again = settled(&world).await;
    assert!(again > revision, "{again} after {revision}");
    let list = world.read("/api/v1/events?after=0").await;
    let split =
        |event: &&Value| event["type"] == "route-split" && event["revision"].as_u64() <= Some(revision);
    assert_eq!(list["items"].as_array().expect("a list").iter().filter(split).count(), 1, "{list}");
    assert_eq!(world.get(&format!("/api/v1/events?after={revision}")).await.status, 200);
}

#[tokio::test]
async fn events_that_could_not_be_stored_are_stored_later() {
    let (world, folder) = World::new().await;
    let revision = settled(&world).await;
    let store = world.store.clone().expect("a store");
    let (path, aside) = (store.path().to_owned(), folder.path().join("aside"));
    std::fs::rename(&path, &aside).expect("rename");
    world.set_units(shop()[..1].to_vec()).await;
    let mut catalogs = world.catalogs.clone();
    let told = |catalog: &Arc<Catalog>| catalog.problems.iter().any(|problem| problem.kind == "store-gone");
    drop(within(catalogs.wait_for(told)).await.expect("the catalog goes on"));
    std::fs::rename(&aside, &path).expect("rename");
    // The stop writes what is left.
    world.stop().await;
    let stored = store.events_after(revision, 100).expect("events");
    assert!(stored.iter().any(|event| &*event.kind == "instance-removed"), "{stored:?}");
}

#[tokio::test]
async fn a_feed_without_a_store_begins_with_its_first_revision() {
    let feed = Feed::load(None, 7);
    assert_eq!(feed.after(None, 7), Ok((Vec::new(), 7)));
    assert_eq!(feed.after(Some(7), 7), Ok((Vec::new(), 7)));
    assert_eq!(feed.after(Some(6), 7), Err(Missed::Compacted { after: 6, oldest: 7 }));
    assert_eq!(feed.after(Some(8), 7), Err(Missed::Ahead { after: 8, newest: 7 }));
    assert_eq!(feed.after(Some(8), 9), Ok((Vec::new(), 7)), "readers may know a newer catalog than the feed");
    let _: Arc<Feed> = Arc::new(feed);
}
