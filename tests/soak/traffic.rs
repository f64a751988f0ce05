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
    sockets: Option<Sockets>,
}

impl Traffic {
    /// Starts it against one service.
    pub(crate) fn start(address: SocketAddr, host: &str, service: &str) -> Self {
        let mut traffic = Self::start_short(address, host, service);
        // Each takes seconds, less than the stop timeout of the instances.
        let long = |target: &str, ends: &str| LoadOptions {
            target: target.to_owned(),
            ends: vec![ends.to_owned()],
            service: Some(service.to_owned()),
            keep_alive: false,
            ..LoadOptions::new(address, host)
        };
        let bytes = LoadOptions { keep_alive: true, rate: Some(4.0), ..long("/bytes?n=1000000", "x") };
        traffic.loads.extend([
            (Kind::Download, Load::start(long("/chunked?n=25&ms=100", "chunk 24\n"))),
            (Kind::Download, Load::start(bytes)),
            (Kind::Events, Load::start(long("/sse?n=20&ms=100", "event: end\n\n"))),
        ]);
        traffic.sockets = Some(Sockets::start(address, host, service, 2));
        traffic
    }

    /// The same without what takes seconds: where the only instance makes room for another, requests wait for its end.
    pub(crate) fn start_short(address: SocketAddr, host: &str, service: &str) -> Self {
        let paced = |connections, rate| LoadOptions {
            connections,
            rate: Some(rate),
            service: Some(service.to_owned()),
            ..LoadOptions::new(address, host)
        };
        let post = |connections, rate, octets| LoadOptions {
            method: "POST".to_owned(),
            body: vec![b'x'; octets],
            is_taken: true,
            ..paced(connections, rate)
        };
        let own = |options| LoadOptions { keep_alive: false, ..options };
        let loads = [
            (Kind::Get, paced(4, 80.0)),
            (Kind::Get, own(paced(2, 40.0))),
            (Kind::Post, post(4, 80.0, SMALL)),
            (Kind::Post, own(post(2, 20.0, SMALL))),
            (Kind::LargePost, post(4, 20.0, LARGE)),
        ];
        Self { loads: loads.map(|(kind, options)| (kind, Load::start(options))).into(), sockets: None }
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
        if let Some(sockets) = self.sockets {
            let ended = sockets.stop().await;
            count.add(Kind::Socket, ended.sessions, ended.by_cause);
        }
        count
    }
}
