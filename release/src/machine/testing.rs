//! Releases for tests.

use std::time::Duration;

use fairway_catalog::config::names::{BackendId, Weight};
use jiff::Timestamp;

use crate::model::{Release, Stage};
use crate::plan::Plan;

/// A release of `web@v2` that takes its default steps of 60 s from these, ordered at the second 0.
pub(crate) fn release(from: &[(&str, u64)]) -> Release {
    let id = |name: &str| -> BackendId { name.parse().expect("a backend") };
    let weight = |(name, weight): &(&str, u64)| (id(name), Weight::new(*weight).expect("a weight"));
    Release {
        plan: Plan::check(id("web@v2"), None, None, false, None).expect("the defaults are a plan"),
        from: from.iter().map(weight).collect(),
        former: None,
        stage: Stage::Waiting,
        step: None,
        confirming: false,
        weight: 0,
        spent: Duration::ZERO,
        since: Timestamp::UNIX_EPOCH,
        why: "".into(),
        ending: None,
        author: "ops".into(),
        at: Timestamp::UNIX_EPOCH,
        reason: "".into(),
    }
}
