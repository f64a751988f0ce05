//! The proxies: their configurations filled in, started, and asked until they answer.
//!
//! Not here: which settings a row wants (see `rows`).

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::process::{PROXY_CORE, Process, on_core};
use crate::{Outcome, machine, origin};

/// The host that every row but one asks for.
pub(crate) const HOST: &str = "a.test";

/// How long a proxy may take until it answers.
const START: Duration = Duration::from_secs(20);

/// Further routes in Fairway's table, as in an ordinary cluster; nginx and haproxy are spared them.
const ORDINARY_ROUTES: usize = 1_000;

/// A proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Debian's.
    Nginx,
    /// Debian's.
    Haproxy,
    /// Ours.
    Fairway,
}

impl Kind {
    /// All, in the order of the tables.
    pub(crate) const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Fairway];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Fairway => "Fairway",
        }
    }
}

/// How a proxy is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// Workers; one is pinned to a core.
    pub(crate) threads: usize,
    /// With a TLS listener.
    pub(crate) tls: bool,
    /// With an access log, JSON, to a file.
    pub(crate) log: bool,
    /// 0: [`HOST`] and what an ordinary table has beside it. Else so many hosts `r0.test`, `r1.test` of one service.
    pub(crate) hosts: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self { threads: 1, tls: false, log: false, hosts: 0 }
    }
}

/// A proxy that answers.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) process: Process,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
}

impl Peer {
    /// Starts one and waits until it answers. `number` tells those apart that run at once.
    pub(crate) fn start(kind: Kind, setup: Setup, number: u16) -> Outcome<Self> {
        Self::start_under(&[], kind, setup, number)
    }

    /// The same as an argument of another program, valgrind say.
    pub(crate) fn start_under(wrapper: &[&str], kind: Kind, setup: Setup, number: u16) -> Outcome<Self> {
        let place = Place::new(kind, number)?;
        let (program, arguments) = place.command(kind, setup)?;
        let core = (setup.threads == 1).then_some(PROXY_CORE);
        let mut words = wrapper.iter().map(|word| (*word).to_owned()).chain([program]).chain(arguments);
        let mut command = on_core(core, words.next().unwrap_or_default());
        let process =
            Process::start(command.args(words), &machine::folder()?.join(format!("{}.log", place.name)))?;
        let mut peer = Self { process, http: place.http, https: place.https };
        peer.wait_until_it_answers(setup).map_err(|why| format!("{} {why}", kind.name()))?;
        Ok(peer)
    }

    fn wait_until_it_answers(&mut self, setup: Setup) -> Outcome<()> {
        let host = if setup.hosts > 0 { format!("r{}.test", setup.hosts - 1) } else { HOST.to_owned() };
        let began = Instant::now();
        loop {
            let answer = ask(self.http, &host, "/1k");
            if matches!(answer, Ok(1024)) {
                break;
            }
            if !self.process.is_running() || began.elapsed() > START {
                return Err(format!("does not answer ({answer:?}): {}", self.process.last_words()));
            }
            // Another program: nothing tells that it has begun but its answer.
            std::thread::sleep(Duration::from_millis(50));
        }
        if setup.tls {
            crate::load::handshake::once(self.https).map_err(|error| format!("has no TLS: {error}"))?;
        }
        Ok(())
    }
}

/// The octets of the body of one answer with status 200.
fn ask(address: SocketAddr, host: &str, path: &str) -> Outcome<usize> {
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).map_err(told)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(told)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").map_err(told)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(told)?;
    let head = answer.windows(4).position(|octets| octets == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let line = answer.split(|octet| *octet == b'\r').next().unwrap_or_default();
    if !line.starts_with(b"HTTP/1.1 200") {
        return Err(format!("it says `{}`", String::from_utf8_lossy(line)));
    }
    Ok(answer.len() - head)
}

/// Names, ports and files of one running proxy.
struct Place {
    name: String,
    number: u16,
    http: SocketAddr,
    https: SocketAddr,
}

impl Place {
    fn new(kind: Kind, number: u16) -> Outcome<Self> {
        let port = |base: u16| SocketAddr::from(([127, 0, 0, 1], base + number));
        let name = format!("{}-{number}", kind.name().to_lowercase());
        Ok(Self { name, number, http: port(8100), https: port(8200) })
    }

    /// The program and its arguments, its configuration written.
    fn command(&self, kind: Kind, setup: Setup) -> Outcome<(String, Vec<String>)> {
        let folder = machine::folder()?;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let file = |ending: &str| folder.join(format!("{}.{ending}", self.name)).display().to_string();
        match kind {
            Kind::Nginx => {
                self.write(&folder, "conf", include_str!("../conf/nginx.conf"), &self.nginx(&folder, setup))?;
                let errors = file("err");
                Ok(("nginx".into(), words(&["-e", &errors, "-c", &file("conf")])))
            }
            Kind::Haproxy => {
                let (parts, map) = self.haproxy(&folder, setup);
                self.write(&folder, "map", &map, &[])?;
                self.write(&folder, "cfg", include_str!("../conf/haproxy.cfg"), &parts)?;
                Ok(("haproxy".into(), words(&["-db", "-f", &file("cfg")])))
            }
            Kind::Fairway => {
                let _ = fs::remove_dir_all(folder.join(format!("{}-state", self.name))); // of an earlier run, if any
                self.write(
                    &folder,
                    "toml",
                    include_str!("../conf/fairway.toml"),
                    &self.fairway(&folder, setup),
                )?;
                Ok((machine::fairway()?.display().to_string(), words(&["run", "--config", &file("toml")])))
            }
        }
    }

    fn write(&self, folder: &Path, ending: &str, template: &str, parts: &[(&str, String)]) -> Outcome<()> {
        let [first, second] = origin::ADDRESSES;
        let (admin, dns) = (9900 + self.number, 5300 + self.number);
        let everywhere = [
            ("DIR", folder.display().to_string()),
            ("NAME", self.name.clone()),
            ("HTTP", self.http.to_string()),
            ("ORIGIN_1", first.to_string()),
            ("ORIGIN_2", second.to_string()),
            ("ADMIN_PORT", admin.to_string()),
            ("DNS_PORT", dns.to_string()),
        ];
        let mut text = template.to_owned();
        for (key, value) in parts.iter().chain(&everywhere) {
            text = text.replace(&format!("@{key}@"), value);
        }
        let path = folder.join(format!("{}.{ending}", self.name));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn nginx(&self, folder: &Path, setup: Setup) -> Vec<(&'static str, String)> {
        let tls = |flags: &str| match setup.tls {
            true => format!("listen {} ssl http2 {flags};", self.https),
            false => String::new(),
        };
        let server = |host: &String| {
            let (http, https) = (self.http, tls(""));
            format!(
                "server {{ listen {http}; {https} server_name {host}; location / {{ proxy_pass http://origin; }} }}\n  "
            )
        };
        let log = match setup.log {
            true => format!(
                "log_format json escape=json '{{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\",\"host\":\"$host\",\
                 \"method\":\"$request_method\",\"path\":\"$request_uri\",\"status\":$status,\"bytes\":$body_bytes_sent,\
                 \"upstream\":\"$upstream_addr\",\"seconds\":$request_time,\"agent\":\"$http_user_agent\"}}';\n  \
                 access_log {}/{}.log json buffer=16k flush=1s;",
                folder.display(),
                self.name,
            ),
            false => "access_log off;".into(),
        };
        vec![
            ("THREADS", setup.threads.to_string()),
            ("LOG", log),
            ("HTTPS", tls("default_server reuseport backlog=4096")),
            ("ROUTES", hosts(setup).iter().map(server).collect()),
        ]
    }

    fn haproxy(&self, folder: &Path, setup: Setup) -> (Vec<(&'static str, String)>, String) {
        let https = match setup.tls {
            true => format!(
                "bind {} ssl crt {}/both.pem alpn h2,http/1.1 backlog 4096",
                self.https,
                folder.display()
            ),
            false => String::new(),
        };
        let log = match setup.log {
            true => "log stdout format raw daemon\n  log-format '{\"time\":\"%Tl\",\"client\":\"%ci\",\"method\":\"%HM\",\
                     \"path\":\"%HU\",\"status\":%ST,\"bytes\":%B,\"upstream\":\"%b/%s\",\"millis\":%Ta}'"
                .to_owned(),
            false => "no log".to_owned(),
        };
        let map = hosts(setup).iter().map(|host| format!("{host} origin\n")).collect();
        (vec![("THREADS", setup.threads.to_string()), ("LOG", log), ("HTTPS", https)], map)
    }

    fn fairway(&self, folder: &Path, setup: Setup) -> Vec<(&'static str, String)> {
        let dir = folder.display();
        let https = match setup.tls {
            true => format!(
                "[https]\nlisten = [\"{}\"]\n[[certificate]]\ncert = \"{dir}/cert.pem\"\nkey = \"{dir}/key.pem\"",
                self.https
            ),
            false => String::new(),
        };
        let quoted: Vec<_> = hosts(setup).iter().map(|host| format!("\"{host}\"")).collect();
        let split = |host: &String| {
            format!("[[split]]\nroute = \"{host}/\"\nweights = {{ \"bench@v1\" = 50, \"bench@v2\" = 50 }}\n")
        };
        let splits: String = hosts(setup).iter().map(split).collect();
        let further = |number: usize| {
            let origin = origin::ADDRESSES[0];
            format!(
                "[[service]]\nname = \"s{number}\"\nroutes = [\"s{number}.test\"]\ninstances = [\"{origin}\"]\n"
            )
        };
        let ordinary = if setup.hosts == 0 { 1..ORDINARY_ROUTES } else { 0..0 };
        vec![
            ("THREADS", setup.threads.to_string()),
            ("LOG", setup.log.to_string()),
            ("HTTPS", https),
            ("ROUTES", quoted.join(", ")),
            ("SPLITS", splits + &ordinary.map(further).collect::<String>()),
        ]
    }
}

/// The hosts that are asked for.
fn hosts(setup: Setup) -> Vec<String> {
    match setup.hosts {
        0 => vec![HOST.to_owned()],
        count => (0..count).map(|number| format!("r{number}.test")).collect(),
    }
}

/// A certificate for all hosts: ECDSA P-256, made anew.
pub(crate) fn make_certificate(folder: &Path) -> Outcome<()> {
    let path = |name: &str| folder.join(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
        ])
        .args(["-subj", "/CN=a.test", "-addext", "subjectAltName=DNS:a.test,DNS:*.test"])
        .args(["-keyout", &key, "-out", &cert])
        .output();
    let made = made.map_err(|error| format!("openssl: {error}"))?;
    if !made.status.success() {
        return Err(format!("openssl: {}", String::from_utf8_lossy(&made.stderr).trim()));
    }
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let both = read(&cert)? + &read(&key)?;
    fs::write(path("both.pem"), both).map_err(|error| format!("both.pem: {error}"))
}
