//! The files of `[upstream_tls]`: read at the start, at each reload and at each change, the last good ones kept.
//!
//! Not here: what is done with them (see `fairway_proxy::tls`), when to look again (see `watch_files`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::{InputsHandle, Problem};
use fairway_config::ConfigErrors;
use fairway_config::file::{ConfigError, UpstreamTls};
use fairway_proxy::running::Running;
use fairway_proxy::tls::{Certificate, CertificateError, Trust, authorities};

use super::certificates::read_file;
use super::watch_files::Watched;

/// Our name in [`InputsHandle::report`].
const PART: &str = "upstream-tls";

/// Whom these settings believe and what they show; all errors at once.
pub(crate) fn load(tls: &UpstreamTls) -> Result<Arc<Trust>, ConfigErrors> {
    let mut errors = Vec::new();
    let mut believed = Vec::new();
    for file in &tls.ca {
        match read(file).and_then(|pem| authorities(&pem).map_err(|error| unusable(file, &error))) {
            Ok(certificates) => believed.extend(certificates),
            Err(error) => errors.push(error),
        }
    }
    let identity = tls.identity.as_ref().and_then(|files| {
        let read = read(&files.cert).and_then(|chain| Ok((chain, read(&files.key)?)));
        let made = read.and_then(|(chain, key)| {
            Certificate::from_pem(&chain, &key, None).map_err(|error| unusable(&files.cert, &error))
        });
        made.map_err(|error| errors.push(error)).ok()
    });
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    if tls.ca.is_empty() {
        believed = of_the_system();
    }
    Trust::new(believed, identity.as_ref(), tls.verify).map_err(|error| {
        let text = format!("TLS towards instances cannot be set up: {error}");
        let remedy = "tell it to those who make Fairway".to_owned();
        ConfigErrors(vec![ConfigError { place: "upstream_tls".into(), given: String::new(), text, remedy }])
    })
}

/// What the system trusts. It may be nothing: a small image has no such files, and needs none as long as no instance speaks
/// TLS.
fn of_the_system() -> Vec<rustls::pki_types::CertificateDer<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "an authority of the system cannot be read");
    }
    found.certs
}

fn read(file: &Path) -> Result<Vec<u8>, ConfigError> {
    read_file(file).map_err(|error| ConfigError {
        place: file.display().to_string(),
        given: String::new(),
        text: format!("the file cannot be read: {error}"),
        remedy: "check the path, and that the user that Fairway runs as may read it".to_owned(),
    })
}

fn unusable(file: &Path, error: &CertificateError) -> ConfigError {
    ConfigError {
        place: file.display().to_string(),
        given: String::new(),
        text: error.to_string(),
        remedy: error.remedy().to_owned(),
    }
}

/// Follows the files.
#[derive(Debug)]
pub(crate) struct Follow {
    tls: UpstreamTls,
    files: Watched,
    inputs: InputsHandle,
}

impl Follow {
    /// Those of these settings.
    pub(crate) fn new(tls: &UpstreamTls, inputs: InputsHandle) -> Self {
        let mut follow = Self { tls: UpstreamTls::default(), files: Watched::default(), inputs };
        follow.replace(tls);
        follow
    }

    /// The configuration was read again, and these files with it.
    pub(crate) fn replace(&mut self, tls: &UpstreamTls) {
        if self.tls != *tls {
            self.tls = tls.clone();
            self.files.watch(paths(tls).map(PathBuf::as_path));
        }
        self.inputs.report(PART, Vec::new());
    }

    /// Waits until the files may have changed. May be dropped and called anew.
    pub(crate) async fn next(&mut self) {
        self.files.next().await;
    }

    /// Reads them again; what cannot be used is told and changes nothing.
    pub(crate) fn read_again(&self, proxy: &Running) {
        let problem = |error: ConfigError| {
            let text = format!("{}; what was read before still holds", error.text);
            let kind = "upstream-tls-unusable";
            Problem::new(kind, Severity::Error, error.place, text, error.remedy).at("upstream_tls", "")
        };
        let problems = match load(&self.tls) {
            Ok(trust) => {
                proxy.set_trust(trust);
                Vec::new()
            }
            Err(ConfigErrors(errors)) => errors.into_iter().map(problem).collect(),
        };
        self.inputs.report(PART, problems);
    }
}

fn paths(tls: &UpstreamTls) -> impl Iterator<Item = &PathBuf> {
    let identity = tls.identity.iter().flat_map(|identity| [&identity.cert, &identity.key]);
    tls.ca.iter().chain(identity)
}
