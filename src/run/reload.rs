//! Takes a changed configuration over while everything runs; a bad one is refused whole. The files of users
//! (`auth.basic_file`) and of clients' authorities (`client_ca`) that it names are a part of it, and followed too; so is the
//! secret of sticky cookies (`routing.sticky_secret_file`).
//!
//! Not here: when to look (see `watch_file`, `watch_files`).

use std::path::Path;
use std::sync::Arc;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::{InputsHandle, Problem, Settings};
use fairway_config::file::{Acme, ConfigError, Flags, HttpListener, Listen, Webhook};
use fairway_config::{Config, ConfigErrors};
use fairway_discovery::file::FileHandle;
use fairway_proxy::running::Running;
use fairway_proxy::tls::TlsError;
use jiff::Timestamp;
use tokio::sync::watch;

use super::certificates::{Keeper, of_client_ca};
use super::parts::{DnsConfig, with_file_limit};
use super::settings::{Surroundings, settings, unless_same};
use super::sticky::{self, Sealer};
use super::trust;
use super::watch_file::Changes;
use super::watch_files::Watched;

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
    reach: Reach,
    changes: Changes,
    /// Files that are a part of the configuration.
    named: Watched,
}

/// Why the configuration is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody asks for it, or the file has changed.
    Asked,
    /// A file that it names may have changed.
    Named,
}

/// The parts that a changed configuration reaches.
pub(crate) struct Reach {
    pub(crate) inputs: InputsHandle,
    pub(crate) file: FileHandle,
    pub(crate) dns: DnsConfig,
    pub(crate) certificates: Keeper,
    pub(crate) acme: watch::Sender<Option<Acme>>,
    pub(crate) sealer: Sealer,
    pub(crate) webhooks: watch::Sender<Vec<Webhook>>,
}

impl Reload {
    /// Of this configuration, at `changes`.
    pub(crate) fn new(
        changes: Changes,
        flags: Flags,
        config: Config,
        around: Surroundings,
        reach: Reach,
    ) -> Self {
        let first = config.clone();
        let mut reload = Self { flags, first, config, around, reach, changes, named: Watched::default() };
        reload.report(&[]);
        reload.watch_named();
        reload
    }

    /// The configuration that holds.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Waits for a reason to read the configuration again. May be dropped and called anew.
    pub(crate) async fn next(&mut self) -> Cause {
        tokio::select! {
            () = self.changes.next() => Cause::Asked,
            () = self.named.next() => Cause::Named,
        }
    }

    fn watch_named(&mut self) {
        self.named.watch(names(&self.config));
    }

    /// Reads the configuration again and takes it over, or refuses it whole and tells every error.
    pub(crate) fn take_over(&mut self, cause: Cause, proxy: &Running) {
        let loaded = super::load(&self.flags).and_then(|config| {
            let certificates = self.reach.certificates.check(&config.certificates)?;
            let trust = trust::load(&config.upstream_tls)?;
            let sticky = sticky::load(&config)?;
            let listeners = proxy.check(&listeners(&config), &config.tls).map_err(|error| of_tls(&error))?;
            Ok((config, certificates, trust, sticky, listeners))
        });
        match loaded {
            Ok((config, certificates, trust, sticky, listeners)) if config == self.config => {
                if cause == Cause::Asked {
                    tracing::info!("the configuration was read again and is the same");
                }
                self.reach.certificates.replace(certificates);
                proxy.set_trust(trust);
                self.reach.sealer.replace(sticky);
                // Files that it names may have changed.
                proxy.set_listeners(&with_file_limit(&self.config.limits), listeners);
                self.report(&[]);
            }
            Ok((config, certificates, trust, sticky, listeners)) => {
                let names_others = names(&config).ne(names(&self.config));
                self.config = config;
                self.apply(proxy);
                if names_others {
                    self.watch_named();
                }
                self.reach.certificates.replace(certificates);
                proxy.set_trust(trust);
                self.reach.sealer.replace(sticky);
                proxy.set_listeners(&with_file_limit(&self.config.limits), listeners);
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
        self.reach.inputs.update(|inputs| {
            // The certificates of now are known better to those who follow their files.
            let new = Settings { tls: inputs.settings.tls.clone(), ..new };
            inputs.settings = unless_same(&inputs.settings, new);
        });
        self.reach.file.apply(&self.config.services);
        self.reach.dns.send_replace(Arc::new(self.config.dns.clone()));
        proxy.set_trusted_proxies(self.config.proxy.trusted_proxies.clone());
        proxy.set_fronts_proxy_protocol(self.config.balancers_proxy_protocol);
        let webhooks = &self.config.webhooks;
        self.reach.webhooks.send_if_modified(|present| {
            let differs = present != webhooks;
            present.clone_from(webhooks);
            differs
        });
        let acme = &self.config.acme;
        self.reach.acme.send_if_modified(|present| {
            let differs = present != acme;
            present.clone_from(acme);
            differs
        });
        self.report(&[]);
    }

    fn report(&self, refused: &[ConfigError]) {
        let mut problems: Vec<Problem> =
            refused.iter().map(|error| problem("config-refused", Severity::Error, error)).collect();
        problems.extend(
            self.config.warnings.iter().map(|warning| problem("config-warning", Severity::Warning, warning)),
        );
        let open = sticky::too_open(&self.config);
        problems.extend(open.map(|open| problem("config-warning", Severity::Warning, &open)));
        problems.extend(needs_restart(&self.first, &self.config).map(restart_needed));
        self.reach.inputs.report(PART, problems);
    }
}

/// The files that a configuration names and takes in.
fn names(config: &Config) -> impl Iterator<Item = &Path> {
    let of_users = config.services.iter().filter_map(|service| service.auth_file.as_deref());
    let of_clients = config.https.items.iter().filter_map(|listener| listener.tls.as_ref()?.clients.as_ref());
    let of_cookies = config.routing.sticky_secret_file.as_deref();
    of_users.chain(of_clients.map(|clients| clients.ca.as_path())).chain(of_cookies)
}

/// The keys whose change waits for a restart.
fn needs_restart<'a>(first: &'a Config, now: &'a Config) -> impl Iterator<Item = &'static str> {
    let changed = [
        ("state_dir", first.state_dir != now.state_dir),
        ("node", first.node != now.node),
        ("http.listen", !same_addresses(&first.http, &now.http)),
        ("https.listen", !same_addresses(&first.https, &now.https)),
        ("dns.listen", first.dns.listen != now.dns.listen),
        ("admin", first.admin != now.admin),
        ("docker", first.docker != now.docker),
        ("proxy.threads", first.proxy.threads != now.proxy.threads),
        ("log", first.log != now.log),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key)
}

/// Whether two lists of listeners have the same addresses: whatever else is changed of them holds at once.
fn same_addresses(first: &Listen<HttpListener>, now: &Listen<HttpListener>) -> bool {
    first.items.iter().map(|listener| listener.addr).eq(now.items.iter().map(|listener| listener.addr))
}

/// Every listener of the data plane.
fn listeners(config: &Config) -> Vec<HttpListener> {
    config.http.items.iter().chain(&config.https.items).cloned().collect()
}

/// Why listeners cannot speak TLS as they are to.
fn of_tls(error: &TlsError) -> ConfigErrors {
    ConfigErrors(vec![match error {
        TlsError::ClientCa(error) => of_client_ca(error),
        TlsError::Rustls(error) => ConfigError {
            place: "https".to_owned(),
            given: String::new(),
            text: format!("TLS cannot be spoken: {error}"),
            remedy: "check `min_version` and `client_ca` of the listeners".to_owned(),
        },
    }])
}

fn problem(kind: &'static str, severity: Severity, error: &ConfigError) -> Problem {
    let ConfigError { place, given, text, remedy } = error;
    Problem::new(kind, severity, place.as_str(), text.as_str(), remedy.as_str()).at("", given.as_str())
}

fn restart_needed(key: &'static str) -> Problem {
    let text = format!("{key} was changed in the configuration, which holds from the next start on");
    let remedy = "start Fairway again; `fairway run --replace` does so without a refused connection";
    Problem::new("restart-needed", Severity::Warning, "configuration", text, remedy).at(key, "")
}
