//! The load of a row: every kind of request at a moderate, steady rate, from several clients at the same time.

use std::net::SocketAddr;

use fairway_testkit::load::{Load, LoadOptions};

use crate::count::{Count, Kind};
use crate::sockets::Sockets;

/// Octets of a body that is kept for another try, and of one that is not: 64 KiB are.
const SMALL: usize = 2_000;
const LARGE: usize = 100 * 1024;

/// A running load.
pub(crate) struct Traffic {
    loads: Vec<(Kind, Load)>,
    sockets: Sockets,
}

impl Traffic {
    /// Starts it against one service.
    pub(crate) fn start(address: SocketAddr, host: &str, service: &str) -> Self {
        let paced = |connections, rate| LoadOptions {
            connections,
            rate: Some(rate),
            service: Some(service.to_owned()),
            ..LoadOptions::new(address, host)
        };
        let post = |connections, rate, octets| LoadOptions {
            method: "POST".to_owned(),
            body: vec![b'x'; octets],
            ..paced(connections, rate)
        };
        let own = |options| LoadOptions { keep_alive: false, ..options };
        // Each takes seconds, less than the stop timeout of the instances.
        let long = |target: &str| LoadOptions {
            target: target.to_owned(),
            rate: None,
            keep_alive: false,
            ..paced(2, 1.0)
        };
        let loads = [
            (Kind::Get, paced(4, 80.0)),
            (Kind::Get, own(paced(2, 40.0))),
            (Kind::Post, post(4, 80.0, SMALL)),
            (Kind::Post, own(post(2, 20.0, SMALL))),
            (Kind::LargePost, post(4, 20.0, LARGE)),
            (Kind::Download, long("/chunked?n=25&ms=100")),
            (Kind::Download, LoadOptions { target: "/bytes?n=1000000".to_owned(), ..paced(2, 4.0) }),
            (Kind::Events, long("/sse?n=20&ms=100")),
        ];
        Self {
            loads: loads.map(|(kind, options)| (kind, Load::start(options))).into(),
            sockets: Sockets::start(address, host, service, 2),
        }
    }

    /// Waits until so many more GETs have ended: for an act in the middle of the load, without a clock.
    pub(crate) async fn wait_for(&self, more: u64) {
        if let Some((_, load)) = self.loads.first() {
            load.wait_for(more).await;
        }
    }

    /// Ends it: what is in flight is waited for, and counted.
    pub(crate) async fn stop(self) -> Count {
        let mut count = Count::default();
        for (kind, load) in self.loads {
            let report = load.stop().await;
            count.add(kind, report.sent, report.by_cause);
        }
        let ended = self.sockets.stop().await;
        count.add(Kind::Socket, ended.sessions, ended.by_cause);
        count
    }
}
