//! Open files: each connection is one, and the soft limit of most systems is made for programs with a few.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Fewer files than asked for are no reason not to start.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = ?current, to = ?maximum, "open files raised"),
        Err(error) => tracing::warn!(%error, limit = ?current, "the limit of open files stays"),
    }
}
