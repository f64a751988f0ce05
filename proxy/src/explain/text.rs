//! An explanation for a terminal: what comes of the request first, then how, then why not the others.

use std::fmt::{self, Write};

use super::{
    CookieView, Explanation, FailureView, InstanceView, LimitsView, MirrorView, OtherRule, RouteView,
    VersionView,
};

/// The explanation in lines of plain text.
pub fn explain_text(explanation: &Explanation) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, explanation);
    text
}

fn write(out: &mut String, explanation: &Explanation) -> fmt::Result {
    let Explanation { request, verdict, candidates, route, revision, .. } = explanation;
    let client = if request.internal { "internal" } else { "external" };
    let scheme = if request.secure { "https" } else { "http" };
    writeln!(out, "{} {scheme}://{}{}", request.method, request.host, request.path)?;
    writeln!(out, "  from {} ({client}), revision {revision}", request.client)?;
    writeln!(out, "=> {verdict}")?;
    writeln!(out, "\nRoutes")?;
    if candidates.is_empty() {
        writeln!(out, "  none has this host")?;
    }
    for candidate in candidates {
        writeln!(out, "{} {}: {}", mark(candidate.chosen), candidate.route, candidate.why)?;
    }
    route.as_ref().map_or(Ok(()), |route| write_route(out, route))
}

fn write_route(out: &mut String, route: &RouteView) -> fmt::Result {
    if !route.features.is_empty() {
        writeln!(out, "\nWhat the route does besides")?;
        route.features.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    }
    if let Some(LimitsView { set, author, at, expires_at, reason }) = &route.limits {
        write!(out, "\nLimits above those of labels\n  {set}\n  from the api layer, by {author} at {at}")?;
        if let Some(end) = expires_at {
            write!(out, ", until {end}")?;
        }
        writeln!(out, "{}", if reason.is_empty() { String::new() } else { format!(" ({reason})") })?;
    }
    writeln!(out, "\nWeights of {}", route.id)?;
    match &route.split {
        None => writeln!(out, "  no split: every ready instance gets an equal share")?,
        Some(split) => {
            write!(out, "  from the {} layer, by {} at {}", split.layer, split.author, split.at)?;
            if let Some(end) = split.expires_at {
                write!(out, ", until {end}")?;
            }
            if !split.reason.is_empty() {
                write!(out, " ({})", split.reason)?;
            }
            writeln!(out)?;
        }
    }
    writeln!(out, "  the version is drawn by {}", route.split_by)?;
    if let Some(MirrorView { to, percent, author, at, .. }) = &route.mirror {
        writeln!(out, "  {percent} % of the requests are copied to {to}, ordered by {author} at {at}")?;
    }
    if !route.draw.is_empty() {
        writeln!(out, "  {}", route.draw)?;
    }
    if let Some(cookie) = &route.cookie {
        write_cookie(out, cookie)?;
    }
    if let Some(rule) = &route.rule {
        writeln!(out, "  rule {} leads to {}", rule.rule, rule.backend)?;
    }
    for OtherRule { backend, rule, why, .. } in &route.other_rules {
        writeln!(out, "  rule {rule} of {backend}: {why}")?;
    }
    if route.queued > 0 {
        writeln!(out, "  waiting for a place at its instances: {}", route.queued)?;
    }
    route.versions.iter().try_for_each(|version| write_version(out, version))?;
    match &route.retry {
        Some(retry) => writeln!(out, "\nAfter a failure\n  {}", retry.text),
        None => Ok(()),
    }
}

fn write_cookie(out: &mut String, cookie: &CookieView) -> fmt::Result {
    let CookieView { state, backend, instance, since, text } = cookie;
    match (backend, instance) {
        (Some(backend), Some(instance)) => {
            write!(out, "  the cookie binds the client to {backend}, {instance}")?;
            if let Some(since) = since {
                write!(out, ", since {since}")?;
            }
        }
        _ => write!(out, "  the route is sticky; the cookie: {state}")?,
    }
    writeln!(out, ": {text}")
}

fn write_version(out: &mut String, version: &VersionView) -> fmt::Result {
    let VersionView { backend, chance, why, balance, queued, would_serve, instances, .. } = version;
    writeln!(out, "\n{} {backend}  {}: {why}", mark(*chance > 0.0), Percent(*chance))?;
    let candidates = instances.iter().filter(|instance| instance.candidate).count();
    write!(out, "    {balance} among {candidates} of {}", instances.len())?;
    match queued {
        0 => writeln!(out)?,
        queued => writeln!(out, ", {queued} waiting for it alone")?,
    }
    for instance in instances {
        let first = *chance > 0.0 && would_serve.as_ref() == Some(&instance.id);
        write_instance(out, instance, first)?;
    }
    Ok(())
}

fn write_instance(out: &mut String, instance: &InstanceView, first: bool) -> fmt::Result {
    let InstanceView {
        id,
        name,
        address,
        address_reason,
        label,
        state,
        condition,
        in_flight,
        latency_ms,
        last_failure,
        why,
        ..
    } = instance;
    let address = address.as_deref().unwrap_or("no address");
    write!(out, "  {} {id}  {name}  {address} ({address_reason})", mark(first))?;
    if let Some(label) = label {
        write!(out, "\n      by {label}")?;
    }
    write!(out, "\n      {state}, {condition}, {in_flight} in flight")?;
    if let Some(latency) = latency_ms {
        write!(out, ", {latency:.1} ms")?;
    }
    writeln!(out, ": {why}")?;
    if let Some(FailureView { at, reason, detail }) = last_failure {
        writeln!(out, "      failed last at {at:.0}: {reason}, {detail}")?;
    }
    Ok(())
}

fn mark(chosen: bool) -> char {
    if chosen { '*' } else { ' ' }
}

/// A share without digits that say nothing: `90 %`, `0.1 %`, `33.33 %`.
pub(super) struct Percent(pub(super) f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0 * 100.0);
        write!(f, "{} %", text.trim_end_matches('0').trim_end_matches('.'))
    }
}
