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

/// Longest sleep before deadlines are looked at again, so that a clock that was set is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Publishes a catalog for the first inputs, for each change after them, and at each catalog's own deadline. Ends when
/// the input side is dropped.
pub async fn publish(mut inputs: watch::Receiver<Inputs>, live: watch::Sender<Arc<Catalog>>) {
    inputs.mark_changed();
    loop {
        let deadline = live.borrow().next_deadline;
        let due = tokio::select! {
            changed = inputs.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = sleep(until(deadline)) => deadline.is_some_and(|end| end <= Timestamp::now()),
        };
        if due {
            // The clone ends the borrow at once: whoever changes the inputs never waits for a build.
            let latest = inputs.borrow_and_update().clone();
            let before = live.borrow().clone();
            live.send_replace(Arc::new(Catalog::build(&latest, &before, Timestamp::now())));
        }
    }
}

fn until(deadline: Option<Timestamp>) -> Duration {
    let Some(end) = deadline else { return LOOK_AGAIN };
    let left = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
    // Timers may fire a moment early; a millisecond more saves a second round.
    left.min(LOOK_AGAIN) + Duration::from_millis(1)
}
