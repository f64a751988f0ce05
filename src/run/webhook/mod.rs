//! Tells webhooks of events (`[[webhook]]`): each in order, whatever the others do, and nobody else waits for it.
//!
//! Here: which events go to whom, and what is told of deliveries. Not here: one delivery (see [`deliver`]).

mod deliver;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fairway_catalog::config::labels::Severity;
use fairway_catalog::event::{Event, diff};
use fairway_catalog::{Catalog, InputsHandle, Problem};
use fairway_config::file::Webhook;
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use deliver::deliver;

/// Our name in [`InputsHandle::report`].
const PART: &str = "webhooks";

/// Most events that wait for one webhook. Further ones are dropped: what happens now is in `fairway events` too.
const WAITING_MAX: usize = 1000;

/// What is told of deliveries, and what each of them says of us.
#[derive(Clone)]
pub(crate) struct Told {
    inputs: InputsHandle,
    node: Arc<str>,
    deliveries: IntCounterVec,
    failing: Arc<Mutex<BTreeMap<Arc<str>, Problem>>>,
}

impl Told {
    /// Counts in this registry.
    pub(crate) fn new(
        inputs: InputsHandle,
        node: &Arc<str>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let deliveries = IntCounterVec::new(
            Opts::new("fairway_webhook_deliveries_total", "Events sent to webhooks, by how that ended."),
            &["webhook", "result"],
        )?;
        registry.register(Box::new(deliveries.clone()))?;
        Ok(Self { inputs, node: node.clone(), deliveries, failing: Arc::default() })
    }

    /// `delivered`, `failed` (it is tried again), `given-up` or `dropped`.
    fn count(&self, webhook: &Webhook, result: &str) {
        self.deliveries.with_label_values(&[place(&webhook.url), result]).inc();
    }

    /// Why a webhook cannot be told; `None`: it can.
    fn failing(&self, webhook: &Webhook, why: Option<&str>) {
        let place: Arc<str> = place(&webhook.url).into();
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            None if failing.remove(&place).is_none() => return,
            None => {}
            Some(why) => {
                let text = format!("the webhook at {place} does not take events: {why}");
                let remedy = "events wait for an hour, 1,000 at most; check `url` and what answers there";
                let problem = Problem::new("webhook-failing", Severity::Warning, &*place, text, remedy);
                failing.insert(place, problem.at("webhook.url", ""));
            }
        }
        self.inputs.report(PART, failing.values().cloned().collect());
    }
}

/// The host and port of a URL, for metrics and problems: its path may hold a secret.
fn place(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default()
}

/// A webhook that is being told. Dropped: it is told no more.
struct Telling {
    webhook: Webhook,
    events: mpsc::Sender<Event>,
    task: JoinHandle<()>,
}

impl Telling {
    fn start(webhook: Webhook, told: Told) -> Self {
        let (events, waiting) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(deliver(webhook.clone(), waiting, told));
        Self { webhook, events, task }
    }

    fn tell(&self, event: &Event, told: &Told) {
        let wanted = |kind: &Arc<str>| **kind == *"*" || *kind == event.kind;
        if self.webhook.events.iter().any(wanted) && self.events.try_send(event.clone()).is_err() {
            told.count(&self.webhook, "dropped");
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells the webhooks of this configuration, and of each that follows it, until the catalog ends. One that stays as it was
/// keeps what waits for it.
pub(crate) async fn run(
    mut config: watch::Receiver<Vec<Webhook>>,
    mut catalogs: watch::Receiver<Arc<Catalog>>,
    told: Told,
) {
    let mut telling: Vec<Telling> = Vec::new();
    config.mark_changed();
    let mut before = catalogs.borrow_and_update().clone();
    loop {
        tokio::select! {
            changed = config.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = config.borrow_and_update().clone();
                telling = adopt(telling, wanted, &told);
            }
            changed = catalogs.changed() => {
                if changed.is_err() {
                    return;
                }
                let catalog = catalogs.borrow_and_update().clone();
                if !telling.is_empty() && catalog.revision > before.revision {
                    for event in diff(&before, &catalog) {
                        telling.iter().for_each(|one| one.tell(&event, &told));
                    }
                }
                before = catalog;
            }
        }
    }
}

fn adopt(mut present: Vec<Telling>, wanted: Vec<Webhook>, told: &Told) -> Vec<Telling> {
    let mut next = Vec::new();
    for webhook in wanted {
        let same = present.iter().position(|one| one.webhook == webhook);
        next.push(match same {
            Some(at) => present.swap_remove(at),
            None => Telling::start(webhook, told.clone()),
        });
    }
    for gone in &present {
        if !next.iter().any(|one| place(&one.webhook.url) == place(&gone.webhook.url)) {
            told.failing(&gone.webhook, None);
        }
    }
    next
}
