//! `auth.basic_file`: users of a `[[service]]` in a file of their own, as `htpasswd` writes it.
//!
//! Only the configuration file may name one: what a container's label could name would be read with our rights.

use std::path::Path;
use std::sync::Arc;

use super::{Config, ConfigError, ConfigErrors, read as read_text};
use crate::labels::features::{BasicAuth, users};
use crate::labels::{Severity, shown};

/// Reads the files that services name, and adds their users to those that stand in the configuration; all errors at once.
pub(super) fn read(config: &mut Config) -> Result<(), ConfigErrors> {
    let Config { services, warnings, .. } = config;
    let mut errors = Vec::new();
    for service in services {
        let Some(file) = &service.auth_file else { continue };
        let Some(auth) = &service.spec.features.auth else { continue };
        match with_users_of(file, auth, warnings) {
            Ok(auth) => service.spec.features.auth = Some(Arc::new(auth)),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
}

fn with_users_of(
    file: &Path,
    auth: &BasicAuth,
    warnings: &mut Vec<ConfigError>,
) -> Result<BasicAuth, Vec<ConfigError>> {
    let place = shown(&file.to_string_lossy());
    let text = read_text(file).map_err(|error| {
        let remedy = "let the user that Fairway runs as read it, or correct `auth.basic_file`".to_owned();
        let text = format!("the file of users cannot be read: {error}");
        vec![ConfigError { place: place.clone(), given: String::new(), text, remedy }]
    })?;
    let mut found = Vec::new();
    let mut all: Vec<_> = auth.users.to_vec();
    all.extend(
        users(&text, &mut found)
            .into_iter()
            .filter(|user| auth.users.iter().all(|own| own.name != user.name)),
    );
    let (errors, warned): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(_, flaw)| flaw.severity == Severity::Error);
    let as_error = |(name, flaw): (&str, crate::labels::Flaw)| ConfigError {
        place: place.clone(),
        given: shown(name),
        text: flaw.text,
        remedy: flaw.remedy,
    };
    if !errors.is_empty() {
        return Err(errors.into_iter().map(as_error).collect());
    }
    warnings.extend(warned.into_iter().map(as_error));
    Ok(BasicAuth { users: all.into(), ..auth.clone() })
}
