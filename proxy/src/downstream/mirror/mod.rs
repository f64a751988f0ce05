//! Copies of requests for another version of their route (`fairway mirror`): what that version would have answered, for
//! nobody to read.
//!
//! A copy costs the request a draw, and the copying of its head and body. It goes on its own, on connections of its own,
//! when the whole request has come, and is let go rather than waited for when there are too many. It counts neither as a
//! request of the route nor at the instance that gets it, whose limits and latencies are for what somebody waits for.
//!
//! - [`send`]: sends one copy and reads the answer away.
//! - [`nobody`]: the client's side of a copy.
//!
//! Not here: who is to get copies (see `table/entry.rs`), counters (see `metrics/mirrored.rs`).

mod nobody;
mod send;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::task::spawn_local;

use super::Visit;
use super::body::Kept;
use crate::endpoint::Endpoint;
use crate::h1::{BodyLength, Known, RequestHead, Trailers};
use crate::metrics::Mirrored;
use crate::sides::Piece;
use crate::table::{Mirror, Version};
use crate::turn::by_turns;
use crate::upstream::kept;
use crate::worker::Worker;

/// Most octets of the body of a request that is copied.
const BODY_MAX: usize = 64 * 1024;

/// Most copies of one worker that wait for their bodies, and most that are on their way. A version may have as many as are
/// left: half of them, if it is the only one.
const COPIES_MAX: usize = 512;

/// Marks a copy.
const MARK: &[u8] = b"X-Fairway-Mirror: 1\r\n";

/// The copies of one worker.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    /// Their connections: never those of requests.
    pub(crate) kept: Rc<kept::Kept>,
    /// Those that wait for the rest of their bodies.
    waiting: Slots,
    /// Those that are on their way.
    sent: Slots,
}

/// How many there are of each version.
#[derive(Debug, Default, Clone)]
struct Slots(Rc<RefCell<HashMap<Arc<str>, usize>>>);

impl Slots {
    /// One for this version, unless it has as many as there are left for all: one that keeps silent must not cost the others
    /// their copies.
    fn take(&self, version: &Arc<str>) -> Option<Slot> {
        let mut taken = self.0.borrow_mut();
        let left = COPIES_MAX - taken.values().sum::<usize>();
        if taken.get(version).copied().unwrap_or(0) >= left {
            return None;
        }
        *taken.entry(version.clone()).or_default() += 1;
        Some(Slot { of: self.clone(), version: version.clone() })
    }
}

/// One of a bounded number, for as long as it lives.
#[derive(Debug)]
struct Slot {
    of: Slots,
    version: Arc<str>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.of.0.borrow_mut();
        if let Some(own) = taken.get_mut(&self.version) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.version);
            }
        }
    }
}

/// A request, as another version gets it.
struct Copy {
    worker: Rc<Worker>,
    version: Arc<Version>,
    endpoint: Arc<Endpoint>,
    /// As the first instance gets it, and marked.
    head: Vec<u8>,
    chunked: bool,
    is_grpc: bool,
    /// What its connection starts with; mostly nothing.
    header: Box<[u8]>,
}

impl Copy {
    fn count(&self, result: Mirrored) {
        self.worker.metrics.mirrored(&self.version.series, result, None);
    }

    /// Sends it, unless there are too many.
    fn go(self, body: Piece) {
        let Some(slot) = self.worker.mirrors.sent.take(&self.version.name) else {
            return self.count(Mirrored::Dropped);
        };
        spawn_local(by_turns(send::send(self, body), slot));
    }
}

/// A copy whose body is still coming.
pub(crate) struct Copying {
    /// `None` once it has gone.
    copy: Option<Copy>,
    body: BytesMut,
    _slot: Slot,
}

impl std::fmt::Debug for Copying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copying").field("octets", &self.body.len()).finish_non_exhaustive()
    }
}

impl Copying {
    /// Takes the next piece of the body; the copy goes with the last one. `None` when nothing more is wanted.
    pub(super) fn take(mut self: Box<Self>, piece: &Piece) -> Option<Box<Self>> {
        if self.body.len() + piece.data.len() > BODY_MAX {
            return None;
        }
        self.body.extend_from_slice(&piece.data);
        if !piece.ended {
            return Some(self);
        }
        if let Some(copy) = self.copy.take() {
            copy.go(whole(std::mem::take(&mut self.body), piece.trailers.clone()));
        }
        None
    }
}

impl Drop for Copying {
    /// Too large, or never complete.
    fn drop(&mut self) {
        if let Some(copy) = &self.copy {
            copy.count(Mirrored::Skipped);
        }
    }
}

fn whole(body: BytesMut, trailers: Option<Trailers>) -> Piece {
    Piece { data: body.freeze(), ended: true, trailers, broken: None }
}

/// Copies a request that is about to be sent, with the head `head_up`, to an instance of the version `chosen`, if the
/// draw says so. The rest of its body is taken from `kept`.
pub(super) fn copy(
    visit: &Visit,
    mirror: &Mirror,
    chosen: &Version,
    (head, head_up): (&RequestHead, &[u8]),
    kept: &mut Kept,
    is_grpc: bool,
) {
    let (worker, version) = (&visit.worker, &mirror.version);
    // It gets the request itself; or the request comes of a copy already.
    if version.name == chosen.name || head.fields.has(Known::XFairwayMirror) {
        return;
    }
    let mut rng = worker.rng.borrow_mut();
    if !mirror.percent.takes(rng.u32(..)) {
        return;
    }
    let count = |result| worker.metrics.mirrored(&version.series, result, None);
    let serving = version.serving();
    if serving.is_empty() {
        return count(Mirrored::NoInstance);
    }
    if matches!(head.body, BodyLength::Exactly(octets) if octets > BODY_MAX as u64) {
        return count(Mirrored::Skipped);
    }
    let Some(slot) = worker.mirrors.waiting.take(&version.name) else { return count(Mirrored::Dropped) };
    let Some(lines) = head_up.strip_suffix(b"\r\n") else { return };
    let copy = Copy {
        endpoint: serving[rng.usize(..serving.len())].clone(),
        head: [lines, MARK, b"\r\n"].concat(),
        chunked: kept.chunked,
        is_grpc,
        header: visit.header(version.settings.proxy_protocol),
        version: version.clone(),
        worker: worker.clone(),
    };
    let copying = Box::new(Copying { copy: Some(copy), body: BytesMut::new(), _slot: slot });
    kept.copying = copying.take(&kept.first);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_leaves_places_for_the_copies_of_others() {
        let slots = Slots::default();
        let taken = |name: &str| std::iter::from_fn(|| slots.take(&name.into())).collect::<Vec<_>>();
        let silent = taken("silent@v2");
        let other = taken("other@v2");
        assert_eq!((silent.len(), other.len()), (COPIES_MAX / 2, COPIES_MAX / 4));
        assert!(slots.take(&"third@v2".into()).is_some());
        drop((silent, other));
        assert!(slots.0.borrow().is_empty());
        assert_eq!(taken("other@v2").len(), COPIES_MAX / 2);
    }

    #[test]
    fn however_many_versions_there_are_the_bound_of_all_holds() {
        let slots = Slots::default();
        let taken: Vec<_> = (0..COPIES_MAX)
            .flat_map(|number| {
                let version: Arc<str> = format!("silent@v{number}").into();
                std::iter::from_fn(|| slots.take(&version)).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(taken.len(), COPIES_MAX);
        drop(taken);
        assert!(slots.0.borrow().is_empty());
    }
}
