//! Why a request goes where it goes: every step of the decision in words, and why not the others.
//!
//! Reads the same table and asks the same code as a request does, but chooses nothing and counts nothing: it tells the
//! shares rather than one draw. Not here: its shape (see [`view`]), how it looks on a terminal (see [`text`]), the API around it
//! (that is `admin`'s).

mod binding;
mod instances;
pub(crate) mod live;
mod routes;
#[cfg(test)]
mod tests;
pub mod text;
mod view;

use std::time::Instant;

use fairway_config::labels::{Balance, SplitBy};

use crate::features::redirect::Asked;
use crate::h1::target::check_path;
use crate::pick::client::{show_key, show_rule};
use crate::pick::lots::Tier;
use crate::pick::{Foresight, Why};
use crate::reason::Reason;
use crate::request::RequestView;
use crate::table::{Find, RouteEntry, RouteTable, Version};
pub use binding::{CookieView, RetryView};
pub use instances::{FailureView, InstanceView};
pub use routes::RouteCandidate;
pub use text::explain_text;
pub use view::{
    Explanation, LimitsView, MirrorView, OtherRule, RequestSeen, RouteView, RuleView, SplitView, VersionView,
};

/// Explains what would become of this request.
pub fn explain(table: &RouteTable, request: &RequestView<'_>) -> Explanation {
    let unreadable = check_path(request.path.as_bytes()).err();
    let (entry, refusal) = match table.find(request) {
        _ if let Some((reason, _)) = unreadable => (None, Some(reason)),
        Find::Route(entry) => (Some(entry), None),
        Find::RedirectToHttps(entry) => (Some(entry), Some(Reason::RedirectToHttps)),
        Find::Disguised(entry) => (Some(entry), Some(Reason::PathInvalid)),
        Find::Unknown => (None, Some(Reason::NoRoute)),
        Find::NotSettled => (None, Some(Reason::NotSettled)),
    };
    let route = entry.map(|entry| route_view(table, entry, request, Instant::now()));
    let guarded = entry.and_then(|entry| guarded(entry, request));
    let refusal = refusal.or(guarded.as_ref().map(|(reason, _)| *reason));
    let refusal = refusal.or_else(|| refusal_of(route.as_ref()?));
    let told = guarded.filter(|(reason, _)| refusal == Some(*reason)).map(|(_, told)| told);
    let told = unreadable.map(|(_, why)| format!("400: {why}")).or(told);
    Explanation {
        request: seen(request),
        verdict: told.unwrap_or_else(|| verdict(table, request, route.as_ref(), refusal)),
        reason: refusal.map(|reason| reason.as_str().to_owned()),
        status: refusal.and_then(|reason| status(reason, entry.map(|entry| &**entry))),
        candidates: routes::candidates(table, request, entry.map(|entry| &**entry)),
        route,
        revision: table.revision,
    }
}

fn seen(request: &RequestView<'_>) -> RequestSeen {
    RequestSeen {
        method: request.method.to_owned(),
        host: request.host.to_owned(),
        path: request.path.to_owned(),
        client: request.client.to_string(),
        internal: request.internal,
        secure: request.secure,
    }
}

/// What the features of the route answer before any instance is asked, and how that is told. Passwords are not checked.
fn guarded(entry: &RouteEntry, request: &RequestView<'_>) -> Option<(Reason, String)> {
    let features = entry.features.as_ref()?;
    if features.allow.as_ref().is_some_and(|list| !list.contains(request.client)) {
        let told = format!("403: {} is not among the clients of fairway.allow", request.client);
        return Some((Reason::ClientRefused, told));
    }
    if features.auth.is_some() && request.fields.get("authorization").is_none() {
        let told = "401: the route asks for a user and a password (fairway.auth.basic), and there is none";
        return Some((Reason::Unauthorized, told.to_owned()));
    }
    let redirect = features.redirect.as_ref()?;
    let RequestView { secure, host, path, query, .. } = *request;
    let location = redirect.location(&Asked { secure, host, port: None, path, query })?;
    Some((Reason::Redirected, format!("{} to {location}: fairway.redirect", redirect.status)))
}

fn status(reason: Reason, entry: Option<&RouteEntry>) -> Option<u16> {
    let redirect = entry.and_then(|entry| entry.features.as_ref()?.redirect.as_ref());
    match (reason, redirect) {
        (Reason::Redirected, Some(redirect)) => Some(redirect.status),
        _ => reason.status(),
    }
}

/// No version: none is ready. A version without an instance: all of them are full.
fn refusal_of(route: &RouteView) -> Option<Reason> {
    match (&route.why, &route.instance) {
        (None, _) => Some(Reason::NoReadyInstance),
        (Some(_), None) => Some(Reason::InstancesFull),
        (Some(_), Some(_)) => None,
    }
}

fn verdict(
    table: &RouteTable,
    request: &RequestView<'_>,
    route: Option<&RouteView>,
    refusal: Option<Reason>,
) -> String {
    let hidden = !request.internal && table.is_internal_name(request.host);
    match (refusal, route) {
        (Some(Reason::NoRoute), _) if hidden => {
            format!("404: {} is for internal clients only, and {} is not one", request.host, request.client)
        }
        (Some(Reason::NoRoute), _) => format!("404: no route covers {}{}", request.host, request.path),
        (Some(Reason::NotSettled), _) => {
            "503: no route covers it yet, and not every source has been listed since the start".to_owned()
        }
        (Some(Reason::RedirectToHttps), Some(route)) => {
            format!("308 to https: every claim of {} says https, and this connection is plain", route.id)
        }
        (Some(Reason::PathInvalid), _) => {
            "400: a server could read the path as that of another route, which has a guard".to_owned()
        }
        (Some(Reason::NoReadyInstance), Some(route)) => {
            format!("held up to 5 s for an instance of {}, then 503: none can serve now", route.id)
        }
        (Some(reason), _) => format!("{}: {}", reason.status().unwrap_or(500), reason.title()),
        (None, Some(route @ RouteView { instance: Some(instance), .. })) => would_serve(route, instance),
        (None, _) => "an instance would serve it".to_owned(),
    }
}

/// Where a draw decides, the likeliest is no promise.
fn would_serve(route: &RouteView, instance: &str) -> String {
    let is_it =
        |version: &&VersionView| version.chance > 0.0 && version.would_serve.as_deref() == Some(instance);
    match route.versions.iter().filter(is_it).find(|version| version.chance < 1.0) {
        Some(VersionView { backend, chance, .. }) => {
            format!("{instance} would serve it now, if {backend} is drawn: {}", text::Percent(*chance))
        }
        None => format!("{instance} would serve it now"),
    }
}

fn route_view(table: &RouteTable, entry: &RouteEntry, request: &RequestView<'_>, now: Instant) -> RouteView {
    let foresight = entry.foresee(request, now);
    let said = entry.cookie_says(request);
    let bound = said.as_ref().and_then(|said| said.bound.as_ref());
    let kept = bound.and_then(|bound| entry.kept_version(bound)).filter(|_| foresight.rule.is_none());
    let certain = foresight.rule.map(|(version, _)| version).or(kept).or(foresight.bound);
    let chances: Vec<f64> = match certain {
        Some(certain) => {
            entry.versions().iter().map(|v| f64::from(u8::from(v.name == certain.name))).collect()
        }
        None => foresight.shares.clone(),
    };
    // The first of equals.
    let likeliest = (0..chances.len()).rev().max_by(|a, b| chances[*a].total_cmp(&chances[*b]));
    let likeliest = likeliest.filter(|version| chances[*version] > 0.0);
    let kept_instance = |version: &Version| {
        bound
            .filter(|bound| *bound.backend == *version.name)
            .and_then(|bound| entry.kept_instance(bound, request, now))
    };
    let would_serve = |version: usize| {
        let kept = entry.versions().get(version).and_then(|version| kept_instance(version));
        kept.or_else(|| foresight.instances.get(version).copied().flatten())
    };
    let first = likeliest.and_then(|version| Some((entry.versions().get(version)?, would_serve(version)?)));
    let retry = first.map(|(version, endpoint)| {
        let next = entry.foresee_retry((version, endpoint), bound, request, now);
        binding::retry(entry, version, next.map(|(version, endpoint)| (&*version.name, &**endpoint)))
    });
    let view = |number: usize| instances::Asked {
        suffix: &table.settings.domain_suffix,
        would_serve: would_serve(number),
        drawn: chances[number] > 0.0,
        bound,
    };
    let versions = entry.versions().iter().enumerate().map(|(number, version)| VersionView {
        backend: version.name.to_string(),
        weight: version.weight.map(|weight| weight.get()),
        chance: chances[number],
        why: match kept {
            Some(kept) => why_kept(kept, version),
            None => why_version(entry, version, &foresight, chances[number]),
        },
        balance: show_balance(version.balance()),
        queued: entry.queue.waiting_for(&version.name),
        would_serve: would_serve(number).map(|endpoint| endpoint.key.id.to_string()),
        instances: instances::of(entry, version, &view(number), now),
    });
    RouteView {
        id: entry.name.to_string(),
        split: entry.route.split.as_ref().map(SplitView::from),
        split_by: show_split_by(&entry.route.split_by),
        mirror: entry.route.mirror.as_deref().map(MirrorView::from),
        limits: entry.route.limits.as_deref().map(LimitsView::from),
        features: entry.features.as_ref().map(|features| features.lines()).unwrap_or_default(),
        rule: foresight
            .rule
            .map(|(version, rule)| RuleView { backend: version.name.to_string(), rule: show_rule(rule) }),
        other_rules: binding::other_rules(entry, &foresight, request),
        sticky: entry.sticky.is_some(),
        cookie: said.as_ref().map(|said| binding::cookie(entry, said)),
        draw: binding::draw(entry, &foresight, kept.map(|kept| &**kept), request),
        queued: entry.queue.len(),
        retry,
        why: likeliest
            .map(|_| if kept.is_some() { Why::Sticky } else { why(entry, &foresight) })
            .map(|why| why.as_str().to_owned()),
        instance: likeliest.and_then(would_serve).map(|endpoint| endpoint.key.id.to_string()),
        versions: versions.collect(),
    }
}

fn why(entry: &RouteEntry, foresight: &Foresight<'_>) -> Why {
    match foresight.tier {
        _ if foresight.rule.is_some() => Why::Rule,
        Tier::StandIn => Why::StandIn,
        Tier::Stopping => Why::Stopping,
        Tier::Weighted if foresight.bound.is_some() => Why::Client,
        Tier::Weighted if entry.route.split.is_none() => Why::Equal,
        Tier::Weighted => Why::Split,
    }
}

fn why_kept(kept: &Version, version: &Version) -> String {
    match kept.name == version.name {
        true => "the cookie binds the client to it, which is above the split".to_owned(),
        false => match version.weight {
            Some(weight) => format!("weight {weight}, but the cookie binds the client to {}", kept.name),
            None => format!("the cookie binds the client to {}", kept.name),
        },
    }
}

fn why_version(entry: &RouteEntry, version: &Version, foresight: &Foresight<'_>, chance: f64) -> String {
    let ready = version.ready();
    if let Some((chosen, rule)) = foresight.rule {
        let rule = show_rule(rule);
        return match chosen.name == version.name {
            true => format!("its rule {rule} fits, which is above the split"),
            false => format!("the rule {rule} of {} fits", chosen.name),
        };
    }
    match (foresight.tier, version.weight) {
        (Tier::Weighted, Some(weight)) if weight.get() > 0 && ready == 0 => {
            format!("weight {weight}, but no instance can serve: the others share its part")
        }
        (Tier::Weighted, None) if ready == 0 => "no instance can serve".to_owned(),
        (Tier::Weighted, _) if chance > 0.0 && foresight.bound.is_some() => {
            format!(
                "the split is bound to {}, and this client falls to it",
                show_split_by(&entry.route.split_by)
            )
        }
        (Tier::Weighted, Some(weight)) if weight.get() > 0 && foresight.bound.is_some() => {
            format!("weight {weight}, but this client falls to another version")
        }
        (Tier::Weighted, Some(weight)) if weight.get() > 0 => format!("weight {weight}"),
        (Tier::Weighted, None) => {
            format!("no split: {ready} of the route's ready instances, each with an equal share")
        }
        (_, Some(weight)) if version.promised_zero => {
            format!("weight {weight} in writing: no new client, ever")
        }
        (Tier::Weighted, Some(_)) => "weight 0: it stands in only when no other version can serve".to_owned(),
        (Tier::StandIn, _) if chance > 0.0 => {
            "weight 0, but it stands in: no version with a weight above 0 can serve".to_owned()
        }
        (Tier::Stopping, _) if chance > 0.0 => {
            "no instance of the route is ready: its stopping ones serve as long as they accept connections"
                .to_owned()
        }
        (Tier::StandIn | Tier::Stopping, _) => "no instance can serve".to_owned(),
    }
}

fn show_balance(balance: &Balance) -> String {
    match balance {
        Balance::P2cEwma => "p2c-ewma".to_owned(),
        Balance::RoundRobin => "round-robin".to_owned(),
        Balance::LeastRequest => "least-request".to_owned(),
        Balance::Random => "random".to_owned(),
        Balance::Hash(key) => format!("hash:{}", show_key(key, "ip")),
    }
}

fn show_split_by(split_by: &SplitBy) -> String {
    match split_by {
        SplitBy::Request => "request".to_owned(),
        SplitBy::Client(key) => show_key(key, "client-ip"),
    }
}
