//! A cluster as large as one likes, for measuring: containers with routing labels, made into a catalog the usual way.
//!
//! Shared by the benchmark and the example that prints the figures.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use fairway_catalog::facts::UnitKind;
use fairway_catalog::inputs::SplitRecord;
use fairway_catalog::{Catalog, Decisions, Inputs, Lifecycle, SourceFacts, SourceId, Unit};
use fairway_config::labels::{Balance, PortClaim, ServiceSpec};
use fairway_config::names::{BackendId, Host, RouteEntry, Scheme, Version, Weight};
use jiff::{Timestamp, ToSpan};

/// The inputs of a cluster, and what was made of them.
pub(crate) struct Cluster {
    pub(crate) inputs: Inputs,
    pub(crate) catalog: Catalog,
    /// A host and path that each route answers.
    pub(crate) asks: Vec<(String, String)>,
}

impl Cluster {
    /// This many routes, each with two versions of so many instances. Eight of ten routes are whole hosts, one is a wildcard,
    /// one a path of the host before it.
    pub(crate) fn new(routes: u32, instances: u32) -> Self {
        let mut facts = SourceFacts { listed: true, ..SourceFacts::default() };
        let mut asks = Vec::new();
        for number in 0..routes {
            let (entry, ask) = route(number);
            asks.push(ask);
            for (version, instance) in (0..2).flat_map(|v| (0..instances).map(move |i| (v, i))) {
                let serial = (number * 2 + version) * instances + instance;
                let unit = unit(number, version, serial, &entry);
                facts.units.insert(unit.id.clone(), Arc::new(unit));
            }
        }
        let mut inputs = Inputs { serial: 1, ..Inputs::default() };
        inputs.sources.insert(SourceId::File, Arc::new(facts));
        let catalog = Catalog::build(&inputs, &Catalog::empty(0), now());
        Self { inputs, catalog, asks }
    }

    /// The same with one container paused.
    pub(crate) fn flipped(&self) -> Catalog {
        let mut inputs = self.inputs.clone();
        let facts = inputs.sources.get_mut(&SourceId::File).map(Arc::make_mut);
        if let Some(unit) = facts.and_then(|facts| facts.units.values_mut().next()) {
            Arc::make_mut(unit).lifecycle = Lifecycle::Paused;
        }
        inputs.serial += 1;
        Catalog::build(&inputs, &self.catalog, now())
    }

    /// The same with another split of one route.
    pub(crate) fn reweighted(&self, weight: u64) -> Catalog {
        let Some((id, route)) = self.catalog.routes.iter().next() else { return self.catalog.clone() };
        let weights = route.members.iter().zip([100, weight]);
        let weights =
            weights.filter_map(|(m, w)| Some((m.backend.id.clone(), Weight::new(w).ok()?))).collect();
        let (author, reason) = ("bench".into(), "".into());
        let record = SplitRecord { weights, author, at: now(), expires_at: None, reason, then: None };
        let splits = BTreeMap::from([(id.clone(), record)]);
        let mut inputs = self.inputs.clone();
        inputs.decisions = Arc::new(Decisions { splits, ..Decisions::default() });
        inputs.serial += 1;
        Catalog::build(&inputs, &self.catalog, now())
    }

    /// The same with every instance chosen by this balance.
    #[allow(dead_code, reason = "the example has no use for it")]
    pub(crate) fn balanced(&self, balance: &Balance) -> Catalog {
        let mut inputs = self.inputs.clone();
        let facts = inputs.sources.get_mut(&SourceId::File).map(Arc::make_mut);
        for unit in facts.into_iter().flat_map(|facts| facts.units.values_mut()) {
            Arc::make_mut(&mut Arc::make_mut(unit).spec).transport.balance = Some(balance.clone());
        }
        inputs.serial += 1;
        Catalog::build(&inputs, &self.catalog, now())
    }

    /// The same with one instance that has just started beside others that have not.
    #[allow(dead_code, reason = "the example has no use for it")]
    pub(crate) fn with_one_new(&self, balance: &Balance) -> Catalog {
        let mut inputs = self.inputs.clone();
        let facts = inputs.sources.get_mut(&SourceId::File).map(Arc::make_mut);
        for (number, unit) in facts.into_iter().flat_map(|facts| facts.units.values_mut()).enumerate() {
            let unit = Arc::make_mut(unit);
            unit.started = if number == 0 { now() - 1.second() } else { now() - 1.minute() };
            Arc::make_mut(&mut unit.spec).transport.balance = Some(balance.clone());
        }
        inputs.serial += 1;
        Catalog::build(&inputs, &self.catalog, now())
    }

    /// The same without its first route.
    pub(crate) fn with_one_route_less(&self) -> Catalog {
        let mut catalog = self.catalog.clone();
        catalog.routes.pop_first();
        catalog
    }
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + 1.hour()
}

fn route(number: u32) -> (RouteEntry, (String, String)) {
    let name = |number: u32| format!("service-{number}.department-{}.company.com", number % 50);
    let (host, path, asked) = match number % 10 {
        8 => {
            let base = format!("tenants-{number}.company.com");
            (Host::Wildcard(base.as_str().into()), "/", format!("one.{base}"))
        }
        9 => (Host::Exact(name(number - 2).into()), "/api/v1", name(number - 2)),
        _ => (Host::Exact(name(number).into()), "/", name(number)),
    };
    let entry = RouteEntry { scheme: Scheme::Http, host, path: path.into() };
    (entry, (asked, if path == "/" { "/index.html".to_owned() } else { format!("{path}/items/42") }))
}

/// One of a kind by its serial: an instance is told from others by the first 12 digits of its id.
fn unit(number: u32, version: u32, serial: u32, entry: &RouteEntry) -> Unit {
    let id = format!("{serial:012x}{:052x}", 0);
    let backend = BackendId {
        project: Some("company".into()),
        service: format!("service-{number}").into(),
        version: Version::nearest(&format!("v{version}")).expect("it is one"),
    };
    let ports = vec![PortClaim { port: 8080, entries: vec![entry.clone()] }];
    let address = Ipv4Addr::from(0x0a00_0000 + serial);
    Unit {
        name: format!("service-{number}-v{version}-{serial}").into(),
        id: id.into(),
        kind: UnitKind::Container,
        backend,
        created: Timestamp::UNIX_EPOCH,
        started: Timestamp::UNIX_EPOCH,
        lifecycle: Lifecycle::Running,
        ip: Some(IpAddr::V4(address)),
        network: "bridge".into(),
        address_reason: "the only network".into(),
        exposed_ports: vec![8080],
        spec: Arc::new(ServiceSpec { ports, has_own_labels: true, ..ServiceSpec::default() }),
        label_problems: Vec::new(),
        weight: Weight::DEFAULT,
        docker_health: None,
        links: Vec::new(),
        node: "here".into(),
        zone: "".into(),
    }
}
