//! The last answers of every probe, for the admin API.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use fairway_catalog::InstanceKey;
use jiff::Timestamp;

/// How many answers are kept of each life of an instance.
const KEPT: usize = 5;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// When the attempt ended.
    pub at: Timestamp,
    /// Whether it succeeded.
    pub ok: bool,
    /// What was seen, one line: `GET /health answered 503`.
    pub detail: Arc<str>,
    /// How long it took.
    pub duration: Duration,
}

/// The last answers of every life of an instance that is probed; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ProbeLog(Arc<DashMap<InstanceKey, VecDeque<ProbeResult>>>);

impl ProbeLog {
    /// The last five answers, the newest last; empty for one that is not probed.
    pub fn results(&self, key: &InstanceKey) -> Vec<ProbeResult> {
        self.0.get(key).map_or_else(Vec::new, |results| results.iter().cloned().collect())
    }

    pub(crate) fn add(&self, key: &InstanceKey, result: ProbeResult) {
        let mut results = self.0.entry(key.clone()).or_default();
        if results.len() == KEPT {
            results.pop_front();
        }
        results.push_back(result);
    }

    pub(crate) fn forget_all_but(&self, known: impl Fn(&InstanceKey) -> bool) {
        self.0.retain(|key, _| known(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::some_key;

    #[test]
    fn the_last_five_answers_are_kept_newest_last() {
        let (log, key) = (ProbeLog::default(), some_key(1));
        for n in 0..7 {
            let detail = format!("answer {n}").into();
            log.add(&key, ProbeResult { at: Timestamp::now(), ok: true, detail, duration: Duration::ZERO });
        }
        let details: Vec<_> = log.results(&key).into_iter().map(|result| result.detail.to_string()).collect();
        assert_eq!(details, ["answer 2", "answer 3", "answer 4", "answer 5", "answer 6"]);
        assert!(log.results(&some_key(2)).is_empty());
    }
}
