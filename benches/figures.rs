//! The figures of the README, against a private Docker engine and its recorded answers: `make figures`.
//!
//! Not a test: nothing here fails for being slow. How each figure is measured is said in docs/figures.md.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fairway_testkit::client;
use fairway_testkit::fake_engine::{FakeEngine, recorded_container};
use fairway_testkit::load::{Load, LoadOptions, Report};
use fairway_testkit::{Container, ContainerOptions, Engine, Fairway, FairwayOptions};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_fairway");
const IMAGE: &str = "origin:v1";

fn main() {
    // `cargo bench` adds flags of its own; the first word is which figures, the second how often.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let which = words.first().map_or("all", String::as_str);
    let count = words.get(1).and_then(|text| text.parse().ok()).unwrap_or(200);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        println!("| figure | value |\n|---|---|");
        if matches!(which, "all" | "engine") {
            thousand_containers().await;
        }
        if matches!(which, "all" | "starts") {
            starts_and_stops(count).await;
        }
        if matches!(which, "all" | "deploys") {
            deploys(count).await;
        }
    });
}

async fn on_engine() -> (Engine, Fairway) {
    let engine = Engine::start().await;
    engine.origin_image(IMAGE).await;
    let config = "[log]\naccess = false\n";
    let fairway = FairwayOptions::new(BINARY).docker(engine.url()).config(config).start().await;
    fairway.ready().await;
    (engine, fairway)
}

/// 1,000 containers as a real engine described them, told by a socket that answers at once.
async fn thousand_containers() {
    const CONTAINERS: usize = 1000;
    let mut routed = Vec::new();
    let mut memory = 0;
    for _ in 0..5 {
        let engine = FakeEngine::start().await;
        (0..CONTAINERS).for_each(|n| engine.put(recorded_container(n)));
        let start = Instant::now();
        let fairway = FairwayOptions::new(BINARY).docker(engine.url()).start().await;
        let all = |status: &Value| status["items"].as_array().is_some_and(|items| items.len() >= CONTAINERS);
        fairway.wait_until("all instances", "/api/v1/instances", all).await;
        routed.push(start.elapsed());
        memory = resident_kib(fairway.process().pid());
    }
    row("1,000 containers, process start to all routed, median of 5", &millis(quantile(&mut routed, 0.5)));
    row("memory with 1,000 containers", &format!("{:.1} MiB", memory as f64 / 1024.0));
}

/// Docker's start event to the first request routed to that container, and its first answer; its stop signal to the last request sent to it.
async fn starts_and_stops(count: usize) {
    let (engine, fairway) = on_engine().await;
    let mut events = engine.api().events().await;
    // By turns, so that each instance of the route is sent requests all the time.
    let turns = ("fairway.balance", "round-robin");
    let labels = &[("aliyun.routing.port_80", "stays;moves"), ("fairway.service", "web"), turns];
    engine.run(ContainerOptions { name: "stays", image: IMAGE, labels, ..Default::default() }).await;
    fairway.answers("stays.localhost", "/", 200).await;
    let (mut starts, mut answers, mut stops) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..count {
        let (name, host) = (format!("new-{n}"), format!("only-{n}.localhost"));
        let claims = format!("only-{n};moves");
        let labels = &[("aliyun.routing.port_80", claims.as_str()), ("fairway.service", "web"), turns];
        let env = &["ON_TERM=ignore"];
        let options = ContainerOptions { name: &name, image: IMAGE, labels, env, ..Default::default() };
        let container = engine.create(options).await;
        let ((routed, answered), ()) = tokio::join!(first_routed(&fairway, &host), container.start());
        let event = events.next_of("start", &name).await;
        starts.push(routed.saturating_sub(time_of(&event)));
        answers.push(answered.saturating_sub(time_of(&event)));

        let load_began = now();
        let load = Load::start(LoadOptions {
            connections: 4,
            ..LoadOptions::new(fairway.http(), "moves.localhost")
        });
        load.wait_for(200).await;
        container.kill("TERM").await;
        let event = events.next_of("kill", &name).await;
        load.wait_for(400).await;
        let report = load.stop().await;
        let seen = report.by_instance.get(container.short_id()).expect("it got requests before");
        stops.push((load_began + seen.last_sent).saturating_sub(time_of(&event)));
        container.remove().await;
        progress("starts and stops", n, count);
    }
    let told = |what: &str, times: &mut [Duration]| {
        let (p50, p99) = (quantile(times, 0.5), quantile(times, 0.99));
        row(&format!("{what}, {count} containers, p50 / p99"), &format!("{} / {}", millis(p50), millis(p99)));
    };
    told("Docker's start event to the first routed request", &mut starts);
    told("Docker's start event to the first answer", &mut answers);
    told("Docker's kill event to the last request sent to it", &mut stops);
}

/// The wall-clock times at which the first request was sent that was routed, and at which the first answer came. A
/// request is sent every millisecond, whatever became of those before it.
async fn first_routed(fairway: &Fairway, host: &str) -> (Duration, Duration) {
    let address = fairway.http();
    let mut asked = tokio::task::JoinSet::new();
    let (mut routed, mut answered) = (Duration::MAX, None);
    while answered.is_none() || !asked.is_empty() {
        if answered.is_none() {
            let host = host.to_owned();
            asked.spawn(async move {
                let sent = now();
                (sent, client::get(address, &host, "/").await.status, now())
            });
        }
        let tick = tokio::time::timeout(Duration::from_millis(1), asked.join_next()).await;
        let Ok(Some(Ok((sent, status, came)))) = tick else { continue };
        if status != 404 {
            routed = routed.min(sent);
        }
        if status == 200 {
            answered = Some(answered.unwrap_or(came).min(came));
        }
    }
    (routed, answered.unwrap_or(Duration::MAX))
}

/// One of three instances at a time is stopped, removed and replaced, under a constant load of three kinds.
async fn deploys(count: usize) {
    let (engine, fairway) = on_engine().await;
    let mut instances: Vec<Container> = Vec::new();
    for n in 0..3 {
        instances.push(instance(&engine, n).await);
    }
    fairway.instances_ready("web@v1", 3).await;
    let options = || LoadOptions {
        rate: Some(100.0),
        connections: 4,
        ..LoadOptions::new(fairway.http(), "shop.localhost")
    };
    let loads = [
        Load::start(options()),
        Load::start(LoadOptions { keep_alive: false, ..options() }),
        Load::start(LoadOptions {
            method: "POST".into(),
            target: "/echo".into(),
            body: vec![b'x'; 2000],
            ..options()
        }),
    ];
    for n in 0..count {
        let old = instances.remove(0);
        old.stop().await;
        old.remove().await;
        instances.push(instance(&engine, n + 3).await);
        fairway.instances_ready("web@v1", 3).await;
        progress("deploys", n, count);
    }
    let mut whole = Vec::new();
    for load in loads {
        whole.push(load.stop().await);
    }
    let sum = |of: fn(&Report) -> u64| whole.iter().map(of).sum::<u64>();
    let figure = format!("{} of {}", sum(|report| report.failed), sum(|report| report.sent));
    row(&format!("failed requests in {count} rolling replacements of one of three instances"), &figure);
    for report in whole.iter().filter(|report| report.failed > 0) {
        eprintln!("{report}");
    }
}

async fn instance(engine: &Engine, n: usize) -> Container {
    let labels = &[
        ("aliyun.routing.port_80", "shop"),
        ("aliyun.probe.url", "http://container/health"),
        ("fairway.service", "web"),
        ("fairway.version", "v1"),
    ];
    let name = format!("web-{n}");
    engine.run(ContainerOptions { name: &name, image: IMAGE, labels, ..Default::default() }).await
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

/// When Docker says that it happened: the same clock as ours.
fn time_of(event: &Value) -> Duration {
    Duration::from_nanos(event["timeNano"].as_u64().expect("an event has a time"))
}

fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort();
    let last = times.len().saturating_sub(1);
    times.get((part * last as f64).round() as usize).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn row(figure: &str, value: &str) {
    println!("| {figure} | {value} |");
}

fn progress(what: &str, n: usize, count: usize) {
    if (n + 1).is_multiple_of(20) {
        eprintln!("{what}: {} of {count}", n + 1);
    }
}

fn resident_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
