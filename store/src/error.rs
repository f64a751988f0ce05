//! Why the store cannot be used. Traffic goes on without it (design rule 4); what cannot be stored is refused.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use fairway_catalog::Problem;
use fairway_catalog::config::labels::Severity;

/// Why the store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder, the file, or what is in it may not be read or written by us.
    #[error("{} cannot be used: permission denied", path.display())]
    Denied {
        /// The folder or file.
        path: PathBuf,
    },
    /// The folder is none, or lies in none.
    #[error("{} cannot be made a folder", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is open in another process{}", path.display(), holder.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Locked {
        /// The file.
        path: PathBuf,
        /// That process, when the system tells.
        holder: Option<u32>,
    },
    /// The file is cut short, or is not ours.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        detail: String,
    },
    /// A later version of Fairway wrote it.
    #[error("{} has format {found}, and this version reads up to {known}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that is read here.
        known: u64,
    },
    /// The disk, or the quota, is full.
    #[error("{} cannot grow: the disk is full", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// It was removed or replaced while it was open: what is written to it would not survive.
    #[error("{} was removed or replaced while it was open", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// A process that takes over has it, or is about to.
    #[error("{} has been handed over to the process that takes over", path.display())]
    HandedOver {
        /// The file.
        path: PathBuf,
    },
    /// It neither took a change nor refused it.
    #[error("{} has not answered for {} s", path.display(), waited.as_secs())]
    Silent {
        /// The file.
        path: PathBuf,
        /// For how long so far.
        waited: Duration,
    },
    /// The system failed otherwise.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// A stable word for scripts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "store-denied",
            Self::NoFolder { .. } => "store-no-folder",
            Self::Locked { .. } => "store-locked",
            Self::Damaged { .. } => "store-damaged",
            Self::TooNew { .. } => "store-too-new",
            Self::Full { .. } => "store-full",
            Self::Gone { .. } => "store-gone",
            Self::HandedOver { .. } => "store-handed-over",
            Self::Silent { .. } => "store-silent",
            Self::Io { .. } => "store-failed",
        }
    }

    /// What to do about it, one sentence.
    pub fn remedy(&self) -> String {
        match self {
            Self::Denied { path } => {
                format!(
                    "let the user that runs Fairway read and write {}, or give another `state_dir`",
                    path.display()
                )
            }
            Self::NoFolder { path, .. } => {
                format!(
                    "move what is at {} out of the way, or give another `state_dir` (`--state-dir`)",
                    path.display()
                )
            }
            Self::Locked { .. } => {
                "end the other process, or give this one its own `state_dir` (`--state-dir`), and restart"
                    .to_owned()
            }
            Self::Damaged { path, .. } => format!(
                "put a copy back, or move {} aside; then restart: splits and states in it are lost with it",
                path.display()
            ),
            Self::TooNew { .. } => {
                "run the version of Fairway that wrote it, or give another `state_dir`".to_owned()
            }
            Self::Full { .. } => {
                "make room on the disk of `state_dir`; the next change is tried afresh".to_owned()
            }
            Self::Gone { path } => {
                format!("put {} back, or restart Fairway to begin a new one", path.display())
            }
            Self::HandedOver { .. } => {
                "give the order again in a moment: the new process stores it, or this one once more"
                    .to_owned()
            }
            Self::Silent { .. } => {
                "look at the disk of `state_dir`: a change waits for it, and takes effect when it answers"
                    .to_owned()
            }
            Self::Io { .. } => "look at the disk of `state_dir`; the next change is tried afresh".to_owned(),
        }
    }

    /// The same as a problem for people.
    pub fn to_problem(&self) -> Problem {
        let mut text = self.to_string();
        if let Some(source) = std::error::Error::source(self) {
            text = format!("{text}: {source}");
        }
        let text = format!("{text}; changes of splits and states are refused, traffic goes on");
        Problem::new(self.kind(), Severity::Error, "store", text, self.remedy())
    }
}
