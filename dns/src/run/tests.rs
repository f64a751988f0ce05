//! The DNS over real sockets: both transports, many listeners, forwarding, changes while it runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fairway_catalog::config::file::{Advertise, DnsListen};
use fairway_catalog::facts::Lifecycle;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::testkit::{Cluster, container};

/// Long enough for a busy machine; nothing here waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The DNS with everything that it follows.
struct Rig {
    running: Running,
    cluster: Cluster,
    config: watch::Sender<Arc<Dns>>,
    catalogs: watch::Sender<Arc<Catalog>>,
    http: watch::Sender<Vec<SocketAddr>>,
    inputs: InputsHandle,
    registry: Registry,
}

fn dns(listen: DnsListen) -> Dns {
    Dns {
        listen,
        zones: vec!["local".into(), "internal".into()],
        max_addresses: 8,
        advertise: Vec::new(),
        upstreams: Vec::new(),
    }
}

fn loopback() -> Dns {
    dns(DnsListen::Configured(vec![address("127.0.0.1:0")]))
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn cluster() -> Cluster {
    let labels = [("aliyun.routing.port_80", "web.local")];
    Cluster::of(vec![
        container(11, "c11", "shop/web@v1", &labels),
        container(12, "c12", "shop/web@v1", &labels),
    ])
}

fn rig(config: Dns) -> Rig {
    try_rig(config, 0).expect("it starts")
}

fn try_rig(config: Dns, default_port: u16) -> Result<Rig, StartError> {
    adopting_rig(config, Adopted::default(), default_port)
}

fn adopting_rig(config: Dns, adopted: Adopted, default_port: u16) -> Result<Rig, StartError> {
    let cluster = cluster();
    let (config, config_receiver) = watch::channel(Arc::new(config));
    let (catalogs, catalogs_receiver) = watch::channel(cluster.catalog());
    let (http, http_receiver) = watch::channel(vec![address("0.0.0.0:80")]);
    let registry = Registry::new();
    let inputs = InputsHandle::new(cluster.inputs.clone());
    let running = start_on(
        config_receiver,
        catalogs_receiver,
        http_receiver,
        &registry,
        inputs.clone(),
        adopted,
        default_port,
    )?;
    Ok(Rig { running, cluster, config, catalogs, http, inputs, registry })
}

impl Rig {
    fn address(&self) -> SocketAddr {
        self.running.addresses().borrow()[0]
    }

    /// Publishes the cluster as it is now and waits until its zone is live.
    async fn publish(&self) {
        let catalog = self.cluster.catalog_after(&self.catalogs.borrow().clone());
        let serial = catalog.serial;
        self.catalogs.send_replace(catalog);
        let mut applied = self.running.applied();
        timeout(PATIENCE, applied.wait_for(|live| *live == serial)).await.expect("in time").expect("alive");
    }

    /// Waits until these problems, by kind, are reported.
    async fn problems(&self, kinds: &[&str]) -> Vec<fairway_catalog::Problem> {
        let mut inputs = self.inputs.subscribe();
        let reported =
            |inputs: &fairway_catalog::Inputs| inputs.reports.get("dns").cloned().unwrap_or_default();
        let wanted = |inputs: &fairway_catalog::Inputs| {
            reported(inputs).iter().map(|problem| problem.kind).collect::<Vec<_>>() == kinds
        };
        let seen = timeout(PATIENCE, inputs.wait_for(wanted)).await;
        match seen {
            Ok(seen) => reported(&seen.expect("alive")),
            Err(_) => panic!("{kinds:?} never came: {:?}", reported(&self.inputs.current())),
        }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        over_udp(self.address(), name, kind).await
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_str(name).expect("a name"), kind));
    message
}

async fn over_udp(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { "::".parse().expect("any") };
    let socket = UdpSocket::bind((any, 0)).await.expect("a socket");
    // Connected: an answer from another address than the one asked would not arrive.
    socket.connect(server).await.expect("connected");
    let question = question(name, kind);
    socket.send(&question.to_vec().expect("a message")).await.expect("sent");
    let mut buffer = [0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer").expect("received");
    let reply = Message::from_vec(&buffer[..length]).expect("a message");
    assert_eq!(reply.metadata.id, question.metadata.id);
    reply
}

async fn send_framed(stream: &mut TcpStream, message: &Message) {
    let bytes = message.to_vec().expect("a message");
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], &bytes].concat()).await.expect("sent");
}

async fn read_framed(stream: &mut TcpStream) -> Message {
    let read = async {
        let length = stream.read_u16().await.expect("a length");
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await.expect("the rest");
        bytes
    };
    let bytes = timeout(PATIENCE, read).await.expect("an answer");
    Message::from_vec(&bytes).expect("a message")
}

fn data(message: &Message) -> Vec<String> {
    let mut data: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    data
}

#[tokio::test]
async fn names_are_answered_over_udp_and_tcp() {
    let rig = rig(loopback());
    let reply = rig.ask("web.shop.local.", RecordType::A).await;
    assert_eq!(data(&reply), ["172.20.0.11", "172.20.0.12"]);
    assert_eq!(data(&rig.ask("web.internal.", RecordType::A).await), ["127.0.0.1"]);
    assert_eq!(rig.ask("no.local.", RecordType::A).await.metadata.response_code, ResponseCode::NXDomain);

    let mut stream = TcpStream::connect(rig.address()).await.expect("connected");
    let questions = ["web.local.", "c11.local.", "c12.local."].map(|name| question(name, RecordType::A));
    for question in &questions {
        send_framed(&mut stream, question).await;
    }
    for (question, want) in questions.iter().zip(["127.0.0.1", "172.20.0.11", "172.20.0.12"]) {
        let reply = read_framed(&mut stream).await;
        assert_eq!((reply.metadata.id, data(&reply)), (question.metadata.id, vec![want.to_owned()]));
    }
}

#[tokio::test]
async fn a_burst_of_requests_is_answered_one_by_one() {
    let rig = rig(loopback());
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(rig.address()).await.expect("connected");
    let mut ids = std::collections::BTreeSet::new();
    for id in 0..150u16 {
        let mut question = question("web.shop.local.", RecordType::A);
        question.metadata.id = id;
        socket.send(&question.to_vec().expect("a message")).await.expect("sent");
        ids.insert(id);
    }
    let mut buffer = [0; 2048];
    while !ids.is_empty() {
        let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer").expect("received");
        let reply = Message::from_vec(&buffer[..length]).expect("a message");
        assert_eq!(data(&reply).len(), 2);
        assert!(ids.remove(&reply.metadata.id), "answered once");
    }
}

#[tokio::test]
async fn on_a_socket_for_all_addresses_the_reply_leaves_from_the_one_asked() {
    let rig = rig(dns(DnsListen::Configured(vec![address("0.0.0.0:0")])));
    let port = rig.address().port();
    for asked in ["127.0.0.1", "127.0.0.2", "127.9.8.7"] {
        let server = SocketAddr::new(asked.parse().expect("an address"), port);
        // The client's socket is connected: a reply from elsewhere would never be seen.
        let reply = over_udp(server, "web.local.", RecordType::A).await;
        assert_eq!(data(&reply), [asked]);
        let mut stream = TcpStream::connect(server).await.expect("connected");
        send_framed(&mut stream, &question("web.local.", RecordType::A)).await;
        assert_eq!(data(&read_framed(&mut stream).await), [asked]);
    }
}

#[tokio::test]
async fn an_ipv6_socket_for_all_takes_ipv4_as_well() {
    let rig = rig(dns(DnsListen::Configured(vec![address("[::]:0")])));
    let port = rig.address().port();
    let v4 = over_udp(SocketAddr::new(Ipv4Addr::new(127, 0, 0, 3).into(), port), "web.local.", RecordType::A)
        .await;
    assert_eq!(data(&v4), ["127.0.0.3"]);
    let v6 = over_udp(address(&format!("[::1]:{port}")), "c11.local.", RecordType::A).await;
    assert_eq!(data(&v6), ["172.20.0.11"]);
}

#[tokio::test]
async fn wildcards_of_both_families_share_a_port() {
    let free =
        std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("bound").port();
    let both = vec![address(&format!("0.0.0.0:{free}")), address(&format!("[::]:{free}"))];
    let rig = rig(dns(DnsListen::Configured(both)));
    assert_eq!(rig.running.addresses().borrow().len(), 2);
    for server in [format!("127.0.0.1:{free}"), format!("[::1]:{free}")] {
        assert_eq!(data(&over_udp(address(&server), "c11.local.", RecordType::A).await), ["172.20.0.11"]);
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_is_whole_over_tcp() {
    let mut config = loopback();
    config.max_addresses = 0;
    let mut rig = rig(config);
    for n in 20..120 {
        rig.cluster.set(container(n, &format!("c{n}"), "shop/many@v1", &[("fairway.enable", "true")]));
    }
    rig.publish().await;
    let reply = rig.ask("many.shop.local.", RecordType::A).await;
    assert!(reply.metadata.truncation && reply.answers.is_empty());
    let mut stream = TcpStream::connect(rig.address()).await.expect("connected");
    send_framed(&mut stream, &question("many.shop.local.", RecordType::A)).await;
    assert_eq!(read_framed(&mut stream).await.answers.len(), 100);
}

#[tokio::test]
async fn a_change_of_the_catalog_is_answered_once_its_serial_is_applied() {
    let mut rig = rig(loopback());
    for (lifecycle, want) in
        [(Lifecycle::Paused, "172.20.0.12"), (Lifecycle::Running, "172.20.0.11 172.20.0.12")]
    {
        rig.cluster.change("c11", |unit| unit.lifecycle = lifecycle);
        rig.publish().await;
        assert_eq!(data(&rig.ask("web.shop.local.", RecordType::A).await).join(" "), want);
    }
}

#[tokio::test]
async fn a_reload_changes_zones_and_addresses() {
    let rig = rig(loopback());
    assert_eq!(data(&rig.ask("web.local.", RecordType::A).await), ["127.0.0.1"]);
    rig.config.send_modify(|config| {
        let config = Arc::make_mut(config);
        config.zones = vec!["local".into(), "svc.test".into()];
        config.advertise = vec![Advertise {
            clients: "127.0.0.0/8".parse().expect("a subnet"),
            address: Ipv4Addr::new(192, 0, 2, 9).into(),
        }];
    });
    let mut tries = 0;
    // There is no serial for a reload: the next answers show it.
    while data(&rig.ask("web.svc.test.", RecordType::A).await) != ["192.0.2.9"] {
        tries += 1;
        assert!(tries < 1000, "the reload never came");
    }
}

#[tokio::test]
async fn a_routed_name_without_an_address_of_the_proxy_is_told_once_it_is_asked() {
    let rig = rig(loopback());
    rig.config.send_modify(|config| Arc::make_mut(config).upstreams = vec![address("127.0.0.1:9")]);
    rig.http.send_replace(vec![address("192.0.2.1:80")]);
    rig.problems(&[]).await;
    let mut reply = rig.ask("web.local.", RecordType::A).await;
    // The listeners may still be those of before.
    while !reply.answers.is_empty() {
        reply = rig.ask("web.local.", RecordType::A).await;
    }
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    let problems = rig.problems(&["dns-no-proxy-address"]).await;
    assert!(problems[0].text.contains("127.0.0.1"), "{:?}", problems[0]);
    rig.http.send_replace(vec![address("127.0.0.1:80")]);
    rig.problems(&[]).await;
    assert_eq!(data(&rig.ask("web.local.", RecordType::A).await), ["127.0.0.1"]);
}

#[tokio::test]
async fn a_configured_listener_that_cannot_bind_is_an_error_with_address_cause_and_remedy() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("bound");
    let listen = DnsListen::Configured(vec![address("127.0.0.1:0"), taken.1]);
    let error = try_rig(dns(listen), 0).err().expect("it cannot start").to_string();
    for part in [&taken.1.to_string(), "UDP", "Address already in use", "dns.listen"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let elsewhere = DnsListen::Configured(vec![address("192.0.2.1:5353")]);
    let error = try_rig(dns(elsewhere), 0).err().expect("it cannot start").to_string();
    assert!(error.contains("192.0.2.1 is none"), "{error}");
}

/// A port that this socket holds on `host` and nobody on 127.0.0.1. Not one of those that the system gives to clients:
/// a connection of another test could take it at any time.
fn quiet_port(host: &str) -> (std::net::UdpSocket, u16) {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let free = |port: &u16| {
        let nobody = std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok()
            && std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
        nobody.then(|| std::net::UdpSocket::bind((host, *port)).ok()).flatten()
    };
    (first..first + 1000).find_map(|port| Some((free(&port)?, port))).expect("one of a thousand ports")
}

#[tokio::test]
async fn default_listeners_follow_the_networks_and_one_that_cannot_bind_is_a_problem() {
    let (holder, port) = quiet_port("127.0.0.5");
    let mut config = dns(DnsListen::Default);
    config.upstreams = vec![address("127.0.0.1:9")];
    let mut rig = try_rig(config, port).expect("it starts");
    let mut addresses = rig.running.addresses();
    let mut wait_for = async |want: Vec<String>| {
        let want: Vec<SocketAddr> = want.iter().map(|text| address(text)).collect();
        timeout(PATIENCE, addresses.wait_for(|now| *now == want)).await.expect("in time").expect("alive");
    };
    wait_for(vec![format!("127.0.0.1:{port}")]).await;

    let gateways = |rig: &mut Rig, gateways: &[&str], local: bool| {
        let gateways = gateways.iter().map(|text| text.parse().expect("an address")).collect();
        rig.cluster.networks(|network| {
            network.gateways = gateways;
            network.gateway_is_local = local;
        });
    };
    gateways(&mut rig, &["127.0.0.6"], true);
    rig.publish().await;
    wait_for(vec![format!("127.0.0.1:{port}"), format!("127.0.0.6:{port}")]).await;
    let reply = over_udp(address(&format!("127.0.0.6:{port}")), "web.local.", RecordType::A).await;
    assert_eq!(data(&reply), ["127.0.0.6"]);

    gateways(&mut rig, &["127.0.0.5"], true);
    rig.publish().await;
    let problems = rig.problems(&["listener-failed"]).await;
    assert!(problems[0].text.contains(&format!("127.0.0.5:{port}")), "{:?}", problems[0]);
    wait_for(vec![format!("127.0.0.1:{port}")]).await;

    // Another network comes: what failed is tried again.
    drop(holder);
    gateways(&mut rig, &["127.0.0.5", "127.0.0.7"], true);
    rig.publish().await;
    rig.problems(&[]).await;
    wait_for(["127.0.0.1", "127.0.0.5", "127.0.0.7"].iter().map(|ip| format!("{ip}:{port}")).collect()).await;

    gateways(&mut rig, &["127.0.0.5"], false);
    rig.publish().await;
    wait_for(vec![format!("127.0.0.1:{port}")]).await;
}

#[tokio::test]
async fn queries_are_counted_by_zone_type_and_code() {
    let mut config = loopback();
    let (upstream, _tasks) = upstream(Arc::default()).await;
    config.upstreams = vec![upstream];
    let rig = rig(config);
    rig.ask("web.local.", RecordType::A).await;
    rig.ask("no.internal.", RecordType::TXT).await;
    rig.ask("a.example.", RecordType::A).await;
    rig.ask("a.example.", RecordType::AXFR).await;
    let counted: Vec<String> = rig
        .registry
        .gather()
        .iter()
        .find(|family| family.name() == "fairway_dns_queries_total")
        .expect("counted")
        .get_metric()
        .iter()
        .map(|metric| metric.get_label().iter().map(|label| label.value()).collect::<Vec<_>>().join(" "))
        .collect();
    // Labels come by name: rcode, type, zone.
    assert_eq!(counted.len(), 4);
    for want in ["NOERROR A local", "NXDOMAIN TXT internal", "NOERROR A forwarded", "REFUSED other refused"] {
        assert!(counted.contains(&want.to_owned()), "{want} in {counted:?}");
    }
}

#[tokio::test]
async fn a_connection_that_sends_nothing_useful_is_closed() {
    let rig = rig(loopback());
    for bytes in [&[0, 3, 1, 2, 3][..], &[0, 0], &[0, 12, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut stream = TcpStream::connect(rig.address()).await.expect("connected");
        stream.write_all(bytes).await.expect("sent");
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed").expect("read");
        assert_eq!(rest, []);
    }
}

#[tokio::test]
async fn one_peer_cannot_take_all_connections() {
    let rig = rig(loopback());
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(rig.address()).await.expect("connected");
        // Answered: it has its place.
        send_framed(&mut stream, &question("web.local.", RecordType::A)).await;
        read_framed(&mut stream).await;
        open.push(stream);
    }
    let mut refused = TcpStream::connect(rig.address()).await.expect("connected");
    let mut rest = Vec::new();
    timeout(PATIENCE, refused.read_to_end(&mut rest)).await.expect("closed").expect("read");
    // Another peer still gets one.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(address("127.0.0.77:0")).expect("bound");
    let mut other = socket.connect(rig.address()).await.expect("connected");
    send_framed(&mut other, &question("web.local.", RecordType::A)).await;
    assert_eq!(read_framed(&mut other).await.answers.len(), 1);
}

#[tokio::test]
async fn after_the_shutdown_the_port_is_free() {
    let rig = rig(loopback());
    let address = rig.address();
    rig.running.shutdown(Duration::ZERO).await;
    std::net::UdpSocket::bind(address).expect("free");
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_answered_and_who_is_silent_is_not_waited_for() {
    let (rig, gate, _tasks) = forwarding().await;
    gate.shut.store(true, Ordering::SeqCst);
    let server = rig.address();
    let asked_by_udp = tokio::spawn(over_udp(server, "a.example.", RecordType::A));
    let mut asked_by_tcp = TcpStream::connect(server).await.expect("connected");
    send_framed(&mut asked_by_tcp, &question("a.example.", RecordType::MX)).await;
    while gate.asked.load(Ordering::SeqCst) < 2 {
        timeout(PATIENCE, gate.arrived.notified()).await.expect("asked");
    }
    let mut silent = TcpStream::connect(server).await.expect("connected");
    send_framed(&mut silent, &question("web.local.", RecordType::A)).await;
    read_framed(&mut silent).await;

    let ending = tokio::spawn(rig.running.shutdown(PATIENCE));
    let mut rest = Vec::new();
    timeout(PATIENCE, silent.read_to_end(&mut rest)).await.expect("closed at once").expect("in order");
    assert!(!ending.is_finished());
    gate.shut.store(false, Ordering::SeqCst);
    gate.open.notify_waiters();
    assert_eq!(data(&asked_by_udp.await.expect("answered")), ["192.0.2.1"]);
    assert_eq!(data(&read_framed(&mut asked_by_tcp).await), ["10 mail.example."]);
    timeout(PATIENCE, asked_by_tcp.read_to_end(&mut rest)).await.expect("closed").expect("in order");
    timeout(PATIENCE, ending).await.expect("ended").expect("no panic");
    std::net::UdpSocket::bind(server).expect("free");
}

/// A resolver that knows some names of `example.`, on both transports; it answers once it is let.
async fn upstream(gate: Arc<Gate>) -> (SocketAddr, [JoinHandle<()>; 2]) {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = udp.local_addr().expect("bound");
        if let Ok(tcp) = tokio::net::TcpListener::bind(address).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().expect("bound");
    let tcp_gate = gate.clone();
    let udp = Arc::new(udp);
    let over_udp = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, peer) = udp.recv_from(&mut buffer).await.expect("received");
            let request = Message::from_vec(&buffer[..length]).expect("a message");
            let (udp, gate) = (udp.clone(), gate.clone());
            tokio::spawn(async move {
                gate.pass().await;
                let reply = known(&request, true).to_vec().expect("a message");
                udp.send_to(&reply, peer).await.expect("sent");
            });
        }
    });
    let over_tcp = tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.expect("accepted");
            let gate = tcp_gate.clone();
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut bytes = vec![0; length.into()];
                    stream.read_exact(&mut bytes).await.expect("the rest");
                    gate.pass().await;
                    send_framed(&mut stream, &known(&Message::from_vec(&bytes).expect("a message"), false))
                        .await;
                }
            });
        }
    });
    (address, [over_udp, over_tcp])
}

/// Counts questions, and holds their answers back while it is shut.
#[derive(Default)]
struct Gate {
    asked: AtomicUsize,
    shut: std::sync::atomic::AtomicBool,
    arrived: Notify,
    open: Notify,
}

impl Gate {
    async fn pass(&self) {
        let opened = self.open.notified();
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_one();
        if self.shut.load(Ordering::SeqCst) {
            opened.await;
        }
    }
}

fn known(request: &Message, udp: bool) -> Message {
    let query = request.queries[0].clone();
    let mut reply = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    reply.queries.push(query.clone());
    let name = |text: &str| Name::from_str(text).expect("a name");
    let record = |owner: Name, data| Record::from_rdata(owner, 300, data);
    let address = |last| RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
    match (query.name.to_lowercase().to_string().as_str(), query.query_type) {
        ("a.example.", RecordType::A) => reply.answers.push(record(query.name, address(1))),
        ("alias.example.", RecordType::A) => {
            reply.answers.push(record(query.name, RData::CNAME(CNAME(name("b.example.")))));
            reply.answers.push(record(name("b.example."), RData::CNAME(CNAME(name("c.example.")))));
            reply.answers.push(record(name("c.example."), address(3)));
        }
        ("a.example.", RecordType::MX) => {
            reply.answers.push(record(query.name, RData::MX(MX::new(10, name("mail.example.")))));
        }
        ("a.example.", RecordType::Unknown(65280)) => {
            let data = hickory_proto::rr::rdata::NULL::with(vec![1, 2, 3]);
            reply.answers.push(record(query.name, RData::Unknown { code: query.query_type, rdata: data }));
        }
        ("large.example.", RecordType::A) if udp => reply.metadata.truncation = true,
        ("large.example.", RecordType::A) => {
            reply.answers.extend((0..150).map(|last| record(query.name.clone(), address(last))));
        }
        ("refused.example.", _) => reply.metadata.response_code = ResponseCode::Refused,
        ("silent.example.", _) => reply.metadata.response_code = ResponseCode::ServFail,
        (known, _) => {
            let soa = SOA::new(name("ns.example."), name("x.example."), 9, 60, 60, 60, 30);
            reply.authorities.push(record(name("example."), RData::SOA(soa)));
            if known != "a.example." {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
        }
    }
    reply
}

async fn forwarding() -> (Rig, Arc<Gate>, [JoinHandle<()>; 2]) {
    let gate = Arc::new(Gate::default());
    let (address, tasks) = upstream(gate.clone()).await;
    let mut config = loopback();
    config.upstreams = vec![address];
    let rig = rig(config);
    rig.problems(&[]).await;
    (rig, gate, tasks)
}

#[tokio::test]
async fn other_names_are_answered_by_the_upstream_whatever_their_type() {
    let (rig, _gate, _tasks) = forwarding().await;
    for (name, kind, want) in [
        ("a.example.", RecordType::A, vec!["192.0.2.1"]),
        ("A.Example.", RecordType::A, vec!["192.0.2.1"]),
        ("a.example.", RecordType::MX, vec!["10 mail.example."]),
        ("alias.example.", RecordType::A, vec!["192.0.2.3", "b.example.", "c.example."]),
    ] {
        let reply = rig.ask(name, kind).await;
        assert_eq!(data(&reply), want, "{name} {kind}");
        let asked = Name::from_str(name).expect("a name");
        assert!(reply.answers[0].name.eq_case(&asked), "{} for {name}", reply.answers[0].name);
        assert!(!reply.metadata.authoritative && reply.metadata.recursion_available);
    }
    let unknown = rig.ask("a.example.", RecordType::Unknown(65280)).await;
    assert_eq!(unknown.answers.len(), 1);
    let order: Vec<String> =
        rig.ask("alias.example.", RecordType::A).await.answers.iter().map(|r| r.name.to_string()).collect();
    assert_eq!(order, ["alias.example.", "b.example.", "c.example."]);
}

#[tokio::test]
async fn negative_answers_keep_their_code_and_soa() {
    let (rig, _gate, _tasks) = forwarding().await;
    for (name, kind, code) in [
        ("no.example.", RecordType::A, ResponseCode::NXDomain),
        ("a.example.", RecordType::AAAA, ResponseCode::NoError),
    ] {
        let reply = rig.ask(name, kind).await;
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, 0), "{name}");
        let soa: Vec<String> = reply.authorities.iter().map(|record| record.name.to_string()).collect();
        assert_eq!(soa, ["example."], "{name}");
    }
    assert_eq!(
        rig.ask("refused.example.", RecordType::A).await.metadata.response_code,
        ResponseCode::Refused
    );
    assert_eq!(
        rig.ask("silent.example.", RecordType::A).await.metadata.response_code,
        ResponseCode::ServFail
    );
}

#[tokio::test]
async fn a_large_answer_comes_over_tcp_on_both_sides() {
    let (rig, _gate, _tasks) = forwarding().await;
    assert!(rig.ask("large.example.", RecordType::A).await.metadata.truncation);
    let mut stream = TcpStream::connect(rig.address()).await.expect("connected");
    send_framed(&mut stream, &question("large.example.", RecordType::A)).await;
    assert_eq!(read_framed(&mut stream).await.answers.len(), 150);
}

#[tokio::test]
async fn one_question_of_a_kind_is_asked_at_a_time_and_its_answer_is_remembered() {
    let (rig, gate, _tasks) = forwarding().await;
    gate.shut.store(true, Ordering::SeqCst);
    let server = rig.address();
    let asking: Vec<_> =
        (0..20).map(|_| tokio::spawn(over_udp(server, "a.example.", RecordType::A))).collect();
    timeout(PATIENCE, gate.arrived.notified()).await.expect("asked");
    // A question of ours goes behind the twenty on the same socket: when it is answered, they are all under way.
    rig.ask("web.local.", RecordType::A).await;
    gate.shut.store(false, Ordering::SeqCst);
    gate.open.notify_waiters();
    for asked in asking {
        assert_eq!(data(&asked.await.expect("answered")), ["192.0.2.1"]);
    }
    assert_eq!(data(&rig.ask("a.example.", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(gate.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn our_names_are_answered_while_an_upstream_is_silent() {
    let (rig, gate, _tasks) = forwarding().await;
    gate.shut.store(true, Ordering::SeqCst);
    let mut stream = TcpStream::connect(rig.address()).await.expect("connected");
    send_framed(&mut stream, &question("a.example.", RecordType::A)).await;
    timeout(PATIENCE, gate.arrived.notified()).await.expect("asked");
    assert_eq!(rig.ask("c11.local.", RecordType::A).await.answers.len(), 1);
    // On the same connection, too: answers come when they are ready.
    let ours = question("c12.local.", RecordType::A);
    send_framed(&mut stream, &ours).await;
    assert_eq!(read_framed(&mut stream).await.metadata.id, ours.metadata.id);
    gate.shut.store(false, Ordering::SeqCst);
    gate.open.notify_waiters();
    assert_eq!(data(&read_framed(&mut stream).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn without_an_upstream_other_names_fail_and_there_is_a_problem() {
    let rig = rig(loopback());
    let own = rig.address();
    rig.config.send_modify(|config| Arc::make_mut(config).upstreams = vec![own]);
    rig.problems(&["dns-upstream-loop", "dns-no-upstream"]).await;
    let reply = rig.ask("a.example.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(data(&rig.ask("c11.local.", RecordType::A).await), ["172.20.0.11"]);
}

#[tokio::test]
async fn upstreams_that_do_not_answer_are_told_until_one_does() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("bound");
    let mut config = loopback();
    config.upstreams = vec![free];
    let rig = rig(config);
    let server = rig.address();
    let ask = |n: u8| async move { over_udp(server, &format!("n{n}.example."), RecordType::A).await };
    let asking: Vec<_> = (0..5).map(|n| tokio::spawn(ask(n))).collect();
    for asked in asking {
        assert_eq!(asked.await.expect("answered").metadata.response_code, ResponseCode::ServFail);
    }
    let problems = rig.problems(&["dns-upstream-silent"]).await;
    assert!(problems[0].text.contains(&free.to_string()), "{:?}", problems[0]);

    // A resolver comes to live there.
    let udp = UdpSocket::bind(free).await.expect("a socket");
    let answering = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
            let request = Message::from_vec(&buffer[..length]).expect("a message");
            udp.send_to(&known(&request, true).to_vec().expect("a message"), peer).await.expect("sent");
        }
    });
    assert_eq!(data(&rig.ask("a.example.", RecordType::A).await), ["192.0.2.1"]);
    rig.problems(&[]).await;
    answering.abort();
}

#[tokio::test]
async fn two_that_forward_to_each_other_end_in_a_failure_and_live_on() {
    // Each must know the other's address, and only one can be told it at its start.
    let first = rig(loopback());
    let own = first.address();
    first.config.send_modify(|config| Arc::make_mut(config).upstreams = vec![own]);
    first.problems(&["dns-upstream-loop", "dns-no-upstream"]).await;
    let mut config = loopback();
    config.upstreams = vec![own];
    let second = rig(config);
    let other = second.address();
    first.config.send_modify(|config| Arc::make_mut(config).upstreams = vec![other]);
    first.problems(&[]).await;
    let reply = first.ask("a.example.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    for rig in [&first, &second] {
        assert_eq!(data(&rig.ask("c11.local.", RecordType::A).await), ["172.20.0.11"]);
    }
}

#[tokio::test]
async fn another_process_answers_on_the_same_sockets_as_soon_as_it_may() {
    let old = rig(loopback());
    let asked = old.address();
    let (open, opened) = watch::channel(false);
    let adopted = Adopted { sockets: old.running.listening_sockets().expect("duplicates"), open: opened };
    let new = adopting_rig(loopback(), adopted, 0).expect("it starts");
    assert_eq!(new.address(), asked);
    for _ in 0..20 {
        assert_eq!(
            data(&old.ask("web.internal.", RecordType::A).await),
            ["127.0.0.1"],
            "the old one answers"
        );
    }
    old.running.shutdown(Duration::ZERO).await;
    let waiting = tokio::spawn(over_udp(asked, "web.internal.", RecordType::A));
    open.send_replace(true);
    assert_eq!(data(&waiting.await.expect("no panic")), ["127.0.0.1"], "what came in between is answered");
    let mut stream = TcpStream::connect(asked).await.expect("connected");
    send_framed(&mut stream, &question("web.internal.", RecordType::A)).await;
    assert_eq!(data(&read_framed(&mut stream).await), ["127.0.0.1"]);
}
