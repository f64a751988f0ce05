//! Shows what discovery tells of one engine, each time it changes: `watch unix:///var/run/docker.sock`.
//!
//! One line per container with its address and the reason for it; `lost` with the reason when the engine is.

use std::error::Error;

use fairway_catalog::inputs::{Inputs, InputsHandle};
use fairway_config::file::{DockerEndpoint, DockerHost};
use fairway_discovery::NodeInfo;
use fairway_discovery::docker::{DIFF_EVERY, DockerSource};
use fairway_discovery::exec::Engines;
use tokio::sync::watch;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url =
        std::env::args().nth(1).ok_or("name an engine: unix:///var/run/docker.sock or tcp://HOST:PORT")?;
    let endpoint = match url.split_once("://") {
        Some(("unix", path)) => DockerEndpoint::Unix(path.into()),
        Some(("tcp" | "http", address)) => DockerEndpoint::Tcp(address.into()),
        _ => return Err("an engine's URL starts with unix:// or tcp://".into()),
    };
    let inputs = InputsHandle::new(Inputs::default());
    let source = DockerSource {
        host: DockerHost { url: url.into(), endpoint, tls: None, zone: None },
        node: NodeInfo { name: "here".into(), zone: "".into() },
        inputs: inputs.clone(),
        engines: Engines::default(),
        lag: None,
        diff_every: DIFF_EVERY,
    };
    let id = source.id();
    let mut told = inputs.subscribe();
    let (_stop, stopped) = watch::channel(false);
    let task = source.spawn(stopped);
    while told.changed().await.is_ok() {
        let Some(facts) = told.borrow_and_update().sources.get(&id).cloned() else { continue };
        match &facts.lost {
            Some(lost) => println!("lost: {}", lost.error),
            None => println!("{}: {} containers", facts.peer, facts.units.len()),
        }
        for unit in facts.units.values() {
            let ip = unit.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
            println!("{} {} {:?} {ip} {}", unit.name, unit.backend, unit.lifecycle, unit.address_reason);
        }
        for problem in &facts.problems {
            println!("problem: {}: {}; {}", problem.subject, problem.text, problem.remedy);
        }
    }
    task.await?;
    Ok(())
}
