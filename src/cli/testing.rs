//! A tiny admin API for the tests of the commands: it answers one connection after the other as the test says.

use clap::Parser;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::args::{Cli, Command, Tool};
use super::failure::Failure;

/// What a command did.
pub(crate) struct Exchange {
    pub(crate) result: Result<(), Failure>,
    /// Its standard output.
    pub(crate) out: String,
    /// The requests it sent, as they were sent.
    pub(crate) requests: Vec<String>,
}

/// An answer with this status line and body.
pub(crate) fn http(status: &str, body: &str) -> String {
    match status.starts_with("204") {
        true => format!("HTTP/1.1 {status}\r\n\r\n"),
        false => format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
    }
}

/// Runs a command line against these answers, all of which it must ask for.
pub(crate) async fn against(line: &str, answers: Vec<String>) -> Exchange {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().await.expect("a client comes");
            requests.push(answer_one(stream, &answer).await);
        }
        requests
    });
    let words = ["fairway", "--admin", &url].into_iter().chain(line.split(' '));
    let cli = Cli::try_parse_from(words).expect("the line is one");
    let mut out = Vec::new();
    let Command::Tool(Tool::Ask(ask)) = cli.command else { panic!("`{line}` asks no API") };
    let result = super::execute_ask(ask, cli.api, &|_| None, &mut out).await;
    let out = String::from_utf8(out).expect("output is text");
    Exchange { result, out, requests: server.await.expect("every answer is asked for") }
}

/// Reads a whole request, then answers.
pub(crate) async fn answer_one<S>(mut stream: S, answer: &str) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Vec::new();
    while !is_whole(&request) {
        request.push(stream.read_u8().await.expect("the client sends a whole request"));
    }
    stream.write_all(answer.as_bytes()).await.expect("the client reads");
    String::from_utf8(request).expect("requests are text")
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| length.parse() == Ok(body.len()))
}
