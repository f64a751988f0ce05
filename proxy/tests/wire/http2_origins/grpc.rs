//! Calls of gRPC: through HTTP/2 on both sides, in streams, and refused in their own words.

use bytes::Bytes;
use h2::SendStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use prometheus::{Registry, TextEncoder};

use super::kit::*;
use crate::http2::kit as client;
use crate::kit::*;

fn call(path: &str) -> http::request::Builder {
    Request::post(format!("http://shop.test{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
}

fn message(text: &str) -> Bytes {
    let mut message = vec![0];
    message.extend_from_slice(&(text.len() as u32).to_be_bytes());
    message.extend_from_slice(text.as_bytes());
    message.into()
}

fn status(status: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", status.parse().expect("a value"));
    fields.insert("grpc-message", "as%20said".parse().expect("a value"));
    fields
}

fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc+proto").body(()).expect("a head")
}

/// Answers a unary call with its own message and this status.
async fn echo(asked: &mut Asked, how: &str) {
    let message = asked.read().await.expect("a message");
    let mut body = asked.head_of(head());
    body.send_data(message.into(), false).expect("it is open");
    body.send_trailers(status(how)).expect("it is open");
}

/// Begins a call.
async fn begin(
    client: &SendRequest<Bytes>,
    request: Request<()>,
) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    client.clone().ready().await.expect("it is open").send_request(request, false).expect("sent")
}

async fn next(body: &mut h2::RecvStream) -> Option<Bytes> {
    loop {
        let data = within("a message", body.data()).await?.expect("a message");
        body.flow_control().release_capacity(data.len()).expect("it is open");
        if !data.is_empty() {
            return Some(data);
        }
    }
}

fn scrape(plane: &Plane) -> String {
    let registry = Registry::new();
    let collector = fairway_proxy::metrics::TableCollector::new(plane.handle.clone()).expect("names");
    registry.register(Box::new(collector)).expect("once");
    TextEncoder::new().encode_to_string(&registry.gather()).expect("text")
}

/// How often calls ended with this status at this backend, which may be none.
async fn counted(plane: &Plane, backend: &str, status: &str, want: u64) {
    let labels = [format!("backend=\"{backend}\""), format!("grpc_status=\"{status}\"")];
    within(&format!("{want} of {labels:?}"), async {
        loop {
            let text = scrape(plane);
            let line = text.lines().find(|line| {
                line.starts_with("fairway_grpc_requests_total{")
                    && labels.iter().all(|label| line.contains(label))
            });
            if line.is_some_and(|line| line.ends_with(&format!(" {want}"))) {
                return;
            }
            // The count comes after the client has its answer.
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_unary_call_goes_through_with_its_message_and_its_status_and_is_counted() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let client = client::client(&plane).await;
    for how in ["0", "5", "0"] {
        let request = call("/shop.Cart/Get").header("x-metadata-bin", "AAE").body(()).expect("a call");
        let (response, mut up) = begin(&client, request).await;
        up.send_data(message("hello"), true).expect("it is open");
        let mut asked = origin.asked().await;
        let fields = asked.head.headers();
        assert_eq!(
            (&fields["te"], &fields["content-type"]),
            (&"trailers".parse().expect("a value"), &"application/grpc+proto".parse().expect("a value"))
        );
        assert_eq!(fields["x-metadata-bin"], "AAE");
        echo(&mut asked, how).await;
        let response = within("an answer", response).await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "application/grpc+proto");
        let (octets, trailers) = client::read(response.into_body()).await.expect("a message");
        assert_eq!(octets, message("hello"));
        let trailers = trailers.expect("trailers");
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&how.parse().expect("a value"), &"as%20said".parse().expect("a value"))
        );
    }
    counted(&plane, "shop@v1", "0", 2).await;
    counted(&plane, "shop@v1", "5", 1).await;
}

#[tokio::test]
async fn an_answer_of_trailers_alone_stays_one() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let client = client::client(&plane).await;
    let (response, _up) = begin(&client, call("/a.B/C").body(()).expect("a call")).await;
    let mut asked = origin.asked().await;
    let mut only = head();
    only.headers_mut().extend(status("12"));
    asked.respond.send_response(only, true).expect("it is open");
    let response = within("an answer", response).await.expect("an answer");
    assert_eq!(response.headers()["grpc-status"], "12");
    assert!(!response.headers().contains_key("content-length"), "{:?}", response.headers());
    assert!(response.body().is_end_stream());
    counted(&plane, "shop@v1", "12", 1).await;
}

#[tokio::test]
async fn messages_of_a_stream_go_both_ways_one_by_one_as_they_come() {
    let mut origin = H2Origin::new().await;
    // Shorter than the call: silence of one direction alone does not end it.
    let plane = plane(&[origin.address], &[("fairway.timeout.idle", "1s")]);
    let client = client::client(&plane).await;
    let (response, mut up) = begin(&client, call("/chat.Chat/Talk").body(()).expect("a call")).await;
    let mut asked = origin.asked().await;
    let mut down = asked.head_of(head());
    let mut heard = within("the head", response).await.expect("an answer").into_body();
    for turn in 0..5 {
        up.send_data(message(&format!("ask {turn}")), false).expect("it is open");
        assert_eq!(next(&mut asked.body).await, Some(message(&format!("ask {turn}"))));
        down.send_data(message(&format!("answer {turn}")), false).expect("it is open");
        assert_eq!(next(&mut heard).await, Some(message(&format!("answer {turn}"))));
    }
    // The client alone speaks for longer than a silence may last.
    for turn in 0..8 {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        up.send_data(message(&format!("more {turn}")), false).expect("it is open");
        assert_eq!(next(&mut asked.body).await, Some(message(&format!("more {turn}"))));
    }
    up.send_data(Bytes::new(), true).expect("it is open");
    assert_eq!(next(&mut asked.body).await, None);
    down.send_trailers(status("0")).expect("it is open");
    assert_eq!(next(&mut heard).await, None);
    let trailers = within("trailers", heard.trailers()).await.expect("trailers").expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn our_refusals_are_trailers_alone_over_http2_and_problems_over_http1() {
    let silent = H2Origin::new().await;
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(refused_address(), "gone.test", &[H2C]);
        let slow = [H2C, ("fairway.version", "v2"), ("fairway.timeout.first_byte", "100ms")];
        cluster.add(silent.address, "slow.test", &slow);
    });
    let client = client::client(&plane).await;
    for (host, timeout, want, word) in [
        ("nowhere.test", None, "12", "no-route: "),
        ("gone.test", None, "14", "connect-failed: "),
        ("slow.test", None, "14", "upstream-timeout: "),
        ("slow.test", Some("50m"), "4", "total-timeout: "),
    ] {
        let mut request =
            Request::post(format!("http://{host}/a.B/C")).header("content-type", "application/grpc");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let (response, mut up) = begin(&client, request.body(()).expect("a call")).await;
        up.send_data(message("x"), true).expect("it is open");
        let response = within(word, response).await.expect("an answer");
        let fields = response.headers();
        assert_eq!(response.status(), 200, "{host}");
        assert_eq!(
            (&fields["content-type"], &fields["grpc-status"]),
            (&"application/grpc".parse().expect("a value"), &want.parse().expect("a value")),
            "{host}"
        );
        let said = fields["grpc-message"].to_str().expect("text");
        assert!(said.starts_with(word), "{said}");
        assert!(response.body().is_end_stream(), "{host}");
    }
    counted(&plane, "", "12", 1).await;
    counted(&plane, "shop@v1", "14", 1).await;
    counted(&plane, "shop@v2", "14", 1).await;
    counted(&plane, "shop@v2", "4", 1).await;
    let body = "POST / HTTP/1.1\r\nHost: nowhere.test\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = plane.exchange(body).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("problem+json"), "{answer}");
}

#[tokio::test]
async fn the_timeout_of_a_call_goes_on_to_the_instance() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[("fairway.timeout.total", "1h")]);
    let client = client::client(&plane).await;
    let request = call("/a.B/C").header("grpc-timeout", "200m").body(()).expect("a call");
    let (response, _up) = begin(&client, request).await;
    let asked = origin.asked().await;
    assert_eq!(asked.head.headers()["grpc-timeout"], "200m");
    let response = within("an answer", response).await.expect("an answer");
    assert_eq!(response.headers()["grpc-status"], "4");
}

#[tokio::test]
async fn an_instance_that_says_unavailable_is_avoided_for_a_while() {
    let (mut bad, good) = (H2Origin::new().await, H2Origin::new().await);
    let mut plane = plane(&[bad.address], &[]);
    let client = client::client(&plane).await;
    let (response, mut up) = begin(&client, call("/a.B/C").body(()).expect("a call")).await;
    up.send_data(message("x"), true).expect("it is open");
    echo(&mut bad.asked().await, "14").await;
    let response = within("an answer", response).await.expect("an answer");
    client::read(response.into_body()).await.expect("the client is told");
    counted(&plane, "shop@v1", "14", 1).await;
    let address = good.serve("good");
    plane.change(|cluster| drop(cluster.add(address, "shop.test", &[H2C])));
    for _ in 0..10 {
        let (_, body) = client::get(&client, client::ask("/")).await;
        assert_eq!(body, "good");
    }
}

#[tokio::test]
async fn over_http1_a_call_is_passed_on_as_it_is() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut wire = plane.connect().await;
    wire.send("POST /a.B/C HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/grpc\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    let mut up = origin.accept().await;
    let head = up.head().await;
    assert_eq!(
        (field(&head, "content-type"), field(&head, "te")),
        (Some("application/grpc"), Some("trailers"))
    );
    up.read_until("0\r\n\r\n").await;
    up.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGrpc-Status: 7\r\n\r\n")
        .await;
    wire.read_until("Grpc-Status: 7\r\n\r\n").await;
    counted(&plane, "shop@v1", "7", 1).await;
}

/// An address that refuses connections.
fn refused_address() -> std::net::SocketAddr {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    free.local_addr().expect("an address")
}

#[tokio::test]
async fn a_deadline_that_the_client_set_says_nothing_against_the_instance() {
    let mut origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let client = client::client(&plane).await;
    for _ in 0..3 {
        let request = call("/a.B/C").header("grpc-timeout", "20m").body(()).expect("a call");
        let (response, mut up) = begin(&client, request).await;
        up.send_data(message("x"), true).expect("it is open");
        assert_eq!(within("an answer", response).await.expect("an answer").headers()["grpc-status"], "4");
        origin.asked().await;
    }
    let view = plane.explain("shop.test");
    assert!(view.contains("shop@v1") && !view.contains("failed last"), "{view}");
}
