//! The data plane alone with one route, for profiles: `one_route LISTEN THREADS HOST BACKEND...`

use std::net::SocketAddr;
use std::sync::Arc;

use fairway_catalog::facts::{SourceFacts, UnitKind};
use fairway_catalog::{Catalog, Inputs, Lifecycle, SourceId, Unit};
use fairway_config::file::{HttpListener, Limits, Tls};
use fairway_config::labels;
use fairway_config::names::Weight;
use fairway_proxy::metrics::Metrics;
use fairway_proxy::table::TableHandle;
use fairway_proxy::tls::Trust;
use fairway_proxy::{Adopted, ProxyConfig, start};
use jiff::Timestamp;

fn unit(number: usize, address: SocketAddr, host: &str) -> Unit {
    let key = format!("aliyun.routing.port_{}", address.port());
    let started = Timestamp::from_second(number as i64).expect("a time");
    Unit {
        id: format!("{number:08x}").repeat(8).into(),
        kind: UnitKind::Container,
        name: format!("c{number}").into(),
        backend: "bench@v1".parse().expect("a backend"),
        created: started,
        started,
        lifecycle: Lifecycle::Running,
        ip: Some(address.ip()),
        network: "bridge".into(),
        address_reason: "".into(),
        exposed_ports: Vec::new(),
        spec: Arc::new(labels::parse([(key.as_str(), host)]).spec),
        label_problems: Vec::new(),
        weight: Weight::DEFAULT,
        docker_health: None,
        links: Vec::new(),
        node: "node".into(),
        zone: "".into(),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, threads, host, backends @ ..] = &args[..] else { panic!("LISTEN THREADS HOST BACKEND...") };
    let threads = threads.parse().expect("a number");
    let units = backends.iter().enumerate().map(|(i, backend)| {
        let unit = unit(i + 1, backend.parse().expect("an address"), host);
        (unit.id.clone(), Arc::new(unit))
    });
    let facts = SourceFacts { listed: true, units: units.collect(), ..SourceFacts::default() };
    let mut inputs = Inputs::default();
    inputs.sources.insert(SourceId::File, Arc::new(facts));
    let handle = TableHandle::new(Metrics::new(threads));
    handle.apply(&Catalog::build(&inputs, &Catalog::empty(0), Timestamp::now()));
    let addr = listen.parse().expect("an address");
    let config = ProxyConfig {
        listeners: vec![HttpListener {
            addr,
            proxy_protocol: false,
            upgrades: vec!["websocket".into()],
            redirect_to_https: false,
            tls: None,
            limits: Limits::default(),
        }],
        tls: Tls::default(),
        certificates: Arc::default(),
        trust: Trust::new(Vec::new(), None, true).expect("TLS can be spoken"),
        threads,
        trusted_proxies: Vec::new(),
        node: "edge".into(),
        limits: Limits::default(),
        fronts_proxy_protocol: false,
        adopted: Adopted::default(),
        access_log: None,
    };
    let running = start(config, handle).expect("the data plane starts");
    println!("listening on {:?}", running.addresses);
    loop {
        std::thread::park();
    }
}
