//! What is still being answered when a listener has ended.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

/// Whoever answers something keeps one of these until it has.
pub(crate) type UnderWay = mpsc::Sender<Infallible>;

/// Everything that is under way.
#[derive(Debug)]
pub(crate) struct All {
    copied: UnderWay,
    ended: mpsc::Receiver<Infallible>,
}

impl Default for All {
    fn default() -> Self {
        let (copied, ended) = mpsc::channel(1);
        Self { copied, ended }
    }
}

impl All {
    /// For one more.
    pub(crate) fn one(&self) -> UnderWay {
        self.copied.clone()
    }

    /// Waits until all of it has ended, but no longer than this; false if some has not.
    pub(crate) async fn ended(self, longest: Duration) -> bool {
        let Self { copied, mut ended } = self;
        drop(copied);
        timeout(longest, ended.recv()).await.is_ok()
    }
}
