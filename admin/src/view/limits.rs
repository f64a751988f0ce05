//! The limits of a route as they hold now, each with the layer that it comes from.

use std::collections::BTreeMap;

use fairway_catalog::facts::UnitKind;
use fairway_catalog::inputs::{DefaultLimits, LimitsRecord};
use fairway_catalog::{self as catalog, Catalog, Member};
use fairway_config::labels::{Limit, Transport};
use fairway_config::{duration, size};
use fairway_proxy::endpoint::UpstreamSettings;

use crate::types::{BackendLimit, LimitItem, LimitLayer, LimitsOrdered, RouteLimits};

/// What the API sets of a route.
pub(crate) fn ordered(record: &LimitsRecord) -> LimitsOrdered {
    let LimitsRecord { limits, author, at, expires_at, reason, then: _ } = record;
    let values: BTreeMap<String, String> =
        limits.written().map(|(limit, value)| (limit.to_string(), value)).collect();
    LimitsOrdered {
        values,
        author: author.to_string(),
        at: *at,
        expires_at: *expires_at,
        reason: reason.to_string(),
    }
}

/// Every limit of a route.
pub(crate) fn limits(route: &catalog::Route, catalog: &Catalog) -> RouteLimits {
    let looked_at = Looked { route, catalog };
    RouteLimits {
        route: route.id.to_string(),
        etag: LimitsRecord::etag(route.limits.as_deref()),
        items: Limit::ALL.into_iter().map(|limit| looked_at.item(limit)).collect(),
        revision: catalog.revision,
    }
}

struct Looked<'a> {
    route: &'a catalog::Route,
    catalog: &'a Catalog,
}

/// A value, and whose it is.
struct Held<'a> {
    value: String,
    layer: LimitLayer,
    /// The order, in the layer of the API.
    record: Option<&'a LimitsRecord>,
}

impl<'a> Looked<'a> {
    fn item(&self, limit: Limit) -> LimitItem {
        let of_members = if limit.is_of_versions() { &self.route.members[..] } else { &[] };
        let mut all: Vec<Held<'a>> = of_members.iter().map(|member| self.of_member(limit, member)).collect();
        if all.is_empty() {
            all.push(self.of_route(limit));
        }
        let agree = all.windows(2).all(|pair| pair[0].value == pair[1].value);
        let backends = of_members.iter().zip(&all).filter(|_| !agree);
        let backends = backends
            .map(|(member, held)| BackendLimit {
                id: member.backend.id.to_string(),
                value: held.value.clone(),
                layer: held.layer,
            })
            .collect();
        let top = all.into_iter().rev().max_by_key(|held| held.layer);
        let top = top.unwrap_or_else(|| self.default(limit));
        self.told(limit, top, agree, backends)
    }

    fn told(&self, limit: Limit, held: Held<'_>, agree: bool, backends: Vec<BackendLimit>) -> LimitItem {
        let settings = &self.catalog.settings;
        let (author, at) = match (held.layer, held.record) {
            (_, Some(record)) => (Some(record.author.to_string()), Some(record.at)),
            (LimitLayer::Label, _) => self.labels(),
            (LimitLayer::File, _) => (Some(settings.file.to_string()), Some(settings.loaded)),
            (LimitLayer::Default | LimitLayer::Api, _) => (None, None),
        };
        LimitItem {
            name: limit.to_string(),
            value: agree.then_some(held.value),
            layer: held.layer,
            author,
            at,
            expires_at: held.record.and_then(|record| record.expires_at),
            reason: held.record.map_or_else(String::new, |record| record.reason.to_string()),
            backends,
        }
    }

    /// Who wrote the labels, and since when: the containers, or the file that lists the static services.
    fn labels(&self) -> (Option<String>, Option<jiff::Timestamp>) {
        let instances = self.route.members.iter().flat_map(|member| &member.instances);
        let units = || instances.clone().map(|instance| &instance.unit);
        if units().all(|unit| unit.kind == UnitKind::Static) {
            let settings = &self.catalog.settings;
            return (Some(settings.file.to_string()), Some(settings.loaded));
        }
        (Some("labels".to_owned()), units().map(|unit| unit.created).min())
    }

    fn of_member(&self, limit: Limit, member: &Member) -> Held<'a> {
        let written = limit.written(&member.transport, None);
        if let Some(record) = self.order(limit, member) {
            let value = written.or_else(|| record.limits.value(limit)).unwrap_or_default();
            return Held { value, layer: LimitLayer::Api, record: Some(record) };
        }
        match written {
            Some(value) => Held { value, layer: LimitLayer::Label, record: None },
            None => self.default(limit),
        }
    }

    /// The order that sets a limit of a version. How much an instance may have may be said by an order about another route.
    fn order(&self, limit: Limit, member: &Member) -> Option<&'a LimitsRecord> {
        let own = self.route.limits.as_deref().filter(|record| record.limits.has(limit));
        if limit != Limit::InFlightMax {
            return own;
        }
        let most = member.transport.in_flight_max;
        let says = |record: &&LimitsRecord| record.limits.has(limit) && record.limits.in_flight_max() == most;
        let routes = member.backend.routes.iter().filter_map(|id| self.catalog.routes.get(id));
        let mut others = routes.filter_map(|route| route.limits.as_deref()).filter(says);
        own.filter(says).or_else(|| others.next())
    }

    fn of_route(&self, limit: Limit) -> Held<'a> {
        if let Some(record) = self.route.limits.as_deref()
            && let Some(value) = record.limits.value(limit)
        {
            return Held { value, layer: LimitLayer::Api, record: Some(record) };
        }
        let transport = Transport { body_max: self.route.body_max, ..Transport::default() };
        match limit.written(&transport, self.route.features.as_deref()) {
            Some(value) => Held { value, layer: LimitLayer::Label, record: None },
            None => self.default(limit),
        }
    }

    /// What holds where nobody says anything of this route.
    fn default(&self, limit: Limit) -> Held<'a> {
        let (file, built_in) = (&self.catalog.settings.limits, DefaultLimits::default());
        let unless = UpstreamSettings::new(&Transport::default());
        let none = || "none".to_owned();
        let (value, from_file) = match limit {
            Limit::ConnectTimeout => (duration::print(unless.connect_timeout), false),
            Limit::FirstByteTimeout => (duration::print(unless.first_byte_timeout), false),
            Limit::IdleTimeout => (duration::print(unless.idle_timeout), false),
            Limit::TotalTimeout => (unless.total_timeout.map_or_else(none, duration::print), false),
            Limit::Retries => (unless.retries.to_string(), false),
            Limit::Hedge => ("off".to_owned(), false),
            Limit::InFlightMax => {
                (file.in_flight_max.to_string(), file.in_flight_max != built_in.in_flight_max)
            }
            Limit::BodyMax => {
                (file.body_max.map_or_else(none, size::print), file.body_max != built_in.body_max)
            }
            Limit::RateLimit | Limit::ClientRateLimit => (none(), false),
        };
        let layer = if from_file { LimitLayer::File } else { LimitLayer::Default };
        Held { value, layer, record: None }
    }
}
