use std::time::{Duration, Instant};

use fairway_catalog::Condition;
use fairway_config::labels::{Balance, ClientKey, MatchRule, SplitBy};

use super::{Explanation, RouteView, explain, explain_text};
use crate::pick::{Crowded, Tried, Why};
use crate::reason::Reason;
use crate::request::{FieldList, RequestView};
use crate::sticky::token::{RouteMark, Token};
use crate::sticky::unix_now;
use crate::table::RouteTable;
use crate::table::fixture::*;

fn table(versions: &[Version]) -> RouteTable {
    let mut catalog = catalog();
    catalog.settings = zones(&["local", "internal"]);
    for route in ["shop.test/api", "shop.test/apix", "*.test/", "db.local/"] {
        put(&mut catalog, route, &[version("v1", &[READY])]);
    }
    put(&mut catalog, "shop.test/", versions);
    RouteTable::build(&catalog, &lasting(), None)
}

fn explained(versions: &[Version]) -> Explanation {
    explain(&table(versions), &request("shop.test", "/cart", &FieldList::default()))
}

fn route(explanation: &Explanation) -> &RouteView {
    explanation.route.as_ref().expect("a route was found")
}

fn whys(explanation: &Explanation) -> Vec<(&str, f64, &str)> {
    let versions = &route(explanation).versions;
    versions.iter().map(|v| (v.backend.rsplit('@').next().unwrap_or(""), v.chance, v.why.as_str())).collect()
}

#[test]
fn it_tells_every_route_of_the_host_and_why_it_is_or_is_not_the_one() {
    let explanation = explained(&[version("v1", &[READY])]);
    let candidates: Vec<_> =
        explanation.candidates.iter().map(|c| (c.route.as_str(), c.chosen, c.why.as_str())).collect();
    assert_eq!(
        candidates,
        [
            ("shop.test/", true, "the host is its own, and / is the longest path that covers it"),
            ("*.test/", false, "the host falls under *.test, but shop.test/ has the more specific host"),
            ("shop.test/apix", false, "/apix does not cover /cart: a prefix counts by whole segments"),
            ("shop.test/api", false, "/api does not cover /cart: a prefix counts by whole segments"),
        ]
    );
}

#[tokio::test]
async fn it_tells_how_many_requests_wait_for_a_place_and_how_many_of_them_for_one_version_alone() {
    let full = |name| version(name, &[READY]).with(|transport| transport.in_flight_max = Some(1)).weight(1);
    let table = table(&[full("v1"), full("v2")]);
    let asked = || explain(&table, &request("shop.test", "/", &FieldList::default()));
    let entry = table.entries().iter().find(|entry| &*entry.name == "shop.test/").expect("it is there");
    let running: Vec<_> = entry.endpoints().map(|endpoint| endpoint.state.begin()).collect();
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    let enter = |version| {
        let crowded = Crowded { version, why: Why::Split };
        entry.queue.enter(entry, crowded, &Tried::default(), end, 10).expect("there is room")
    };
    let waiting = [enter(None), enter(Some(1)), enter(Some(1))];
    let explanation = asked();
    let view = route(&explanation);
    let of_versions: Vec<u32> = view.versions.iter().map(|version| version.queued).collect();
    assert_eq!((view.queued, &of_versions[..]), (3, &[0, 2][..]));
    let text = explain_text(&explanation);
    for line in
        ["  waiting for a place at its instances: 3\n", "p2c-ewma among 0 of 1, 2 waiting for it alone\n"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
    drop((waiting, running));
    let text = explain_text(&asked());
    assert!(!text.contains("waiting"), "{text}");
}

#[test]
fn a_path_that_no_request_may_have_is_told_as_refused() {
    let table = table(&[version("v1", &[READY])]);
    let explanation = explain(&table, &request("shop.test", "/a/../b", &FieldList::default()));
    assert_eq!(explanation.verdict, "400: the path holds a `.` or `..` segment");
    assert_eq!((explanation.reason.as_deref(), explanation.status), (Some("path-invalid"), Some(400)));
    assert!(explanation.route.is_none() && explanation.candidates.iter().all(|route| !route.chosen));
}

#[test]
fn it_tells_the_layer_of_the_weights_with_author_and_the_share_of_each_version() {
    let explanation = explained(&[
        version("v1", &[READY]).weight(75),
        version("v2", &[READY]).weight(25),
        version("v3", &[READY]).weight(0),
        version("v4", &[READY]).unnamed(),
        version("v5", &[UNHEALTHY]).weight(100),
    ]);
    assert_eq!(
        whys(&explanation),
        [
            ("v1", 0.75, "weight 75"),
            ("v2", 0.25, "weight 25"),
            ("v3", 0.0, "weight 0 in writing: no new client, ever"),
            ("v4", 0.0, "weight 0: it stands in only when no other version can serve"),
            ("v5", 0.0, "weight 100, but no instance can serve: the others share its part"),
        ]
    );
    let split = route(&explanation).split.as_ref().expect("it has a split");
    assert_eq!(
        (split.layer.as_str(), split.author.as_str(), split.reason.as_str()),
        ("api", "tests", "a trial")
    );
    assert_eq!(route(&explanation).why.as_deref(), Some("split"));
}

#[test]
fn it_tells_of_every_instance_why_it_would_not_serve() {
    let pending = (fairway_catalog::State::Active, Condition::Pending, 1);
    let explanation = explained(&[version("v1", &[READY, UNHEALTHY, STOPPING, DRAINING, DISABLED, pending])]);
    let instances = &route(&explanation).versions[0].instances;
    let told: Vec<_> = instances.iter().map(|i| (i.candidate, i.why.as_str())).collect();
    assert_eq!(
        told,
        [
            (true, "first choice now"),
            (false, "unhealthy: as the test says"),
            (false, "stopping: as the test says"),
            (false, "draining: it gets nothing new"),
            (false, "disabled: nobody is sent to it"),
            (false, "pending: as the test says"),
        ]
    );
    assert_eq!(route(&explanation).instance.as_ref(), Some(&instances[0].id));
    assert!(instances[0].name.ends_with("shop@v1-0") && instances[0].address_reason == "the only network");
}

#[test]
fn a_stopping_instance_is_told_as_the_last_resort_and_a_stand_in_as_one() {
    let stopping = explained(&[version("v1", &[STOPPING]).weight(1)]);
    assert_eq!(route(&stopping).why.as_deref(), Some("stopping"));
    assert!(route(&stopping).versions[0].instances[0].candidate);
    let stand_in = explained(&[version("v1", &[UNHEALTHY]).weight(1), version("v2", &[READY]).unnamed()]);
    assert_eq!(route(&stand_in).why.as_deref(), Some("stand-in"));
    assert_eq!(
        whys(&stand_in)[1],
        ("v2", 1.0, "weight 0, but it stands in: no version with a weight above 0 can serve")
    );
}

#[test]
fn a_rule_that_fits_is_named_and_makes_its_version_certain() {
    let rule = MatchRule::Header("x-group".into(), "beta".into());
    let table = table(&[
        version("v1", &[READY]).weight(100),
        version("v2", &[READY]).weight(0).with(|transport| transport.matches = vec![rule]),
    ]);
    let mut fields = FieldList::default();
    fields.push("X-Group", "beta");
    let explanation = explain(&table, &request("shop.test", "/", &fields));
    let rule = route(&explanation).rule.as_ref().expect("a rule fits");
    assert!(rule.rule == "header:x-group=beta" && rule.backend.ends_with("@v2"));
    assert_eq!(whys(&explanation).iter().map(|(_, chance, _)| *chance).collect::<Vec<_>>(), [0.0, 1.0]);
    assert_eq!(route(&explanation).instance, route(&explanation).versions[1].would_serve);
    assert!(explanation.verdict.ends_with("would serve it now"), "{}", explanation.verdict);
}

#[test]
fn rules_that_do_not_decide_are_told_with_why_not() {
    let rule = |value: &str| MatchRule::Header("x-group".into(), value.into());
    let matching = |values: &[&str]| -> Vec<MatchRule> { values.iter().map(|value| rule(value)).collect() };
    let (none, two, three) = (matching(&["beta"]), matching(&["alpha", "beta"]), matching(&["beta"]));
    let table = table(&[
        version("v1", &[DISABLED]).weight(0).with(|transport| transport.matches = none),
        version("v2", &[READY]).weight(100).with(|transport| transport.matches = two),
        version("v3", &[READY]).weight(100).with(|transport| transport.matches = three),
    ]);
    let mut fields = FieldList::default();
    fields.push("X-Group", "beta");
    let explanation = explain(&table, &request("shop.test", "/", &fields));
    let rules = &route(&explanation).other_rules;
    let told: Vec<_> = rules.iter().map(|other| (other.rule.as_str(), other.fits)).collect();
    let (alpha, beta) = ("header:x-group=alpha", "header:x-group=beta");
    assert_eq!(told, [(beta, true), (alpha, false), (beta, true)]);
    assert!(rules[0].why.starts_with("it fits, but ") && rules[0].why.ends_with("@v1 serves no new client"));
    assert_eq!(rules[1].why, "it does not fit");
    assert_eq!(rules[2].why, "it fits, too, but header:x-group=beta goes first");
    let text = explain_text(&explanation);
    assert!(
        text.contains("  rule header:x-group=alpha of ") && text.contains("@v2: it does not fit\n"),
        "{text}"
    );
}

#[test]
fn where_a_draw_decides_the_verdict_says_how_likely_it_is() {
    let explanation = explained(&[version("v1", &[READY]).weight(95), version("v2", &[READY]).weight(5)]);
    let verdict = &explanation.verdict;
    assert!(
        verdict.contains("would serve it now, if ") && verdict.ends_with("@v1 is drawn: 95 %"),
        "{verdict}"
    );
}

#[test]
fn refusals_carry_the_word_of_the_access_log() {
    let fields = FieldList::default();
    let table = table(&[version("v1", &[UNHEALTHY])]);
    for (host, word, status, text) in [
        ("shop.test", Some("no-ready-instance"), Some(503), "held up to 5 s for an instance of shop.test/"),
        ("other.example", Some("no-route"), Some(404), "no route covers other.example/"),
        (
            "db.local",
            Some("no-route"),
            Some(404),
            "db.local is for internal clients only, and 192.0.2.1 is not one",
        ),
        ("db.internal", Some("no-route"), Some(404), "for internal clients only"),
        ("x.test", None, None, "would serve it now"),
    ] {
        let explanation = explain(&table, &request(host, "/", &fields));
        assert_eq!((explanation.reason.as_deref(), explanation.status), (word, status), "{host}");
        assert!(explanation.verdict.contains(text), "{host}: {}", explanation.verdict);
    }
    let inside = RequestView { internal: true, ..request("db.internal", "/", &fields) };
    let explanation = explain(&table, &inside);
    assert_eq!(
        explanation.candidates[0].why,
        "db.internal is its name in another zone, and / is the longest path that covers it"
    );
}

#[test]
fn it_foresees_the_instance_that_is_then_picked() {
    for balance in
        [Balance::P2cEwma, Balance::LeastRequest, Balance::RoundRobin, Balance::Hash(ClientKey::Ip)]
    {
        let table =
            table(&[version("v1", &[READY; 2]).with(|transport| transport.balance = Some(balance.clone()))]);
        let fields = FieldList::default();
        let asked = request("shop.test", "/", &fields);
        let entry = table.by_id(&"shop.test/".parse().expect("a route")).expect("it is there");
        for (endpoint, ms) in entry.endpoints().zip([310, 20]) {
            endpoint.state.observe(Duration::from_millis(ms), Instant::now());
        }
        let mut rng = fastrand::Rng::with_seed(1);
        let mut running = Vec::new();
        for turn in 0..4 {
            let foreseen = route(&explain(&table, &asked)).instance.clone();
            let pick = entry.pick(&asked, &Tried::default(), &mut rng, Instant::now()).expect("there is one");
            let equal = balance == Balance::LeastRequest && turn % 2 == 0;
            assert!(equal || foreseen == Some(pick.endpoint.key.id.to_string()), "{balance:?}, turn {turn}");
            running.push(pick);
        }
        assert_eq!(running.len(), 4);
    }
}

#[test]
fn explaining_counts_nothing_and_takes_no_turn() {
    let table =
        table(&[version("v1", &[READY; 3]).with(|transport| transport.balance = Some(Balance::RoundRobin))]);
    let asked = FieldList::default();
    let first = explain(&table, &request("shop.test", "/", &asked));
    assert_eq!(first, explain(&table, &request("shop.test", "/", &asked)));
    assert!(
        table.entries().iter().flat_map(|e| e.endpoints()).all(|endpoint| endpoint.state.in_flight() == 0)
    );
}

#[test]
fn json_tells_everything_and_the_text_starts_with_the_verdict() {
    let explanation =
        explained(&[version("v1", &[READY, UNHEALTHY]).weight(1), version("v2", &[READY]).weight(999)]);
    let json = serde_json::to_string(&explanation).expect("it can be written");
    assert_eq!(serde_json::from_str::<Explanation>(&json).expect("it can be read"), explanation);
    let text = explain_text(&explanation);
    for want in [
        "GET http://shop.test/cart\n  from 192.0.2.1 (external)",
        "=> ",
        "* shop.test/: the host is its own",
        "from the api layer, by tests at 1970-01-01T00:00:00Z (a trial)",
        "@v1  0.1 %: weight 1",
        "@v2  99.9 %: weight 999",
        "p2c-ewma among 1 of 2",
        "active, unhealthy, 0 in flight: unhealthy: as the test says",
    ] {
        assert!(text.contains(want), "no {want:?} in\n{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_host_or_path_is_too_strange_to_be_looked_up_and_explained(host in "\\PC{0,40}|[.a*]{0,20}", path in "\\PC{0,20}|[/.]{0,9}") {
        let table = table(&[version("v1", &[READY])]);
        let explanation = explain(&table, &request(&host, &path, &FieldList::default()));
        proptest::prop_assert!(explain_text(&explanation).contains("=> "));
    }
}

#[test]
fn it_tells_what_the_route_does_besides_and_what_that_means_for_the_request() {
    let labels = [
        ("fairway.allow", "192.0.2.0/24"),
        ("fairway.auth.basic", "alice:{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="),
        ("fairway.redirect", "https://new.test{path} 302"),
    ];
    let explained = |count: usize, client: &str, fields: &FieldList| {
        let parsed = fairway_config::labels::parse(labels[..count].iter().copied());
        let mut catalog = catalog();
        put_route(&mut catalog, "shop.test/", &[version("v1", &[READY])], |route| {
            route.features = Some(parsed.spec.features.into());
        });
        let table = RouteTable::build(&catalog, &lasting(), None);
        let client = client.parse().expect("an address");
        explain(&table, &RequestView { client, ..request("shop.test", "/cart", fields) })
    };
    let mut login = FieldList::default();
    login.push("Authorization", "Basic YTpi");
    let none = FieldList::default();
    for (count, client, fields, status, verdict) in [
        (1, "192.0.2.7", &none, None, "would serve it now"),
        (1, "198.51.100.1", &none, Some(403), "403: 198.51.100.1 is not among the clients of fairway.allow"),
        (2, "192.0.2.7", &none, Some(401), "401: the route asks for a user and a password"),
        (2, "192.0.2.7", &login, None, "would serve it now"),
        (3, "192.0.2.7", &login, Some(302), "302 to https://new.test/cart: fairway.redirect"),
    ] {
        let explanation = explained(count, client, fields);
        assert_eq!(explanation.status, status, "{count} {client}");
        assert!(explanation.verdict.contains(verdict), "{}", explanation.verdict);
        let route = explanation.route.as_ref().expect("a route was found");
        assert_eq!(route.features.len(), count);
        let text = explain_text(&explanation);
        assert!(text.contains("allow: 192.0.2.0/24") && !text.contains("n4bQ"), "{text}");
    }
}

#[test]
fn it_tells_how_a_request_failed_at_an_instance_last() {
    let table = table(&[version("v1", &[READY])]);
    let fields = FieldList::default();
    let asked = request("shop.test", "/cart", &fields);
    assert!(!explain_text(&explain(&table, &asked)).contains("failed last"));
    let entry = table.entries().iter().find(|entry| &*entry.name == "shop.test/").expect("the route");
    let state = &entry.versions()[0].endpoints()[0].state;
    state.keep_failure(Reason::UpstreamTlsFailed, "the instance's certificate has expired");
    let explanation = explain(&table, &asked);
    let failure = route(&explanation).versions[0].instances[0].last_failure.clone().expect("it is known");
    assert_eq!(failure.reason, "upstream-tls-failed");
    let text = explain_text(&explanation);
    assert!(text.contains("Z: upstream-tls-failed, the instance's certificate has expired\n"), "{text}");
}

/// A sticky shop, and the cookie of a client that is bound to this instance of its first version.
fn sticky_shop(versions: &[Version], instance: usize) -> (RouteTable, String) {
    let mut catalog = catalog();
    put_route(&mut catalog, "shop.test/", versions, |route| route.sticky = true);
    let lasting = lasting();
    let table = RouteTable::build(&catalog, &lasting, None);
    let version = &table.entries()[0].versions()[0];
    let instance = version.backend.instances[instance].id.as_str();
    let (backend, now) = (&*version.name, unix_now());
    let token = Token { backend, instance, since: now - 100, renewed: now };
    let value = lasting.sticky.load().seal(&token, &RouteMark::of("shop.test/")).expect("a value");
    (table, format!("FAIRWAY={value}"))
}

fn with_cookie(table: &RouteTable, cookie: &str) -> Explanation {
    let mut fields = FieldList::default();
    fields.push("Cookie", cookie);
    explain(table, &request("shop.test", "/cart", &fields))
}

#[test]
fn it_tells_the_cookie_and_where_it_leads() {
    let v2 = || version("v2", &[READY]).weight(100);
    for (is, why, text, instance, chosen) in [
        (READY, "sticky", "its instance serves it, whatever the weights", 1, "the client is bound to it"),
        (DRAINING, "sticky", "its instance serves it, whatever the weights", 1, "the client is bound to it"),
        (UNHEALTHY, "sticky", "another one of its version does", 0, "first choice now"),
    ] {
        let (table, cookie) = sticky_shop(&[version("v1", &[READY, is]).weight(0), v2()], 1);
        let explanation = with_cookie(&table, &cookie);
        let route = route(&explanation);
        let told = route.cookie.as_ref().expect("it is sticky");
        assert!(told.state == "bound" && told.text.contains(text), "{told:?}");
        assert_eq!(route.why.as_deref(), Some(why), "{is:?}");
        let first = &route.versions[0].instances[instance];
        assert_eq!((&route.instance, first.why.as_str()), (&Some(first.id.clone()), chosen));
        assert_eq!(route.versions.iter().map(|version| version.chance).collect::<Vec<_>>(), [1.0, 0.0]);
        assert!(
            route.versions[1].why.starts_with("weight 100, but the cookie binds the client to p"),
            "{}",
            route.versions[1].why
        );
        assert!(route.draw.starts_with("no draw: the cookie leads to "), "{}", route.draw);
        let text = explain_text(&explanation);
        assert!(text.contains("the cookie binds the client to p") && !text.contains(&cookie[8..]), "{text}");
    }
    let (table, cookie) = sticky_shop(&[version("v1", &[DISABLED, DISABLED]).weight(0), v2()], 1);
    for (cookie, state) in [(cookie.as_str(), "bound"), ("FAIRWAY=x", "foreign"), ("a=b", "none")] {
        let explanation = with_cookie(&table, cookie);
        assert_eq!(route(&explanation).cookie.as_ref().map(|cookie| cookie.state.as_str()), Some(state));
        assert_eq!(route(&explanation).why.as_deref(), Some("split"), "{cookie}");
    }
    assert_eq!(route(&explained(&[version("v1", &[READY])])).cookie, None, "a route that binds nobody");
}

#[test]
fn the_instance_that_is_foretold_for_a_cookie_is_the_one_that_is_picked() {
    for is in [READY, DRAINING, UNHEALTHY, STOPPING, DISABLED] {
        for weight in [0, 1] {
            let versions = [version("v1", &[DRAINING, is]).weight(weight), version("v2", &[READY]).weight(2)];
            let (table, cookie) = sticky_shop(&versions, 1);
            let foretold = route(&with_cookie(&table, &cookie)).instance.clone();
            let mut fields = FieldList::default();
            fields.push("Cookie", cookie.as_str());
            let asked = request("shop.test", "/cart", &fields);
            let entry = &table.entries()[0];
            let said = entry.cookie_says(&asked).expect("it is sticky");
            let (tried, mut rng) = (Tried::default(), fastrand::Rng::new());
            let pick = entry.pick_bound(&asked, said.bound.as_ref(), &tried, &mut rng, Instant::now());
            assert_eq!(foretold, pick.ok().map(|pick| pick.endpoint.key.id.to_string()), "{is:?} {weight}");
        }
    }
}

#[test]
fn it_tells_how_the_version_is_drawn() {
    let by = |key: ClientKey, fields: &FieldList| {
        let mut catalog = catalog();
        let versions = [version("v1", &[READY]).weight(1), version("v2", &[READY]).weight(1)];
        put_route(&mut catalog, "shop.test/", &versions, |route| route.split_by = SplitBy::Client(key));
        let table = RouteTable::build(&catalog, &lasting(), None);
        let explanation = explain(&table, &request("shop.test", "/", fields));
        let route = route(&explanation);
        assert!(!route.draw.contains("secret"), "{}", route.draw);
        (route.draw.clone(), route.why.clone())
    };
    let mut fields = FieldList::default();
    fields.push("cookie", "user=secret");
    let (draw, why) = by(ClientKey::Cookie("user".into()), &fields);
    assert!(draw.starts_with("by cookie:user, whose hash is ") && draw.contains(" on every node"), "{draw}");
    assert_eq!(why.as_deref(), Some("client"));
    let (draw, _) = by(ClientKey::Cookie("user".into()), &FieldList::default());
    assert_eq!(draw, "at random: the request has no cookie:user to draw by");
    let explanation = explained(&[version("v1", &[READY])]);
    assert_eq!(route(&explanation).draw, "at random, anew for every request");
}

#[test]
fn it_tells_where_the_request_would_go_after_a_failure() {
    let plan = |versions: &[Version]| route(&explained(versions)).retry.clone().expect("somebody serves");
    let to_other = plan(&[version("v1", &[READY; 2]).weight(9), version("v2", &[READY]).weight(1)]);
    assert!(to_other.backend.as_ref().is_some_and(|backend| backend.ends_with("@v2")), "{to_other:?}");
    assert!(to_other.text.starts_with("once, first to "), "{}", to_other.text);
    let within = plan(&[version("v1", &[READY; 2]).weight(9), version("v2", &[READY]).weight(0)]);
    assert!(within.backend.as_ref().is_some_and(|backend| backend.ends_with("@v1")), "{within:?}");
    let nobody = plan(&[version("v1", &[READY, UNHEALTHY])]);
    assert!(nobody.instance.is_none() && nobody.text.contains("nobody else"), "{nobody:?}");
    let none = plan(&[version("v1", &[READY; 2]).with(|transport| transport.retries = Some(0))]);
    assert!(none.retries == 0 && none.text.starts_with("none"), "{none:?}");
    assert_eq!(route(&explained(&[version("v1", &[UNHEALTHY])])).retry, None);
    let (table, cookie) =
        sticky_shop(&[version("v1", &[READY; 2]).weight(9), version("v2", &[READY]).weight(1)], 0);
    let bound = route(&with_cookie(&table, &cookie)).retry.clone().expect("a plan");
    assert!(
        bound.backend.is_some_and(|backend| backend.ends_with("@v1")),
        "a bound client stays at its version"
    );
}
