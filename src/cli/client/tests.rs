use std::collections::HashMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::cli::testing::{answer_one, http};

fn client(url: &str, token_file: Option<&Path>) -> Client {
    let env: HashMap<_, _> = [("FAIRWAY_ADMIN_URL", url)].into();
    let args = ApiArgs { token_file: token_file.map(Into::into), ..ApiArgs::default() };
    Client::new(&args, &|name| env.get(name).map(|value| (*value).to_owned())).expect("the URL is one")
}

/// What a client that asked for `path` got, and what it sent.
async fn ask(
    answer: String,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (Result<Value, Failure>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client comes");
        answer_one(stream, &answer).await
    });
    let client = client(&url, None);
    let got = client.send(method, path, body.as_ref(), Duration::ZERO).await;
    let got = got.and_then(|answer| client.read(&answer));
    (got, server.await.expect("the server ends"))
}

#[tokio::test]
async fn a_request_carries_method_path_and_body() {
    let path = format!("/api/v1/routes/{}/split", component("shop.a.com/api"));
    let body = serde_json::json!({"weights": {"web@v1": 1}});
    let (got, request) = ask(http("200 OK", r#"{"a":1}"#), Method::PUT, &path, Some(body)).await;
    assert_eq!(got.expect("an answer")["a"], 1);
    assert!(request.starts_with("PUT /api/v1/routes/shop.a.com%2Fapi/split HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/json\r\n"), "{request}");
    assert!(request.ends_with("{\"weights\":{\"web@v1\":1}}"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
}

#[tokio::test]
async fn a_refusal_is_told_as_the_api_words_it() {
    let problem =
        r#"{"type":"/problems/unknown-route","title":"Not Found","status":404,"detail":"no route `x/`"}"#;
    let (got, _) = ask(http("404 Not Found", problem), Method::GET, "/api/v1/routes/x", None).await;
    let failure = got.expect_err("404");
    assert!(matches!(&failure, Failure::Refused(refusal) if refusal.status == 404), "{failure:?}");
    assert_eq!(failure.to_string(), "no route `x/`");
}

#[tokio::test]
async fn another_server_is_told_from_ours() {
    for answer in [
        http("404 Not Found", "<html>"),
        http("200 OK", "<html>"),
        "SSH-2.0-OpenSSH\r\n".to_owned(),
        String::new(),
    ] {
        let (got, _) = ask(answer.clone(), Method::GET, "/api/v1/routes", None).await;
        assert!(matches!(got, Err(Failure::NotOurs { .. })), "{answer}: {got:?}");
    }
}

#[tokio::test]
async fn a_token_is_sent_and_a_unix_socket_is_asked_as_localhost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (socket, token) = (folder.path().join("s"), folder.path().join("t"));
    std::fs::write(&token, "secret\n").expect("a file");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client comes");
        answer_one(stream, &http("200 OK", "{}")).await
    });
    let client = client(&format!("unix:{}", socket.display()), Some(&token));
    client.get::<Value>("/api/v1/status").await.expect("an answer");
    let request = server.await.expect("the server ends");
    assert!(request.contains("authorization: Bearer secret\r\n"), "{request}");
    assert!(request.contains("host: localhost\r\n"), "{request}");
}

#[tokio::test]
async fn when_nobody_listens_the_url_and_what_to_do_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    drop(listener);
    for url in [url.as_str(), "unix:/nowhere/fairway.sock"] {
        let failure = client(url, None).get::<Value>("/api/v1/status").await.expect_err("nobody listens");
        let text = failure.to_string();
        for part in [url, "`fairway run`", "--admin", "FAIRWAY_ADMIN_URL"] {
            assert!(text.contains(part), "`{part}` in {text}");
        }
    }
}

#[tokio::test]
async fn https_needs_a_server_that_speaks_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client comes");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("the client reads");
        let mut hello = Vec::new();
        // What the client does after that answer does not matter, only what it began with.
        let _ = stream.read_to_end(&mut hello).await;
        hello
    });
    let failure = client(&url, None).get::<Value>("/api/v1/status").await.expect_err("that is no TLS");
    assert!(matches!(failure, Failure::Unreachable { .. }), "{failure:?}");
    let hello = server.await.expect("the server ends");
    // A machine without certificate authorities does not get as far as the handshake.
    assert!(hello.first().is_none_or(|first| *first == 0x16), "a TLS handshake record: {hello:?}");
}

#[test]
fn a_bad_token_file_is_told_before_anything_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    for (content, why) in [("\n", "empty"), ("a\u{1}b", "one line")] {
        std::fs::write(&file, content).expect("a file");
        let error = authorization(&file).expect_err(why).to_string();
        assert!(error.contains(why) && error.contains("token"), "{error}");
    }
    let missing = authorization(&folder.path().join("none")).expect_err("no file");
    assert!(matches!(missing, Failure::Usage(_)));
}
