//! The instances of one version: what is known of each, and why it would or would not serve.

use std::sync::Arc;
use std::time::Instant;

use fairway_catalog::facts::UnitKind;
use fairway_catalog::{Condition, Instance, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::endpoint::{Endpoint, LastFailure};
use crate::pick::care::Care;
use crate::sticky::Bound;
use crate::table::{RouteEntry, Version};

/// One instance of the route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// Its id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// Where it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why at this address, or why it has none.
    pub address_reason: String,
    /// The label by which it claims the route: `aliyun.routing.port_80: http://shop.company.com`; of a static service `routes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The node it runs on.
    pub node: String,
    /// `active`, `draining`, `disabled`.
    pub state: String,
    /// `pending`, `ready`, `unhealthy`, `ejected`, `stopping`, `unknown`.
    pub condition: String,
    /// Since when it is in this condition.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why it is in this condition.
    pub reason: String,
    /// Until when it is ejected, at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Relative to the version's other instances.
    pub weight: u16,
    /// Requests in flight now.
    pub in_flight: u32,
    /// Average latency in milliseconds, peaks counting for longer; absent before the first answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// How a request failed there last; absent if none did in its present life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailureView>,
    /// Whether this request could go to it now.
    pub candidate: bool,
    /// Why, or why not, one sentence.
    pub why: String,
}

/// How a request failed at an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The word for it, as in the access log.
    pub reason: String,
    /// What was seen, one sentence.
    pub detail: String,
}

impl From<LastFailure> for FailureView {
    fn from(LastFailure { at, reason, detail }: LastFailure) -> Self {
        Self { at, reason: reason.to_string(), detail: detail.to_owned() }
    }
}

/// What is asked about the instances of one version.
pub(super) struct Asked<'a> {
    /// What completes a prefix host.
    pub(super) suffix: &'a str,
    /// The one that would serve.
    pub(super) would_serve: Option<&'a Arc<Endpoint>>,
    /// The request may go to the version.
    pub(super) drawn: bool,
    /// Where the client belongs.
    pub(super) bound: Option<&'a Bound>,
}

/// Every instance of the version that claims the route, those without an address too.
pub(super) fn of(
    entry: &RouteEntry,
    version: &Version,
    asked: &Asked<'_>,
    now: Instant,
) -> Vec<InstanceView> {
    let member = entry.route.members.iter().find(|member| member.backend.id == version.backend.id);
    let instances = member.into_iter().flat_map(|member| &member.instances);
    let care = Care::of_the_lucky(version, version.serving(), now);
    let view = |instance: &Arc<Instance>| {
        let endpoint = version.endpoints().iter().find(|endpoint| endpoint.key.id == instance.id);
        let first = asked.would_serve.is_some_and(|first| first.key.id == instance.id);
        let why = why(version, instance, endpoint, asked, &care);
        // What the catalog will have in a moment.
        let ejection = endpoint.and_then(|endpoint| endpoint.state.standing.ejection(now));
        let (condition, since, reason, until) = match &ejection {
            Some(out) => (Condition::Ejected, out.since, &out.reason, Some(out.until)),
            None => (instance.condition, instance.since, &instance.reason, instance.until),
        };
        InstanceView {
            id: instance.id.to_string(),
            name: instance.unit.name.to_string(),
            address: instance.address.map(|address| address.to_string()),
            address_reason: instance.unit.address_reason.to_string(),
            label: label(entry, instance, asked.suffix),
            node: instance.unit.node.to_string(),
            state: instance.state.to_string(),
            condition: condition.to_string(),
            since,
            reason: reason.to_string(),
            until,
            weight: endpoint.map_or(1, |endpoint| endpoint.weight),
            in_flight: endpoint.map_or(0, |endpoint| endpoint.state.in_flight()),
            latency_ms: endpoint
                .and_then(|e| e.state.latency(now))
                .map(|latency| latency.as_secs_f64() * 1e3),
            last_failure: endpoint.and_then(|e| e.state.last_failure()).map(FailureView::from),
            candidate: why.is_ok(),
            why: match why {
                Ok(note) if first && is_bound(instance, asked) => format!("the client is bound to it{note}"),
                Ok(note) if first => format!("first choice now{note}"),
                Ok(note) => format!("could serve{note}"),
                Err(why) => why,
            },
        }
    };
    instances.map(view).collect()
}

fn is_bound(instance: &Instance, asked: &Asked<'_>) -> bool {
    asked.bound.is_some_and(|bound| *bound.instance == *instance.id.as_str())
}

/// The entry of its labels that claims the route.
fn label(entry: &RouteEntry, instance: &Instance, suffix: &str) -> Option<String> {
    let mut claims = instance.unit.spec.ports.iter().filter(|claim| claim.port == instance.port);
    let claim =
        claims.find_map(|claim| claim.entries.iter().find(|claim| claim.route(suffix) == entry.route.id))?;
    Some(match instance.unit.kind {
        UnitKind::Container => format!("aliyun.routing.port_{}: {claim}", instance.port),
        UnitKind::Static => format!("routes: {claim}"),
    })
}

/// ` by ops (disk)`
fn by(instance: &Instance) -> String {
    match instance.ordered.as_ref() {
        None => String::new(),
        Some(record) if record.reason.is_empty() => format!(" by {}", record.author),
        Some(record) => format!(" by {} ({})", record.author, record.reason),
    }
}

fn why(
    version: &Version,
    instance: &Instance,
    endpoint: Option<&Arc<Endpoint>>,
    asked: &Asked<'_>,
    care: &Care<'_>,
) -> Result<String, String> {
    let drawn = asked.drawn;
    let Some(endpoint) = endpoint else {
        return Err(format!("it has no address: {}", instance.unit.address_reason));
    };
    match instance.state {
        State::Disabled => return Err(format!("disabled{}: nobody is sent to it", by(instance))),
        State::Draining if instance.drained.is_some() => {
            return Err(format!("drained{}: nobody is sent to it any more", by(instance)));
        }
        // The one of a bound client, and any other if its whole version drains.
        State::Draining
            if drawn
                && asked.bound.is_some_and(|bound| *bound.backend == *version.name)
                && (is_bound(instance, asked) || version.serving().is_empty()) => {}
        State::Draining => return Err(format!("draining{}: it gets nothing new", by(instance))),
        State::Active => {}
    }
    let last_resort = drawn && version.serving().is_empty();
    match instance.condition {
        Condition::Stopping if last_resort => {}
        Condition::Stopping => return Err(format!("stopping: {}", instance.reason)),
        Condition::Ejected => {}
        condition if !condition.is_ready() => return Err(format!("{condition}: {}", instance.reason)),
        _ => {}
    }
    if endpoint.state.is_full() {
        return Err(format!("it has {} requests in flight, the limit", endpoint.state.in_flight_max()));
    }
    // A client stays at its instance also while others are preferred.
    let objection =
        care.objection(endpoint).filter(|_| !(is_bound(instance, asked) && care.is_sound(endpoint)));
    objection.map_or(Ok(()), Err)?;
    if drawn { Ok(care.note(endpoint)) } else { Err("its version is not chosen".to_owned()) }
}
