//! The catalog's values in the shapes of the API.

mod limits;

use fairway_catalog::facts::UnitKind;
use fairway_catalog::inputs::{MirrorRecord, StateRecord};
use fairway_catalog::model::SourceStatus;
use fairway_catalog::{self as catalog, Catalog};
use fairway_config::labels::{ClientKey, SplitBy};
use fairway_config::names::RouteId;
use fairway_health::{ProbeLog, ProbeResult};
use fairway_proxy::endpoint::EndpointStates;
use fairway_release::comparison::Sample;
use fairway_release::figures::{NEEDED, QUANTILES};
use fairway_store::AuditRecord;

use crate::control::Running;
use crate::types::*;
pub(crate) use limits::limits;

pub(crate) fn list<T>(items: impl IntoIterator<Item = T>, catalog: &Catalog) -> List<T> {
    List { items: items.into_iter().collect(), revision: catalog.revision }
}

pub(crate) fn route(route: &catalog::Route) -> Route {
    Route {
        id: route.id.to_string(),
        host: route.id.host.to_string(),
        path: if route.id.is_tls() { String::new() } else { route.id.path.to_string() },
        scheme: match route.id.is_tls() {
            true => "tls",
            false if route.secure => "https",
            false => "http",
        }
        .to_owned(),
        etag: route.etag.to_string(),
        split: route.split.as_ref().map(split),
        mirror: route.mirror.as_ref().map(|record| mirror(record)),
        limits: route.limits.as_ref().map(|record| limits::ordered(record)),
        backends: route.members.iter().map(member).collect(),
        project: route.project.as_ref().map(ToString::to_string),
        sticky: route.sticky,
        split_by: split_by(&route.split_by),
        ends_at: route.ends,
    }
}

fn split(info: &catalog::SplitInfo) -> Split {
    let catalog::SplitInfo { layer, author, at, expires_at, reason } = info;
    Split {
        layer: (*layer).into(),
        author: author.to_string(),
        at: *at,
        expires_at: *expires_at,
        reason: reason.to_string(),
    }
}

fn mirror(record: &MirrorRecord) -> Mirror {
    let MirrorRecord { to, percent, author, at, reason } = record;
    Mirror {
        to: to.to_string(),
        percent: percent.get(),
        author: author.to_string(),
        at: *at,
        reason: reason.to_string(),
    }
}

fn member(member: &catalog::Member) -> RouteBackend {
    RouteBackend {
        id: member.backend.id.to_string(),
        weight: member.weight.map(|weight| weight.get()),
        share: member.share,
        ready: member.instances.iter().filter(|instance| instance.serves_new()).count(),
        desired: member.backend.desired,
        state: member.state.into(),
    }
}

pub(crate) fn release(route: &RouteId, running: &Running) -> Release {
    let machine = &running.machine;
    let kept = machine.release();
    let plan = &kept.plan;
    let figures = machine.figures();
    Release {
        route: route.to_string(),
        state: kept.stage.as_str().to_owned(),
        to: plan.to.to_string(),
        from: kept.from.iter().filter(|(_, weight)| weight.get() > 0).map(|(id, _)| id.to_string()).collect(),
        step: kept.step.map_or(0, |step| step + 1),
        steps: if plan.manual { Vec::new() } else { plan.steps.clone() },
        step_seconds: plan.step_time.as_secs(),
        step_seconds_over: machine.spent().as_secs(),
        weight: kept.weight,
        manual: plan.manual,
        max_error_rate: plan.max_error_rate,
        since: kept.since,
        reason: kept.why.to_string(),
        ending: kept.ending.map(|ending| ending.as_str().to_owned()),
        evidence: Evidence {
            canary: side(&figures.canary),
            stable: side(&figures.stable),
            odds: figures.odds(),
            odds_needed: NEEDED,
            most: machine.strongest().as_text().to_owned(),
        },
        ordered: Ordered { author: kept.author.to_string(), at: kept.at, reason: kept.reason.to_string() },
    }
}

fn side(sample: &Sample) -> Side {
    let Sample { requests, failures, latencies } = sample;
    let millis = |quantile| latencies.quantile(quantile).map(|time| time.as_secs_f64() * 1e3);
    let [p50_ms, p90_ms, p99_ms] = QUANTILES.map(millis);
    Side {
        requests: *requests,
        failures: *failures,
        failure_rate: (*requests > 0).then(|| *failures as f64 / *requests as f64),
        p50_ms,
        p90_ms,
        p99_ms,
    }
}

fn split_by(split_by: &SplitBy) -> String {
    match split_by {
        SplitBy::Request => "request".to_owned(),
        SplitBy::Client(ClientKey::Ip) => "client-ip".to_owned(),
        SplitBy::Client(ClientKey::Header(name)) => format!("header:{name}"),
        SplitBy::Client(ClientKey::Cookie(name)) => format!("cookie:{name}"),
    }
}

pub(crate) fn backend(backend: &catalog::Backend, states: &EndpointStates) -> Backend {
    Backend {
        id: backend.id.to_string(),
        project: backend.id.project.as_ref().map(ToString::to_string),
        service: backend.id.service.to_string(),
        version: backend.id.version.to_string(),
        routes: backend.routes.iter().map(ToString::to_string).collect(),
        ready: backend.ready,
        desired: backend.desired,
        state: backend.state.into(),
        ordered: backend.ordered.as_ref().map(ordered),
        instances: backend.instances.len(),
        in_flight: backend.instances.iter().map(|instance| in_flight(instance, states)).sum(),
    }
}

pub(crate) fn instance(instance: &catalog::Instance, states: &EndpointStates) -> Instance {
    let unit = &instance.unit;
    Instance {
        id: instance.id.to_string(),
        name: unit.name.to_string(),
        container: (unit.kind == UnitKind::Container).then(|| unit.id.to_string()),
        address: instance.address.map(|address| address.to_string()),
        address_reason: unit.address_reason.to_string(),
        backend: instance.backend.to_string(),
        node: unit.node.to_string(),
        zone: unit.zone.to_string(),
        state: instance.state.into(),
        ordered: instance.ordered.as_ref().map(ordered),
        condition: instance.condition.into(),
        since: instance.since,
        reason: instance.reason.to_string(),
        until: instance.until,
        started_at: unit.started,
        in_flight: in_flight(instance, states),
        drained_at: instance.drained.as_ref().map(|drained| drained.at),
    }
}

fn ordered(record: &StateRecord) -> Ordered {
    let StateRecord { state: _, author, at, reason } = record;
    Ordered { author: author.to_string(), at: *at, reason: reason.to_string() }
}

fn in_flight(instance: &catalog::Instance, states: &EndpointStates) -> u64 {
    let state = instance.key().and_then(|key| states.get(&key));
    state.map_or(0, |state| state.in_flight().into())
}

pub(crate) fn problem(problem: &catalog::Problem) -> ProblemItem {
    let catalog::Problem { kind, severity, subject, key, value, text, remedy, since } = problem;
    ProblemItem {
        kind: (*kind).to_owned(),
        severity: (*severity).into(),
        subject: subject.to_string(),
        key: key.to_string(),
        value: value.to_string(),
        text: text.to_string(),
        remedy: remedy.to_string(),
        since: *since,
    }
}

pub(crate) fn event(event: &catalog::event::Event) -> EventItem {
    EventItem::from(event)
}

pub(crate) fn health(catalog: &Catalog, states: &EndpointStates, probes: &ProbeLog) -> HealthList {
    let item = |seen: &catalog::Instance| {
        let answers = seen.key().map(|key| probes.results(&key)).unwrap_or_default();
        InstanceHealth {
            instance: instance(seen, states),
            probes: answers.into_iter().map(probe_answer).collect(),
        }
    };
    HealthList {
        items: catalog.instances.values().map(|instance| item(instance)).collect(),
        backends: catalog.backends.values().map(|backend| backend_health(backend)).collect(),
        revision: catalog.revision,
    }
}

fn probe_answer(result: ProbeResult) -> ProbeAnswer {
    let ProbeResult { at, ok, detail, duration } = result;
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    ProbeAnswer { at, ok, detail: detail.to_string(), duration_ms }
}

fn backend_health(backend: &catalog::Backend) -> BackendHealth {
    let specs = || backend.instances.iter().map(|instance| &instance.unit.spec);
    BackendHealth {
        id: backend.id.to_string(),
        ready: backend.ready,
        desired: backend.desired,
        instances: backend.instances.len(),
        state: backend.state.into(),
        rolling_updates: specs().any(|spec| spec.rolling_updates),
        rolling_parallelism: specs().find_map(|spec| spec.rolling_parallelism),
    }
}

pub(crate) fn source(source: &SourceStatus) -> Source {
    let SourceStatus { id, listed, lost, peer, units } = source;
    Source {
        id: id.to_string(),
        listed: *listed,
        lost: lost.as_ref().map(|lost| Lost { since: lost.since, error: lost.error.to_string() }),
        peer: peer.to_string(),
        units: *units,
    }
}

pub(crate) fn counts(catalog: &Catalog) -> Counts {
    let errors = catalog
        .problems
        .iter()
        .filter(|problem| problem.severity == fairway_config::labels::Severity::Error)
        .count();
    Counts {
        routes: catalog.routes.len(),
        backends: catalog.backends.len(),
        instances: catalog.instances.len(),
        ready: catalog.instances.values().filter(|instance| instance.serves_new()).count(),
        errors,
        warnings: catalog.problems.len() - errors,
    }
}

pub(crate) fn audit(record: AuditRecord) -> AuditEntry {
    let AuditRecord { at, who, from, action, subject, detail, reason } = record;
    AuditEntry { at, who, from, action, subject, detail, reason }
}
