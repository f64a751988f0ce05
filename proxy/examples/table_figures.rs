//! Prints how long the routing table takes to build and to search, and what it weighs.
//!
//!     cargo run --profile quick -p fairway-proxy --example table_figures [ROUTES]

#[path = "../benches/cluster/mod.rs"]
mod cluster;

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cluster::Cluster;
use fairway_proxy::metrics::Metrics;
use fairway_proxy::request::{FieldList, RequestView};
use fairway_proxy::table::{Find, Lasting, RouteTable};

fn main() {
    let routes = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let cluster = Cluster::new(routes, 1);
    let lasting = Lasting::new(Metrics::new(2));

    let before = resident_bytes();
    let table = RouteTable::build(&cluster.catalog, &lasting, None);
    let grown = resident_bytes().saturating_sub(before);
    println!("routes                    {routes}, each with 2 versions of 1 instance");
    println!("whole build, median       {:?}", whole_build(&cluster));
    println!(
        "one weight, median        {:?}",
        incremental(&cluster, &lasting, &table, &[cluster.reweighted(1)])
    );
    println!("one container flips       {:?}", incremental(&cluster, &lasting, &table, &[cluster.flipped()]));
    println!(
        "one route less            {:?}",
        incremental(&cluster, &lasting, &table, &[cluster.with_one_route_less()])
    );
    let per_route = |bytes: usize| bytes / routes.max(1) as usize;
    println!("table, reckoned           {} bytes a route", per_route(table.heap_bytes()));
    println!("table with all counters   {} bytes a route (resident memory)", per_route(grown));
    let (clock, known, unknown) = lookups(&cluster, &table);
    println!(
        "find, p50 / p99           {:?} / {:?} (less {clock:?} of the clock itself)",
        known[0], known[1]
    );
    println!("find nothing, p50 / p99   {:?} / {:?}", unknown[0], unknown[1]);
}

fn whole_build(cluster: &Cluster) -> Duration {
    let build = || {
        let lasting = Lasting::new(Metrics::new(2));
        timed(|| RouteTable::build(&cluster.catalog, &lasting, None))
    };
    median((0..21).map(|_| build()).collect())
}

/// From the table of the unchanged cluster to each of these catalogs.
fn incremental(
    cluster: &Cluster,
    lasting: &Lasting,
    table: &RouteTable,
    changed: &[fairway_catalog::Catalog],
) -> Duration {
    debug_assert_eq!(table.entries().len(), cluster.catalog.routes.len());
    let build = |catalog| timed(|| RouteTable::build(catalog, lasting, Some(table)));
    median((0..101).flat_map(|_| changed.iter().map(build)).collect())
}

/// What the clock takes, and p50 and p99 of finding a route and of finding none, each lookup on its own, in random order.
fn lookups(cluster: &Cluster, table: &RouteTable) -> (Duration, [Duration; 2], [Duration; 2]) {
    let fields = FieldList::default();
    let client = IpAddr::from([192, 0, 2, 1]);
    let ask = |host: &str, path: &str| {
        let method = "GET";
        let view = RequestView {
            host,
            path,
            query: None,
            method,
            client,
            internal: false,
            secure: false,
            fields: &fields,
        };
        matches!(table.find(black_box(&view)), Find::Route(_))
    };
    let mut rng = fastrand::Rng::with_seed(1);
    let order: Vec<usize> = (0..1_000_000).map(|_| rng.usize(0..cluster.asks.len())).collect();
    let clock = percentile((0..100_000).map(|_| timed(|| black_box(()))).collect(), 0.5);
    let less = |took: Duration| took.saturating_sub(clock);
    let known = |n: &usize| {
        let (host, path) = &cluster.asks[*n];
        timed(|| assert!(ask(host, path), "{host}{path} is a route"))
    };
    let known: Vec<_> = order.iter().map(known).collect();
    let unknown: Vec<_> =
        order.iter().map(|n| &cluster.asks[*n].0).map(|host| timed(|| ask(&host[1..], "/nowhere"))).collect();
    let both = |times: Vec<Duration>| [0.5, 0.99].map(|part| less(percentile(times.clone(), part)));
    (clock, both(known), both(unknown))
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    drop(result);
    took
}

fn median(times: Vec<Duration>) -> Duration {
    percentile(times, 0.5)
}

fn percentile(mut times: Vec<Duration>, part: f64) -> Duration {
    times.sort_unstable();
    let at = ((times.len().saturating_sub(1)) as f64 * part).round() as usize;
    times.get(at).copied().unwrap_or_default()
}

/// Resident memory of this process, 0 where it cannot be read.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident =
        pages.as_deref().and_then(|text| text.split_whitespace().nth(1)).and_then(|n| n.parse().ok());
    resident.unwrap_or(0usize) * 4096
}
