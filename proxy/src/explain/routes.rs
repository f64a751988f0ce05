//! The routes that a request's host brings into question, and why each is or is not the one.

use fairway_config::names::HostPattern;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::request::RequestView;
use crate::table::host_match::{self, Fit};
use crate::table::path_match::covers;
use crate::table::{RouteEntry, RouteTable};

/// A route whose host fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteCandidate {
    /// Its name.
    pub route: String,
    /// Whether it is the one.
    pub chosen: bool,
    /// Why, or why not, one sentence.
    pub why: String,
}

/// Most that are shown: a host may have thousands of paths.
const SHOWN_MAX: usize = 50;

/// The most specific first.
pub(super) fn candidates(
    table: &RouteTable,
    request: &RequestView<'_>,
    chosen: Option<&RouteEntry>,
) -> Vec<RouteCandidate> {
    let zones = &table.settings.zones;
    let fitting = table.entries().iter().filter_map(|entry| {
        let fit = host_match::fit(&entry.route.id.host, request.host, zones)?;
        Some((fit, &**entry))
    });
    let mut fitting: Vec<(Fit, &RouteEntry)> = fitting.collect();
    fitting.sort_by_key(|(fit, entry)| {
        let covering = covers(&entry.route.id.path, request.path);
        std::cmp::Reverse((covering, rank(fit, entry), entry.route.id.path.len()))
    });
    let view = |(fit, entry): (Fit, &RouteEntry)| RouteCandidate {
        route: entry.name.to_string(),
        chosen: chosen.is_some_and(|chosen| chosen.route.id == entry.route.id),
        why: why(table, request, &fit, entry, chosen),
    };
    fitting.into_iter().take(SHOWN_MAX).map(view).collect()
}

/// An exact name is above every wildcard, the longer wildcard above the shorter, a name of one's own above an alias.
fn rank(fit: &Fit, entry: &RouteEntry) -> (bool, usize, bool) {
    let host = match fit {
        Fit::Exact | Fit::Wildcard => &entry.route.id.host,
        Fit::Alias(alias) => alias,
    };
    (matches!(host, HostPattern::Exact(_)), host.name().len(), !matches!(fit, Fit::Alias(_)))
}

fn why(
    table: &RouteTable,
    request: &RequestView<'_>,
    fit: &Fit,
    entry: &RouteEntry,
    chosen: Option<&RouteEntry>,
) -> String {
    let RequestView { host, path, .. } = request;
    let id = &entry.route.id;
    if id.is_tls() {
        return "it takes the TLS of this host as it is: only what comes without TLS is a request".to_owned();
    }
    if !covers(&id.path, path) {
        return format!("{} does not cover {path}: a prefix counts by whole segments", id.path);
    }
    let how = match fit {
        Fit::Exact => "the host is its own".to_owned(),
        Fit::Wildcard => format!("the host falls under {}", id.host),
        Fit::Alias(_) => format!("{host} is its name in another zone"),
    };
    match chosen {
        None if !request.internal && table.is_internal_name(host) => {
            format!("{how}, but such names are for internal clients only")
        }
        None => format!("{how}, but it was not found"),
        Some(chosen) if chosen.route.id == *id => {
            format!("{how}, and {} is the longest path that covers it", id.path)
        }
        Some(chosen) if chosen.route.id.host == id.host => {
            format!("{how}, but {} has the longer path", chosen.name)
        }
        Some(chosen) => format!("{how}, but {} has the more specific host", chosen.name),
    }
}
