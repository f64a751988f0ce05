//! Tells when one of several files may have changed, however it was replaced: written, renamed over, or by a new target of
//! a link on the way to it, as Kubernetes and certbot do.
//!
//! The folders around each file are watched, and now and then the files are looked at anyway: news of a mounted or
//! renamed folder may not come. Not here: the configuration file (see `watch_file`).

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// A writer that saves in several steps is given this long to end.
const QUIET: Duration = Duration::from_millis(100);

/// Longest wait for such a writer.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// How often the files are looked at without news.
const LOOK: Duration = Duration::from_secs(10);

/// How often they are read without any sign of a change: what follows from the time of day is told then, too.
const READ: Duration = Duration::from_secs(600);

/// Files that are watched.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    /// Until when [`Watched::next`] ends even if nothing seems changed.
    due: Option<Instant>,
    watcher: Option<Folders>,
}

/// What a file is, as far as it can be seen from outside: another file, or other contents, have another one.
type Stamp = (u64, u64, i64, i64, u64);

#[derive(Debug)]
struct Folders {
    watcher: notify::RecommendedWatcher,
    touched: mpsc::Receiver<()>,
}

impl Watched {
    /// Watches these files, and no others any more. They count as changed: what was read of them may be older.
    pub(crate) fn watch<'p>(&mut self, files: impl Iterator<Item = &'p Path>) {
        self.files = files.map(Path::to_owned).collect();
        self.seen = Vec::new();
        self.watcher = None;
        if !self.files.is_empty() {
            match Folders::new() {
                Ok(folders) => self.watcher = Some(folders),
                Err(error) => {
                    let first = self.files[0].display();
                    tracing::warn!(%error, %first, "files are not watched but looked at every {LOOK:?}");
                }
            }
        }
    }

    /// Waits until one of the files may have changed, or it is time to look at them anyway. May be dropped and called anew.
    pub(crate) async fn next(&mut self) {
        if self.files.is_empty() {
            return std::future::pending().await;
        }
        let due = *self.due.get_or_insert_with(|| Instant::now() + READ);
        loop {
            // Watched before they are looked at, so that no change falls between.
            self.watch_folders();
            let stamps = self.stamps();
            if stamps != self.seen || Instant::now() >= due {
                self.seen = stamps;
                self.due = None;
                return;
            }
            self.wait(due.min(Instant::now() + LOOK)).await;
        }
    }

    async fn wait(&mut self, until: Instant) {
        let Some(folders) = &mut self.watcher else { return sleep_until(until).await };
        tokio::select! {
            () = sleep_until(until) => {}
            Some(()) = folders.touched.recv() => {
                let longest = Instant::now() + QUIET_MAX;
                while Instant::now() < longest && let Ok(Some(())) = timeout(QUIET, folders.touched.recv()).await {}
            }
        }
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let stamp = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
        };
        self.files.iter().map(stamp).collect()
    }

    /// Watches every folder in which a rename could change one of the files; a folder that is new under an old name, too.
    fn watch_folders(&mut self) {
        let Some(folders) = &mut self.watcher else { return };
        for folder in self.files.iter().flat_map(|file| around(file)).collect::<BTreeSet<_>>() {
            // One that is gone comes back with a change of the folder around it.
            let _ = folders.watcher.watch(&folder, RecursiveMode::NonRecursive);
        }
    }
}

impl Folders {
    fn new() -> notify::Result<Self> {
        let (touch, touched) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_))) {
                // A full queue already holds the reason.
                let _ = touch.try_send(());
            }
        })?;
        Ok(Self { watcher, touched })
    }
}

/// The folder of a file and the one around it, as written and as links lead there.
fn around(file: &Path) -> Vec<PathBuf> {
    let written = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let real = written.canonicalize().ok();
    let two =
        |path: &PathBuf| -> Vec<PathBuf> { path.ancestors().skip(1).take(2).map(Path::to_owned).collect() };
    [Some(written), real].iter().flatten().flat_map(two).collect()
}
