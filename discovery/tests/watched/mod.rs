//! A watched engine, and waiting for what is told of it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::facts::{Lifecycle, SourceFacts, SourceId, Unit};
use fairway_catalog::inputs::{Inputs, InputsHandle};
use fairway_config::file::{DockerEndpoint, DockerHost};
use fairway_discovery::NodeInfo;
use fairway_discovery::docker::DockerSource;
use fairway_discovery::exec::Engines;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Watched {
    pub source: SourceId,
    pub engines: Engines,
    pub lag: prometheus::Histogram,
    pub inputs: watch::Receiver<Inputs>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Watched {
    /// Watches the engine at a socket.
    pub fn socket(path: &Path) -> Self {
        Self::host(at_socket(path), fairway_discovery::docker::DIFF_EVERY)
    }

    /// The same, and lists everything again and again.
    pub fn often(path: &Path, diff_every: Duration) -> Self {
        Self::host(at_socket(path), diff_every)
    }

    pub fn host(host: DockerHost, diff_every: Duration) -> Self {
        let inputs = InputsHandle::new(Inputs::default());
        let lag = prometheus::Histogram::with_opts(
            prometheus::HistogramOpts::new("lag", "lag")
                .buckets([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0].to_vec()),
        );
        let lag = lag.expect("the buckets ascend");
        let engines = Engines::default();
        let source = DockerSource {
            host,
            node: NodeInfo { name: "here".into(), zone: "a".into() },
            inputs: inputs.clone(),
            engines: engines.clone(),
            lag: Some(lag.clone()),
            diff_every,
        };
        let id = source.id();
        let (stop, stopped) = watch::channel(false);
        let task = source.spawn(stopped);
        let inputs = inputs.subscribe();
        assert!(inputs.borrow().sources.contains_key(&id), "the source is there from the start");
        Self { source: id, engines, lag, inputs, stop, task }
    }

    /// What is told now.
    pub fn facts(&self) -> Arc<SourceFacts> {
        self.inputs.borrow().sources[&self.source].clone()
    }

    /// Waits until what is told fits.
    pub async fn until(&self, what: &str, fits: impl Fn(&SourceFacts) -> bool) -> Arc<SourceFacts> {
        let source = self.source.clone();
        let mut inputs = self.inputs.clone();
        let wait = inputs.wait_for(|inputs| fits(&inputs.sources[&source]));
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(told) => told.expect("the source lives").sources[&source].clone(),
            Err(_) => panic!("waited in vain for: {what}\n{:#?}", self.facts()),
        }
    }

    /// Waits for the first list, or for the return of a lost engine.
    pub async fn found(&self) -> Arc<SourceFacts> {
        self.until("the engine listed", |facts| facts.listed && facts.lost.is_none()).await
    }

    /// Waits for a loss whose reason contains `why`.
    pub async fn lost(&self, why: &str) -> Arc<SourceFacts> {
        let fits = |facts: &SourceFacts| facts.lost.as_ref().is_some_and(|lost| lost.error.contains(why));
        self.until(&format!("the engine lost: {why}"), fits).await
    }

    /// Waits until the container of this name fits.
    pub async fn unit(&self, name: &str, what: &str, fits: impl Fn(&Unit) -> bool) -> Arc<Unit> {
        let find = |facts: &SourceFacts| facts.units.values().find(|unit| &*unit.name == name).cloned();
        let facts =
            self.until(&format!("{name} {what}"), |facts| find(facts).is_some_and(|unit| fits(&unit))).await;
        find(&facts).expect("it was there a moment ago")
    }

    pub async fn running(&self, name: &str) -> Arc<Unit> {
        self.unit(name, "running with an address", |unit| {
            unit.lifecycle == Lifecycle::Running && unit.ip.is_some()
        })
        .await
    }

    pub async fn gone(&self, name: &str) {
        self.until(&format!("{name} gone"), |facts| facts.units.values().all(|unit| &*unit.name != name))
            .await;
    }

    /// Stops the watch and waits for its end.
    pub async fn stop(self) {
        self.stop.send(true).expect("the task waits for this");
        self.task.await.expect("the task does not panic");
    }
}

fn at_socket(path: &Path) -> DockerHost {
    let url = format!("unix://{}", path.display()).into();
    DockerHost { url, endpoint: DockerEndpoint::Unix(path.into()), tls: None, zone: None }
}
