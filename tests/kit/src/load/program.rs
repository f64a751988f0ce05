//! The program `load`: its arguments, and when it stops.

use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{Load, LoadOptions};

const USAGE: &str = "\
usage: load http://ADDRESS[:PORT][/PATH] [options]
Sends requests until the end of --duration, SIGINT, SIGTERM, or (with --until-stdin-closes) the end of standard input.
Prints the count as JSON; exits 0 when no request failed, else 1.

  --host NAME           the Host field (default: the address)
  --connections N       at a time (default 2)
  --rate N              requests per second over all connections (default: as fast as answered)
  --per-request         a connection for each request
  --method NAME         (default GET)
  --header 'NAME: V'    a further field; may be repeated
  --body N              a body of N octets
  --timeout-ms N        longest wait for an answer (default 30000)
  --duration-ms N       how long
  --until-stdin-closes  stop at the end of standard input";

/// Runs the program.
pub fn main() -> ExitCode {
    let (options, until) = match parse(std::env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(why) => {
            eprintln!("load: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let report = runtime.and_then(|runtime| {
        let report = runtime.block_on(run(options, until));
        // Standard input may be in the middle of a read that nobody can interrupt.
        runtime.shutdown_background();
        report
    });
    match report {
        Ok(report) => {
            println!("{report}");
            if report.failed == 0 && report.sent > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

/// What ends the load besides signals.
#[derive(Debug, Default)]
struct Until {
    duration: Option<Duration>,
    stdin_closes: bool,
}

async fn run(options: LoadOptions, until: Until) -> std::io::Result<super::Report> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let load = Load::start(options);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = elapsed(until.duration) => {}
        () = stdin_closed(until.stdin_closes) => {}
    }
    Ok(load.stop().await)
}

async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

async fn stdin_closed(awaited: bool) {
    if !awaited {
        return std::future::pending().await;
    }
    let read = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    // An input that cannot be read has ended as well.
    let _ = read.await;
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<(LoadOptions, Until), String> {
    let arguments: Vec<String> = arguments.collect();
    let (url, rest) = arguments.split_first().ok_or("no URL")?;
    let mut options = target(url)?;
    let mut until = Until::default();
    let mut rest = rest.iter();
    while let Some(flag) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{flag} has no value"));
        match flag.as_str() {
            "--host" => options.host = value()?.clone(),
            "--connections" => options.connections = number(flag, value()?)?,
            "--rate" => options.rate = Some(number(flag, value()?)?),
            "--per-request" => options.keep_alive = false,
            "--method" => options.method = value()?.clone(),
            "--header" => {
                let given = value()?;
                let (name, value) = given.split_once(':').ok_or_else(|| format!("{given} is no field"))?;
                options.headers.push((name.to_owned(), value.trim().to_owned()));
            }
            "--body" => options.body = vec![b'x'; number(flag, value()?)?],
            "--timeout-ms" => options.timeout = Duration::from_millis(number(flag, value()?)?),
            "--duration-ms" => until.duration = Some(Duration::from_millis(number(flag, value()?)?)),
            "--until-stdin-closes" => until.stdin_closes = true,
            unknown => return Err(format!("what is {unknown}?")),
        }
    }
    if options.rate.is_some_and(|rate| rate <= 0.0 || !rate.is_finite()) {
        return Err("a rate is above zero".to_owned());
    }
    Ok((options, until))
}

fn target(url: &str) -> Result<LoadOptions, String> {
    let rest = url.strip_prefix("http://").ok_or("a URL starts with http://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let found = with_port.to_socket_addrs().map_err(|error| format!("{authority}: {error}"))?.next();
    let address = found.ok_or_else(|| format!("{authority} has no address"))?;
    Ok(LoadOptions { target: path.to_owned(), ..LoadOptions::new(address, authority) })
}

fn number<T: FromStr>(flag: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{flag}: `{text}` is no such number"))
}
