//! The new process's side: asks the running one for its sockets, and tells it when they are served.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;

use fairway_admin::ListeningSocket;
use fairway_config::file::AdminListen;
use fairway_dns::ListenerSockets;
use fairway_proxy::FrontSocket;

use super::channel::Channel;
use super::{Kind, Message, Socket, VERSION, WORD, socket_path};

/// Why nothing is taken over. The running process goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeoverError {
    /// It says no, with its words.
    #[error("the running process hands nothing over: {0}")]
    Refused(String),
    /// It may not be asked, or the connection breaks.
    #[error(
        "the running process cannot be asked to hand over ({at}): {source}; stop it and start without --replace"
    )]
    Failed {
        /// The socket in its state folder.
        at: String,
        source: io::Error,
    },
}

/// Everything that the running process listens on, and the way to tell it that we are ready.
#[derive(Debug)]
pub(crate) struct Taken {
    channel: Channel,
    at: String,
    /// The process.
    pub(crate) pid: u32,
    /// Its sockets, until a part takes them.
    pub(crate) sockets: Vec<Socket>,
}

/// Asks the process that runs with this state folder. `None`: there is none.
pub(crate) fn ask(state_dir: &Path) -> Result<Option<Taken>, TakeoverError> {
    let path = socket_path(state_dir);
    let at = path.display().to_string();
    let failed = |source| TakeoverError::Failed { at: at.clone(), source };
    let channel = match Channel::connect(&path) {
        Ok(channel) => channel,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let (_, pid) = channel.peer().map_err(failed)?;
    channel.send(&Message::Hello { version: VERSION, pid: std::process::id() }).map_err(failed)?;
    let mut sockets = Vec::new();
    loop {
        let (message, descriptors) = channel.receive(WORD).map_err(failed)?;
        let more = match message {
            Message::Sockets { sockets: named, more } if named.len() == descriptors.len() => {
                let batch = named.into_iter().zip(descriptors);
                sockets.extend(batch.map(|((kind, configured), descriptor)| Socket {
                    kind,
                    configured,
                    descriptor,
                }));
                more
            }
            Message::Refused { why } => return Err(TakeoverError::Refused(why)),
            _ => return Err(failed(io::Error::other("it says something that is not expected"))),
        };
        if !more {
            return Ok(Some(Taken { channel, at, pid, sockets }));
        }
    }
}

impl Taken {
    /// The sockets of the data plane, each with its address as configured.
    pub(crate) fn http(&mut self) -> Vec<(SocketAddr, TcpListener)> {
        let http = self.take(|socket| socket.kind == Kind::Http);
        http.into_iter()
            .filter_map(|(address, socket)| Some((address.parse().ok()?, socket.into())))
            .collect()
    }

    /// Those of front ports.
    pub(crate) fn fronts(&mut self) -> Vec<FrontSocket> {
        let tcp = self.take(|socket| socket.kind == Kind::FrontTcp);
        let udp = self.take(|socket| socket.kind == Kind::FrontUdp);
        let tcp = tcp.into_iter().map(|(_, socket)| FrontSocket::Tcp(socket.into()));
        tcp.chain(udp.into_iter().map(|(_, socket)| FrontSocket::Udp(socket.into()))).collect()
    }

    /// Those of the DNS.
    pub(crate) fn dns(&mut self) -> Vec<ListenerSockets> {
        let dns = self.take(|socket| matches!(socket.kind, Kind::DnsUdp | Kind::DnsTcp));
        let mut listeners = Vec::new();
        let mut dns = dns.into_iter();
        // A UDP socket and its TCP socket come one behind the other.
        while let (Some((address, udp)), Some((_, tcp))) = (dns.next(), dns.next()) {
            if let Ok(configured) = address.parse() {
                listeners.push(ListenerSockets { configured, udp: UdpSocket::from(udp), tcp: tcp.into() });
            }
        }
        listeners
    }

    /// That of the admin API.
    pub(crate) fn admin(&mut self) -> Option<(AdminListen, ListeningSocket)> {
        let (configured, socket) = self.take(|socket| socket.kind == Kind::Admin).pop()?;
        Some(match configured.strip_prefix("unix:") {
            Some(path) => (AdminListen::Unix(path.into()), ListeningSocket::Unix(socket.into())),
            None => (AdminListen::Tcp(configured.parse().ok()?), ListeningSocket::Tcp(socket.into())),
        })
    }

    fn take(&mut self, which: impl Fn(&Socket) -> bool) -> Vec<(String, OwnedFd)> {
        let taken = self.sockets.extract_if(.., |socket| which(socket));
        taken.map(|socket| (socket.configured, socket.descriptor)).collect()
    }

    /// Tells the running process that we could serve, and waits until it leaves the sockets to us. One that has ended
    /// meanwhile has left them, too. Blocks.
    pub(crate) fn claim(self) -> Result<Claimed, TakeoverError> {
        let Self { channel, at, .. } = self;
        let gone = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            )
        };
        // What it has to say it may have said before it went.
        let sent = channel.send(&Message::Ready);
        match channel.receive(WORD) {
            Ok((Message::Yours, _)) => Ok(Claimed(Some(channel))),
            Ok((Message::Refused { why }, _)) => Err(TakeoverError::Refused(why)),
            Err(error) if gone(&error) => Ok(Claimed(None)),
            Ok(_) => Err(TakeoverError::Failed { at, source: io::Error::other("it says something else") }),
            Err(source) => Err(TakeoverError::Failed { at, source: sent.err().unwrap_or(source) }),
        }
    }
}

/// The sockets are ours as soon as we say so.
#[derive(Debug)]
pub(crate) struct Claimed(Option<Channel>);

impl Claimed {
    /// We accept: the other process stops.
    pub(crate) fn opened(self) {
        if let Some(channel) = self.0 {
            // One that is gone needs to know nothing.
            let _ = channel.send(&Message::Open);
        }
    }
}
