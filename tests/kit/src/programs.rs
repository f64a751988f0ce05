//! Finds the programs of this package as built, and builds them when they are missing or older than their source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The static program `origin`, see [`crate::origin`].
///
/// # Panics
/// When it cannot be built.
pub fn origin() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| program("origin"))
}

/// The static program `load`, see [`crate::load`].
///
/// # Panics
/// When it cannot be built.
pub fn load() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| program("load"))
}

/// `cargo test` of another package builds this library but not its programs, so they may be absent or stale.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.ancestors().nth(2).expect("a test lies in <profile>/deps").to_path_buf();
    let path = folder.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    if modified(&path).is_none_or(|built| newest(&source).is_some_and(|edited| edited > built)) {
        build(name);
    }
    assert!(path.is_file(), "{} was built but is not there", path.display());
    path
}

fn build(name: &str) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--bin", name]);
    let status = command.status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "cannot build {name}: {status:?}");
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries
        .filter_map(
            |entry| if entry.path().is_dir() { newest(&entry.path()) } else { modified(&entry.path()) },
        )
        .max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}
