//! Open files: each connection is one, and the soft limit of most systems is made for programs with a few.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for everything that is no proxied connection: listeners, engines, the store, DNS, the admin API.
const RESERVE: u64 = 256;

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

/// Connections from clients that the limit allows, each with one to an instance; `None` without a limit.
pub(crate) fn connections() -> Option<usize> {
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    let files = usize::try_from(current?).unwrap_or(usize::MAX);
    Some(of_files(files))
}

fn of_files(files: usize) -> usize {
    let reserve = usize::try_from(RESERVE).unwrap_or(0).min(files / 2);
    ((files - reserve) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::of_files;

    #[test]
    fn half_of_the_files_are_for_clients_and_some_for_neither() {
        for (files, connections) in [(1_048_576, 524_160), (20_000, 9_872), (1_024, 384), (64, 16), (1, 1)] {
            assert_eq!(of_files(files), connections, "{files}");
        }
    }
}
