//! Chooses the one address by which a container is reached, and says why.
//!
//! Pure and deterministic: equal facts give the same address in whatever order Docker lists the networks. Not here:
//! whose network namespace the container uses (see `unit`), which networks there are (see `network`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairway_catalog::facts::Network;
use fairway_config::labels::shown;

/// A container's place in one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attachment {
    /// The network's name.
    pub(super) name: Arc<str>,
    /// Its id; empty until Docker knows it.
    pub(super) network: Arc<str>,
    /// The container's address there, IPv4 before IPv6; `None` while there is none.
    pub(super) ip: Option<IpAddr>,
}

/// What is known of the networks of one engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach<'a> {
    /// The networks of our own container, when we run in one of this engine.
    pub(super) shared: &'a BTreeSet<Arc<str>>,
    /// All networks, by id.
    pub(super) networks: &'a BTreeMap<Arc<str>, Arc<Network>>,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Choice {
    /// `None`: the container is pending.
    pub(super) ip: Option<IpAddr>,
    /// The network's id, empty for none.
    pub(super) network: Arc<str>,
    /// Why, for people.
    pub(super) reason: Arc<str>,
    /// `fairway.network` names a network that the container is not in.
    pub(super) label_missed: bool,
}

/// How good a network is for us, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Labelled,
    Shared,
    /// A bridge whose gateway is this machine.
    Routable,
    Other,
    /// Swarm's routing mesh and the like: no address there answers us.
    Mesh,
}

/// Chooses among the networks of a container: the one that `label` (`fairway.network`) names, by its name, its id, or
/// its compose form `project_name`; else one shared with us; else a routable one; else the first by name. A network
/// without an address yet is taken only if it is labelled or no other has one.
pub(super) fn choose(
    label: Option<&str>,
    project: Option<&str>,
    attachments: &[Attachment],
    reach: Reach<'_>,
) -> Choice {
    let labelled = label.and_then(|label| find(label, project, attachments));
    let label_missed = label.is_some() && labelled.is_none();
    let rank = |at: &Attachment| match reach.networks.get(&at.network) {
        _ if labelled == Some(at) => Rank::Labelled,
        _ if reach.shared.contains(&at.network) => Rank::Shared,
        Some(network) if network.ingress || &*network.name == "docker_gwbridge" => Rank::Mesh,
        Some(network) if network.gateway_is_local && &*network.driver == "bridge" => Rank::Routable,
        _ => Rank::Other,
    };
    let order = |at: &&Attachment| {
        let rank = rank(at);
        (rank != Rank::Labelled, at.ip.is_none(), rank, at.name.clone(), at.network.clone())
    };
    let Some(best) = attachments.iter().min_by_key(order) else {
        return Choice { reason: "it is in no network".into(), label_missed, ..Choice::default() };
    };
    let why = match rank(best) {
        _ if best.ip.is_none() => "no address in it yet",
        Rank::Labelled => "named by fairway.network",
        Rank::Shared => "shared with the proxy",
        Rank::Routable => "this machine is its gateway",
        Rank::Other | Rank::Mesh if attachments.len() == 1 => "its only network",
        Rank::Other | Rank::Mesh => "first by name, none is known to be reachable",
    };
    let reason = format!("network {}: {why}{}", shown(&best.name), others(best, attachments)).into();
    let network = if best.ip.is_some() { best.network.clone() } else { Arc::default() };
    Choice { ip: best.ip, network, reason, label_missed }
}

fn find<'a>(label: &str, project: Option<&str>, attachments: &'a [Attachment]) -> Option<&'a Attachment> {
    let composed = project.map(|project| format!("{project}_{label}"));
    let by_name = |name: &str| attachments.iter().find(|at| &*at.name == name);
    let by_id = || attachments.iter().find(|at| &*at.network == label);
    by_name(label).or_else(|| by_name(composed.as_deref()?)).or_else(by_id)
}

/// ` (also in a, b)`, or nothing.
fn others(best: &Attachment, attachments: &[Attachment]) -> String {
    /// More would not help anybody.
    const NAMED_MAX: usize = 8;
    let names: BTreeSet<&str> = attachments.iter().filter(|at| *at != best).map(|at| &*at.name).collect();
    if names.is_empty() {
        return String::new();
    }
    let mut named: Vec<String> = names.iter().take(NAMED_MAX).map(|name| shown(name)).collect();
    if names.len() > NAMED_MAX {
        named.push(format!("{} more", names.len() - NAMED_MAX));
    }
    format!(" (also in {})", named.join(", "))
}

#[cfg(test)]
mod tests;
