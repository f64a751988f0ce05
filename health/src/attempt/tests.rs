use std::sync::Mutex;

use fairway_catalog::Inputs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::exec::ExecFuture;
use crate::testing::{answering, container, engine, facts, server, some_probe};

/// Answers each command with what the test says, and notes what was asked.
struct FakeEngine {
    answer: Result<i64, ExecError>,
    asked: Mutex<Vec<String>>,
}

impl Exec for FakeEngine {
    fn exec<'a>(
        &'a self,
        source: &'a SourceId,
        container: &'a str,
        shell: &'a str,
        _: Duration,
    ) -> ExecFuture<'a> {
        self.asked.lock().expect("no test panics here").push(format!("{source} {container} {shell}"));
        Box::pin(async { self.answer.clone() })
    }
}

fn prober(answer: Result<i64, ExecError>) -> (Prober, Arc<FakeEngine>) {
    let exec = Arc::new(FakeEngine { answer, asked: Mutex::default() });
    let inputs = Inputs { sources: facts([container("a", "10.0.0.1:80")]), ..Inputs::default() };
    (Prober { exec: exec.clone(), inputs: InputsHandle::new(inputs) }, exec)
}

async fn outcome_of(check: Check, timeout: Duration) -> Outcome {
    let probe = Probe { timeout, ..some_probe(check) };
    prober(Ok(0)).0.attempt(&probe).await
}

async fn get(address: SocketAddr, path: &str) -> (Grade, String) {
    let outcome = outcome_of(Check::Http { address, path: path.into() }, Duration::from_secs(1)).await;
    (outcome.grade, outcome.detail.to_string())
}

#[tokio::test]
async fn success_is_2xx_and_3xx_and_nothing_else() {
    for (answer, grade, code) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], Grade::Success, 200),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Grade::Success, 204),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", Grade::Success, 200),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            Grade::Success,
            302,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Grade::Success, 200),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Grade::Failure, 404),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", Grade::Failure, 500),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut", Grade::Success, 200),
    ] {
        let address = answering(answer).await;
        let want = (grade, format!("GET /health answered {code}"));
        assert_eq!(get(address, "/health?key=secret").await, want, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn the_request_names_the_address_and_asks_to_close() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let address = server(move |mut stream, head| {
        let tell = tell.clone();
        async move {
            tell.send(head).await.expect("the test waits for it");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    assert_eq!(get(address, "/up?deep=1").await.0, Grade::Success);
    let head = told.recv().await.expect("it was asked");
    assert!(head.starts_with("GET /up?deep=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
    assert!(head.contains("connection: close\r\n"), "{head}");
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_that_says_why() {
    let closing = server(|_, _| async {}).await;
    let resetting = server(|stream, _| async move {
        stream.set_zero_linger().expect("the socket is open");
    })
    .await;
    let huge = server(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").await.is_ok() {}
    })
    .await;
    for (address, why) in [
        (closing, "the connection was closed before an answer"),
        (resetting, "connection reset by peer"),
        (answering(b"SSH-2.0-OpenSSH_9.2\r\n").await, "the answer is not HTTP"),
        (huge, "the header of the answer is too large"),
    ] {
        assert_eq!(get(address, "/").await, (Grade::Failure, format!("GET /: {why}")));
    }
}

#[tokio::test]
async fn an_instance_that_hangs_fails_at_the_timeout() {
    let hanging = server(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let dripping_head = server(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while stream.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    for address in [hanging, dripping_head] {
        let check = Check::Http { address, path: "/".into() };
        let outcome = outcome_of(check, Duration::from_millis(200)).await;
        assert_eq!((outcome.grade, &*outcome.detail), (Grade::Failure, "GET /: no answer within 200ms"));
    }
}

#[tokio::test]
async fn a_body_without_end_holds_nothing_up() {
    let endless = server(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let dripping = server(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    for address in [endless, dripping] {
        // The timeout is far longer than any test may take: only the bound on the body can end this.
        let check = Check::Http { address, path: "/".into() };
        let outcome =
            tokio::time::timeout(Duration::from_secs(60), outcome_of(check, Duration::from_secs(3600)));
        assert_eq!(outcome.await.expect("the body is not waited for").grade, Grade::Success);
    }
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp_and_a_refusal_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let address = listener.local_addr().expect("it is bound");
    let check = Check::Tcp { address };
    assert_eq!(outcome_of(check.clone(), Duration::from_secs(1)).await.grade, Grade::Success);
    drop(listener);
    let outcome = outcome_of(check, Duration::from_secs(1)).await;
    let want = format!("connecting to {address}: connection refused");
    assert_eq!((outcome.grade, outcome.detail.to_string()), (Grade::Failure, want));
}

#[test]
fn only_errors_of_this_machine_are_local() {
    for (code, local) in [
        (libc::EMFILE, true),
        (libc::ENFILE, true),
        (libc::ENETUNREACH, true),
        (libc::EADDRNOTAVAIL, true),
        (libc::ECONNREFUSED, false),
        (libc::ECONNRESET, false),
        (libc::EHOSTUNREACH, false),
        (libc::ETIMEDOUT, false),
    ] {
        let error = io::Error::from_raw_os_error(code);
        let grade = Outcome::of_error("connecting", &error).grade;
        assert_eq!(grade == Grade::Local, local, "{error}");
    }
}

#[tokio::test]
async fn a_command_runs_on_the_engine_of_its_container_and_its_exit_code_decides() {
    let id: Arc<str> = container("a", "10.0.0.1:80").id;
    let refused = || ExecError::Refused("403 Forbidden".into());
    for (answer, grade, detail) in [
        (Ok(0), Grade::Success, "its probe command exited with 0"),
        (Ok(1), Grade::Failure, "its probe command exited with 1"),
        (
            Ok(127),
            Grade::Failure,
            "its probe command exited with 127 (there is no such command in the container)",
        ),
        (Err(ExecError::Timeout), Grade::Failure, "its probe command: no answer within 1s"),
        (Err(ExecError::Gone), Grade::Nothing, "the container does not run"),
        (Err(ExecError::Other("no engine".into())), Grade::Nothing, "no engine"),
        (
            Err(refused()),
            Grade::Impossible(Impossible::ExecRefused),
            "the engine refuses to run its probe command",
        ),
    ] {
        let (prober, asked) = prober(answer);
        let check = Check::Command { container: id.clone(), shell: "curl -u user:pwd http://x/".into() };
        let outcome = prober.attempt(&some_probe(check)).await;
        assert_eq!((outcome.grade, &*outcome.detail), (grade, detail));
        let asked = asked.asked.lock().expect("no test panics here").clone();
        assert_eq!(asked, [format!("{} {id} curl -u user:pwd http://x/", engine())]);
    }
}

#[tokio::test]
async fn a_command_for_a_container_that_no_engine_has_says_nothing() {
    let (prober, engine) = prober(Ok(0));
    let check = Check::Command { container: "gone".into(), shell: "true".into() };
    assert_eq!(prober.attempt(&some_probe(check)).await.grade, Grade::Nothing);
    assert!(engine.asked.lock().expect("no test panics here").is_empty());
}

#[tokio::test]
async fn a_probe_of_a_port_that_expects_proxy_headers_says_that_it_is_our_own() {
    use fairway_catalog::config::labels::ProxyProtocol::{V1, V2};

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let address = listener.local_addr().expect("it is bound");
    let get = Check::Http { address, path: "/up".into() };
    let grpc = Check::Grpc { address, service: "".into() };
    let local = &b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..];
    for (check, version, header, next) in [
        (get.clone(), V1, &b"PROXY UNKNOWN\r\n"[..], &b"GET /up "[..]),
        (get, V2, local, b"GET /up "),
        (grpc, V2, local, b"PRI * HTTP/2.0"),
        (Check::Tcp { address }, V2, local, b""),
    ] {
        let probe = Probe { header: Some(version), ..some_probe(check) };
        let (prober, _) = prober(Ok(0));
        let probing = tokio::spawn(async move { prober.attempt(&probe).await });
        let (mut stream, _) = listener.accept().await.expect("a probe");
        let mut sent = vec![0; header.len() + next.len()];
        stream.read_exact(&mut sent).await.expect("as much as this");
        assert_eq!(sent, [header, next].concat());
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        if !next.starts_with(b"PRI") {
            assert_eq!(probing.await.expect("it does not fail").grade, Grade::Success);
        }
    }
}
