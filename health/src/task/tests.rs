use std::sync::Mutex;

use fairway_catalog::{Inputs, InputsHandle, Verdict};
use prometheus::Registry;
use tokio::sync::Notify;

use super::*;
use crate::plan::Check;
use crate::suspect::Census;
use crate::testing::{some_key, some_probe};

/// Ends attempts as the test says, one after the other, then no more; notes when each began.
#[derive(Clone)]
struct Script(Arc<ScriptState>);

struct ScriptState {
    grades: Vec<Grade>,
    begun: Instant,
    at: Mutex<Vec<Duration>>,
    done: Notify,
}

impl Script {
    fn new(grades: &[Grade]) -> Self {
        let (grades, begun) = (grades.to_vec(), Instant::now());
        Self(Arc::new(ScriptState { grades, begun, at: Mutex::default(), done: Notify::new() }))
    }

    fn times(&self) -> Vec<Duration> {
        self.0.at.lock().expect("no test panics here").clone()
    }
}

impl Attempt for Script {
    async fn attempt(&self, _: &Probe) -> Outcome {
        let n = {
            let mut at = self.0.at.lock().expect("no test panics here");
            at.push(self.0.begun.elapsed());
            at.len() - 1
        };
        match self.0.grades.get(n) {
            Some(grade) => Outcome { grade: *grade, detail: format!("{grade:?}").into() },
            None => {
                self.0.done.notify_one();
                std::future::pending().await
            }
        }
    }
}

/// Plays the script to its end on a paused clock; gives the time of each attempt and the verdict that holds then.
async fn play(probe: Probe, grades: &[Grade]) -> (Vec<Duration>, Option<Verdict>) {
    let (script, key, board) = (Script::new(grades), some_key(1), Arc::new(Board::default()));
    board.admit_only(&[key.clone()].into());
    let task = Task {
        probe,
        attempts: script.clone(),
        pace: Pace::default(),
        seat: Census::new().seat(),
        board: board.clone(),
        log: ProbeLog::default(),
        metrics: Arc::new(Metrics::register(&Registry::new()).expect("the registry is empty")),
    };
    tokio::select! {
        () = task.run(None) => unreachable!("a probe never ends by itself"),
        () = script.0.done.notified() => {}
    }
    let inputs = InputsHandle::new(Inputs::default());
    board.save(&inputs);
    (script.times(), inputs.current().verdicts.get(&key).cloned())
}

fn probe() -> Probe {
    some_probe(Check::Tcp { address: some_key(1).address })
}

fn gaps(times: &[Duration]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

use Grade::{Failure, Nothing, Success};

const SHORT: Duration = Duration::from_millis(250);

#[tokio::test(start_paused = true)]
async fn until_the_first_success_the_probe_repeats_every_250_ms_then_about_every_2_s() {
    let (times, verdict) =
        play(probe(), &[Failure, Failure, Failure, Failure, Success, Success, Success]).await;
    let gaps = gaps(&times);
    for gap in &gaps[..4] {
        assert!((SHORT..SHORT + Duration::from_millis(5)).contains(gap), "{gap:?} before the first success");
    }
    for gap in &gaps[4..] {
        assert!((1.79..2.21).contains(&gap.as_secs_f64()), "{gap:?} after it");
    }
    assert_eq!(verdict.map(|verdict| verdict.condition), Some(Condition::Ready));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_container_is_asked_at_once() {
    let (times, _) = play(probe(), &[Success]).await;
    assert!(times[0] < Duration::from_millis(5), "{:?}", times[0]);
}

#[tokio::test(start_paused = true)]
async fn long_running_containers_are_first_asked_at_different_times_within_250_ms() {
    let started = Timestamp::now() - Duration::from_secs(3600);
    let mut firsts = Vec::new();
    for _ in 0..20 {
        let (times, _) = play(Probe { started, not_before: started, ..probe() }, &[Success]).await;
        firsts.push(times[0]);
    }
    assert!(firsts.iter().all(|first| *first <= SHORT), "{firsts:?}");
    firsts.sort();
    firsts.dedup();
    assert!(firsts.len() > 5, "{firsts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_future_delays_the_first_probe_by_the_initial_delay_at_most() {
    for delay in [Duration::ZERO, Duration::from_secs(3)] {
        let started = Timestamp::now() + Duration::from_secs(86_400);
        let (times, _) = play(Probe { started, not_before: started + delay, ..probe() }, &[Success]).await;
        assert!(times[0] >= delay && times[0] < delay + Duration::from_secs(1), "{delay:?}: {times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_initial_delay_counts_from_the_start_of_the_container() {
    let delay = Duration::from_secs(30);
    for (age, wait) in [(0, 30), (3, 27)] {
        let started = Timestamp::now() - Duration::from_secs(age);
        let (times, _) = play(Probe { started, not_before: started + delay, ..probe() }, &[Success]).await;
        let early = Duration::from_secs(wait) - Duration::from_millis(500);
        assert!((early..early + Duration::from_secs(1)).contains(&times[0]), "{:?}", times[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reason_is_told_while_it_is_not_ready() {
    let (_, verdict) = play(probe(), &[Failure, Failure]).await;
    let verdict = verdict.expect("the failures were told");
    assert_eq!((verdict.condition, &*verdict.reason), (Condition::Pending, "Failure"));
    let (_, verdict) = play(probe(), &[Success, Failure, Failure, Failure]).await;
    assert_eq!(verdict.map(|verdict| verdict.condition), Some(Condition::Unhealthy));
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_the_engine_changes_nothing() {
    let (_, verdict) = play(probe(), &[Success, Nothing, Nothing, Nothing, Nothing]).await;
    let verdict = verdict.expect("it was ready");
    assert_eq!((verdict.condition, &*verdict.reason), (Condition::Ready, "Success"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_exec_is_unknown_with_a_problem() {
    let (_, verdict) = play(probe(), &[Grade::Impossible(Impossible::ExecRefused)]).await;
    let verdict = verdict.expect("it was told");
    assert_eq!(verdict.condition, Condition::Unknown);
    assert_eq!(verdict.problem.map(|problem| problem.kind), Some("probe-exec-refused"));
}

#[tokio::test(start_paused = true)]
async fn one_that_ignored_its_stop_signal_is_ready_after_three_regular_successes_and_silent_before() {
    let overdue = Probe { overdue: true, ..probe() };
    let (_, verdict) = play(overdue.clone(), &[Failure, Success, Success]).await;
    assert_eq!(verdict, None);
    let (times, verdict) = play(overdue, &[Success, Success, Success]).await;
    assert_eq!(verdict.map(|verdict| verdict.condition), Some(Condition::Ready));
    assert!(times[2] > Duration::from_secs(3), "three answers of one instant prove nothing: {times:?}");
}
