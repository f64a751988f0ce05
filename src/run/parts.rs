//! Starts every part with what it needs of the others, waits for the end, and stops them in order.
//!
//! Listeners are bound first, so that an address in use is told before anything else happens; sources enter the inputs
//! before the first catalog is built, so that nobody takes an empty cluster for a settled one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fairway_admin::types::Listener;
use fairway_admin::{AdminState, Control, Listeners};
use fairway_catalog::config::labels::Severity;
use fairway_catalog::{Catalog, Inputs, InputsHandle, Problem, publish};
use fairway_config::Config;
use fairway_config::file::{Dns, Flags, HttpListener, Limits, Listen};
use fairway_discovery::NodeInfo;
use fairway_discovery::docker::{DIFF_EVERY, DockerSource};
use fairway_discovery::exec::Engines;
use fairway_discovery::file::{FileHandle, FileSource};
use fairway_health::ProbeLog;
use fairway_proxy::access_log::AccessLogConfig;
use fairway_proxy::drains::end_drains;
use fairway_proxy::metrics::{Metrics, TableCollector};
use fairway_proxy::running::{self, ProxyConfig, worker_count};
use fairway_proxy::table::{TableHandle, follow};
use fairway_proxy::tls::{Certificates, Trust};
use fairway_proxy::{Adopted, BindError};
use fairway_store::Store;
use jiff::Timestamp;
use prometheus::{Histogram, HistogramOpts, Registry};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use super::certificates::{self, Ends, Keeper, Names};
use super::files::Files;
use super::reload::{Reach, Reload};
use super::settings::{Surroundings, settings};
use super::sticky::Sealer;
use super::takeover::giver::{Event, Giver};
use super::takeover::taker::{self, Taken};
use super::trust::Follow;
use super::watch_file::Changes;
use super::{acme, conntrack, exec, file_limit, handover, persist, tell, webhook};

/// Longest wait for a store to be given up: less than the process that takes over waits.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(5);

/// Any reason for which a part cannot start; shown with its causes.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs everything until SIGTERM or SIGINT, then drains. Fails when a part that was asked for cannot start.
pub(crate) async fn run(flags: Flags, config: Config, files: Files) -> Result<(), Failure> {
    let Files { certificates, trust, sticky } = files;
    let started = Timestamp::now();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // As early as the other signals: a change during the start is taken over after it.
    let changes = Changes::of(config.file.as_deref())?;

    // First of all: the sockets are there for every part, and the store is free.
    let mut taken = if config.replace { ask(&config).await? } else { None };
    let http = taken.as_mut().map(Taken::http).unwrap_or_default();
    let fronts = taken.as_mut().map(Taken::fronts).unwrap_or_default();
    let (open, opened_for_all) = watch::channel(taken.is_none());

    let registry = Registry::new();
    let workers = worker_count(config.proxy.threads);
    let table = TableHandle::new(Metrics::new(workers));
    registry.register(Box::new(TableCollector::new(table.clone())?))?;
    let shown = certificates::serve(&certificates);
    let adopted = Adopted { sockets: http, fronts, waits: taken.is_some() };
    let (proxy, bound, mut listener_problems) = start_proxy(&config, &table, &shown, &trust, adopted)?;
    for (kind, address) in &bound {
        tracing::info!("listening {kind} {address}");
    }

    let opened = persist::open(&config.state_dir);
    let sealer = Sealer::start(table.clone(), opened.store.clone(), sticky);
    let tls =
        (!config.https.items.is_empty()).then(|| certificates::names(&certificates::all(&certificates)));
    let around = Surroundings::new(started, proxy.addresses.clone(), tls);
    let inputs = InputsHandle::new(Inputs {
        settings: Arc::new(settings(&config, &around, started)),
        decisions: Arc::new(opened.decisions),
        ..Inputs::default()
    });
    persist::report(&inputs, &opened.problems);
    let keeper = Keeper::start(certificates, shown.clone(), inputs.clone(), Ends::new(&registry)?);
    let live = watch::Sender::new(Arc::new(Catalog::empty(opened.revision)));
    let catalogs = live.subscribe();

    let (dns_config, dns_followed) = watch::channel(Arc::new(config.dns.clone()));
    let (_http, http_followed) = watch::channel(proxy.addresses.clone());
    let dns = fairway_dns::start(
        dns_followed,
        catalogs.clone(),
        http_followed,
        &registry,
        inputs.clone(),
        fairway_dns::Adopted {
            sockets: taken.as_mut().map(Taken::dns).unwrap_or_default(),
            open: opened_for_all.clone(),
        },
    )?;
    let (stop, stopped) = watch::channel(false);
    let engines = Engines::default();
    let file = start_sources(&config, &inputs, &engines, &registry, &stopped)?;

    let probes = ProbeLog::default();
    let exec = Arc::new(exec::InContainers(engines));
    let (health_catalogs, health_inputs) = (catalogs.clone(), inputs.clone());
    let (health_log, health_registry) = (probes.clone(), registry.clone());
    tokio::spawn(async move {
        fairway_health::run(health_catalogs, health_inputs, exec, health_log, &health_registry).await;
    });
    let (ejections, ended) = (table.states().ejections(), table.clone());
    let end = move |key: &_| ended.states().end_ejection(key);
    tokio::spawn(fairway_health::follow_ejections(ejections, inputs.clone(), probes.clone(), end));
    tokio::spawn(follow(catalogs.clone(), table.clone()));
    tokio::spawn(end_drains(catalogs.clone(), inputs.clone(), table.clone()));
    if let Some(store) = opened.store.clone() {
        let keep = persist::keep_owners(store, catalogs.clone(), inputs.clone(), opened.problems);
        tokio::spawn(keep);
    }

    let (acme, acme_followed) = watch::channel(config.acme.clone());
    let parts = acme::Parts {
        catalogs: catalogs.clone(),
        certificates: shown,
        keeper: keeper.clone(),
        store: opened.store.clone(),
        inputs: inputs.clone(),
    };
    tokio::spawn(acme::run(acme_followed, parts));
    let (webhooks, webhooks_followed) = watch::channel(config.webhooks.clone());
    let webhook_told = webhook::Told::new(inputs.clone(), &config.node.name, &registry)?;
    tokio::spawn(webhook::run(webhooks_followed, catalogs.clone(), webhook_told));

    let (draining, drains) = watch::channel(false);
    let applied = vec![table.applied(), dns.applied()];
    let control = Control::new(inputs.clone(), catalogs.clone(), opened.store.clone(), applied);
    control.take_up(opened.releases);
    let releases = control.clone();
    let admin = AdminState {
        catalogs: catalogs.clone(),
        control,
        table: table.clone(),
        probes,
        listeners: listeners(&bound, &listener_problems, dns.addresses()),
        store: opened.store,
        registry,
        draining: drains,
    };
    let adopted =
        fairway_admin::Adopted { socket: taken.as_mut().and_then(Taken::admin), open: opened_for_all };
    let store = admin.store.clone();
    let admin = match fairway_admin::start(config.admin.clone(), admin, adopted).await {
        Ok(admin) => Some(admin),
        Err(error) if config.admin.configured => return Err(error.into()),
        Err(error) => {
            listener_problems.push(listener_failed("admin", &error));
            None
        }
    };
    if let Some(admin) = &admin {
        tracing::info!("listening admin {}", admin.address());
    }
    inputs.report("listeners", listener_problems);

    // Only now: every source has entered the inputs.
    tokio::spawn(publish(inputs.subscribe(), live));
    tokio::spawn(tell::what_is_found(catalogs.clone()));
    tokio::spawn(conntrack::follow(inputs.clone()));
    tokio::spawn(super::fronts::follow(proxy.front_troubles(), inputs.clone()));
    tokio::spawn(tell::where_dns_answers(dns.addresses()));

    let mut giver = match taken {
        None => first_giver(&config.state_dir),
        Some(taken) => {
            let pid = taken.pid;
            tokio::select! {
                ready = handover::until_ready(catalogs.clone(), vec![table.applied(), dns.applied()]) => ready?,
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
            let claimed = spawn_blocking(|| taken.claim()).await??;
            let giver = told(&config.state_dir, Giver::instead(&config.state_dir).map(Some));
            proxy.open();
            open.send_replace(true);
            claimed.opened();
            tracing::info!(pid, "taken over");
            giver
        }
    };

    // Only now: until then the process that is taken over from has them. Whether or not anybody can ask for them: they go on
    // without the admin API.
    let watching = tokio::spawn(releases.clone().watch_releases(table));
    let mut trust_files = Follow::new(&config.upstream_tls, inputs.clone());
    let reach = Reach { inputs, file, dns: dns_config, certificates: keeper, acme, sealer, webhooks };
    let mut reload = Reload::new(changes, flags, config, around, reach);
    let mut stops_at = None;
    let successor = loop {
        tokio::select! {
            asked = ask_to_stop(&mut terminate, &mut interrupt, stops_at) => match asked {
                Stop::Now => break None,
                Stop::Soon => {
                    draining.send_replace(true);
                    let delay = reload.config().shutdown_delay;
                    if delay.is_zero() {
                        break None;
                    }
                    tracing::info!(delay = ?delay, "stopping soon: not ready any more, requests are served as before");
                    stops_at = Some(Instant::now() + delay);
                }
            },
            event = next(&mut giver) => match event {
                Event::Asked { pid, reply } => {
                    tracing::info!(pid, "a process takes over: it gets the sockets and the store, we serve until it does");
                    let sockets = handover::sockets(&proxy, &dns, admin.as_ref());
                    let sockets = match sockets {
                        Ok(sockets) => give_up(store.as_ref(), &releases).await.map(|()| sockets),
                        Err(error) => Err(format!("its sockets cannot be duplicated: {error}")),
                    };
                    // One that is gone is told as failed.
                    let _ = reply.send(sockets);
                }
                Event::Failed { pid, why } => {
                    if let Some(store) = &store {
                        store.take_back();
                    }
                    releases.take_back();
                    tracing::error!(pid, why, "the process that was to take over did not: we go on as before");
                }
                Event::Opened { pid } => break Some(pid),
            },
            cause = reload.next() => {
                reload.take_over(cause, &proxy);
                trust_files.replace(&reload.config().upstream_tls);
            }
            () = trust_files.next() => trust_files.read_again(&proxy),
        }
    };

    let grace = reload.config().shutdown_grace;
    if let Some(pid) = successor {
        // It goes on with them.
        watching.abort();
        tracing::info!(pid, grace = ?grace, "replaced: requests in flight end");
        draining.send_replace(true);
        let admin = async {
            if let Some(admin) = admin {
                admin.hand_over().await;
            }
        };
        let (drained, (), ()) = tokio::join!(proxy.hand_over(grace), dns.shutdown(grace), admin);
        if drained.cut > 0 {
            tracing::warn!(connections = drained.cut, "cut after the grace time");
        }
        let _ = stop.send(true);
        tracing::info!("stopped");
        return Ok(());
    }
    // Whoever asks from now on has nothing to wait for.
    tokio::spawn(refuse_all(giver));
    tracing::info!(grace = ?grace, "stopping: no new connections, requests in flight end");
    let until = Instant::now() + grace;
    let drained = proxy.drain(grace).await;
    if drained.cut > 0 {
        tracing::warn!(connections = drained.cut, "cut after the grace time");
    }
    // Nobody follows any more when every source has ended already.
    let _ = stop.send(true);
    // Names are answered for as long as requests end.
    dns.shutdown(until.saturating_duration_since(Instant::now())).await;
    if let Some(admin) = admin {
        admin.stop().await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Asks the process that runs with the same state for its sockets; `None` when there is none.
async fn ask(config: &Config) -> Result<Option<Taken>, Failure> {
    let folder = config.state_dir.clone();
    let taken = spawn_blocking(move || taker::ask(&folder)).await??;
    match &taken {
        Some(taken) => tracing::info!(pid = taken.pid, sockets = taken.sockets.len(), "taking over"),
        None => {
            tracing::info!(state_dir = %config.state_dir.display(), "no process to replace: a plain start")
        }
    }
    Ok(taken)
}

/// Where a process that is to replace this one asks, unless another process is asked there.
fn first_giver(folder: &Path) -> Option<Giver> {
    told(folder, Giver::start(folder))
}

fn told(folder: &Path, giver: std::io::Result<Option<Giver>>) -> Option<Giver> {
    match giver {
        Ok(Some(giver)) => Some(giver),
        Ok(None) => {
            tracing::warn!(state_dir = %folder.display(), "another process runs with this state: --replace asks that one");
            None
        }
        Err(error) => {
            let state_dir = folder.display();
            tracing::warn!(%error, %state_dir, "no process can take over from this one: --replace would start plainly");
            None
        }
    }
}

/// What a signal, or the end of the time before a stop, asks for.
enum Stop {
    Soon,
    Now,
}

/// Waits to be asked to stop; once that has been asked, until the time has come. Whoever asks twice means now.
async fn ask_to_stop(terminate: &mut Signal, interrupt: &mut Signal, stops_at: Option<Instant>) -> Stop {
    let come = async {
        match stops_at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = come => {}
    }
    if stops_at.is_some() { Stop::Now } else { Stop::Soon }
}

/// Leaves the store, and the moves of releases, to the process that takes over.
async fn give_up(store: Option<&Arc<Store>>, releases: &Control) -> Result<(), String> {
    releases.hand_over();
    let Some(store) = store.cloned() else { return Ok(()) };
    let own = store.clone();
    // A write to the disk may be under way. One that never ends must not keep us from signals and reloads.
    if timeout(GIVEN_UP_WITHIN, spawn_blocking(move || own.hand_over())).await.is_err() {
        store.take_back();
        releases.take_back();
        return Err(format!("its store has not answered for {} s", GIVEN_UP_WITHIN.as_secs()));
    }
    Ok(())
}

/// Tells whoever wants to take over that there is nothing left to take. Nobody else may listen there meanwhile: the store is
/// still ours.
async fn refuse_all(mut giver: Option<Giver>) {
    loop {
        if let Event::Asked { pid, reply } = next(&mut giver).await {
            tracing::info!(pid, "a process wants to take over, and we are stopping");
            // One that is gone needs to know nothing.
            let _ = reply.send(Err("it is stopping: start again when it has ended".to_owned()));
        }
    }
}

async fn next(giver: &mut Option<Giver>) -> Event {
    match giver {
        Some(giver) => giver.next().await,
        None => std::future::pending().await,
    }
}

/// The listeners of data plane and DNS, for the status.
fn listeners(proxy: &[Bound], failed: &[Problem], dns: watch::Receiver<Vec<SocketAddr>>) -> Listeners {
    let bound = |kind: &str, address: &SocketAddr| Listener {
        kind: kind.to_owned(),
        address: address.to_string(),
        error: None,
    };
    let mut fixed: Vec<Listener> = proxy.iter().map(|(kind, address)| bound(kind, address)).collect();
    fixed.extend(failed.iter().map(|problem| Listener {
        kind: problem.subject.to_string(),
        address: String::new(),
        error: Some(problem.text.to_string()),
    }));
    Arc::new(move || {
        let mut all = fixed.clone();
        all.extend(dns.borrow().iter().map(|address| bound("dns", address)));
        all
    })
}

/// A listener of the data plane, `http` or `https`, and its address.
type Bound = (&'static str, SocketAddr);

/// The data plane. A defaulted listener that cannot bind is a problem, a configured one is fatal.
fn start_proxy(
    config: &Config,
    table: &Arc<TableHandle>,
    certificates: &Arc<Certificates>,
    trust: &Arc<Trust>,
    adopted: Adopted,
) -> Result<(running::Running, Vec<Bound>, Vec<Problem>), Failure> {
    let Adopted { mut sockets, mut fronts, waits } = adopted;
    let mut start = |http: &[HttpListener]| {
        let listeners: Vec<_> = http.iter().chain(&config.https.items).cloned().collect();
        let kinds: Vec<_> =
            listeners.iter().map(|listener| if listener.tls.is_some() { "https" } else { "http" }).collect();
        let proxy_config = ProxyConfig {
            listeners,
            limits: with_file_limit(&config.limits),
            fronts_proxy_protocol: config.balancers_proxy_protocol,
            adopted: Adopted {
                sockets: std::mem::take(&mut sockets),
                fronts: std::mem::take(&mut fronts),
                waits,
            },
            tls: config.tls.clone(),
            certificates: certificates.clone(),
            trust: trust.clone(),
            threads: config.proxy.threads,
            trusted_proxies: config.proxy.trusted_proxies.clone(),
            node: config.node.name.clone(),
            access_log: config
                .log
                .access
                .then(|| AccessLogConfig { format: config.log.format, to: Box::new(std::io::stdout()) }),
        };
        let running = running::start(proxy_config, table.clone())?;
        let bound = kinds.into_iter().zip(running.addresses.iter().copied()).collect();
        Ok((running, bound))
    };
    let Listen { items, configured } = &config.http;
    match start(items) {
        Ok((running, bound)) => Ok((running, bound, Vec::new())),
        Err(running::StartError::Bind(error)) if !configured && is_of(items, &error) => {
            let problem = listener_failed("http", &error);
            let (running, bound) = start(&[])?;
            Ok((running, bound, vec![problem]))
        }
        Err(error) => Err(error.into()),
    }
}

fn is_of(listeners: &[HttpListener], error: &BindError) -> bool {
    listeners.iter().any(|listener| listener.addr == error.address)
}

/// The limits with as many connections as the process may have, where nobody says how many.
pub(crate) fn with_file_limit(limits: &Limits) -> Limits {
    let mut limits = *limits;
    limits.connections_total = limits.connections_total.or_else(file_limit::connections);
    limits
}

fn start_sources(
    config: &Config,
    inputs: &InputsHandle,
    engines: &Engines,
    registry: &Registry,
    stopped: &watch::Receiver<bool>,
) -> Result<FileHandle, Failure> {
    let node = NodeInfo { name: config.node.name.clone(), zone: config.node.zone.clone() };
    let lag = HistogramOpts::new(
        "fairway_discovery_lag_seconds",
        "From Docker's event to the change of the inputs.",
    )
    .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]);
    let lag = Histogram::with_opts(lag)?;
    registry.register(Box::new(lag.clone()))?;
    let source = FileSource { inputs: inputs.clone(), node: node.clone(), resolver: None };
    let (file, _task) = source.spawn(&config.services, stopped.clone());
    if config.docker.enabled {
        for host in &config.docker.hosts {
            let source = DockerSource {
                host: host.clone(),
                node: node.clone(),
                inputs: inputs.clone(),
                engines: engines.clone(),
                lag: Some(lag.clone()),
                diff_every: DIFF_EVERY,
            };
            source.spawn(stopped.clone());
        }
    }
    Ok(file)
}

/// A listener that nobody asked for and that cannot listen.
fn listener_failed(which: &str, error: &dyn std::error::Error) -> Problem {
    let remedy = format!("free the address, or set {which}.listen to another one");
    Problem::new("listener-failed", Severity::Error, which, error.to_string(), remedy)
}

impl Surroundings {
    fn new(started: Timestamp, bound: Vec<SocketAddr>, tls: Option<Names>) -> Self {
        let local = if_addrs::get_if_addrs().map(|all| all.iter().map(if_addrs::Interface::ip).collect());
        let local = local.unwrap_or_else(|error| {
            tracing::warn!(%error, "the addresses of this machine cannot be listed");
            Vec::new()
        });
        Self { started, bound, tls, local }
    }
}

/// What the DNS follows of the configuration.
pub(crate) type DnsConfig = watch::Sender<Arc<Dns>>;
