//! Tells the catalog's inputs what is known of one engine, and measures how long that took.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairway_catalog::facts::{Lost, SourceFacts, SourceId, Unit};
use fairway_catalog::inputs::InputsHandle;
use jiff::Timestamp;
use prometheus::Histogram;

use super::book::Book;
use super::failure::EngineError;

/// The one writer of one source's facts.
pub(super) struct Publisher {
    source: SourceId,
    inputs: InputsHandle,
    /// `fairway_discovery_lag_seconds`
    lag: Option<Histogram>,
    told: SourceFacts,
}

impl Publisher {
    /// Enters the source, not yet listed.
    pub(super) fn new(source: SourceId, inputs: InputsHandle, lag: Option<Histogram>) -> Self {
        let publisher = Self { source, inputs, lag, told: SourceFacts::default() };
        publisher.send();
        publisher
    }

    /// Tells what the book says; `settled` are the times, by the engine's clock, of the events that led to it. With
    /// `found` everything has been listed, and the source is lost no more.
    pub(super) fn tell(&mut self, book: &Book, found: Option<&Arc<str>>, settled: &[Timestamp]) {
        let problems = book.problems();
        let told = &self.told;
        let unchanged = found.is_none_or(|peer| told.listed && told.lost.is_none() && told.peer == *peer)
            && same(&told.units, book.units())
            && told.networks == *book.networks()
            && told.problems == problems;
        if unchanged {
            return;
        }
        if let Some(peer) = found {
            (self.told.listed, self.told.lost, self.told.peer) = (true, None, peer.clone());
        }
        self.told.units = book.units().clone();
        self.told.networks = book.networks().clone();
        self.told.problems = problems;
        self.send();
        let now = Timestamp::now();
        if let Some(lag) = &self.lag {
            settled.iter().for_each(|at| lag.observe(now.duration_since(*at).as_secs_f64().max(0.0)));
        }
    }

    /// Tells that the engine cannot be reached; what was known stays. Says whether that, or the reason, is new.
    pub(super) fn lost(&mut self, error: &EngineError) -> bool {
        let error: Arc<str> = error.to_string().into();
        let since = match &self.told.lost {
            Some(lost) if lost.error == error => return false,
            Some(lost) => lost.since,
            None => Timestamp::now(),
        };
        self.told.lost = Some(Lost { since, error });
        self.send();
        true
    }

    /// Whether the engine has been listed and can be reached.
    pub(super) fn is_found(&self) -> bool {
        self.told.listed && self.told.lost.is_none()
    }

    /// Whether the engine has ever been listed.
    pub(super) fn is_listed(&self) -> bool {
        self.told.listed
    }

    fn send(&self) {
        let facts = Arc::new(self.told.clone());
        self.inputs.update(|inputs| {
            inputs.sources.insert(self.source.clone(), facts);
        });
    }
}

/// Units that are equal are the same: the book keeps them.
fn same(told: &BTreeMap<Arc<str>, Arc<Unit>>, known: &BTreeMap<Arc<str>, Arc<Unit>>) -> bool {
    told.len() == known.len() && told.values().zip(known.values()).all(|(a, b)| Arc::ptr_eq(a, b))
}
