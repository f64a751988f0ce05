use std::time::Duration;

use http::Response;
use tokio::net::TcpListener;

use super::*;
use crate::testing::answering;

/// How a server answers a check.
#[derive(Clone, Copy)]
enum Reply {
    /// With this message, and `grpc-status: 0` behind it.
    Message(&'static [u8]),
    /// With this `grpc-status` alone.
    Status(&'static str),
    /// With this HTTP status.
    Http(u16),
    /// With a reset of the stream.
    Reset,
    /// Not at all.
    Silence,
}

/// A server of grpc.health.v1, and what it is asked.
async fn server(reply: Reply) -> (SocketAddr, tokio::sync::mpsc::Receiver<(Request<()>, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let address = listener.local_addr().expect("it is bound");
    let (tell, told) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("the client speaks HTTP/2");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let tell = tell.clone();
                    tokio::spawn(async move {
                        let (head, mut body) = request.into_parts();
                        let asked = read(&mut body).await.expect("the message comes").to_vec();
                        let _ = tell.send((Request::from_parts(head, ()), asked)).await;
                        answer(reply, &mut respond).await;
                    });
                }
            });
        }
    });
    (address, told)
}

async fn answer(reply: Reply, respond: &mut h2::server::SendResponse<Bytes>) {
    let head = Response::builder().header(CONTENT_TYPE, "application/grpc");
    match reply {
        Reply::Message(message) => {
            let mut body = respond.send_response(head.body(()).expect("a head"), false).expect("it is open");
            let message = [&[0, 0, 0, 0, message.len() as u8], message].concat();
            body.send_data(message.into(), false).expect("it is open");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("a value"));
            body.send_trailers(trailers).expect("it is open");
        }
        Reply::Status(status) => {
            let head = head.header("grpc-status", status).body(()).expect("a head");
            respond.send_response(head, true).expect("it is open");
        }
        Reply::Http(status) => {
            let head = Response::builder().status(status).body(()).expect("a head");
            respond.send_response(head, true).expect("it is open");
        }
        Reply::Reset => respond.send_reset(h2::Reason::REFUSED_STREAM),
        Reply::Silence => std::future::pending().await,
    }
}

async fn checked(address: SocketAddr, service: &str) -> (Grade, String) {
    let outcome =
        check(Target { address, header: None }, service, Limit::starting_now(Duration::from_millis(500)))
            .await;
    (outcome.grade, outcome.detail.to_string())
}

#[tokio::test]
async fn serving_is_success_and_everything_else_a_failure_that_says_why() {
    for (reply, grade, detail) in [
        (Reply::Message(&[8, 1]), Grade::Success, "grpc health check of shop.Cart answered SERVING"),
        (Reply::Message(&[8, 2]), Grade::Failure, "grpc health check of shop.Cart: it answered NOT_SERVING"),
        (Reply::Message(&[]), Grade::Failure, "it answered status 0, which is not SERVING"),
        (Reply::Message(&[8]), Grade::Failure, "the answer is no HealthCheckResponse"),
        (Reply::Status("5"), Grade::Failure, "the server does not know this service"),
        (Reply::Status("12"), Grade::Failure, "the server does not offer grpc.health.v1"),
        (Reply::Status("14"), Grade::Failure, "it failed with grpc-status 14"),
        (Reply::Http(404), Grade::Failure, "the answer is not gRPC: HTTP status 404"),
        (Reply::Reset, Grade::Failure, "the server ended the request: "),
        (Reply::Silence, Grade::Failure, "no answer within 500ms"),
    ] {
        let (address, _asked) = server(reply).await;
        let (got, text) = checked(address, "shop.Cart").await;
        assert_eq!(got, grade, "{text}");
        assert!(text.starts_with("grpc health check of shop.Cart") && text.contains(detail), "{text}");
    }
}

#[tokio::test]
async fn the_health_service_is_asked_in_the_words_of_grpc() {
    let (address, mut asked) = server(Reply::Message(&[8, 1])).await;
    assert_eq!(checked(address, "").await.0, Grade::Success);
    let (head, message) = asked.recv().await.expect("it was asked");
    assert_eq!(head.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(
        (head.method().as_str(), &head.headers()[TE]),
        ("POST", &"trailers".parse().expect("a value"))
    );
    assert_eq!(head.headers()[CONTENT_TYPE], "application/grpc");
    assert_eq!(message, [0; PREFIX]);
}

#[tokio::test]
async fn a_server_of_another_protocol_fails() {
    let http1 = answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let closing = answering(b"").await;
    for (address, why) in [(http1, "the answer is not HTTP/2"), (closing, "")] {
        let (grade, text) = checked(address, "").await;
        assert_eq!(grade, Grade::Failure, "{text}");
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn the_request_names_the_service_if_there_is_one() {
    assert_eq!(message("")[..], [0, 0, 0, 0, 0]);
    assert_eq!(message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    let long = message(&"x".repeat(300));
    assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    assert_eq!(long.len(), PREFIX + 303);
}

#[test]
fn the_status_is_found_among_fields_of_later_versions_and_nonsense_is_none() {
    for (body, want) in [
        (&[8, 1][..], Some(1)),
        (&[], Some(0)),
        (&[0x12, 3, 1, 2, 3, 8, 2], Some(2)),
        (&[0x10, 0xff, 1, 0x1d, 0, 0, 0, 0, 8, 1], Some(1)),
        (&[8], None),
        (&[0x12, 9, 1], None),
        (&[0x0b, 1], None),
        (&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
    ] {
        let mut message = vec![0, 0, 0, 0, body.len() as u8];
        message.extend_from_slice(body);
        assert_eq!(status(&message), want, "{body:?}");
    }
    assert_eq!(status(&[0, 0, 0, 0, 3, 8, 1]), None, "it is cut");
    assert_eq!(status(&[1, 0, 0, 0, 2, 8, 1]), None, "it is compressed");
    assert_eq!(status(b"ok"), None);
}
