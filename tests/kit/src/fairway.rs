//! The real binary, started on ports that the system chooses, and its admin API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::client::{Answer, Request};
use crate::process::{Log, Process};
use crate::wait::{PATIENCE, until, within};

/// Longest wait at a stop: more than the 30 s that requests in flight are given by default.
const STOP_PATIENCE: Duration = Duration::from_secs(45);

/// Longest silence of the event feed after which a condition is looked at anyway.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How Fairway is started. Lists of addresses that are empty give no flag: then the file or the default counts.
#[derive(Debug, Clone)]
pub struct FairwayOptions {
    /// The program: `env!("CARGO_BIN_EXE_fairway")` in a test of the root package.
    pub binary: PathBuf,
    /// The configuration file's text; empty: no file.
    pub config: String,
    /// `--docker`; none switches Docker off.
    pub docker: Vec<String>,
    /// `--http`
    pub http: Vec<String>,
    /// `--https`
    pub https: Vec<String>,
    /// `--dns`
    pub dns: Vec<String>,
    /// `--admin`
    pub admin: Option<String>,
    /// Further arguments of `run`.
    pub args: Vec<String>,
    /// Further variables.
    pub env: Vec<(String, String)>,
    /// `--state-dir`; `None`: a new folder, removed at the end.
    pub state_dir: Option<PathBuf>,
}

impl FairwayOptions {
    /// One listener each on 127.0.0.1, no Docker, no file.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let loopback = || vec!["127.0.0.1:0".to_owned()];
        Self {
            binary: binary.into(),
            config: String::new(),
            docker: Vec::new(),
            http: loopback(),
            https: Vec::new(),
            dns: loopback(),
            admin: Some("127.0.0.1:0".to_owned()),
            args: Vec::new(),
            env: Vec::new(),
            state_dir: None,
        }
    }

    /// The same with this engine watched too.
    pub fn docker(mut self, url: impl Into<String>) -> Self {
        self.docker.push(url.into());
        self
    }

    /// The same with this configuration file.
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = text.into();
        self
    }

    /// The same with a further HTTP listener: `198.18.1.1:0`.
    pub fn http(mut self, address: impl Into<String>) -> Self {
        self.http.push(address.into());
        self
    }

    /// The same with a further TLS listener.
    pub fn https(mut self, address: impl Into<String>) -> Self {
        self.https.push(address.into());
        self
    }

    /// The same with a further DNS listener.
    pub fn dns(mut self, address: impl Into<String>) -> Self {
        self.dns.push(address.into());
        self
    }

    /// The same with further arguments.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.args.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Starts it, and waits until it has said where it listens.
    ///
    /// # Panics
    /// When it ends first, or takes longer than 30 s.
    pub async fn start(self) -> Fairway {
        Fairway::start(self).await
    }

    /// Runs it to its end, which should come by itself: for what it refuses.
    ///
    /// # Panics
    /// When it still runs after 30 s.
    pub async fn run_to_end(self) -> Ended {
        let folder = Folder::make(&self);
        let (process, log) = Process::spawn_logged(&mut self.command(&folder));
        let status = process.wait(PATIENCE).await;
        log.complete().await;
        Ended { code: status.code(), text: log.text() }
    }

    fn command(&self, folder: &Folder) -> Command {
        let mut command = Command::new(&self.binary);
        // What the test's own environment says must not count.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"FAIRWAY_") || name == "DOCKER_HOST" {
                command.env_remove(name);
            }
        }
        command.arg("run").arg("--state-dir").arg(&folder.state);
        if let Some(file) = &folder.config {
            command.arg("--config").arg(file);
        }
        let lists = [
            ("--docker", &self.docker),
            ("--http", &self.http),
            ("--https", &self.https),
            ("--dns", &self.dns),
        ];
        for (flag, values) in lists {
            values.iter().for_each(|value| {
                command.args([flag, value]);
            });
        }
        self.admin.iter().for_each(|address| {
            command.args(["--admin", address]);
        });
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The file's text; without an engine to watch, Docker is switched off unless the text has its own `[docker]`.
    fn file_text(&self) -> String {
        if self.docker.is_empty() && !self.config.contains("[docker]") {
            return format!("{}\n[docker]\nenabled = false\n", self.config);
        }
        self.config.clone()
    }
}

/// How a run that was to end by itself ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Everything it wrote.
    pub text: String,
}

/// The files of one Fairway.
#[derive(Debug)]
struct Folder {
    _own: TempDir,
    state: PathBuf,
    config: Option<PathBuf>,
}

impl Folder {
    fn make(options: &FairwayOptions) -> Self {
        let own =
            TempDir::with_prefix("fairway-test-").expect("the folder for temporary files can be written");
        let state = options.state_dir.clone().unwrap_or_else(|| own.path().join("state"));
        let text = options.file_text();
        let config = (!text.is_empty()).then(|| own.path().join("fairway.toml"));
        if let Some(path) = &config {
            std::fs::write(path, text).expect("a folder just made can be written");
        }
        Self { _own: own, state, config }
    }
}

/// A running Fairway. Dropped: killed; its log is shown when the test panics.
#[derive(Debug)]
pub struct Fairway {
    options: FairwayOptions,
    process: Process,
    log: Log,
    listening: Listening,
    folder: Folder,
}

/// Where it listens, as it said at its start: lines with `listening http 127.0.0.1:41234`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listening {
    /// Plain HTTP.
    pub http: Vec<SocketAddr>,
    /// HTTP over TLS.
    pub https: Vec<SocketAddr>,
    /// DNS, the same address for UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// The admin API: an address, or `unix:/path`.
    pub admin: Option<String>,
}

impl Listening {
    fn read(lines: &[String]) -> Self {
        let mut listening = Self::default();
        for line in lines {
            let Some((_, said)) = line.split_once("listening ") else { continue };
            let mut words = said.split([' ', '"', ',']);
            let (Some(kind), Some(address)) = (words.next(), words.next()) else { continue };
            listening.add(kind, address);
        }
        listening
    }

    fn add(&mut self, kind: &str, address: &str) {
        let list = match kind {
            "http" => &mut self.http,
            "https" => &mut self.https,
            "dns" => &mut self.dns,
            "admin" => return self.admin = Some(address.to_owned()),
            _ => return,
        };
        if let Ok(address) = address.parse()
            && !list.contains(&address)
        {
            list.push(address);
        }
    }

    /// Whether everything asked for by flags is there.
    fn covers(&self, options: &FairwayOptions) -> bool {
        self.http.len() >= options.http.len()
            && self.https.len() >= options.https.len()
            && self.dns.len() >= options.dns.len()
            && self.admin.is_some()
    }
}

impl Fairway {
    /// Starts it, and waits until it has said where it listens.
    ///
    /// # Panics
    /// When it ends first, or takes longer than 30 s.
    pub async fn start(options: FairwayOptions) -> Self {
        let folder = Folder::make(&options);
        let (process, log) = Process::spawn_logged(&mut options.command(&folder));
        let mut fairway = Self { options, process, log, listening: Listening::default(), folder };
        fairway.wait_for_listeners().await;
        fairway
    }

    async fn wait_for_listeners(&mut self) {
        let all =
            self.log.find(|lines| Some(Listening::read(lines)).filter(|found| found.covers(&self.options)));
        match within("the lines `listening ...` of fairway", PATIENCE, all).await {
            Some(listening) => self.listening = listening,
            None => panic!("fairway ended with {:?} before it listened", self.process.wait(PATIENCE).await),
        }
    }

    /// Starts it again with the same options and state, after [`Fairway::terminate`] or [`Fairway::kill9`] or without.
    /// The system chooses new ports.
    ///
    /// # Panics
    /// As [`Fairway::start`].
    pub async fn restart(&mut self) {
        self.terminate().await;
        let (process, log) = Process::spawn_logged(&mut self.options.command(&self.folder));
        (self.process, self.log) = (process, log);
        self.wait_for_listeners().await;
    }

    /// Where it listens.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Its first plain HTTP listener.
    ///
    /// # Panics
    /// When it has none.
    pub fn http(&self) -> SocketAddr {
        *self.listening.http.first().expect("fairway was started with an HTTP listener")
    }

    /// Its first TLS listener.
    ///
    /// # Panics
    /// When it has none.
    pub fn https(&self) -> SocketAddr {
        *self.listening.https.first().expect("fairway was started with a TLS listener")
    }

    /// Its first DNS listener.
    ///
    /// # Panics
    /// When it has none.
    pub fn dns(&self) -> SocketAddr {
        *self.listening.dns.first().expect("fairway was started with a DNS listener")
    }

    /// Its folder of state.
    pub fn state_dir(&self) -> &Path {
        &self.folder.state
    }

    /// Its configuration file, for a reload; [`FairwayOptions::config`] must not have been empty, or Docker be off.
    ///
    /// # Panics
    /// When it has none.
    pub fn config_file(&self) -> &Path {
        self.folder.config.as_deref().expect("fairway was started with a configuration file")
    }

    /// What it wrote to both outputs.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// GET `path` with the Host `host` from its first HTTP listener.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.send(&Request::get(host, path)).await
    }

    /// Sends a request to its first HTTP listener.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub async fn send(&self, request: &Request) -> Answer {
        request.send(self.http()).await
    }

    /// Calls the admin API, whatever comes of it. `path` is the whole path: `/api/v1/status`.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let request = Request::new(method, "localhost", path);
        self.send_admin(&if let Some(body) = body { request.json(body) } else { request }).await
    }

    /// Sends a request to the admin API.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub async fn send_admin(&self, request: &Request) -> Answer {
        let admin = self.listening.admin.as_deref().expect("a started fairway has an admin listener");
        match admin.strip_prefix("unix:") {
            Some(path) => request.send_to_socket(Path::new(path)).await,
            None => request.send(admin.parse().expect("an admin listener is a socket or an address")).await,
        }
    }

    /// GET `path` of the admin API as JSON.
    ///
    /// # Panics
    /// When the answer is not one of success.
    pub async fn read(&self, path: &str) -> Value {
        self.admin("GET", path, None).await.ok(path).json()
    }

    /// The `items` of a list of the admin API: `list("instances")`.
    ///
    /// # Panics
    /// When the answer is no list.
    pub async fn list(&self, what: &str) -> Vec<Value> {
        let list = self.read(&format!("/api/v1/{what}")).await;
        list["items"].as_array().unwrap_or_else(|| panic!("{what}: {list}")).clone()
    }

    /// Replaces the split of `route` (`shop.local/`); the answer, whatever it is.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub async fn put_split(&self, route: &str, body: &Value) -> Answer {
        let route = percent_encoding::utf8_percent_encode(route, percent_encoding::NON_ALPHANUMERIC);
        self.admin("PUT", &format!("/api/v1/routes/{route}/split"), Some(body)).await
    }

    /// Waits until the admin API's answer to `path` satisfies `holds`; looks again at each event. That answer.
    ///
    /// # Panics
    /// After 30 s, with the last answer.
    pub async fn wait_until(&self, what: &str, path: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.admin("GET", path, None).await;
            let value = if answer.status == 200 { answer.json() } else { Value::Null };
            if holds(&value) {
                return value;
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}; last {}", answer.text());
            self.next_event(&value).await;
        }
    }

    /// Returns at the first event after the revision of `list`, and after a moment in any case.
    async fn next_event(&self, list: &Value) {
        let Some(revision) = list["revision"].as_u64() else { return sleep(LOOK_AGAIN / 10).await };
        let path = format!("/api/v1/events?after={revision}&wait=1s");
        let told = tokio::time::timeout(LOOK_AGAIN, self.admin("GET", &path, None)).await;
        // An answer that tells nothing new would make this a busy loop.
        let new =
            told.is_ok_and(|answer| answer.status == 200 && answer.json()["items"] != Value::Array(vec![]));
        if !new {
            sleep(LOOK_AGAIN / 10).await;
        }
    }

    /// Waits until every source has been listed: `/readyz` answers 200.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn ready(&self) {
        let ready = async || (self.admin("GET", "/readyz", None).await.status == 200).then_some(());
        until("200 from /readyz", PATIENCE, ready).await;
    }

    /// Waits until `count` instances of the container called `name` or of the backend `name` are ready; these.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn instances_ready(&self, name: &str, count: usize) -> Vec<Value> {
        let ready = |list: &Value| -> Vec<Value> {
            let items = list["items"].as_array().into_iter().flatten();
            let named = items.filter(|item| item["name"] == name || item["backend"] == name);
            named.filter(|item| item["condition"] == "ready").cloned().collect()
        };
        let what = format!("{count} ready instances of {name}");
        ready(&self.wait_until(&what, "/api/v1/instances", |list| ready(list).len() == count).await)
    }

    /// Waits until a GET of `path` with the Host `host` is answered with `status`; that answer.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn answers(&self, host: &str, path: &str, status: u16) -> Answer {
        let what = format!("{status} for http://{host}{path}");
        until(what, PATIENCE, async || Some(self.get(host, path).await).filter(|got| got.status == status))
            .await
    }

    /// Runs a command of the program against this process's admin API: `cli(&["routes", "-o", "json"])`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        let admin = self.listening.admin.as_deref().expect("a started fairway has an admin listener");
        let url = if admin.starts_with("unix:") { admin.to_owned() } else { format!("http://{admin}") };
        let mut command = Command::new(&self.options.binary);
        command.env("FAIRWAY_ADMIN_URL", url).args(arguments).stdin(Stdio::null());
        let run = tokio::task::spawn_blocking(move || command.output());
        let done = run.await.expect("starting a process does not panic");
        done.expect("the program that runs already can be started once more")
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    ///
    /// # Panics
    /// When it still runs after 45 s.
    pub async fn terminate(&self) -> ExitStatus {
        self.process.signal(libc::SIGTERM);
        self.process.wait(STOP_PATIENCE).await
    }

    /// Kills it (SIGKILL).
    ///
    /// # Panics
    /// Never in practice: the kernel does not refuse.
    pub async fn kill9(&self) -> ExitStatus {
        self.process.signal(libc::SIGKILL);
        self.process.wait(STOP_PATIENCE).await
    }

    /// Has it read its configuration file again (SIGHUP).
    pub fn reload(&self) {
        self.process.signal(libc::SIGHUP);
    }
}

impl Drop for Fairway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- fairway {} ----\n{}", self.process.pid(), self.log.text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_plain_and_from_json_lines() {
        let lines = [
            "2026-01-01T00:00:00Z  INFO listening http 127.0.0.1:41234",
            r#"{"level":"INFO","message":"listening http 10.0.0.1:80","target":"fairway"}"#,
            "listening dns 127.0.0.1:5300",
            "listening dns 127.0.0.1:5300",
            "listening admin unix:/run/fairway.sock",
            "listening to reason",
        ];
        let found = Listening::read(&lines.map(str::to_owned));
        let addresses =
            |list: &[&str]| list.iter().filter_map(|one| one.parse().ok()).collect::<Vec<SocketAddr>>();
        assert_eq!(found.http, addresses(&["127.0.0.1:41234", "10.0.0.1:80"]));
        assert_eq!(found.dns, addresses(&["127.0.0.1:5300"]));
        assert_eq!(found.https, []);
        assert_eq!(found.admin.as_deref(), Some("unix:/run/fairway.sock"));
    }
}
