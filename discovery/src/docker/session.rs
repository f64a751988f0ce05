//! One connection to an engine: subscribe, then list, then keep the book right (design rule 5).

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::facts::Network;
use fairway_config::file::{DockerEndpoint, DockerHost};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::time::Instant;

use super::DockerSource;
use super::book::{Ask, Book, Inspected, Listed};
use super::client::{Client, Hello};
use super::container::{Container, Namespace, Phase};
use super::event::Event;
use super::failure::EngineError;
use super::local;
use super::publish::Publisher;
use super::pump::{Pump, Pumped};
use super::unit::Place;

/// Inspects that are out at the same time.
const INSPECTS_MAX: usize = 16;
/// Events or answers handled before what they changed is told.
const BATCH: usize = 256;
/// Longest wait for the name of a remote engine.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The engine is lost.
    Lost(EngineError),
    /// Things changed of which the stream told nothing: it is to be opened anew.
    Deaf,
}

/// An answer of the engine.
enum Answer {
    Inspected(Arc<str>, Result<Inspected, EngineError>),
    Networks(Result<Vec<Network>, EngineError>),
    Listed { asked: u64, thorough: bool, list: Result<Vec<Listed>, EngineError> },
}

/// One connection.
pub(super) struct Session<'a> {
    client: Client,
    hello: Hello,
    host: &'a DockerHost,
    diff_every: Duration,
    book: &'a mut Book,
    publisher: &'a mut Publisher,
    pump: Pump,
    /// Whether the engine's bridges are this machine's.
    is_local: bool,
    /// Inspects that wait for a place.
    queue: VecDeque<Arc<str>>,
    inspecting: usize,
    later: Vec<(Instant, Arc<str>)>,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    is_listing: bool,
    /// When to list next, and whether thoroughly.
    next_list: (Instant, bool),
    /// Whether the first list is in.
    is_listed: bool,
    events_since_list: u64,
    settled: Vec<Timestamp>,
    changed: bool,
}

impl<'a> Session<'a> {
    /// Subscribes, finds out where we are, and asks for the first list.
    pub(super) async fn open(
        client: Client,
        hello: Hello,
        source: &'a DockerSource,
        mut place: Place,
        book: &'a mut Book,
        publisher: &'a mut Publisher,
    ) -> Result<Self, EngineError> {
        let host = &source.host;
        // From the engine's own time on, so that nothing between now and the subscription is missed.
        let pump = Pump::start(client.events(hello.time));
        let addresses = local::addresses();
        let remote = remote_address(host).await;
        let is_local = match (&host.endpoint, remote) {
            (DockerEndpoint::Unix(_), _) => true,
            (DockerEndpoint::Tcp(_), Some(ip)) => ip.is_loopback() || addresses.contains(&ip),
            (DockerEndpoint::Tcp(_), None) => false,
        };
        if !is_local {
            place.address = remote;
            place.node = hello.node.clone().unwrap_or(place.node);
        }
        let own = own_container(&client, &addresses).await?;
        book.connected(place, own);
        if let Some(time) = hello.time {
            book.heard(&client.past_signals(time).await?, time, Timestamp::now());
        }
        Ok(Self {
            client,
            hello,
            host,
            diff_every: source.diff_every,
            book,
            publisher,
            pump,
            is_local,
            queue: VecDeque::new(),
            inspecting: 0,
            later: Vec::new(),
            answers: FuturesUnordered::new(),
            is_listing: false,
            next_list: (Instant::now(), true),
            is_listed: false,
            events_since_list: 0,
            settled: Vec::new(),
            changed: false,
        })
    }

    /// Goes on until the engine is lost. May be dropped at any time.
    pub(super) async fn run(mut self) -> Ended {
        loop {
            self.ask();
            self.tell();
            let wake = self
                .later
                .iter()
                .map(|(at, _)| *at)
                .chain((!self.is_listing).then_some(self.next_list.0))
                .min();
            let wake = wake.unwrap_or_else(|| Instant::now() + self.diff_every);
            tokio::select! {
                biased;
                pumped = self.pump.next() => match pumped {
                    Pumped::Event(event) => self.take_events(event),
                    Pumped::Ended(error) => return Ended::Lost(self.stream_ended(error)),
                },
                Some(answer) = self.answers.next() => {
                    if let Err(ended) = self.take_answers(answer) {
                        return ended;
                    }
                }
                () = tokio::time::sleep_until(wake) => self.look_again(),
            }
        }
    }

    fn take_events(&mut self, first: Event) {
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(event) = next else { break };
            self.events_since_list += 1;
            self.book.event(&event, Timestamp::now());
            next = self.pump.try_next();
        }
        if let Some(event) = next {
            self.book.event(&event, Timestamp::now());
        }
        if self.pump.take_overflow() {
            tracing::warn!(engine = %self.host.url, "more events than could be queued; listing everything anew");
            self.next_list = (Instant::now(), true);
        }
    }

    fn take_answers(&mut self, first: Answer) -> Result<(), Ended> {
        self.take_answer(first)?;
        for _ in 0..BATCH {
            let Some(Some(answer)) = self.answers.next().now_or_never() else { break };
            self.take_answer(answer)?;
        }
        Ok(())
    }

    fn take_answer(&mut self, answer: Answer) -> Result<(), Ended> {
        match answer {
            Answer::Inspected(id, answer) => {
                self.inspecting -= 1;
                self.book.inspected(&id, answer.map_err(Ended::Lost)?);
            }
            Answer::Networks(networks) => {
                match networks {
                    // A filter in front of the engine may hide them; addresses can do without.
                    Err(error @ EngineError::Status { status: 400..=499, .. }) => {
                        self.book.networks_hidden(&error.to_string());
                    }
                    networks => self.book.networks_listed(networks.map_err(Ended::Lost)?),
                }
                self.find_node_address();
            }
            Answer::Listed { asked, thorough, list } => {
                self.is_listing = false;
                let differed = self.book.listed(asked, &list.map_err(Ended::Lost)?, thorough);
                if differed && !thorough && self.events_since_list == 0 {
                    return Err(Ended::Deaf);
                }
                // An overflow since the list was asked for has set an earlier time.
                if self.next_list.0 > Instant::now() || !self.next_list.1 {
                    self.next_list = (Instant::now() + self.diff_every, false);
                }
                self.is_listed = true;
                self.events_since_list = 0;
            }
        }
        Ok(())
    }

    /// Asks again what is due.
    fn look_again(&mut self) {
        let now = Instant::now();
        let due: Vec<Arc<str>> = self.later.extract_if(.., |(at, _)| *at <= now).map(|(_, id)| id).collect();
        due.iter().for_each(|id| self.book.look_again(id));
    }

    /// Sends the book's questions, as many as may be out.
    fn ask(&mut self) {
        let now = Instant::now();
        let changes = self.book.take_changes();
        self.changed |= changes.changed;
        self.settled.extend(changes.settled);
        for ask in changes.asks {
            match ask {
                Ask::Inspect { id, urgent: true } => self.queue.push_front(id),
                Ask::Inspect { id, urgent: false } => self.queue.push_back(id),
                Ask::InspectLater(id, delay) => self.later.push((now + delay, id)),
                Ask::Networks => self.ask_networks(),
            }
        }
        while self.inspecting < INSPECTS_MAX {
            let Some(id) = self.queue.pop_front() else { break };
            self.inspecting += 1;
            let client = self.client.clone();
            self.answers.push(
                async move {
                    let answer = client.inspect(&id).await;
                    Answer::Inspected(id, answer)
                }
                .boxed(),
            );
        }
        if !self.is_listing && self.next_list.0 <= now {
            self.ask_list();
        }
    }

    fn ask_list(&mut self) {
        self.is_listing = true;
        let thorough = self.next_list.1;
        self.next_list = (Instant::now() + self.diff_every, false);
        let asked = self.book.now();
        let client = self.client.clone();
        self.answers
            .push(async move { Answer::Listed { asked, thorough, list: client.list().await } }.boxed());
    }

    fn ask_networks(&mut self) {
        let client = self.client.clone();
        let is_local = self.is_local;
        self.answers.push(
            async move {
                let local = if is_local { local::addresses() } else { BTreeSet::new() };
                Answer::Networks(client.networks(&local).await)
            }
            .boxed(),
        );
    }

    /// Tells what has changed. Before everything of the first list is known nothing is told: a part of it could give a
    /// route to the wrong project.
    fn tell(&mut self) {
        let was_found = self.publisher.is_found();
        if !was_found && self.is_listed && self.book.is_settled() {
            self.publisher.tell(self.book, Some(&self.hello.peer), &self.settled);
            self.changed = false;
            let containers = self.book.units().len();
            tracing::info!(engine = %self.host.url, peer = %self.hello.peer, containers, "engine listed");
        } else if self.changed && self.publisher.is_listed() {
            self.publisher.tell(self.book, None, &self.settled);
            self.changed = false;
        }
        self.settled.clear();
    }

    fn find_node_address(&mut self) {
        if !self.is_local {
            return;
        }
        let address = if self.book.runs_in_container() {
            self.book.shared_gateway()
        } else {
            local::node_address(&local::addresses(), &self.book.gateways())
        };
        self.book.set_node_address(address);
    }

    fn stream_ended(&self, error: Option<bollard::errors::Error>) -> EngineError {
        let Some(error) = error else { return EngineError::StreamEnded(String::new()) };
        match self.client.explain("/events", &error) {
            EngineError::Broken { why, .. } | EngineError::Unreachable { why, .. } => {
                EngineError::StreamEnded(format!(": {why}"))
            }
            other => other,
        }
    }
}

/// The address behind the name of an engine that is reached over TCP, IPv4 before IPv6.
async fn remote_address(host: &DockerHost) -> Option<IpAddr> {
    let DockerEndpoint::Tcp(address) = &host.endpoint else { return None };
    let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(&**address));
    let found: BTreeSet<IpAddr> = lookup.await.ok()?.ok()?.map(|addr| addr.ip()).collect();
    found.into_iter().next()
}

/// The container of this engine that we run in: one that our own mounts, control group or host name tell, and one of
/// whose addresses is ours. In a container with the host's network we are as good as on the host.
async fn own_container(
    client: &Client,
    addresses: &BTreeSet<IpAddr>,
) -> Result<Option<Container>, EngineError> {
    for candidate in local::own_container_candidates() {
        let mut reference: Arc<str> = candidate.into();
        for _ in 0..2 {
            let Inspected::Found(container) = client.inspect(&reference).await? else { break };
            if let Namespace::Container(of) = &container.namespace {
                reference = of.clone();
                continue;
            }
            let is_ours =
                container.attachments.iter().any(|at| at.ip.is_some_and(|ip| addresses.contains(&ip)));
            if is_ours && container.phase == Phase::Running {
                return Ok(Some(*container));
            }
            break;
        }
    }
    Ok(None)
}
