//! The command line as a person meets it, wrong input first.

use std::path::Path;
use std::process::{Command, Output};

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::{Fairway, FairwayOptions};

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).env_remove("DOCKER_HOST").output().expect("the program runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn file(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a file");
    path.display().to_string()
}

#[test]
fn a_file_with_five_errors_is_told_all_five() {
    let folder = tempfile::tempdir().expect("a folder");
    let content = "[http]\nlisten = [\"nowhere\"]\n[routing]\ndomian_suffix = \"x\"\ninternal = [\"10.0.0.0/99\"]\n\
                   [proxy]\nthreads = -1\n[[service]]\nname = \"a\"\ninstances = []\n";
    let path = file(folder.path(), "fairway.toml", content);
    for command in ["check", "run"] {
        let output = run(&[command, "--config", &path]);
        assert_eq!(output.status.code(), Some(2), "{command}: {}", text(&output));
        let told = text(&output);
        for part in [
            "fairway.toml:2",
            "nowhere",
            "domian_suffix",
            "domain_suffix",
            "10.0.0.0/99",
            "threads",
            "instances",
        ] {
            assert!(told.contains(part), "{command}: `{part}` in\n{told}");
        }
    }
    let good = file(folder.path(), "good.toml", "[http]\nlisten = [\"127.0.0.1:8080\"]\n");
    assert!(run(&["check", "--config", &good]).status.success());
}

#[test]
fn lint_tells_file_line_key_value_and_remedy_for_maps_and_lists() {
    let folder = tempfile::tempdir().expect("a folder");
    let map =
        "services:\n  web:\n    labels:\n      aliyun.routing.port_80: a.com:8080\n      aliyun.scale: 2\n";
    let list =
        "web:\n  labels:\n    - aliyun.routing.prot_80=shop\n    - aliyun.probe.url=http://container/\n";
    let (map, list) = (file(folder.path(), "map.yml", map), file(folder.path(), "list.yml", list));
    let output = run(&["lint", &map, &list]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in ["map.yml:4", "aliyun.routing.port_80", "a.com:8080", "list.yml:3", "aliyun.routing.port_80"]
    {
        assert!(told.contains(part), "`{part}` in\n{told}");
    }
    assert!(!told.contains("aliyun.scale"), "{told}");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/compose");
    for example in std::fs::read_dir(examples).expect("the examples").flatten() {
        let output = run(&["lint", &example.path().display().to_string()]);
        assert!(output.status.success(), "{}", text(&output));
    }
    assert_eq!(run(&["lint", "/does/not/exist.yml"]).status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_listener_that_is_taken_is_fatal_and_says_which() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for flag in ["http", "admin", "dns"] {
        let mut options = FairwayOptions::new(BINARY);
        match flag {
            "http" => options.http = vec![address.clone()],
            "dns" => options.dns = vec![address.clone()],
            _ => options.admin = Some(address.clone()),
        }
        let ended = options.run_to_end().await;
        assert_ne!(ended.code, Some(0), "{flag}");
        assert!(ended.text.contains(&address) && ended.text.contains("listen"), "{flag}: {}", ended.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_that_is_cut_or_locked_is_told_and_traffic_goes_on() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let config =
        format!("[[service]]\nname = \"web\"\nroutes = [\"shop\"]\ninstances = [\"{}\"]\n", origin.address());
    let folder = tempfile::tempdir().expect("a folder");
    let start = async || {
        let options = FairwayOptions::new(BINARY).config(config.clone());
        let fairway = FairwayOptions { state_dir: Some(folder.path().to_owned()), ..options }.start().await;
        fairway.ready().await;
        fairway
    };
    let first = start().await;
    assert_writes(&first, 200).await;
    // A second process on the same state: it serves, but cannot keep what it is told.
    let second = start().await;
    assert_eq!(second.get("shop.localhost", "/").await.status, 200);
    assert_writes(&second, 503).await;
    let problems = second.list("problems").await;
    assert!(
        problems.iter().any(|p| p["text"].as_str().is_some_and(|t| t.contains("another process"))),
        "{problems:?}"
    );
    second.terminate().await;
    first.terminate().await;

    let state = std::fs::read_dir(folder.path())
        .expect("the state")
        .flatten()
        .find(|f| f.path().is_file())
        .expect("a file");
    let whole = std::fs::read(state.path()).expect("its content");
    std::fs::write(state.path(), &whole[..whole.len() / 3]).expect("cut");
    let third = start().await;
    assert_eq!(third.get("shop.localhost", "/").await.status, 200, "traffic goes on");
    let problems = third.list("problems").await;
    assert!(
        problems.iter().any(|p| p["text"].as_str().is_some_and(|t| t.contains("fairway.redb"))),
        "{problems:?}"
    );
}

async fn assert_writes(fairway: &Fairway, status: u16) {
    let body = serde_json::json!({"weights": {"web@static": 1}});
    let answer = fairway.put_split("shop.localhost/", &body).await;
    assert_eq!(answer.status, status, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_orders_and_explanations_come_from_the_command_line() {
    let origins =
        [Origin::start(Identity::new("one", "v1")).await, Origin::start(Identity::new("two", "v2")).await];
    let service = |n: usize| {
        let address = origins[n].address();
        format!(
            "[[service]]\nname = \"web\"\nversion = \"v{}\"\nroutes = [\"shop\"]\ninstances = [\"{address}\"]\n",
            n + 1
        )
    };
    let fairway = FairwayOptions::new(BINARY).config(service(0) + &service(1)).start().await;
    fairway.ready().await;
    for (arguments, part) in [
        (&["routes"][..], "shop.localhost/"),
        (&["backends"], "web@v1"),
        (&["instances"], "ready"),
        (&["status"], "revision"),
        (&["split", "shop.localhost/", "v1=90", "v2=10", "--reason", "test"], "90"),
        (&["explain", "http://shop.localhost/"], "web@v1"),
        (&["drain", "web@v2"], "draining"),
        (&["disable", "web@v2"], "disabled"),
        (&["activate", "web@v2"], "active"),
        (&["split", "shop.localhost/", "--clear"], "shop.localhost/"),
        (&["events"], "route-split"),
    ] {
        let output = fairway.cli(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(part), "{arguments:?}: `{part}` in\n{}", text(&output));
    }
    let json = fairway.cli(&["routes", "-o", "json"]).await;
    let list: serde_json::Value = serde_json::from_slice(&json.stdout).expect("json");
    assert_eq!(list["items"][0]["id"], "shop.localhost/");
    let wrong = fairway.cli(&["split", "shop.localhost/", "web@v9=1"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong).contains("web@v1"), "the known ones are named: {}", text(&wrong));
    let nobody = run(&["routes", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody).contains("127.0.0.1:1"), "{}", text(&nobody));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_taken_over_and_a_bad_one_refused_whole() {
    let origins =
        [Origin::start(Identity::new("one", "v1")).await, Origin::start(Identity::new("two", "v2")).await];
    let config = |host: &str, n: usize| {
        let address = origins[n].address();
        format!("[[service]]\nname = \"web\"\nroutes = [\"{host}\"]\ninstances = [\"{address}\"]\n")
    };
    let fairway = FairwayOptions::new(BINARY).config(config("shop", 0)).start().await;
    fairway.ready().await;
    assert_eq!(fairway.get("shop.localhost", "/").await.ok("first").json()["instance"], "one");
    std::fs::write(fairway.config_file(), config("shop2", 1)).expect("a changed file");
    let answer = fairway.answers("shop2.localhost", "/", 200).await;
    assert_eq!(answer.json()["instance"], "two");

    std::fs::write(fairway.config_file(), "[htpp]\nlisten = 3\n").expect("a bad file");
    fairway.reload();
    let refused = |list: &serde_json::Value| list.to_string().contains("htpp");
    fairway.wait_until("the refusal is told", "/api/v1/problems", refused).await;
    assert_eq!(fairway.get("shop2.localhost", "/").await.status, 200, "the old one stays");
}
