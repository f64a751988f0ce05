//! Certificates from an authority (RFC 8555): asked for, kept in the store, renewed when a third of their life is left.
//!
//! - [`hosts`]: which hosts, and when. Pure.
//! - [`order`]: one certificate, from the order to the chain.
//!
//! Here: the task that does one after the other, what it keeps, what it tells. Not here: who gets which certificate, and how
//! challenges are answered (see `fairway_proxy::tls`), HTTP towards the authority (see `run::client`).

mod hosts;
mod order;

use std::collections::BTreeMap;
use std::sync::Arc;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::{Catalog, InputsHandle, Problem};
use fairway_config::file::Acme;
use fairway_proxy::tls::{Certificate, Certificates};
use fairway_store::Store;
use instant_acme::{Account, AccountCredentials, NewAccount};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Duration, sleep};

use super::certificates::Keeper;
use super::client::Client;
use hosts::{Backoff, Wanted};
use order::{Failed, Issued, Order};

/// Our name in [`InputsHandle::report`].
const PART: &str = "acme";

/// What the store knows our certificates by, in front of the host.
const CERTIFICATES: &str = "acme/certificate/";

/// What it knows an account by, in front of the directory.
const ACCOUNT: &str = "acme/account/";

/// The longest pause between two looks at what is due: clocks may be set.
const LOOK: Duration = Duration::from_secs(3600);

/// The shortest, so that nothing spins.
const PAUSE: Duration = Duration::from_secs(1);

/// What the task works with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) catalogs: watch::Receiver<Arc<Catalog>>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) keeper: Keeper,
    /// `None`: certificates are had again after each restart.
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) inputs: InputsHandle,
}

/// The task.
struct Task {
    config: Acme,
    parts: Parts,
    /// What the authority made, by host.
    held: BTreeMap<Arc<str>, Certificate>,
    failed: BTreeMap<Arc<str>, Backoff>,
    /// What else is wrong: the store.
    unkept: Option<Problem>,
}

/// Does what the configuration says, and begins anew with each change of it. Runs until the catalog ends.
pub(crate) async fn run(mut config: watch::Receiver<Option<Acme>>, parts: Parts) {
    loop {
        let present = config.borrow_and_update().clone();
        let asks = present.is_some();
        let task = async {
            match present {
                Some(config) => follow(config, parts.clone()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = task => return,
            changed = config.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        if asks && config.borrow().is_none() {
            // As after a restart: nobody renews them any more.
            parts.keeper.add(Vec::new());
            parts.inputs.report(PART, Vec::new());
        }
    }
}

/// Has certificates made as this configuration says. What it does may be given up at any time: questions of the authority
/// are then answered no longer.
async fn follow(config: Acme, parts: Parts) {
    let mut task = Task { config, parts, held: BTreeMap::new(), failed: BTreeMap::new(), unkept: None };
    task.load().await;
    let mut catalogs = task.parts.catalogs.clone();
    loop {
        let catalog = catalogs.borrow_and_update().clone();
        let now = Timestamp::now();
        let wanted = task.wanted(&catalog);
        task.report(&wanted);
        let renewals: BTreeMap<_, _> =
            task.held.iter().map(|(host, held)| (host.clone(), hosts::renew_at(&held.facts))).collect();
        match hosts::next(&wanted.hosts, &renewals, &task.failed, now) {
            hosts::Next::Due(host) => task.obtain(host).await,
            hosts::Next::At(at) => {
                let left = at.map_or(LOOK, |at| Duration::try_from(at.duration_since(now)).unwrap_or(PAUSE));
                tokio::select! {
                    () = sleep(left.clamp(PAUSE, LOOK)) => {}
                    changed = catalogs.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }
}

impl Task {
    fn wanted(&self, catalog: &Catalog) -> Wanted {
        let by_file = self.parts.keeper.names_in_files();
        hosts::wanted(&self.config, catalog, &by_file)
    }

    /// Serves what was had before a restart.
    async fn load(&mut self) {
        let stored = self.with_store(|store| store.secrets(CERTIFICATES)).await.unwrap_or_default();
        for (name, value) in stored {
            let host: Arc<str> = name[CERTIFICATES.len()..].into();
            let read = serde_json::from_slice::<Issued>(&value).map_err(|error| error.to_string());
            match read.and_then(|issued| issued.certificate().map_err(|error| error.to_string())) {
                Ok(certificate) => drop(self.held.insert(host, certificate)),
                Err(error) => {
                    tracing::warn!(%host, %error, "a stored certificate cannot be read: it is had again")
                }
            }
        }
        self.serve();
    }

    fn serve(&self) {
        self.parts.keeper.add(self.held.values().cloned().collect());
    }

    /// Gets a certificate for this host, or notes why there is none.
    async fn obtain(&mut self, host: Arc<str>) {
        tracing::info!(%host, directory = %self.config.directory, "asking for a certificate");
        match self.issue(&host).await {
            Ok((issued, certificate)) => {
                tracing::info!(%host, until = %certificate.facts.not_after, "the certificate is here");
                self.failed.remove(&host);
                self.keep(&host, &issued).await;
                self.held.insert(host, certificate);
                self.serve();
            }
            Err(error) => {
                let (before, now) = (self.failed.get(&host), Timestamp::now());
                let backoff = Backoff::after(before, now, error.to_string(), error.remedy());
                self.failed.insert(host, backoff);
            }
        }
    }

    async fn issue(&mut self, host: &Arc<str>) -> Result<(Issued, Certificate), Failed> {
        let account = self.account().await?;
        let order = Order {
            account: &account,
            host,
            challenge: self.config.challenge,
            challenges: &self.parts.certificates.challenges,
        };
        let issued = match order.issue().await {
            Err(error) if error.is_unknown_account() => {
                // The authority has forgotten us: the next attempt makes a new account.
                let name = self.account_name();
                self.with_store(move |store| store.delete_secret(&name)).await;
                return Err(error);
            }
            issued => issued?,
        };
        let certificate = issued.certificate()?;
        if !certificate.facts.names.iter().any(|name| **name == **host) {
            return Err(Failed::Other(format!("the authority's certificate is not for {host}")));
        }
        Ok((issued, certificate))
    }

    fn account_name(&self) -> String {
        format!("{ACCOUNT}{}", self.config.directory)
    }

    /// The account that is kept, else a new one.
    async fn account(&mut self) -> Result<Account, Failed> {
        let config = &self.config;
        let client = Client::new(config.ca.as_deref()).map_err(Failed::Other)?;
        let builder = Account::builder_with_http(Box::new(client));
        let name = self.account_name();
        let (directory, contact) = (config.directory.to_string(), config.contact.clone());
        let wanted = name.clone();
        let stored = self.with_store(move |store| store.secrets(&wanted)).await.unwrap_or_default();
        let stored = stored.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value);
        if let Some(credentials) =
            stored.and_then(|value| serde_json::from_slice::<AccountCredentials>(&value).ok())
        {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact: Vec<&str> = contact.iter().map(|contact| &**contact).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&new, directory, None).await?;
        tracing::info!(account = account.id(), "an account with the authority");
        let value = serde_json::to_vec(&credentials).map_err(|error| Failed::Other(error.to_string()))?;
        self.with_store(move |store| store.put_secret(&name, &value)).await;
        Ok(account)
    }

    async fn keep(&mut self, host: &str, issued: &Issued) {
        let name = format!("{CERTIFICATES}{host}");
        match serde_json::to_vec(issued) {
            Ok(value) => drop(self.with_store(move |store| store.put_secret(&name, &value)).await),
            Err(error) => tracing::error!(%error, "a certificate cannot be written down"),
        }
    }

    /// Does something with the store, off this task; `None` when it cannot be done, which is told.
    async fn with_store<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Store) -> Result<T, fairway_store::StoreError> + Send + 'static,
    ) -> Option<T> {
        let done = match self.parts.store.clone() {
            Some(store) => match spawn_blocking(move || work(&store)).await {
                Ok(done) => done.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            },
            None => Err("there is no store".to_owned()),
        };
        match done {
            Ok(value) => {
                self.unkept = None;
                Some(value)
            }
            Err(error) => {
                let text = format!("certificates are not kept over a restart: {error}");
                let remedy = "mend the store: authorities make few certificates for a host in a week";
                self.unkept = Some(Problem::new("acme-not-kept", Severity::Warning, "acme", text, remedy));
                None
            }
        }
    }

    fn report(&self, wanted: &Wanted) {
        let failed =
            self.failed.iter().filter(|(host, _)| wanted.hosts.contains(*host)).map(|(host, backoff)| {
                let left = match self.held.get(host) {
                    Some(held) => {
                        format!("; the one before is served until {}", held.facts.not_after)
                    }
                    None => String::new(),
                };
                let text = format!(
                    "no certificate for {host}: {}{left}; asked again at {}",
                    backoff.text, backoff.until
                );
                Problem::new("acme-failed", Severity::Error, host.clone(), text, backoff.remedy)
            });
        let too_many = (wanted.left_out > 0).then(|| {
            let text = format!("{} hosts of routes get no certificate: there are too many", wanted.left_out);
            let remedy =
                "list those that need one in `[acme] hosts`, or use a wildcard in a `[[certificate]]`";
            Problem::new("acme-too-many-hosts", Severity::Warning, "acme", text, remedy)
        });
        let all = failed.chain(too_many).chain(self.unkept.clone()).collect();
        self.parts.inputs.report(PART, all);
    }
}
