//! Containers: made, started, and everything that can happen to them.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::{Api, Engine};
use crate::wait::{PATIENCE, until};

/// What a container is made of. Borrowed throughout, so that a test writes it down in one expression:
///
/// ```no_run
/// # async fn f(engine: fairway_testkit::Engine) {
/// use fairway_testkit::ContainerOptions;
/// let web = engine.run(ContainerOptions {
///     name: "web-1",
///     image: "web:v1",
///     labels: &[("aliyun.routing.port_80", "shop.local")],
///     ..ContainerOptions::default()
/// });
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ContainerOptions<'a> {
    /// Its name; empty lets the engine invent one.
    pub name: &'a str,
    /// Its image.
    pub image: &'a str,
    /// Its labels.
    pub labels: &'a [(&'a str, &'a str)],
    /// The networks it is in from the start, or `host`, or `none`; empty: the default bridge.
    pub networks: &'a [&'a str],
    /// `NAME=value`
    pub env: &'a [&'a str],
    /// Instead of the image's command.
    pub args: &'a [&'a str],
    /// Its host name; empty: the first 12 digits of its id.
    pub hostname: &'a str,
    /// `SIGQUIT`; empty: the image's, else SIGTERM.
    pub stop_signal: &'a str,
    /// How long `stop` waits before it kills, in seconds; the engine's default is 10.
    pub stop_timeout: Option<u32>,
    /// Its health check.
    pub health: Option<Health<'a>>,
    /// `always`, `on-failure`, `unless-stopped`; empty: no.
    pub restart: &'a str,
    /// The name servers it asks.
    pub dns: &'a [&'a str],
    /// Ports published on the machine's 127.0.0.1, as (there, here).
    pub publish: &'a [(u16, u16)],
    /// Further keys of the API's `ContainerCreate`, merged last.
    pub more: Option<&'a Value>,
}

/// A health check of the engine's own.
#[derive(Debug, Clone, Copy)]
pub struct Health<'a> {
    /// The program and its arguments.
    pub command: &'a [&'a str],
    /// Between two checks, in milliseconds.
    pub interval_ms: u64,
    /// Failures before it counts as unhealthy.
    pub retries: u32,
}

impl ContainerOptions<'_> {
    fn body(&self) -> Value {
        let labels: serde_json::Map<_, _> =
            self.labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let ports = |value: fn(u16) -> Value| -> Value {
            self.publish.iter().map(|(there, here)| (format!("{there}/tcp"), value(*here))).collect()
        };
        let mut body = json!({
            "Image": self.image,
            "Labels": labels,
            "Env": self.env,
            "ExposedPorts": ports(|_| json!({})),
            "HostConfig": {
                "Dns": self.dns,
                "RestartPolicy": { "Name": self.restart },
                "PortBindings": ports(|here| json!([{ "HostIp": "127.0.0.1", "HostPort": here.to_string() }])),
                "NetworkMode": self.networks.first().unwrap_or(&"default"),
            },
        });
        let timeout = self.stop_timeout.map(|seconds| json!({ "StopTimeout": seconds }));
        let health = self.health.map(|health| json!({ "Healthcheck": health.body() }));
        let set = |key: &str, text: &str| (!text.is_empty()).then(|| json!({ key: text }));
        let args = (!self.args.is_empty()).then(|| json!({ "Cmd": self.args }));
        let optional =
            [timeout, health, set("Hostname", self.hostname), set("StopSignal", self.stop_signal), args];
        optional.iter().flatten().chain(self.more).for_each(|keys| merge(&mut body, keys));
        body
    }
}

impl Health<'_> {
    fn body(&self) -> Value {
        const MILLISECOND: u64 = 1_000_000; // the API counts nanoseconds
        let command: Vec<&str> = ["CMD"].iter().chain(self.command).copied().collect();
        json!({ "Test": command, "Interval": self.interval_ms * MILLISECOND, "Retries": self.retries })
    }
}

/// Puts the keys of `more` into `base`, objects merged key by key.
pub(super) fn merge(base: &mut Value, more: &Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more.clone(),
    }
}

impl Engine {
    /// Makes a container and starts it.
    ///
    /// # Panics
    /// When the engine refuses.
    pub async fn run(&self, options: ContainerOptions<'_>) -> Container {
        let container = self.create(options).await;
        container.start().await;
        container
    }

    /// Makes a container and leaves it unstarted.
    ///
    /// # Panics
    /// When the engine refuses.
    pub async fn create(&self, options: ContainerOptions<'_>) -> Container {
        let name = if options.name.is_empty() { String::new() } else { format!("?name={}", options.name) };
        let made = self.api.post(&format!("/containers/create{name}"), Some(&options.body())).await;
        let id = made["Id"].as_str().expect("a made container has an id").to_owned();
        let container = Container { id, api: self.api.clone() };
        for network in options.networks.iter().skip(1) {
            container.connect(network).await;
        }
        container
    }

    /// The container with this name or id, however it was made.
    ///
    /// # Panics
    /// When there is none.
    pub async fn container(&self, name: &str) -> Container {
        let found = self.api.get(&format!("/containers/{name}/json")).await;
        Container {
            id: found["Id"].as_str().expect("a container has an id").to_owned(),
            api: self.api.clone(),
        }
    }
}

/// A container. It ends with its engine, not with this value. Every method panics when the engine refuses.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its whole id.
    pub id: String,
    api: Api,
}

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Its exit code.
    pub code: i64,
    /// What it wrote to both outputs.
    pub output: String,
}

impl Container {
    /// The first 12 digits of its id: its host name unless that is set, and the start of its instances' ids.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }

    /// Everything the engine knows of it.
    pub async fn inspect(&self) -> Value {
        self.api.get(&format!("/containers/{}/json", self.id)).await
    }

    /// Its address in the network `network` (`bridge` is the default one), while it runs there.
    pub async fn address_in(&self, network: &str) -> Option<Ipv4Addr> {
        let found = self.inspect().await;
        found["NetworkSettings"]["Networks"][network]["IPAddress"].as_str()?.parse().ok()
    }

    /// Its first address.
    ///
    /// # Panics
    /// When it has none.
    pub async fn address(&self) -> Ipv4Addr {
        let found = self.inspect().await;
        let networks = found["NetworkSettings"]["Networks"].as_object().expect("a container has networks");
        let addresses = networks.values().filter_map(|network| network["IPAddress"].as_str());
        let address = addresses.filter_map(|address| address.parse().ok()).next();
        address.unwrap_or_else(|| panic!("{} has no address: {networks:?}", self.short_id()))
    }

    /// Its first address with `port`.
    ///
    /// # Panics
    /// When it has none.
    pub async fn socket(&self, port: u16) -> SocketAddr {
        (self.address().await, port).into()
    }

    /// Starts it, and returns when its process runs.
    pub async fn start(&self) {
        self.post("start").await;
    }

    /// Stops it: its stop signal, then SIGKILL after its stop timeout. Returns when it has ended.
    pub async fn stop(&self) {
        self.post("stop").await;
    }

    /// Stops and starts it.
    pub async fn restart(&self) {
        self.post("restart").await;
    }

    /// Sends it a signal: `SIGKILL`.
    pub async fn kill(&self, signal: &str) {
        self.post(&format!("kill?signal={signal}")).await;
    }

    /// Freezes it.
    pub async fn pause(&self) {
        self.post("pause").await;
    }

    /// Thaws it.
    pub async fn unpause(&self) {
        self.post("unpause").await;
    }

    /// Gives it another name.
    pub async fn rename(&self, name: &str) {
        self.post(&format!("rename?name={name}")).await;
    }

    /// Removes it, ending it first.
    pub async fn remove(&self) {
        self.api.delete(&format!("/containers/{}?force=1&v=1", self.id)).await;
    }

    /// Puts it into a further network.
    pub async fn connect(&self, network: &str) {
        let body = json!({ "Container": self.id });
        self.api.call("POST", &format!("/networks/{network}/connect"), Some(&body)).await.ok("connect");
    }

    /// Takes it out of a network.
    pub async fn disconnect(&self, network: &str) {
        let body = json!({ "Container": self.id, "Force": true });
        self.api.call("POST", &format!("/networks/{network}/disconnect"), Some(&body)).await.ok("disconnect");
    }

    /// Waits for its end; its exit code.
    pub async fn wait(&self) -> i64 {
        let ended = self.api.post(&format!("/containers/{}/wait", self.id), None).await;
        ended["StatusCode"].as_i64().expect("an ended container has an exit code")
    }

    /// Waits until the engine calls its health `status` (`healthy`, `unhealthy`).
    ///
    /// # Panics
    /// After 30 s.
    pub async fn wait_for_health(&self, status: &str) {
        let healthy = async || (self.inspect().await["State"]["Health"]["Status"] == status).then_some(());
        until(format_args!("the health `{status}` of {}", self.short_id()), PATIENCE, healthy).await;
    }

    /// Waits until it takes connections on `port`; the address to reach it.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn listening(&self, port: u16) -> SocketAddr {
        let address = self.socket(port).await;
        let connect = async || tokio::net::TcpStream::connect(address).await.is_ok().then_some(());
        until(format_args!("a listener at {address}"), PATIENCE, connect).await;
        address
    }

    /// Runs a command in it.
    pub async fn exec(&self, command: &[&str]) -> Exec {
        let body = json!({ "Cmd": command, "AttachStdout": true, "AttachStderr": true });
        let made = self.api.post(&format!("/containers/{}/exec", self.id), Some(&body)).await;
        let id = made["Id"].as_str().expect("a made exec has an id");
        let start = json!({ "Detach": false, "Tty": false });
        let output = self.api.call("POST", &format!("/exec/{id}/start"), Some(&start)).await.ok("exec");
        let ended = self.api.get(&format!("/exec/{id}/json")).await;
        let code = ended["ExitCode"].as_i64().expect("an ended exec has an exit code");
        Exec { code, output: without_stream_headers(&output.body) }
    }

    /// What it wrote to both outputs.
    pub async fn logs(&self) -> String {
        let logs = format!("/containers/{}/logs?stdout=1&stderr=1", self.id);
        without_stream_headers(&self.api.call("GET", &logs, None).await.ok("logs").body)
    }

    async fn post(&self, action: &str) {
        self.api.post(&format!("/containers/{}/{action}", self.id), None).await;
    }
}

/// The engine puts both outputs into one stream: stream number, three zeros, length, octets, and again.
fn without_stream_headers(mut stream: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (octets, rest) = rest.split_at(length.min(rest.len()));
        text.extend_from_slice(octets);
        stream = rest;
    }
    String::from_utf8_lossy(&text).into_owned()
}
