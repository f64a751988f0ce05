//! Requests with bodies at instances that leave: what waits in the queue of a listener that is closed, or was read in part
//! when its connection is reset, is delivered elsewhere, once; what an instance resets that stays is not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::http2::kit as h2kit;
use crate::kit::*;

const KIB: usize = 1024;

/// None, what one read takes, a little more, and what is below and above each limit of what is kept.
const SIZES: [usize; 7] = [0, KIB, 4 * KIB + 1, 63 * KIB, 64 * KIB + 1, 100 * KIB, 1024 * KIB];

/// How long after its beginning a request that was sent whole is taken to have been lost.
const QUEUED: Duration = Duration::from_secs(1);

/// What the system of an instance takes at least, with nobody to read it.
const TAKEN: usize = 60 * KIB;

/// Longer than any system takes without a reader: the end of such a body is certainly held back.
const ENDLESS: usize = 512 * KIB;

/// A request with a body.
#[derive(Debug, Clone, Copy)]
struct Upload {
    method: &'static str,
    octets: usize,
    chunked: bool,
    over_http2: bool,
}

impl Upload {
    fn post(octets: usize) -> Self {
        Self { method: "POST", octets, chunked: false, over_http2: false }
    }

    fn body(self) -> Vec<u8> {
        (0..self.octets).map(|n| b'a' + (n % 23) as u8).collect()
    }

    /// The start of it, as a client of HTTP/1.1 says it.
    fn head(self, more: &str) -> String {
        let framing = match self.chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", self.octets),
        };
        format!("{} /once HTTP/1.1\r\nHost: shop.test\r\n{framing}\r\n{more}\r\n", self.method)
    }

    /// The body as it is framed.
    fn framed(self) -> Vec<u8> {
        if !self.chunked {
            return self.body();
        }
        let mut framed = Vec::new();
        for chunk in self.body().chunks(10_000) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        framed
    }

    /// A client that sends it; gives the status of the answer.
    fn send(self, plane: &Plane) -> JoinHandle<u16> {
        match self.over_http2 {
            true => tokio::spawn(self.send_http2(plane.address)),
            false => tokio::spawn(self.send_http1(plane.address)),
        }
    }

    async fn send_http1(self, address: SocketAddr) -> u16 {
        let stream = tokio::net::TcpStream::connect(address).await.expect("the data plane accepts");
        let mut client = Wire::new(stream);
        client.send([self.head("").into_bytes(), self.framed()].concat()).await;
        status(&client.head().await)
    }

    async fn send_http2(self, address: SocketAddr) -> u16 {
        let client = h2kit::client_at(address, &h2::client::Builder::new()).await;
        let mut request = Request::builder().method(self.method).uri("http://shop.test/once");
        if !self.chunked {
            request = request.header("content-length", self.octets);
        }
        let (mut client, request) =
            (client.ready().await.expect("room"), request.body(()).expect("a request"));
        let (response, mut stream) = client.send_request(request, false).expect("it is open");
        stream.send_data(Bytes::from(self.body()), true).expect("it is open");
        within("an answer", response).await.expect("an answer").status().as_u16()
    }

    /// Reads it, and checks that it came whole.
    async fn arrives(self, at: &mut Wire) {
        let head = at.head().await;
        assert!(head.starts_with(&format!("{} /once ", self.method)), "{head}");
        let mut body = Vec::new();
        if field(&head, "Transfer-Encoding").is_none() {
            let length = field(&head, "Content-Length").and_then(|length| length.parse().ok());
            body = at.read_exactly(length.expect("a length")).await;
        } else {
            loop {
                let line = at.read_until("\r\n").await;
                let length = usize::from_str_radix(line.trim_end(), 16).expect("a chunk");
                body.extend(at.read_exactly(length + 2).await.drain(..length));
                if length == 0 {
                    break;
                }
            }
        }
        assert!(body == self.body(), "{self:?}: {} octets", body.len());
    }

    /// The same, and answers it.
    async fn is_served(self, at: &Origin) {
        let mut at = at.accept().await;
        self.arrives(&mut at).await;
        at.send(ok("once")).await;
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// Octets that wait unread on connections to this address, accepted or not.
fn unread(address: SocketAddr) -> usize {
    let local = format!("0100007F:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux says it");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let established = fields.filter(|fields| fields[1] == local && fields[3] == "01");
    let waiting = |fields: Vec<&str>| usize::from_str_radix(fields[4].split(':').nth(1)?, 16).ok();
    established.filter_map(waiting).sum()
}

/// Waits until so much does.
async fn comes(address: SocketAddr, octets: usize) {
    within("the request", async {
        while unread(address) < octets {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Whether nobody connects, or has connected.
async fn is_left_alone(origin: &Origin) -> bool {
    timeout(Duration::ZERO, origin.accept_when_there_is_one()).await.is_err()
}

/// How an instance leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// It closes its listener, where the request waits.
    Unaccepted,
    /// It has read a little of the request, and closes the connection.
    ReadInPart,
}

/// A request to the only instance, which is told to stop and leaves so, for another one to come: the status, unless what
/// was to happen within a moment took longer.
async fn leave(upload: Upload, leaving: Leaving, news_first: bool) -> Option<u16> {
    let (first, second) = (Origin::new().await, Origin::new().await);
    let mut plane = Plane::shop(&[&first]);
    let (id, address) = (plane.cluster.ids()[0].clone(), second.address);
    let (began, client) = (Instant::now(), upload.send(&plane));
    comes(first.address, TAKEN.min(upload.octets + 1)).await;
    let mut news = || {
        plane.change(|cluster| {
            cluster.stop(&id);
            cluster.add(address, "shop.test", &[]);
        });
    };
    if news_first {
        news();
    }
    if leaving == Leaving::ReadInPart {
        let accepted = first.accept().await.stream;
        accepted.readable().await.expect("it came");
        accepted.try_read(&mut [0; 10]).expect("it came");
    }
    drop(first);
    let late = began.elapsed();
    if !news_first {
        news();
    }
    let mut client = client;
    let status = tokio::select! {
        () = upload.is_served(&second) => client.await.expect("the client"),
        status = &mut client => status.expect("the client"),
    };
    assert!(is_left_alone(&second).await, "it comes once");
    let is_late = status == 502 && upload.octets < ENDLESS && late > QUEUED / 2;
    (!is_late).then_some(status)
}

/// Requests of all sizes to instances that leave so.
async fn all_sizes(over_http2: bool, leaving: Leaving) {
    for (n, octets) in SIZES.into_iter().enumerate() {
        for chunked in [false, true] {
            let upload = Upload { chunked, over_http2, ..Upload::post(octets) };
            let status = within(&format!("{upload:?}, {leaving:?}, on a machine that has time"), async {
                loop {
                    if let Some(status) = leave(upload, leaving, n % 2 == 0).await {
                        return status;
                    }
                }
            })
            .await;
            assert_eq!(status, 200, "{upload:?}, {leaving:?}");
        }
    }
}

#[tokio::test]
async fn what_waits_in_the_queue_of_a_listener_that_a_stopping_instance_closes_goes_to_another() {
    all_sizes(false, Leaving::Unaccepted).await;
}

#[tokio::test]
async fn what_a_client_sends_over_http2_does_so_too() {
    all_sizes(true, Leaving::Unaccepted).await;
}

#[tokio::test]
async fn what_a_stopping_instance_has_read_in_part_when_it_resets_a_new_connection_goes_to_another() {
    all_sizes(false, Leaving::ReadInPart).await;
}

#[tokio::test]
async fn what_an_instance_resets_that_stays_goes_nowhere_else() {
    let mut all = JoinSet::new();
    for octets in SIZES {
        for reads in [true, false] {
            all.spawn(async move {
                let (first, second) = (Origin::new().await, Origin::new().await);
                let plane = Plane::shop(&[&first, &second]);
                let upload = Upload::post(octets);
                let client = upload.send(&plane);
                let (mut at, other) = tokio::select! {
                    at = first.accept() => (at, &second),
                    at = second.accept() => (at, &first),
                };
                if reads {
                    upload.arrives(&mut at).await;
                } else {
                    at.stream.peek(&mut [0]).await.expect("it came");
                }
                at.reset();
                assert_eq!(client.await.expect("the client"), 502, "{octets}, {reads}");
                assert!(is_left_alone(other).await, "{octets}, {reads}");
            });
        }
    }
    while let Some(done) = all.join_next().await {
        done.expect("each is refused");
    }
}

#[tokio::test]
async fn a_large_request_that_may_be_repeated_goes_to_another_instance_if_its_beginning_is_lost() {
    let (first, second) = (Origin::new().await, Origin::new().await);
    let plane = Plane::shop(&[&first, &second]);
    let upload = Upload { method: "PUT", ..Upload::post(ENDLESS) };
    let client = upload.send(&plane);
    let (at, other) = tokio::select! {
        at = first.accept() => (at, &second),
        at = second.accept() => (at, &first),
    };
    at.stream.peek(&mut [0]).await.expect("it came");
    drop(at);
    upload.is_served(other).await;
    assert_eq!(client.await.expect("the client"), 200);
}

#[tokio::test]
async fn what_an_instance_has_taken_of_a_large_body_goes_nowhere_else() {
    let (first, second) = (Origin::new().await, Origin::new().await);
    let mut plane = Plane::shop(&[&first]);
    let upload = Upload::post(4 * ENDLESS);
    let client = upload.send(&plane);
    let mut at = first.accept().await;
    at.head().await;
    at.read_exactly(ENDLESS).await;
    let id = plane.cluster.ids()[0].clone();
    plane.change(|cluster| {
        cluster.stop(&id);
        cluster.add(second.address, "shop.test", &[]);
    });
    drop((at, first));
    assert_eq!(client.await.expect("the client"), 502);
    assert!(is_left_alone(&second).await);
}

#[tokio::test]
async fn the_rest_of_a_body_that_its_client_sends_later_follows_what_was_lost_of_it() {
    for expects in [true, false] {
        let (first, second) = (Origin::new().await, Origin::new().await);
        let mut plane = Plane::shop(&[&first]);
        let upload = Upload::post(ENDLESS);
        let mut client = plane.connect().await;
        client.send(upload.head(if expects { "Expect: 100-continue\r\n" } else { "" })).await;
        let body = upload.body();
        let sent = if expects { 0 } else { 10_000 };
        client.send(&body[..sent]).await;
        comes(first.address, sent + 1).await;
        let id = plane.cluster.ids()[0].clone();
        plane.change(|cluster| {
            cluster.stop(&id);
            cluster.add(second.address, "shop.test", &[]);
        });
        drop(first);
        let mut at = second.accept().await;
        if expects {
            at.stream.peek(&mut [0]).await.expect("the head comes");
            at.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            assert!(client.head().await.starts_with("HTTP/1.1 100 "));
        }
        let rest = async {
            client.send(&body[sent..]).await;
            client.head().await
        };
        let serve = async {
            upload.arrives(&mut at).await;
            at.send(ok("once")).await;
        };
        let (head, ()) = tokio::join!(rest, serve);
        assert_eq!(status(&head), 200);
    }
}

#[tokio::test]
async fn an_instance_may_answer_a_large_request_without_reading_it() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let client = Upload::post(ENDLESS).send(&plane);
    let mut at = origin.accept().await;
    at.stream.peek(&mut [0]).await.expect("it came");
    at.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.await.expect("the client"), 413);
}

#[tokio::test]
async fn an_instance_that_never_reads_a_large_request_is_waited_for_as_for_an_answer() {
    let origin = Origin::new().await;
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(origin.address, "shop.test", &[("fairway.timeout.first_byte", "300ms")]);
    });
    let client = Upload::post(ENDLESS).send(&plane);
    assert_eq!(client.await.expect("the client"), 504);
}

#[tokio::test]
async fn an_instance_that_reads_slowly_gets_all_of_a_large_request() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    for chunked in [false, true] {
        let upload = Upload { chunked, ..Upload::post(ENDLESS) };
        let client = upload.send(&plane);
        comes(origin.address, TAKEN).await;
        let mut at = origin.accept().await;
        at.stream.peek(&mut [0]).await.expect("it came");
        upload.arrives(&mut at).await;
        at.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(client.await.expect("the client"), 200);
    }
}
