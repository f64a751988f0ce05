//! What routes do besides, from a configuration file through the real binary: who is served, logins, redirects, paths,
//! fields, compression; what `explain`, `check` and `lint` say of them; a reload. Timeouts and limits that the API sets while
//! it runs.

use std::io::Read;

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::raw::Raw;
use fairway_testkit::wait::PATIENCE;
use fairway_testkit::{Fairway, FairwayOptions, Request, until};
use serde_json::{Value, json};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

/// `U*U`, by bcrypt's first implementation.
const ALICE: &str = "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";
/// `alice:U*U`
const GOOD: &str = "Basic YWxpY2U6VSpV";

/// A field of the request as the origin saw it.
fn field<'a>(seen: &'a Value, name: &str) -> Option<&'a str> {
    let mut fields = seen["headers"].as_array().expect("fields").iter();
    fields.find(|field| field[0] == name).and_then(|field| field[1].as_str())
}

async fn start(origin: &Origin, users: &TempDir) -> Fairway {
    std::fs::write(users.path().join("users"), ALICE).expect("a file of users");
    let config = format!(
        r#"
[[service]]
name = "api"
routes = ["shop.test/api"]
instances = ["{0}"]
strip_prefix = true
compress = "gzip"
headers = {{ request = ["set X-Tenant: shop"], response = "set X-Frame-Options: DENY; remove X-Old" }}
[[service]]
name = "staff"
routes = ["staff.test"]
instances = ["{0}"]
auth = {{ basic_file = "{1}/users", realm = "Staff" }}
[[service]]
name = "old"
routes = ["old.test"]
instances = ["{0}"]
redirect = "https://new.test{{path}} 308"
[[service]]
name = "closed"
routes = ["closed.test"]
instances = ["{0}"]
allow = ["192.0.2.0/24"]
"#,
        origin.address(),
        users.path().display()
    );
    let fairway = FairwayOptions::new(BINARY).config(config).start().await;
    fairway.ready().await;
    fairway
}

#[tokio::test(flavor = "multi_thread")]
async fn each_feature_acts_as_the_file_says() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let users = TempDir::with_prefix("fairway-users-").expect("a folder");
    let fairway = start(&origin, &users).await;

    let seen = fairway.send(&Request::get("shop.test", "/api/echoed?x=1")).await.ok("a request").json();
    assert_eq!(seen["target"], "/echoed?x=1", "{seen}");
    assert_eq!(field(&seen, "x-forwarded-prefix"), Some("/api"), "{seen}");
    assert_eq!(field(&seen, "x-tenant"), Some("shop"), "{seen}");

    let fields = fairway.send(&Request::get("shop.test", "/api/fields?x-old=1")).await;
    assert_eq!((fields.header("x-frame-options"), fields.headers.contains_key("x-old")), ("DENY", false));

    let staff = fairway.get("staff.test", "/").await;
    assert_eq!(
        (staff.status, staff.header("www-authenticate")),
        (401, "Basic realm=\"Staff\", charset=\"UTF-8\"")
    );
    assert_eq!(staff.json()["type"], "unauthorized");
    let login = Request::get("staff.test", "/").header("Authorization", GOOD);
    let seen = fairway.send(&login).await.ok("a login").json();
    assert_eq!(field(&seen, "authorization"), None, "{seen}");

    let old = fairway.get("old.test", "/a?b").await;
    assert_eq!((old.status, old.header("location")), (308, "https://new.test/a?b"));
    let closed = fairway.get("closed.test", "/").await;
    assert_eq!((closed.status, &closed.json()["type"]), (403, &"client-refused".into()));

    // A request is counted when its answer has gone.
    let counted = async || {
        let metrics = fairway.admin("GET", "/metrics", None).await.text();
        let is_counted = |reason: &str| metrics.contains(&format!("reason=\"{reason}\""));
        ["unauthorized", "client-refused", "redirected"].into_iter().all(is_counted).then_some(())
    };
    until("every refusal in the metrics", PATIENCE, counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_compressed_one_by_one() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let users = TempDir::with_prefix("fairway-users-").expect("a folder");
    let fairway = start(&origin, &users).await;
    let request = Request::get("shop.test", "/api/sse?n=3&ms=20").header("Accept-Encoding", "br;q=0.1, gzip");
    let answer = fairway.send(&request).await.ok("events");
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), ("gzip", "Accept-Encoding"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).expect("it is whole");
    assert_eq!(text.matches("data:").count(), 3, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_them_and_no_secret() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let users = TempDir::with_prefix("fairway-users-").expect("a folder");
    let fairway = start(&origin, &users).await;
    for (url, want) in [
        ("http://shop.test/api/x", "headers.request: set X-Tenant"),
        ("http://staff.test/", "401: the route asks for a user and a password"),
        ("http://old.test/x", "308 to https://new.test/x"),
        ("http://closed.test/", "403: "),
    ] {
        let output = fairway.cli(&["explain", url]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(want) && !text.contains("$2a$"), "{url}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_change_with_their_file_and_one_that_is_bad_or_gone_changes_nothing() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let users = TempDir::with_prefix("fairway-users-").expect("a folder");
    let fairway = start(&origin, &users).await;
    let file = users.path().join("users");
    let login = Request::get("staff.test", "/").header("Authorization", GOOD);
    let answers = async |status: u16| (fairway.send(&login).await.status == status).then_some(());
    answers(200).await.expect("alice may log in");
    let refused = async |want: bool| {
        let problems = fairway.list("problems").await;
        let refused = problems.iter().any(|problem| problem["type"] == "config-refused");
        (refused == want).then(|| format!("{problems:?}"))
    };

    std::fs::write(&file, "alice:U*U\n").expect("a file of users");
    let told = until("the refusal", PATIENCE, async || refused(true).await).await;
    assert!(told.contains("htpasswd -nB") && !told.contains("U*U"), "{told}");
    answers(200).await.expect("the old users stay");
    std::fs::write(&file, ALICE).expect("a file of users");
    until("no refusal", PATIENCE, async || refused(false).await).await;

    std::fs::remove_file(&file).expect("it was there");
    let told = until("the refusal", PATIENCE, async || refused(true).await).await;
    assert!(told.contains(&file.display().to_string()), "{told}");
    answers(200).await.expect("the last good users stay");

    // As an editor does, and as a mounted secret changes.
    let new = users.path().join("users.new");
    std::fs::write(&new, ALICE.replace("alice", "bob")).expect("a file of users");
    std::fs::rename(&new, &file).expect("the same folder");
    until("alice is gone, though she had logged in", PATIENCE, async || answers(401).await).await;
    until("no refusal", PATIENCE, async || refused(false).await).await;
    // A file that changes without a change of the configuration is no news of it.
    assert!(!fairway.log().text().contains("is the same"), "{}", fairway.log().text());

    std::fs::write(&file, ALICE).expect("a file of users");
    fairway.reload();
    until("alice is back", PATIENCE, async || answers(200).await).await;
}

const LIMITS: &str = "/api/v1/routes/slow.test%2F/limits";

/// One limit of `slow.test/` as the API shows it: value, layer and author.
async fn limit(fairway: &Fairway, name: &str) -> [Value; 3] {
    let limits = fairway.read(LIMITS).await;
    let item = limits["items"].as_array().expect("a list").iter().find(|item| item["name"] == name);
    let item = item.expect("every limit is shown");
    ["value", "layer", "author"].map(|member| item[member].clone())
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_api_hold_for_what_comes_survive_a_restart_and_are_taken_back() {
    let origin = Origin::start(Identity::new("slow", "v1")).await;
    let config = format!(
        "[[service]]\nname = \"slow\"\nversion = \"v1\"\nroutes = [\"slow.test\"]\ninstances = [\"{}\"]\nrate_limit = \"1000/s\"\n",
        origin.address()
    );
    let mut fairway = FairwayOptions::new(BINARY).config(config).start().await;
    fairway.ready().await;
    let status = async |fairway: &Fairway, path: &str| fairway.get("slow.test", path).await.status;
    assert_eq!(status(&fairway, "/slow?ms=600").await, 200);
    assert_eq!(limit(&fairway, "timeout.first_byte").await[..2], [json!("1m"), json!("default")]);
    assert_eq!(limit(&fairway, "rate_limit").await[..2], [json!("1000/s burst 1000"), json!("label")]);

    // A request that runs goes on by what held when it began.
    let before = tokio::spawn({
        let (http, request) = (fairway.http(), Request::get("slow.test", "/slow?ms=3000"));
        async move { request.send(http).await.status }
    });
    until("the request runs", PATIENCE, || async {
        let metrics = fairway.admin("GET", "/metrics", None).await.text();
        metrics.contains("fairway_requests_in_flight{backend=\"slow@v1\"} 1").then_some(())
    })
    .await;
    let order = json!({"timeout.first_byte": "200ms", "reason": "a slow one"});
    fairway.admin("PUT", LIMITS, Some(&order)).await.ok("limits");
    let refused = fairway.get("slow.test", "/slow?ms=30000").await;
    assert_eq!(refused.status, 504, "{}", refused.text());
    assert_eq!(before.await.expect("no panic"), 200);

    // On the command line; the whole layer is replaced, and what did not change goes on counting.
    let set = fairway.cli(&["limits", "slow.test/", "rate_limit=1/h burst 2", "--reason", "a flood"]).await;
    assert!(set.status.success(), "{}", said(&set));
    let line = said(&set).lines().find(|line| line.starts_with("rate_limit ")).unwrap_or_default().to_owned();
    assert!(
        line.contains("1/h burst 2") && line.contains("api") && line.contains("a flood"),
        "{}",
        said(&set)
    );
    assert_eq!(status(&fairway, "/slow?ms=600").await, 200, "the timeout is the default again");
    assert_eq!(status(&fairway, "/").await, 200);
    let refused = fairway.get("slow.test", "/").await;
    assert_eq!((refused.status, refused.header("retry-after").is_empty()), (429, false));
    let more = fairway.cli(&["limits", "slow.test/", "rate_limit=1/h burst 2", "timeout.total=20s"]).await;
    assert!(more.status.success(), "{}", said(&more));
    assert_eq!(status(&fairway, "/").await, 429, "the same limit has the same account");
    assert_eq!(limit(&fairway, "timeout.total").await[..2], [json!("20s"), json!("api")]);
    let explained = said(&fairway.cli(&["explain", "http://slow.test/"]).await);
    assert!(explained.contains("timeout.total=20s rate_limit=\"1/h burst 2\""), "{explained}");

    // The connection of a client is kept from one order to the next.
    let mut client = Raw::connect(fairway.http()).await;
    for (order, status) in
        [("body_max=4", "413"), ("body_max=none", "200"), ("rate_limit=1/h burst 2", "200")]
    {
        let set = fairway.cli(&["limits", "slow.test/", order]).await;
        assert!(set.status.success(), "{order}: {}", said(&set));
        let post = Request { body: "12345".into(), ..Request::new("POST", "slow.test", "/") };
        assert_eq!(post.send(fairway.http()).await.status.to_string(), status, "{order}");
        client.send("GET /bytes?n=0 HTTP/1.1\r\nHost: slow.test\r\n\r\n").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{order}: {head}");
    }

    fairway.restart().await;
    fairway.ready().await;
    assert_eq!(limit(&fairway, "rate_limit").await[..2], [json!("1/h burst 2"), json!("api")]);
    let author = limit(&fairway, "rate_limit").await[2].clone();
    assert!(author.as_str().is_some_and(|author| author.starts_with("fairway")), "{author}");
    let statuses = [status(&fairway, "/").await, status(&fairway, "/").await, status(&fairway, "/").await];
    assert_eq!(statuses, [200, 200, 429]);

    for (wrong, says) in [
        (&["retry=1"][..], "is no limit of a route"),
        (&["retries=11"], "from 0 to 10"),
        (&["timeout.total=5"], "add a unit"),
        (&["rate_limit=fast"], "write `100/s`"),
        (&["retries=1", "retries=2"], "given twice"),
        (&["retries=1", "--expires", "soon"], "is not a duration"),
        (&["--clear", "retries=1"], "cannot be used with"),
        (&["--reason", "why"], "nothing to set"),
    ] {
        let refused = fairway.cli(&[&["limits", "slow.test/"], wrong].concat()).await;
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {}", said(&refused));
        assert!(said(&refused).contains(says), "{wrong:?}: {}", said(&refused));
    }
    let unknown = fairway.cli(&["limits", "slow.tset/", "retries=1"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(said(&unknown).contains("there is no route `slow.tset/`"), "{}", said(&unknown));
    assert_eq!(limit(&fairway, "rate_limit").await[0], "1/h burst 2", "nothing changed");

    let cleared = fairway.cli(&["limits", "slow.test/", "--clear", "-o", "json"]).await;
    assert!(cleared.status.success(), "{}", said(&cleared));
    let shown: Value = serde_json::from_slice(&cleared.stdout).expect("JSON");
    assert_eq!(shown["route"], "slow.test/");
    assert_eq!(limit(&fairway, "rate_limit").await[..2], [json!("1000/s burst 1000"), json!("label")]);
    assert_eq!(
        [status(&fairway, "/").await, status(&fairway, "/").await, status(&fairway, "/").await],
        [200; 3]
    );
    let audit = fairway.list("audit").await;
    let actions: Vec<&Value> = audit.iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["delete-limits"].into_iter().chain(["put-limits"; 6]).collect::<Vec<_>>());
}
