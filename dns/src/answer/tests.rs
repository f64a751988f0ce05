//! Requests in bytes, replies in bytes: what must be refused, cut, kept and dropped.

use std::str::FromStr;
use std::sync::LazyLock;

use fastrand::Rng;
use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::*;
use crate::testkit::{Cluster, config, container, ip};
use crate::zone::ZoneConfig;

const INTERNAL: &str = "172.20.0.99:40000";
const STRANGER: &str = "203.0.113.9:40000";

/// A service of 200 instances, so that answers grow beyond a datagram.
static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let labels = [("aliyun.routing.port_80", "web.local")];
    let unit = |n: u8| container(n, &format!("c{n}"), "shop/web@v1", &labels);
    Cluster::of((1..=200).map(unit).collect()).zone_with(ZoneConfig { max_addresses: 0, ..config() })
});

fn act(zone: &Zone, source: &str, transport: Transport, bytes: &[u8]) -> Action {
    let asked = Asked {
        source: source.parse().expect("an address"),
        arrived_on: Some(ip("172.20.0.1")),
        transport,
        route_to: &|_| None,
    };
    answer(zone, &asked, bytes, &mut Rng::with_seed(1))
}

fn request(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_str(name).expect("a name"), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(0);
    message.edns = Some(edns);
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message")
}

fn reply_bytes(zone: &Zone, source: &str, transport: Transport, request: &[u8]) -> Vec<u8> {
    match act(zone, source, transport, request) {
        Action::Reply(reply) => reply.bytes,
        other => panic!("no reply: {other:?}"),
    }
}

fn reply_to(zone: &Zone, request: &Message) -> Message {
    let bytes = reply_bytes(zone, INTERNAL, Transport::Udp, &bytes(request));
    Message::from_vec(&bytes).expect("a message")
}

#[test]
fn a_reply_repeats_the_question_as_it_was_written() {
    let request = request("WeB.LoCaL.", RecordType::A);
    let reply = reply_to(&ZONE, &request);
    assert_eq!(reply.metadata.id, request.metadata.id);
    assert!(reply.queries[0].name.eq_case(&request.queries[0].name));
    assert!(reply.answers[0].name.eq_case(&request.queries[0].name));
    assert!(
        reply.metadata.authoritative
            && reply.metadata.recursion_desired
            && reply.metadata.recursion_available
    );
    assert_eq!(reply.edns, None);
}

#[test]
fn strangers_are_refused_whatever_they_ask() {
    let zone = &*ZONE;
    for name in ["web.local.", "example.com.", "1.0.20.172.in-addr.arpa."] {
        let request = request(name, RecordType::A);
        let reply = reply_bytes(zone, STRANGER, Transport::Udp, &bytes(&request));
        let reply = Message::from_vec(&reply).expect("a message");
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{name}");
        assert!(reply.answers.is_empty() && !reply.metadata.recursion_available);
    }
}

#[test]
fn a_mapped_address_counts_as_the_ipv4_one() {
    let request = bytes(&request("web.local.", RecordType::A));
    let reply = reply_bytes(&ZONE, "[::ffff:172.20.0.99]:4000", Transport::Udp, &request);
    assert_eq!(Message::from_vec(&reply).expect("a message").answers.len(), 1);
}

#[test]
fn responses_and_fragments_are_dropped() {
    let zone = &*ZONE;
    let whole = bytes(&request("web.local.", RecordType::A));
    let mut response = whole.clone();
    response[2] |= 0x80;
    for bytes in [&response[..], &whole[..11], &[]] {
        assert!(matches!(act(zone, INTERNAL, Transport::Udp, bytes), Action::Drop));
    }
    assert!(matches!(act(zone, "172.20.0.99:0", Transport::Udp, &whole), Action::Drop));
}

#[test]
fn what_cannot_be_read_is_told_so_without_repeating_it() {
    let zone = &*ZONE;
    let whole = bytes(&request("web.local.", RecordType::A));
    let mut two_questions = whole.clone();
    two_questions[5] = 2;
    let mut no_question = whole.clone();
    no_question[5] = 0;
    let mut self_pointer = whole[..12].to_vec();
    self_pointer.extend([0xc0, 12, 0, 1, 0, 1]);
    let mut two_opts = with_edns(request("web.local.", RecordType::A), 1232).to_vec().expect("a message");
    let opt = two_opts[two_opts.len() - 11..].to_vec();
    two_opts.extend(opt);
    two_opts[11] = 2;
    for bad in [&whole[..20], &two_questions, &no_question, &self_pointer, &two_opts] {
        let reply = reply_bytes(zone, INTERNAL, Transport::Udp, bad);
        let message = Message::from_vec(&reply).expect("a message");
        assert_eq!(message.metadata.response_code, ResponseCode::FormErr);
        assert_eq!((reply.len(), &reply[..2]), (12, &bad[..2]));
    }
}

#[test]
fn other_operations_classes_and_transfers_are_refused() {
    let zone = &*ZONE;
    let code = |change: &dyn Fn(&mut Message)| {
        let mut request = request("web.local.", RecordType::A);
        change(&mut request);
        reply_to(zone, &request).metadata.response_code
    };
    let kind = |kind: RecordType| code(&|m| m.queries[0].query_type = kind);
    assert_eq!(code(&|m| m.metadata.op_code = OpCode::Update), ResponseCode::NotImp);
    assert_eq!(code(&|m| m.metadata.op_code = OpCode::Notify), ResponseCode::NotImp);
    assert_eq!(code(&|m| m.queries[0].query_class = DNSClass::CH), ResponseCode::Refused);
    assert_eq!(kind(RecordType::AXFR), ResponseCode::Refused);
    assert_eq!(kind(RecordType::IXFR), ResponseCode::Refused);
    assert_eq!(kind(RecordType::OPT), ResponseCode::NotImp);
    assert_eq!(kind(RecordType::Unknown(200)), ResponseCode::NotImp);
}

#[test]
fn edns_is_answered_with_edns_and_a_later_version_with_badvers() {
    let zone = &*ZONE;
    let mut request = with_edns(request("web.local.", RecordType::A), 4096);
    let reply = reply_to(zone, &request);
    assert_eq!(reply.edns.map(|edns| (edns.version(), edns.max_payload())), Some((0, 1232)));
    request.edns.as_mut().expect("set").set_version(1);
    let reply = reply_to(zone, &request);
    // 16 is BADSIG, too, where there are signatures.
    assert_eq!(u16::from(reply.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert!(reply.answers.is_empty() && reply.edns.is_some());
}

#[test]
fn a_reply_fits_what_the_client_takes_or_is_cut_and_marked() {
    let zone = &*ZONE;
    let name = "web.shop.local.";
    let plain = request(name, RecordType::A);
    for (request, limit) in [
        (plain.clone(), 512),
        (with_edns(plain.clone(), 100), 512),
        (with_edns(plain.clone(), 900), 900),
        (with_edns(plain.clone(), 65535), 1232),
    ] {
        let reply = reply_bytes(zone, INTERNAL, Transport::Udp, &bytes(&request));
        assert!(reply.len() <= limit, "{} of {limit}", reply.len());
        let reply = Message::from_vec(&reply).expect("a message");
        assert!(reply.metadata.truncation && reply.answers.is_empty());
        assert_eq!(reply.edns.is_some(), request.edns.is_some());
    }
    let whole = reply_bytes(zone, INTERNAL, Transport::Tcp, &bytes(&plain));
    let whole = Message::from_vec(&whole).expect("a message");
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 200));
}

#[test]
fn addresses_beside_an_answer_are_left_out_before_the_answer_is_cut() {
    let labels = [("aliyun.routing.port_80", "web.local")];
    let unit = |n: u8| container(n, &format!("c{n}"), "shop/web@v1", &labels);
    let zone =
        Cluster::of((1..=12).map(unit).collect()).zone_with(ZoneConfig { max_addresses: 0, ..config() });
    let srv = |transport| {
        let request = bytes(&request("_http._tcp.web.shop.local.", RecordType::SRV));
        Message::from_vec(&reply_bytes(&zone, INTERNAL, transport, &request)).expect("a message")
    };
    let (udp, tcp) = (srv(Transport::Udp), srv(Transport::Tcp));
    assert_eq!((tcp.answers.len(), tcp.additionals.len()), (12, 12));
    assert_eq!((udp.answers.len(), udp.additionals.len(), udp.metadata.truncation), (12, 0, false));
}

#[test]
fn other_names_are_forwarded_for_those_who_want_recursion() {
    let zone = &*ZONE;
    let mut message = request("Example.COM.", RecordType::MX);
    let Action::Forward(forward) = act(zone, INTERNAL, Transport::Udp, &bytes(&message)) else {
        panic!("not forwarded");
    };
    let owner = Name::from_str("eXamPle.com.").expect("a name");
    let soa = Record::from_rdata(owner, 60, RData::HINFO(HINFO::new("a".into(), "b".into())));
    let upstream = Forwarded { code: ResponseCode::NXDomain, answers: vec![soa], authorities: Vec::new() };
    let reply = Message::from_vec(&forward.reply(&upstream).bytes).expect("a message");
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert!(!reply.metadata.authoritative && reply.metadata.recursion_available);
    // The name as this client wrote it, not as the upstream was asked.
    assert!(reply.answers[0].name.eq_case(&message.queries[0].name), "{}", reply.answers[0].name);

    message.metadata.recursion_desired = false;
    assert_eq!(reply_to(zone, &message).metadata.response_code, ResponseCode::Refused);
    message.metadata.recursion_desired = true;
    message.queries[0].query_type = RecordType::ANY;
    assert!(matches!(reply_to(zone, &message).answers[0].data, RData::HINFO(_)));
}

#[test]
fn a_local_name_is_never_forwarded() {
    let zone = &*ZONE;
    for name in ["no.local.", "a.b.c.internal.", "local."] {
        let request = bytes(&request(name, RecordType::A));
        assert!(matches!(act(zone, INTERNAL, Transport::Udp, &request), Action::Reply(_)), "{name}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_reply_beyond_the_limit(
        header in proptest::collection::vec(any::<u8>(), 0..14),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
        tcp in any::<bool>(),
        stranger in any::<bool>(),
    ) {
        check(&[header, rest].concat(), tcp, stranger);
    }

    #[test]
    fn no_change_to_a_good_request_makes_it_panic(
        at in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        tcp in any::<bool>(),
    ) {
        let mut request = bytes(&with_edns(request("_http._tcp.web.shop.local.", RecordType::SRV), 1232));
        for (index, byte) in at {
            let index = index.index(request.len());
            request[index] = byte;
        }
        check(&request, tcp, false);
        request.truncate(cut.index(request.len()));
        check(&request, tcp, false);
    }

    #[test]
    fn any_name_and_type_of_ours_is_answered(
        labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..5),
        kind in any::<u16>(),
    ) {
        let zone = &*ZONE;
        let labels = labels.iter().map(Vec::as_slice).chain([&b"local"[..]]);
        let name = Name::from_labels(labels).expect("a name");
        let mut message = request("local.", RecordType::from(kind));
        message.queries[0].name = name;
        let action = act(zone, INTERNAL, Transport::Udp, &bytes(&message));
        prop_assert!(matches!(action, Action::Reply(_)), "{:?}", action);
    }
}

/// A reply is never longer than allowed, is a response, and answers to the request's id.
fn check(request: &[u8], tcp: bool, stranger: bool) {
    let zone = &*ZONE;
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    let source = if stranger { STRANGER } else { INTERNAL };
    if let Action::Reply(reply) = act(zone, source, transport, request) {
        assert!(reply.bytes.len() >= 12 && reply.bytes.len() <= if tcp { 65535 } else { 1232 });
        assert_eq!(reply.bytes[..2], request[..2]);
        assert!(reply.bytes[2] & 0x80 != 0);
    }
}
