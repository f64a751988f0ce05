//! Names of instances. Routes, backends, versions and weights are in [`fairway_config::names`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;

/// One instance: the first 12 hex digits of the container id, `:` and the port; for a static one
/// `service@version/host:port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The instance of a container (by its full id) at one of its ports.
    pub fn of_container(container_id: &str, port: u16) -> Self {
        let short = container_id.get(..12).unwrap_or(container_id);
        Self(format!("{short}:{port}").into())
    }

    /// An id as it was printed.
    pub fn from_printed(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as printed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of an instance at one address: what health, load and pooled connections follow (design rule 5). A container
/// that is restarted, or gets another address, is a new one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// The instance.
    pub id: InstanceId,
    /// When its container started.
    pub started: Timestamp,
    /// Where it is reached.
    pub address: SocketAddr,
}
