//! A cluster for tests: containers by a few words, and the zone that follows from them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fairway_catalog::config::labels;
use fairway_catalog::config::names::{BackendId, Weight};
use fairway_catalog::facts::UnitKind;
use fairway_catalog::inputs::{SplitRecord, StateRecord, StateSubject};
use fairway_catalog::{
    Catalog, Inputs, InstanceId, Lifecycle, Network, SourceFacts, SourceId, State, Unit, Verdict,
};
use fastrand::Rng;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use jiff::Timestamp;

use crate::zone::{Answer, Client, Zone, ZoneConfig};

/// The inputs of a catalog, changed by words.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) inputs: Inputs,
    facts: SourceFacts,
}

/// A container on the network 172.20.0.0/16, whose gateway is 172.20.0.1.
pub(crate) fn container(n: u8, name: &str, of: &str, labels: &[(&str, &str)]) -> Unit {
    Unit {
        id: format!("{n:02x}").repeat(32).into(),
        kind: UnitKind::Container,
        name: name.into(),
        backend: of.parse().expect("a backend"),
        created: at(n.into()),
        started: at(n.into()),
        lifecycle: Lifecycle::Running,
        ip: Some([172, 20, 0, n].into()),
        network: "net".into(),
        address_reason: "".into(),
        exposed_ports: Vec::new(),
        spec: labels::parse(labels.iter().copied()).spec.into(),
        label_problems: Vec::new(),
        weight: Weight::DEFAULT,
        docker_health: None,
        links: Vec::new(),
        node: "node".into(),
        zone: "".into(),
    }
}

/// An instance of a `[[service]]`.
pub(crate) fn static_instance(of: &str, address: &str, labels: &[(&str, &str)]) -> Unit {
    let address: SocketAddr = address.parse().expect("an address");
    let id = format!("{}/{address}", of.rsplit('/').next().expect("the last part"));
    Unit {
        id: id.as_str().into(),
        kind: UnitKind::Static,
        name: id.into(),
        ip: Some(address.ip()),
        network: "".into(),
        exposed_ports: vec![address.port()],
        ..container(0, "", of, labels)
    }
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("a time in range")
}

impl Cluster {
    pub(crate) fn of(units: Vec<Unit>) -> Self {
        let mut cluster = Self::default();
        let network = Network {
            id: "net".into(),
            name: "net".into(),
            driver: "bridge".into(),
            ingress: false,
            subnets: vec![
                "172.20.0.0/16".parse().expect("a subnet"),
                "fd00:20::/64".parse().expect("a subnet"),
            ],
            gateways: vec!["172.20.0.1".parse().expect("an address")],
            gateway_is_local: false,
        };
        cluster.facts.networks.insert("net".into(), network.into());
        cluster.facts.listed = true;
        units.into_iter().for_each(|unit| cluster.set(unit));
        cluster
    }

    /// Adds a unit, or replaces the one with its id.
    pub(crate) fn set(&mut self, unit: Unit) {
        self.facts.units.insert(unit.id.clone(), unit.into());
        self.publish();
    }

    pub(crate) fn change(&mut self, name: &str, change: impl FnOnce(&mut Unit)) {
        let unit = self.facts.units.values().find(|unit| &*unit.name == name).expect("the unit");
        let mut unit = Unit::clone(unit);
        change(&mut unit);
        self.set(unit);
    }

    pub(crate) fn networks(&mut self, change: impl FnOnce(&mut Network)) {
        let network = self.facts.networks.values_mut().next().expect("the network");
        change(Arc::make_mut(network));
        self.publish();
    }

    fn publish(&mut self) {
        let source = SourceId::Docker("unix:///docker.sock".into());
        self.inputs.sources.insert(source, self.facts.clone().into());
        self.inputs.serial += 1;
    }

    pub(crate) fn split(&mut self, route: &str, weights: &[(&str, u32)]) {
        let weights = weights
            .iter()
            .map(|(id, weight)| (id.parse::<BackendId>().expect("a backend"), Weight::computed(*weight)));
        let record = SplitRecord {
            weights: weights.collect(),
            author: "ann".into(),
            at: at(50),
            expires_at: None,
            reason: "".into(),
            then: None,
        };
        let decisions = Arc::make_mut(&mut self.inputs.decisions);
        decisions.splits.insert(route.parse().expect("a route"), record);
        self.inputs.serial += 1;
    }

    pub(crate) fn state(&mut self, instance: &str, state: State) {
        let subject = StateSubject::Instance(InstanceId::from_printed(instance));
        let record = StateRecord { state, author: "ann".into(), at: at(50), reason: "".into() };
        Arc::make_mut(&mut self.inputs.decisions).states.insert(subject, record);
        self.inputs.serial += 1;
    }

    /// What a probe found.
    pub(crate) fn verdict(&mut self, name: &str, condition: fairway_catalog::Condition) {
        let catalog = self.catalog();
        let instance = catalog.instances.values().find(|i| &*i.unit.name == name).expect("the instance");
        let verdict = Verdict { condition, since: at(60), reason: "".into(), problem: None };
        Arc::make_mut(&mut self.inputs.verdicts).insert(instance.key().expect("an address"), verdict);
        self.inputs.serial += 1;
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog_after(&Catalog::empty(7))
    }

    pub(crate) fn catalog_after(&self, before: &Catalog) -> Arc<Catalog> {
        Catalog::build(&self.inputs, before, at(100)).into()
    }

    pub(crate) fn zone(&self) -> Zone {
        self.zone_with(config())
    }

    pub(crate) fn zone_with(&self, config: ZoneConfig) -> Zone {
        Zone::build(&self.catalog(), &config.into(), None).0
    }

    /// The collisions: whose name, and which.
    pub(crate) fn collisions(&self) -> Vec<(String, String)> {
        let problems = Zone::build(&self.catalog(), &config().into(), None).1;
        assert!(problems.iter().all(|problem| problem.kind == "dns-name-collision"), "{problems:?}");
        problems.iter().map(|problem| (problem.subject.to_string(), problem.value.to_string())).collect()
    }
}

/// The default zones, and a proxy on every address at port 80.
pub(crate) fn config() -> ZoneConfig {
    ZoneConfig {
        zones: vec!["local".into(), "internal".into()],
        max_addresses: 8,
        advertise: Vec::new(),
        http: vec!["0.0.0.0:80".parse().expect("an address")],
    }
}

/// Asks for a name as a client of the network that is no unit of the cluster, at the gateway.
pub(crate) fn ask(zone: &Zone, name: &str, kind: RecordType) -> Option<Answer> {
    ask_from(zone, "172.20.255.1", name, kind)
}

pub(crate) fn ask_from(zone: &Zone, client: &str, name: &str, kind: RecordType) -> Option<Answer> {
    let client = Client {
        address: ip(client),
        arrived_on: Some(ip("172.20.0.1")),
        route_to: &|_| panic!("the address that the query arrived on is served"),
    };
    let name = Name::from_ascii(name).expect("a name");
    zone.answer(&name, kind, &client, &mut Rng::with_seed(1))
}

/// The data of the answer as text, in order of text; or the code, when there is none.
pub(crate) fn shown(answer: Option<Answer>) -> Vec<String> {
    let Some(answer) = answer else { return vec!["not ours".to_owned()] };
    if answer.answers.is_empty() {
        let negative = answer.authorities.iter().any(|record| matches!(record.data, RData::SOA(_)));
        assert!(negative || answer.code == ResponseCode::ServFail, "a negative answer has a SOA");
        return vec![if answer.code == ResponseCode::NoError {
            "no data".to_owned()
        } else {
            format!("{:?}", answer.code)
        }];
    }
    let mut data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    data
}

pub(crate) fn addresses(zone: &Zone, name: &str) -> Vec<String> {
    shown(ask(zone, name, RecordType::A))
}

pub(crate) fn ttl(records: &[Record]) -> u32 {
    records.iter().map(|record| record.ttl).max().expect("a record")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
