//! The `[[service]]` entries with a real resolver and a DNS server that the test changes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fairway_catalog::facts::{SourceFacts, SourceId};
use fairway_catalog::inputs::{Inputs, InputsHandle};
use fairway_config::file::{StaticHost, StaticInstance, StaticService};
use fairway_config::labels::ServiceSpec;
use fairway_config::names::Weight;
use fairway_discovery::NodeInfo;
use fairway_discovery::file::{FileHandle, FileSource};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);

/// A DNS server that answers every A question the same; nothing at all answers with SERVFAIL.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Vec<Ipv4Addr>>>);

impl Answers {
    fn set(&self, addresses: &[&str]) {
        *self.0.lock().expect("no test panics while it holds this") =
            addresses.iter().map(|ip| ip.parse().expect("an address")).collect();
    }

    async fn serve(self) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback has ports");
        let address = socket.local_addr().expect("it is bound");
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).expect("a resolver asks well");
                let answer = self.answer(&question);
                let octets = answer.to_vec().expect("an answer can be written");
                socket.send_to(&octets, client).await.expect("loopback takes datagrams");
            }
        });
        address
    }

    fn answer(&self, question: &Message) -> Message {
        let query = question.queries[0].clone();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_available = true;
        let addresses = self.0.lock().expect("no test panics while it holds this").clone();
        if addresses.is_empty() {
            answer.metadata.response_code = ResponseCode::ServFail;
        } else if query.query_type() == RecordType::A {
            for ip in addresses {
                answer.add_answer(Record::from_rdata(query.name().clone(), 1, RData::A(A(ip))));
            }
        }
        answer.add_query(query);
        answer
    }
}

struct Source {
    handle: FileHandle,
    inputs: watch::Receiver<Inputs>,
    _stop: watch::Sender<bool>,
}

impl Source {
    fn start(dns: SocketAddr, services: &[StaticService]) -> Self {
        let mut server = NameServerConfig::udp(dns.ip());
        server.connections[0].port = dns.port();
        let config = ResolverConfig::from_name_servers(vec![server]);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = Some(resolver.build().expect("a resolver of one server"));
        let inputs = InputsHandle::new(Inputs::default());
        let node = NodeInfo { name: "here".into(), zone: "".into() };
        let (stop, stopped) = watch::channel(false);
        let (handle, _task) = FileSource { inputs: inputs.clone(), node, resolver }.spawn(services, stopped);
        Self { handle, inputs: inputs.subscribe(), _stop: stop }
    }

    fn facts(&self) -> Arc<SourceFacts> {
        self.inputs.borrow().sources[&SourceId::File].clone()
    }

    async fn until(&self, what: &str, fits: impl Fn(&SourceFacts) -> bool) -> Arc<SourceFacts> {
        let mut inputs = self.inputs.clone();
        let wait = inputs.wait_for(|inputs| fits(&inputs.sources[&SourceId::File]));
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(told) => told.expect("the source lives").sources[&SourceId::File].clone(),
            Err(_) => panic!("waited in vain for: {what}\n{:#?}", self.facts()),
        }
    }

    async fn at(&self, ip: &str) -> Arc<SourceFacts> {
        let ip: Option<IpAddr> = ip.parse().ok();
        let fits = |facts: &SourceFacts| facts.units.values().any(|unit| unit.ip == ip);
        self.until(&format!("the address {ip:?}"), fits).await
    }
}

fn service(hosts: &[StaticHost]) -> StaticService {
    let instance = |host: &StaticHost| StaticInstance {
        host: host.clone(),
        port: 80,
        weight: Weight::DEFAULT,
        zone: None,
    };
    StaticService {
        balancers: Vec::new(),
        name: "legacy".into(),
        project: None,
        version: "static".parse().expect("a version"),
        routes: Vec::new(),
        instances: hosts.iter().map(instance).collect(),
        spec: ServiceSpec::default(),
        probe_own_port: false,
        auth_file: None,
    }
}

fn named(name: &str) -> StaticHost {
    StaticHost::Name(name.into())
}

#[tokio::test]
async fn a_name_follows_its_answers_and_keeps_the_last_good_one() {
    let answers = Answers::default();
    answers.set(&["10.0.0.9", "10.0.0.5"]);
    let dns = answers.clone().serve().await;
    let source = Source::start(dns, &[service(&[named("db.example.com")])]);
    let facts = source.at("10.0.0.5").await;
    assert!(facts.listed && facts.problems.is_empty(), "{facts:#?}");
    answers.set(&["10.0.0.1", "10.0.0.5"]);
    answers.set(&["10.0.0.1"]);
    source.at("10.0.0.1").await;
    answers.set(&[]);
    let facts = source.until("a problem", |facts| !facts.problems.is_empty()).await;
    assert_eq!(facts.problems[0].kind, "name-unresolved");
    assert!(facts.units.values().all(|unit| unit.ip == "10.0.0.1".parse().ok()));
    answers.set(&["10.0.0.7"]);
    let facts = source.at("10.0.0.7").await;
    assert!(facts.problems.is_empty());
}

#[tokio::test]
async fn addresses_are_listed_before_the_start_returns_and_replaced_before_a_reload_does() {
    let dns = Answers::default().serve().await;
    let source = Source::start(dns, &[service(&[StaticHost::Ip("10.0.0.7".parse().expect("an address"))])]);
    let facts = source.facts();
    assert!(facts.listed);
    assert_eq!(facts.units.keys().map(|id| &**id).collect::<Vec<_>>(), ["legacy@static/10.0.0.7:80"]);
    source.handle.apply(&[service(&[StaticHost::Ip("10.0.0.8".parse().expect("an address"))])]);
    let facts = source.facts();
    assert_eq!(facts.units.keys().map(|id| &**id).collect::<Vec<_>>(), ["legacy@static/10.0.0.8:80"]);
    source.handle.apply(&[]);
    assert!(source.facts().units.is_empty() && source.facts().listed);
}

#[tokio::test]
async fn a_silent_dns_holds_the_list_up_for_two_seconds_at_most() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("loopback has ports");
    let dns = silent.local_addr().expect("it is bound");
    let begin = tokio::time::Instant::now();
    let source = Source::start(dns, &[service(&[named("db.example.com")])]);
    assert!(!source.facts().listed);
    let facts = source.until("the list", |facts| facts.listed).await;
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(facts.units.values().map(|unit| unit.ip).collect::<Vec<_>>(), [None]);
}

#[tokio::test]
async fn a_name_that_a_reload_brings_is_resolved() {
    let answers = Answers::default();
    answers.set(&["10.0.0.5"]);
    let source = Source::start(answers.serve().await, &[]);
    source.handle.apply(&[service(&[named("new.example.com")])]);
    source.at("10.0.0.5").await;
}
