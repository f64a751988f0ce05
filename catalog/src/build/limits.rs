//! The limits of one route as they hold: what labels say, and above it what the API sets (design rule 3).
//!
//! Not here: what a limit may say (that is `config`'s), what is done about it (that is `proxy`'s).

use std::sync::Arc;

use fairway_config::labels::features::Features;
use fairway_config::labels::{Limit, Transport};
use fairway_config::names::RouteId;
use jiff::Timestamp;

use crate::inputs::{Decisions, LimitsRecord};
use crate::model::{Backend, Member};

/// The API's layer of one route.
pub(super) struct Over<'a> {
    decisions: &'a Decisions,
    now: Timestamp,
    /// The order that holds now, if any does.
    pub(super) record: Option<&'a Arc<LimitsRecord>>,
}

impl<'a> Over<'a> {
    pub(super) fn of(decisions: &'a Decisions, route: &RouteId, now: Timestamp) -> Self {
        Self { decisions, now, record: effective(decisions, route, now) }
    }

    /// How requests of the route travel to this backend. The same value as in `before`, or as the backend's own, where it
    /// says the same: what was made of it is kept.
    pub(super) fn transport(&self, backend: &Backend, before: Option<&[Member]>) -> Arc<Transport> {
        let most = self.in_flight_max(backend);
        if self.record.is_none() && most.is_none() {
            return backend.transport.clone();
        }
        let mut transport = Transport::clone(&backend.transport);
        if let Some(record) = self.record {
            record.limits.over_transport(&mut transport);
        }
        transport.in_flight_max = most.or(backend.transport.in_flight_max);
        let old = before.into_iter().flatten().find(|member| member.backend.id == backend.id);
        let kept = [Some(&backend.transport), old.map(|old| &old.transport)];
        match kept.into_iter().flatten().find(|kept| ***kept == transport) {
            Some(kept) => kept.clone(),
            None => Arc::new(transport),
        }
    }

    /// An instance is the same in all its routes: of several that say how much it may have, the lowest counts.
    fn in_flight_max(&self, backend: &Backend) -> Option<u32> {
        if self.decisions.limits.is_empty() {
            return None;
        }
        let records = backend.routes.iter().filter_map(|route| effective(self.decisions, route, self.now));
        records.filter_map(|record| record.limits.in_flight_max()).min()
    }

    pub(super) fn body_max(&self, labels: Option<u64>) -> Option<u64> {
        self.record.and_then(|record| record.limits.body_max()).or(labels)
    }

    pub(super) fn features(&self, labels: Option<&Arc<Features>>) -> Option<Arc<Features>> {
        let Some(record) = self.record.filter(|record| record.limits.has_rates()) else {
            return labels.cloned();
        };
        let mut features = labels.map(|labels| Features::clone(labels)).unwrap_or_default();
        record.limits.over_features(&mut features);
        (!features.is_empty()).then(|| Arc::new(features))
    }
}

/// Whether the limits of other routes of the same backends change with these.
pub(super) fn concerns_others(old: Option<&Arc<LimitsRecord>>, new: Option<&Arc<LimitsRecord>>) -> bool {
    // What returns after an expiry counts, too: which of them holds is a matter of time.
    let any = |record: Option<&Arc<LimitsRecord>>| {
        std::iter::successors(record, |record| record.then.as_ref())
            .any(|record| record.limits.has(Limit::InFlightMax))
    };
    any(old) || any(new)
}

fn effective<'a>(decisions: &'a Decisions, route: &RouteId, now: Timestamp) -> Option<&'a Arc<LimitsRecord>> {
    decisions.limits.get(route)?.effective(now)
}
