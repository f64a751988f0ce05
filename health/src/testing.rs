//! What the tests of this crate build their catalogs and servers from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::config::labels::{PortClaim, ProbeCheck, ProbeSpec, ServiceSpec};
use fairway_catalog::config::names::Weight;
use fairway_catalog::facts::UnitKind;
use fairway_catalog::{Catalog, Inputs, InstanceId, InstanceKey, Lifecycle, SourceFacts, SourceId, Unit};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::plan::{Check, Probe};

/// A running container without a probe, reached at this address.
pub(crate) fn container(name: &str, address: &str) -> Unit {
    let address: SocketAddr = address.parse().expect("tests give addresses");
    let started = Timestamp::now();
    let claim = PortClaim { port: address.port(), entries: Vec::new() };
    Unit {
        id: format!("{name:0<64}").into(),
        kind: UnitKind::Container,
        name: name.into(),
        backend: format!("{name}@v1").parse().expect("tests give names"),
        created: started,
        started,
        lifecycle: Lifecycle::Running,
        ip: Some(address.ip()),
        network: "n".into(),
        address_reason: "".into(),
        exposed_ports: Vec::new(),
        spec: Arc::new(ServiceSpec { ports: vec![claim], has_own_labels: true, ..ServiceSpec::default() }),
        label_problems: Vec::new(),
        weight: Weight::DEFAULT,
        docker_health: None,
        links: Vec::new(),
        node: "".into(),
        zone: "".into(),
    }
}

pub(crate) fn probed(mut unit: Unit, probe: ProbeSpec) -> Unit {
    Arc::make_mut(&mut unit.spec).probe = Some(probe);
    unit
}

/// The same with port 9090 beside its own.
pub(crate) fn two_ports(mut unit: Unit) -> Unit {
    Arc::make_mut(&mut unit.spec).ports.push(PortClaim { port: 9090, entries: Vec::new() });
    unit
}

/// A probe of this check with a timeout of 1 s.
pub(crate) fn spec(check: ProbeCheck) -> ProbeSpec {
    ProbeSpec { check, timeout: Duration::from_secs(1), initial_delay: Duration::ZERO }
}

pub(crate) fn stopping_since(mut unit: Unit, since: Timestamp) -> Unit {
    unit.lifecycle = Lifecycle::Stopping { since, timeout: Duration::from_secs(10) };
    unit
}

pub(crate) fn key_of(unit: &Unit, port: u16) -> InstanceKey {
    let address = SocketAddr::new(unit.ip.expect("tests give addresses"), port);
    InstanceKey { id: InstanceId::of_container(&unit.id, port), started: unit.started, address }
}

/// What one engine tells.
pub(crate) fn facts(units: impl IntoIterator<Item = Unit>) -> BTreeMap<SourceId, Arc<SourceFacts>> {
    let units = units.into_iter().map(|unit| (unit.id.clone(), Arc::new(unit))).collect();
    let facts = SourceFacts { listed: true, units, ..SourceFacts::default() };
    BTreeMap::from([(engine(), Arc::new(facts))])
}

pub(crate) fn engine() -> SourceId {
    SourceId::Docker("unix:///engine".into())
}

pub(crate) fn catalog_of(units: impl IntoIterator<Item = Unit>) -> Catalog {
    let inputs = Inputs { sources: facts(units), ..Inputs::default() };
    Catalog::build(&inputs, &Catalog::empty(0), Timestamp::now())
}

pub(crate) fn some_key(n: u8) -> InstanceKey {
    InstanceKey {
        id: InstanceId::from_printed(&format!("{n:012}:80")),
        started: Timestamp::UNIX_EPOCH,
        address: SocketAddr::from(([10, 0, 0, n], 80)),
    }
}

/// A probe of an instance that started just now.
pub(crate) fn some_probe(check: Check) -> Probe {
    let now = Timestamp::now();
    Probe {
        keys: vec![some_key(1)],
        backend: "web@v1".parse().expect("a constant"),
        name: "web".into(),
        check,
        header: None,
        timeout: Duration::from_secs(1),
        not_before: now,
        started: now,
        overdue: false,
    }
}

/// A server on loopback that hands each connection, its request head read, to `answer`. Ends with the test's runtime.
pub(crate) async fn server<F>(answer: impl Fn(TcpStream, String) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let address = listener.local_addr().expect("it is bound");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                answer(stream, head).await;
            });
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A server that answers every request with these bytes and closes.
pub(crate) async fn answering(bytes: &'static [u8]) -> SocketAddr {
    server(move |mut stream, _| async move {
        // The prober may have left already.
        let _ = stream.write_all(bytes).await;
    })
    .await
}
