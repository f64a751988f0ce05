//! The token of `admin.token_file`: read again when the file changes, compared in constant time.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("the token file {} cannot be read; check `admin.token_file`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It has no token in it.
    #[error("the token file {} is empty: write one line into it, such as the output of `openssl rand -hex 32`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// A token, and the file it comes from.
pub(crate) struct Token {
    path: PathBuf,
    read: Mutex<Read>,
}

struct Read {
    token: Vec<u8>,
    version: Option<Version>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Token {
    /// Reads the file; white space around the token does not count.
    pub(crate) fn read(path: &Path) -> Result<Self, TokenError> {
        // The version first: a change in between is then seen as one.
        let version = version(path);
        let token = read(path)?;
        Ok(Self { path: path.to_owned(), read: Mutex::new(Read { token, version }) })
    }

    /// Whether an `Authorization` field carries the token.
    pub(crate) fn fits(&self, authorization: &[u8]) -> bool {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut read);
        let Some((scheme, given)) = authorization.split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && same(given.trim_ascii(), &read.token)
    }

    /// Takes a changed file over. One that cannot be read any more leaves the token as it is.
    fn refresh(&self, known: &mut Read) {
        let version = version(&self.path);
        if version == known.version {
            return;
        }
        known.version = version;
        match read(&self.path) {
            Ok(token) => known.token = token,
            Err(error) => tracing::warn!(%error, "the token stays as it was"),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TokenError> {
    let content =
        fs::read(path).map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
    match content.trim_ascii() {
        [] => Err(TokenError::Empty { path: path.to_owned() }),
        token => Ok(token.to_vec()),
    }
}

fn version(path: &Path) -> Option<Version> {
    let metadata = fs::metadata(path).ok()?;
    Some(Version {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Takes as long for a wrong octet at the start as for one at the end; only the length can be learnt.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)));
    a.len() == b.len() && black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_follows_the_file_and_outlives_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        assert!(matches!(Token::read(&path), Err(TokenError::Unreadable { .. })));
        fs::write(&path, " \n").expect("write");
        assert!(matches!(Token::read(&path), Err(TokenError::Empty { .. })));
        fs::write(&path, "first\n").expect("write");
        let token = Token::read(&path).expect("a token");
        for (field, fits) in [
            ("Bearer first", true),
            ("bearer  first ", true),
            ("Bearer firs", false),
            ("Bearer firsT", false),
            ("Bearer first2", false),
            ("Bearer ", false),
            ("Basic first", false),
            ("first", false),
            ("", false),
        ] {
            assert_eq!(token.fits(field.as_bytes()), fits, "{field}");
        }
        fs::write(folder.path().join("new"), "the second").expect("write");
        fs::rename(folder.path().join("new"), &path).expect("rename");
        assert!(token.fits(b"Bearer the second") && !token.fits(b"Bearer first"));
        fs::remove_file(&path).expect("remove");
        assert!(token.fits(b"Bearer the second"), "the last good one stays");
    }
}
