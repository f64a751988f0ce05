//! The one writer of the catalog: builds whenever an input changed or a deadline passed, and publishes.
//!
//! Not here: what the build does (see `build`), who reads the result.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::inputs::Inputs;
use crate::model::Catalog;

/// Publishes a catalog for the first inputs, for each change after them, and at each catalog's own deadline. Ends when
/// the input side is dropped or nobody reads any more.
pub async fn publish(mut inputs: watch::Receiver<Inputs>, live: watch::Sender<Arc<Catalog>>) {
    inputs.mark_changed();
    while inputs.changed().await.is_ok() {
        let latest = inputs.borrow_and_update().clone();
        let before = live.borrow().clone();
        let catalog = Catalog::build(&latest, &before, Timestamp::now());
        live.send_replace(Arc::new(catalog));
    }
}
