//! Whole configurations: precedence, every key, and errors told all at once.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::labels::features::{Features, StripPrefix};
use crate::labels::{Balance, BalancerProtocol, Passthrough, ProxyProtocol, SplitBy};
use crate::names::{Host, Weight};

fn system() -> System {
    System { host_name: "edge-1".into(), state_dir: "/state".into() }
}

fn with(flags: &Flags, vars: &[(&str, &str)], text: &str) -> Result<Config, ConfigErrors> {
    let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Config::from_text(Some((Path::new("/etc/fairway.toml"), text)), flags, &env, &system())
}

fn from_file(text: &str) -> Config {
    with(&Flags::default(), &[], text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

fn errors(text: &str) -> Vec<ConfigError> {
    with(&Flags::default(), &[], text).expect_err(text).0
}

/// The only error, which must be at this place and contain this advice.
fn assert_error(text: &str, place: &str, advice: &str) {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{text}: {errors:#?}");
    assert_eq!(errors[0].place, format!("/etc/fairway.toml:{place}"), "{text}");
    let message = errors[0].to_string();
    assert!(message.contains(advice), "{text}: {message}");
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

#[test]
fn without_a_file_the_defaults_stand() {
    let config = Config::load(&Flags::default(), &|_| None, &system()).expect("defaults");
    assert_eq!(config.file, None);
    assert_eq!(config.state_dir, Path::new("/state"));
    assert_eq!(&*config.node.name, "edge-1");
    assert_eq!(config.http.items, [plain_listener(addr("0.0.0.0:80"), &Limits::default())]);
    assert!(!config.http.configured && !config.https.configured && config.https.items.is_empty());
    assert_eq!(config.dns.listen, DnsListen::Default);
    assert_eq!(config.dns.zones, ["local".into(), "internal".into()]);
    assert_eq!(config.dns.max_addresses, 8);
    assert_eq!(config.admin.listen, AdminListen::Tcp(addr("127.0.0.1:9900")));
    assert!(!config.admin.configured && config.docker.enabled);
    assert_eq!(config.docker.hosts[0].endpoint, DockerEndpoint::Unix("/var/run/docker.sock".into()));
    assert_eq!(&*config.routing.domain_suffix, "localhost");
    assert_eq!(config.upstream_tls, UpstreamTls { ca: Vec::new(), identity: None, verify: true });
    assert_eq!(config.log, Log { format: LogFormat::Text, access: true });
    assert_eq!((config.shutdown_grace, config.shutdown_delay), (Duration::from_secs(30), Duration::ZERO));
    assert_eq!(config.warnings, []);
}

#[test]
fn every_key_of_every_section_is_documented() {
    let page = include_str!("../../../docs/config.md");
    let (limits, front_ports) =
        (include_str!("../../../docs/limits.md"), include_str!("../../../docs/l4.md"));
    for (text, heading) in [
        ("node.zzzzzzzz = 1", "**[node]**"),
        ("http.zzzzzzzz = 1", "**[http]**"),
        ("http.listen = [{ addr = '0.0.0.0:80', zzzzzzzz = 1 }]", "**a listener's table**"),
        ("https.zzzzzzzz = 1", "**[https]**"),
        ("https.listen = [{ addr = '0.0.0.0:80', zzzzzzzz = 1 }]", "**a listener's table**"),
        ("[[certificate]]\ncert = 'a'\nkey = 'b'\nzzzzzzzz = 1", "**[[certificate]]**"),
        ("https.listen = ['0.0.0.0:443']\nacme = { agree_terms = true, zzzzzzzz = 1 }", "**[acme]**"),
        ("dns.zzzzzzzz = 1", "**[dns]**"),
        ("admin.zzzzzzzz = 1", "**[admin]**"),
        ("docker.zzzzzzzz = 1", "**[docker]**"),
        ("routing.zzzzzzzz = 1", "**[routing]**"),
        ("proxy.zzzzzzzz = 1", "**[proxy]**"),
        ("balancers.zzzzzzzz = 1", "**[balancers]**"),
        ("upstream_tls.zzzzzzzz = 1", "**[upstream_tls]**"),
        ("log.zzzzzzzz = 1", "**[log]**"),
        ("shutdown.zzzzzzzz = 1", "**[shutdown]**"),
        ("[[split]]\nroute = 'a.com'\nweights = { v = 1 }\nzzzzzzzz = 1", "**[[split]]**"),
        ("[[webhook]]\nurl = 'http://a'\nzzzzzzzz = 1", "**[[webhook]]**"),
    ] {
        let section = page.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
        let section = section.split("\n| **").next().unwrap_or_default();
        for key in known_keys(text) {
            assert!(section.contains(&format!("`{key}`")), "docs/config.md: {heading} lacks `{key}`");
        }
    }
    for key in known_keys("limits.zzzzzzzz = 1") {
        let told = format!("`{key}`");
        assert!(limits.contains(&told) || front_ports.contains(&told), "docs/limits.md lacks {told}");
    }
    for key in known_keys("zzzzzzzz = 1") {
        let forms = [format!("`{key}`"), format!("**[{key}]**"), format!("**[[{key}]]**")];
        assert!(forms.iter().any(|form| page.contains(form)), "docs/config.md lacks {key}");
    }
}

/// The keys that are named to whoever writes an unknown one there.
fn known_keys(text: &str) -> Vec<String> {
    let ConfigErrors(errors) = with(&Flags::default(), &[], text).expect_err("an unknown key");
    let told = errors.iter().find_map(|error| error.remedy.strip_prefix("the keys here are "));
    told.unwrap_or_else(|| panic!("{text}: {errors:?}")).split(", ").map(str::to_owned).collect()
}

/// The file of the design, every key of it.
const EVERY_KEY: &str = r#"
state_dir = "state"
[node]
name = "edge"
zone = "a"
[http]
listen = ["0.0.0.0:80", { addr = "0.0.0.0:8081", proxy_protocol = true, redirect_to_https = true, upgrades = ["WebSocket", "tls/1.0"] }]
[https]
listen = ["[::]:443", { addr = "0.0.0.0:8443", min_version = "1.3", client_certificates = "optional", client_ca = "ca.pem", hsts = "max-age=1; preload" }]
handshake_timeout = "5s"
handshakes_max = 100
public_port = 444
[[certificate]]
cert = "cert.pem"
key = "/keys/key.pem"
ocsp = "cert.ocsp"
[acme]
directory = "https://acme.company.com/directory"
ca = "acme.pem"
contact = ["ops@company.com", "mailto:b@company.com"]
hosts = ["Shop.company.com"]
routes = false
challenge = "http-01"
agree_terms = true
[dns]
listen = ["127.0.0.1:53"]
zones = ["local", "Internal", "dc.company.com.", "internal"]
max_addresses = 0
advertise = [{ clients = "10.0.0.0/8", address = "10.0.0.5" }]
upstreams = ["10.0.0.2", "10.0.0.3:5353"]
[admin]
listen = "0.0.0.0:9900"
hosts = ["Edge.company.com"]
token_file = "token"
[docker]
enabled = false
hosts = ["unix:///var/run/docker.sock", { url = "tcp://10.0.0.6:2376", ca = "ca.pem", cert = "c.pem", key = "k.pem", zone = "b" }]
[routing]
domain_suffix = "example.com"
sticky_default = true
sticky_secret_file = "secret"
internal = ["10.0.0.0/8", "192.168.1.1"]
claims = [{ host = "*.company.com", projects = ["shop"] }]
[proxy]
threads = 4
trusted_proxies = ["10.9.0.0/16"]
[log]
format = "json"
access = false
[shutdown]
grace = "1m"
[[service]]
name = "legacy-shop"
project = "shop"
version = "v1"
routes = ["http://shop.company.com", "shop.local"]
instances = ["10.0.0.7:8080", "db.example.com:3306", { addr = "10.0.0.8:8080", weight = 2, zone = "b" }]
weight = 100
probe = { url = "http://container/health", timeout_seconds = 2, initial_delay_seconds = 1 }
balance = "round-robin"
timeout = { connect = "500ms", idle = "1m" }
"timeout.total" = "5m"
retries = 0
outlier = false
drain = "10s"
split_by = "client-ip"
match = ["header:x-group=beta", "cookie:beta=1"]
hedge = "p95"
dns = "weighted"
session_sticky = true
scale = 3
depends = ["db"]
zone = "c"
allow = ["10.0.0.0/8", "192.0.2.7"]
rate_limit = { route = "100/s burst 200", client = "60/m" }
in_flight_max = 50
compress = "br, gzip"
redirect = "www 308"
strip_prefix = true
add_prefix = "/v2"
auth = { basic = ["alice:{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="], realm = "Staff", forward = true, basic_file = "users" }
[service.headers]
request = ['set X-A: "b; c"', "remove Cookie"]
response = "remove Server"
[[split]]
route = "shop.company.com/"
weights = { "legacy-shop@v1" = 90, "shop/shop@v2" = 0, v3 = 10 }
"#;

#[test]
fn every_key_is_read() {
    let config = from_file(EVERY_KEY);
    assert_eq!(config.warnings, []);
    assert_eq!(config.file.as_deref(), Some(Path::new("/etc/fairway.toml")));
    assert_eq!(config.state_dir, Path::new("/etc/state"));
    assert_eq!((&*config.node.name, &*config.node.zone), ("edge", "a"));
    let second = &config.http.items[1];
    assert_eq!((second.addr, second.proxy_protocol), (addr("0.0.0.0:8081"), true));
    assert_eq!(second.upgrades, ["websocket".into(), "tls/1.0".into()]);
    assert_eq!(config.https.items[0].addr, addr("[::]:443"));
    assert_eq!((config.http.items[0].redirect_to_https, second.redirect_to_https), (false, true));
    let asked = config.https.items[1].tls.as_ref().expect("it speaks TLS");
    let clients = ClientCertificates { required: false, ca: "/etc/ca.pem".into() };
    assert_eq!((&asked.clients, asked.hsts.as_deref()), (&Some(clients), Some("max-age=1; preload")));
    let versions: Vec<_> =
        config.https.items.iter().filter_map(|item| Some(item.tls.as_ref()?.min_version)).collect();
    assert_eq!(versions, [TlsVersion::V12, TlsVersion::V13]);
    let tls = Tls { handshake_timeout: Duration::from_secs(5), handshakes_max: 100, public_port: Some(444) };
    assert_eq!(config.tls, tls);
    let certificate = CertificateFiles {
        cert: "/etc/cert.pem".into(),
        key: "/keys/key.pem".into(),
        ocsp: Some("/etc/cert.ocsp".into()),
    };
    assert_eq!(config.certificates, [certificate]);
    let acme = Acme {
        directory: "https://acme.company.com/directory".into(),
        ca: Some("/etc/acme.pem".into()),
        contact: vec!["mailto:ops@company.com".into(), "mailto:b@company.com".into()],
        hosts: vec!["shop.company.com".into()],
        routes: false,
        challenge: AcmeChallenge::Http01,
    };
    assert_eq!(config.acme, Some(acme));
    assert_eq!(config.dns.listen, DnsListen::Configured(vec![addr("127.0.0.1:53")]));
    assert_eq!(config.dns.zones, ["local".into(), "internal".into(), "dc.company.com".into()]);
    assert_eq!(config.dns.max_addresses, 0);
    assert_eq!(config.dns.advertise[0].address.to_string(), "10.0.0.5");
    assert_eq!(config.dns.upstreams, [addr("10.0.0.2:53"), addr("10.0.0.3:5353")]);
    assert_eq!(config.admin.token_file.as_deref(), Some(Path::new("/etc/token")));
    assert_eq!(config.admin.hosts, ["edge.company.com".into()]);
    assert!(!config.docker.enabled);
    assert_eq!(config.docker.hosts[1].tls.as_ref().map(|tls| &*tls.ca), Some(Path::new("/etc/ca.pem")));
    assert_eq!(config.docker.hosts[1].zone.as_deref(), Some("b"));
    assert_eq!(&*config.routing.domain_suffix, "example.com");
    assert!(config.routing.sticky_default);
    assert_eq!(config.routing.internal[1].to_string(), "192.168.1.1/32");
    assert_eq!(config.routing.claims[0].host, Host::Wildcard("company.com".into()));
    assert_eq!(config.proxy.threads, 4);
    assert_eq!(config.log, Log { format: LogFormat::Json, access: false });
    assert_eq!(config.shutdown_grace, Duration::from_secs(60));
}

#[test]
fn a_static_service_says_what_labels_would_say() {
    let config = from_file(EVERY_KEY);
    let service = &config.services[0];
    assert_eq!(
        (&*service.name, service.project.as_deref(), service.version.as_str()),
        ("legacy-shop", Some("shop"), "v1")
    );
    assert_eq!(
        service.routes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["http://shop.company.com", "http://shop.local"]
    );
    let hosts: Vec<_> =
        service.instances.iter().map(|i| (i.port, i.weight.get(), i.zone.as_deref())).collect();
    assert_eq!(hosts, [(8080, 1, Some("c")), (3306, 1, Some("c")), (8080, 2, Some("b"))]);
    assert_eq!(service.instances[1].host, StaticHost::Name("db.example.com".into()));
    let spec = &service.spec;
    assert!(spec.ports.is_empty() && spec.dns_weighted && spec.is_exposed());
    assert_eq!(spec.weight, Some(Weight::DEFAULT));
    assert_eq!((spec.session_sticky, spec.scale), (Some(true), Some(3)));
    assert_eq!(
        spec.probe.as_ref().map(|probe| (probe.timeout, probe.initial_delay)),
        Some((Duration::from_secs(2), Duration::from_secs(1)))
    );
    assert!(service.probe_own_port);
    let transport = &spec.transport;
    assert_eq!(transport.balance, Some(Balance::RoundRobin));
    assert_eq!(transport.connect_timeout, Some(Duration::from_millis(500)));
    assert_eq!(transport.total_timeout, Some(Duration::from_secs(300)));
    assert_eq!((transport.retries, transport.outlier), (Some(0), Some(false)));
    assert!(matches!(transport.split_by, Some(SplitBy::Client(_))));
    assert_eq!(transport.in_flight_max, Some(50));
    assert_eq!(transport.matches.len(), 2);
    let Features {
        allow,
        rate_limit,
        client_rate_limit,
        auth,
        redirect,
        strip_prefix,
        add_prefix,
        request_headers,
        response_headers,
        compress,
    } = &spec.features;
    assert_eq!(rate_limit.map(|limit| limit.to_string()).as_deref(), Some("100/s burst 200"));
    assert_eq!(client_rate_limit.map(|limit| limit.to_string()).as_deref(), Some("60/m burst 1"));
    assert_eq!(allow.as_ref().map(|list| list.len()), Some(2));
    let auth = auth.as_ref().expect("users");
    assert_eq!((auth.users.len(), &*auth.realm, auth.forward), (1, "Staff", true));
    assert_eq!(service.auth_file.as_deref(), Some(Path::new("/etc/users")));
    assert_eq!(redirect.as_ref().map(|redirect| redirect.status), Some(308));
    assert_eq!((strip_prefix, add_prefix.as_deref()), (&Some(StripPrefix::Route), Some("/v2")));
    assert_eq!(request_headers.as_ref().map(|edits| edits.len()), Some(2));
    assert_eq!(response_headers.as_ref().map(|edits| edits.len()), Some(1));
    assert_eq!(compress.as_ref().map(|codings| codings.len()), Some(2));
    let split = &config.splits[0];
    assert_eq!(split.route.route("x").to_string(), "shop.company.com/");
    let weights: Vec<_> = split.weights.iter().map(|(backend, weight)| (&**backend, weight.get())).collect();
    assert_eq!(weights, [("legacy-shop@v1", 90), ("shop/shop@v2", 0), ("v3", 10)]);
}

#[test]
fn users_of_a_file_are_added_and_its_errors_name_no_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, users) = (folder.path().join("fairway.toml"), folder.path().join("users"));
    let text =
        "[[service]]\nname = 'a'\ninstances = ['10.0.0.7:80']\nauth.basic_file = 'users'\nauth.realm = 'R'";
    std::fs::write(&file, text).expect("a file");
    let load = || {
        let flags = Flags { config: Some(file.clone()), ..Flags::default() };
        Config::load(&flags, &|_| None, &system())
    };
    let told = load().expect_err("there is no such file").to_string();
    assert!(told.contains("users: the file of users cannot be read"), "{told}");
    std::fs::write(&users, "# staff\nbob:{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=\n")
        .expect("users");
    let config = load().expect("it is good");
    let auth = config.services[0].spec.features.auth.as_ref().expect("users");
    assert_eq!((auth.users.len(), &*auth.users[0].name, &*auth.realm), (1, "bob", "R"));
    assert_eq!(config.warnings, []);
    std::fs::write(&users, "bob:hunter2\n").expect("users");
    let told = load().expect_err("no hash").to_string();
    assert!(told.contains("`bob`") && told.contains("htpasswd") && !told.contains("hunter2"), "{told}");
    let inline = "[[service]]\nname = 'a'\ninstances = ['10.0.0.7:80']\nauth.basic = 'bob:hunter2'";
    let told: Vec<String> = errors(inline).iter().map(|error| format!("{error:?}")).collect();
    assert!(!told.is_empty() && !told.concat().contains("hunter2"), "{told:?}");
}

#[test]
fn a_service_needs_little() {
    let config =
        from_file("[[service]]\nname = 'db'\ninstances = ['10.0.0.7:3306']\nprobe.url = 'tcp://container:1'");
    assert_eq!(config.services[0].version.as_str(), "static");
    assert!(!config.services[0].probe_own_port);
    assert!(config.services[0].routes.is_empty());
}

#[test]
fn five_errors_in_one_file_are_all_told_with_line_key_and_remedy() {
    let text = "\
[http]
listen = [\"0.0.0.0\"]
lisen = 3
[proxy]
threads = \"four\"
[[service]]
name = \"web\"
instances = [\"10.0.0.7:8080\"]
balance = \"round_robin\"
[shutdown]
grace = 30
";
    let told: Vec<String> = errors(text).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "/etc/fairway.toml:2: http.listen[0]: `0.0.0.0` is not an address with a port; add the port: `0.0.0.0:80`",
            "/etc/fairway.toml:3: http.lisen: `lisen` is no key that Fairway knows; did you mean `listen`?",
            "/etc/fairway.toml:5: proxy.threads: the text `\"four\"` is not a whole number; \
             write a whole number from 0 to 1024, without quotes",
            "/etc/fairway.toml:9: service[0].balance: `round_robin` is no way to balance; did you mean `round-robin`? \
             write one of `p2c-ewma`, `round-robin`, `least-request`, `random`, `hash:ip`, `hash:header:NAME`, \
             `hash:cookie:NAME`",
            "/etc/fairway.toml:11: shutdown.grace: `30` is not a duration; add a unit: `30s` or `30ms`",
        ]
    );
}

#[test]
fn each_wrong_value_has_its_place_and_remedy() {
    for (text, place, advice) in [
        ("htpp.listen = []", "1: htpp", "did you mean `http`?"),
        ("[zzz]", "1: zzz", "the keys here are state_dir, node"),
        ("http = 3", "1: http", "write a table"),
        ("http.listen = '0.0.0.0:80'", "1: http.listen", "write a list in brackets"),
        ("http.listen = [{ proxy_protocol = false }]", "1: http.listen[0]", "`addr` is missing"),
        (
            "http.listen = [{ addr = '0.0.0.0:80', upgrades = ['H2C'] }]",
            "1: http.listen[0].upgrades[0]",
            "never forwarded",
        ),
        (
            "http.listen = [{ addr = '0.0.0.0:80', proxy_protocol = true }]",
            "1: http.listen[0].addr",
            "trusted_proxies",
        ),
        (
            "http.listen = ['0.0.0.0:80', '0.0.0.0:80']",
            "1: http.listen[1]",
            "already by /etc/fairway.toml:1: http.listen[0]",
        ),
        (
            "http.listen = ['127.0.0.1:9900']\nadmin.listen = '127.0.0.1:9900'",
            "2: admin.listen",
            "listened on already",
        ),
        ("https.listen = ['0.0.0.0:80']", "1: https.listen[0]", "already by the default of http.listen"),
        (
            "http.listen = [{ addr = '0.0.0.0:80', min_version = '1.3' }]",
            "1: http.listen[0].min_version",
            "the keys here",
        ),
        (
            "https.listen = [{ addr = '0.0.0.0:443', min_version = '1.1' }]",
            "1: https.listen[0].min_version",
            "\"1.2\"",
        ),
        (
            "https.listen = [{ addr = '0.0.0.0:443', client_certificates = 'optional' }]",
            "1: https.listen[0]",
            "client_ca",
        ),
        (
            "https.listen = [{ addr = '0.0.0.0:443', client_ca = 'a' }]",
            "1: https.listen[0]",
            "`client_certificates",
        ),
        (
            "https.listen = [{ addr = '0.0.0.0:443', client_ca = 'a', client_certificates = 'yes' }]",
            "1: https.listen[0].client_certificates",
            "`optional`",
        ),
        (
            "https.listen = [{ addr = '0.0.0.0:443', hsts = 'preload' }]",
            "1: https.listen[0].hsts",
            "max-age=31536000",
        ),
        (
            "https.listen = [{ addr = '0.0.0.0:443', hsts = 'max-age=1y' }]",
            "1: https.listen[0].hsts",
            "max-age=31536000",
        ),
        (
            "https.listen = [{ addr = '0.0.0.0:443', hsts = 'max-age=1; x\\r\\ny' }]",
            "1: https.listen[0].hsts",
            "max-age=31536000",
        ),
        ("https.listen = ['0.0.0.0:443']\nacme.routes = true", "2: acme", "`agree_terms = true`"),
        (
            "https.listen = ['0.0.0.0:443']\nacme = { agree_terms = true, directory = 'http://a' }",
            "2: acme.directory",
            "letsencrypt",
        ),
        (
            "https.listen = ['0.0.0.0:443']\nacme = { agree_terms = true, contact = ['ops'] }",
            "2: acme.contact[0]",
            "`ops@company.com`",
        ),
        (
            "https.listen = ['0.0.0.0:443']\nacme = { agree_terms = true, hosts = ['*.a.com'] }",
            "2: acme.hosts[0]",
            "[[certificate]]",
        ),
        (
            "https.listen = ['0.0.0.0:443']\nacme = { agree_terms = true, challenge = 'dns-01' }",
            "2: acme.challenge",
            "`http-01`",
        ),
        ("https.handshake_timeout = '1h'", "1: https.handshake_timeout", "`5m`"),
        ("https.handshakes_max = 0", "1: https.handshakes_max", "from 1"),
        ("[[certificate]]\ncert = 'a'", "1: certificate[0]", "`key = \"key.pem\"`"),
        ("[certificate]\ncert = 'a'\nkey = 'b'", "1: certificate", "write `[[certificate]]`"),
        ("https.listen = ['10.0.0.1']", "1: https.listen[0]", "`10.0.0.1:443`"),
        ("dns.listen = ['10.0.0.1']", "1: dns.listen[0]", "`10.0.0.1:53`"),
        ("admin.listen = '10.0.0.1'", "1: admin.listen", "`10.0.0.1:9900`"),
        ("limits.idle_time = 5", "1: limits.idle_time", "`5s`"),
        ("https.handshake_timeout = 5", "1: https.handshake_timeout", "`5s`"),
        ("shutdown.delay = 5", "1: shutdown.delay", "`5s`"),
        (
            "[[service]]\nname = 'a'\ninstances = ['a:1']\nroutes = ['tcp://a:80']",
            "4: service[0].routes[0]",
            "`balancers = ",
        ),
        ("[[split]]\nroute = 'a:80'\nweights = { v = 1 }", "2: split[0].route", "`tcp://:13306`"),
        ("dns.zones = ['*.x.com']", "1: dns.zones[0]", "write `x.com`"),
        ("dns.max_addresses = -1", "1: dns.max_addresses", "from 0 to 1000"),
        (
            "dns.advertise = [{ clients = '10.0.0.0/40', address = '10.0.0.5' }]",
            "1: dns.advertise[0].clients",
            "CIDR",
        ),
        (
            "dns.advertise = [{ clients = '10.0.0.0/8', address = '10.0.0.5:80' }]",
            "1: dns.advertise[0].address",
            "without a port",
        ),
        ("dns.upstreams = ['resolver']", "1: dns.upstreams[0]", "`10.0.0.2:5353`"),
        ("admin.listen = '0.0.0.0:9900'", "1: admin.listen", "[admin] token_file"),
        ("admin.listen = 'unix:x'", "1: admin.listen", "`unix:/run/fairway.sock`"),
        ("admin.token_file = ''", "1: admin.token_file", "write the path"),
        ("docker.hosts = ['ssh://x']", "1: docker.hosts[0]", "forward the engine's socket"),
        ("docker.hosts = ['tcp://x:1', 'tcp://x:1']", "1: docker.hosts[1]", "listed twice"),
        ("docker.hosts = [{ url = 'tcp://x:1', ca = 'a' }]", "1: docker.hosts[0]", "belong together"),
        ("[[webhook]]\nurl = 'http://a'\nca = 'a.pem'", "3: webhook[0].ca", "`https`"),
        ("docker.enabled = 'yes'", "1: docker.enabled", "without quotes"),
        ("routing.domain_suffix = 'a_b'", "1: routing.domain_suffix", "`a-b`"),
        ("routing.internal = ['10/8']", "1: routing.internal[0]", "CIDR"),
        ("routing.claims = [{ host = 'shop', projects = ['a'] }]", "1: routing.claims[0].host", "full name"),
        (
            "routing.claims = [{ host = 'a.com', projects = [] }]",
            "1: routing.claims[0].projects",
            "at least one project",
        ),
        ("proxy.threads = 1025", "1: proxy.threads", "from 0 to 1024"),
        ("proxy.trusted_proxies = ['x']", "1: proxy.trusted_proxies[0]", "CIDR"),
        ("log.format = 'xml'", "1: log.format", "`text` or `json`"),
        ("shutdown.grace = '30'", "1: shutdown.grace", "`30s`"),
        ("state_dir = 1979-05-27", "1: state_dir", "the date `1979-05-27` is not a text"),
    ] {
        assert_error(text, place, advice);
    }
}

#[test]
fn a_service_may_have_front_ports_and_a_split_may_be_of_one() {
    let text = "[[service]]\nname = 'db'\nbalancers = ['tcp://db:13306', 'UDP://db:53']\ninstances = ['10.0.0.7:3306']\n\
        [[split]]\nroute = 'tcp://:13306'\nweights = { static = 1 }\n[[split]]\nroute = 'udp://:53'\nweights = { static = 1 }\n";
    let config = from_file(text);
    let claims: Vec<_> = config.services[0].balancers.iter().map(|c| (c.protocol, c.front_port)).collect();
    assert_eq!(claims, [(BalancerProtocol::Tcp, 13306), (BalancerProtocol::Udp, 53)]);
    let routes: Vec<_> = config.splits.iter().map(|split| split.route.route("x").to_string()).collect();
    assert_eq!(routes, ["tcp://:13306", "udp://:53"]);
}

#[test]
fn each_wrong_value_of_a_service_or_split_has_its_place_and_remedy() {
    let service = |rest: &str| format!("[[service]]\nname = 'web'\ninstances = ['10.0.0.7:80']\n{rest}");
    for (rest, place, advice) in [
        ("routes = ['a.com:8080']", "4: service[0].routes[0]", "into `instances`"),
        ("routes = ['a.com;b.com']", "4: service[0].routes[0]", "write each entry by itself"),
        ("balancers = ['tcp://db']", "4: service[0].balancers[0]", "`tcp://NAME:FRONT_PORT`"),
        ("balancers = ['tcp://db:1', 'ftp://db:2']", "4: service[0].balancers[1]", "in place of `tcp`"),
        ("balancers = 'tcp://db:1'", "4: service[0].balancers", "in brackets"),
        ("weight = 0.5", "4: service[0].weight", "whole number from 0 to 1000"),
        ("weight = -1", "4: service[0].weight", "whole number from 0 to 1000"),
        ("version = 'a b'", "4: service[0].version", "1 to 64"),
        ("network = 'front'", "4: service[0].network", "no Docker network"),
        ("probe = { url = 'https://container' }", "4: service[0].probe.url", "`http://`"),
        ("probe = { uri = 'tcp://container:1' }", "4: service[0].probe.uri", "did you mean `url`?"),
        ("timeout.conect = '1s'", "4: service[0].timeout.conect", "did you mean `connect`?"),
        ("rate_limit = \"fast\"", "4: service[0].rate_limit", "`100/s`"),
        ("rate_limit = { client = \"1/d\" }", "4: service[0].rate_limit.client", "`100/s`"),
        ("timeout = { idle = 5 }", "4: service[0].timeout.idle", "`5s`"),
        ("timeout.idle = '1s'\n'timeout.idle' = '2s'", "4: service[0].timeout.idle", "written twice"),
        ("match = ['header:a=b', 'x']", "4: service[0].match", "`header:NAME=VALUE`"),
        ("wieght = 3", "4: service[0].wieght", "did you mean `weight`?"),
        ("balance = ['random']", "4: service[0].balance", "a list is not a text"),
        (
            "[[service]]\nname = 'web'\ninstances = ['10.0.0.8:80']",
            "4: service[1]",
            "give each its own `version`",
        ),
        ("[[service]]\nname = 'db'", "4: service[1]", "`instances` is missing"),
        ("[[service]]\ninstances = ['10.0.0.7:80']", "4: service[1]", "`name` is missing"),
        ("[[service]]\nname = 'a/b'\ninstances = ['10.0.0.7:80']", "5: service[1].name", "A-Z a-z"),
        ("[[service]]\nname = 'db'\ninstances = []", "6: service[1].instances", "at least one"),
        ("[[service]]\nname = 'db'\ninstances = ['db']", "6: service[1].instances[0]", "HOST:PORT"),
        (
            "[[service]]\nname = 'db'\ninstances = ['db:1', 'db:1']",
            "6: service[1].instances[1]",
            "listed twice",
        ),
        (
            "[[service]]\nname = 'db'\ninstances = [{ addr = 'db:1', weight = 1001 }]",
            "6: service[1].instances[0].weight",
            "0 to 1000",
        ),
        ("[[split]]\nroute = 'a.com'\nweights = { v1 = 0, v2 = 0 }", "6: split[0].weights", "above 0"),
        ("[[split]]\nroute = 'a.com'\nweights = {}", "6: split[0].weights", "names no backend"),
        (
            "[[split]]\nroute = 'a.com'\nweights = { v1 = 0.5 }",
            "6: split[0].weights.v1",
            "whole number from 0 to 1000",
        ),
        (
            "[[split]]\nroute = 'a.com'\nweights = { 'a b' = 1 }",
            "6: split[0].weights.\"a b\"",
            "`SERVICE@VERSION`",
        ),
        ("[[split]]\nroute = 'a_b'\nweights = { v1 = 1 }", "5: split[0].route", "`a-b`"),
        ("[[split]]\nweights = { v1 = 1 }", "4: split[0]", "`route` is missing"),
        ("[[split]]\nroute = 'a.com'", "4: split[0]", "`weights` is missing"),
        (
            "[[split]]\nroute = 'a'\nweights = { v1 = 1 }\n[[split]]\nroute = 'a.localhost/'\nweights = { v1 = 1 }",
            "7: split[1]",
            "has two splits",
        ),
    ] {
        assert_error(&service(rest), place, advice);
    }
}

#[test]
fn what_is_used_though_not_as_written_is_a_warning() {
    for (text, place, advice) in [
        (
            "[[service]]\nname = 'a'\ninstances = ['a:1']\nroutes = ['a.com?x']",
            "4: service[0].routes[0]",
            "plays no part",
        ),
        (
            "[[service]]\nname = 'a'\ninstances = ['a:1']\nroutes = ['a.com', 'http://A.com/']",
            "4: service[0].routes[1]",
            "written twice",
        ),
        (
            "[[service]]\nname = 'a'\ninstances = ['a:1']\nprobe.cmd = 'true'",
            "4: service[0].probe.cmd",
            "write `url` instead",
        ),
        ("https.listen = ['0.0.0.0:443']", "1: https.listen[0]", "[[certificate]]"),
        (
            "http.listen = [{ addr = '0.0.0.0:80', redirect_to_https = true }]",
            "1: http.listen[0].addr",
            "`[https] listen`",
        ),
    ] {
        let warnings = from_file(text).warnings;
        assert_eq!(warnings.len(), 1, "{text}");
        assert_eq!(warnings[0].place, format!("/etc/fairway.toml:{place}"));
        assert!(warnings[0].to_string().contains(advice), "{text}: {}", warnings[0]);
    }
}

#[test]
fn flags_go_before_the_environment_before_the_file_before_the_defaults() {
    let file = "state_dir = '/file'\nhttp.listen = ['127.0.0.1:1']\n[log]\nformat = 'text'\n[docker]\nhosts = ['tcp://f:1']";
    let vars = [
        ("FAIRWAY_HTTP", "127.0.0.1:2, 127.0.0.1:3,"),
        ("FAIRWAY_HTTPS", "127.0.0.1:4"),
        ("FAIRWAY_DNS", ""),
        ("FAIRWAY_ADMIN", "unix:/run/e.sock"),
        ("FAIRWAY_STATE_DIR", "/env"),
        ("FAIRWAY_LOG_FORMAT", "json"),
        ("FAIRWAY_DOCKER", "tcp://e:1,tcp://e:2"),
        ("DOCKER_HOST", "tcp://d:1"),
    ];
    let ports =
        |listen: &Listen<HttpListener>| listen.items.iter().map(|item| item.addr.port()).collect::<Vec<_>>();
    let of_env = with(&Flags::default(), &vars, file).expect("environment");
    assert_eq!((ports(&of_env.http), ports(&of_env.https)), (vec![2, 3], vec![4]));
    assert_eq!(of_env.dns.listen, DnsListen::Default);
    assert_eq!(of_env.admin.listen, AdminListen::Unix("/run/e.sock".into()));
    assert_eq!((of_env.state_dir.as_path(), of_env.log.format), (Path::new("/env"), LogFormat::Json));
    assert_eq!(
        of_env.docker.hosts.iter().map(|host| &*host.url).collect::<Vec<_>>(),
        ["tcp://e:1", "tcp://e:2"]
    );

    let flags = Flags {
        http: vec!["127.0.0.1:5".into()],
        dns: vec!["127.0.0.1:6".into()],
        docker: vec!["tcp://g:1".into()],
        admin: Some("127.0.0.1:7".into()),
        state_dir: Some("/flag".into()),
        log_format: Some("text".into()),
        ..Flags::default()
    };
    let of_flags = with(&flags, &vars, file).expect("flags");
    assert_eq!((ports(&of_flags.http), ports(&of_flags.https)), (vec![5], vec![4]));
    assert_eq!(of_flags.dns.listen, DnsListen::Configured(vec![addr("127.0.0.1:6")]));
    assert_eq!(of_flags.admin.listen, AdminListen::Tcp(addr("127.0.0.1:7")));
    assert!(of_flags.http.configured && of_flags.admin.configured);
    assert_eq!((of_flags.state_dir.as_path(), of_flags.log.format), (Path::new("/flag"), LogFormat::Text));
    assert_eq!(&*of_flags.docker.hosts[0].url, "tcp://g:1");

    let of_file = with(&Flags::default(), &vars[7..], file).expect("file");
    assert_eq!((ports(&of_file.http), of_file.state_dir.as_path()), (vec![1], Path::new("/file")));
    assert_eq!(&*of_file.docker.hosts[0].url, "tcp://f:1");
}

#[test]
fn docker_host_is_the_default_engine_with_its_certificates() {
    let vars = [("DOCKER_HOST", "tcp://d:2376"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
    let config = with(&Flags::default(), &vars, "").expect("environment");
    assert_eq!(config.docker.hosts[0].endpoint, DockerEndpoint::Tcp("d:2376".into()));
    assert_eq!(config.docker.hosts[0].tls.as_ref().map(|tls| &*tls.key), Some(Path::new("/certs/key.pem")));
}

#[test]
fn errors_of_flags_variables_and_file_come_together() {
    let flags = Flags { admin: Some("0.0.0.0:9900".into()), ..Flags::default() };
    let vars =
        [("FAIRWAY_HTTP", ":80,127.0.0.1:80"), ("DOCKER_HOST", "docker"), ("FAIRWAY_LOG_FORMAT", "xml")];
    let errors = with(&flags, &vars, "x = 1").expect_err("four errors").0;
    let places: Vec<_> = errors.iter().map(|error| (error.place.as_str(), error.given.as_str())).collect();
    assert_eq!(
        places,
        [
            ("/etc/fairway.toml:1: x", ""),
            ("FAIRWAY_HTTP", ":80"),
            ("DOCKER_HOST", "docker"),
            ("FAIRWAY_LOG_FORMAT", "xml"),
            ("--admin", "0.0.0.0:9900"),
        ]
    );
}

#[test]
fn broken_toml_is_told_with_line_and_column_and_the_rest_is_still_read() {
    let told: Vec<String> =
        errors("[http]\nlisten = [\"0.0.0.0:80\"]\n\n[proxy]\nthreads = = 4\n[log]\nformat = 'xml'\n")
            .iter()
            .map(|error| error.place.clone())
            .collect();
    assert!(told.iter().any(|place| place.starts_with("/etc/fairway.toml:5:")), "{told:?}");
    assert!(told.contains(&"/etc/fairway.toml:7: log.format".to_owned()), "{told:?}");
    let unclosed = errors("[http]\nlisten = [\"0.0.0.0:80\"\n\n[proxy]\nthreads = 4\n");
    assert_eq!(unclosed[0].place, "/etc/fairway.toml:4:1");
    assert_error("a = ", "1:5", "the file is not TOML here");
    let twice = errors("state_dir = 'a'\nstate_dir = 'b'");
    assert_eq!(twice[0].place, "/etc/fairway.toml:2:1");
    assert!(twice[0].text.contains("duplicate"), "{}", twice[0].text);
    let astray = errors("[http\nlisten = ['0.0.0.0:80']\n[log]\nformat = 'xml'\n");
    let places: Vec<_> = astray.iter().map(|error| error.place.as_str()).collect();
    assert_eq!(places, ["/etc/fairway.toml:1:6", "/etc/fairway.toml:4: log.format"]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_with_its_name() {
    let load = |path: &Path| {
        let flags = Flags { config: Some(path.to_owned()), ..Flags::default() };
        Config::load(&flags, &|_| None, &system()).expect_err("unreadable").0.remove(0)
    };
    let missing = load(Path::new("/nowhere/fairway.toml"));
    assert_eq!(missing.place, "/nowhere/fairway.toml");
    assert!(missing.text.contains("cannot be read"));
    assert!(load(Path::new("/")).text.contains("cannot be read"));
    assert!(load(Path::new("/dev/zero")).text.contains("larger than 4 MiB"));
}

#[test]
fn the_variable_names_the_file_when_no_flag_does() {
    let file = std::env::temp_dir().join(format!("fairway-config-{}.toml", std::process::id()));
    std::fs::write(&file, "http.listen = ['127.0.0.1:1']\n\u{e9}").expect("a temporary file");
    let env = |name: &str| (name == "FAIRWAY_CONFIG").then(|| file.to_string_lossy().into_owned());
    let errors = Config::load(&Flags::default(), &env, &system()).expect_err("not TOML").0;
    std::fs::write(&file, b"# \xff").expect("a temporary file");
    let not_text = Config::load(&Flags::default(), &env, &system()).expect_err("not UTF-8").0;
    std::fs::remove_file(&file).expect("it was there");
    assert!(errors[0].place.contains(".toml:2:"), "{}", errors[0].place);
    assert!(not_text[0].text.contains("line 1 is not UTF-8"), "{}", not_text[0].text);
}

proptest! {
    #[test]
    fn no_file_panics(text in "\\PC{0,60}|[a-z\\[\\]{}=.,\"'# \n0-9]{0,80}") {
        let _ = with(&Flags::default(), &[], &text);
    }

    #[test]
    fn no_damage_to_a_good_file_panics(at in 0usize..EVERY_KEY.len(), len in 0usize..12, new in "[\\[\\]{}=\"'\n0-9a-z]{0,4}") {
        let mut text = EVERY_KEY.to_owned();
        text.replace_range(at..(at + len).min(text.len()), &new);
        if let Err(errors) = with(&Flags::default(), &[], &text) {
            prop_assert!(!errors.0.is_empty());
        }
    }

    #[test]
    fn no_flag_panics(value in "\\PC{0,30}") {
        let flags = Flags {
            http: vec![value.clone()],
            dns: vec![value.clone()],
            docker: vec![value.clone()],
            admin: Some(value.clone()),
            log_format: Some(value),
            ..Flags::default()
        };
        let _ = with(&flags, &[], "");
    }
}

#[test]
fn what_tls_towards_instances_trusts_is_files_beside_the_configuration() {
    let tls = from_file(
        "[upstream_tls]\nca = 'ca.pem'\ncert = 'client.pem'\nkey = '/keys/client.pem'\nverify = false\n",
    )
    .upstream_tls;
    let identity = UpstreamIdentity { cert: "/etc/client.pem".into(), key: "/keys/client.pem".into() };
    let want = UpstreamTls { ca: vec!["/etc/ca.pem".into()], identity: Some(identity), verify: false };
    assert_eq!(tls, want);
    assert_eq!(
        from_file("upstream_tls.ca = ['a', '/b']").upstream_tls.ca,
        ["/etc/a", "/b"].map(PathBuf::from)
    );
    for (text, place, advice) in [
        ("upstream_tls.cert = 'a'", "1: upstream_tls", "write both, or none"),
        ("upstream_tls.verify = 'no'", "1: upstream_tls.verify", "true"),
        ("upstream_tls.ca = ['']", "1: upstream_tls.ca[0]", "path of a file"),
        ("upstream_tls.cas = 'a'", "1: upstream_tls.cas", "`ca`"),
    ] {
        assert_error(text, place, advice);
    }
}

#[test]
fn a_service_says_what_its_certificate_is_for() {
    let service = "[[service]]\nname = 'a'\ninstances = ['10.0.0.7:443']\nprotocol = 'https'\n";
    for tls in [
        "tls = { server_name = 'web.test', verify = false }",
        "'tls.server_name' = 'web.test'\n'tls.verify' = false",
    ] {
        let spec = &from_file(&format!("{service}{tls}\n")).services[0].spec;
        assert_eq!(spec.transport.tls_server_name.as_deref(), Some("web.test"), "{tls}");
        assert_eq!(spec.transport.tls_verify, Some(false), "{tls}");
    }
}

#[test]
fn a_service_may_keep_its_tls_to_itself() {
    let service = "[[service]]\nname = 'a'\ninstances = ['10.0.0.7:443']\n";
    let hosts = ["a.test", "b.test"].map(|host| Host::Exact(host.into())).to_vec();
    for (tls, want) in [
        ("tls = { passthrough = ['a.test', 'b.test'] }", Passthrough::Hosts(hosts.clone())),
        ("'tls.passthrough' = 'a.test;b.test'", Passthrough::Hosts(hosts)),
        ("tls.passthrough = true", Passthrough::Routes),
    ] {
        let spec = &from_file(&format!("{service}{tls}\n")).services[0].spec;
        assert_eq!(spec.passthrough, Some(want), "{tls}");
    }
    assert_error(
        &format!("{service}tls.passthrough = ['a']"),
        "4: service[0].tls.passthrough",
        "company.com",
    );
}

#[test]
fn front_ports_may_want_proxy_headers_of_trusted_peers() {
    assert!(!from_file("").balancers_proxy_protocol);
    let file = "proxy.trusted_proxies = ['10.0.0.1']\n[balancers]\nproxy_protocol = true\n";
    assert!(from_file(file).balancers_proxy_protocol);
    for (text, place, advice) in [
        ("[balancers]\nproxy_protocol = true", "2: balancers.proxy_protocol", "trusted_proxies"),
        ("balancers.proxy_protocol = 'v1'", "1: balancers.proxy_protocol", "true"),
        ("[balancers]\nproxy = true", "2: balancers.proxy", "proxy_protocol"),
    ] {
        assert_error(text, place, advice);
    }
}

#[test]
fn a_service_may_ask_for_proxy_headers() {
    let service = "[[service]]\nname = 'a'\ninstances = ['10.0.0.7:443']\nproxy_protocol =";
    for (value, want) in [("'v1'", ProxyProtocol::V1), ("'v2'", ProxyProtocol::V2)] {
        let spec = &from_file(&format!("{service} {value}\n")).services[0].spec;
        assert_eq!(spec.transport.proxy_protocol, Some(want));
    }
    assert_error(&format!("{service} true"), "4: service[0].proxy_protocol", "`v1`, `v2`");
}

#[test]
fn the_delay_of_a_stop_is_ten_minutes_at_most() {
    let config = from_file("[shutdown]\ndelay = \"5s\"\n");
    assert_eq!(
        (config.shutdown_grace, config.shutdown_delay),
        (Duration::from_secs(30), Duration::from_secs(5))
    );
    assert_error("[shutdown]\ndelay = \"11m\"", "2: shutdown.delay", "from `0s` to `10m`");
}

#[test]
fn limits_hold_for_every_listener_that_has_none_of_its_own() {
    let config = from_file(
        r#"
        [limits]
        header_bytes = "16k"
        target_bytes = 4096
        idle_time = "20s"
        body_max = "10MiB"
        connections_per_client = 50
        requests_per_instance = 10
        queued_per_route = 0
        queue_time = "250ms"
        [http]
        listen = ["0.0.0.0:80", { addr = "0.0.0.0:81", limits = { body_max = "none", idle_time = "5s", h2_streams = 7 } }]
        "#,
    );
    let [plain, own] = &config.http.items[..] else { panic!("{:?}", config.http.items) };
    assert_eq!(plain.limits, config.limits);
    assert_eq!((plain.limits.header_bytes, plain.limits.target_bytes), (16_384, 4096));
    assert_eq!((plain.limits.body_max, plain.limits.idle_time), (Some(10_485_760), Duration::from_secs(20)));
    assert_eq!(plain.limits.requests_per_instance, 10);
    assert_eq!((plain.limits.queued_per_route, plain.limits.queue_time), (0, Duration::from_millis(250)));
    assert_eq!((own.limits.body_max, own.limits.idle_time), (None, Duration::from_secs(5)));
    assert_eq!((own.limits.h2_streams, own.limits.connections_per_client), (7, Some(50)));
}

#[test]
fn no_limit_of_all_connections_is_not_the_same_as_nothing_said_of_it() {
    let total = |text: &str| from_file(text).limits.connections_total;
    assert_eq!(total(""), None, "the open files decide");
    assert_eq!(total("[limits]\nconnections_total = \"none\""), Some(usize::MAX));
    assert_eq!(total("[limits]\nconnections_total = 7"), Some(7));
}

#[test]
fn a_limit_out_of_range_is_told_with_its_range() {
    for (line, place, advice) in [
        ("header_bytes = 10", "limits.header_bytes", "from 1024 to 1048576 octets"),
        ("header_bytes = \"10 apples\"", "limits.header_bytes", "with `k`, `m` or `g`"),
        ("header_fields = 5", "limits.header_fields", "from 10 to 1000"),
        ("target_bytes = 1", "limits.target_bytes", "from 128 to 65536"),
        ("header_time = \"1ms\"", "limits.header_time", "from 100ms to 10m"),
        ("idle_time = \"2h\"", "limits.idle_time", "from 1s to 1h"),
        ("idle_time = 75", "limits.idle_time", "`75s`"),
        ("body_max = -1", "limits.body_max", "whole number of octets"),
        ("body_rate = \"2g\"", "limits.body_rate", "from 0 to"),
        ("connections = \"many\"", "limits.connections", "or `\"none\"`"),
        ("queued_per_route = -1", "limits.queued_per_route", "from 0 to 1000000"),
        ("queue_time = \"5m\"", "limits.queue_time", "from 10ms to 1m"),
        ("udp_sessions = 0", "limits.udp_sessions", "from 1 to 1000000"),
        ("connections_per_client = 0", "limits.connections_per_client", "from 1 to 1000000"),
        ("h2_streams = 0", "limits.h2_streams", "from 1 to 250"),
        ("requests_per_connection = true", "limits.requests_per_connection", "or `\"none\"`"),
        ("h2_stream = 1", "limits.h2_stream", "`h2_streams`"),
    ] {
        assert_error(&format!("[limits]\n{line}"), &format!("2: {place}"), advice);
    }
    let listener = "[http]\nlisten = [{ addr = \"0.0.0.0:80\", limits = { requests_per_instance = 1 } }]";
    assert_error(listener, "2: http.listen[0].limits.requests_per_instance", "the keys here are");
    let header = "[limits]\nheader_bytes = 2048";
    assert_eq!(errors(header)[0].text, "a target of 8192 octets does not fit into a header of 2048");
}
