//! The running process's side: listens for one that wants to take over, hands the sockets out, waits for its word.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::geteuid;
use tokio::sync::{mpsc, oneshot};

use super::channel::{Channel, DESCRIPTORS_MAX, Listener};
use super::{Message, READY, Socket, VERSION, WORD, socket_path};

/// What a process that wants to take over makes of us.
#[derive(Debug)]
pub(crate) enum Event {
    /// It asks for everything: the sockets, or why there are none. The store is to be given up first.
    Asked { pid: u32, reply: oneshot::Sender<Result<Vec<Socket>, String>> },
    /// It came to nothing: we go on as before.
    Failed { pid: u32, why: String },
    /// It accepts: we are to stop.
    Opened { pid: u32 },
}

/// Listens for processes that want to take over, as long as this process lives.
#[derive(Debug)]
pub(crate) struct Giver {
    events: mpsc::UnboundedReceiver<Event>,
    path: PathBuf,
    inode: u64,
}

impl Giver {
    /// Listens in this state folder. `None`: another process does.
    pub(crate) fn start(state_dir: &Path) -> io::Result<Option<Self>> {
        let path = socket_path(state_dir);
        match Channel::connect(&path) {
            Ok(_) => return Ok(None),
            // Left by a process that is gone.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Self::listen(Listener::bind(&path)?, path).map(Some)
    }

    /// Listens in this state folder instead of the process that is taken over from.
    pub(crate) fn instead(state_dir: &Path) -> io::Result<Self> {
        let path = socket_path(state_dir);
        let own = path.with_extension(std::process::id().to_string());
        if let Err(error) = std::fs::remove_file(&own)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let listener = Listener::bind(&own)?;
        // In one step, so that there is always somebody to ask.
        std::fs::rename(&own, &path)?;
        Self::listen(listener, path)
    }

    fn listen(listener: Listener, path: PathBuf) -> io::Result<Self> {
        let inode = std::fs::metadata(&path)?.ino();
        let (sender, events) = mpsc::unbounded_channel();
        let taker = Arc::new(AtomicU32::new(0));
        std::thread::Builder::new().name("takeover".to_owned()).spawn(move || {
            loop {
                match listener.accept() {
                    Ok(channel) => {
                        let (sender, taker) = (sender.clone(), taker.clone());
                        let conversation = move || converse(&channel, &sender, &taker);
                        // Without a thread the other side sees the end of the connection, and tells that.
                        let _ = std::thread::Builder::new().name("takeover".to_owned()).spawn(conversation);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no process can ask to take over for the moment");
                        // Out of files, as a rule: what frees some cannot be awaited, and the socket stays readable.
                        std::thread::sleep(WORD / 10);
                    }
                }
            }
        })?;
        Ok(Self { events, path, inode })
    }

    /// The next thing that happens.
    pub(crate) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // The thread ends with the process only.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        if std::fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Talks with one process.
fn converse(channel: &Channel, events: &mpsc::UnboundedSender<Event>, taker: &AtomicU32) {
    let Ok((uid, pid)) = channel.peer() else { return };
    let own = geteuid().as_raw();
    if uid != own && uid != 0 {
        tracing::warn!(pid, uid, "a process of another user asked to take over");
        let why = format!("user {uid} may not take over from user {own}");
        return drop(channel.send(&Message::Refused { why }));
    }
    match channel.receive(WORD) {
        Ok((Message::Hello { version: VERSION, .. }, _)) => {}
        Ok((Message::Hello { version, .. }, _)) => {
            let why = format!("it speaks version {version} of the handover, the running process {VERSION}");
            return drop(channel.send(&Message::Refused { why }));
        }
        // Somebody who only looks whether we are there.
        Ok(_) | Err(_) => return,
    }
    if let Err(other) = taker.compare_exchange(0, pid.max(1), Ordering::AcqRel, Ordering::Acquire) {
        let why = format!("process {other} is taking over already");
        return drop(channel.send(&Message::Refused { why }));
    }
    let _place = Place(taker);
    // The main task outlives this thread but for the end of the process.
    let tell = |event| drop(events.send(event));
    match hand_over(channel, pid, &tell) {
        Ok(()) => tell(Event::Opened { pid }),
        Err(why) => tell(Event::Failed { pid, why }),
    }
}

/// The one who takes over, for as long as it tries.
struct Place<'a>(&'a AtomicU32);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

fn hand_over(channel: &Channel, pid: u32, tell: &impl Fn(Event)) -> Result<(), String> {
    let (reply, answer) = oneshot::channel();
    tell(Event::Asked { pid, reply });
    let sockets = answer.blocking_recv().map_err(|_| "the running process is ending".to_owned());
    let sockets = sockets.and_then(|sockets| sockets).inspect_err(|why| {
        let _ = channel.send(&Message::Refused { why: why.clone() });
    })?;
    send_all(channel, &sockets).map_err(|error| format!("the sockets could not be sent: {error}"))?;
    drop(sockets);
    let expect = |word: Message, patience| match channel.receive(patience) {
        Ok((said, _)) if said == word => Ok(()),
        Ok(_) => Err("it says something that is not expected".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err("it has ended".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let why = format!("it was not ready within {} s", patience.as_secs());
            let _ = channel.send(&Message::Refused { why: why.clone() });
            Err(why)
        }
        Err(error) => Err(error.to_string()),
    };
    expect(Message::Ready, READY)?;
    channel.send(&Message::Yours).map_err(|error| error.to_string())?;
    expect(Message::Open, WORD)
}

fn send_all(channel: &Channel, sockets: &[Socket]) -> io::Result<()> {
    let mut batches = sockets.chunks(DESCRIPTORS_MAX).peekable();
    loop {
        let batch = batches.next().unwrap_or_default();
        let more = batches.peek().is_some();
        let named = batch.iter().map(|socket| (socket.kind, socket.configured.clone())).collect();
        let descriptors: Vec<_> = batch.iter().map(|socket| &socket.descriptor).collect();
        channel.send_with(&Message::Sockets { sockets: named, more }, &descriptors)?;
        if !more {
            return Ok(());
        }
    }
}
