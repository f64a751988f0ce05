//! Takes a changed configuration over while everything runs; a bad one is refused whole.
//!
//! Not here: when to look (see `watch_file`).

use std::sync::Arc;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::{InputsHandle, Problem};
use fairway_config::file::{ConfigError, Flags};
use fairway_config::{Config, ConfigErrors};
use fairway_discovery::file::FileHandle;
use fairway_proxy::running::Running;
use jiff::Timestamp;

use super::parts::DnsConfig;
use super::settings::{Surroundings, settings, unless_same};
use super::watch_file::Changes;

/// Our name in [`InputsHandle::report`].
const PART: &str = "config";

/// What a reload changes.
pub(crate) struct Reload {
    flags: Flags,
    /// What the process was started with: what cannot change while it runs is compared with this.
    first: Config,
    /// What holds now.
    config: Config,
    around: Surroundings,
    inputs: InputsHandle,
    file: FileHandle,
    dns: DnsConfig,
    changes: Changes,
}

impl Reload {
    /// Watches the file of this configuration. Fails when SIGHUP cannot be caught.
    pub(crate) fn new(
        flags: Flags,
        config: Config,
        around: Surroundings,
        inputs: InputsHandle,
        file: FileHandle,
        dns: DnsConfig,
    ) -> std::io::Result<Self> {
        let changes = Changes::of(config.file.as_deref())?;
        let reload = Self { flags, first: config.clone(), config, around, inputs, file, dns, changes };
        reload.report(&[]);
        Ok(reload)
    }

    /// The configuration that holds.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Waits for a reason to read the configuration again.
    pub(crate) async fn next(&mut self) {
        self.changes.next().await;
    }

    /// Reads the configuration again and takes it over, or refuses it whole and tells every error.
    pub(crate) fn take_over(&mut self, proxy: &Running) {
        match super::load(&self.flags) {
            Ok(config) if config == self.config => {
                tracing::info!("the configuration was read again and is the same");
                self.report(&[]);
            }
            Ok(config) => {
                self.config = config;
                self.apply(proxy);
                tracing::info!("the changed configuration holds");
            }
            Err(ConfigErrors(errors)) => {
                tracing::error!(
                    "the changed configuration is refused, the old one stays:\n{}",
                    ConfigErrors(errors.clone())
                );
                self.report(&errors);
            }
        }
    }

    fn apply(&self, proxy: &Running) {
        let new = settings(&self.config, &self.around, Timestamp::now());
        self.inputs.update(|inputs| inputs.settings = unless_same(&inputs.settings, new));
        self.file.apply(&self.config.services);
        self.dns.send_replace(Arc::new(self.config.dns.clone()));
        proxy.set_trusted_proxies(self.config.proxy.trusted_proxies.clone());
        self.report(&[]);
    }

    fn report(&self, refused: &[ConfigError]) {
        let mut problems: Vec<Problem> =
            refused.iter().map(|error| problem("config-refused", Severity::Error, error)).collect();
        problems.extend(
            self.config.warnings.iter().map(|warning| problem("config-warning", Severity::Warning, warning)),
        );
        problems.extend(needs_restart(&self.first, &self.config).map(restart_needed));
        self.inputs.report(PART, problems);
    }
}

/// The keys whose change waits for a restart.
fn needs_restart<'a>(first: &'a Config, now: &'a Config) -> impl Iterator<Item = &'static str> {
    let changed = [
        ("state_dir", first.state_dir != now.state_dir),
        ("node", first.node != now.node),
        ("http.listen", first.http != now.http),
        ("https.listen", first.https != now.https),
        ("certificate", first.certificates != now.certificates),
        ("dns.listen", first.dns.listen != now.dns.listen),
        ("admin", first.admin != now.admin),
        ("docker", first.docker != now.docker),
        ("proxy.threads", first.proxy.threads != now.proxy.threads),
        ("log", first.log != now.log),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key)
}

fn problem(kind: &'static str, severity: Severity, error: &ConfigError) -> Problem {
    let ConfigError { place, given, text, remedy } = error;
    Problem::new(kind, severity, place.as_str(), text.as_str(), remedy.as_str()).at("", given.as_str())
}

fn restart_needed(key: &'static str) -> Problem {
    let text = format!("{key} was changed in the configuration, which holds from the next start on");
    Problem::new("restart-needed", Severity::Warning, "configuration", text, "start Fairway again")
        .at(key, "")
}
