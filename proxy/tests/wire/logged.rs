//! What is told of requests: one line each, and the counters.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use fairway_config::file::LogFormat;
use fairway_proxy::AccessLogConfig;

use crate::kit::*;

struct Lines(Sender<Vec<u8>>);

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.send(octets.to_vec()).map_err(std::io::Error::other)?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn logged() -> (Options, Receiver<Vec<u8>>) {
    let (sender, receiver) = channel();
    let log = AccessLogConfig { format: LogFormat::Json, to: Box::new(Lines(sender)) };
    (Options { access_log: Some(log), ..Options::default() }, receiver)
}

/// The lines of a plane that has stopped.
pub(crate) async fn lines(plane: Plane, receiver: Receiver<Vec<u8>>) -> Vec<serde_json::Value> {
    plane.drain(Duration::from_secs(5)).await;
    // The writer ends with the workers, and with it the channel.
    let text: Vec<u8> = receiver.iter().flatten().collect();
    let text = String::from_utf8(text).expect("text");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[tokio::test]
async fn every_request_is_told_once_with_what_became_of_it() {
    let origin = Origin::new().await;
    let (options, receiver) = logged();
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[("fairway.version", "v7")]);
    });
    origin.serve("hello");
    let mut client = plane.connect().await;
    client.send(get("/a?secret=1")).await;
    client.read_until("hello").await;
    client.send("GET /b HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    client.read_until("}\n").await;
    client.send("nonsense\r\n\r\n").await;
    client.read_to_end().await;

    let lines = lines(plane, receiver).await;
    let told =
        |key: &str| lines.iter().map(|line| line[key].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>();
    assert_eq!(told("reason"), ["ok", "no-route", "request-invalid"]);
    assert_eq!(told("path"), ["/a", "/b", ""]);
    assert_eq!(told("route"), ["shop.test/", "", ""]);
    assert_eq!(told("backend"), ["shop@v7", "", ""]);
    let ok = &lines[0];
    assert_eq!((&ok["status"], &ok["bytes"], &ok["attempts"]), (&200.into(), &5.into(), &1.into()), "{ok}");
    assert!(
        ok["connect_ms"].is_number() && ok["first_byte_ms"].is_number() && ok["total_ms"].is_number(),
        "{ok}"
    );
    assert_eq!(ok["client"], "127.0.0.1");
}

#[tokio::test]
async fn a_client_that_left_is_told_as_499() {
    let origin = Origin::new().await;
    let (options, receiver) = logged();
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    client.reset();
    assert!(instance.ends().await);
    let lines = lines(plane, receiver).await;
    assert_eq!((&lines[0]["status"], &lines[0]["reason"]), (&499.into(), &"client-left".into()));
}
