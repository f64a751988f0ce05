use fairway_catalog::config::names::BackendId;

use super::testing::release;
use super::*;
use crate::plan::Plan;

/// A release, and the clock of its world.
struct World {
    machine: Machine,
    at: i64,
    instances: Vec<Seen>,
    others_ready: usize,
}

fn seen(ready: bool, failing: Option<&str>) -> Seen {
    Seen { id: InstanceId::from_printed("abc:80"), ready, failing: failing.map(Into::into) }
}

fn sample(requests: u64, failures: u64) -> Sample {
    let mut sample = Sample { requests, failures, ..Sample::default() };
    (0..requests).for_each(|n| sample.latencies.count(Duration::from_millis(10 + n % 5)));
    sample
}

impl World {
    fn new(change: impl FnOnce(&mut Plan)) -> Self {
        let mut release = release(&[("web@v1", 100)]);
        change(&mut release.plan);
        Self { machine: Machine::new(release), at: 0, instances: vec![seen(true, None)], others_ready: 1 }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.at).expect("in range")
    }

    /// One second with these samples; the moves that were made.
    fn second(&mut self, canary: Sample, stable: Sample) -> Option<Move> {
        self.at += 1;
        let (passed, instances, others_ready) =
            (Duration::from_secs(1), self.instances.clone(), self.others_ready);
        self.machine.observe(&Second { passed, canary, stable, instances, others_ready, weight: None });
        let due = self.machine.due()?;
        self.machine.make(&due, self.now());
        Some(due)
    }

    /// Good seconds, each with the share of 200 requests that the weights say.
    fn good(&mut self, seconds: u64) -> Vec<Move> {
        self.seconds(seconds, |canary| sample(canary, 0))
    }

    fn seconds(&mut self, seconds: u64, canary: impl Fn(u64) -> Sample) -> Vec<Move> {
        (0..seconds)
            .filter_map(|_| {
                let share = u64::from(self.machine.release().weight) * 2;
                self.second(canary(share), sample(200 - share, 0))
            })
            .collect()
    }

    fn stage(&self) -> Stage {
        self.machine.release().stage
    }

    fn weight(&self) -> u8 {
        self.machine.release().weight
    }

    fn order(&mut self, order: impl FnOnce(&Machine) -> Result<Move, NoMove>) {
        let due = order(&self.machine).expect("it can be ordered");
        self.machine.make(&due, self.now());
    }
}

#[test]
fn a_good_release_takes_its_steps_and_then_one_more_step_time_until_it_is_done() {
    let mut world = World::new(|_| {});
    let mut seen = Vec::new();
    for _ in 0..400 {
        if world.good(1).pop().is_some() {
            seen.push((world.at, world.stage().as_str(), world.weight()));
        }
    }
    let want = [
        (1, "stepping", 1),
        (61, "stepping", 5),
        (121, "stepping", 25),
        (181, "stepping", 50),
        (241, "stepping", 100),
        (301, "confirming", 100),
        (361, "done", 100),
    ];
    assert_eq!(seen, want);
}

#[test]
fn it_waits_for_a_ready_instance_with_a_weight_of_0() {
    let mut world = World::new(|_| {});
    world.instances = vec![seen(false, Some("GET / answered 500"))];
    assert_eq!(world.good(600), []);
    assert_eq!((world.stage(), world.weight()), (Stage::Waiting, 0));
    world.instances.clear();
    assert_eq!(world.good(600), []);
    world.instances = vec![seen(true, None)];
    assert_eq!(world.good(1).len(), 1);
    assert_eq!((world.stage(), world.weight()), (Stage::Stepping, 1));
}

#[test]
fn one_that_fails_is_taken_back_with_the_figures_that_caused_it() {
    let mut world = World::new(|_| {});
    world.good(70);
    let moves = world.seconds(30, |requests| sample(requests, requests));
    assert_eq!(world.stage(), Stage::RolledBack);
    assert_eq!(world.weight(), 0);
    let last = moves.last().expect("it was rolled back");
    assert_eq!(last.ending, Some(Ending::Failures));
    assert!(last.why.starts_with("more of its requests fail; canary: "), "{}", last.why);
    assert!(last.why.contains("requests failed") && last.why.contains(":1 (125:1 needed)"), "{}", last.why);
    assert_eq!(world.good(100), [], "an end is an end");
}

#[test]
fn hard_limits_take_it_back_with_the_next_second_in_whatever_state_it_has_a_share() {
    let stages: [fn(&mut World); 4] = [
        |world| drop(world.good(10)),
        |world| {
            world.good(10);
            world.order(|machine| machine.pause("ops"));
        },
        |world| {
            world.good(1);
            (0..300).for_each(|_| drop(world.second(Sample::default(), sample(200, 0))));
            assert_eq!(world.stage(), Stage::Inconclusive);
        },
        |world| {
            world.good(302);
            assert_eq!(world.stage(), Stage::Confirming);
        },
    ];
    for arrive in stages {
        for (instances, ending, says) in [
            (vec![seen(false, None)], Ending::NotReady, "no instance of it is ready"),
            (vec![], Ending::NotReady, "no instance of it is ready"),
            (
                vec![seen(false, Some("GET / answered 500"))],
                Ending::NotReady,
                "no instance of it is ready any more: the probe of",
            ),
            (
                vec![
                    seen(false, Some("timed out")),
                    Seen { id: InstanceId::from_printed("d:80"), ..seen(true, None) },
                ],
                Ending::Probe,
                "the probe of abc:80 fails (timed out)",
            ),
        ] {
            let mut world = World::new(|_| {});
            arrive(&mut world);
            world.instances = instances;
            let made = world.good(1).pop().expect("it is taken back at once");
            assert_eq!((world.stage(), made.ending), (Stage::RolledBack, Some(ending)));
            assert!(made.why.contains(says), "{}", made.why);
        }
    }
}

#[test]
fn one_that_nobody_can_replace_is_held_until_somebody_can() {
    let mut world = World::new(|_| {});
    world.good(70);
    world.others_ready = 0;
    let moves = world.seconds(60, |requests| sample(requests, requests));
    assert_eq!((world.stage(), world.weight()), (Stage::Inconclusive, 5));
    assert_eq!(moves.len(), 1);
    assert!(moves[0].why.contains("no other version has a ready instance"), "{}", moves[0].why);
    world.others_ready = 1;
    world.good(1);
    assert_eq!(world.stage(), Stage::RolledBack);
}

#[test]
fn an_instance_that_was_never_ready_takes_nothing_back() {
    let mut world = World::new(|_| {});
    let slow = Seen { id: InstanceId::from_printed("d:80"), ..seen(false, Some("no connection")) };
    world.instances.push(slow);
    world.good(100);
    assert_eq!(world.stage(), Stage::Stepping);
}

#[test]
fn more_failures_than_may_be_take_it_back_though_the_others_fail_as_well() {
    let mut world = World::new(|plan| plan.max_error_rate = Some(0.05));
    world.good(70);
    let made = (0..60).find_map(|_| world.second(sample(10, 3), sample(190, 57))).expect("it is taken back");
    assert_eq!(made.ending, Some(Ending::MaxErrorRate));
    assert!(made.why.starts_with("more than 5 % of its requests fail; "), "{}", made.why);
}

#[test]
fn one_that_breaks_when_it_has_everything_is_taken_back_though_there_is_nobody_to_compare_with() {
    for arrive in [250, 310] {
        let mut world = World::new(|_| {});
        world.good(arrive);
        assert_eq!(world.weight(), 100);
        let made =
            (0..10).find_map(|_| world.second(sample(200, 60), Sample::default())).expect("it is taken back");
        assert_eq!((world.stage(), made.ending), (Stage::RolledBack, Some(Ending::Failures)));
        assert!(
            made.why.starts_with("more than 10 % of its requests fail since it has them all"),
            "{}",
            made.why
        );
    }
    let mut world = World::new(|_| {});
    world.good(1);
    // What fails everywhere is nobody's fault: no more may fail than thrice as much.
    let bad = |requests: u64| sample(requests, requests / 10);
    while world.weight() < 100 {
        let share = u64::from(world.weight()) * 2;
        world.second(bad(share), bad(200 - share));
    }
    (0..120).for_each(|_| drop(world.second(sample(200, 30), Sample::default())));
    assert_eq!(world.stage(), Stage::Done);
}

#[test]
fn too_few_requests_are_no_verdict_and_it_goes_on_once_there_are_enough() {
    let mut world = World::new(|_| {});
    world.good(1);
    for _ in 0..299 {
        assert_eq!(world.second(Sample::default(), sample(1, 0)), None);
    }
    let made = world.second(Sample::default(), sample(1, 0)).expect("five step times are over");
    assert_eq!((world.stage(), world.weight()), (Stage::Inconclusive, 1));
    assert!(
        made.why.starts_with("the target got 0 requests in this step, and 20 are needed after 300 s"),
        "{}",
        made.why
    );
    for _ in 0..19 {
        assert_eq!(world.second(sample(1, 0), sample(1, 0)), None);
    }
    world.second(sample(1, 0), sample(1, 0)).expect("twenty requests are enough");
    assert_eq!((world.stage(), world.weight()), (Stage::Stepping, 5));
}

#[test]
fn a_step_without_requests_of_the_others_is_no_comparison() {
    let mut world = World::new(|_| {});
    world.good(1);
    (0..400).for_each(|_| drop(world.second(sample(5, 0), Sample::default())));
    assert_eq!((world.stage(), world.weight()), (Stage::Inconclusive, 1));
}

#[test]
fn no_step_is_taken_on_a_suspicion() {
    let mut world = World::new(|_| {});
    world.good(59);
    // A failure in each of three seconds: enough to wonder, not enough to know.
    (0..2).for_each(|_| drop(world.second(sample(2, 1), sample(198, 0))));
    assert_eq!((world.stage(), world.weight()), (Stage::Stepping, 1), "{}", world.machine.figures().text());
    assert!(world.machine.figures().odds() > SUSPICION, "{}", world.machine.figures().text());
    let moves = world.good(240);
    assert!(moves.iter().any(|made| made.stage == Stage::Stepping) || world.stage() == Stage::Inconclusive);
}

#[test]
fn what_people_order_is_done_from_every_state_that_has_not_ended() {
    let mut world = World::new(|_| {});
    world.good(70);
    world.order(|machine| machine.pause("ops"));
    assert_eq!((world.stage(), world.weight()), (Stage::Paused, 5));
    assert_eq!(world.good(1000), []);
    assert_eq!(world.machine.pause("ops"), Err(NoMove::Already));
    world.order(|machine| machine.resume("ops"));
    assert_eq!((world.stage(), world.weight()), (Stage::Stepping, 5));
    assert_eq!(world.machine.resume("ops"), Err(NoMove::Already));
    // 9 s of this step were over when it was paused.
    assert_eq!(world.good(50), []);
    assert_eq!(world.good(1).len(), 1);
    let mut taken_back = World {
        machine: world.machine.clone(),
        at: world.at,
        instances: world.instances.clone(),
        others_ready: 1,
    };
    taken_back.order(|machine| machine.roll_back("ops"));
    assert_eq!((taken_back.stage(), taken_back.weight()), (Stage::RolledBack, 0));
    world.order(|machine| machine.confirm("ops"));
    assert_eq!(world.stage(), Stage::Done);
    for ended in [world, taken_back] {
        let machine = &ended.machine;
        for order in [machine.pause("a"), machine.resume("a"), machine.confirm("a"), machine.roll_back("a")] {
            assert_eq!(order, Err(NoMove::Ended));
        }
    }
}

#[test]
fn a_pause_in_the_last_step_time_is_not_forgotten() {
    let mut world = World::new(|_| {});
    world.good(310);
    assert_eq!(world.stage(), Stage::Confirming);
    world.order(|machine| machine.pause("ops"));
    world.good(500);
    world.order(|machine| machine.resume("ops"));
    assert_eq!(world.stage(), Stage::Confirming);
    world.good(51);
    assert_eq!(world.stage(), Stage::Done);
}

#[test]
fn one_that_waits_may_be_paused_and_is_not_begun_until_it_is_resumed() {
    let mut world = World::new(|_| {});
    world.order(|machine| machine.pause("ops"));
    assert_eq!(world.good(100), []);
    assert_eq!(world.weight(), 0);
    world.order(|machine| machine.resume("ops"));
    world.good(1);
    assert_eq!((world.stage(), world.weight()), (Stage::Stepping, 1));
}

#[test]
fn an_inconclusive_one_takes_its_next_step_on_peoples_word() {
    let mut world = World::new(|_| {});
    world.good(1);
    (0..300).for_each(|_| drop(world.second(Sample::default(), sample(200, 0))));
    world.order(|machine| machine.resume("ops"));
    assert_eq!((world.stage(), world.weight()), (Stage::Stepping, 5));
}

#[test]
fn nobody_is_promoted_without_a_ready_instance() {
    let mut world = World::new(|_| {});
    world.instances.clear();
    world.good(1);
    assert_eq!(world.machine.confirm("ops"), Err(NoMove::NotReady));
}

#[test]
fn a_manual_one_follows_the_weights_of_people_and_waits_for_them() {
    let mut world = World::new(|plan| plan.manual = true);
    world.good(1000);
    assert_eq!((world.stage(), world.weight()), (Stage::Stepping, 0));
    let mut set = |weight: u8, ready: bool, failures: bool| {
        let canary = sample(u64::from(weight) * 2, if failures { u64::from(weight) * 2 } else { 0 });
        let second = Second {
            passed: Duration::from_secs(1),
            canary,
            stable: sample(200 - u64::from(weight) * 2, 0),
            instances: vec![seen(ready, None)],
            others_ready: 1,
            weight: Some(weight),
        };
        world.machine.observe(&second);
        if let Some(due) = world.machine.due() {
            world.machine.make(&due, Timestamp::UNIX_EPOCH);
        }
        (world.machine.release().stage, world.machine.release().weight)
    };
    assert_eq!(set(0, false, false), (Stage::Waiting, 0), "at 0 it may come and go");
    assert_eq!(set(0, true, false), (Stage::Stepping, 0));
    assert_eq!(set(30, true, false), (Stage::Stepping, 30));
    for _ in 0..1000 {
        assert_eq!(set(100, true, false), (Stage::Stepping, 100), "it waits for `confirm`");
    }
    assert_eq!(set(50, true, true).0, Stage::RolledBack, "it is watched all the same");
}

#[test]
fn a_weight_that_is_set_before_the_target_comes_waits_for_it_and_not_for_one_that_has_gone() {
    let mut world = World::new(|plan| plan.manual = true);
    let mut set = |weight: u8, ready: bool| {
        let instances = vec![seen(ready, None)];
        let second = Second { instances, others_ready: 1, weight: Some(weight), ..Second::default() };
        world.machine.observe(&second);
        if let Some(due) = world.machine.due() {
            world.machine.make(&due, Timestamp::UNIX_EPOCH);
        }
        world.machine.release().stage
    };
    assert_eq!(set(10, false), Stage::Waiting);
    assert_eq!(set(10, true), Stage::Stepping);
    assert_eq!((set(0, true), set(0, false)), (Stage::Stepping, Stage::Waiting));
    assert_eq!(set(10, false), Stage::RolledBack);
}

#[test]
fn one_that_waits_for_its_target_and_for_people_cannot_be_paused_as_well() {
    let world = World::new(|plan| plan.manual = true);
    assert_eq!((world.stage(), world.machine.pause("ops")), (Stage::Waiting, Err(NoMove::Already)));
    let world = World::new(|_| {});
    assert!(world.machine.pause("ops").is_ok(), "this one would begin by itself");
}

#[test]
fn after_a_restart_what_is_left_of_the_step_is_watched_a_quarter_at_least() {
    let mut kept = World::new(|_| {});
    kept.good(70);
    let release = kept.machine.release().clone();
    let since = release.since.as_second();
    for (down, left) in [(0, 60), (20, 40), (44, 16), (46, 15), (100_000, 15), (-500, 60)] {
        let now = Timestamp::from_second(since + down).expect("in range");
        let machine = Machine::resumed(release.clone(), now);
        let mut world =
            World { machine, at: since + down, instances: vec![seen(true, None)], others_ready: 1 };
        assert_eq!(world.good(left - 1), [], "{down} s later");
        assert_eq!(world.good(1).len(), 1, "{down} s later");
        assert_eq!(world.weight(), 25);
    }
}

#[test]
fn after_a_restart_the_target_has_half_a_minute_to_be_found_ready_and_no_second_chance() {
    let mut kept = World::new(|_| {});
    kept.good(70);
    let release = kept.machine.release().clone();
    let resumed = || {
        let machine = Machine::resumed(release.clone(), release.since);
        World { machine, at: 0, instances: vec![seen(false, None)], others_ready: 1 }
    };
    let mut world = resumed();
    world.good(29);
    assert_eq!(world.stage(), Stage::Stepping);
    world.good(1);
    assert_eq!(world.stage(), Stage::RolledBack);
    let mut world = resumed();
    world.good(5);
    world.instances = vec![seen(true, None)];
    world.good(1);
    world.instances = vec![seen(false, None)];
    world.good(1);
    assert_eq!(world.stage(), Stage::RolledBack);
}

#[test]
fn time_in_which_nobody_looked_is_no_time_of_a_step() {
    let mut world = World::new(|_| {});
    world.good(1);
    let passed = Duration::from_secs(86_400);
    let (canary, stable, instances) = (sample(100, 0), sample(100, 0), world.instances.clone());
    world.machine.observe(&Second { passed, canary, stable, instances, others_ready: 1, weight: None });
    assert_eq!(world.machine.due(), None);
}

#[test]
fn two_releases_contradict_each_other_when_each_takes_from_the_others_target() {
    let id = |name: &str| -> BackendId { name.parse().expect("a backend") };
    let to_v2 = release(&[("web@v1", 100), ("web@v0", 0)]);
    let to_v1 = release(&[("web@v2", 100)]).from;
    assert!(to_v2.contradicts(&id("web@v1"), &to_v1));
    assert!(!to_v2.contradicts(&id("web@v2"), &release(&[("web@v1", 1)]).from));
    assert!(!to_v2.contradicts(&id("web@v0"), &release(&[("web@v1", 1)]).from));
}
