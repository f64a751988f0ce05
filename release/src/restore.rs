//! The split that holds after a rollback: the former one, with a written 0 for the target.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairway_catalog::config::names::{BackendId, Weight};
use fairway_catalog::inputs::SplitRecord;
use jiff::Timestamp;

use crate::model::Release;

/// Weights for when there is no split to go back to.
const AUTHOR: &str = "release";

/// The former split as it would hold now, each of its layers with a 0 for the target. Where there was none (labels, the
/// configuration file or equal shares decided, or the former one has ended), the others' weights from before the release:
/// an order is needed that can hold the 0, and it is there to be seen and removed (`fairway split ROUTE --clear`).
pub fn former_split(release: &Release, now: Timestamp) -> SplitRecord {
    let former = release.former.as_ref().and_then(|former| former.effective(now));
    match former {
        Some(former) => without_target(former, release),
        None => as_before(release, now),
    }
}

fn without_target(record: &SplitRecord, release: &Release) -> SplitRecord {
    let then = match (&record.then, record.expires_at) {
        (Some(then), _) => Some(Box::new(without_target(then, release))),
        // The layers below would hold then, and they know of no 0.
        (None, Some(end)) => Some(Box::new(as_before(release, end))),
        (None, None) => None,
    };
    let mut weights = record.weights.clone();
    weights.insert(release.plan.to.clone(), Weight::ZERO);
    if weights.values().all(|weight| *weight == Weight::ZERO) {
        weights = before(release);
    }
    SplitRecord { weights, then, ..record.clone() }
}

fn as_before(release: &Release, at: Timestamp) -> SplitRecord {
    let reason = format!("the weights before the release of {}, which was rolled back", release.plan.to);
    SplitRecord {
        weights: before(release),
        author: AUTHOR.into(),
        at,
        expires_at: None,
        reason: Arc::from(reason),
        then: None,
    }
}

fn before(release: &Release) -> BTreeMap<BackendId, Weight> {
    let mut weights = release.from.clone();
    weights.insert(release.plan.to.clone(), Weight::ZERO);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::testing::release;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn split(weights: &[(&str, u64)], expires_at: Option<i64>, then: Option<SplitRecord>) -> SplitRecord {
        let weight = |(id, weight): &(&str, u64)| {
            (id.parse().expect("a backend"), Weight::new(*weight).expect("a weight"))
        };
        SplitRecord {
            weights: weights.iter().map(weight).collect(),
            author: "ops".into(),
            at: at(1),
            expires_at: expires_at.map(at),
            reason: "why".into(),
            then: then.map(Box::new),
        }
    }

    fn shown(record: &SplitRecord) -> String {
        let weights = record.weights.iter().map(|(id, weight)| format!("{id}={weight}"));
        let mut text = weights.collect::<Vec<_>>().join(" ");
        if let Some(end) = record.expires_at {
            text = format!("{text} until {}", end.as_second());
        }
        match &record.then {
            Some(then) => format!("{text} then {}", shown(then)),
            None => text,
        }
    }

    #[test]
    fn the_former_split_returns_with_a_0_for_the_target() {
        let mut release = release(&[("web@v1", 70), ("web@v3", 30)]);
        for (former, want) in [
            (None, "web@v1=70 web@v2=0 web@v3=30"),
            (Some(split(&[("web@v1", 9), ("web@v2", 1)], None, None)), "web@v1=9 web@v2=0"),
            // It holds for as long as it was to, and the 0 longer.
            (
                Some(split(&[("web@v1", 9)], Some(50), None)),
                "web@v1=9 web@v2=0 until 50 then web@v1=70 web@v2=0 web@v3=30",
            ),
            // It has ended meanwhile: what was to follow it holds.
            (
                Some(split(
                    &[("web@v1", 9)],
                    Some(10),
                    Some(split(&[("web@v1", 5), ("web@v2", 5)], None, None)),
                )),
                "web@v1=5 web@v2=0",
            ),
            (Some(split(&[("web@v1", 9)], Some(10), None)), "web@v1=70 web@v2=0 web@v3=30"),
            // Without the target nobody would be left.
            (Some(split(&[("web@v2", 100)], None, None)), "web@v1=70 web@v2=0 web@v3=30"),
        ] {
            release.former = former;
            assert_eq!(shown(&former_split(&release, at(20))), want);
        }
    }
}
