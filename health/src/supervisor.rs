//! Starts and ends the probe tasks as the plan changes, and carries their verdicts into the inputs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use fairway_catalog::{Catalog, InputsHandle, InstanceKey};
use jiff::Timestamp;
use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::attempt::{Attempt, Prober};
use crate::board::Board;
use crate::exec::Exec;
use crate::log::ProbeLog;
use crate::metrics::Metrics;
use crate::plan::{self, Probe};
use crate::suspect::Census;
use crate::task::{Pace, Task};

/// Our name in [`InputsHandle::report`].
const PART: &str = "health";

/// Probes whatever the catalog says, until the catalog's sender is dropped; then every probe has ended.
///
/// Verdicts go into `inputs`, the last answers into `log`, and counts into `registry`.
pub async fn run(
    catalogs: watch::Receiver<Arc<Catalog>>,
    inputs: InputsHandle,
    exec: Arc<dyn Exec>,
    log: ProbeLog,
    registry: &Registry,
) {
    let attempts = Prober { exec, inputs: inputs.clone() };
    let metrics = match Metrics::register(registry) {
        Ok(metrics) => metrics,
        Err(error) => {
            // Only a second `run` on one registry leads here, and instances must not stay pending for it.
            tracing::error!(%error, "probes run uncounted");
            match Metrics::register(&Registry::new()) {
                Ok(metrics) => metrics,
                Err(_) => return,
            }
        }
    };
    follow(catalogs, inputs, Supervisor::new(attempts, Pace::default(), log, metrics)).await;
}

/// The loop of [`run`].
pub(crate) async fn follow<A: Attempt>(
    mut catalogs: watch::Receiver<Arc<Catalog>>,
    inputs: InputsHandle,
    mut supervisor: Supervisor<A>,
) {
    let mut tally = supervisor.census.follow();
    let board = supervisor.board.clone();
    catalogs.mark_changed();
    loop {
        tokio::select! {
            changed = catalogs.changed() => {
                if changed.is_err() {
                    break;
                }
                let catalog = catalogs.borrow_and_update().clone();
                supervisor.adopt(plan::of(&catalog));
            }
            () = board.changed() => board.save(&inputs),
            Ok(()) = tally.changed() => {
                let problem = tally.borrow_and_update().problem();
                inputs.report(PART, problem.into_iter().collect());
            }
            Some(Err(error)) = supervisor.tasks.join_next() => supervisor.revive(&error),
        }
    }
    supervisor.tasks.shutdown().await;
}

/// The tasks, by what they probe.
pub(crate) struct Supervisor<A> {
    attempts: A,
    pace: Pace,
    log: ProbeLog,
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    census: Census,
    running: BTreeMap<InstanceKey, Running>,
    tasks: JoinSet<()>,
}

struct Running {
    probe: Probe,
    task: AbortHandle,
}

impl<A: Attempt> Supervisor<A> {
    pub(crate) fn new(attempts: A, pace: Pace, log: ProbeLog, metrics: Metrics) -> Self {
        Self {
            attempts,
            pace,
            log,
            metrics: Arc::new(metrics),
            board: Arc::default(),
            census: Census::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Ends what is not in the plan, starts what is new, starts anew what is probed in another way.
    fn adopt(&mut self, plan: BTreeMap<InstanceKey, Probe>) {
        let stays = |key: &InstanceKey, running: &Running| plan.get(key) == Some(&running.probe);
        let ended: Vec<Running> =
            self.running.extract_if(.., |key, running| !stays(key, running)).map(|(_, r)| r).collect();
        ended.iter().for_each(|running| running.task.abort());
        let keys: HashSet<InstanceKey> = plan.values().flat_map(|probe| &probe.keys).cloned().collect();
        self.board.admit_only(&keys);
        for (key, probe) in plan {
            if !self.running.contains_key(&key) {
                let task = self.spawn(&key, probe.clone());
                self.running.insert(key, Running { probe, task });
            }
        }
        if ended.is_empty() {
            return;
        }
        self.log.forget_all_but(|key| keys.contains(key));
        for Running { probe: Probe { backend, .. }, .. } in ended {
            if !self.running.values().any(|running| running.probe.backend == backend) {
                self.metrics.forget(&backend);
            }
        }
    }

    /// Starts a probe that goes on from the condition known.
    fn spawn(&mut self, key: &InstanceKey, probe: Probe) -> AbortHandle {
        let known = self.board.condition(key);
        let task = Task {
            probe,
            attempts: self.attempts.clone(),
            pace: self.pace,
            seat: self.census.seat(),
            board: self.board.clone(),
            log: self.log.clone(),
            metrics: self.metrics.clone(),
        };
        self.tasks.spawn(task.run(known))
    }

    /// A probe that panicked is a bug of ours; the instance keeps its condition and is probed again, after a pause.
    fn revive(&mut self, ended: &JoinError) {
        if !ended.is_panic() {
            return;
        }
        let found = self.running.iter().find(|(_, running)| running.task.id() == ended.id());
        let Some((key, probe)) = found.map(|(key, running)| (key.clone(), running.probe.clone())) else {
            return;
        };
        tracing::error!(instance = %key.id, error = %ended, "a probe panicked; it starts again");
        let later = Timestamp::now().saturating_add(self.pace.regular).unwrap_or(Timestamp::MAX);
        let task = self.spawn(&key, Probe { not_before: later.max(probe.not_before), ..probe.clone() });
        self.running.insert(key, Running { probe, task });
    }
}

#[cfg(test)]
mod tests;
