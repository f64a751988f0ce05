//! The `[[service]]` entries of the configuration file: virtual machines, physical hosts, databases.
//!
//! Addresses count at once; names are resolved at each TTL by a task of their own, the last good answer kept.
//!
//! Not here: what an entry is as units (see `units`), asking the resolver (see `names`).

mod names;
mod units;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fairway_catalog::facts::{SourceFacts, SourceId};
use fairway_catalog::inputs::InputsHandle;
use fairway_config::file::StaticService;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::names::{Names, Resolver};
use crate::NodeInfo;

/// Longest wait for the first answers before the source counts as listed.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);
/// Lookups that are out at the same time.
const LOOKUPS_MAX: usize = 16;

/// What the source of the file's services needs.
#[derive(Debug)]
pub struct FileSource {
    /// Where the facts go.
    pub inputs: InputsHandle,
    /// This node, whose zone an instance has that names none.
    pub node: NodeInfo,
    /// Who resolves names; `None`: the machine's own resolvers, by its resolv.conf.
    pub resolver: Option<TokioResolver>,
}

/// Replaces the entries after a reload; cheap to clone.
#[derive(Debug, Clone)]
pub struct FileHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inputs: InputsHandle,
    node: NodeInfo,
    state: Mutex<State>,
    /// The entries were replaced.
    replaced: Notify,
}

#[derive(Debug, Default)]
struct State {
    services: Vec<StaticService>,
    names: Names,
    listed: bool,
    told: SourceFacts,
}

impl FileSource {
    /// Enters the services into the inputs and resolves their names until `stop` is true or its sender is dropped. The
    /// source is listed at once when no name is to be resolved, else after the first answers or 2 s.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn spawn(
        self,
        services: &[StaticService],
        mut stop: watch::Receiver<bool>,
    ) -> (FileHandle, JoinHandle<()>) {
        let Self { inputs, node, resolver } = self;
        inputs.update(|inputs| {
            inputs.sources.entry(SourceId::File).or_default();
        });
        let shared = Arc::new(Shared { inputs, node, state: Mutex::default(), replaced: Notify::new() });
        let handle = FileHandle(shared.clone());
        handle.apply(services);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = resolve_for_ever(&shared, Resolver::new(resolver)) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        (handle, task)
    }
}

impl FileHandle {
    /// Replaces the entries: instances with an address, or with a name whose answer is known, count when this returns.
    pub fn apply(&self, services: &[StaticService]) {
        self.0.change(|state| {
            state.services = services.to_vec();
            state.names.keep(services, Instant::now());
            state.listed |= state.names.are_tried();
        });
        self.0.replaced.notify_one();
    }
}

impl Shared {
    /// Changes the state, and tells what follows from it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut state);
        let (units, problems) = units::build(&state.services, &state.names, &self.node, &state.told.units);
        let facts = SourceFacts {
            listed: state.listed,
            lost: None,
            peer: "configuration file".into(),
            units,
            networks: Default::default(),
            problems,
        };
        if facts != state.told {
            state.told = facts.clone();
            self.inputs.update(|inputs| {
                inputs.sources.insert(SourceId::File, Arc::new(facts));
            });
        }
        outcome
    }

    /// Takes names that are due.
    fn take_due(&self, most: usize) -> (Vec<Arc<str>>, Option<Instant>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.names.take_due(Instant::now(), most)
    }
}

async fn resolve_for_ever(shared: &Shared, resolver: Resolver) {
    let mut lookups = FuturesUnordered::new();
    let first_end = Instant::now() + FIRST_ANSWERS;
    let mut is_first = true;
    loop {
        let (due, next) = shared.take_due(LOOKUPS_MAX - lookups.len());
        for name in due {
            lookups.push(async {
                let answer = resolver.lookup(&name).await;
                (name, answer)
            });
        }
        let next = next.filter(|_| lookups.len() < LOOKUPS_MAX);
        let wake = next.into_iter().chain(is_first.then_some(first_end)).min();
        tokio::select! {
            Some((name, answer)) = lookups.next() => shared.change(|state| {
                state.names.answered(&name, answer, Instant::now());
                state.listed |= state.names.are_tried();
            }),
            () = shared.replaced.notified() => {}
            () = sleep_until(wake) => {
                if is_first && first_end <= Instant::now() {
                    is_first = false;
                    shared.change(|state| state.listed = true);
                }
            }
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
