//! `[[webhook]]`: who is told of events.
//!
//! Not here: telling them (the program's business).

use std::path::PathBuf;
use std::sync::Arc;

use super::Webhook;
use super::cursor::{Cx, Node, Table, Wrong};
use super::sections::{list, path};
use crate::labels::shown;

/// What is told unless `events` says otherwise: releases and problems.
const EVENTS: [&str; 4] = ["release-state", "release-step", "problem-raised", "problem-cleared"];

/// Every kind of event there is, and `*` for all.
const KINDS: [&str; 20] = [
    "*",
    "instance-added",
    "instance-removed",
    "instance-condition",
    "instance-state",
    "instance-drained",
    "backend-added",
    "backend-removed",
    "backend-state",
    "route-added",
    "route-removed",
    "route-split",
    "route-mirror",
    "route-limits",
    "problem-raised",
    "problem-cleared",
    "source-lost",
    "source-found",
    "release-state",
    "release-step",
];

/// `[[webhook]]`
pub(super) fn webhooks(cx: &Cx<'_>, root: &mut Table<'_>) -> Vec<Webhook> {
    let tables = root.sections("webhook").into_iter();
    tables
        .filter_map(|mut table| {
            let url =
                table.require("url", "write where events are sent: `https://hooks.company.com/fairway`");
            let url = url.and_then(|node| node.parsed(url_of));
            let events = list(table.get("events"), event);
            let secret_file = path(cx, table.get("secret_file"));
            let ca = authority(cx, table.get("ca"), url.as_deref());
            table.finish();
            let events = events.unwrap_or_else(|| EVENTS.map(Arc::from).into());
            Some(Webhook { url: url?, events, secret_file, ca })
        })
        .collect()
}

/// Whom to believe that it is the receiver; where nobody says who it is, that would promise more than is done.
fn authority(cx: &Cx<'_>, node: Option<Node<'_>>, url: Option<&str>) -> Option<PathBuf> {
    if let (Some(node), Some(url)) = (&node, url)
        && !url.starts_with("https:")
    {
        node.error(Wrong::new("`http` shows no certificate", "write an `https` url, or leave `ca` out"));
    }
    path(cx, node)
}

fn url_of(text: &str) -> Result<Arc<str>, Wrong> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    let plain = text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'#');
    // A user in front of the host would go nowhere.
    if host.is_none_or(|host| host.is_empty() || host.starts_with(':') || host.contains('@')) || !plain {
        let wrong = format!("`{}` is no URL that events can be sent to", shown(text));
        return Err(Wrong::new(wrong, "write `https://HOST[:PORT]/PATH`, or `http://`"));
    }
    Ok(text.into())
}

fn event(text: &str) -> Result<Arc<str>, Wrong> {
    if KINDS.contains(&text) {
        return Ok(text.into());
    }
    let kinds = KINDS.join(", ");
    Err(Wrong::new(format!("`{}` is no kind of event", shown(text)), format!("the kinds are {kinds}")))
}
