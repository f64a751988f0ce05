//! What a row plays on: an engine, the real program beside it, and instances of services.

use fairway_testkit::{Container, ContainerOptions, Engine, EngineOptions, Fairway, FairwayOptions};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");
const IMAGE: &str = "origin:v1";

/// The host of the service `web`.
pub(crate) const HOST: &str = "shop.localhost";

/// An engine and Fairway beside it.
pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) fairway: Fairway,
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
}

/// An instance of `web` that ends as a well-made server does.
pub(crate) const WEB: Part<'static> = Part {
    service: "web",
    claim: "shop",
    version: "v1",
    on_term: "finish",
    stop_timeout: 10,
    network: "bridge",
};

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with(EngineOptions::default()).await
    }

    pub(crate) async fn set_with(options: EngineOptions) -> Self {
        let engine = Engine::start_with(options).await;
        engine.origin_image(IMAGE).await;
        let fairway = FairwayOptions::new(BINARY).docker(engine.url()).start().await;
        fairway.ready().await;
        Self { engine, fairway }
    }

    /// Starts an instance. It need not be ready yet.
    pub(crate) async fn start(&self, name: &str, part: Part<'_>) -> Container {
        let service = format!("SERVICE={}", part.service);
        let (version, on_term) = (format!("VERSION={}", part.version), format!("ON_TERM={}", part.on_term));
        let labels = &[
            ("aliyun.routing.port_80", part.claim),
            ("aliyun.probe.url", "http://container/health"),
            ("fairway.service", part.service),
            ("fairway.version", part.version),
        ];
        let options = ContainerOptions {
            name,
            image: IMAGE,
            labels,
            networks: &[part.network],
            env: &[&service, &version, &on_term],
            stop_timeout: Some(part.stop_timeout),
            ..Default::default()
        };
        self.engine.run(options).await
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
