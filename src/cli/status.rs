//! `fairway status`: how the process, its sources, its listeners and its store are. Pure, from the API's answer to text.

use fairway_admin::types::{Source, Status};
use jiff::Timestamp;

use super::table::{Table, printable};
use super::tables::age;

pub(crate) fn text(status: &Status, now: Timestamp) -> String {
    let mut text = format!(
        "fairway {} on {}{}, up {}, revision {}: {}\n",
        printable(&status.version),
        printable(&status.node),
        if status.zone.is_empty() { String::new() } else { format!(" (zone {})", printable(&status.zone)) },
        age(status.started_at, now),
        status.revision,
        readiness(status),
    );
    let counts = &status.counts;
    text.push_str(&format!(
        "routes {}, backends {}, instances {} ({} ready), errors {}, warnings {} (see `fairway problems`)\n\n",
        counts.routes, counts.backends, counts.instances, counts.ready, counts.errors, counts.warnings,
    ));
    text.push_str(&parts(status).print());
    text
}

fn readiness(status: &Status) -> &'static str {
    match (status.draining, status.settled, status.ready) {
        (true, _, _) => "draining, it was asked to stop",
        (_, false, _) => "not ready, its sources have not been listed yet",
        (_, _, false) => "not ready (see `/readyz?verbose`)",
        (_, _, true) => "ready",
    }
}

/// A line for each part that may fail.
fn parts(status: &Status) -> Table {
    let mut table = Table::new(&["PART", "WHERE", "HOW"]);
    let file = if status.config_file.is_empty() { "none" } else { &status.config_file };
    table.row(["config".into(), file.to_owned(), "in use".into()]);
    for source in &status.sources {
        table.row(["source".into(), source.id.clone(), how(source)]);
    }
    for listener in &status.listeners {
        let how = listener.error.clone().unwrap_or_else(|| "listening".into());
        table.row([listener.kind.clone(), listener.address.clone(), how]);
    }
    let how = status.store.error.clone().unwrap_or_else(|| "orders can be stored".into());
    table.row(["store".into(), status.store.path.clone(), how]);
    if let Some(conntrack) = &status.conntrack {
        let how = format!("{} of {} connections tracked", conntrack.count, conntrack.max);
        table.row(["kernel".into(), "conntrack".into(), how]);
    }
    table
}

fn how(source: &Source) -> String {
    match (&source.lost, source.listed) {
        (Some(lost), _) => format!("lost since {:.0}: {}", lost.since, lost.error),
        (None, false) => "not listed yet".to_owned(),
        (None, true) if source.id == "file" => format!("{} instances of `[[service]]` entries", source.units),
        (None, true) if source.peer.is_empty() => format!("{} containers", source.units),
        (None, true) => format!("{} containers, {}", source.units, source.peer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_part_has_a_line_and_what_is_broken_says_so() {
        let status: Status = serde_json::from_value(json!({
            "version": "0.1.0", "node": "edge-1", "zone": "b", "started_at": "2026-11-21T08:00:00Z", "revision": 42,
            "ready": true, "settled": true, "draining": false, "config_file": "",
            "sources": [
                {"id": "file", "listed": true, "lost": null, "peer": "", "units": 2},
                {"id": "unix:///var/run/docker.sock", "listed": true, "peer": "Docker Engine 20.10.24", "units": 12,
                 "lost": {"since": "2026-11-21T09:30:00Z", "error": "connection refused"}}],
            "listeners": [
                {"kind": "http", "address": "0.0.0.0:80", "error": null},
                {"kind": "dns", "address": "127.0.0.1:53", "error": "address in use"}],
            "store": {"path": "/var/lib/fairway/fairway.redb", "error": null},
            "counts": {"routes": 4, "backends": 6, "instances": 12, "ready": 11, "errors": 1, "warnings": 2},
            "conntrack": {"count": 120, "max": 65536},
        }))
        .expect("as the API answers");
        assert_eq!(
            text(&status, "2026-11-21T10:00:00Z".parse().expect("a constant")),
            "fairway 0.1.0 on edge-1 (zone b), up 2h, revision 42: ready\n\
             routes 4, backends 6, instances 12 (11 ready), errors 1, warnings 2 (see `fairway problems`)\n\n\
             PART    WHERE                          HOW\n\
             config  none                           in use\n\
             source  file                           2 instances of `[[service]]` entries\n\
             source  unix:///var/run/docker.sock    lost since 2026-11-21T09:30:00Z: connection refused\n\
             http    0.0.0.0:80                     listening\n\
             dns     127.0.0.1:53                   address in use\n\
             store   /var/lib/fairway/fairway.redb  orders can be stored\n\
             kernel  conntrack                      120 of 65536 connections tracked\n"
        );
        let stopping = Status { draining: true, ..status.clone() };
        assert!(text(&stopping, status.started_at).contains("asked to stop"));
    }
}
