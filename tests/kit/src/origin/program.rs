//! The program `origin`: what its variables and arguments mean.
//!
//! Without arguments it serves, as these variables say:
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `PORT` | one or more, by comma; `ADDRESS` before it | 80, all addresses |
//! | `MODE` | `http`, `h2c` (HTTP/2 and gRPC), `tcp` (every octet comes back) | http |
//! | `VERSION`, `SERVICE` | told in each answer | empty |
//! | `HEALTH` | `fail`: `/health` starts out with 503 | ok |
//! | `START_DELAY_MS` | this long before it listens | 0 |
//! | `EXIT_AFTER_MS` | it exits with status 3 this long after its start | never |
//! | `NOTES` | a folder, where a file gets the `X-Request-Id` of each POST that was taken | none |
//! | `ON_TERM` | `finish`, `exit`, `ignore`, `close-listener`, `await-clients`: see [`OnTerm`] | finish |
//! | `TERM_DELAY_MS` | served on as before for this long after SIGTERM | 0 |
//!
//! `origin check URL [MS]` exits 0 when `http://...` answers below 400 or `tcp://host:port` connects, else 1.
//! `origin call URL` prints the body of the answer. `origin resolve NAME` prints the addresses by the system's resolver.
//! `origin ask SERVER NAME TYPE` prints the answer of one DNS server.

use std::fmt::Display;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::{Identity, Mode, OnTerm, Origin, call};
use crate::dns;

/// What a shell makes of death by SIGTERM.
const TERMINATED: u8 = 128 + 15;

/// Status of a program that ends by itself when asked to by `EXIT_AFTER_MS`.
const EXITED_AS_ASKED: u8 = 3;

/// Runs the program.
pub fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(command(&arguments)),
        Err(error) => Err(error.to_string()),
    };
    ended.unwrap_or_else(|why| {
        eprintln!("origin: {why}");
        ExitCode::FAILURE
    })
}

async fn command(arguments: &[&str]) -> Result<ExitCode, String> {
    match *arguments {
        [] => serve().await,
        ["check", url] => call::check(url, Duration::from_secs(1)).await.map(|()| ExitCode::SUCCESS),
        ["check", url, ms] => {
            let ms = ms.parse().map_err(|_| format!("`{ms}` are no milliseconds"))?;
            call::check(url, Duration::from_millis(ms)).await.map(|()| ExitCode::SUCCESS)
        }
        ["call", url] => {
            print!("{}", call::get(url).await?.text());
            Ok(ExitCode::SUCCESS)
        }
        ["resolve", name] => {
            call::resolve(name, 0).await?.iter().for_each(|address| println!("{}", address.ip()));
            Ok(ExitCode::SUCCESS)
        }
        ["ask", server, name, kind] => {
            let server = server.parse().or_else(|_| server.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
            let server = server.map_err(|_| "a server is an address, or address:port".to_owned())?;
            let answer = dns::ask(server, name, kind).await;
            println!("{}\n{}", answer.rcode(), answer.answers().join("\n"));
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            Err("usage: origin [check URL [MS] | call URL | resolve NAME | ask SERVER NAME TYPE]".to_owned())
        }
    }
}

async fn serve() -> Result<ExitCode, String> {
    // First of all: process 1 of a container has no default action for a signal.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let on_term = on_term()?;
    let work = async {
        sleep(milliseconds("START_DELAY_MS")?).await;
        let origin = Origin::bind_noting(identity(), mode()?, &addresses()?, notes()?).await;
        let origin = origin.map_err(|error| format!("cannot listen: {error}"))?;
        origin.set_healthy(text("HEALTH") != "fail");
        origin.addresses().iter().for_each(|address| println!("listening {address}"));
        loop {
            terminate.recv().await;
            sleep(milliseconds("TERM_DELAY_MS")?).await;
            match on_term {
                OnTerm::Finish => {
                    origin.finish().await;
                    return Ok(ExitCode::SUCCESS);
                }
                OnTerm::Exit => return Ok(ExitCode::from(TERMINATED)),
                OnTerm::Ignore => {}
                OnTerm::CloseListener => origin.close_listeners(),
                OnTerm::AwaitClients => {
                    origin.await_clients().await;
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    };
    tokio::select! {
        ended = work => ended,
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        ended = exit_as_asked() => ended,
    }
}

async fn exit_as_asked() -> Result<ExitCode, String> {
    if text("EXIT_AFTER_MS").is_empty() {
        return std::future::pending().await;
    }
    sleep(milliseconds("EXIT_AFTER_MS")?).await;
    Ok(ExitCode::from(EXITED_AS_ASKED))
}

fn identity() -> Identity {
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Identity { instance: host_name.trim().to_owned(), version: text("VERSION"), service: text("SERVICE") }
}

/// One file for each container: its host name.
fn notes() -> Result<Option<File>, String> {
    let folder = text("NOTES");
    if folder.is_empty() {
        return Ok(None);
    }
    let path = Path::new(&folder).join(identity().instance);
    let file = File::options().create(true).append(true).open(&path);
    file.map(Some).map_err(|error| format!("NOTES: {}: {error}", path.display()))
}

fn addresses() -> Result<Vec<SocketAddr>, String> {
    let address: IpAddr = parse("ADDRESS", "0.0.0.0")?;
    let ports = text("PORT");
    let ports = if ports.is_empty() { "80" } else { &ports };
    let ports =
        ports.split(',').map(|port| port.trim().parse().map_err(|_| format!("PORT: `{port}` is no port")));
    ports.map(|port| Ok(SocketAddr::new(address, port?))).collect()
}

fn mode() -> Result<Mode, String> {
    choice("MODE", &[("", Mode::Http), ("http", Mode::Http), ("h2c", Mode::H2c), ("tcp", Mode::TcpEcho)])
}

fn on_term() -> Result<OnTerm, String> {
    let choices = [
        ("", OnTerm::Finish),
        ("finish", OnTerm::Finish),
        ("exit", OnTerm::Exit),
        ("ignore", OnTerm::Ignore),
        ("close-listener", OnTerm::CloseListener),
        ("await-clients", OnTerm::AwaitClients),
    ];
    choice("ON_TERM", &choices)
}

fn choice<T: Copy>(variable: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let given = text(variable);
    let found = choices.iter().find(|(word, _)| *word == given).map(|(_, value)| *value);
    found.ok_or_else(|| {
        format!("{variable}: `{given}` is none of {:?}", choices.iter().map(|c| c.0).collect::<Vec<_>>())
    })
}

fn milliseconds(variable: &str) -> Result<Duration, String> {
    parse(variable, "0").map(Duration::from_millis)
}

fn parse<T: FromStr<Err: Display>>(variable: &str, default: &str) -> Result<T, String> {
    let given = text(variable);
    let given = if given.is_empty() { default } else { &given };
    given.parse().map_err(|error| format!("{variable}: `{given}`: {error}"))
}

fn text(variable: &str) -> String {
    std::env::var(variable).unwrap_or_default()
}
