//! The origin's paths, as seen by a client on loopback.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use fairway_testkit::client::{self, Request};
use fairway_testkit::origin::{Identity, Mode, Origin};
use fairway_testkit::process::Process;
use fairway_testkit::raw::{self, End, Raw};
use fairway_testkit::ws::{self, Opcode};
use fairway_testkit::{programs, until};
use serde_json::json;
use tokio::io::AsyncReadExt;

const PATIENCE: Duration = Duration::from_secs(20);

async fn origin() -> Origin {
    Origin::start(Identity::new("one", "v1")).await
}

#[tokio::test]
async fn a_request_is_described_as_it_came() {
    let origin = origin().await;
    let request = Request { body: "four".into(), ..Request::new("PUT", "shop.local", "/a%2fb?c=d") };
    let answer = request.header("x-twice", "1").header("x-twice", "2").send(origin.address()).await;
    let told = answer.json();
    assert_eq!(told["instance"], "one");
    assert_eq!(told["version"], "v1");
    assert_eq!([&told["method"], &told["path"], &told["query"]], ["PUT", "/a%2fb", "c=d"]);
    assert_eq!(told["body_len"], 4);
    let headers = told["headers"].as_array().expect("a list");
    let of =
        |name| headers.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].clone()).collect::<Vec<_>>();
    assert_eq!(of("host"), [json!("shop.local")]);
    assert_eq!(of("x-twice"), [json!("1"), json!("2")]);
    assert_eq!([answer.header("x-instance"), answer.header("x-version")], ["one", "v1"]);
}

#[tokio::test]
async fn health_is_switched_by_post_alone() {
    let origin = origin().await;
    let status = async |method, path| Request::new(method, "h", path).send(origin.address()).await.status;
    assert_eq!(status("GET", "/health").await, 200);
    assert_eq!(status("GET", "/_health/fail").await, 405);
    assert_eq!(status("GET", "/health").await, 200);
    assert_eq!(status("POST", "/_health/fail").await, 503);
    assert_eq!(status("GET", "/health").await, 503);
    assert_eq!(status("POST", "/_health/ok").await, 200);
    assert_eq!(status("GET", "/health").await, 200);
}

#[tokio::test]
async fn bodies_have_the_size_asked_for() {
    let origin = origin().await;
    for size in [0, 1, 32 * 1024, 1_000_001] {
        let answer = client::get(origin.address(), "h", &format!("/bytes?n={size}")).await;
        assert_eq!(answer.body.len(), size);
        assert_eq!(answer.header("content-length"), size.to_string());
    }
    let answer = client::get(origin.address(), "h", "/chunked?n=3&ms=1").await;
    assert_eq!(answer.text(), "chunk 0\nchunk 1\nchunk 2\n");
    assert_eq!(answer.header("transfer-encoding"), "chunked");
}

#[tokio::test]
async fn events_come_one_by_one_without_end() {
    let origin = origin().await;
    let mut raw = Raw::connect(origin.address()).await;
    raw.send("GET /sse?ms=1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let head = raw.read_until("\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&head).contains("text/event-stream"));
    for number in 0..5 {
        raw.read_until(format!("data: {number}\n\n")).await;
    }
}

#[tokio::test]
async fn an_echo_starts_before_the_request_has_ended() {
    let origin = origin().await;
    let mut raw = Raw::connect(origin.address()).await;
    raw.send("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n").await;
    raw.read_until("part").await;
    raw.send("3\r\nend\r\n0\r\n\r\n").await;
    raw.read_until("end").await;
    raw.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn statuses_and_fields_are_those_asked_for() {
    let origin = origin().await;
    for status in [200, 204, 304, 404, 500, 599] {
        let path = format!("/status/{status}");
        assert_eq!(client::get(origin.address(), "h", &path).await.status, status);
    }
    assert_eq!(client::get(origin.address(), "h", "/status/100").await.status, 400);
    let answer = client::get(origin.address(), "h", "/fields?set-cookie=a%3D1&set-cookie=b%3D2").await;
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[tokio::test]
async fn an_early_answer_comes_while_the_body_is_still_owed() {
    let origin = origin().await;
    let mut raw = Raw::connect(origin.address()).await;
    raw.send("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nonly a start").await;
    raw.read_until("HTTP/1.1 413").await;
}

#[tokio::test]
async fn trailers_come_when_they_are_welcome() {
    let origin = origin().await;
    let welcome = Request::get("h", "/trailers").header("te", "trailers").send(origin.address()).await;
    assert_eq!(welcome.trailers["x-octets"], welcome.body.len().to_string().as_str());
    let unasked = client::get(origin.address(), "h", "/trailers").await;
    assert!(unasked.trailers.is_empty());
}

#[tokio::test]
async fn connections_end_as_asked() {
    let origin = origin().await;
    let end = async |path: &str| {
        let mut raw = Raw::connect(origin.address()).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let (octets, end) = raw.read_to_end().await;
        let text = String::from_utf8_lossy(&octets).into_owned();
        (text.split_once("\r\n\r\n").map(|(_, body)| body.len()), end)
    };
    assert!(matches!(end("/close").await, (Some(1..), End::Closed)));
    assert_eq!(end("/reset").await, (None, End::Reset));
    assert_eq!(end("/cut").await, (None, End::Closed));
    assert_eq!(end("/reset?after=100").await, (Some(100), End::Reset));
    assert_eq!(end("/cut?after=100").await, (Some(100), End::Closed));
}

#[tokio::test]
async fn a_web_socket_sends_everything_back() {
    let origin = origin().await;
    let mut socket = ws::connect(origin.address(), "h", "/ws").await.expect("101");
    for message in ["", "hello", &"long ".repeat(30_000)] {
        socket.send(Opcode::Text, message.as_bytes()).await.expect("an open socket takes messages");
        assert_eq!(socket.receive().await, Some((Opcode::Text, message.as_bytes().to_vec())));
    }
    let refused = ws::connect(origin.address(), "h", "/status/403").await;
    assert!(refused.is_err_and(|head| head.starts_with("HTTP/1.1 403 ")));
}

#[tokio::test]
async fn one_origin_calls_another() {
    let (first, second) = (origin().await, Origin::start(Identity::new("two", "v2")).await);
    let target = |address: SocketAddr| format!("/call?url=http://localhost:{}/x", address.port());
    let told = client::get(first.address(), "h", &target(second.address())).await.json();
    assert_eq!((&told["status"], &told["body"]["instance"]), (&json!(200), &json!("two")));
    let failed = client::get(first.address(), "h", "/call?url=http://nowhere.invalid/").await;
    assert_eq!(failed.status, 502);
    assert!(failed.text().contains("nowhere.invalid"), "{}", failed.text());
}

#[tokio::test]
async fn a_tcp_origin_sends_every_octet_back() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let origin = Origin::bind(Identity::default(), Mode::TcpEcho, &[any]).await.expect("a free port");
    let mut raw = Raw::connect(origin.address()).await;
    raw.send("\0 anything \r\n").await;
    assert_eq!(raw.read_exactly(13).await, b"\0 anything \r\n");
    raw.finish().await;
    assert_eq!(raw.read_to_end().await, (vec![], End::Closed));
}

#[tokio::test]
async fn finishing_answers_what_was_accepted_and_refuses_the_rest() {
    let origin = origin().await;
    let address = origin.address();
    let mut busy = Raw::connect(address).await;
    busy.send("GET /chunked?n=2&ms=300 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    busy.read_until("chunk 0\n").await;
    let mut idle = Raw::connect(address).await;
    idle.send("GET /count HTTP/1.1\r\nHost: h\r\n\r\n").await;
    idle.read_until("}\n").await;

    let finished = tokio::spawn(origin.finish());
    assert_eq!(idle.read_to_end().await, (vec![], End::Closed));
    let connect = async || tokio::net::TcpStream::connect(address).await.err().map(|error| error.kind());
    assert_eq!(connect().await, Some(std::io::ErrorKind::ConnectionRefused));
    assert!(!finished.is_finished(), "a request is still in flight");
    busy.read_until("chunk 1\n").await;
    finished.await.expect("finishing does not panic");
}

/// The program itself, on a port that it says.
struct Program {
    process: Process,
    address: SocketAddr,
}

impl Program {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(programs::origin());
        command.env("PORT", "0").env("ADDRESS", "127.0.0.1").envs(variables.iter().copied());
        let (process, log) = Process::spawn_logged(&mut command);
        let address =
            log.find(|lines| lines.iter().find_map(|line| line.strip_prefix("listening ")?.parse().ok()));
        Self { process, address: address.await.expect("a program that listens says where") }
    }

    /// A connection whose request is being answered, slowly.
    async fn busy(&self) -> Raw {
        let mut raw = Raw::connect(self.address).await;
        raw.send("GET /chunked?n=2&ms=300 HTTP/1.1\r\nHost: h\r\n\r\n").await;
        raw.read_until("chunk 0\n").await;
        raw
    }

    async fn refuses(&self) {
        let refused = async || tokio::net::TcpStream::connect(self.address).await.is_err().then_some(());
        until("refused connections", PATIENCE, refused).await;
    }
}

#[tokio::test]
async fn sigterm_finishes_by_default() {
    let origin = Program::start(&[("VERSION", "v7")]).await;
    assert_eq!(client::get(origin.address, "h", "/").await.json()["version"], "v7");
    let mut busy = origin.busy().await;
    origin.process.signal(libc::SIGTERM);
    busy.read_until("chunk 1\n").await;
    assert_eq!(origin.process.wait(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_may_cut_requests_be_ignored_or_close_the_listener_alone() {
    let origin = Program::start(&[("ON_TERM", "exit")]).await;
    let mut busy = origin.busy().await;
    origin.process.signal(libc::SIGTERM);
    assert_eq!(origin.process.wait(PATIENCE).await.code(), Some(143));
    let rest = busy.read_to_end().await.0;
    assert!(!String::from_utf8_lossy(&rest).contains("chunk 1"), "the request was cut");

    let origin = Program::start(&[("ON_TERM", "close-listener")]).await;
    let mut kept = origin.busy().await;
    origin.process.signal(libc::SIGTERM);
    origin.refuses().await;
    kept.read_until("0\r\n\r\n").await;
    kept.send("GET /count HTTP/1.1\r\nHost: h\r\n\r\n").await;
    kept.read_until("\"requests\":2").await;

    let origin = Program::start(&[("ON_TERM", "ignore")]).await;
    origin.process.signal(libc::SIGTERM);
    let mut kept = origin.busy().await;
    kept.read_until("0\r\n\r\n").await;
    assert_eq!(origin.process.exited(), None);
}

#[tokio::test]
async fn an_origin_can_start_unhealthy_and_end_by_itself() {
    let origin = Program::start(&[("HEALTH", "fail"), ("EXIT_AFTER_MS", "500")]).await;
    assert_eq!(client::get(origin.address, "h", "/health").await.status, 503);
    assert_eq!(origin.process.wait(PATIENCE).await.code(), Some(3));
}

#[tokio::test]
async fn a_check_exits_as_the_server_answers() {
    let origin = origin().await;
    let check = async |server: &str| {
        let url = format!("{server}:{}/health", origin.address().port());
        let mut command = Command::new(programs::origin());
        let check = Process::spawn(command.args(["check", &url]).stderr(Stdio::null()));
        check.wait(PATIENCE).await.code()
    };
    assert_eq!(check("http://127.0.0.1").await, Some(0));
    assert_eq!(check("tcp://127.0.0.1").await, Some(0));
    origin.set_healthy(false);
    assert_eq!(check("http://127.0.0.1").await, Some(1));
    assert_eq!(check("ftp://127.0.0.1").await, Some(1));
}

#[tokio::test]
async fn raw_octets_are_answered_as_they_are() {
    let origin = origin().await;
    let answer = raw::exchange(origin.address(), "no http at all\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn the_end_of_an_idle_connection_is_noticed() {
    let origin = origin().await;
    let mut raw = Raw::connect(origin.address()).await;
    assert!(raw.stays_open(Duration::from_millis(50)).await);
    drop(origin);
    let mut octet = [0];
    assert!(matches!(raw.stream.read(&mut octet).await, Ok(0) | Err(_)));
    assert!(!raw.stays_open(Duration::from_millis(50)).await);
}
