use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use fairway_catalog::config::labels::{ProbeCheck, ProbeSpec};
use fairway_catalog::{Condition, Inputs, Problem, SourceId, Unit, publish};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::attempt::{Grade, Outcome};
use crate::exec::{ExecError, ExecFuture};
use crate::testing::{container, facts, key_of, probed, server, spec, stopping_since, two_ports};

/// A hundred times faster than the real one.
const FAST: Pace = Pace { regular: Duration::from_millis(20), unproven: Duration::from_millis(5) };

/// Longest wait for what must happen; far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A catalog that is published, and probes that follow it.
struct Cluster {
    inputs: InputsHandle,
    catalogs: watch::Receiver<Arc<Catalog>>,
    log: ProbeLog,
    registry: Registry,
    publisher: JoinHandle<()>,
    probes: JoinHandle<()>,
}

impl Cluster {
    fn start(units: impl IntoIterator<Item = Unit>) -> Self {
        Self::start_with(units, |inputs| Prober { exec: Arc::new(NoEngine), inputs })
    }

    fn start_with<A: Attempt>(
        units: impl IntoIterator<Item = Unit>,
        attempts: impl FnOnce(InputsHandle) -> A,
    ) -> Self {
        let inputs = InputsHandle::new(Inputs { sources: facts(units), ..Inputs::default() });
        let live = watch::Sender::new(Arc::new(Catalog::empty(0)));
        let catalogs = live.subscribe();
        let publisher = tokio::spawn(publish(inputs.subscribe(), live));
        let (log, registry) = (ProbeLog::default(), Registry::new());
        let metrics = Metrics::register(&registry).expect("the registry is empty");
        let supervisor = Supervisor::new(attempts(inputs.clone()), FAST, log.clone(), metrics);
        let probes = tokio::spawn(follow(catalogs.clone(), inputs.clone(), supervisor));
        Self { inputs, catalogs, log, registry, publisher, probes }
    }

    fn set(&self, units: impl IntoIterator<Item = Unit>) {
        self.inputs.update(|inputs| inputs.sources = facts(units));
    }

    async fn until(&self, what: &str, holds: impl FnMut(&Arc<Catalog>) -> bool) -> Arc<Catalog> {
        let mut catalogs = self.catalogs.clone();
        let seen = tokio::time::timeout(PATIENCE, catalogs.wait_for(holds)).await;
        let Ok(seen) = seen else { panic!("not seen in time: {what}") };
        seen.expect("the publisher lives").clone()
    }

    async fn until_condition(&self, unit: &str, condition: Condition) -> Arc<Catalog> {
        let what = format!("{unit} {condition}");
        self.until(&what, |catalog| condition_of(catalog, unit) == Some(condition)).await
    }

    /// The sum of all samples of a counter.
    fn count(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map_or(0.0, |family| {
            family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum()
        })
    }
}

fn condition_of(catalog: &Catalog, unit: &str) -> Option<Condition> {
    catalog.instances.values().find(|instance| &*instance.unit.name == unit).map(|found| found.condition)
}

fn problem_kinds(catalog: &Catalog) -> Vec<&'static str> {
    catalog.problems.iter().map(|problem: &Arc<Problem>| problem.kind).collect()
}

struct NoEngine;

impl Exec for NoEngine {
    fn exec<'a>(&'a self, _: &'a SourceId, _: &'a str, _: &'a str, _: Duration) -> ExecFuture<'a> {
        Box::pin(async { Err(ExecError::Refused("403 Forbidden".into())) })
    }
}

fn http_probe(port: u16) -> ProbeSpec {
    spec(ProbeCheck::Http { port, path: "/health".into() })
}

/// A server that answers 200 or 500, as its switch says.
async fn flipping() -> (std::net::SocketAddr, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let switch = well.clone();
    let address = server(move |mut stream, _| {
        let code = if switch.load(Ordering::SeqCst) { 200 } else { 500 };
        async move {
            let answer = format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    (address, well)
}

#[tokio::test]
async fn an_instance_is_pending_then_ready_then_unhealthy_then_ready_as_its_server_flips() {
    let (address, well) = flipping().await;
    let unit = probed(container("web", &address.to_string()), http_probe(address.port()));
    let key = key_of(&unit, address.port());
    let cluster = Cluster::start([unit]);

    let reason_known =
        |catalog: &Arc<Catalog>| catalog.instances.values().any(|i| &*i.reason == "GET /health answered 500");
    let catalog = cluster.until("the reason of a pending instance", reason_known).await;
    assert_eq!(condition_of(&catalog, "web"), Some(Condition::Pending));
    for (is_well, condition) in
        [(true, Condition::Ready), (false, Condition::Unhealthy), (true, Condition::Ready)]
    {
        well.store(is_well, Ordering::SeqCst);
        cluster.until_condition("web", condition).await;
    }

    let results = cluster.log.results(&key);
    assert!(results.last().is_some_and(|result| result.ok), "{results:?}");
    assert!(cluster.count("fairway_probe_results_total") >= 6.0);
    drop(cluster.inputs);
}

#[tokio::test]
async fn a_container_that_leaves_takes_verdict_results_and_series_with_it() {
    let (address, well) = flipping().await;
    well.store(true, Ordering::SeqCst);
    let unit = probed(container("web", &address.to_string()), http_probe(address.port()));
    let key = key_of(&unit, address.port());
    let cluster = Cluster::start([unit]);
    cluster.until_condition("web", Condition::Ready).await;

    cluster.set([]);
    let mut inputs = cluster.inputs.subscribe();
    let emptied = inputs.wait_for(|inputs| inputs.verdicts.is_empty());
    tokio::time::timeout(PATIENCE, emptied).await.expect("verdicts go").expect("the handle lives");
    assert!(cluster.log.results(&key).is_empty());
    assert_eq!(cluster.count("fairway_probe_results_total"), 0.0);
}

#[tokio::test]
async fn a_pause_takes_the_proof_away_and_a_restart_is_a_new_life() {
    let (address, well) = flipping().await;
    well.store(true, Ordering::SeqCst);
    let unit = probed(container("web", &address.to_string()), http_probe(address.port()));
    let cluster = Cluster::start([unit.clone()]);
    cluster.until_condition("web", Condition::Ready).await;

    let paused = Unit { lifecycle: fairway_catalog::Lifecycle::Paused, ..unit.clone() };
    cluster.set([paused]);
    cluster.until_condition("web", Condition::Pending).await;
    well.store(false, Ordering::SeqCst);
    let restarted = Unit { started: Timestamp::now(), ..unit };
    let key = key_of(&restarted, address.port());
    cluster.set([restarted]);
    let told = |catalog: &Arc<Catalog>| {
        catalog.instances.values().any(|i| i.key() == Some(key.clone()) && i.reason.contains("500"))
    };
    let catalog = cluster.until("the new life's first answer", told).await;
    assert_eq!(condition_of(&catalog, "web"), Some(Condition::Pending));
}

#[tokio::test]
async fn an_instance_that_ignored_its_stop_signal_is_active_again_once_it_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let address = listener.local_addr().expect("it is bound").to_string();
    let long_ago = Timestamp::now() - Duration::from_secs(60);
    let cluster = Cluster::start([stopping_since(container("stubborn", &address), long_ago)]);
    let catalog = cluster.until_condition("stubborn", Condition::Ready).await;
    assert!(problem_kinds(&catalog).contains(&"stop-signal-ignored"), "{:?}", catalog.problems);
    drop(listener);
    cluster.until_condition("stubborn", Condition::Stopping).await;
}

#[tokio::test]
async fn a_refused_exec_counts_as_ready_with_a_problem() {
    let command = spec(ProbeCheck::Command { shell: "true".into() });
    let cluster = Cluster::start([probed(container("web", "10.0.0.1:80"), command)]);
    let catalog = cluster.until_condition("web", Condition::Unknown).await;
    assert_eq!(problem_kinds(&catalog), ["probe-exec-refused"]);
    assert_eq!(catalog.backends.values().map(|backend| backend.ready).sum::<usize>(), 1);
}

/// Succeeds, unless a command is asked for while another one runs: as an engine does.
#[derive(Default)]
struct OneAtATime {
    busy: AtomicBool,
    runs: AtomicU32,
}

impl Exec for OneAtATime {
    fn exec<'a>(&'a self, _: &'a SourceId, _: &'a str, _: &'a str, _: Duration) -> ExecFuture<'a> {
        Box::pin(async {
            if self.busy.swap(true, Ordering::SeqCst) {
                return Err(ExecError::Timeout);
            }
            self.runs.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(FAST.regular).await;
            self.busy.store(false, Ordering::SeqCst);
            Ok(0)
        })
    }
}

#[tokio::test]
async fn a_container_with_two_ports_runs_one_command_and_both_are_ready() {
    let engine = Arc::new(OneAtATime::default());
    let exec = engine.clone();
    let command = spec(ProbeCheck::Command { shell: "true".into() });
    let unit = two_ports(probed(container("web", "10.0.0.1:80"), command));
    let keys = [key_of(&unit, 80), key_of(&unit, 9090)];
    let cluster = Cluster::start_with([unit], |inputs| Prober { exec, inputs });
    let both_ready = |catalog: &Arc<Catalog>| catalog.backends.values().any(|backend| backend.ready == 2);
    cluster.until("both instances ready", both_ready).await;
    let runs = engine.runs.load(Ordering::SeqCst);
    for key in &keys {
        let results = cluster.log.results(key);
        assert!(!results.is_empty() && results.iter().all(|result| result.ok), "{results:?}");
        assert!(results.len() <= runs as usize, "each run is told of both: {runs} runs, {results:?}");
    }
}

#[tokio::test]
async fn a_changed_probe_goes_on_from_the_condition_known() {
    let (address, well) = flipping().await;
    well.store(true, Ordering::SeqCst);
    let unit = container("web", &address.to_string());
    let cluster = Cluster::start([probed(unit.clone(), http_probe(address.port()))]);
    cluster.until_condition("web", Condition::Ready).await;
    let mut catalogs = cluster.catalogs.clone();
    catalogs.mark_unchanged();
    let closed = spec(ProbeCheck::Tcp { port: 1 });
    cluster.set([probed(unit, closed)]);
    // It must not blink: the next condition after ready is the fall.
    loop {
        let changed = tokio::time::timeout(PATIENCE, catalogs.changed()).await;
        changed.expect("it falls in time").expect("the publisher lives");
        let condition = condition_of(&catalogs.borrow_and_update(), "web");
        assert!(matches!(condition, Some(Condition::Ready | Condition::Unhealthy)), "{condition:?}");
        if condition == Some(Condition::Unhealthy) {
            break;
        }
    }
}

#[tokio::test]
async fn every_probe_has_ended_when_the_run_has() {
    let (address, _) = flipping().await;
    let unit = probed(container("web", &address.to_string()), http_probe(address.port()));
    let Cluster { publisher, probes, .. } = Cluster::start([unit]);
    publisher.abort();
    tokio::time::timeout(PATIENCE, probes).await.expect("it ends").expect("it does not panic");
}

/// Ends every attempt as the test says at that time; panics at the first attempt if told so.
#[derive(Clone)]
struct Switchboard(Arc<SwitchState>);

struct SwitchState {
    grades: Mutex<BTreeMap<Arc<str>, Grade>>,
    panics_left: AtomicU32,
}

impl Switchboard {
    fn all(names: &[&str], grade: Grade) -> Self {
        let grades = names.iter().map(|name| (Arc::from(*name), grade)).collect();
        Self(Arc::new(SwitchState { grades: Mutex::new(grades), panics_left: AtomicU32::new(0) }))
    }

    fn set(&self, name: &str, grade: Grade) {
        self.0.grades.lock().expect("no holder panics").insert(name.into(), grade);
    }
}

impl Attempt for Switchboard {
    async fn attempt(&self, probe: &Probe) -> Outcome {
        let left = &self.0.panics_left;
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            panic!("as the test wants it");
        }
        let grade = self.0.grades.lock().expect("no holder panics")[&probe.name];
        Outcome { grade, detail: "too many open files".into() }
    }
}

fn three() -> [Unit; 3] {
    let closed = || spec(ProbeCheck::Tcp { port: 1 });
    ["a", "b", "c"].map(|name| {
        let address = format!("10.0.0.{}:80", name.as_bytes()[0]);
        probed(container(name, &address), closed())
    })
}

#[tokio::test]
async fn when_every_probe_fails_by_our_own_fault_nothing_falls_until_one_is_reached() {
    let switchboard = Switchboard::all(&["a", "b", "c"], Grade::Success);
    let cluster = Cluster::start_with(three(), |_| switchboard.clone());
    for name in ["a", "b", "c"] {
        cluster.until_condition(name, Condition::Ready).await;
    }
    for name in ["a", "b", "c"] {
        switchboard.set(name, Grade::Local);
    }
    let suspected = |catalog: &Arc<Catalog>| problem_kinds(catalog).contains(&"prober-suspect");
    let catalog = cluster.until("the prober under suspicion", suspected).await;
    for name in ["a", "b", "c"] {
        assert_eq!(condition_of(&catalog, name), Some(Condition::Ready), "{name}");
    }
    switchboard.set("c", Grade::Success);
    let catalog = cluster.until_condition("a", Condition::Unhealthy).await;
    assert_eq!(condition_of(&catalog, "c"), Some(Condition::Ready));
    cluster.until_condition("b", Condition::Unhealthy).await;
    cluster.until("the suspicion gone", |catalog| problem_kinds(catalog).is_empty()).await;
}

#[tokio::test]
async fn a_probe_that_panics_starts_again() {
    let switchboard = Switchboard::all(&["a", "b", "c"], Grade::Success);
    switchboard.0.panics_left.store(2, Ordering::SeqCst);
    let cluster = Cluster::start_with(three(), |_| switchboard.clone());
    for name in ["a", "b", "c"] {
        cluster.until_condition(name, Condition::Ready).await;
    }
}
