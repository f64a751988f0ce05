//! Routes of connections over TLS that are passed on as they are (`fairway.tls.passthrough`): `tls://db.company.com`.

use super::{HostPattern, RouteId};

/// What such a route has in place of a path; the path of a request begins with `/`.
const TLS: &str = "tls:";

impl RouteId {
    /// The route of all connections over TLS that ask for this host.
    pub fn tls(host: HostPattern) -> Self {
        Self { host, path: TLS.into() }
    }

    /// Whether it is such a route.
    pub fn is_tls(&self) -> bool {
        &*self.path == TLS
    }
}
