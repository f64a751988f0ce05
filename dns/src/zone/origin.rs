//! The zones themselves: their names, and the names that their SOA and NS records speak of.

use std::sync::Arc;

use fairway_catalog::Problem;
use fairway_catalog::config::labels::Severity;
use hickory_proto::rr::Name;

use super::index::NAME_SERVER;
use super::key::{self, Key};

/// One of our zones.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) key: Key,
    pub(super) name: Name,
    /// The name of this server in it.
    pub(super) server: Name,
    /// Whom its SOA names.
    pub(super) contact: Name,
    /// As configured.
    pub(super) label: Arc<str>,
}

impl Origin {
    /// In the order configured. A zone whose name cannot be written is left out and told.
    pub(super) fn all(zones: &[Arc<str>]) -> (Vec<Self>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut origins = Vec::new();
        for zone in zones {
            match Self::of(zone) {
                Some(origin) => origins.push(origin),
                None => problems.push(bad_zone(zone)),
            }
        }
        (origins, problems)
    }

    fn of(zone: &Arc<str>) -> Option<Self> {
        let key = key::key(zone)?;
        let name = Name::from_labels(key::labels(&key)).ok()?;
        let below = |front: &str| {
            Name::from_labels(front.split('.').map(str::as_bytes)).ok()?.append_domain(&name).ok()
        };
        let (server, contact) = (below(NAME_SERVER)?, below("hostmaster")?);
        Some(Self { key, name, server, contact, label: zone.clone() })
    }
}

fn bad_zone(zone: &Arc<str>) -> Problem {
    let text = format!("`{zone}` is not a name that the DNS can carry; this zone is not answered");
    let remedy = "write labels of 1 to 63 characters with dots between them";
    Problem::new("dns-bad-zone", Severity::Error, zone.clone(), text, remedy).at("dns.zones", zone.clone())
}
