//! The load of a row: every kind of request at a moderate, steady rate, from several clients at the same time.

use std::net::SocketAddr;

use std::time::Duration;

use fairway_testkit::load::{Call, Load, LoadOptions, Over};
use fairway_testkit::tls::Client;

use crate::count::{Count, Kind};
use crate::sockets::Sockets;
use crate::stage::{HOST, Stage};

/// Octets of a body that is kept for another try whole, and of one of which only the beginning is: 64 KiB is the limit.
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

    /// HTTP/2 to `service` at [`HOST`], which need not speak it itself, and HTTP/2 and gRPC to `called`, which does, at the host
    /// `called_at`.
    pub(crate) fn start_http2(
        stage: &Stage,
        client: &Client,
        service: &str,
        called: &str,
        called_at: &str,
    ) -> Self {
        let over_tls = |host, service: &str, connections, rate| LoadOptions {
            over: Over::Tls(client.speaking(&["h2"])),
            connections,
            rate: Some(rate),
            service: Some(service.to_owned()),
            ..LoadOptions::new(stage.fairway.https(), host)
        };
        let web = |connections, rate| over_tls(HOST, service, connections, rate);
        let calls = |connections, rate, call| LoadOptions {
            call: Some(call),
            ..over_tls(called_at, called, connections, rate)
        };
        let plain = |options| LoadOptions { address: stage.fairway.http(), over: Over::H2c, ..options };
        let own = |options| LoadOptions { keep_alive: false, ..options };
        let post = |options| LoadOptions {
            method: "POST".to_owned(),
            body: vec![b'x'; SMALL],
            is_taken: true,
            ..options
        };
        // As long as a download of the other load: less than the stop timeout.
        let long = |call| LoadOptions { rate: None, ..calls(2, 0.0, call) };
        let (messages, pause) = (20, Duration::from_millis(100));
        let loads = [
            (Kind::Http2Get, web(4, 60.0)),
            (Kind::Http2Get, own(web(2, 10.0))),
            (Kind::Http2Get, over_tls(called_at, called, 2, 20.0)),
            (Kind::Http2Post, post(web(4, 60.0))),
            (Kind::Http2Post, post(over_tls(called_at, called, 2, 20.0))),
            (Kind::Call, calls(4, 60.0, Call::Unary)),
            (Kind::Call, plain(calls(2, 20.0, Call::Unary))),
            (Kind::Call, own(plain(calls(2, 10.0, Call::Unary)))),
            (Kind::CallDown, long(Call::Down(messages, pause))),
            (Kind::CallBoth, long(Call::Both(messages, pause))),
            (Kind::CallBoth, plain(long(Call::Both(messages, pause)))),
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
