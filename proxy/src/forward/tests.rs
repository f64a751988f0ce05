use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use fairway_catalog::InternalClients;

use super::*;

fn request(text: &str) -> RequestHead {
    RequestHead::read(Bytes::copy_from_slice(text.as_bytes())).expect("a request")
}

/// The head that an instance gets, from this peer; 10.0.0.0/8 is trusted.
fn forwarded(peer: &str, fields: &str) -> String {
    let head = request(&format!("GET /a?b HTTP/1.1\r\nHost: Shop.a:8080\r\n{fields}\r\n"));
    written(&head, peer, None)
}

fn written(head: &RequestHead, peer: &str, upgrade: Option<&Arc<str>>) -> String {
    written_with(head, peer, upgrade, false)
}

fn written_with(head: &RequestHead, peer: &str, upgrade: Option<&Arc<str>>, hides_cookie: bool) -> String {
    let peer: IpAddr = peer.parse().expect("an address");
    let trusted = ["10.0.0.0/8".parse().expect("a net")];
    let client = Client::of(head, peer, false, &trusted, &InternalClients::default());
    let ends = Ends { peer: SocketAddr::new(peer, 1234), local: SocketAddr::from(([127, 0, 0, 1], 8080)) };
    let id = RequestId::sent(b"id-1").expect("an id");
    let mut out = Vec::new();
    let (peer, over_http2, certificate) = (&AddressText::new(peer), false, None);
    let origin = Origin {
        client: &client,
        peer,
        ends,
        over_http2,
        node: "edge",
        id: &id,
        upgrade,
        hides_cookie,
        certificate,
        applied: None,
    };
    write_request(&mut out, head, &origin);
    String::from_utf8(out).expect("text")
}

fn lines_of<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let value = |line: &'a str| {
        let (field, value) = line.split_once(": ")?;
        field.eq_ignore_ascii_case(name).then_some(value)
    };
    head.split("\r\n").filter_map(value).collect()
}

#[test]
fn a_stranger_cannot_say_where_a_request_came_from() {
    let spoofed = "X-Forwarded-For: 1.1.1.1\r\nx-forwarded-proto: https\r\nX-Forwarded-Host: evil\r\n\
        X-Forwarded-Port: 1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Request-Id: mine\r\n\
        X_Forwarded_For: 1.1.1.1\r\nx-forwarded_proto: https\r\nProxy: http://evil\r\nX-Own: stays\r\n";
    let head = forwarded("192.0.2.1", spoofed);
    for (name, want) in [
        ("X-Forwarded-For", vec!["192.0.2.1"]),
        ("X-Forwarded-Proto", vec!["http"]),
        ("X-Forwarded-Host", vec!["Shop.a:8080"]),
        ("X-Forwarded-Port", vec!["8080"]),
        ("X-Real-Ip", vec!["192.0.2.1"]),
        ("X-Request-Id", vec!["id-1"]),
        ("Forwarded", vec!["for=192.0.2.1;host=\"Shop.a:8080\";proto=http"]),
        ("X_Forwarded_For", vec![]),
        ("x-forwarded_proto", vec![]),
        ("Proxy", vec![]),
        ("X-Own", vec!["stays"]),
        ("Host", vec!["Shop.a:8080"]),
        ("Via", vec!["1.1 edge"]),
    ] {
        assert_eq!(lines_of(&head, name), want, "{name} in {head}");
    }
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\nHost: ") && head.ends_with("\r\n\r\n"));
    assert_eq!(head.matches("\r\n\r\n").count(), 1);
}

#[test]
fn what_other_proxies_say_of_a_request_is_believed_of_trusted_ones_alone() {
    for name in [
        "X-Forwarded-Server",
        "X-Forwarded-Ssl",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-Anything-At-All",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Front-End-Https",
        "X-Url-Scheme",
        "X-Client-IP",
        "True-Client-IP",
        "X-Cluster-Client-IP",
        "CF-Connecting-IP",
    ] {
        for alias in [name.to_owned(), name.replace('-', "_"), name.replacen('-', "_", 1)] {
            let field = format!("{alias}: 1\r\n");
            let stranger = forwarded("192.0.2.1", &field);
            assert_eq!(lines_of(&stranger, &alias), [""; 0], "{stranger}");
            let proxy = forwarded("10.0.0.9", &field);
            let want: &[&str] = if alias == name { &["1"] } else { &[] };
            assert_eq!(lines_of(&proxy, &alias), want, "{proxy}");
        }
    }
}

#[test]
fn what_a_trusted_proxy_says_goes_on_with_its_address_added() {
    let said = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: shop.company.com\r\nX-Forwarded-Port: 443\r\n";
    let head = forwarded("10.0.0.9", said);
    for (name, want) in [
        ("X-Forwarded-For", "1.1.1.1, 2.2.2.2, 10.0.0.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.company.com"),
        ("X-Forwarded-Port", "443"),
        ("X-Real-Ip", "2.2.2.2"),
        ("Forwarded", "for=1.1.1.1, for=2.2.2.2, for=10.0.0.9;host=\"Shop.a:8080\";proto=https"),
    ] {
        assert_eq!(lines_of(&head, name), [want], "{name}");
    }
    let head = forwarded("10.0.0.9", "Forwarded: for=\"[2001:db8::1]\"\r\n");
    let want = "for=\"[2001:db8::1]\", for=10.0.0.9;host=\"Shop.a:8080\";proto=http";
    assert_eq!(lines_of(&head, "Forwarded"), [want]);
}

#[test]
fn fields_for_one_hop_are_removed_and_ours_cannot_be() {
    let nominated = "Connection: keep-alive, X-Forwarded-For, X-Real-IP, Forwarded, Via, Host, X-Own\r\n\
        Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
        X-Own: goes\r\nX-Other: stays\r\n";
    let head = forwarded("192.0.2.1", nominated);
    for name in ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "HTTP2-Settings", "X-Own"] {
        assert_eq!(lines_of(&head, name), [""; 0], "{name}");
    }
    for name in ["X-Forwarded-For", "X-Real-Ip", "Forwarded", "Via", "Host", "X-Other"] {
        assert_eq!(lines_of(&head, name).len(), 1, "{name}");
    }
}

#[test]
fn the_body_is_framed_as_it_came() {
    let framing = |fields: &str| {
        let head = forwarded("192.0.2.1", fields);
        let one = |name| lines_of(&head, name).first().map(|value| (*value).to_owned());
        (one("Content-Length"), one("Transfer-Encoding"))
    };
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(framing(""), (None, None));
    assert_eq!(framing("Content-Length: 0\r\n"), (text("0"), None));
    assert_eq!(framing("content-length: 007\r\n"), (text("7"), None));
    assert_eq!(framing("Transfer-Encoding: chunked\r\n"), (None, text("chunked")));
}

#[test]
fn a_trace_context_goes_on_if_it_is_valid() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let good = forwarded("192.0.2.1", &format!("traceparent: {parent}\r\ntracestate: a=b\r\n"));
    assert_eq!((lines_of(&good, "traceparent"), lines_of(&good, "tracestate")), (vec![parent], vec!["a=b"]));
    let bad = forwarded("192.0.2.1", "traceparent: 00-0-0-01\r\ntracestate: a=b\r\n");
    assert_eq!((lines_of(&bad, "traceparent"), lines_of(&bad, "tracestate")), (vec![], vec![]));
}

#[test]
fn via_grows_and_tells_loops() {
    let head =
        request("GET / HTTP/1.0\r\nHost: a\r\nVia: 1.1 edge, 1.1 other (x)\r\nVia: HTTP/1.1 edge\r\n\r\n");
    assert_eq!(passes(&head, "edge"), 2);
    assert_eq!(passes(&head, "ed"), 0);
    let out = written(&head, "192.0.2.1", None);
    assert_eq!(lines_of(&out, "Via"), ["1.1 edge, 1.1 other (x), HTTP/1.1 edge, 1.0 edge"]);
}

#[test]
fn only_the_protocol_that_was_chosen_is_asked_for() {
    let head = request("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c, websocket\r\n\r\n");
    let out = written(&head, "192.0.2.1", Some(&"websocket".into()));
    assert_eq!(
        (lines_of(&out, "Connection"), lines_of(&out, "Upgrade")),
        (vec!["Upgrade"], vec!["websocket"])
    );
}

fn answered(text: &str, plan: ResponsePlan<'_>) -> String {
    let head = ResponseHead::read(Bytes::copy_from_slice(text.as_bytes()), false).expect("an answer");
    let mut out = Vec::new();
    write_response(&mut out, &head, &plan);
    String::from_utf8(out).expect("text")
}

#[test]
fn an_answer_is_framed_for_the_client_and_says_whether_the_connection_stays() {
    let from =
        "HTTP/1.1 200 OK\r\nConnection: close, X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nServer: s\r\n";
    let keep = ResponsePlan {
        length: BodyLength::Chunked,
        close: false,
        says_keep_alive: false,
        hsts: None,
        added: b"",
        changes: None,
    };
    assert_eq!(
        answered(&format!("{from}\r\n"), keep),
        "HTTP/1.1 200 OK\r\nServer: s\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let length = BodyLength::Exactly(5);
    assert_eq!(
        answered(&format!("{from}Content-Length: 5\r\n\r\n"), ResponsePlan { length, close: true, ..keep }),
        "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    );
    let plan = ResponsePlan {
        length: BodyLength::Empty,
        close: false,
        says_keep_alive: true,
        hsts: None,
        added: b"",
        changes: None,
    };
    assert_eq!(
        answered("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", plan),
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"
    );
}

#[test]
fn our_cookie_stays_here_and_the_others_go_on_in_their_order() {
    let sent = "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; FAIRWAY=x; b=\"2\"\r\nX: 1\r\ncookie: FAIRWAY=y\r\nCOOKIE: c=3\r\n\r\n";
    let head = RequestHead::read(Bytes::from_static(sent.as_bytes())).expect("a request");
    assert_eq!(lines_of(&written_with(&head, "192.0.2.7", None, true), "cookie"), ["a=1; b=\"2\"", "c=3"]);
    let all = ["a=1; FAIRWAY=x; b=\"2\"", "FAIRWAY=y", "c=3"];
    assert_eq!(lines_of(&written(&head, "192.0.2.7", None), "cookie"), all);
    let named = sent.replace("X: 1", "Connection: cookie");
    let head = RequestHead::read(Bytes::from(named)).expect("a request");
    assert!(lines_of(&written_with(&head, "192.0.2.7", None, true), "cookie").is_empty());
}

#[test]
fn who_asks_for_an_account_is_between_the_client_and_us() {
    let sent = "GET / HTTP/1.1\r\nHost: a\r\nX-Fairway-Explain: 1\r\n\r\n";
    let head = RequestHead::read(Bytes::from_static(sent.as_bytes())).expect("a request");
    assert!(lines_of(&written(&head, "192.0.2.7", None), "x-fairway-explain").is_empty());
    let answer = "HTTP/1.1 200 OK\r\nX-Fairway-Explain: lies\r\nA: b\r\nContent-Length: 0\r\n\r\n";
    let plan = ResponsePlan {
        length: BodyLength::Exactly(0),
        close: false,
        says_keep_alive: false,
        hsts: None,
        added: b"X-Fairway-Explain: route=a/\r\n",
        changes: None,
    };
    assert_eq!(lines_of(&answered(answer, plan), "x-fairway-explain"), ["route=a/"]);
}
