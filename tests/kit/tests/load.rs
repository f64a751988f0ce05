//! What the load counts, and what it calls a failure, against servers on loopback that misbehave on purpose.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use fairway_testkit::load::{self, Call, Load, LoadOptions, Over, Report};
use fairway_testkit::netns::Netns;
use fairway_testkit::origin::{Identity, Mode, Origin};
use fairway_testkit::wait::PATIENCE;
use fairway_testkit::{programs, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SHORT: Duration = Duration::from_millis(300);

async fn origin() -> Origin {
    Origin::start(Identity::new("one", "v1")).await
}

fn closed_loop(address: SocketAddr, target: &str) -> LoadOptions {
    LoadOptions { target: target.to_owned(), ..LoadOptions::new(address, "h") }
}

/// As many requests as `count`, one after the other.
async fn send(count: u64, options: LoadOptions) -> Report {
    let load = Load::start(LoadOptions { connections: 1, ..options });
    load.wait_for(count).await;
    load.stop().await
}

/// A server that does `serve` with each connection.
async fn server<F: Future<Output = ()> + Send>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    address
}

async fn read_request(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        let Ok(1..) = stream.read_buf(&mut read).await else { return };
    }
}

async fn reply(stream: &mut TcpStream, answer: &str) {
    // A client that has gone is the client's business.
    let _ = stream.write_all(answer.as_bytes()).await;
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn every_request_is_counted_on_both_sides() {
    let _quiet = Netns::enter();
    let origin = origin().await;
    for keep_alive in [true, false] {
        let before = (origin.requests(), origin.connections());
        let options = LoadOptions { keep_alive, connections: 3, ..closed_loop(origin.address(), "/") };
        let report = load::run(options, SHORT).await.without_failure();
        assert_eq!(report.sent, origin.requests() - before.0);
        assert_eq!(report.connections, origin.connections() - before.1);
        assert_eq!(report.connections, if keep_alive { 3 } else { report.sent });
        assert_eq!([report.version("v1"), report.instance("one"), report.by_status[&200]], [report.sent; 3]);
        assert!(report.p50 <= report.p99 && report.p99 <= report.longest && report.longest > Duration::ZERO);
    }
}

#[tokio::test]
async fn bodies_of_every_framing_are_read_to_their_end() {
    let origin = origin().await;
    for target in ["/bytes?n=100000", "/chunked?n=5", "/status/204", "/trailers", "/close"] {
        let options = LoadOptions {
            headers: vec![("TE".to_owned(), "trailers".to_owned())],
            ..closed_loop(origin.address(), target)
        };
        let report = send(5, options).await.without_failure();
        let connections = if target == "/close" { report.sent } else { 1 };
        assert_eq!(report.connections, connections, "{target}");
    }
    let post = LoadOptions {
        method: "POST".to_owned(),
        body: vec![b'x'; 5000],
        ..closed_loop(origin.address(), "/")
    };
    send(3, post).await.without_failure();
    let head = LoadOptions { method: "HEAD".to_owned(), ..closed_loop(origin.address(), "/bytes?n=10") };
    send(3, head).await.without_failure();
}

#[tokio::test]
async fn what_goes_wrong_is_counted_by_its_name() {
    let origin = origin().await;
    for (target, error) in
        [("/reset", "reset"), ("/reset?after=5", "reset"), ("/cut", "cut"), ("/cut?after=5", "cut")]
    {
        let report = send(3, closed_loop(origin.address(), target)).await;
        assert_eq!(
            (report.ok, report.failed, report.by_error[error]),
            (0, report.sent, report.sent),
            "{target}"
        );
    }
    let report = send(3, closed_loop(origin.address(), "/status/503")).await;
    assert_eq!((report.ok, report.failed, report.by_status[&503]), (0, report.sent, report.sent));
    assert_eq!(report.failures[0].why, "status 503");
    assert_eq!(report.failures[0].instance.as_deref(), Some("one"));

    let slow =
        LoadOptions { timeout: Duration::from_millis(20), ..closed_loop(origin.address(), "/slow?ms=10000") };
    assert!(send(2, slow).await.by_error["timeout"] >= 2);

    let address = origin.address();
    drop(origin);
    assert!(send(2, closed_loop(address, "/")).await.by_error["refused"] >= 2);
}

#[tokio::test]
async fn a_clean_close_between_requests_is_no_failure() {
    let closes = server(async |mut stream| {
        read_request(&mut stream).await;
        reply(&mut stream, OK).await;
    });
    // A rate below what the server can do: it has always closed before the next request is due.
    let options = LoadOptions { rate: Some(50.0), ..closed_loop(closes.await, "/") };
    let report = send(5, options).await.without_failure();
    assert_eq!(report.connections, report.sent);
}

#[tokio::test]
async fn a_reset_between_requests_is_a_failure() {
    let resets = server(async |mut stream| {
        read_request(&mut stream).await;
        reply(&mut stream, OK).await;
        stream.set_zero_linger().expect("a connected socket has the option");
    });
    let options = LoadOptions { rate: Some(50.0), ..closed_loop(resets.await, "/") };
    let report = send(6, options).await;
    assert!(report.ok >= 3 && report.by_error["reset"] >= 3, "{report}");
}

#[tokio::test]
async fn a_close_that_crosses_a_request_is_a_failure() {
    let closes = server(async |mut stream| {
        read_request(&mut stream).await;
        reply(&mut stream, OK).await;
        read_request(&mut stream).await;
    });
    let report = send(4, closed_loop(closes.await, "/")).await;
    assert!(report.ok >= 2 && report.by_error["cut"] >= 2, "{report}");
}

#[tokio::test]
async fn octets_that_nobody_asked_for_are_a_failure() {
    let talks = server(async |mut stream| {
        read_request(&mut stream).await;
        reply(&mut stream, &OK.repeat(2)).await;
    });
    assert!(send(4, closed_loop(talks.await, "/")).await.by_error["stray"] >= 1);
    let babbles = server(async |mut stream| {
        read_request(&mut stream).await;
        reply(&mut stream, "SSH-2.0\r\n\r\n").await;
    });
    assert!(send(2, closed_loop(babbles.await, "/")).await.by_error["malformed"] >= 2);
}

#[tokio::test]
async fn a_rate_is_kept_and_a_stall_is_charged_to_every_request_it_delays() {
    let origin = origin().await;
    let options = LoadOptions { rate: Some(200.0), connections: 4, ..closed_loop(origin.address(), "/") };
    let load = Load::start(options);
    load.wait_for(100).await;
    let report = load.stop().await.without_failure();
    // The hundredth is due after 99 steps of 5 ms: never earlier, however fast the machine.
    assert!(report.duration >= Duration::from_millis(495), "{report}");

    let stalled =
        LoadOptions { rate: Some(1000.0), connections: 1, ..closed_loop(origin.address(), "/slow?ms=20") };
    let report = send(10, stalled).await.without_failure();
    assert!(
        report.longest >= Duration::from_millis(150),
        "ten answers of 20 ms each were due within 10 ms: {report}"
    );
}

#[tokio::test]
async fn the_program_prints_its_count_and_fails_when_a_request_does() {
    let origin = origin().await;
    let run = async |path: &str, stdin: bool| {
        let mut command = Command::new(programs::load());
        command.arg(format!("http://{}{path}", origin.address())).args(["--connections", "1"]);
        let until: &[&str] = if stdin { &["--until-stdin-closes"] } else { &["--duration-ms", "200"] };
        command.args(until).stdin(Stdio::null());
        let done =
            tokio::task::spawn_blocking(move || command.output()).await.expect("spawning does not panic");
        let done = done.expect("the program can be started");
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        (done.status.code(), report)
    };
    let (code, report) = run("/", false).await;
    assert_eq!((code, report["failed"].as_u64()), (Some(0), Some(0)));
    assert_eq!(report["sent"], report["by_instance"]["one"]);
    for key in ["ok", "by_status", "by_error", "by_version", "p50_us", "p99_us", "longest_us"] {
        assert!(!report[key].is_null(), "{key} in {report}");
    }
    assert_eq!(run("/status/500", false).await.0, Some(1));
    run("/", true).await; // ends at once: there is no input
}

#[tokio::test]
async fn an_answer_that_ends_in_good_order_but_early_has_failed_when_its_end_is_known() {
    let origin = origin().await;
    let whole =
        LoadOptions { ends: vec!["chunk 4\n".to_owned()], ..closed_loop(origin.address(), "/chunked?n=5") };
    send(3, whole.clone()).await.without_failure();
    let report = send(3, LoadOptions { target: "/chunked?n=4".to_owned(), ..whole.clone() }).await;
    assert_eq!(report.by_cause, [("ended early".to_owned(), report.sent)].into());
    for (target, end) in [("/sse?n=3&ms=1", "event: end\n\n"), ("/bytes?n=100000", "xx")] {
        let options = LoadOptions { ends: vec![end.to_owned()], ..closed_loop(origin.address(), target) };
        send(2, options).await.without_failure();
    }
}

#[tokio::test]
async fn a_body_of_which_the_origin_got_a_part_only_has_failed() {
    let origin = origin().await;
    let post = |address| LoadOptions {
        method: "POST".to_owned(),
        body: vec![b'x'; 1000],
        is_taken: true,
        ..closed_loop(address, "/")
    };
    send(3, post(origin.address())).await.without_failure();
    // A proxy that passes 999 of 1,000 octets on.
    let thief = server(async |mut stream| {
        let mut read = Vec::new();
        while !read.ends_with(b"x") {
            let Ok(1..) = stream.read_buf(&mut read).await else { return };
        }
        reply(
            &mut stream,
            "HTTP/1.1 200 OK\r\nx-taken: 999\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        )
        .await;
        // Whole to the end, so that no reset overtakes the answer.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let report = send(2, post(thief)).await;
    assert_eq!(report.by_cause, [("body taken in part".to_owned(), report.sent)].into());
}

async fn h2c_origin() -> Origin {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let bound = Origin::bind(Identity::new("one", "v1"), Mode::H2c, &[loopback]).await;
    bound.expect("127.0.0.1 has a free port")
}

#[tokio::test]
async fn requests_and_calls_over_http2_are_counted_and_share_a_connection_if_they_may() {
    let origin = h2c_origin().await;
    let http2 = || LoadOptions { over: Over::H2c, ..closed_loop(origin.address(), "/") };
    let body = vec![b'x'; 100_000];
    let post = LoadOptions { method: "POST".to_owned(), body, is_taken: true, ..http2() };
    let call = |call| LoadOptions { call: Some(call), ..http2() };
    let pause = Duration::from_millis(1);
    let kinds = [http2(), post, call(Call::Unary), call(Call::Down(5, pause)), call(Call::Both(5, pause))];
    for (kept, options) in (1..).zip(kinds) {
        let report = send(10, options).await.without_failure();
        assert_eq!((report.connections, report.by_instance.len()), (1, 1), "{report}");
        assert_eq!(origin.connections(), kept);
    }
    let own = send(5, LoadOptions { keep_alive: false, ..call(Call::Unary) }).await.without_failure();
    assert_eq!(own.connections, own.sent);
}

#[tokio::test]
async fn an_origin_that_ends_finishes_the_calls_it_has_accepted() {
    let origin = h2c_origin().await;
    let pause = Duration::from_millis(100);
    let calls = [Call::Down(20, pause), Call::Both(20, pause)].map(|call| {
        let options = LoadOptions {
            connections: 1,
            call: Some(call),
            over: Over::H2c,
            ..closed_loop(origin.address(), "/")
        };
        Load::start(options)
    });
    until("both calls", PATIENCE, async || (origin.requests() == 2).then_some(())).await;
    let ended = calls.map(Load::stop);
    let ((), reports) = tokio::join!(origin.finish(), futures_util::future::join_all(ended));
    reports.into_iter().for_each(|report| assert_eq!(report.without_failure().sent, 1));
}

#[tokio::test]
async fn calls_without_an_end_in_their_words_have_failed() {
    let origin = origin().await; // speaks HTTP/1.1 alone
    let call = LoadOptions { call: Some(Call::Unary), over: Over::H2c, ..closed_loop(origin.address(), "/") };
    let report = send(2, call).await;
    assert_eq!((report.ok, report.failed), (0, report.sent), "{report}");
}
