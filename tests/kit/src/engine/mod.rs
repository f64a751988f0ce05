//! A private Docker engine for one test: its own socket, files, containerd, bridge and addresses.
//!
//! It touches no packet filter and no routing of the machine, so any number of engines run side by side, beside one
//! that the machine has. Containers are reached at their addresses on the bridge.

mod api;
mod container;
mod image;
mod leftovers;
mod place;

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

pub use self::api::{Api, Events};
pub use self::container::{Container, ContainerOptions, Exec, Health};
pub use self::image::Image;
use self::place::Place;
use crate::client::Request;
use crate::process::{Process, send_signal};
use crate::wait::{PATIENCE, until};

/// How much of an engine's log a failed test shows.
const LINES_SHOWN: usize = 40;

/// Longest wait for an engine to stop: it gives each container its own stop timeout first.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// How an engine is started.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Containers go on while the engine is down, and are found again by the next.
    pub live_restore: bool,
    /// Further flags of dockerd.
    pub flags: Vec<String>,
}

/// A running engine. Dropped: it, its containers, mounts, bridges and files are gone.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    api: Api,
    networks: AtomicUsize,
    /// In the order in which they end; `None` while stopped.
    dockerd: Mutex<Option<Process>>,
    containerd: Process,
    place: Place,
}

impl Engine {
    /// An engine as it comes.
    ///
    /// # Panics
    /// Without root, without `dockerd`, or when it does not answer in 30 s.
    pub async fn start() -> Self {
        Self::start_with(EngineOptions::default()).await
    }

    /// An engine whose containers outlive its restarts.
    ///
    /// # Panics
    /// As [`Engine::start`].
    pub async fn start_with_live_restore() -> Self {
        Self::start_with(EngineOptions { live_restore: true, ..EngineOptions::default() }).await
    }

    /// An engine with these options.
    ///
    /// # Panics
    /// As [`Engine::start`].
    pub async fn start_with(options: EngineOptions) -> Self {
        let place = Place::claim();
        let containerd = start_containerd(&place);
        let api = Api::new(place.path("docker.sock"));
        let networks = AtomicUsize::new(0);
        let engine = Self { options, api, networks, dockerd: Mutex::new(None), containerd, place };
        engine.start_again().await;
        engine
    }

    /// Starts it after [`Engine::stop`] or [`Engine::kill`], at the same socket, and waits until it answers.
    ///
    /// # Panics
    /// When it does not answer in 30 s.
    pub async fn start_again(&self) {
        *self.slot() = Some(self.start_dockerd());
        let ping = async || {
            if let Some(status) = self.slot().as_ref().and_then(Process::exited) {
                panic!("dockerd ended with {status}:\n{}", self.log_tail());
            }
            let answer = Request::get("docker", "/_ping").try_send_to_socket(self.socket()).await;
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        };
        until("an answer of dockerd", PATIENCE, ping).await;
    }

    /// Asks it to stop (SIGTERM) and waits until it has. Containers stop too, unless they are kept by live restore.
    ///
    /// # Panics
    /// When it is still there after 60 s.
    pub async fn stop(&self) {
        self.end(libc::SIGTERM).await;
    }

    /// Kills it (SIGKILL). Containers go on; without live restore the next start ends them.
    pub async fn kill(&self) {
        self.end(libc::SIGKILL).await;
    }

    /// [`Engine::stop`], then [`Engine::start_again`].
    ///
    /// # Panics
    /// As these.
    pub async fn restart(&self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Suspends it (SIGSTOP): its socket takes connections and nothing is ever answered.
    ///
    /// # Panics
    /// While it is stopped.
    pub async fn freeze(&self) {
        let pid = self.slot().as_ref().expect("a running engine is frozen").pid();
        send_signal(pid, libc::SIGSTOP);
        // Its threads stop one by one, each at its next turn.
        until("the last thread of dockerd to stop", PATIENCE, async || all_suspended(pid).then_some(()))
            .await;
    }

    /// Ends [`Engine::freeze`].
    ///
    /// # Panics
    /// While it is stopped.
    pub fn thaw(&self) {
        self.slot().as_ref().expect("a running engine is thawed").signal(libc::SIGCONT);
    }

    async fn end(&self, signal: i32) {
        let Some(dockerd) = self.slot().take() else { return };
        dockerd.signal(libc::SIGCONT);
        dockerd.signal(signal);
        dockerd.wait(STOP_PATIENCE).await;
    }

    /// Its API.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The path of its socket.
    pub fn socket(&self) -> &Path {
        self.api.socket()
    }

    /// Its socket as `DOCKER_HOST` and Fairway's `--docker` take it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The machine's address on the default bridge: where containers without a network of their own reach it.
    pub fn gateway(&self) -> Ipv4Addr {
        self.place.gateway()
    }

    /// The subnet of the default bridge.
    pub fn subnet(&self) -> String {
        format!("{}/24", Ipv4Addr::from_bits(self.gateway().to_bits() - 1))
    }

    /// What dockerd and its containerd logged.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.place.path(name)).unwrap_or_default();
        read("containerd.log") + &read("dockerd.log")
    }

    /// Makes a bridge network.
    ///
    /// # Panics
    /// When the engine refuses.
    pub async fn network(&self, name: &str) -> Network {
        self.network_with(name, &json!({})).await
    }

    /// Makes a bridge network with further keys of the API's `NetworkCreate` (`{"Internal": true}`).
    ///
    /// # Panics
    /// When the engine refuses.
    pub async fn network_with(&self, name: &str, keys: &Value) -> Network {
        // A name that says whose it is, so that the link can be removed without the engine.
        let link = format!("{}n{}", self.place.bridge(), self.networks.fetch_add(1, Ordering::Relaxed) + 1);
        let mut body = json!({
            "Name": name, "CheckDuplicate": true, "Driver": "bridge",
            "Options": { "com.docker.network.bridge.name": link },
        });
        container::merge(&mut body, keys);
        let made = self.api.post("/networks/create", Some(&body)).await;
        let id = made["Id"].as_str().expect("a made network has an id").to_owned();
        let found = self.api.get(&format!("/networks/{id}")).await;
        let config = &found["IPAM"]["Config"][0];
        let text = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
        Network { name: name.to_owned(), id, gateway: text("Gateway").parse().ok(), subnet: text("Subnet") }
    }

    /// Runs the `docker` command against this engine.
    ///
    /// # Panics
    /// When there is no such command.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.url()).env("DOCKER_API_VERSION", &api::VERSION[1..]);
        command.args(arguments).stdin(Stdio::null()).output().expect("the command `docker` is installed")
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.dockerd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_dockerd(&self) -> Process {
        let place = &self.place;
        let config = place.path("daemon.json");
        // The machine's own file must not count here.
        fs::write(&config, "{}").expect("the folder of the engine can be written");
        let mut command = Command::new("dockerd");
        command.arg("--host").arg(self.url());
        command.arg("--config-file").arg(config);
        command.arg("--data-root").arg(place.path("data"));
        command.arg("--exec-root").arg(place.path("exec"));
        command.arg("--pidfile").arg(place.path("dockerd.pid"));
        command.arg("--containerd").arg(place.path("containerd.sock"));
        command.arg("--bridge").arg(place.bridge());
        command.arg("--default-address-pool").arg(format!("base={},size=27", place.pool()));
        command.arg("--cgroup-parent").arg(format!("/{}", place.cgroup()));
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        command.args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
        command.arg(format!("--live-restore={}", self.options.live_restore));
        command.args(&self.options.flags);
        Process::spawn(logged(&mut command, place.path("dockerd.log")))
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("module=grpc")).collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- engine {} ----\n{}", self.socket().display(), self.log_tail());
        }
        // Without a word to dockerd first: it would end its containers one by one, at their leisure.
        drop(self.slot().take());
        self.containerd.signal(libc::SIGKILL);
    }
}

/// One containerd per engine, beside it as where a distribution starts it: killing dockerd leaves it alone.
fn start_containerd(place: &Place) -> Process {
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
        place.path("containerd-data"),
        place.path("containerd-state"),
        place.path("containerd.sock"),
    );
    let path = place.path("containerd.toml");
    fs::write(&path, config).expect("the folder of the engine can be written");
    let mut command = Command::new("containerd");
    command.args(["--log-level", "warn"]).arg("--config").arg(path);
    Process::spawn(logged(&mut command, place.path("containerd.log")))
}

/// Whether every thread of a process is suspended.
fn all_suspended(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // The state follows the name, which stands in parentheses.
    let mut stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')))
}

fn logged(command: &mut Command, path: PathBuf) -> &mut Command {
    let log = File::options().create(true).append(true).open(path);
    let log = log.expect("the folder of the engine can be written");
    let both = log.try_clone().expect("descriptors are not scarce in a test");
    command.stdin(Stdio::null()).stdout(log).stderr(both)
}

/// A network that a test made.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The machine's address on it, if it has one.
    pub gateway: Option<Ipv4Addr>,
    /// Its subnet, as in `198.19.1.0/27`.
    pub subnet: String,
}
