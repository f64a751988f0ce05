//! The secret of the cookies of sticky routes: that of `routing.sticky_secret_file`, else one that is made once and kept in
//! the store.
//!
//! Not here: what is made of it (see `fairway_proxy::sticky`), when the file is read again (see `reload`).

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use fairway_config::file::ConfigError;
use fairway_config::{Config, ConfigErrors};
use fairway_proxy::sticky::{Keys, SecretError, new_secret};
use fairway_proxy::table::TableHandle;
use fairway_store::Store;

use super::certificates::read_file;

/// The secret's name in the store.
const NAME: &str = "sticky/secret";

/// The keys of the file that the configuration names, if it names one.
pub(crate) fn load(config: &Config) -> Result<Option<Keys>, ConfigErrors> {
    let Some(file) = config.routing.sticky_secret_file.as_deref() else { return Ok(None) };
    let wrong = |text: String, remedy| ConfigErrors(vec![error(file, text, remedy)]);
    let contents = read_file(file).map_err(|why| {
        let remedy = "check the path, and that the user that Fairway runs as may read it; it holds the same secret on every node";
        wrong(format!("the file cannot be read: {why}"), remedy)
    })?;
    Keys::from_lines(&contents).map(Some).map_err(|why| {
        let remedy = match why {
            SecretError::Many => {
                "keep the newest secret in the first line, and the one or two before it below"
            }
            _ => {
                "write one line into it, such as the output of `openssl rand -hex 32`, the same on every node"
            }
        };
        wrong(why.to_string(), remedy)
    })
}

/// What is told of a file that others than its owner may read or write: whoever knows the secret may bind clients, and whoever
/// changes it unbinds all.
pub(crate) fn too_open(config: &Config) -> Option<ConfigError> {
    let file = config.routing.sticky_secret_file.as_deref()?;
    let mode = std::fs::metadata(file).ok()?.mode() & 0o777;
    let text = format!("others than its owner may read or write the file: its mode is {mode:03o}");
    (mode & 0o026 != 0).then(|| error(file, text, "chmod 600, or 640 for a group that Fairway runs in"))
}

fn error(file: &Path, text: String, remedy: &str) -> ConfigError {
    let place = format!("routing.sticky_secret_file {}", file.display());
    ConfigError { place, given: String::new(), text, remedy: remedy.to_owned() }
}

/// Has the table seal cookies with what holds.
pub(crate) struct Sealer {
    table: Arc<TableHandle>,
    store: Option<Arc<Store>>,
    /// The secret of this node alone.
    own: Option<Vec<u8>>,
}

impl Sealer {
    /// Seals with the keys of a file, or with the secret of this node.
    pub(crate) fn start(table: Arc<TableHandle>, store: Option<Arc<Store>>, of_file: Option<Keys>) -> Self {
        let mut sealer = Self { table, store, own: None };
        sealer.replace(of_file);
        sealer
    }

    /// The same after the configuration was read again.
    pub(crate) fn replace(&mut self, of_file: Option<Keys>) {
        let keys = of_file.or_else(|| {
            let own = self.own.get_or_insert_with(|| own_secret(self.store.as_deref()));
            Keys::new([&own[..]])
                .inspect_err(|error| tracing::error!(%error, "the secret of sticky cookies"))
                .ok()
        });
        if let Some(keys) = keys {
            self.table.set_sticky_keys(keys);
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// The stored secret; a new one at the first start. Without a store it ends with the process, and so do its cookies.
fn own_secret(store: Option<&Store>) -> Vec<u8> {
    let Some(store) = store else { return new_secret().to_vec() };
    match store.secrets(NAME) {
        Ok(found) => {
            if let Some((_, secret)) =
                found.into_iter().find(|(name, secret)| name == NAME && Keys::new([&secret[..]]).is_ok())
            {
                return secret;
            }
        }
        Err(error) => tracing::warn!(%error, "the secret of sticky cookies cannot be read"),
    }
    let secret = new_secret().to_vec();
    if let Err(error) = store.put_secret(NAME, &secret) {
        tracing::warn!(%error, "the secret of sticky cookies is not kept: clients are bound anew after a restart");
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_node_is_made_once_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Store::open(folder.path()).expect("a store");
        let first = own_secret(Some(&open()));
        assert_eq!(own_secret(Some(&open())), first);
        open().put_secret(NAME, b"short").expect("written");
        let new = own_secret(Some(&open()));
        assert_ne!(new, first);
        assert_eq!(own_secret(Some(&open())), new);
        assert_ne!(own_secret(None), own_secret(None));
    }
}
