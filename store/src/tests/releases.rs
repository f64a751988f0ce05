//! Releases on disk: what is put is read again, with what follows from it, and nonsense costs no other entry.

use std::time::Duration;

use fairway_release::model::{Ending, Release, Stage};
use fairway_release::plan::Plan;

use super::*;
use crate::Consequences;

fn release(stage: Stage) -> Release {
    let to = backend("shop/web@v2");
    Release {
        plan: Plan::check(to, Some(&[5.0, 50.0]), Some(30.0), false, Some(0.05)).expect("a plan"),
        from: [(backend("shop/web@v1"), Weight::DEFAULT)].into(),
        former: Some(SplitRecord { expires_at: Some(at(1_800_000_000)), ..split(&[("shop/web@v1", 9)]) }),
        stage,
        step: Some(1),
        confirming: true,
        weight: 50,
        spent: Duration::from_millis(12_345),
        since: at(1_700_000_100),
        why: "nothing is wrong".into(),
        ending: stage.is_ended().then_some(Ending::MaxErrorRate),
        author: "ops".into(),
        at: at(1_700_000_000),
        reason: "1.2.3".into(),
    }
}

#[test]
fn a_release_and_what_it_made_of_split_and_states_are_read_as_they_were_put() {
    let folder = folder();
    let subject = StateSubject::Backend(backend("shop/web@v2"));
    for stage in Stage::ALL {
        let disabled = StateRecord {
            state: State::Disabled,
            author: "release".into(),
            at: at(1_700_000_000),
            reason: "rolled_back".into(),
        };
        let then = Consequences {
            split: Some(Some(split(&[("shop/web@v1", 95), ("shop/web@v2", 5)]))),
            states: vec![(subject.clone(), Some(disabled.clone()))],
        };
        let manual = Plan { manual: true, max_error_rate: None, ..release(stage).plan };
        for release in [release(stage), Release { plan: manual, former: None, step: None, ..release(stage) }]
        {
            open(&folder).put_release(&route("shop.com/"), &release, &then, &audit("r")).expect("put");
            let loaded = open(&folder).load().expect("load");
            assert_eq!(loaded.releases, [(route("shop.com/"), release)].into());
            assert_eq!(
                loaded.decisions.splits.get(&route("shop.com/")),
                then.split.clone().flatten().as_ref()
            );
            assert_eq!(loaded.decisions.states.get(&subject), Some(&disabled));
        }
    }
    let then = Consequences { split: Some(None), states: vec![(subject, None)] };
    let store = open(&folder);
    store.put_release(&route("shop.com/"), &release(Stage::Done), &then, &audit("r")).expect("put");
    let loaded = store.load().expect("load");
    assert_eq!((loaded.decisions, loaded.problems), (Decisions::default(), Vec::new()));
    assert_eq!(store.audit(100).expect("audit").len(), 2 * Stage::ALL.len() + 1);
}

#[test]
fn a_release_that_makes_no_sense_is_left_out_with_a_problem() {
    let folder = folder();
    let store = open(&folder);
    let nothing = Consequences::default();
    let good = release(Stage::Stepping);
    let wrong: [fn(&mut Release); 6] = [
        |release| release.plan.steps = vec![50, 5],
        |release| release.plan.step_time = Duration::ZERO,
        |release| release.plan.max_error_rate = Some(7.0),
        |release| release.from.clear(),
        |release| release.step = Some(9),
        |release| release.weight = 101,
    ];
    for (at, change) in wrong.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        store.put_release(&route(&format!("bad{at}.com/")), &bad, &nothing, &audit("b")).expect("put");
    }
    store.put_release(&route("good.com/"), &good, &nothing, &audit("g")).expect("put");
    let loaded = store.load().expect("load");
    assert_eq!(loaded.releases, [(route("good.com/"), good)].into());
    assert_eq!(loaded.problems.len(), wrong.len());
}
