//! The files of `[[certificate]]`: read at the start and at each change, the last good one kept.
//!
//! Not here: what is in them and who gets which (see `fairway_proxy::tls`), when to look again (see `watch_files`).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::{InputsHandle, Problem, Settings};
use fairway_config::file::{CertificateFiles, ConfigError};
use fairway_config::{Config, ConfigErrors};
use fairway_proxy::tls::clients::{ClientCaError, read_authorities};
use fairway_proxy::tls::{Certificate, Certificates};
use jiff::{SignedDuration, Timestamp};
use prometheus::{IntGaugeVec, Opts, Registry};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::watch_files::Watched;

/// Our name in [`InputsHandle::report`].
const PART: &str = "certificates";

/// Largest file that is read, in octets.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A writer that replaces certificate and key one after the other is given this long to do both.
const PAIR: Duration = Duration::from_secs(1);

/// A certificate that ends within this time is told, unless its whole life is shorter than ten times that.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Every certificate of the configuration, for `fairway check` and the start: all errors at once, those in the files of the
/// authorities of clients too.
pub(crate) fn load(config: &Config) -> Result<Vec<Loaded>, ConfigErrors> {
    let asked = config.https.items.iter().filter_map(|listener| listener.tls.as_ref()?.clients.as_ref());
    let unusable = asked.filter_map(|clients| read_authorities(&clients.ca).err());
    let mut errors: Vec<_> = unusable.map(|error| of_client_ca(&error)).collect();
    match load_all(config.certificates.iter().enumerate()) {
        Ok(loaded) if errors.is_empty() => Ok(loaded),
        Ok(_) => Err(ConfigErrors(errors)),
        Err(ConfigErrors(more)) => {
            errors.extend(more);
            Err(ConfigErrors(errors))
        }
    }
}

/// Why a file of the authorities of clients cannot be used.
pub(super) fn of_client_ca(error: &ClientCaError) -> ConfigError {
    ConfigError {
        place: format!("https.listen client_ca {}", error.file.display()),
        given: String::new(),
        text: error.text.clone(),
        remedy: error.remedy().to_owned(),
    }
}

/// Entries with their places in the list.
fn load_all<'a>(
    all: impl Iterator<Item = (usize, &'a CertificateFiles)>,
) -> Result<Vec<Loaded>, ConfigErrors> {
    let (mut loaded, mut errors) = (Vec::new(), Vec::new());
    for (i, files) in all {
        match Loaded::read(files) {
            Ok(one) => loaded.push(one),
            Err(unusable) => errors.push(unusable.to_config_error(i)),
        }
    }
    if errors.is_empty() { Ok(loaded) } else { Err(ConfigErrors(errors)) }
}

/// One entry of `[[certificate]]` that has been good.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    files: CertificateFiles,
    contents: Contents,
    certificate: Certificate,
    /// Why what the files hold now is not used.
    unusable: Option<Unusable>,
}

/// What the files held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contents {
    chain: Vec<u8>,
    key: Vec<u8>,
    ocsp: Option<Vec<u8>>,
}

/// Why files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unusable {
    file: String,
    text: String,
    remedy: String,
}

impl Unusable {
    fn of_file(file: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "check the path, or put the file back",
            io::ErrorKind::PermissionDenied => "let the user that Fairway runs as read it",
            _ => "name a file in PEM",
        };
        let text = format!("the file cannot be read: {error}");
        Self { file: file.display().to_string(), text, remedy: remedy.to_owned() }
    }

    /// Of the entry `i` of the list.
    fn to_config_error(&self, i: usize) -> ConfigError {
        let Self { file, text, remedy } = self.clone();
        ConfigError { place: format!("certificate[{i}] {file}"), given: String::new(), text, remedy }
    }
}

impl Contents {
    fn read(files: &CertificateFiles) -> Result<Self, Unusable> {
        let read = |path: &Path| read_file(path).map_err(|error| Unusable::of_file(path, &error));
        let ocsp = files.ocsp.as_deref().map(read).transpose()?;
        Ok(Self { chain: read(&files.cert)?, key: read(&files.key)?, ocsp })
    }
}

pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file")); // a pipe could go on for ever
    }
    let mut octets = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(octets)
}

impl Loaded {
    fn read(files: &CertificateFiles) -> Result<Self, Unusable> {
        let contents = Contents::read(files)?;
        Self::from_contents(files, contents)
    }

    fn from_contents(files: &CertificateFiles, contents: Contents) -> Result<Self, Unusable> {
        match Certificate::from_pem(&contents.chain, &contents.key, contents.ocsp.clone()) {
            Ok(certificate) => Ok(Self { files: files.clone(), contents, certificate, unusable: None }),
            Err(error) => Err(Unusable {
                file: files.cert.display().to_string(),
                text: error.to_string(),
                remedy: error.remedy().to_owned(),
            }),
        }
    }

    /// Reads the files again: true when another certificate is to be served. What cannot be used is noted and changes
    /// nothing.
    fn refresh(&mut self) -> bool {
        let read = Contents::read(&self.files).and_then(|contents| {
            if contents == self.contents {
                Ok(None)
            } else {
                Self::from_contents(&self.files, contents).map(Some)
            }
        });
        match read {
            Ok(None) => self.unusable = None,
            Ok(Some(new)) => {
                *self = new;
                return true;
            }
            Err(unusable) => self.unusable = Some(unusable),
        }
        false
    }

    fn problems(&self, now: Timestamp) -> impl Iterator<Item = Problem> {
        let facts = &self.certificate.facts;
        let subject: Arc<str> = self.files.cert.display().to_string().into();
        let problem = |kind, severity, text: String, remedy: &str| {
            Problem::new(kind, severity, subject.clone(), text, remedy).at("certificate", "")
        };
        let unusable = self.unusable.as_ref().map(|unusable| {
            let text =
                format!("{}: {}; the certificate read before is still served", unusable.file, unusable.text);
            problem("certificate-unusable", Severity::Error, text, &unusable.remedy)
        });
        let soon = SOON.min(facts.not_after.duration_since(facts.not_before) / 10);
        let left = facts.not_after.duration_since(now);
        let renew = "renew it, and write it to the same file: it is served from then on";
        let time = if left.is_negative() {
            let text = format!("the certificate has expired at {}: clients refuse it", facts.not_after);
            Some(problem("certificate-expired", Severity::Error, text, renew))
        } else if now < facts.not_before {
            let text =
                format!("the certificate holds from {} on: clients refuse it until then", facts.not_before);
            Some(problem("certificate-not-yet-valid", Severity::Error, text, "check this machine's clock"))
        } else if left < soon {
            let text = format!("the certificate expires at {}", facts.not_after);
            Some(problem("certificate-expires", Severity::Warning, text, renew))
        } else {
            None
        };
        let nameless = facts.names.is_empty().then(|| {
            let text = "the certificate names no host, so it is served only where no other fits".to_owned();
            let remedy = "have one made with the hosts as alternative names (SAN)";
            problem("certificate-without-names", Severity::Warning, text, remedy)
        });
        let stapled = self.certificate.stapled_until.filter(|until| *until <= now).map(|until| {
            let text = format!(
                "what the authority says of the certificate (OCSP) held until {until}: it is not stapled"
            );
            let remedy = "have the authority asked again, and write its answer to the same file";
            problem("certificate-ocsp-expired", Severity::Warning, text, remedy)
        });
        unusable.into_iter().chain(time).chain(nameless).chain(stapled)
    }
}

/// The metric that alarms on certificates are made of.
#[derive(Debug, Clone)]
pub(crate) struct Ends(IntGaugeVec);

impl Ends {
    /// Registers it.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Until when the certificate for a name holds, in seconds since 1970.";
        let ends = IntGaugeVec::new(Opts::new("fairway_certificate_not_after_seconds", help), &["name"])?;
        registry.register(Box::new(ends.clone()))?;
        Ok(Self(ends))
    }

    /// Of each name the first certificate, which is the one that most clients get.
    fn tell(&self, served: &[Certificate]) {
        self.0.reset();
        for certificate in served.iter().rev() {
            for name in &certificate.facts.names {
                self.0.with_label_values(&[&**name]).set(certificate.facts.not_after.as_second());
            }
        }
    }
}

/// The certificates of the configuration, followed as files and configuration change.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    wanted: watch::Sender<Vec<Loaded>>,
    added: watch::Sender<Vec<Certificate>>,
}

/// The names that there are certificates for, sorted.
pub(crate) type Names = Arc<[Arc<str>]>;

/// The names that these are for.
pub(crate) fn names(all: &[Certificate]) -> Names {
    let mut names: Vec<Arc<str>> =
        all.iter().flat_map(|one| &one.facts.names).map(|name| Arc::from(&**name)).collect();
    names.sort();
    names.dedup();
    names.into()
}

/// Serves these.
pub(crate) fn serve(loaded: &[Loaded]) -> Arc<Certificates> {
    Certificates::new(&all(loaded), Timestamp::now())
}

/// Their certificates, in the same order.
pub(crate) fn all(loaded: &[Loaded]) -> Vec<Certificate> {
    loaded.iter().map(|one| one.certificate.clone()).collect()
}

impl Keeper {
    /// Follows the files of these, reports what is wrong with them, and keeps the names in the settings true.
    /// `ends` tells how long each holds.
    pub(crate) fn start(
        loaded: Vec<Loaded>,
        certificates: Arc<Certificates>,
        inputs: InputsHandle,
        ends: Ends,
    ) -> Self {
        let (wanted, changed) = watch::channel(loaded);
        let added = watch::Sender::new(Vec::new());
        let follow = Follow { loaded: Vec::new(), added: added.subscribe(), certificates, inputs, ends };
        tokio::spawn(follow.run(changed));
        Self { wanted, added }
    }

    /// Serves these too, behind those of the files.
    pub(crate) fn add(&self, all: Vec<Certificate>) {
        self.added.send_replace(all);
    }

    /// The names that there are certificates for in files, sorted.
    pub(crate) fn names_in_files(&self) -> Names {
        names(&all(&self.wanted.borrow()))
    }

    /// Takes the entries of a changed configuration. Those that were there before stay as they are, whatever their files
    /// hold now; a new one that cannot be used is an error, and nothing changes.
    pub(crate) fn check(&self, all: &[CertificateFiles]) -> Result<Vec<Loaded>, ConfigErrors> {
        let before = self.wanted.borrow().clone();
        let is_known = |files: &CertificateFiles| before.iter().any(|loaded| loaded.files == *files);
        let fresh = load_all(all.iter().enumerate().filter(|(_, files)| !is_known(files)))?;
        let find =
            |files: &CertificateFiles| before.iter().chain(&fresh).find(|one| one.files == *files).cloned();
        Ok(all.iter().filter_map(find).collect())
    }

    /// Serves these from now on, and looks at their files.
    pub(crate) fn replace(&self, loaded: Vec<Loaded>) {
        self.wanted.send_replace(loaded);
    }
}

/// The task behind a [`Keeper`].
struct Follow {
    loaded: Vec<Loaded>,
    added: watch::Receiver<Vec<Certificate>>,
    certificates: Arc<Certificates>,
    inputs: InputsHandle,
    ends: Ends,
}

impl Follow {
    async fn run(mut self, mut wanted: watch::Receiver<Vec<Loaded>>) {
        wanted.mark_changed();
        let mut files = Watched::default();
        loop {
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let next = wanted.borrow_and_update().clone();
                    self.take(next);
                    let paths = self.loaded.iter().flat_map(|one| one.files.paths());
                    files.watch(paths);
                }
                () = files.next() => self.refresh().await,
                Ok(()) = self.added.changed() => self.serve(),
            }
        }
    }

    /// The entries of the configuration changed; what was read of those that stay is newer here.
    fn take(&mut self, next: Vec<Loaded>) {
        let before = std::mem::take(&mut self.loaded);
        let newer = |one: Loaded| before.iter().find(|old| old.files == one.files).cloned().unwrap_or(one);
        self.loaded = next.into_iter().map(newer).collect();
        self.serve();
        self.report();
    }

    async fn refresh(&mut self) {
        let before = self.loaded.clone();
        let mut changed = self.read_again().await;
        if self.loaded.iter().zip(&before).any(|(now, before)| now.unusable != before.unusable) {
            // Perhaps somebody is between writing the certificate and writing its key.
            sleep(PAIR).await;
            changed |= self.read_again().await;
        }
        if changed {
            self.serve();
        }
        self.report();
    }

    async fn read_again(&mut self) -> bool {
        let mut loaded = std::mem::take(&mut self.loaded);
        let read = spawn_blocking(move || {
            let changed = loaded.iter_mut().fold(false, |changed, one| one.refresh() | changed);
            (loaded, changed)
        });
        match read.await {
            Ok((loaded, changed)) => {
                self.loaded = loaded;
                changed
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn serve(&mut self) {
        let mut served = all(&self.loaded);
        served.extend(self.added.borrow_and_update().iter().cloned());
        self.certificates.replace(&served, Timestamp::now());
        self.ends.tell(&served);
        if !served.is_empty() {
            tracing::info!(certificates = served.len(), "certificates are served");
        }
        let names = names(&served);
        let differ = |settings: &Settings| settings.tls.as_ref().is_some_and(|tls| *tls != names);
        if differ(&self.inputs.current().settings) {
            self.inputs.update(|inputs| {
                inputs.settings = Arc::new(Settings { tls: Some(names), ..(*inputs.settings).clone() });
            });
        }
    }

    fn report(&self) {
        let now = Timestamp::now();
        self.inputs.report(PART, self.loaded.iter().flat_map(|one| one.problems(now)).collect());
    }
}

/// The files of an entry.
trait Paths {
    fn paths(&self) -> impl Iterator<Item = &Path>;
}

impl Paths for CertificateFiles {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.cert), Some(&self.key), self.ocsp.as_ref()]
            .into_iter()
            .flatten()
            .map(|path| path.as_path())
    }
}
