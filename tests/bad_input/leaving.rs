//! Clients that leave in the middle of something, or end their sending and still want their answer.
//!
//! Not here: crowds of them (see [`crate::crowds`]).

use fairway_testkit::raw::{End, Raw};
use fairway_testkit::{Fairway, until, wait::PATIENCE};

use crate::answers::Rig;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// It is killed: the system resets its connection.
    Resets,
    /// It closes in order.
    Closes,
}

fn leave(client: Raw, how: Leaves) {
    match how {
        Leaves::Resets => client.reset(),
        Leaves::Closes => drop(client),
    }
}

/// Requests at instances now, as `/metrics` says.
pub(crate) async fn in_flight(fairway: &Fairway) -> u64 {
    let text = fairway.admin("GET", "/metrics", None).await.ok("/metrics").text();
    let samples = text.lines().filter_map(|line| line.strip_prefix("fairway_requests_in_flight{"));
    let count = |sample: &str| {
        sample.rsplit_once("} ").and_then(|(_, count)| count.parse::<f64>().ok()).expect("a number")
    };
    samples.map(count).sum::<f64>() as u64
}

/// Waits until no request is at an instance.
pub(crate) async fn nothing_in_flight(fairway: &Fairway) {
    until("no request in flight", PATIENCE, async || (in_flight(fairway).await == 0).then_some(())).await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_instance_whenever_it_does() {
    let mut rig = Rig::start().await;
    for how in [Leaves::Resets, Leaves::Closes] {
        // In a body, with a length and with chunks.
        for (fields, part) in
            [("Content-Length: 10", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n")]
        {
            for method in ["POST", "GET"] {
                let request = format!("{method} / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n{part}");
                let (client, mut instance) = rig.ask(&request).await;
                instance.read_until(part).await;
                assert_eq!(in_flight(&rig.fairway).await, 1);
                leave(client, how);
                let (rest, _) = instance.read_to_end().await;
                assert_eq!(rest, b"", "{how:?}: the request got an end that was not there");
                rig.tells(499, "client-left");
            }
        }
        // In an answer whose octets it does not take.
        let (mut client, mut instance) = rig.ask(GET).await;
        instance.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
        client.read_until("hello").await;
        leave(client, how);
        while instance.send("5\r\nhello\r\n").await {}
        rig.tells(499, "client-left");
        // In a header, before anything was asked: nobody is told.
        let mut client = Raw::connect(rig.http()).await;
        client.send("GET / HTTP/1.1\r\nHost: a.t").await;
        leave(client, how);
    }
    // While the instance says nothing: only a reset shows it, since an end of sending may mean that the client waits.
    let (client, mut instance) = rig.ask(GET).await;
    client.reset();
    instance.read_to_end().await;
    rig.tells(499, "client-left");
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nhello",
    ] {
        let (mut client, mut instance) = rig.ask(GET).await;
        instance.send(answer).await;
        client.read_until("hello").await;
        client.reset();
        assert_eq!(instance.read_to_end().await.0, b"", "{answer}");
        rig.tells(499, "client-left");
    }
    nothing_in_flight(&rig.fairway).await;
    let mut client = Raw::connect(rig.http()).await;
    rig.goes_on("afterwards", &mut client).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_client_that_has_ended_its_sending_gets_its_answer_whole() {
    let mut rig = Rig::start().await;
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello";
    for request in [GET, post] {
        let (mut client, mut instance) = rig.ask(request).await;
        client.finish().await;
        instance.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for event in ["5\r\nfirst\r\n", "6\r\nsecond\r\n", "5\r\nthird\r\n"] {
            instance.send(event).await;
            assert!(client.read_until(event).await.ends_with(event.as_bytes()));
        }
        instance.send("0\r\n\r\n").await;
        let (rest, end) = client.read_to_end().await;
        assert_eq!((rest.as_slice(), end), (&b"0\r\n\r\n"[..], End::Closed));
        rig.tells(200, "ok");
        instance.reset();
    }
    // Half a request and an end are no request.
    for part in ["GET / HT", "GET / HTTP/1.1\r\nHost: a.test\r\n", ""] {
        let mut client = Raw::connect(rig.http()).await;
        client.send(part).await;
        client.finish().await;
        assert_eq!(client.read_to_end().await.0, b"", "{part}");
    }
    nothing_in_flight(&rig.fairway).await;
    let mut client = Raw::connect(rig.http()).await;
    rig.goes_on("afterwards", &mut client).await;
    rig.finish().await;
}
