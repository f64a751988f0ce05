//! Carries who is ejected from the data plane, which ejects by itself and at once, into the inputs of the next catalog;
//! and tells the data plane when an instance that took itself out has passed its probe again.
//!
//! Not here: who is ejected, and for how long (that is `proxy`'s).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::{Ejection, InputsHandle, InstanceKey};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::log::ProbeLog;

/// How often the probes of instances that took themselves out are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Follows `told` until its sender is dropped. `end` ends an ejection before its time.
pub async fn follow_ejections(
    mut told: watch::Receiver<Arc<HashMap<InstanceKey, Ejection>>>,
    inputs: InputsHandle,
    log: ProbeLog,
    end: impl Fn(&InstanceKey),
) {
    told.mark_changed();
    loop {
        let waits = told.borrow().values().any(|ejection| ejection.until_probed);
        tokio::select! {
            changed = told.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = told.borrow_and_update().clone();
                if inputs.current().ejections != now {
                    inputs.update(|inputs| inputs.ejections = now);
                }
            }
            () = sleep(LOOK), if waits => {
                for (key, _) in told.borrow().clone().iter().filter(|(key, out)| is_proven(&log, key, out)) {
                    end(key);
                }
            }
        }
    }
}

/// Whether it took itself out, and its probe has succeeded since.
fn is_proven(log: &ProbeLog, key: &InstanceKey, ejection: &Ejection) -> bool {
    ejection.until_probed && log.results(key).iter().any(|result| result.ok && result.at > ejection.since)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use fairway_catalog::Inputs;
    use jiff::Timestamp;

    use super::*;
    use crate::log::ProbeResult;
    use crate::testing::some_key;

    fn out(until_probed: bool) -> Ejection {
        let since = Timestamp::now();
        Ejection { since, until: since + Duration::from_secs(30), until_probed, reason: "it failed".into() }
    }

    #[tokio::test]
    async fn who_is_ejected_is_in_the_inputs_for_as_long_and_nothing_is_written_twice() {
        let (told, followed) = watch::channel(Arc::default());
        let inputs = InputsHandle::new(Inputs::default());
        let mut seen = inputs.subscribe();
        tokio::spawn(follow_ejections(followed, inputs.clone(), ProbeLog::default(), |_| {}));
        let ejections = Arc::new(HashMap::from([(some_key(1), out(false))]));
        told.send_replace(ejections.clone());
        seen.wait_for(|inputs| inputs.ejections == ejections).await.expect("it is written");
        told.send_replace(Arc::default());
        seen.wait_for(|inputs| inputs.ejections.is_empty()).await.expect("it is taken back");
        assert_eq!(inputs.current().serial, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_took_itself_out_is_back_with_the_first_success_of_its_probe_and_no_other_is() {
        let ejections = HashMap::from([(some_key(1), out(true)), (some_key(2), out(false))]);
        let (_told, followed) = watch::channel(Arc::new(ejections));
        let (log, ended) = (ProbeLog::default(), Arc::new(Mutex::new(Vec::new())));
        let result = |ok, at| ProbeResult { at, ok, detail: "".into(), duration: Duration::ZERO };
        let inputs = InputsHandle::new(Inputs::default());
        let noted = ended.clone();
        let end = move |key: &InstanceKey| noted.lock().expect("nobody panicked").push(key.clone());
        tokio::spawn(follow_ejections(followed, inputs, log.clone(), end));
        // Before it took itself out, and a failure after it.
        log.add(&some_key(1), result(true, Timestamp::UNIX_EPOCH));
        log.add(&some_key(1), result(false, Timestamp::now() + Duration::from_secs(1)));
        log.add(&some_key(2), result(true, Timestamp::now() + Duration::from_secs(1)));
        sleep(LOOK * 5).await;
        assert!(ended.lock().expect("nobody panicked").is_empty());
        log.add(&some_key(1), result(true, Timestamp::now() + Duration::from_secs(1)));
        sleep(LOOK * 5).await;
        let ended = ended.lock().expect("nobody panicked");
        assert!(!ended.is_empty() && ended.iter().all(|key| *key == some_key(1)), "{ended:?}");
    }
}
