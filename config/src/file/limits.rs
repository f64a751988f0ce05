//! `[limits]`, and the same keys in the table of a listener: bounds of what clients may ask for.
//!
//! A wrong value is told with its range and replaced by what would hold without it. Not here: what is answered beyond a
//! limit (`docs/limits.md`).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::cursor::{Node, Table, Wrong};
use crate::labels::shown;
use crate::{duration, size};

/// Bounds of what clients may ask for. Each listener has its own, those of `[limits]` where it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive] // other crates read it; they start from the default
pub struct Limits {
    /// `header_bytes`: octets of a request's header, its first line included; 1 KiB to 1 MiB.
    pub header_bytes: usize,
    /// `header_fields`: fields of a request's header; 10 to 1000.
    pub header_fields: usize,
    /// `target_bytes`: octets of a request's target; 128 to 64 KiB.
    pub target_bytes: usize,
    /// `header_time`: from a header's first octet to its last, and for a PROXY header in front; 100 ms to 10 min.
    pub header_time: Duration,
    /// `idle_time`: longest silence of a client: before a request, within a body, while it takes no octets; 1 s to 1 h.
    pub idle_time: Duration,
    /// `body_max`: octets of a request's body; `None`: any number. `fairway.body_max` of a route goes before it.
    pub body_max: Option<u64>,
    /// `body_rate`: octets per second at which a request's body has to arrive, at least; 0: any.
    pub body_rate: u32,
    /// `body_grace`: how long a client may be slower before `body_rate` counts; 1 s to 10 min.
    pub body_grace: Duration,
    /// `connections`: open connections of one listener, of all workers; `None`: as many as the process may have.
    pub connections: Option<usize>,
    /// `connections_per_client`: open connections of one listener from one IPv4 address or IPv6 /64; `None`: any number.
    /// Trusted proxies are not counted.
    pub connections_per_client: Option<usize>,
    /// `requests_per_connection`: after so many the connection is closed; `None`: never for that.
    pub requests_per_connection: Option<u64>,
    /// `h2_streams`: concurrent streams of one HTTP/2 connection; 1 to 250. A change holds for new connections.
    pub h2_streams: u32,
    /// `requests_per_instance`: requests in flight at one instance, of all workers; 1 to a million. `[limits]` alone.
    pub requests_per_instance: u32,
    /// `queued_per_route`: requests of one route that wait while all its instances are at `requests_per_instance`; 0 to a
    /// million, 0: none waits. `[limits]` alone.
    pub queued_per_route: u32,
    /// `queue_time`: how long such a request waits at most; 10 ms to 1 min. `[limits]` alone.
    pub queue_time: Duration,
    /// `udp_sessions`: sessions of one UDP front port (`aliyun.lb.port_N: udp://`), of all workers; 1 to a million, and no more
    /// than `connections`. `[limits]` alone.
    pub udp_sessions: usize,
    /// `connections_total`: open connections of all listeners; `None`, which nobody writes: half of the open files that the
    /// process may have. `"none"` is the largest number.
    /// `[limits]` alone.
    pub connections_total: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 * 1024,
            header_fields: 100,
            target_bytes: 8 * 1024,
            header_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            body_max: None,
            body_rate: 240,
            body_grace: Duration::from_secs(30),
            connections: None,
            connections_per_client: None,
            requests_per_connection: None,
            h2_streams: 100,
            requests_per_instance: 1024,
            queued_per_route: 16_384,
            queue_time: Duration::from_secs(2),
            udp_sessions: 10_000,
            connections_total: None,
        }
    }
}

const COUNT: RangeInclusive<u64> = 1..=1_000_000;

/// `[limits]`
pub(super) fn section(root: &mut Table<'_>) -> Limits {
    let mut limits = Limits::default();
    if let Some(mut table) = root.section("limits") {
        read(&mut table, &mut limits);
        if let Some(most) = table.get("requests_per_instance").and_then(|node| node.whole(COUNT)) {
            limits.requests_per_instance = u32::try_from(most).unwrap_or(u32::MAX);
        }
        if let Some(most) = table.get("queued_per_route").and_then(|node| node.whole(0..=*COUNT.end())) {
            limits.queued_per_route = u32::try_from(most).unwrap_or(u32::MAX);
        }
        let wait = Duration::from_millis(10)..=Duration::from_secs(60);
        time(&mut table, "queue_time", wait, &mut limits.queue_time);
        whole(&mut table, "udp_sessions", COUNT, &mut limits.udp_sessions);
        if let Some(most) = table.get("connections_total").and_then(|node| none_or(&node, count)) {
            let most = most.and_then(|most| usize::try_from(most).ok());
            limits.connections_total = Some(most.unwrap_or(usize::MAX));
        }
        check_header(&table, &limits);
        table.finish();
    }
    limits
}

/// The table `limits` of a listener, over those of `[limits]`.
pub(super) fn of_listener(listener: &mut Table<'_>, base: &Limits) -> Limits {
    let mut limits = *base;
    if let Some(mut table) = listener.section("limits") {
        read(&mut table, &mut limits);
        check_header(&table, &limits);
        table.finish();
    }
    limits
}

/// The keys that both have.
fn read(table: &mut Table<'_>, limits: &mut Limits) {
    let to = limits;
    octets(table, "header_bytes", 1024..=1024 * 1024, &mut to.header_bytes);
    whole(table, "header_fields", 10..=1000, &mut to.header_fields);
    octets(table, "target_bytes", 128..=64 * 1024, &mut to.target_bytes);
    let (second, long) = (Duration::from_secs(1), Duration::from_secs(600));
    let short = Duration::from_millis(100);
    time(table, "header_time", short..=long, &mut to.header_time);
    time(table, "idle_time", second..=Duration::from_secs(3600), &mut to.idle_time);
    if let Some(most) =
        table.get("body_max").and_then(|node| none_or(&node, |text| octet_count(text, 0..=u64::MAX)))
    {
        to.body_max = most;
    }
    if let Some(rate) =
        table.get("body_rate").and_then(|node| node.parsed_scalar(|text| octet_count(text, 0..=1 << 30)))
    {
        to.body_rate = u32::try_from(rate).unwrap_or(u32::MAX);
    }
    time(table, "body_grace", second..=long, &mut to.body_grace);
    optional(table, "connections", &mut to.connections);
    optional(table, "connections_per_client", &mut to.connections_per_client);
    if let Some(most) = table.get("requests_per_connection").and_then(|node| none_or(&node, count)) {
        to.requests_per_connection = most;
    }
    if let Some(streams) = table.get("h2_streams").and_then(|node| node.whole(1..=250)) {
        to.h2_streams = u32::try_from(streams).unwrap_or(u32::MAX);
    }
}

/// A target lies in a header.
fn check_header(table: &Table<'_>, limits: &Limits) {
    if limits.target_bytes > limits.header_bytes {
        let text = format!(
            "a target of {} octets does not fit into a header of {}",
            limits.target_bytes, limits.header_bytes
        );
        table.error(Wrong::new(text, "raise `header_bytes`, or lower `target_bytes`"));
    }
}

fn whole(table: &mut Table<'_>, key: &'static str, range: RangeInclusive<u64>, to: &mut usize) {
    let value = table.get(key).and_then(|node| node.whole(range));
    *to = value.and_then(|value| usize::try_from(value).ok()).unwrap_or(*to);
}

fn octets(table: &mut Table<'_>, key: &'static str, range: RangeInclusive<u64>, to: &mut usize) {
    let value = table.get(key).and_then(|node| node.parsed_scalar(|text| octet_count(text, range)));
    *to = value.and_then(|value| usize::try_from(value).ok()).unwrap_or(*to);
}

fn time(table: &mut Table<'_>, key: &'static str, range: RangeInclusive<Duration>, to: &mut Duration) {
    let read = |text: &str| {
        let wrong = |text: String, remedy: String| Err(Wrong::new(text, remedy));
        match duration::parse(text) {
            Ok(time) if range.contains(&time) => Ok(time),
            Ok(_) => {
                let (least, most) = (duration::print(*range.start()), duration::print(*range.end()));
                wrong(
                    format!("`{}` is out of range", shown(text)),
                    format!("write a duration from {least} to {most}"),
                )
            }
            Err(error) => wrong(format!("`{}` is not a duration", shown(text)), error.why),
        }
    };
    *to = table.get(key).and_then(|node| node.parsed_scalar(read)).unwrap_or(*to);
}

/// A count, or `"none"`.
fn optional(table: &mut Table<'_>, key: &'static str, to: &mut Option<usize>) {
    if let Some(most) = table.get(key).and_then(|node| none_or(&node, count)) {
        *to = most.and_then(|most| usize::try_from(most).ok());
    }
}

fn count(text: &str) -> Result<u64, Wrong> {
    let number = text.parse().ok().filter(|number| COUNT.contains(number));
    number.ok_or_else(|| {
        let remedy = format!("write a whole number from {} to {}, or `\"none\"`", COUNT.start(), COUNT.end());
        Wrong::new(format!("`{}` is not a number that can be used here", shown(text)), remedy)
    })
}

fn octet_count(text: &str, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
    match size::parse(text) {
        Ok(octets) if range.contains(&octets) => Ok(octets),
        Ok(_) => {
            let remedy = format!("write a size from {} to {} octets", range.start(), range.end());
            Err(Wrong::new(format!("`{}` is out of range", shown(text)), remedy))
        }
        Err(_) => {
            let remedy = "write a whole number of octets, or one with `k`, `m` or `g`: `\"10m\"`";
            Err(Wrong::new(format!("`{}` is not a size", shown(text)), remedy))
        }
    }
}

fn none_or<T>(node: &Node<'_>, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<Option<T>> {
    node.parsed_scalar(|text| if text == "none" { Ok(None) } else { read(text).map(Some) })
}
