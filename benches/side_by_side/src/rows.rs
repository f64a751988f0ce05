//! What is measured: a load, and the proxies with the settings that stand beside each other in it.

use crate::peer::Setup;

/// Hosts of the large table.
pub(crate) const MANY_ROUTES: usize = 10_000;

/// Requests per second of the latency row: far below what any of the proxies can do on one core.
const STEADY_RATE: u32 = 8_000;

/// What a load does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// wrk, in a closed loop over kept connections.
    Wrk {
        /// What is asked for.
        path: &'static str,
        /// Connections.
        connections: u32,
    },
    /// The same, each request for the next of all hosts of the table.
    Hosts,
    /// h2load over TLS, 16 connections of 8 streams.
    Http2,
    /// Full TLS 1.3 handshakes and nothing else.
    Handshakes,
    /// A connection for each request.
    Churn,
    /// Requests at a steady rate, whatever the answers do.
    Steady {
        /// Requests per second.
        rate: u32,
    },
    /// Connections that had one request each and are kept.
    Idle {
        /// How many.
        connections: u32,
        /// Over TLS.
        tls: bool,
    },
}

/// What stands beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// The proxies.
    Peers,
    /// Each proxy with itself, set up in two ways with these names.
    Ways(&'static str, &'static str),
}

/// One row of the tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// How it is asked for.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) what: &'static str,
    /// What its figure counts.
    pub(crate) unit: &'static str,
    /// The load.
    pub(crate) load: Load,
    /// What is compared.
    pub(crate) beside: Beside,
    /// The settings, the second ones for the second way.
    pub(crate) setups: [Setup; 2],
}

const CPU: &str = "CPU µs per request";

/// All rows, in the order of the tables.
pub(crate) fn all() -> Vec<Row> {
    let plain = Setup::default();
    let tls = Setup { tls: true, ..plain };
    let row = |name, what, unit, load, setup| Row {
        name,
        what,
        unit,
        load,
        beside: Beside::Peers,
        setups: [setup; 2],
    };
    let ways = |name, what, load, (first, second), setups| Row {
        name,
        what,
        unit: CPU,
        load,
        beside: Beside::Ways(first, second),
        setups,
    };
    let small = Load::Wrk { path: "/1k", connections: 64 };
    let idle = |connections, tls| Load::Idle { connections, tls };
    let memory = "KiB per connection";
    vec![
        row("h1", "HTTP/1.1, 1 KiB, 1 worker", CPU, small, plain),
        row("h1-2w", "HTTP/1.1, 1 KiB, 2 workers", CPU, small, Setup { threads: 2, ..plain }),
        row("h2", "HTTP/2 over TLS, 1 KiB", CPU, Load::Http2, tls),
        row("tls", "TLS 1.3 handshake", "CPU µs per handshake", Load::Handshakes, tls),
        row("churn", "one request per connection, 1 KiB", CPU, Load::Churn, plain),
        row("64k", "HTTP/1.1, 64 KiB", CPU, Load::Wrk { path: "/64k", connections: 32 }, plain),
        row("1m", "HTTP/1.1, 1 MiB", CPU, Load::Wrk { path: "/1m", connections: 16 }, plain),
        row("latency", "latency at 8,000 requests/s", "µs, p50", Load::Steady { rate: STEADY_RATE }, plain),
        row("idle-1k", "1,000 idle connections", memory, idle(1_000, false), plain),
        row("idle-9k", "9,500 idle connections", memory, idle(9_500, false), plain),
        row("idle-tls", "1,000 idle connections, TLS", memory, idle(1_000, true), tls),
        ways("log", "access log", small, ("off", "on"), [plain, Setup { log: true, ..plain }]),
        ways(
            "routes",
            "routes in the table, asked for in turn",
            Load::Hosts,
            ("1", "10,000"),
            [Setup { hosts: 1, ..plain }, Setup { hosts: MANY_ROUTES, ..plain }],
        ),
    ]
}

/// The row of this name.
pub(crate) fn named(name: &str) -> crate::Outcome<Row> {
    let all = all();
    let names = || all.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    let row = all.iter().find(|row| row.name == name).copied();
    row.ok_or_else(|| format!("there is no row `{name}`; there are {}", names()))
}
