//! Sticky sessions through the real binary: over restarts, on two nodes with one secret, while weights and states change, and
//! when containers come and go.

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::wait::{PATIENCE, until, within};
use fairway_testkit::{ContainerOptions, Engine, Fairway, FairwayOptions, Request};
use serde_json::json;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Who answered, and the cookie that came with the answer, both from a client with this cookie.
async fn ask(fairway: &Fairway, host: &str, cookie: Option<&str>) -> (String, Option<String>) {
    let mut request = Request::get(host, "/");
    if let Some(cookie) = cookie {
        request = request.header("Cookie", cookie);
    }
    let answer = fairway.send(&request).await.ok("a request");
    let set = answer.headers.get("set-cookie").map(|set| set.to_str().expect("text").to_owned());
    let set = set.and_then(|set| set.split(';').next().map(str::to_owned));
    (answer.header("x-instance").to_owned(), set)
}

async fn goes_to(fairway: &Fairway, host: &str, cookie: &str) -> String {
    ask(fairway, host, Some(cookie)).await.0
}

/// A client that is bound to this instance.
async fn bind(fairway: &Fairway, host: &str, to: &str) -> String {
    loop {
        if let (name, Some(cookie)) = ask(fairway, host, None).await
            && name == to
        {
            return cookie;
        }
    }
}

/// The names of those who answer a client with this cookie, of many requests.
async fn strays(fairway: &Fairway, cookie: &str) -> usize {
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..64 {
        names.insert(goes_to(fairway, "shop.test", cookie).await);
    }
    names.len()
}

/// Two instances of v1 and one of v2 behind `shop.test`, at random: one that was slow once gets its part, too.
struct Shop([Origin; 3]);

impl Shop {
    async fn start() -> Self {
        let origin = |name, version| Origin::start(Identity::new(name, version));
        Self([origin("one", "v1").await, origin("two", "v1").await, origin("three", "v2").await])
    }

    fn config(&self, secret: Option<&std::path::Path>) -> String {
        let [one, two, three] = [0, 1, 2].map(|i: usize| self.0[i].address());
        let secret =
            secret.map_or_else(String::new, |file| format!("sticky_secret_file = '{}'\n", file.display()));
        format!(
            "[routing]\nsticky_default = true\n{secret}\
             [[service]]\nname = 'shop'\nversion = 'v1'\nbalance = 'random'\nroutes = ['shop.test']\ninstances = ['{one}', '{two}']\n\
             [[service]]\nname = 'shop'\nversion = 'v2'\nbalance = 'random'\nroutes = ['shop.test']\ninstances = ['{three}']\n"
        )
    }

    async fn node(&self, secret: Option<&std::path::Path>) -> Fairway {
        let fairway = FairwayOptions::new(BINARY).config(self.config(secret)).start().await;
        fairway.ready().await;
        fairway
    }
}

async fn set_state(fairway: &Fairway, what: &str, state: &str) {
    let path = format!("/api/v1/{what}/state");
    fairway.admin("PUT", &path, Some(&json!({ "state": state }))).await.ok("a state");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_client_stays_over_a_restart_while_weights_and_states_change() {
    let shop = Shop::start().await;
    let mut fairway = shop.node(None).await;
    let client = bind(&fairway, "shop.test", "two").await;
    fairway.restart().await;
    fairway.ready().await;
    assert_eq!(ask(&fairway, "shop.test", Some(&client)).await, ("two".into(), None), "its secret was kept");

    let weights = json!({ "weights": { "shop@v1": 0, "shop@v2": 100 } });
    fairway.put_split("shop.test", &weights).await.ok("a split");
    for _ in 0..10 {
        assert_eq!(goes_to(&fairway, "shop.test", &client).await, "two");
        assert_eq!(ask(&fairway, "shop.test", None).await.0, "three");
    }
    set_state(&fairway, "backends/shop%40v1", "draining").await;
    assert_eq!(goes_to(&fairway, "shop.test", &client).await, "two");
    let explained = fairway.cli(&["explain", "http://shop.test/", "-H", &format!("Cookie: {client}")]).await;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    for want in [
        "the cookie binds the client to shop@v1, shop@v1/",
        "its instance serves it, whatever the weights",
        "by routes: http://shop.test",
        "draining, ready, 0 in flight",
        "ms: the client is bound to it",
        "weight 100, but the cookie binds the client to shop@v1",
        "After a failure",
    ] {
        assert!(explained.contains(want), "no {want:?} in {explained}");
    }
    set_state(&fairway, "backends/shop%40v1", "disabled").await;
    let (name, moved) = ask(&fairway, "shop.test", Some(&client)).await;
    assert_eq!(name, "three");
    assert!(moved.is_some_and(|moved| moved != client), "it is bound anew");

    let told = fairway.read("/api/v1/problems").await.to_string();
    assert!(!told.contains("session_sticky") && !told.contains("sticky_default"), "{told}");
    // Lines are written a moment late.
    let logged =
        fairway.log().find(|lines| lines.iter().any(|line| line.contains("why=sticky")).then_some(()));
    within("the word in the access log", PATIENCE, logged).await.expect("the log goes on");
    assert!(!fairway.log().text().contains(&client["FAIRWAY=".len()..]), "the cookie is a secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_takes_over_knows_the_clients_of_the_one_before() {
    let (shop, state) = (Shop::start().await, TempDir::with_prefix("fairway-state-").expect("a folder"));
    let start = async |args: &[&str]| {
        let options = FairwayOptions::new(BINARY).config(shop.config(None)).args(args);
        let fairway = FairwayOptions { state_dir: Some(state.path().to_owned()), ..options }.start().await;
        fairway.ready().await;
        fairway
    };
    let old = start(&[]).await;
    let client = bind(&old, "shop.test", "two").await;
    let new = start(&["--replace"]).await;
    assert!(old.process().wait(PATIENCE).await.success(), "{}", old.log().text());
    assert_eq!(ask(&new, "shop.test", Some(&client)).await, ("two".into(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_one_secret_file_know_each_others_clients_and_follow_it() {
    let shop = Shop::start().await;
    let folder = TempDir::with_prefix("fairway-sticky-").expect("a folder");
    let file = folder.path().join("secret");
    let write = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).expect("a secret");
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
        std::fs::rename(&new, &file).expect("the file");
    };
    write(&format!("{SECRET}\n"));
    let (one, other) = (shop.node(Some(&file)).await, shop.node(Some(&file)).await);
    let stranger = shop.node(None).await;
    let client = bind(&one, "shop.test", "two").await;
    assert_eq!((strays(&other, &client).await, strays(&stranger, &client).await), (1, 3));
    assert_eq!(goes_to(&other, "shop.test", &client).await, "two");
    let tampered = client.replacen(&client[20..21], if &client[20..21] == "A" { "B" } else { "A" }, 1);
    assert_eq!(strays(&other, &tampered).await, 3);

    // A secret that is none changes nothing, and is told.
    write("short");
    one.wait_until("the refusal", "/api/v1/problems", |list| {
        list.to_string().contains("a secret has 32 at least")
    })
    .await;
    assert_eq!(strays(&one, &client).await, 1);
    // A new one in front: the clients of the old one stay, and those of the new one are known to nobody else.
    write(&format!("{}\n{SECRET}\n", SECRET.to_uppercase()));
    let new = until("a cookie by the new secret", PATIENCE, async || {
        let (_, cookie) = ask(&one, "shop.test", None).await;
        let cookie = cookie.expect("a new client is bound");
        (strays(&stranger, &cookie).await == 3 && strays(&one, &cookie).await == 1).then_some(cookie)
    })
    .await;
    assert_eq!((strays(&one, &client).await, strays(&one, &new).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_file_that_is_no_secret_is_refused_at_the_start_and_by_check() {
    let shop = Shop::start().await;
    let folder = TempDir::with_prefix("fairway-sticky-").expect("a folder");
    let file = folder.path().join("secret");
    for (contents, told) in [
        (None, "the file cannot be read"),
        (Some("\n# nothing\n"), "there is no secret in it"),
        (Some("tooshort"), "line 1 has 8 octets, and a secret has 32 at least"),
    ] {
        if let Some(contents) = contents {
            std::fs::write(&file, contents).expect("a file");
        }
        let ended = FairwayOptions::new(BINARY).config(shop.config(Some(&file))).run_to_end().await;
        assert_eq!(ended.code, Some(2), "{}", ended.text);
        assert!(
            ended.text.contains("routing.sticky_secret_file")
                && ended.text.contains(told)
                && ended.text.contains("on every node"),
            "{}",
            ended.text
        );
    }
    std::fs::write(&file, SECRET).expect("a file");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("a mode");
    let fairway = shop.node(Some(&file)).await;
    let is_told = |list: &serde_json::Value| {
        let told = list.to_string();
        told.contains("its mode is 644") && told.contains("chmod 600")
    };
    fairway.wait_until("the warning", "/api/v1/problems", is_told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_follows_its_container_and_leaves_it_when_it_is_gone() {
    let engine = Engine::start().await;
    engine.origin_image("origin:v1").await;
    let fairway = FairwayOptions::new(BINARY).docker(engine.url()).start().await;
    fairway.ready().await;
    let labels = &[
        ("aliyun.routing.port_80", "shop"),
        ("aliyun.routing.session_sticky", "true"),
        ("fairway.service", "web"),
        ("fairway.version", "v1"),
        ("fairway.balance", "random"),
    ];
    let run = |name| engine.run(ContainerOptions { name, image: "origin:v1", labels, ..Default::default() });
    let (one, _two) = (run("web-1").await, run("web-2").await);
    fairway.instances_ready("web@v1", 2).await;
    let client = bind(&fairway, "shop.localhost", one.short_id()).await;
    let explained = fairway.read("/api/v1/explain?url=http%3A%2F%2Fshop.localhost%2F").await;
    let labels = explained["route"]["versions"][0]["instances"].as_array().expect("instances").iter();
    for instance in labels {
        assert_eq!(instance["label"], "aliyun.routing.port_80: http://shop", "{instance}");
    }
    // The same container, in another life and perhaps at another address.
    one.restart().await;
    fairway.instances_ready("web@v1", 2).await;
    until("the client is back at its container", PATIENCE, async || {
        (goes_to(&fairway, "shop.localhost", &client).await == one.short_id()).then_some(())
    })
    .await;
    one.stop().await;
    let (name, moved) = ask(&fairway, "shop.localhost", Some(&client)).await;
    assert_ne!(name, one.short_id());
    let moved = moved.expect("bound to the other one");
    assert_eq!(ask(&fairway, "shop.localhost", Some(&moved)).await, (name, None));
}
