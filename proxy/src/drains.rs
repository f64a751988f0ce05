//! Ends the drains that people ordered: at zero in flight, after `fairway.drain` at the latest (design rule 6).
//!
//! Where a route of the instance is sticky, zero in flight says little: a bound client may be between two requests. It stays
//! as long as its cookie holds, or as `fairway.drain` says. Not here: what an end means for those that still run (see `exchange`, `relay`), who may be
//! sent there (see `table`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::inputs::Drained;
use fairway_catalog::{Catalog, InputsHandle, Instance, InstanceId};
use fairway_config::names::RouteId;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::sticky;
use crate::table::TableHandle;

/// The longest drain where no label says another.
pub const DRAIN: Duration = Duration::from_secs(30);
/// Between two looks at what is in flight: requests end without an event that could be awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// When each open drain ends at the latest, by our own clock: one that is set must neither cut nor prolong it.
type Ends = HashMap<(InstanceId, Timestamp), Instant>;

/// Writes the end of each drain into the inputs. Ends when the catalog side is dropped.
pub async fn end_drains(
    mut catalogs: watch::Receiver<Arc<Catalog>>,
    inputs: InputsHandle,
    handle: Arc<TableHandle>,
) {
    let mut ends = Ends::new();
    loop {
        let catalog = catalogs.borrow_and_update().clone();
        let open: Vec<_> = catalog.instances.values().filter_map(open).collect();
        ends.retain(|key, _| open.iter().any(|(instance, since)| (&instance.id, since) == (&key.0, &key.1)));
        let ended: Vec<_> = open
            .iter()
            .filter_map(|(instance, since)| {
                let cut = end(&catalog, instance, *since, &handle, &mut ends)?;
                // Not before the order, whatever became of the clock.
                Some((instance.id.clone(), Drained { at: Timestamp::now().max(*since), cut }))
            })
            .collect();
        if !ended.is_empty() {
            note(&inputs, &catalog, ended);
        }
        // Those that ended are gone from the next catalog.
        let changed = match open.is_empty() {
            true => catalogs.changed().await,
            false => timeout(LOOK_AGAIN, catalogs.changed()).await.unwrap_or(Ok(())),
        };
        if changed.is_err() {
            return;
        }
    }
}

/// A drain that has not ended, and when it was ordered.
fn open(instance: &Arc<Instance>) -> Option<(&Arc<Instance>, Timestamp)> {
    let since = instance.draining_since?;
    instance.drained.is_none().then_some((instance, since))
}

/// How many still run at the end of this drain; `None` if it goes on.
fn end(
    catalog: &Catalog,
    instance: &Instance,
    since: Timestamp,
    handle: &TableHandle,
    ends: &mut Ends,
) -> Option<u32> {
    let backend = catalog.backends.get(&instance.backend)?;
    let is_sticky = |id: &RouteId| catalog.routes.get(id).is_some_and(|route| route.sticky);
    let is_sticky = backend.routes.iter().any(is_sticky);
    let longest = backend.transport.drain.unwrap_or(if is_sticky { sticky::LONGEST } else { DRAIN });
    let end = ends.entry((instance.id.clone(), since)).or_insert_with(|| {
        let passed = Timestamp::now().duration_since(since);
        let passed = Duration::try_from(passed).unwrap_or(Duration::ZERO);
        Instant::now() + longest.saturating_sub(passed)
    });
    let state = instance.key().and_then(|key| handle.states().get(&key));
    let in_flight = state.map_or(0, |state| state.in_flight());
    if Instant::now() >= *end {
        return Some(in_flight);
    }
    // Before the table has it, requests may still be on their way there.
    let is_over = in_flight == 0 && handle.serial() >= catalog.serial && !is_sticky;
    is_over.then_some(0)
}

/// Notes these ends, and forgets those of drains that are no more.
fn note(inputs: &InputsHandle, catalog: &Catalog, ended: Vec<(InstanceId, Drained)>) {
    inputs.update(|inputs| {
        let drained = Arc::make_mut(&mut inputs.drained);
        drained.retain(|id, _| {
            catalog.instances.get(id).is_some_and(|instance| instance.draining_since.is_some())
        });
        drained.extend(ended);
    });
}
