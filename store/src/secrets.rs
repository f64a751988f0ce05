//! Named values that other parts keep over a restart: certificates with their keys, accounts. Nothing here reads them.
//!
//! The file is its owner's alone (see `open`).

use redb::{TableDefinition, TableError};

use crate::error::StoreError;
use crate::open::Store;

const SECRETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("secrets");

impl Store {
    /// Every value whose name starts with `prefix`, by name.
    pub fn secrets(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(SECRETS) {
                // A file of a version that kept none.
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut found = Vec::new();
            for entry in table.range(prefix..)? {
                let (name, value) = entry?;
                if !name.value().starts_with(prefix) {
                    break;
                }
                found.push((name.value().to_owned(), value.value().to_vec()));
            }
            Ok(found)
        })
    }

    /// Keeps a value under this name, in place of the one before.
    pub fn put_secret(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(SECRETS)?.insert(name, value)?;
            Ok(())
        })
    }

    /// Forgets the value of this name, if there is one.
    pub fn delete_secret(&self, name: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(SECRETS)?.remove(name)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_by_the_start_of_their_names_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        assert_eq!(store.secrets("").expect("it can be read"), []);
        for name in ["acme/b", "acme/a", "acmf", "abc"] {
            store.put_secret(name, name.as_bytes()).expect("it can be written");
        }
        store.put_secret("acme/a", b"new").expect("it can be written");
        store.delete_secret("acme/none").expect("nothing to do");
        drop(store);
        let store = Store::open(folder.path()).expect("a store");
        let found = store.secrets("acme/").expect("it can be read");
        assert_eq!(found, [("acme/a".into(), b"new".to_vec()), ("acme/b".into(), b"acme/b".to_vec())]);
        store.delete_secret("acme/a").expect("it can be written");
        assert_eq!(store.secrets("acme/").expect("it can be read").len(), 1);
    }
}
