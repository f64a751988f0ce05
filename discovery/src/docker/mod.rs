//! Watches Docker engines: each container that is to be routed to becomes a unit of the catalog's inputs.
//!
//! One task per engine, for ever: connect, subscribe to events, list, inspect, reconcile; when the engine is lost, keep
//! what was known and connect again, by path. Start reading at `session` (one connection) and `book` (what is known, a
//! pure state machine).
//!
//! `client` makes the calls, `raw` holds the answers and `failure` words what goes wrong; `pump` moves events off the stream, `event` and
//! `container` read Docker's words; `identity` with `image`, `address` with `network` and `local`, and `unit` say what
//! follows from them; `publish` writes it into the inputs.

mod address;
mod book;
mod client;
mod container;
mod event;
mod failure;
mod identity;
mod image;
mod local;
mod network;
mod publish;
mod pump;
mod raw;
mod session;
mod signal;
mod unit;

use std::time::Duration;

use fairway_catalog::facts::SourceId;
use fairway_catalog::inputs::InputsHandle;
use fairway_config::file::DockerHost;
use prometheus::Histogram;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use self::client::Client;
pub use self::failure::EngineError;

use self::book::Book;
use self::publish::Publisher;
use self::session::{Ended, Session};
use self::unit::Place;
use crate::NodeInfo;
use crate::exec::Engines;

/// Waits between attempts to connect: doubled from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How often everything is listed again, unless a test is in a hurry.
pub const DIFF_EVERY: Duration = Duration::from_secs(30);

/// What the watch over one engine needs.
#[derive(Debug)]
pub struct DockerSource {
    /// The engine.
    pub host: DockerHost,
    /// This node: an engine on it is of its name and, unless it says otherwise, of its zone.
    pub node: NodeInfo,
    /// Where the facts go.
    pub inputs: InputsHandle,
    /// Where commands inside containers find the engine.
    pub engines: Engines,
    /// `fairway_discovery_lag_seconds`: from Docker's event to the change of the inputs. Told by the clocks of both, so
    /// that it means something for an engine on this machine only.
    pub lag: Option<Histogram>,
    /// How often everything is listed again; [`DIFF_EVERY`].
    pub diff_every: Duration,
}

impl DockerSource {
    /// The name of the source among the inputs.
    pub fn id(&self) -> SourceId {
        SourceId::Docker(self.host.url.clone())
    }

    /// Enters the source into the inputs, not yet listed, and watches the engine until `stop` is true or its sender is
    /// dropped. Never fails: what is wrong with the engine is told in the inputs.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn spawn(self, stop: watch::Receiver<bool>) -> JoinHandle<()> {
        let publisher = Publisher::new(self.id(), self.inputs.clone(), self.lag.clone());
        tokio::spawn(self.watch(publisher, stop))
    }

    async fn watch(self, publisher: Publisher, mut stop: watch::Receiver<bool>) {
        let source = self.id();
        let engines = self.engines.clone();
        tokio::select! {
            () = self.watch_for_ever(publisher) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        engines.forget(&source);
    }

    async fn watch_for_ever(self, mut publisher: Publisher) {
        let mut book = Book::new(self.place());
        let mut wait = BACKOFF.0;
        loop {
            let was_found = publisher.is_found();
            let ended = self.session(&mut book, &mut publisher).await;
            if publisher.is_found() {
                wait = BACKOFF.0; // this connection went well for a while
            }
            match ended {
                Ended::Deaf => {
                    tracing::warn!(engine = %self.host.url, "things changed without an event; subscribing anew");
                }
                Ended::Lost(error) => {
                    if publisher.lost(&error) {
                        let state = if was_found { "engine lost" } else { "engine not reached" };
                        tracing::warn!(engine = %self.host.url, %error, "{state}; what is known stays");
                    }
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    async fn session(&self, book: &mut Book, publisher: &mut Publisher) -> Ended {
        let (client, hello) = match Client::connect(&self.host).await {
            Ok(connected) => connected,
            Err(error) => return Ended::Lost(error),
        };
        self.engines.enter(self.id(), client.clone());
        match Session::open(client, hello, self, self.place(), book, publisher).await {
            Ok(session) => session.run().await,
            Err(error) => Ended::Lost(error),
        }
    }

    fn place(&self) -> Place {
        let zone = self.host.zone.clone().unwrap_or_else(|| self.node.zone.clone());
        Place { node: self.node.name.clone(), zone, address: None }
    }
}
