//! What a row plays on: an engine, the real program beside it, and instances of services.

use std::collections::HashSet;

use fairway_testkit::{Container, ContainerOptions, Engine, EngineOptions, Fairway, FairwayOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::count::{Count, Kind};
use crate::traffic::Traffic;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_fairway");
const IMAGE: &str = "origin:v1";

/// The host of the service `web`.
pub(crate) const HOST: &str = "shop.localhost";

/// An engine and Fairway beside it.
pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) fairway: Fairway,
    /// Where each instance notes the POSTs that it has taken.
    notes: TempDir,
}

/// What an instance is made of.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// Its service, which is also its backend's name; `web` is reached at [`HOST`].
    pub(crate) service: &'a str,
    /// The first word of its host.
    pub(crate) claim: &'a str,
    pub(crate) version: &'a str,
    /// What it does on SIGTERM, as `ON_TERM`.
    pub(crate) on_term: &'a str,
    /// Seconds from SIGTERM to SIGKILL at a stop.
    pub(crate) stop_timeout: u32,
    pub(crate) network: &'a str,
    pub(crate) speaks: Speaks,
}

/// What an instance speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    /// HTTP/2 without TLS, gRPC on it.
    H2c,
}

/// An instance of `web` that ends as a well-made server does.
pub(crate) const WEB: Part<'static> = Part {
    service: "web",
    claim: "shop",
    version: "v1",
    on_term: "finish",
    stop_timeout: 10,
    network: "bridge",
    speaks: Speaks::Http1,
};

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with(EngineOptions::default()).await
    }

    pub(crate) async fn set_with(options: EngineOptions) -> Self {
        Self::set_by(options, FairwayOptions::new(BINARY)).await
    }

    /// Fairway started with these options besides.
    pub(crate) async fn set_by(options: EngineOptions, fairway: FairwayOptions) -> Self {
        let engine = Engine::start_with(options).await;
        engine.origin_image(IMAGE).await;
        let fairway = fairway.docker(engine.url()).start().await;
        fairway.ready().await;
        Self { engine, fairway, notes: folder() }
    }

    /// What a load counted, and how many POSTs were taken more than once: by which instances does not matter.
    pub(crate) async fn count(&self, traffic: Traffic) -> Count {
        let count = traffic.stop().await;
        let (mut taken, mut twice) = (HashSet::new(), 0);
        for file in std::fs::read_dir(self.notes.path()).expect("the folder is ours").flatten() {
            let ids = std::fs::read_to_string(file.path()).expect("ids are text");
            twice += ids.lines().filter(|id| !taken.insert((*id).to_owned())).count() as u64;
        }
        let posts: u64 = Kind::POSTS.iter().map(|kind| count.of(*kind)).sum();
        assert!(posts == 0 || !taken.is_empty(), "instances note what they take");
        count.taken_twice(twice)
    }

    /// Starts an instance. It need not be ready yet.
    pub(crate) async fn start(&self, name: &str, part: Part<'_>) -> Container {
        let made = self.create(name, part).await;
        made.start().await;
        made
    }

    /// Makes an instance, which is not started.
    pub(crate) async fn create(&self, name: &str, part: Part<'_>) -> Container {
        let service = format!("SERVICE={}", part.service);
        let (version, on_term) = (format!("VERSION={}", part.version), format!("ON_TERM={}", part.on_term));
        let (protocol, mode, probe) = match part.speaks {
            Speaks::Http1 => ("http1", "MODE=http", "http://container/health"),
            Speaks::H2c => ("h2c", "MODE=h2c", "grpc://container:80"),
        };
        let labels = &[
            ("aliyun.routing.port_80", part.claim),
            ("aliyun.probe.url", probe),
            ("fairway.protocol", protocol),
            ("fairway.service", part.service),
            ("fairway.version", part.version),
        ];
        let options = ContainerOptions {
            name,
            image: IMAGE,
            labels,
            networks: &[part.network],
            env: &[&service, &version, &on_term, mode, "NOTES=/tmp"],
            stop_timeout: Some(part.stop_timeout),
            more: Some(
                &json!({ "HostConfig": { "Binds": [format!("{}:/tmp", self.notes.path().display())] } }),
            ),
            ..Default::default()
        };
        self.engine.create(options).await
    }

    /// Starts `count` instances named `web-0` and so on, and waits until they are ready.
    pub(crate) async fn start_all(&self, count: usize, part: Part<'_>) -> Vec<Container> {
        let mut started = Vec::new();
        for n in 0..count {
            started.push(self.start(&format!("{}-{}-{n}", part.service, part.version), part).await);
        }
        for container in &started {
            self.is_ready(container).await;
        }
        started
    }

    /// Waits until this container is ready.
    pub(crate) async fn is_ready(&self, container: &Container) {
        let id = container.short_id();
        let ready = |list: &Value| {
            list["items"].as_array().into_iter().flatten().any(|item| {
                item["condition"] == "ready" && item["id"].as_str().is_some_and(|own| own.starts_with(id))
            })
        };
        self.fairway.wait_until(&format!("{id} is ready"), "/api/v1/instances", ready).await;
    }
}

/// A new folder that lives as long as the value.
pub(crate) fn folder() -> TempDir {
    TempDir::with_prefix("fairway-soak-").expect("the folder for temporary files can be written")
}
