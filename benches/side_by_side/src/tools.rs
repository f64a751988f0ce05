//! Runs the load generators, our own and others', and reads what they say.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::Outcome;
use crate::load::Told;
use crate::peer::{HOST, Peer, Setup};
use crate::process::{LOAD_CORE, on_core};
use crate::rows::Load;

/// Puts a load on a proxy for so many seconds.
pub(crate) fn run(load: Load, setup: Setup, peer: &Peer, seconds: f64) -> Outcome<Told> {
    let core = (setup.threads == 1).then_some(LOAD_CORE);
    let mut command = command(load, setup, peer, seconds, core)?;
    let said = command.stdin(Stdio::null()).output();
    let said = said.map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let text = String::from_utf8_lossy(&said.stdout);
    let told = match load {
        Load::Wrk { .. } | Load::Hosts => of_wrk(&text),
        Load::Http2 => of_h2load(&text),
        _ => of_ours(&text),
    };
    told.map_err(|error| {
        let name = match load {
            Load::Wrk { .. } | Load::Hosts => "wrk",
            Load::Http2 => "h2load",
            _ => "the load",
        };
        let words = String::from_utf8_lossy(&said.stderr);
        let last: Vec<&str> = words.lines().chain(text.lines()).rev().take(5).collect();
        format!("{name} {error}: {}", last.into_iter().rev().collect::<Vec<_>>().join(" "))
    })
}

/// The program that puts this load on a proxy.
pub(crate) fn command(
    load: Load,
    setup: Setup,
    peer: &Peer,
    seconds: f64,
    core: Option<usize>,
) -> Outcome<Command> {
    let wrk = |connections: u32, path: &str| {
        let mut wrk = on_core(core, "wrk");
        // wrk takes whole seconds.
        wrk.arg(format!("-t{}", setup.threads)).arg(format!("-c{connections}"));
        wrk.arg(format!("-d{}s", seconds.ceil())).arg(format!("http://{}{path}", peer.http));
        wrk
    };
    Ok(match load {
        Load::Wrk { path, connections } => {
            let mut wrk = wrk(connections, path);
            wrk.args(["-H", &format!("Host: {HOST}")]);
            wrk
        }
        Load::Hosts => {
            let script = crate::machine::folder()?.join("hosts.lua");
            let written = std::fs::write(&script, include_str!("../conf/hosts.lua"));
            written.map_err(|error| format!("{}: {error}", script.display()))?;
            let mut wrk = wrk(64, "/");
            wrk.arg("-s").arg(script).args(["--", &setup.hosts.to_string()]);
            wrk
        }
        Load::Http2 => {
            let (to, port) = (peer.https, peer.https.port());
            let mut h2load = on_core(core, "h2load");
            h2load.args(["-t1", "-c16", "-m8"]).arg(format!("-D{}", seconds.ceil()));
            h2load.args(["--connect-to", &to.to_string(), &format!("https://{HOST}:{port}/1k")]);
            h2load
        }
        Load::Handshakes => {
            ours(core, &["handshakes", &peer.https.to_string(), "--connections=16"], seconds)?
        }
        Load::Churn => ours(core, &["churn", &peer.http.to_string()], seconds)?,
        Load::Steady { rate } => {
            let rate = format!("--rate={rate}");
            ours(core, &["steady", &peer.http.to_string(), "--connections=64", &rate], seconds)?
        }
        Load::Idle { connections, tls } => {
            let to = if tls { peer.https } else { peer.http };
            let mut command = ours(core, &["idle", &to.to_string()], seconds)?;
            command.arg(format!("--connections={connections}")).args(tls.then_some("--tls"));
            command
        }
    })
}

fn ours(core: Option<usize>, words: &[&str], seconds: f64) -> Outcome<Command> {
    let me = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let mut command = on_core(core, me);
    command.arg("load").args(words).arg(format!("--seconds={seconds}"));
    Ok(command)
}

/// Connections that are held as long as this value lives.
pub(crate) struct Held {
    child: Child,
    stdin: Option<ChildStdin>,
    /// How many there are, and how many could not be had.
    pub(crate) told: Told,
}

/// Opens connections and holds them.
pub(crate) fn hold(load: Load, setup: Setup, peer: &Peer) -> Outcome<Held> {
    let core = (setup.threads == 1).then_some(LOAD_CORE);
    let mut command = command(load, setup, peer, 0.0, core)?;
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("idle connections: {error}"))?;
    let mut line = String::new();
    let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
    let stdin = child.stdin.take();
    let mut held = Held { child, stdin, told: Told::default() };
    match read {
        Some(Ok(_)) => {
            held.told = of_ours(&line)?;
            Ok(held)
        }
        _ => Err("the idle connections tell nothing".into()),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.write_all(b"\n"); // its end alone would do
        }
        let _ = self.child.wait();
    }
}

fn of_ours(text: &str) -> Outcome<Told> {
    serde_json::from_str(text).map_err(|error| format!("tells no figures ({error})"))
}

/// The number that stands right before a word.
fn before(text: &str, word: &str) -> Option<f64> {
    let front = &text[..text.find(word)?];
    front.rsplit(|c: char| !c.is_ascii_digit() && c != '.').next()?.parse().ok()
}

/// The number that stands right behind a word.
fn behind(text: &str, word: &str) -> Option<f64> {
    let rest = &text[text.find(word)? + word.len()..];
    rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?.parse().ok()
}

/// `  343253 requests in 5.00s, 400.10MB read`, `Socket errors: connect 0, read 1, ...`, `Non-2xx or 3xx responses: 7`
fn of_wrk(text: &str) -> Outcome<Told> {
    let (done, seconds) = (before(text, " requests in "), behind(text, " requests in "));
    let (Some(done), Some(seconds)) = (done, seconds) else { return Err("tells no figures".into()) };
    let refused = behind(text, "Non-2xx or 3xx responses: ").unwrap_or(0.0);
    let sockets = text.lines().find(|line| line.contains("Socket errors:")).unwrap_or_default();
    let sockets: f64 =
        ["connect ", "read ", "write ", "timeout "].iter().filter_map(|word| behind(sockets, word)).sum();
    let first_error = match (refused > 0.0, sockets > 0.0) {
        (true, _) => Some(format!("{refused} answers are not 2xx")),
        (_, true) => Some(format!("{sockets} socket errors")),
        _ => None,
    };
    Ok(Told {
        done: (done - refused) as u64,
        seconds,
        errors: (refused + sockets) as u64,
        first_error,
        latency: None,
    })
}

/// `finished in 5.00s, ...`, `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`,
/// `status codes: 9 2xx, ...`, `Application protocol: h2`
fn of_h2load(text: &str) -> Outcome<Told> {
    if !text.contains("Application protocol: h2\n") {
        return Err("could not agree on HTTP/2".into());
    }
    let line = text.lines().find(|line| line.starts_with("finished in ")).unwrap_or_default();
    let unit = if line.contains("ms, ") { 1e-3 } else { 1.0 };
    let (Some(done), Some(seconds)) = (before(text, " 2xx,"), behind(line, "finished in ")) else {
        return Err("tells no figures".into());
    };
    let errors: f64 = [" 3xx,", " 4xx,", " 5xx", " failed,", " errored,", " timeout"]
        .iter()
        .filter_map(|word| before(text, word))
        .sum();
    let first_error = (errors > 0.0).then(|| format!("{errors} streams or answers failed"));
    Ok(Told { done: done as u64, seconds: seconds * unit, errors: errors as u64, first_error, latency: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read_with_its_errors() {
        let good = "Running 5s test @ http://127.0.0.1:8101/1k\n  1 threads and 64 connections\n  \
            Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   926.83us  143.35us   4.10ms\n  \
            343253 requests in 5.01s, 431.10MB read\nRequests/sec:  68513.57\nTransfer/sec:     86.05MB\n";
        let told = of_wrk(good).expect("figures");
        assert_eq!((told.done, told.seconds, told.errors), (343_253, 5.01, 0));
        let bad = good.replace(
            "Requests/sec",
            "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  \
            Non-2xx or 3xx responses: 53\nRequests/sec",
        );
        let told = of_wrk(&bad).expect("figures");
        assert_eq!((told.done, told.errors), (343_200, 53 + 4321));
        assert!(of_wrk("unable to connect").is_err());
    }

    #[test]
    fn what_h2load_says_is_read_with_its_errors_and_its_protocol() {
        let good = "TLS Protocol: TLSv1.3\nApplication protocol: h2\n\nfinished in 4.00s, 73941.25 req/s, 79.91MB/s\n\
            requests: 295765 total, 295893 started, 295765 done, 295765 succeeded, 0 failed, 0 errored, 0 timeout\n\
            status codes: 295770 2xx, 0 3xx, 0 4xx, 0 5xx\ntraffic: 319.63MB\n";
        let told = of_h2load(good).expect("figures");
        assert_eq!((told.done, told.seconds, told.errors), (295_770, 4.0, 0));
        let bad = good.replace("0 failed, 0 errored", "7 failed, 1 errored").replace("0 5xx", "2 5xx");
        assert_eq!(of_h2load(&bad).expect("figures").errors, 10);
        assert!(of_h2load(&good.replace("protocol: h2", "protocol: http/1.1")).is_err());
    }
}
