//! The tables of `routes`, `backends`, `instances` and `problems`: pure, from the API's answers to text.

use std::time::Duration;

use fairway_admin::types::{Backend, Instance, Ordered, ProblemItem, Route};
use jiff::Timestamp;

use super::table::{Table, printable};

/// A line for each backend of each route, `copies 10 %` behind the split of one that gets copies; the route's name in all of them, so that `grep` finds whole facts.
pub(crate) fn routes(routes: &[Route]) -> String {
    let mut table = Table::new(&["ROUTE", "BACKEND", "WEIGHT", "SHARE", "READY", "STATE", "SPLIT"]);
    for route in routes {
        let split = split_of(route);
        if route.backends.is_empty() {
            let none = String::new;
            table.row([
                route.id.clone(),
                "none left".into(),
                none(),
                none(),
                "0".into(),
                none(),
                split.clone(),
            ]);
        }
        for member in &route.backends {
            table.row([
                route.id.clone(),
                member.id.clone(),
                member.weight.map_or_else(String::new, |weight| weight.to_string()),
                percent(member.share),
                ready(member.ready, member.desired),
                member.state.to_string(),
                split.clone() + &copies_to(route, &member.id),
            ]);
        }
    }
    shown(&table, "no routes: no container with a routing label runs, and no static service claims one")
}

/// What a backend gets of the route's requests besides its share.
fn copies_to(route: &Route, backend: &str) -> String {
    let mirror = route.mirror.as_ref().filter(|mirror| mirror.to == backend);
    mirror.map_or_else(String::new, |mirror| format!(", copies {} %", mirror.percent))
}

/// Where a route's weights come from.
fn split_of(route: &Route) -> String {
    match &route.split {
        None => "equal".into(),
        Some(split) => match split.expires_at {
            None => split.layer.to_string(),
            Some(end) => format!("{} until {end:.0}", split.layer),
        },
    }
}

/// One route, with everything that is known about its split.
pub(crate) fn one_route(route: &Route) -> String {
    let mut text = routes(std::slice::from_ref(route));
    if let Some(split) = &route.split {
        let author = if split.author.is_empty() { "somebody" } else { &split.author };
        text.push_str(&format!("set by {} ({}) at {:.0}", printable(author), split.layer, split.at));
        if !split.reason.is_empty() {
            text.push_str(&format!(": {}", printable(&split.reason)));
        }
        text.push('\n');
    }
    text.push_str(&mirror_of(route));
    text
}

/// Where copies of a route's requests go, a line if there are any.
fn mirror_of(route: &Route) -> String {
    let Some(mirror) = &route.mirror else { return String::new() };
    let (to, author) = (printable(&mirror.to), printable(&mirror.author));
    let mut text = format!("{} % copied to {to}, ordered by {author} at {:.0}", mirror.percent, mirror.at);
    if !mirror.reason.is_empty() {
        text.push_str(&format!(": {}", printable(&mirror.reason)));
    }
    text + "\n"
}

pub(crate) fn backends(backends: &[Backend]) -> String {
    let mut table = Table::new(&["BACKEND", "READY", "STATE", "REASON", "ROUTES"]);
    for backend in backends {
        table.row([
            backend.id.clone(),
            ready(backend.ready, backend.desired),
            backend.state.to_string(),
            backend.ordered.as_ref().map(|ordered| ordered.reason.clone()).unwrap_or_default(),
            backend.routes.join(", "),
        ]);
    }
    shown(&table, "no backends")
}

pub(crate) fn instances(instances: &[Instance], now: Timestamp) -> String {
    let mut table =
        Table::new(&["INSTANCE", "NAME", "BACKEND", "ADDRESS", "STATE", "CONDITION", "SINCE", "REASON"]);
    for instance in instances {
        table.row([
            instance.id.clone(),
            instance.name.clone(),
            instance.backend.clone(),
            instance.address.clone().unwrap_or_default(),
            instance.state.to_string(),
            instance.condition.to_string(),
            age(instance.since, now),
            match &instance.ordered {
                Some(by) => format!("{} by {}", instance.state, set_by(by)),
                None => instance.reason.clone(),
            },
        ]);
    }
    shown(&table, "no instances")
}

fn set_by(by: &Ordered) -> String {
    if by.reason.is_empty() { by.author.clone() } else { format!("{}: {}", by.author, by.reason) }
}

/// Each problem as a paragraph: what it is, what it is about, what to do.
pub(crate) fn problems(problems: &[ProblemItem]) -> String {
    if problems.is_empty() {
        return "no problems\n".into();
    }
    let paragraphs: Vec<String> = problems.iter().map(paragraph).collect();
    paragraphs.join("\n")
}

fn paragraph(problem: &ProblemItem) -> String {
    let ProblemItem { kind, severity, subject, key, value, text, remedy, since: _ } = problem;
    let mut lines = vec![format!("{severity}: {kind}: {subject}")];
    match (key.as_str(), value.as_str()) {
        ("", "") => {}
        ("", value) => lines.push(format!("  {value}")),
        (key, "") => lines.push(format!("  {key}")),
        (key, value) => lines.push(format!("  {key}: {value}")),
    }
    lines.push(format!("  {text}"));
    if !remedy.is_empty() {
        lines.push(format!("  -> {remedy}"));
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}

fn shown(table: &Table, when_empty: &str) -> String {
    if table.is_empty() { format!("{when_empty}\n") } else { table.print() }
}

/// `1 of 3`, or `1` when nobody said how many are wanted.
fn ready(ready: usize, desired: Option<u32>) -> String {
    desired.map_or_else(|| ready.to_string(), |desired| format!("{ready} of {desired}"))
}

/// A share of 0 to 1: `50%`, `33.3%`; something is never shown as nothing, nor less than everything as everything.
pub(crate) fn percent(share: f64) -> String {
    let tenths = (share * 1000.0).round();
    if share > 0.0 && tenths < 1.0 {
        return "<0.1%".into();
    }
    if share < 1.0 && tenths >= 1000.0 {
        return ">99.9%".into();
    }
    if tenths % 10.0 == 0.0 { format!("{:.0}%", tenths / 10.0) } else { format!("{:.1}%", tenths / 10.0) }
}

/// How long ago, in its largest unit: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = Duration::try_from(now.duration_since(since)).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("as the API answers")
    }

    #[test]
    fn routes_show_weights_shares_and_where_they_come_from() {
        let list: Vec<Route> = read(json!([
            {"id": "shop.a.com/", "host": "shop.a.com", "path": "/", "scheme": "http", "etag": "\"1\"", "project": "shop",
             "sticky": false, "split_by": "request", "ends_at": null, "split": {"layer": "api", "author": "token", "at": "2026-11-21T10:00:00Z",
                "expires_at": "2026-11-21T12:00:00.5Z", "reason": "first users"},
             "backends": [
                {"id": "shop/web@v1", "weight": 95, "share": 0.95, "ready": 2, "desired": 3, "state": "active"},
                {"id": "shop/web@v2", "weight": 5, "share": 0.05, "ready": 1, "desired": null, "state": "draining"}]},
            {"id": "old.a.com/", "host": "old.a.com", "path": "/", "scheme": "http", "etag": "\"2\"", "project": null,
             "sticky": false, "split_by": "request", "ends_at": null, "split": null, "backends": []},
        ]));
        assert_eq!(
            routes(&list),
            "ROUTE        BACKEND      WEIGHT  SHARE  READY   STATE     SPLIT\n\
             shop.a.com/  shop/web@v1  95      95%    2 of 3  active    api until 2026-11-21T12:00:00Z\n\
             shop.a.com/  shop/web@v2  5       5%     1       draining  api until 2026-11-21T12:00:00Z\n\
             old.a.com/   none left    -       -      0       -         equal\n"
        );
        let text = one_route(&list[0]);
        assert!(text.ends_with("set by token (api) at 2026-11-21T10:00:00Z: first users\n"), "{text}");
        assert!(routes(&[]).starts_with("no routes"));
    }

    #[test]
    fn instances_show_both_fields_and_why() {
        let list: Vec<Instance> = read(json!([
            {"id": "0123456789ab:80", "name": "web-1", "container": "0123456789abcdef", "backend": "web@v1",
             "address": "172.17.0.2:80", "address_reason": "", "node": "n", "zone": "", "in_flight": 0,
             "started_at": "2026-11-21T09:00:00Z", "state": "active", "condition": "unhealthy", "since": "2026-11-21T09:59:00Z",
             "reason": "GET /\u{1b}[2J answered 500"},
            {"id": "ba9876543210:80", "name": "web-2", "container": "ba9876543210", "backend": "web@v2", "address": null,
             "address_reason": "", "node": "n", "zone": "", "in_flight": 0, "started_at": "2026-11-19T09:00:00Z",
             "state": "active", "condition": "pending", "since": "2026-11-19T09:00:00Z", "reason": ""},
            {"id": "cccccccccccc:80", "name": "web-3", "container": "cccccccccccc", "backend": "web@v2",
             "address": "172.17.0.4:80", "address_reason": "", "node": "n", "zone": "", "in_flight": 0,
             "started_at": "2026-11-19T09:00:00Z", "state": "disabled", "condition": "ready", "since": "2026-11-19T09:00:00Z",
             "ordered": {"author": "release", "at": "2026-11-21T09:00:00Z", "reason": "rolled_back"}, "reason": "GET / answered 200"},
        ]));
        let now = "2026-11-21T10:00:00Z".parse().expect("a constant");
        assert_eq!(
            instances(&list, now),
            "INSTANCE         NAME   BACKEND  ADDRESS        STATE     CONDITION  SINCE  REASON\n\
             0123456789ab:80  web-1  web@v1   172.17.0.2:80  active    unhealthy  1m     GET /\\u{1b}[2J answered 500\n\
             ba9876543210:80  web-2  web@v2   -              active    pending    2d     -\n\
             cccccccccccc:80  web-3  web@v2   172.17.0.4:80  disabled  ready      2d     disabled by release: rolled_back\n"
        );
    }

    #[test]
    fn backends_show_how_many_are_ready_and_why_one_is_out() {
        let list: Vec<Backend> = read(
            json!([{"id": "web@v1", "project": null, "service": "web", "version": "v1",
            "routes": ["a.com/", "b.com/x"], "ready": 1, "desired": 3, "state": "active", "ordered": null,
            "instances": 2, "in_flight": 0}, {"id": "web@v2", "project": null, "service": "web", "version": "v2",
            "routes": ["a.com/"], "ready": 0, "desired": null, "state": "disabled", "instances": 1, "in_flight": 0,
            "ordered": {"author": "release", "at": "2026-11-21T10:00:00Z", "reason": "rolled_back"}}]),
        );
        let want = "BACKEND  READY   STATE     REASON       ROUTES\n\
                    web@v1   1 of 3  active    -            a.com/, b.com/x\n\
                    web@v2   0       disabled  rolled_back  a.com/\n";
        assert_eq!(backends(&list), want);
    }

    #[test]
    fn problems_are_paragraphs_with_their_remedy() {
        let list: Vec<ProblemItem> = read(json!([
            {"type": "label-port-in-host", "severity": "error", "subject": "web-1", "key": "aliyun.routing.port_80",
             "value": "a.com:8080", "text": "a host has no port", "remedy": "write the port into the key",
             "since": "2026-11-21T10:00:00Z"},
            {"type": "source-unreachable", "severity": "error", "subject": "unix:///x", "key": "", "value": "",
             "text": "it is gone", "remedy": "", "since": "2026-11-21T10:00:00Z"},
        ]));
        assert_eq!(
            problems(&list),
            "error: label-port-in-host: web-1\n  aliyun.routing.port_80: a.com:8080\n  a host has no port\n  \
             -> write the port into the key\n\nerror: source-unreachable: unix:///x\n  it is gone\n"
        );
        assert_eq!(problems(&[]), "no problems\n");
    }

    #[test]
    fn a_share_is_never_rounded_to_all_or_nothing() {
        for (share, text) in [
            (0.0, "0%"),
            (0.0001, "<0.1%"),
            (0.001, "0.1%"),
            (0.05, "5%"),
            (1.0 / 3.0, "33.3%"),
            (0.9999, ">99.9%"),
            (1.0, "100%"),
        ] {
            assert_eq!(percent(share), text);
        }
    }
}
