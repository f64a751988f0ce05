//! What the parts have to do with a takeover: which sockets they give, and when a new process may say that it is ready.
//!
//! Not here: the words between the two processes (see `takeover`).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use fairway_admin::ListeningSocket;
use fairway_catalog::model::SourceStatus;
use fairway_catalog::{Catalog, Condition};
use fairway_config::file::AdminListen;
use fairway_proxy::FrontSocket;
use fairway_proxy::running::Running;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::parts::Failure;
use super::takeover::{Kind, Socket};

/// Longest wait for every source: the running process waits a little longer.
const SOURCES: Duration = Duration::from_secs(45);

/// Longest wait for the first answers of probes: an instance that has none yet gets no requests.
const PROBES: Duration = Duration::from_secs(5);

/// Every listening socket of this process once more.
pub(crate) fn sockets(
    proxy: &Running,
    dns: &fairway_dns::Running,
    admin: Option<&fairway_admin::Running>,
) -> std::io::Result<Vec<Socket>> {
    let socket = |kind, configured, descriptor| Socket { kind, configured, descriptor };
    let mut all = Vec::new();
    for (configured, listener) in proxy.listening_sockets()? {
        all.push(socket(Kind::Http, configured.to_string(), OwnedFd::from(listener)));
    }
    for front in proxy.front_sockets()? {
        // Its port is what it is configured for.
        let address = front.local_addr()?.to_string();
        all.push(match front {
            FrontSocket::Tcp(listener) => socket(Kind::FrontTcp, address, listener.into()),
            FrontSocket::Udp(listener) => socket(Kind::FrontUdp, address, listener.into()),
        });
    }
    for listener in dns.listening_sockets()? {
        all.push(socket(Kind::DnsUdp, listener.configured.to_string(), listener.udp.into()));
        all.push(socket(Kind::DnsTcp, listener.configured.to_string(), listener.tcp.into()));
    }
    if let Some((configured, listener)) =
        admin.map(fairway_admin::Running::listening_socket).transpose()?.flatten()
    {
        let configured = match configured {
            AdminListen::Tcp(address) => address.to_string(),
            AdminListen::Unix(path) => format!("unix:{}", path.display()),
        };
        let descriptor = match listener {
            ListeningSocket::Tcp(socket) => socket.into(),
            ListeningSocket::Unix(socket) => socket.into(),
        };
        all.push(socket(Kind::Admin, configured, descriptor));
    }
    Ok(all)
}

/// Waits until every source has been listed, until what follows from it is live, and for the first answers of probes.
///
/// A source that cannot be reached is a failure here: the process that runs has its last good state, and we would have none.
pub(crate) async fn until_ready(
    mut catalogs: watch::Receiver<Arc<Catalog>>,
    applied: Vec<watch::Receiver<u64>>,
) -> Result<(), Failure> {
    let listed =
        |catalog: &Arc<Catalog>| catalog.settled && catalog.sources.iter().all(|source| source.listed);
    let waited = timeout_at(Instant::now() + SOURCES, catalogs.wait_for(listed)).await;
    let all_listed = matches!(waited, Ok(Ok(_)));
    drop(waited);
    if !all_listed {
        return Err(not_listed(&catalogs.borrow().sources).into());
    }
    let proven = |catalog: &Arc<Catalog>| {
        !catalog.instances.values().any(|instance| instance.condition == Condition::Pending)
    };
    // Some may never be: a container that starts slowly is not ready in the running process either.
    let waited = timeout_at(Instant::now() + PROBES, catalogs.wait_for(proven)).await;
    drop(waited);
    let serial = catalogs.borrow().serial;
    for mut applied in applied {
        // A part that has ended is one that this process does without.
        let _ = applied.wait_for(|live| *live >= serial).await;
    }
    Ok(())
}

fn not_listed(sources: &[SourceStatus]) -> String {
    let missing = sources.iter().filter(|source| !source.listed).map(|source| match &source.lost {
        Some(lost) => format!("{}: {}", source.id, lost.error),
        None => source.id.to_string(),
    });
    let missing: Vec<String> = missing.collect();
    format!(
        "not taken over, the running process goes on: not every source could be listed ({}); make it reachable, or start without --replace",
        missing.join("; ")
    )
}
