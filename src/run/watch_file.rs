//! Tells when the configuration file may have changed: SIGHUP, or a change in its folder.
//!
//! The folder is watched, not the file: editors and `docker config` replace the file by renaming another over it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A writer that saves in several steps is given this long to end.
const QUIET: Duration = Duration::from_millis(100);

/// The reasons to read the configuration again.
pub(crate) struct Changes {
    hangup: Signal,
    touched: mpsc::Receiver<()>,
    /// It was touched, and nobody has been told.
    due: bool,
    /// Watches as long as it lives; `None` without a file, or when the system refuses.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Changes {
    /// Fails when SIGHUP cannot be caught. A folder that cannot be watched is logged: SIGHUP still works.
    pub(crate) fn of(file: Option<&Path>) -> std::io::Result<Self> {
        let (touch, touched) = mpsc::channel(1);
        let watcher = file.and_then(|file| match watch(file, touch) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "the file is not watched; SIGHUP reloads it");
                None
            }
        });
        Ok(Self { hangup: signal(SignalKind::hangup())?, touched, due: false, _watcher: watcher })
    }

    /// Waits for the next reason. May be dropped and called anew.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.hangup.recv() => {}
            () = settled(&mut self.touched, &mut self.due) => {}
        }
    }
}

/// Waits until the file has been touched, and nobody has touched it for a while.
async fn settled(touched: &mut mpsc::Receiver<()>, due: &mut bool) {
    if !*due {
        if touched.recv().await.is_none() {
            return std::future::pending().await; // nobody watches
        }
        *due = true;
    }
    while let Ok(Some(())) = timeout(QUIET, touched.recv()).await {}
    *due = false;
}

fn watch(file: &Path, touch: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let file: PathBuf = std::path::absolute(file)?;
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns = |event: &notify::Event| {
            !matches!(event.kind, EventKind::Access(_)) && event.paths.contains(&file)
        };
        if event.as_ref().map_or(true, concerns) {
            // A full queue already holds the reason.
            let _ = touch.try_send(());
        }
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
