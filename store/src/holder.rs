//! Which process holds the lock on a file, as far as Linux tells.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The process that holds a lock on the file; `None` where the system does not tell, or when it is in another process
/// namespace.
pub(crate) fn of(path: &Path) -> Option<u32> {
    let file = fs::metadata(path).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| in_line(line, &file))
}

/// `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF` (proc_locks(5)).
fn in_line(line: &str, file: &Metadata) -> Option<u32> {
    let mut words = line.split_ascii_whitespace().skip(1);
    // A line with `->` is one that waits for the lock above it.
    words.next().filter(|kind| *kind != "->")?;
    let pid = words.nth(2)?;
    let inode = words.next()?.rsplit(':').next()?;
    let ours = inode.parse() == Ok(file.ino());
    ours.then(|| pid.parse().ok()).flatten().filter(|pid| *pid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_read_from_the_line_with_the_files_inode() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let file = file.as_file().metadata().expect("its metadata");
        let ino = file.ino();
        for (line, want) in [
            (format!("1: FLOCK  ADVISORY  WRITE 1234 fd:01:{ino} 0 EOF"), Some(1234)),
            (format!("2: OFDLCK ADVISORY  WRITE -1 fd:01:{ino} 0 EOF"), None),
            (format!("1: -> FLOCK  ADVISORY  WRITE 99 fd:01:{ino} 0 EOF"), None),
            (format!("1: FLOCK  ADVISORY  WRITE 1234 fd:01:{} 0 EOF", ino + 1), None),
            ("rubbish".to_owned(), None),
        ] {
            assert_eq!(in_line(&line, &file), want, "{line}");
        }
    }
}
