//! The one writer of the catalog: builds whenever an input changed or a deadline passed, and publishes.
//!
//! Not here: what the build does (see `build`), who reads the result.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::inputs::Inputs;
use crate::model::Catalog;
use crate::now::{Clock, Now};

/// Longest sleep before deadlines are looked at again, so that a clock that was set is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Publishes a catalog for the first inputs, for each change after them, and at each catalog's own deadline. Ends when
/// the input side is dropped.
pub async fn publish(mut inputs: watch::Receiver<Inputs>, live: watch::Sender<Arc<Catalog>>) {
    let clock = Clock::start();
    inputs.mark_changed();
    loop {
        let pause = until_due(&live.borrow(), clock.now());
        let due = tokio::select! {
            changed = inputs.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = sleep(pause) => is_due(&live.borrow(), clock.now()),
        };
        if due {
            // The clone ends the borrow at once: whoever changes the inputs never waits for a build.
            let latest = inputs.borrow_and_update().clone();
            let before = live.borrow().clone();
            live.send_replace(Arc::new(Catalog::build(&latest, &before, clock.now())));
        }
    }
}

/// Whether the catalog is to be built again though no input changed. A clock that was set back brings back what had expired.
fn is_due(catalog: &Catalog, now: Now) -> bool {
    let passed = |deadline: Option<Timestamp>, now| deadline.is_some_and(|end| end <= now);
    passed(catalog.next_expiry, now.date) || passed(catalog.next_end, now.lasting) || now.date < catalog.at
}

fn until_due(catalog: &Catalog, now: Now) -> Duration {
    let left = |deadline: Option<Timestamp>, now| {
        deadline.map(|end| Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO))
    };
    let left = [left(catalog.next_expiry, now.date), left(catalog.next_end, now.lasting), Some(LOOK_AGAIN)];
    // Timers may fire a moment early; a millisecond more saves a second round.
    left.into_iter().flatten().min().unwrap_or(LOOK_AGAIN) + Duration::from_millis(1)
}
