//! The weights of one route (design rules 2 and 3): which layer holds, what each backend gets, who may stand in.
//!
//! Not here: the draw for one request (that is `proxy`'s).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use fairway_config::labels::Severity;
use fairway_config::names::{BackendId, RouteId, Weight};
use jiff::Timestamp;

use super::shape::RouteShape;
use crate::inputs::Inputs;
use crate::model::{Catalog, Condition, Layer, Member, NotOneBackend, SplitInfo, State};
use crate::problem::Problem;

/// A layer's weights.
struct Effective {
    info: SplitInfo,
    weights: BTreeMap<BackendId, Weight>,
}

/// Fills in weights and shares of the members. Gives the split's origin, its etag and its problems.
pub(super) fn apply(
    inputs: &Inputs,
    id: &RouteId,
    planned: &RouteShape,
    members: &mut [Member],
    now: Timestamp,
) -> (Option<SplitInfo>, Arc<str>, Vec<Problem>) {
    let mut problems = Vec::new();
    let known: Vec<BackendId> = members.iter().map(|member| member.backend.id.clone()).collect();
    let effective = from_api(inputs, id, now)
        .or_else(|| from_file(inputs, id, &known, planned.ends.is_some(), &mut problems))
        .or_else(|| from_labels(planned));
    if let Some(effective) = &effective {
        for member in &mut *members {
            set_weight(member, effective, id, &mut problems);
        }
    }
    fill_shares(members);
    let etag = etag(effective.as_ref());
    (effective.map(|effective| effective.info), etag, problems)
}

fn from_api(inputs: &Inputs, id: &RouteId, now: Timestamp) -> Option<Effective> {
    let record = inputs.decisions.splits.get(id)?.effective(now)?;
    let info = SplitInfo {
        layer: Layer::Api,
        author: record.author.clone(),
        at: record.at,
        expires_at: record.expires_at,
        reason: record.reason.clone(),
    };
    Some(Effective { info, weights: record.weights.clone() })
}

fn from_file(
    inputs: &Inputs,
    id: &RouteId,
    known: &[BackendId],
    ended: bool,
    problems: &mut Vec<Problem>,
) -> Option<Effective> {
    let settings = &inputs.settings;
    let split = settings.splits.iter().find(|split| split.route.route(&settings.domain_suffix) == *id)?;
    let mut weights = BTreeMap::new();
    for (reference, weight) in &split.weights {
        match Catalog::resolve_backend(reference, known) {
            Ok(backend) => {
                weights.insert(backend, *weight);
            }
            // It may start later: its weight waits for it. An ended route names nobody.
            Err(error) if !ended => problems.push(unresolved(id, reference, &error)),
            Err(_) => {}
        }
    }
    let info = SplitInfo {
        layer: Layer::File,
        author: settings.file.clone(),
        at: settings.loaded,
        expires_at: None,
        reason: "".into(),
    };
    Some(Effective { info, weights })
}

fn from_labels(planned: &RouteShape) -> Option<Effective> {
    if planned.label_weights.is_empty() {
        return None;
    }
    let weight = |id: &BackendId| planned.label_weights.get(id).copied().unwrap_or(Weight::DEFAULT);
    let info = SplitInfo {
        layer: Layer::Label,
        author: "labels".into(),
        at: planned.created,
        expires_at: None,
        reason: "".into(),
    };
    Some(Effective { info, weights: planned.members.keys().map(|id| (id.clone(), weight(id))).collect() })
}

fn set_weight(member: &mut Member, effective: &Effective, route: &RouteId, problems: &mut Vec<Problem>) {
    let written = effective.weights.get(&member.backend.id).copied();
    member.weight = Some(written.unwrap_or(Weight::ZERO));
    // Label weights are no split in the sense of rule 2: their zero may stand in when nobody else can.
    member.promised_zero = written == Some(Weight::ZERO) && effective.info.layer != Layer::Label;
    if written.is_none() {
        problems.push(not_in_split(route, &member.backend.id, effective.info.layer));
    }
}

/// The part of new requests that each member gets now: by weight among those that can serve; else those without a
/// promised zero stand in, equally per instance; else stopping instances of them. Ejected ones count where no other of the
/// member is ready.
fn fill_shares(members: &mut [Member]) {
    let ready = |member: &Member| {
        let count = |serves: fn(&crate::model::Instance) -> bool| {
            member.instances.iter().filter(|instance| serves(instance)).count() as f64
        };
        let ready = count(crate::model::Instance::serves_new);
        if ready > 0.0 { ready } else { count(crate::model::Instance::serves_as_last) }
    };
    let stopping = |member: &Member| {
        let lasts =
            |i: &&Arc<crate::model::Instance>| i.state == State::Active && i.condition == Condition::Stopping;
        member.instances.iter().filter(lasts).count() as f64
    };
    let weighted: Vec<f64> = members
        .iter()
        .map(|member| match member.weight {
            None => ready(member),
            Some(weight) if ready(member) > 0.0 => f64::from(weight.get()),
            Some(_) => 0.0,
        })
        .collect();
    let stand_in = |count: &dyn Fn(&Member) -> f64| -> Vec<f64> {
        members.iter().map(|member| if member.promised_zero { 0.0 } else { count(member) }).collect()
    };
    let tiers = [weighted, stand_in(&ready), stand_in(&stopping)];
    let Some((parts, total)) = tiers
        .into_iter()
        .map(|parts| (parts.iter().sum::<f64>(), parts))
        .find_map(|(total, parts)| (total > 0.0).then_some((parts, total)))
    else {
        return;
    };
    for (member, part) in members.iter_mut().zip(parts) {
        member.share = part / total;
    }
}

/// Changes with the split only: not with a reload that leaves it as it is, nor with the instances.
fn etag(effective: Option<&Effective>) -> Arc<str> {
    let Some(Effective { info, weights }) = effective else { return "\"none\"".into() };
    let mut text = info.layer.as_str().to_owned();
    if info.layer == Layer::Api {
        // Writing to a String cannot fail.
        let _ = write!(text, " {} {:?}", info.at, info.expires_at);
    }
    for (backend, weight) in weights {
        let _ = write!(text, " {backend}={weight}");
    }
    format!("\"{:016x}\"", fnv1a(text.as_bytes())).into()
}

/// FNV-1a, 64 bits: the same in every build and on every node, which std's hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn not_in_split(route: &RouteId, backend: &BackendId, layer: Layer) -> Problem {
    let (text, remedy) = (
        format!(
            "{backend} serves {route} but its split ({}) does not name it: it gets no requests while others can serve",
            layer.as_str()
        ),
        "give it a weight, or remove the split: `fairway split ROUTE --clear`",
    );
    Problem::new("backend-not-in-split", Severity::Warning, backend.to_string(), text, remedy)
        .at("", route.to_string())
}

fn unresolved(route: &RouteId, reference: &str, error: &NotOneBackend) -> Problem {
    let remedy = "start it, or correct the name in [[split]] weights; its weight waits for it";
    Problem::new("split-unknown-backend", Severity::Warning, route.to_string(), error.to_string(), remedy)
        .at("split.weights", reference)
}
