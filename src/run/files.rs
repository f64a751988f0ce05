//! The files that the configuration names, read before anything starts: `fairway run` and `fairway check` refuse the same.
//!
//! Not here: what is in them (see `certificates`, `trust`, `sticky`), the users of a service (the configuration reads them itself).

use std::path::Path;
use std::sync::Arc;

use fairway_config::file::ConfigError;
use fairway_config::{Config, ConfigErrors};
use fairway_proxy::sticky::Keys;
use fairway_proxy::tls::{Trust, authorities};

use super::certificates::{self, Loaded, read_file};
use super::{sticky, trust, webhook};

/// What the files hold.
#[derive(Debug)]
pub(crate) struct Files {
    /// Of each `[[certificate]]`.
    pub(crate) certificates: Vec<Loaded>,
    /// Of `[upstream_tls]`.
    pub(crate) trust: Arc<Trust>,
    /// Of `routing.sticky_secret_file`.
    pub(crate) sticky: Option<Keys>,
}

/// Reads them. Fails with what is wrong with each of them, at once.
pub(crate) fn load(config: &Config) -> Result<Files, ConfigErrors> {
    let certificates = certificates::load(config);
    let trust = trust::load(&config.upstream_tls).map_err(of_upstream_tls);
    let mut others: Vec<_> = token(config).into_iter().chain(called(config)).collect();
    others.extend(secrets(config));
    match (certificates, trust, sticky::load(config)) {
        (Ok(certificates), Ok(trust), Ok(sticky)) if others.is_empty() => {
            Ok(Files { certificates, trust, sticky })
        }
        (certificates, trust, sticky) => {
            let failed = [certificates.err(), trust.err(), sticky.err()].into_iter().flatten();
            let mut errors: Vec<_> = failed.flat_map(|ConfigErrors(errors)| errors).collect();
            errors.append(&mut others);
            Err(ConfigErrors(errors))
        }
    }
}

/// Places that are files alone, with the section that names them.
fn of_upstream_tls(ConfigErrors(errors): ConfigErrors) -> ConfigErrors {
    let section = "upstream_tls";
    let placed = |error: ConfigError| match error.place.starts_with(section) {
        true => error,
        false => ConfigError { place: format!("{section} {}", error.place), ..error },
    };
    ConfigErrors(errors.into_iter().map(placed).collect())
}

/// What is wrong with the token of the admin API.
fn token(config: &Config) -> Option<ConfigError> {
    let file = config.admin.token_file.as_deref()?;
    let remedy = "write one line into it, such as the output of `openssl rand -hex 32`";
    match read_file(file) {
        Ok(token) if !token.trim_ascii().is_empty() => None,
        Ok(_) => Some(error("admin.token_file", file, "the file is empty".to_owned(), remedy)),
        Err(why) => Some(error("admin.token_file", file, unreadable(&why), remedy)),
    }
}

/// What is wrong with the authorities of those whom we call: whom certificates are asked of, and webhooks.
fn called(config: &Config) -> Vec<ConfigError> {
    let acme = config.acme.as_ref().and_then(|acme| acme.ca.as_deref());
    let acme = acme.map(|file| ("acme.ca".to_owned(), file, "[acme] directory"));
    let webhooks = config.webhooks.iter().enumerate();
    let webhooks =
        webhooks.filter_map(|(i, webhook)| Some((format!("webhook[{i}].ca"), webhook.ca.as_deref()?, "url")));
    let failed = acme.into_iter().chain(webhooks).filter_map(|(key, file, whose)| {
        let why = match read_file(file).map(|pem| authorities(&pem)) {
            Ok(Ok(_)) => return None,
            Ok(Err(why)) => why.to_string(),
            Err(why) => unreadable(&why),
        };
        let remedy =
            format!("name a PEM file with the certificate of the authority that signed the one of `{whose}`");
        Some(error(&key, file, why, &remedy))
    });
    failed.collect()
}

/// What is wrong with the secrets that webhooks are signed with. Unsigned nothing is sent, so nobody would be told anything.
fn secrets(config: &Config) -> Vec<ConfigError> {
    let remedy = "write the secret into it that the receiver knows: one line, as in `whsec_` and base64";
    let files = config.webhooks.iter().enumerate();
    let files = files.filter_map(|(i, webhook)| Some((i, webhook.secret_file.as_deref()?)));
    let failed = files.filter_map(|(i, file)| {
        let why = webhook::secret(file).err()?;
        Some(error(&format!("webhook[{i}].secret_file"), file, why.to_string(), remedy))
    });
    failed.collect()
}

/// What is told of files and stops nothing.
pub(crate) fn warnings(config: &Config) -> Vec<ConfigError> {
    of_engines(config).into_iter().chain(sticky::too_open(config)).collect()
}

/// The files of engines that cannot be read. No reason not to start: an engine that cannot be reached is tried again for
/// ever.
fn of_engines(config: &Config) -> Vec<ConfigError> {
    let engines = config.docker.hosts.iter().enumerate().filter(|_| config.docker.enabled);
    let files = engines.filter_map(|(i, engine)| Some((i, engine.tls.as_ref()?)));
    let files = files.flat_map(|(i, tls)| [(i, "ca", &tls.ca), (i, "cert", &tls.cert), (i, "key", &tls.key)]);
    let failed = files.filter_map(|(i, key, file)| {
        let why = read_file(file).err()?;
        let remedy = "check the path, and that the user that Fairway runs as may read it";
        Some(error(&format!("docker.hosts[{i}].{key}"), file, unreadable(&why), remedy))
    });
    failed.collect()
}

fn unreadable(why: &std::io::Error) -> String {
    format!("the file cannot be read: {why}")
}

fn error(key: &str, file: &Path, text: String, remedy: &str) -> ConfigError {
    let place = format!("{key} {}", file.display());
    ConfigError { place, given: String::new(), text, remedy: remedy.to_owned() }
}
