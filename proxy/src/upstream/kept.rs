//! Connections to instances that wait for further requests: of all clients of a worker, or of one.
//!
//! Mostly a worker's clients share them. A connection that starts with a PROXY header (`fairway.proxy_protocol`) says for its
//! whole life whose it is, so it belongs to one connection of one client: it carries requests of that one alone, and goes
//! when that one goes. Rather than a pool keyed by the header: what a client leaves behind would wait in vain for it to come
//! back with the same port.

use std::rc::{Rc, Weak};

use super::channels::Channels;
use super::link::Link;
use super::pool::Pool;

/// Connections that are kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Those that speak HTTP/1.1.
    pub(crate) pool: Pool<Link>,
    /// Those that speak HTTP/2.
    pub(crate) channels: Channels,
}

impl Kept {
    /// Closes what is too old, was closed by the instance, or belongs to an instance that no route has any more.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
        self.channels.sweep();
    }

    /// Closes all of them; what is still said on those that speak HTTP/2 breaks off.
    pub(crate) fn clear(&self) {
        self.pool.clear();
        self.channels.clear();
    }
}

/// What is kept for one connection of one client, as long as that is there.
#[derive(Debug, Default)]
pub(crate) struct Bound(Rc<Kept>);

impl Bound {
    /// The connections.
    pub(crate) fn kept(&self) -> &Rc<Kept> {
        &self.0
    }

    /// For those who look after them.
    pub(crate) fn weak(&self) -> Weak<Kept> {
        Rc::downgrade(&self.0)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // A task that serves one of the connections holds on to all: they would outlive the client.
        self.0.clear();
    }
}
