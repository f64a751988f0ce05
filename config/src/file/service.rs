//! `[[service]]` and `[[split]]`.
//!
//! The keys of a service that say the same as a label are read by the code that reads labels, under the label's
//! key; what it finds wrong is told at the key of the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cursor::{Cx, Node, Table, Wrong};
use super::sections::path;
use super::{FileSplit, SplitRoute, StaticInstance, StaticService, address};
use crate::labels::features::is_secret;
use crate::labels::{
    self, BalancerClaim, LabelProblem, ProbeCheck, Severity, parse_balancer, parse_entry, parse_name, shown,
};
use crate::names::{RouteEntry, RouteId, Version, Weight};

/// A key, its label, and what separates the parts there.
type List = (&'static str, &'static str, &'static str);

/// Keys of a service, each with the label that says the same.
const AS_LABELS: [(&str, &str); 31] = [
    ("name", "fairway.service"),
    ("project", "fairway.project"),
    ("version", "fairway.version"),
    ("weight", "fairway.weight"),
    ("enable", "fairway.enable"),
    ("zone", "fairway.zone"),
    ("dns", "fairway.dns"),
    ("protocol", "fairway.protocol"),
    ("proxy_protocol", "fairway.proxy_protocol"),
    ("balance", "fairway.balance"),
    ("retries", "fairway.retries"),
    ("in_flight_max", "fairway.in_flight_max"),
    ("outlier", "fairway.outlier"),
    ("drain", "fairway.drain"),
    ("split_by", "fairway.split_by"),
    ("hedge", "fairway.hedge"),
    ("rate_limit.client", "fairway.rate_limit.client"),
    ("redirect", "fairway.redirect"),
    ("strip_prefix", "fairway.strip_prefix"),
    ("add_prefix", "fairway.add_prefix"),
    ("auth.realm", "fairway.auth.realm"),
    ("auth.forward", "fairway.auth.forward"),
    ("tls.server_name", "fairway.tls.server_name"),
    ("tls.verify", "fairway.tls.verify"),
    ("body_max", "fairway.body_max"),
    ("timeout.connect", "fairway.timeout.connect"),
    ("timeout.first_byte", "fairway.timeout.first_byte"),
    ("timeout.idle", "fairway.timeout.idle"),
    ("timeout.total", "fairway.timeout.total"),
    ("scale", "aliyun.scale"),
    ("session_sticky", "aliyun.routing.session_sticky"),
];
/// Keys whose value may be a list, with the label and what separates its parts there.
const AS_LISTS: [List; 8] = [
    ("match", "fairway.match", ";"),
    ("depends", "aliyun.depends", ","),
    ("allow", "fairway.allow", ","),
    ("compress", "fairway.compress", ","),
    ("tls.passthrough", "fairway.tls.passthrough", ";"),
    ("auth.basic", "fairway.auth.basic", "\n"),
    ("headers.request", "fairway.headers.request", ";"),
    ("headers.response", "fairway.headers.response", ";"),
];
/// Keys of the table `headers`.
const HEADERS: [List; 2] =
    [("request", "fairway.headers.request", ";"), ("response", "fairway.headers.response", ";")];
/// Keys of the table `auth`, beside `basic_file`.
const AUTH: [(&str, &str); 2] = [("realm", "fairway.auth.realm"), ("forward", "fairway.auth.forward")];
/// The key of the table `auth` that may be a list.
const AUTH_BASIC: List = ("basic", "fairway.auth.basic", "\n");
/// Keys of the table `probe`.
const PROBE: [(&str, &str); 4] = [
    ("url", "aliyun.probe.url"),
    ("cmd", "aliyun.probe.cmd"),
    ("timeout_seconds", "aliyun.probe.timeout_seconds"),
    ("initial_delay_seconds", "aliyun.probe.initial_delay_seconds"),
];
/// The key of the table `tls` that may be a list.
const TLS_PASSTHROUGH: List = ("passthrough", "fairway.tls.passthrough", ";");
/// The others.
const TLS: [(&str, &str); 2] = [("server_name", "fairway.tls.server_name"), ("verify", "fairway.tls.verify")];
/// Keys of the table `rate_limit`.
const RATE_LIMIT: [(&str, &str); 2] =
    [("route", "fairway.rate_limit"), ("client", "fairway.rate_limit.client")];
/// Keys of the table `timeout`.
const TIMEOUT: [(&str, &str); 4] = [
    ("connect", "fairway.timeout.connect"),
    ("first_byte", "fairway.timeout.first_byte"),
    ("idle", "fairway.timeout.idle"),
    ("total", "fairway.timeout.total"),
];

/// Values that labels would hold, each with its place in the file.
#[derive(Default)]
struct Labels<'a>(BTreeMap<&'static str, (String, Node<'a>)>);

impl<'a> Labels<'a> {
    fn take(&mut self, table: &mut Table<'a>, keys: &[(&'static str, &'static str)]) {
        for (key, label) in keys {
            if let Some(node) = table.get(key)
                && let Some(value) = node.scalar()
            {
                self.add(label, value, node);
            }
        }
    }

    fn add(&mut self, label: &'static str, value: String, node: Node<'a>) {
        if self.0.contains_key(label) {
            node.error(Wrong::new("the key is written twice, in two ways", "leave one of them out"));
            return;
        }
        self.0.insert(label, (value, node));
    }

    fn take_section(
        &mut self,
        table: &mut Table<'a>,
        name: &'static str,
        keys: &[(&'static str, &'static str)],
    ) {
        if let Some(mut section) = table.section(name) {
            self.take(&mut section, keys);
            section.finish();
        }
    }

    fn take_list(&mut self, table: &mut Table<'a>, (key, label, separator): List) {
        let Some(node) = table.get(key) else { return };
        let value = match node.is_array() {
            true => node
                .array()
                .map(|items| items.iter().filter_map(Node::scalar).collect::<Vec<_>>().join(separator)),
            false => node.scalar(),
        };
        if let Some(value) = value {
            self.add(label, value, node);
        }
    }

    /// What they say; users come from a file, too, if `awaits_users`.
    fn parse(&self, awaits_users: bool) -> labels::ServiceSpec {
        let basic = "fairway.auth.basic";
        // A comment: the realm has somebody to ask, and that nobody is named yet is told nowhere.
        let nobody = (awaits_users && !self.0.contains_key(basic)).then_some((basic, "#"));
        let labels = self.0.iter().map(|(label, (value, _))| (*label, value.as_str())).chain(nobody);
        let labels::ParsedLabels { spec, problems } = labels::parse(labels);
        for LabelProblem { key, severity, text, remedy, .. } in problems {
            let Some((_, node)) = self.0.get(key.as_str()) else { continue };
            match severity {
                Severity::Error if is_secret(&key) => node.error_without_value(Wrong::new(text, remedy)),
                Severity::Error => node.error(Wrong::new(text, remedy)),
                Severity::Warning => node.warning(Wrong::new(text, remedy)),
            }
        }
        spec
    }
}

/// `[[service]]`
pub(super) fn services(cx: &Cx<'_>, root: &mut Table<'_>) -> Vec<StaticService> {
    let mut services: Vec<StaticService> = Vec::new();
    for mut table in root.sections("service") {
        if let Some(service) = service(cx, &mut table) {
            let same = |old: &StaticService| {
                (&old.project, &old.name, &old.version) == (&service.project, &service.name, &service.version)
            };
            if services.iter().any(same) {
                let text = format!(
                    "the service `{}` is there twice with version `{}`",
                    service.name, service.version
                );
                table.error(Wrong::new(
                    text,
                    "put the instances into one entry, or give each its own `version`",
                ));
            }
            services.push(service);
        }
        table.finish();
    }
    services
}

fn service(cx: &Cx<'_>, table: &mut Table<'_>) -> Option<StaticService> {
    let routes = table.get("routes").map(|node| routes(&node)).unwrap_or_default();
    let balancers = table.get("balancers").map(|node| balancers(&node)).unwrap_or_default();
    let written = table.require("instances", "write `instances = [\"10.0.0.7:8080\"]`");
    let mut instances = written.as_ref().map(instances).unwrap_or_default();
    if let Some(node) = &written
        && node.array_len() == Some(0)
    {
        node.error(Wrong::new("the service has no instance", "list at least one, `\"10.0.0.7:8080\"`"));
    }
    if let Some(node) = table.get("network") {
        let text = "a service outside Docker has no Docker network";
        node.error(Wrong::new(text, "leave the key out; `instances` says where the service is"));
    }
    let mut labels = Labels::default();
    labels.take(table, &AS_LABELS);
    for list in AS_LISTS {
        labels.take_list(table, list);
    }
    if let Some(mut section) = table.section("headers") {
        HEADERS.into_iter().for_each(|list| labels.take_list(&mut section, list));
        section.finish();
    }
    let mut auth_file = path(cx, table.get("auth.basic_file"));
    if let Some(mut section) = table.section("auth") {
        labels.take(&mut section, &AUTH);
        labels.take_list(&mut section, AUTH_BASIC);
        auth_file = path(cx, section.get("basic_file")).or(auth_file);
        section.finish();
    }
    if let Some(mut section) = table.section("tls") {
        labels.take(&mut section, &TLS);
        labels.take_list(&mut section, TLS_PASSTHROUGH);
        section.finish();
    }
    // A rate alone, or a table of both.
    match table.get("rate_limit") {
        Some(node) if node.is_table() => labels.take_section(table, "rate_limit", &RATE_LIMIT),
        Some(node) => {
            if let Some(rate) = node.scalar() {
                labels.add("fairway.rate_limit", rate, node);
            }
        }
        None => {}
    }
    labels.take_section(table, "timeout", &TIMEOUT);
    labels.take_section(table, "probe", &PROBE);
    if !labels.0.contains_key("fairway.service") && table.get("name").is_none() {
        table.error(Wrong::new("`name` is missing", "write `name = \"legacy-shop\"`"));
    }
    let spec = labels.parse(auth_file.is_some());
    if let Some(ProbeCheck::Command { .. }) = spec.probe.as_ref().map(|probe| &probe.check)
        && let Some((_, node)) = labels.0.get("aliyun.probe.cmd")
    {
        let text = "a command runs inside a container, and a service outside Docker has none";
        node.warning(Wrong::new(text, "write `url` instead"));
    }
    for instance in &mut instances {
        instance.zone = instance.zone.take().or_else(|| spec.zone.clone());
    }
    let version = spec.version.clone().or_else(|| Version::nearest("static"))?;
    let probe_own_port = labels.0.get("aliyun.probe.url").is_some_and(|(url, _)| !names_port(url));
    Some(StaticService {
        name: spec.service.clone()?,
        project: spec.project.clone(),
        version,
        routes,
        balancers,
        instances,
        spec,
        probe_own_port,
        auth_file,
    })
}

/// Whether the url of a probe has a port after the host.
fn names_port(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains(':'))
}

fn routes(node: &Node<'_>) -> Vec<RouteEntry> {
    let mut routes = Vec::new();
    for item in node.array().unwrap_or_default() {
        let Some(entry) = route(&item, "the port of an instance belongs into `instances`") else { continue };
        match routes.contains(&entry) {
            true => item.warning(Wrong::new(
                format!("the route `{entry}` is written twice"),
                "leave one of them out",
            )),
            false => routes.push(entry),
        }
    }
    routes
}

/// `port` says where a port is written: what a label would be told holds for containers.
fn route(node: &Node<'_>, port: &str) -> Option<RouteEntry> {
    let read = |text: &str| {
        parse_entry(text).map_err(|flaw| match flaw.kind {
            "label-port-in-host" => Wrong::new(flaw.text, format!("write the host without it: {port}")),
            "label-tcp-route" => {
                Wrong::new(flaw.text, "write `balancers = [\"tcp://NAME:FRONT_PORT\"]` in the `[[service]]`")
            }
            _ => flaw.into(),
        })
    };
    let (entry, warnings) = node.parsed(read)?;
    warnings.into_iter().for_each(|flaw| node.warning(flaw.into()));
    Some(entry)
}

/// The name of a route, a front port's too.
fn split_route(node: &Node<'_>) -> Option<SplitRoute> {
    let text = node.string()?;
    match text.parse::<RouteId>().ok().and_then(|route| route.front_port()) {
        Some(port) => Some(SplitRoute::Front(port)),
        None => route(
            node,
            "`fairway routes` shows how routes are named, such as `shop.company.com/api` or `tcp://:13306`",
        )
        .map(SplitRoute::Host),
    }
}

fn balancers(node: &Node<'_>) -> Vec<BalancerClaim> {
    let read = |item: &Node<'_>| item.parsed(|text| Ok(parse_balancer(0, text)?));
    node.array().unwrap_or_default().iter().filter_map(read).collect()
}

fn instances(node: &Node<'_>) -> Vec<StaticInstance> {
    let mut instances: Vec<StaticInstance> = Vec::new();
    for item in node.array().unwrap_or_default() {
        let Some(instance) = instance(&item) else { continue };
        if instances.iter().any(|other| (&other.host, other.port) == (&instance.host, instance.port)) {
            item.error(Wrong::new(
                "the instance is listed twice",
                "leave one out; give it a `weight` for a larger share",
            ));
        }
        instances.push(instance);
    }
    instances
}

/// `HOST:PORT`, or a table.
fn instance(node: &Node<'_>) -> Option<StaticInstance> {
    let one = Weight::new(1).ok()?;
    if !node.is_table() {
        let (host, port) = node.parsed(address::instance)?;
        return Some(StaticInstance { host, port, weight: one, zone: None });
    }
    let mut table = node.table()?;
    let addr = table.require("addr", "write `addr = \"10.0.0.8:8080\"`");
    let addr = addr.and_then(|node| node.parsed(address::instance));
    let weight = table.get("weight").and_then(|node| weight(&node)).unwrap_or(one);
    let zone = table.get("zone").and_then(|node| node.parsed(|text| Ok(parse_name(text)?)));
    table.finish();
    let (host, port) = addr?;
    Some(StaticInstance { host, port, weight, zone })
}

fn weight(node: &Node<'_>) -> Option<Weight> {
    Weight::new(node.whole(0..=Weight::MAX.into())?).ok()
}

/// `[[split]]`; `domain_suffix` tells which routes are the same.
pub(super) fn splits(root: &mut Table<'_>, domain_suffix: &str) -> Vec<FileSplit> {
    let mut splits: Vec<FileSplit> = Vec::new();
    for mut table in root.sections("split") {
        if let Some(split) = split(&mut table) {
            let route = split.route.route(domain_suffix);
            if splits.iter().any(|other| other.route.route(domain_suffix) == route) {
                let text = format!("the route `{route}` has two splits");
                table.error(Wrong::new(text, "put the weights of a route into one `[[split]]`"));
            }
            splits.push(split);
        }
        table.finish();
    }
    splits
}

fn split(table: &mut Table<'_>) -> Option<FileSplit> {
    let written = table.require("route", "write `route = \"shop.company.com/\"`");
    let of = written.and_then(|node| split_route(&node));
    let written = table.require("weights", "write `weights = { \"shop@v1\" = 90, \"shop@v2\" = 10 }`")?;
    let mut weights = BTreeMap::new();
    let mut all_read = true;
    for (backend, node) in written.table()?.entries() {
        if let Err(wrong) = backend_reference(backend) {
            node.error(wrong);
            all_read = false;
        }
        match weight(&node) {
            Some(weight) => drop(weights.insert(Arc::from(backend), weight)),
            None => all_read = false,
        }
    }
    if all_read && weights.values().all(|weight| *weight == Weight::ZERO) {
        let text =
            if weights.is_empty() { "the split names no backend" } else { "every weight of the split is 0" };
        written.error(Wrong::new(text, "give at least one backend a weight above 0"));
    }
    Some(FileSplit { route: of?, weights })
}

/// `v`, `service@v` or `project/service@v`.
fn backend_reference(text: &str) -> Result<(), Wrong> {
    let (name, version) = match text.rsplit_once('@') {
        Some((name, version)) => (Some(name), version),
        None => (None, text),
    };
    let is_version = version.parse::<Version>().is_ok();
    let is_name = name.is_none_or(|name| {
        name.split('/').count() <= 2 && name.split('/').all(|part| parse_name(part).is_ok())
    });
    if is_version && is_name {
        return Ok(());
    }
    let text = format!("`{}` names no backend", shown(text));
    Err(Wrong::new(text, "write `VERSION`, `SERVICE@VERSION` or `PROJECT/SERVICE@VERSION`"))
}
