//! Starts the DNS and holds what keeps it running.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fairway_catalog::config::file::Dns;
use fairway_catalog::{Catalog, InputsHandle};
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::adopt::{Adopted, Duplicates, ListenerSockets};
use crate::control::{Control, Followed, Listeners, Told, build_zone};
use crate::forward::Forwarder;
use crate::metrics::Metrics;
use crate::server::bind::BindError;
use crate::server::{Missing, ReplyLimit, Shared};

/// Where the DNS answers when nothing is configured.
const DEFAULT_PORT: u16 = 53;
/// One answers while the other makes the next zone.
const THREADS: usize = 2;

/// Why the DNS cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configured listener cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The registry has metrics of our names already.
    #[error("the metrics of the DNS cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The system gives no random numbers, without which answers of upstreams can be forged.
    #[error("the system gives no random numbers for the DNS: {0}; mount /dev/urandom, or allow getrandom(2)")]
    Random(getrandom::Error),
    /// The threads cannot be started.
    #[error("the threads of the DNS cannot be started")]
    Threads(#[source] std::io::Error),
}

/// The DNS at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    addresses: watch::Receiver<Vec<SocketAddr>>,
    applied: watch::Receiver<u64>,
    duplicates: Duplicates,
    stop: watch::Sender<Duration>,
    runtime: Option<Runtime>,
}

/// Starts the DNS on threads of its own.
///
/// `config` is followed, but for `listen`, which is read once. `http` is where the proxy's listeners are bound; a routed
/// name leads nowhere else. Problems are reported to `inputs` under the name `dns`. Fails when a configured listener
/// cannot be bound; a default one that cannot is a problem, tried again when networks change and every 30 s. `adopted` are
/// sockets of a process that is taken over from.
pub fn start(
    config: watch::Receiver<Arc<Dns>>,
    catalogs: watch::Receiver<Arc<Catalog>>,
    http: watch::Receiver<Vec<SocketAddr>>,
    registry: &Registry,
    inputs: InputsHandle,
    adopted: Adopted,
) -> Result<Running, StartError> {
    start_on(config, catalogs, http, registry, inputs, adopted, DEFAULT_PORT)
}

/// The same with another port for the default listeners.
pub(crate) fn start_on(
    config: watch::Receiver<Arc<Dns>>,
    catalogs: watch::Receiver<Arc<Catalog>>,
    http: watch::Receiver<Vec<SocketAddr>>,
    registry: &Registry,
    inputs: InputsHandle,
    adopted: Adopted,
    default_port: u16,
) -> Result<Running, StartError> {
    // Asked now, because the first time opens files in a program that is linked statically, and the resolver panics if
    // others have used all of them up by then.
    getrandom::fill(&mut [0]).map_err(StartError::Random)?;
    let Adopted { sockets, open } = adopted;
    let listeners = Listeners::bind(&config.borrow().listen, default_port, sockets)?;
    let duplicates = listeners.duplicates();
    let (stop, stopped) = watch::channel(Duration::ZERO);
    let mut followed = Followed { config, catalogs, http, open, stop: stopped };
    let (zone, problems) = build_zone(&mut followed, None);
    let (applied_sender, applied) = watch::channel(zone.serial());
    let (addresses_sender, addresses) = watch::channel(listeners.addresses());
    let shared = Arc::new(Shared {
        zone: ArcSwap::from_pointee(zone),
        forwarder: Forwarder::new(),
        metrics: Metrics::new(registry)?,
        limit: ReplyLimit::default(),
        missing: Missing::default(),
    });
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("fairway-dns")
        .enable_all()
        .build()
        .map_err(StartError::Threads)?;
    let told = Told { inputs, applied: applied_sender, addresses: addresses_sender };
    runtime.spawn(Control::new(followed, told, shared, listeners, problems).run());
    Ok(Running { addresses, applied, duplicates, stop, runtime: Some(runtime) })
}

impl Running {
    /// Where it answers, as bound; changes with the networks when the listeners are the default ones.
    pub fn addresses(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.addresses.clone()
    }

    /// The serial of the catalog whose zone is live.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    /// The sockets of each listener once more: what another process adopts.
    pub fn listening_sockets(&self) -> std::io::Result<Vec<ListenerSockets>> {
        self.duplicates.duplicate()
    }

    /// Takes no further requests and waits until the sockets are closed. What is under way is answered, if it is so within
    /// `longest`: a forwarded request takes 5 s at most, a connection closes when it has its answers.
    pub async fn shutdown(mut self, longest: Duration) {
        let Self { stop, applied, .. } = &mut self;
        let _nobody_listens = stop.send(longest);
        // The task holds the other end until its listeners are closed.
        while applied.changed().await.is_ok() {}
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping a runtime waits, which must not happen inside another one.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
