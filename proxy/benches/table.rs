//! The routing table: making it, changing one route of it, finding a route, choosing an instance, counting a request.

mod cluster;

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cluster::Cluster;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use fairway_config::labels::{Balance, ClientKey};
use fairway_proxy::metrics::Metrics;
use fairway_proxy::pick::Tried;
use fairway_proxy::reason::Reason;
use fairway_proxy::request::{FieldList, RequestView};
use fairway_proxy::table::{Find, Lasting, RouteTable};
use rustix::time::{ClockId, clock_gettime};

fn view<'a>(host: &'a str, path: &'a str, fields: &'a FieldList) -> RequestView<'a> {
    let client = IpAddr::from([192, 0, 2, 1]);
    RequestView { host, path, query: None, method: "GET", client, internal: false, secure: false, fields }
}

fn making(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for routes in [100, 10_000] {
        let cluster = Cluster::new(routes, 1);
        let lasting = Lasting::new(Metrics::new(2));
        let table = RouteTable::build(&cluster.catalog, &lasting, None);
        group.bench_function(BenchmarkId::new("whole", routes), |b| {
            let fresh = || Lasting::new(Metrics::new(2));
            b.iter_batched(
                fresh,
                |lasting| RouteTable::build(&cluster.catalog, &lasting, None),
                BatchSize::LargeInput,
            );
        });
        for (change, catalog) in [
            ("one-weight", cluster.reweighted(1)),
            ("one-flip", cluster.flipped()),
            ("one-route-less", cluster.with_one_route_less()),
        ] {
            group.bench_function(BenchmarkId::new(change, routes), |b| {
                b.iter(|| RouteTable::build(&catalog, &lasting, Some(&table)));
            });
        }
    }
}

fn finding(c: &mut Criterion) {
    let fields = FieldList::default();
    for routes in [1, 1_000, 10_000] {
        let cluster = Cluster::new(routes, 1);
        let table = RouteTable::build(&cluster.catalog, &Lasting::new(Metrics::new(2)), None);
        let mut rng = fastrand::Rng::with_seed(1);
        c.bench_function(&format!("find/{routes}"), |b| {
            b.iter(|| {
                let (host, path) = &cluster.asks[rng.usize(0..cluster.asks.len())];
                matches!(table.find(black_box(&view(host, path, &fields))), Find::Route(_))
            });
        });
        c.bench_function(&format!("find-nothing/{routes}"), |b| {
            let asked = view("unknown.many.labels.in.a.host.company.com", "/", &fields);
            b.iter(|| matches!(table.find(black_box(&asked)), Find::Unknown));
        });
    }
}

/// A split of two versions with five instances each.
fn choosing(c: &mut Criterion) {
    let fields = FieldList::default();
    let cluster = Cluster::new(1000, 5);
    let metrics = Metrics::new(2);
    let worker = metrics.worker();
    let table = RouteTable::build(&cluster.reweighted(5), &Lasting::new(metrics), None);
    let entry = table.entries().first().expect("it has routes");
    let (mut rng, now) = (fastrand::Rng::with_seed(1), Instant::now());
    let asked = view("service-0.department-0.company.com", "/", &fields);
    c.bench_function("pick", |b| {
        b.iter(|| entry.pick(black_box(&asked), &Tried::default(), &mut rng, now).is_ok());
    });
    let pick = entry.pick(&asked, &Tried::default(), &mut rng, now).expect("it has instances");
    c.bench_function("count", |b| {
        b.iter(|| {
            worker.request_done(&pick.version.series, 200, Reason::Ok, black_box(Duration::from_micros(700)))
        });
    });
    c.bench_function("observe", |b| {
        b.iter(|| pick.endpoint.state.observe(black_box(Duration::from_micros(700)), now));
    });
}

/// Versions of many instances, with each balance, each time for another client; once all alike, once with one that is new
/// among them, so that how each stands is looked at.
fn choosing_among_many(c: &mut Criterion) {
    let fields = FieldList::default();
    let mut group = c.benchmark_group("pick");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    for instances in [2, 10, 100, 250, 1000] {
        let cluster = Cluster::new(1, instances);
        for balance in [
            Balance::P2cEwma,
            Balance::RoundRobin,
            Balance::LeastRequest,
            Balance::Random,
            Balance::Hash(ClientKey::Ip),
        ] {
            for (are, catalog) in
                [("", cluster.balanced(&balance)), ("/one-new", cluster.with_one_new(&balance))]
            {
                let table = RouteTable::build(&catalog, &Lasting::new(Metrics::new(2)), None);
                let entry = table.entries().first().expect("it has routes");
                let (mut rng, now) = (fastrand::Rng::with_seed(1), Instant::now());
                let asked = view("service-0.department-0.company.com", "/", &fields);
                group.bench_function(format!("{instances}/{balance:?}{are}"), |b| {
                    b.iter_custom(|times| {
                        let began = cpu_time();
                        for _ in 0..times {
                            let asked = RequestView { client: rng.u32(..).to_be_bytes().into(), ..asked };
                            let _ =
                                black_box(entry.pick(black_box(&asked), &Tried::default(), &mut rng, now));
                        }
                        cpu_time().saturating_sub(began)
                    });
                });
            }
        }
    }
}

/// What this thread has had of the processor: of a few hundred nanoseconds the clock says little on a busy machine.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("no time is negative")
}

criterion_group!(benches, making, finding, choosing, choosing_among_many);
criterion_main!(benches);
