use std::sync::Arc;
use std::time::{Duration, Instant};

use fairway_catalog::{InstanceId, InstanceKey};
use jiff::Timestamp;

use super::*;
use crate::endpoint::{EndpointState, EndpointStates, Told};
use crate::metrics::Metrics;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const NOBODY: [usize; 0] = [];

/// Instances of one backend, all in service.
struct Backend {
    states: EndpointStates,
    all: Vec<Arc<EndpointState>>,
    now: Instant,
}

impl Backend {
    fn new(instances: u16) -> Self {
        let states = EndpointStates::default();
        let peers = Peers::new(states.book.clone(), Metrics::new(1).backend(&"shop@v1".into()));
        let state = |port: u16| {
            let id = InstanceId::from_printed(&format!("shop@v1/192.0.2.1:{port}"));
            let address = ([192, 0, 2, 1], port).into();
            let state = states.of(
                &InstanceKey { id, started: Timestamp::UNIX_EPOCH, address },
                Told::default(),
                &peers,
            );
            state.standing.note(true, true, false);
            state
        };
        Self { all: (1..=instances).map(state).collect(), states, now: Instant::now() }
    }

    /// So many failures in a row of this one, now.
    fn fails(&self, number: usize, times: u32) {
        (0..times).for_each(|_| self.all[number].observe_failure(MS, self.now, "it answered 503"));
    }

    /// So many requests of this one, so many of them with 500.
    fn serves(&self, number: usize, requests: u32, errors: u32) {
        for request in 0..requests {
            // Evenly, so that there are no runs.
            if request * errors / requests != (request + 1) * errors / requests {
                self.all[number].observe_error(MS, self.now);
            } else {
                self.all[number].observe(MS, self.now);
            }
        }
    }

    /// Time passes, and what is over is looked after, as a worker does it.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + SECOND / 2).min(end);
            self.states.book.look(self.now);
        }
    }

    /// Who is out, by number.
    fn out(&self) -> Vec<usize> {
        let out: Vec<usize> = (0..self.all.len()).filter(|number| self.is_out(*number)).collect();
        assert_eq!(out.len(), self.states.ejections().borrow().len(), "the book says the same");
        out
    }

    fn is_out(&self, number: usize) -> bool {
        self.all[number].standing.is_ejected(stamp(self.now))
    }

    /// For how long it is out from now on.
    fn length(&mut self, number: usize) -> u64 {
        let begun = self.now;
        while self.is_out(number) {
            self.pass(SECOND);
        }
        self.now.duration_since(begun).as_secs()
    }
}

#[test]
fn the_fifth_failure_in_a_row_ejects_and_an_answer_in_between_begins_anew() {
    let backend = Backend::new(3);
    backend.fails(0, 4);
    backend.all[0].observe(MS, backend.now);
    backend.fails(0, 4);
    assert_eq!(backend.out(), NOBODY);
    backend.fails(0, 1);
    assert_eq!(backend.out(), [0]);
}

#[test]
fn at_most_half_are_out_rounded_down_and_of_two_one_may_be() {
    for (instances, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (9, 4)] {
        let backend = Backend::new(instances);
        for number in 0..usize::from(instances) {
            // The others answer in between.
            (0..usize::from(instances)).filter(|other| !backend.is_out(*other)).for_each(|other| {
                backend.all[other].observe(MS, backend.now);
            });
            backend.fails(number, 5);
        }
        assert_eq!(backend.out().len(), most, "of {instances}");
    }
}

#[test]
fn each_ejection_in_a_row_is_longer_by_thirty_seconds_up_to_five_minutes_and_good_times_are_counted() {
    let mut backend = Backend::new(2);
    for want in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300] {
        backend.fails(0, 5);
        assert_eq!(backend.length(0), want);
    }
    // Twelve in a row; each minute without one takes one back.
    backend.pass(Duration::from_secs(60 * 10));
    backend.fails(0, 5);
    assert_eq!(backend.length(0), 90);
    backend.pass(Duration::from_secs(60 * 60));
    backend.fails(0, 5);
    assert_eq!(backend.length(0), 30);
}

#[test]
fn failures_of_requests_that_were_under_way_do_not_eject_a_second_time() {
    let mut backend = Backend::new(2);
    backend.fails(0, 5);
    backend.pass(SECOND);
    backend.fails(0, 50);
    backend.pass(Duration::from_secs(29));
    assert_eq!(backend.out(), NOBODY);
    backend.fails(0, 4);
    assert_eq!(backend.out(), NOBODY, "it begins anew");
}

#[test]
fn one_that_comes_back_gets_a_part_that_grows_in_ten_seconds() {
    let mut backend = Backend::new(2);
    let part = |backend: &Backend| backend.all[0].standing.part(stamp(backend.now));
    backend.fails(0, 5);
    assert!(backend.all[0].peers.is_special());
    backend.pass(Duration::from_secs(30));
    assert!((part(&backend) - FLOOR).abs() < 0.01);
    backend.pass(Duration::from_secs(5));
    assert!((part(&backend) - 0.5).abs() < 0.01);
    backend.pass(Duration::from_secs(6));
    assert!(part(&backend) >= 1.0);
    assert!(!backend.all[0].peers.is_special(), "a choice need not look any more");
}

#[test]
fn one_whose_requests_fail_far_more_often_than_its_peers_is_ejected_after_a_window() {
    let mut backend = Backend::new(4);
    backend.fails(1, 1);
    for _ in 0..11 {
        (0..4).for_each(|number| backend.serves(number, 20, 1));
        backend.serves(2, 20, 10);
        backend.pass(SECOND);
    }
    assert_eq!(backend.out(), [2]);
    let told = backend.states.ejections();
    let reason = told.borrow().values().next().expect("it is told").reason.to_string();
    assert!(reason.contains("28 % of its requests failed in 10 s, 5 % of its peers'"), "{reason}");
}

#[test]
fn a_rate_that_all_have_ejects_nobody_and_what_is_switched_off_neither() {
    let mut backend = Backend::new(4);
    backend.all[3].standing.note(true, false, false);
    for _ in 0..25 {
        (0..3).for_each(|number| backend.serves(number, 20, 6));
        backend.serves(3, 20, 19);
        backend.pass(SECOND);
    }
    backend.fails(3, 50);
    assert_eq!(backend.out(), NOBODY);
}

#[test]
fn an_instance_that_is_not_in_service_is_neither_ejected_nor_counted() {
    let backend = Backend::new(3);
    backend.all[1].standing.note(false, true, false);
    backend.fails(1, 9);
    assert_eq!(backend.out(), NOBODY);
    backend.fails(0, 5);
    assert_eq!(backend.out(), [0], "one of the two that serve");
    backend.fails(2, 50);
    assert_eq!(backend.out(), [0], "never the last");
}

#[test]
fn more_than_half_may_take_themselves_out_but_not_the_last_and_a_success_of_a_probe_ends_it() {
    let mut backend = Backend::new(4);
    for state in &backend.all {
        state.standing.note(true, true, true);
        state.take_out(backend.now);
    }
    assert_eq!(backend.out(), [0, 1, 2]);
    let told = backend.states.ejections();
    assert!(told.borrow().values().all(|ejection| ejection.until_probed));
    backend.pass(Duration::from_secs(200));
    assert_eq!(backend.out(), [0, 1, 2]);
    backend.states.end_ejection(&backend.all[1].key);
    backend.now = backend.now.max(Instant::now());
    assert_eq!(backend.out(), [0, 2]);
}

#[test]
fn a_refusal_that_is_told_behind_the_first_connection_keeps_nobody_out() {
    let backend = Backend::new(1);
    let (state, at) = (&backend.all[0], stamp(backend.now));
    state.peers.does_not_listen(state, backend.now);
    assert!(state.standing.is_silent(at) && !state.standing.may_knock(backend.now));
    state.standing.accepted();
    state.peers.does_not_listen(state, backend.now);
    assert!(!state.standing.is_silent(at));
    assert!(state.standing.may_knock(backend.now) && state.standing.may_knock(backend.now));
}

#[test]
fn the_life_of_an_instance_takes_its_ejection_along() {
    let backend = Backend::new(2);
    backend.fails(0, 5);
    assert_eq!(backend.out(), [0]);
    backend.states.retire(&backend.all[0].key, false);
    assert!(backend.states.ejections().borrow().is_empty());
    backend.fails(0, 50);
    assert!(backend.states.ejections().borrow().is_empty(), "and nobody ejects what is gone");
}
