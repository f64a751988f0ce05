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
pub(crate) use deliver::secret;

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
    problems: Arc<Mutex<Problems>>,
}

/// What is wrong, by place and kind.
type Problems = BTreeMap<(Arc<str>, &'static str), Problem>;

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
        Ok(Self { inputs, node: node.clone(), deliveries, problems: Arc::default() })
    }

    /// `delivered`, `failed` (it is tried again), `given-up` or `dropped`.
    fn count(&self, webhook: &Webhook, result: &str) {
        self.deliveries.with_label_values(&[place(&webhook.url), result]).inc();
    }

    /// Why a webhook cannot be told; `None`: it can.
    fn failing(&self, webhook: &Webhook, why: Option<&str>) {
        let place = place(&webhook.url);
        let text = why.map(|why| format!("the webhook at {place} does not take events: {why}"));
        let remedy = "events wait for an hour, 1,000 at most; check `url`, `ca` and what answers there";
        self.tell("webhook-failing", Severity::Warning, webhook, text, remedy);
    }

    /// Whether a webhook misses events, because too many wait for it.
    fn dropping(&self, webhook: &Webhook, is_full: bool) {
        let place = place(&webhook.url);
        let text =
            || format!("{WAITING_MAX} events wait for the webhook at {place}: further ones are dropped");
        let remedy = "check what answers there; `fairway events --after REV` has what was dropped";
        self.tell("webhook-dropping", Severity::Error, webhook, is_full.then(text), remedy);
    }

    /// A problem of a webhook; without a text it is over.
    fn tell(
        &self,
        kind: &'static str,
        severity: Severity,
        webhook: &Webhook,
        text: Option<String>,
        remedy: &str,
    ) {
        let place = place(&webhook.url);
        let key = (Arc::from(place), kind);
        let mut told = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            None if told.remove(&key).is_none() => return,
            None => {}
            Some(text) => {
                let problem = Problem::new(kind, severity, place, text, remedy).at("webhook.url", "");
                told.insert(key, problem);
            }
        }
        self.inputs.report(PART, told.values().cloned().collect());
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
        if !self.webhook.events.iter().any(wanted) {
            return;
        }
        let is_full = self.events.try_send(event.clone()).is_err();
        if is_full {
            told.count(&self.webhook, "dropped");
        }
        told.dropping(&self.webhook, is_full);
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
            told.dropping(&gone.webhook, false);
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_too_many_wait_before_is_dropped_counted_and_told_until_there_is_room() {
        // Nobody accepts: it takes connections and answers none.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/hook", silent.local_addr().expect("an address"));
        let (inputs, registry) = (InputsHandle::new(Default::default()), Registry::new());
        let told = Told::new(inputs.clone(), &"edge".into(), &registry).expect("a new registry");
        let webhook = Webhook { url: url.into(), events: vec!["*".into()], secret_file: None, ca: None };
        let telling = Telling::start(webhook.clone(), told.clone());
        let event = |revision| Event {
            revision,
            at: Default::default(),
            kind: "problem-raised".into(),
            subject: "web".into(),
            from: "".into(),
            to: "".into(),
            reason: "".into(),
        };
        // The task has had no chance to take one yet.
        (0..WAITING_MAX as u64 + 2).for_each(|revision| telling.tell(&event(revision), &told));
        let dropped = told.deliveries.with_label_values(&[place(&webhook.url), "dropped"]);
        assert_eq!(dropped.get(), 2);
        let problems = || inputs.current().reports.get(PART).cloned().unwrap_or_default();
        assert_eq!(problems().iter().map(|problem| problem.kind).collect::<Vec<_>>(), ["webhook-dropping"]);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        while telling.events.capacity() == 0 {
            assert!(tokio::time::Instant::now() < deadline, "the task takes the first one");
            tokio::task::yield_now().await;
        }
        telling.tell(&event(5000), &told);
        assert!(problems().is_empty(), "{:?}", problems());
    }
}
