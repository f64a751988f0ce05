//! What the API reads and whom it asks.

use std::sync::Arc;

use fairway_catalog::Catalog;
use fairway_health::ProbeLog;
use fairway_proxy::table::TableHandle;
use fairway_store::Store;
use prometheus::Registry;
use tokio::sync::watch;

use crate::control::Control;
use crate::feed::Feed;
use crate::types::Listener;

/// Tells the listeners of the process, bound or not, as they are now.
pub type Listeners = Arc<dyn Fn() -> Vec<Listener> + Send + Sync>;

/// What the API reads and whom it asks.
#[derive(Clone)]
pub struct AdminState {
    /// The cluster.
    pub catalogs: watch::Receiver<Arc<Catalog>>,
    /// Who carries out orders.
    pub control: Control,
    /// The data plane, for `explain` and for requests in flight.
    pub table: Arc<TableHandle>,
    /// The last answers of probes.
    pub probes: ProbeLog,
    /// What the parts of the process count.
    pub registry: Registry,
    /// The listeners of the other parts.
    pub listeners: Listeners,
    /// What keeps orders and events; `None` when it cannot be opened.
    pub store: Option<Arc<Store>>,
    /// True from the moment that the process was asked to stop.
    pub draining: watch::Receiver<bool>,
}

/// The state that handlers share.
pub(crate) struct App {
    pub(crate) state: AdminState,
    pub(crate) feed: Feed,
    /// Our own listener, as bound.
    pub(crate) listening: Listener,
    /// True when connections are to end: nothing waits any longer.
    pub(crate) stop: watch::Receiver<bool>,
}

impl App {
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.state.catalogs.borrow().clone()
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.state.draining.borrow()
    }

    /// Every listener, ours last.
    pub(crate) fn listeners(&self) -> Vec<Listener> {
        let mut all = (self.state.listeners)();
        all.push(self.listening.clone());
        all
    }
}

/// The handlers' way to what they share.
pub(crate) type AppState = axum::extract::State<Arc<App>>;

/// Waits until `stop` is true, or until nobody can say so any more.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // What is borrowed is given back here: it must not be held over an await.
    drop(stop.wait_for(|stop| *stop).await);
}
