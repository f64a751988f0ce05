//! WebSockets as a load: sessions of messages that come back, one after the other on each of a few places.
//!
//! A session has failed if it is refused, a message comes back changed, or it is cut without a close. A close from the
//! instance is an end like ours: it says that it goes away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fairway_testkit::ws::{GOING_AWAY, Opcode, Ws, connect_told};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Messages of one session, and the time between two.
const MESSAGES: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Longest wait for a message to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sessions that run one after the other.
pub(crate) struct Sockets {
    stop: Arc<AtomicBool>,
    places: JoinSet<Ended>,
}

/// What became of them.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) sessions: u64,
    /// Failures by cause.
    pub(crate) by_cause: BTreeMap<String, u64>,
}

impl Sockets {
    /// Starts sessions on `places` places.
    pub(crate) fn start(address: SocketAddr, host: &str, service: &str, places: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for _ in 0..places {
            let (host, service, stop) = (host.to_owned(), service.to_owned(), Arc::clone(&stop));
            set.spawn(async move {
                let mut ended = Ended::default();
                while !stop.load(Ordering::Relaxed) {
                    ended.sessions += 1;
                    if let Err(cause) = session(address, &host, &service).await {
                        *ended.by_cause.entry(cause).or_default() += 1;
                        sleep(PAUSE).await; // what is refused at once must not become a flood
                    }
                }
                ended
            });
        }
        Self { stop, places: set }
    }

    /// Waits for the sessions that run, and counts.
    pub(crate) async fn stop(mut self) -> Ended {
        self.stop.store(true, Ordering::Relaxed);
        let mut whole = Ended::default();
        while let Some(ended) = self.places.join_next().await {
            let ended = ended.expect("a session does not panic");
            whole.sessions += ended.sessions;
            ended.by_cause.into_iter().for_each(|(cause, n)| *whole.by_cause.entry(cause).or_default() += n);
        }
        whole
    }
}

/// One session; `Err` says why it has failed.
async fn session(address: SocketAddr, host: &str, service: &str) -> Result<(), String> {
    let (mut ws, head) = connect_told(address, host, "/ws").await.map_err(|head| {
        let status = head.split(' ').nth(1).unwrap_or("nothing").to_owned();
        format!("status {status}")
    })?;
    if !head.to_ascii_lowercase().contains(&format!("x-service: {service}\r\n")) {
        return Err("wrong service".to_owned());
    }
    for n in 0..MESSAGES {
        sleep(PAUSE).await;
        let message = format!("message {n}");
        // The other side may have closed already: what it said last is still to be read.
        let _ = ws.send(Opcode::Text, message.as_bytes()).await;
        match receive(&mut ws).await? {
            (Opcode::Close, said) if said == GOING_AWAY => return Ok(()),
            (Opcode::Close, _) => return Err("closed by another".to_owned()),
            (Opcode::Text, back) if back == message.as_bytes() => {}
            _ => return Err("another message".to_owned()),
        }
    }
    let _ = ws.send(Opcode::Close, &[]).await;
    match receive(&mut ws).await? {
        (Opcode::Close, _) => Ok(()),
        _ => Err("another message".to_owned()),
    }
}

async fn receive(ws: &mut Ws<TcpStream>) -> Result<(Opcode, Vec<u8>), String> {
    match timeout(PATIENCE, ws.receive()).await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err("cut in the session".to_owned()),
        Err(_) => Err("timeout".to_owned()),
    }
}
