//! Fields that say where a request came from, and fields for one hop: nobody spoofs the former, nobody strips ours by the
//! latter (RFC 9110 section 7.6.1, design rules 11 and "Proxy behaviour").

use fairway_testkit::raw_origin::RawOrigin;
use tokio::net::TcpStream;

use crate::table::{Bench, access, config, start};

const SPOOFED: &str = "6.6.6.6";

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

#[tokio::test]
async fn a_stranger_says_nothing_about_where_a_request_came_from() {
    let mut bench = Bench::start().await;
    // What is checked of each row that passes: every field of our own is there once, with our value.
    for (what, fields) in [
        ("X-Forwarded-For", "X-Forwarded-For: 6.6.6.6\r\n"),
        ("X-Forwarded-For, small", "x-forwarded-for: 6.6.6.6\r\n"),
        ("X-Forwarded-For, twice", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 127.0.0.1\r\n"),
        ("X-Forwarded-For, empty", "X-Forwarded-For:\r\n"),
        ("X-Forwarded-For, garbage", "X-Forwarded-For: ,,\"6.6.6.6\"; ]\u{ff}\r\n"),
        ("X-Forwarded-Proto", "X-Forwarded-Proto: https\r\n"),
        ("X-Forwarded-Host", "X-Forwarded-Host: b.test\r\n"),
        ("X-Forwarded-Port", "X-Forwarded-Port: 6\r\n"),
        ("X-Real-Ip", "X-Real-IP: 6.6.6.6\r\n"),
        ("Forwarded", "Forwarded: for=6.6.6.6;host=b.test;proto=https\r\n"),
        ("X-Request-Id", "X-Request-Id: 6.6.6.6-6.6.6.6-6.6.6.6\r\n"),
        (
            "all of them",
            "X-Forwarded-For: 6.6.6.6\r\nX-Real-Ip: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Proto: https\r\n",
        ),
        (
            "aliases by underscores",
            "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_For: 6.6.6.6\r\nX_Forwarded-For: 6.6.6.6\r\n",
        ),
        ("an alias of X-Real-Ip", "X_Real_IP: 6.6.6.6\r\nx_real-ip: 6.6.6.6\r\n"),
        ("an alias of X-Forwarded-Proto", "X_FORWARDED_PROTO: https\r\n"),
        ("an alias of X-Forwarded-Host", "x_forwarded_host: b.test\r\n"),
        ("an alias of X-Forwarded-Port", "X_Forwarded_Port: 6\r\n"),
        ("an alias of X-Request-Id", "X_Request_Id: 6\r\n"),
        (
            "a certificate that nobody showed",
            "X-Client-Cert-Subject: CN=6.6.6.6\r\nX-Client-Cert-Fingerprint: 6.6.6.6\r\n",
        ),
        ("an alias of X-Client-Cert-Subject", "X_Client_Cert_Subject: CN=6.6.6.6\r\n"),
        (
            "an alias of X-Client-Cert-Fingerprint",
            "X-Client_Cert-Fingerprint: 6.6.6.6\r\nX_CLIENT_CERT_FINGERPRINT: 6\r\n",
        ),
        (
            "any X-Forwarded field",
            "X-Forwarded-Server: 6.6.6.6\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Forx: 6.6.6.6\r\n",
        ),
        (
            "an alias of any X-Forwarded field",
            "X_Forwarded_Server: 6.6.6.6\r\nx_forwarded-anything_of_any_length: 6\r\n",
        ),
        (
            "another path than was asked for",
            "X-Original-URL: /6.6.6.6\r\nX-Rewrite-URL: /6.6.6.6\r\nx_original_url: /6\r\n",
        ),
        ("TLS in other words", "Front-End-Https: on\r\nX-Url-Scheme: https\r\nFRONT_END_HTTPS: on\r\n"),
        (
            "the client in other words",
            "X-Client-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nCF-Connecting-IP: 6.6.6.6\r\nX-Cluster-Client-Ip: 6.6.6.6\r\nX_Client_IP: 6.6.6.6\r\n",
        ),
        ("Proxy", "Proxy: http://6.6.6.6\r\n"),
        ("PROXY", "PROXY: http://6.6.6.6\r\n"),
        ("a trace that is none", "traceparent: 00-6-6-00\r\ntracestate: a=b\r\n"),
        (
            "two traces",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-01\r\n",
        ),
        ("a trace of zeros", "traceparent: 00-00000000000000000000000000000000-0000000000000000-01\r\n"),
        ("a state without a trace", "tracestate: a=b\r\n"),
    ] {
        bench.passes(what, &get(fields), &get("")).await;
        let got = bench.forwards(what, &get(fields)).await;
        assert!(!format!("{got:?}").contains(SPOOFED), "{what}: {got:?}");
    }
    for kept in [
        "my_field: 1\r\n",
        "_: 1\r\n",
        "X-Forwardedness: 1\r\n",
        "X-HTTP-Method-Override: PUT\r\n",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=b\r\n",
        "Proxy-Authorization: x\r\n",
    ] {
        bench.passes(kept, &get(kept), &get(kept)).await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn what_connection_names_goes_no_further_and_ours_cannot_be_named_away() {
    let mut bench = Bench::start().await;
    for (what, fields) in [
        ("X-Forwarded-For", "Connection: X-Forwarded-For\r\n"),
        ("X-Forwarded-For beside close", "Connection: keep-alive, X-Forwarded-For, X-Forwarded-Proto\r\n"),
        (
            "all of ours",
            "Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Forwarded-Port, X-Real-Ip, X-Request-Id, Forwarded, Via\r\n",
        ),
        (
            "ours in several fields",
            "Connection: X-Real-Ip\r\nconnection: x-forwarded-for\r\nCONNECTION: Via\r\n",
        ),
        ("Host", "Connection: Host\r\n"),
        ("Connection", "Connection: Connection\r\n"),
        ("a field that is not there", "Connection: X-Nothing\r\n"),
        ("a field of its own", "Connection: X-Secret\r\nX-Secret: 1\r\n"),
        ("a field in other letters, before it", "X-SECRET: 1\r\nConnection: x-secret\r\n"),
        ("a field that is there twice", "X-Secret: 1\r\nConnection: X-Secret\r\nx-secret: 2\r\n"),
        ("Authorization", "Authorization: x\r\nConnection: Authorization\r\n"),
        ("blanks and empty elements", "X-Secret: 1\r\nConnection: ,\t X-Secret\t ,,\r\n"),
        ("Keep-Alive", "Keep-Alive: timeout=5\r\nConnection: Keep-Alive\r\n"),
        ("Keep-Alive, not named", "Keep-Alive: timeout=5\r\n"),
        ("Proxy-Connection", "Proxy-Connection: keep-alive\r\n"),
        ("TE, not trailers", "TE: gzip, deflate;q=0.5\r\nConnection: TE\r\n"),
        ("TE, not named", "TE: gzip\r\n"),
        ("HTTP2-Settings", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
        ("Upgrade, not named", "Upgrade: websocket\r\n"),
        ("Upgrade, not there", "Connection: Upgrade\r\n"),
        ("Upgrade to what is not served", "Connection: Upgrade\r\nUpgrade: tls/1.0\r\n"),
        ("Transfer-Encoding, not there", "Connection: Transfer-Encoding\r\n"),
        ("Trailer without chunks", "Trailer: X-Sum\r\n"),
        (
            "aliases of what is for one hop",
            "Keep_Alive: x\r\nProxy_Connection: x\r\nTransfer_Encoding: chunked\r\n",
        ),
    ] {
        bench.passes(what, &get(fields), &get("")).await;
    }
    let te = "Connection: TE\r\nTE: trailers\r\n";
    for fields in [te, "TE: trailers\r\n", "TE: gzip;q=1, Trailers\r\nConnection: close-not\r\n"] {
        bench.passes(fields, &get(fields), &get(te)).await;
    }
    bench.passes_and_closes("close", &get("Connection: close\r\n"), &get("")).await;
    bench.passes_and_closes("Close", &get("Connection: x, CLOSE\r\n"), &get("")).await;
    bench
        .passes_and_closes("keep-alive and close", &get("Connection: keep-alive, close\r\n"), &get(""))
        .await;
    let old = "GET / HTTP/1.0\r\nHost: a.test\r\n";
    bench.passes_and_closes("HTTP/1.0", &format!("{old}\r\n"), &get("")).await;
    bench
        .passes_and_closes(
            "Proxy-Connection",
            &format!("{old}Proxy-Connection: keep-alive\r\n\r\n"),
            &get(""),
        )
        .await;
    bench.finish().await;
}

#[tokio::test]
async fn a_trusted_peer_is_believed_as_far_as_it_can_be_read() {
    let more = "[proxy]\nthreads = 1\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n";
    let mut bench = Bench::with(more).await;
    for (what, fields, chain, client) in [
        ("one", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4, 127.0.0.1", "1.2.3.4"),
        (
            "named away on the way here",
            "Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n",
            "1.2.3.4, 127.0.0.1",
            "1.2.3.4",
        ),
        (
            "a lie in front",
            "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.1\r\n",
            "6.6.6.6, 1.2.3.4, 10.0.0.1, 127.0.0.1",
            "1.2.3.4",
        ),
        (
            "two fields",
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n",
            "6.6.6.6, 1.2.3.4, 127.0.0.1",
            "1.2.3.4",
        ),
        (
            "an alias",
            "X-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 6.6.6.6\r\n",
            "1.2.3.4, 127.0.0.1",
            "1.2.3.4",
        ),
        ("nothing", "", "127.0.0.1", "127.0.0.1"),
        ("empty", "X-Forwarded-For:\r\n", "127.0.0.1", "127.0.0.1"),
        ("garbage on the right", "X-Forwarded-For: 1.2.3.4, x\r\n", "1.2.3.4, x, 127.0.0.1", "127.0.0.1"),
        ("all trusted", "X-Forwarded-For: 10.0.0.1\r\n", "10.0.0.1, 127.0.0.1", "10.0.0.1"),
        ("with a port", "X-Forwarded-For: 1.2.3.4:56\r\n", "1.2.3.4:56, 127.0.0.1", "1.2.3.4"),
        ("IPv6", "X-Forwarded-For: [2001:db8::1]:56\r\n", "[2001:db8::1]:56, 127.0.0.1", "2001:db8::1"),
        ("octal", "X-Forwarded-For: 01.2.3.4\r\n", "01.2.3.4, 127.0.0.1", "127.0.0.1"),
        ("a number", "X-Forwarded-For: 16909060\r\n", "16909060, 127.0.0.1", "127.0.0.1"),
    ] {
        let got = bench.forwards(what, &get(fields)).await;
        assert_eq!(got.get("x-forwarded-for"), [chain], "{what}: {got:?}");
        assert_eq!(got.get("x-real-ip"), [client], "{what}: {got:?}");
        assert_eq!((got.get("via").len(), got.get("forwarded").len()), (1, 1), "{what}: {got:?}");
    }
    let got = bench.forwards("an id", &get("X-Request-Id: abc-1\r\n")).await;
    assert_eq!(got.get("x-request-id"), ["abc-1"]);
    for bad in ["a b", "a\"b", "a\\b", "a,b", "\u{e4}", &"a".repeat(129), ""] {
        let got = bench.forwards(bad, &get(&format!("X-Request-Id: {bad}\r\n"))).await;
        let id = got.get("x-request-id");
        assert!(id.len() == 1 && id[0].len() == 32, "{bad}: {got:?}");
    }
    let many = vec!["10.0.0.1"; 6000].join(",");
    let got = bench.forwards("6,000 hops", &get(&format!("X-Forwarded-For: {many}\r\n"))).await;
    assert_eq!(got.get("x-real-ip"), ["10.0.0.1"]);
    bench.finish().await;
}

#[tokio::test]
async fn a_request_that_comes_by_again_and_again_is_a_loop() {
    let mut bench = Bench::start().await;
    for (what, fields) in [
        ("six fields", "Via: 1.1 edge\r\n".repeat(6)),
        ("one field", format!("Via: {}1.1 x\r\n", "1.1 edge, ".repeat(6))),
        (
            "with comments and ports of others",
            format!("Via: {}\r\n", "HTTP/1.1 edge (x), 1.0 b:80,".repeat(6)),
        ),
        ("nominated away", format!("Connection: Via\r\n{}", "Via: 1.1 edge\r\n".repeat(6))),
    ] {
        bench.refuses(what, &get(&fields), 508, "loop").await;
    }
    for (what, fields) in [
        ("five times", "Via: 1.1 edge\r\n".repeat(5)),
        ("others", "Via: 1.1 edges, 1.1 edg, edge, 1.1 x (edge)\r\n".repeat(20)),
    ] {
        let got = bench.forwards(what, &get(&fields)).await;
        assert!(got.get("via").len() == 1 && got.get("via")[0].ends_with(", 1.1 edge"), "{what}: {got:?}");
    }
    bench.finish().await;
}

#[tokio::test]
async fn a_service_that_leads_back_here_ends_in_a_refusal_and_one_that_is_here_is_no_instance() {
    // By a detour that Fairway cannot see: each pass is a request, until `Via` names this node too often.
    let detour = RawOrigin::start().await;
    let fairway = start(&[detour.address()], "", "").await;
    let address = fairway.http();
    let relay = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let mut from = detour.accept().await.stream;
            open.push(tokio::spawn(async move {
                let mut to = TcpStream::connect(address).await.expect("fairway accepts");
                // Either side may close as it likes.
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            }));
        }
    });
    let answer = fairway.get("a.test", "/").await;
    assert_eq!((answer.status, &answer.json()["type"]), (508, &"loop".into()));
    let told = fairway.log().find(|lines| {
        let told: Vec<_> = lines.iter().filter_map(|line| access(line)).collect();
        (told.len() >= 7).then_some(told)
    });
    let told = told.await.expect("fairway runs");
    assert_eq!(told[0], (508, "loop".to_owned()), "the last pass ends first");
    assert!(told[1..].iter().all(|line| *line == (508, "ok".to_owned())) && told.len() == 7, "{told:?}");
    // Directly: its own listener is no instance.
    let own = config(&[address], "", "[docker]\nenabled = false\n");
    std::fs::write(fairway.config_file(), own).expect("the file is there");
    fairway.reload();
    let named = |problems: &serde_json::Value| problems.to_string().contains(&address.to_string());
    fairway.wait_until("a problem that names it", "/api/v1/problems", named).await;
    let list = fairway.list("instances").await;
    assert!(list.is_empty() || list.iter().all(|instance| instance["condition"] != "ready"), "{list:?}");
    relay.abort();
}
