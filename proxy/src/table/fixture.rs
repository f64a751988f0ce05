//! Small clusters for tests: a catalog written by hand, route by route.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::facts::UnitKind;
use fairway_catalog::{
    Backend, Catalog, Condition, Instance, InstanceId, Layer, Lifecycle, Member, Route, Settings, SplitInfo,
    State, Unit,
};
use fairway_config::labels::{SplitBy, Transport};
use fairway_config::names::{BackendId, RouteId, Weight};
use jiff::Timestamp;

use super::{Lasting, RouteEntry, RouteTable};
use crate::metrics::Metrics;
use crate::pick::stable_hash;
use crate::request::{FieldList, RequestView};

/// One instance: what people ordered, what is seen, its weight.
pub(crate) type Is = (State, Condition, u16);
pub(crate) const READY: Is = (State::Active, Condition::Ready, 1);
pub(crate) const UNHEALTHY: Is = (State::Active, Condition::Unhealthy, 1);
pub(crate) const EJECTED: Is = (State::Active, Condition::Ejected, 1);
pub(crate) const STOPPING: Is = (State::Active, Condition::Stopping, 1);
pub(crate) const DRAINING: Is = (State::Draining, Condition::Ready, 1);
pub(crate) const DISABLED: Is = (State::Disabled, Condition::Ready, 1);

/// One backend of a route under construction.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    name: &'static str,
    weight: Option<Weight>,
    promised_zero: bool,
    instances: Vec<Is>,
    pub(crate) transport: Transport,
}

/// A backend `shop@NAME` with these instances, without weight.
pub(crate) fn version(name: &'static str, instances: &[Is]) -> Version {
    let (weight, promised_zero, transport) = (None, false, Transport::default());
    Version { name, weight, promised_zero, instances: instances.to_vec(), transport }
}

impl Version {
    /// A weight that a split names; 0 is a promise.
    pub(crate) fn weight(self, weight: u16) -> Self {
        self.weighs(Weight::new(weight.into()).expect("a weight"))
    }

    /// The same, with a weight that may be larger than people write.
    pub(crate) fn weighs(mut self, weight: Weight) -> Self {
        (self.weight, self.promised_zero) = (Some(weight), weight == Weight::ZERO);
        self
    }

    /// The 0 of a backend that the split does not name.
    pub(crate) fn unnamed(mut self) -> Self {
        (self.weight, self.promised_zero) = (Some(Weight::ZERO), false);
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Transport)) -> Self {
        change(&mut self.transport);
        self
    }
}

/// A catalog that is settled and has no routes yet.
pub(crate) fn catalog() -> Catalog {
    let mut catalog = Catalog::empty(1);
    catalog.settled = true;
    catalog
}

/// Puts a route in the catalog, in place of one of that name.
pub(crate) fn put(catalog: &mut Catalog, id: &str, versions: &[Version]) {
    put_route(catalog, id, versions, |_| {});
}

/// The same, with something about the route changed.
pub(crate) fn put_route(
    catalog: &mut Catalog,
    id: &str,
    versions: &[Version],
    change: impl FnOnce(&mut Route),
) {
    remove(catalog, id);
    let id: RouteId = id.parse().expect("a route");
    let members: Vec<Member> = versions.iter().map(|version| member(catalog, &id, version)).collect();
    let split = versions.iter().any(|version| version.weight.is_some()).then(split);
    let mut route = Route {
        id: id.clone(),
        secure: false,
        https: false,
        project: None,
        etag: "\"1\"".into(),
        split,
        members,
        sticky: false,
        mirror: None,
        limits: None,
        split_by: SplitBy::Request,
        body_max: None,
        features: None,
        ends: None,
    };
    change(&mut route);
    catalog.routes.insert(id, Arc::new(route));
    (catalog.serial, catalog.revision) = (catalog.serial + 1, catalog.revision + 1);
}

/// Changes the instances of a route, each with its number.
pub(crate) fn change_instances(
    catalog: &mut Catalog,
    id: &str,
    mut change: impl FnMut(usize, &mut Instance),
) {
    let id: RouteId = id.parse().expect("a route");
    let mut route = Route::clone(&catalog.routes[&id]);
    for member in &mut route.members {
        for (number, instance) in member.instances.iter_mut().enumerate() {
            change(number, Arc::make_mut(instance));
            catalog.instances.insert(instance.id.clone(), instance.clone());
        }
    }
    catalog.routes.insert(id, Arc::new(route));
}

/// Takes a route out, with what only it has.
pub(crate) fn remove(catalog: &mut Catalog, id: &str) {
    let id: RouteId = id.parse().expect("a route");
    let Some(old) = catalog.routes.remove(&id) else { return };
    for member in &old.members {
        catalog.backends.remove(&member.backend.id);
        for instance in &member.instances {
            catalog.instances.remove(&instance.id);
        }
    }
    (catalog.serial, catalog.revision) = (catalog.serial + 1, catalog.revision + 1);
}

fn split() -> SplitInfo {
    SplitInfo {
        layer: Layer::Api,
        author: "tests".into(),
        at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        reason: "a trial".into(),
    }
}

/// Backends and instances belong to one route each: their names have the route in them.
fn member(catalog: &mut Catalog, route: &RouteId, version: &Version) -> Member {
    let project: Arc<str> = format!("p{:x}", stable_hash::of(route.to_string().as_bytes())).into();
    let id = BackendId {
        project: Some(project),
        service: "shop".into(),
        version: version.name.parse().expect("a version"),
    };
    let numbered = version.instances.iter().zip(0..);
    let instances: Vec<_> = numbered.map(|(is, n)| Arc::new(instance(&id, n, *is))).collect();
    let backend = Arc::new(Backend {
        id: id.clone(),
        routes: vec![route.clone()],
        ready: instances.iter().filter(|instance| instance.serves_new()).count(),
        instances: instances.clone(),
        desired: None,
        state: State::Active,
        ordered: None,
        transport: Arc::new(version.transport.clone()),
        dns_weighted: false,
        links: Vec::new(),
    });
    catalog.backends.insert(id, backend.clone());
    catalog.instances.extend(instances.iter().map(|instance| (instance.id.clone(), instance.clone())));
    let weight = version.weight;
    let (state, transport) = (backend.state, backend.transport.clone());
    Member { backend, transport, state, weight, promised_zero: version.promised_zero, share: 0.0, instances }
}

fn instance(backend: &BackendId, number: u32, (state, condition, weight): Is) -> Instance {
    let unit = unit(backend, number, weight, condition == Condition::Stopping);
    Instance {
        id: InstanceId::of_container(&unit.id, 80),
        backend: backend.clone(),
        address: unit.ip.map(|ip| (ip, 80).into()),
        port: 80,
        unit: Arc::new(unit),
        state,
        ordered: None,
        condition,
        since: Timestamp::UNIX_EPOCH,
        reason: "as the test says".into(),
        until: None,
        overdue: false,
        draining_since: None,
        drained: None,
    }
}

/// A container of this backend, started at the epoch.
pub(crate) fn unit(backend: &BackendId, number: u32, weight: u16, stopping: bool) -> Unit {
    let name = format!("{backend}-{number}");
    let hash = stable_hash::of(name.as_bytes());
    let stopping = stopping
        .then(|| Lifecycle::Stopping { since: Timestamp::UNIX_EPOCH, timeout: Duration::from_secs(10) });
    Unit {
        id: format!("{hash:016x}").into(),
        kind: UnitKind::Container,
        name: name.into(),
        backend: backend.clone(),
        created: Timestamp::UNIX_EPOCH,
        started: Timestamp::UNIX_EPOCH,
        lifecycle: stopping.unwrap_or(Lifecycle::Running),
        ip: Some(Ipv4Addr::from(0x0a00_0000 | (hash as u32 >> 8)).into()),
        network: "".into(),
        address_reason: "the only network".into(),
        exposed_ports: Vec::new(),
        spec: Arc::default(),
        label_problems: Vec::new(),
        weight: Weight::new(weight.into()).expect("a weight"),
        docker_health: None,
        links: Vec::new(),
        node: "here".into(),
        zone: "".into(),
    }
}

/// Nothing known yet, one worker.
pub(crate) fn lasting() -> Lasting {
    Lasting::new(Metrics::new(1))
}

/// The one route of these versions, `shop.test/`.
pub(crate) fn entry(versions: &[Version]) -> Arc<RouteEntry> {
    entry_with(versions, |_| {})
}

/// The same, with something about the route changed.
pub(crate) fn entry_with(versions: &[Version], change: impl FnOnce(&mut Route)) -> Arc<RouteEntry> {
    let mut catalog = catalog();
    put_route(&mut catalog, "shop.test/", versions, change);
    RouteTable::build(&catalog, &lasting(), None).entries()[0].clone()
}

/// A request from an external client on a plain connection.
pub(crate) fn request<'a>(host: &'a str, path: &'a str, fields: &'a FieldList) -> RequestView<'a> {
    let client = IpAddr::from([192, 0, 2, 1]);
    RequestView { host, path, query: None, method: "GET", client, internal: false, secure: false, fields }
}

/// The settings of a node with these zones.
pub(crate) fn zones(zones: &[&str]) -> Arc<Settings> {
    Arc::new(Settings { zones: zones.iter().map(|zone| (*zone).into()).collect(), ..Settings::default() })
}
