//! The server behind the proxies: one thread, answers kept ready. Cheap, so that a fast proxy is not made to wait for it.
//!
//! `/1k`, `/64k` and `/1m` give so many octets, anything else none. Bodies of requests are not expected.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Where it listens: two instances to the proxies.
pub(crate) const ADDRESSES: [SocketAddr; 2] = [
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 1), 9001)),
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 9001)),
];

/// A proxy sends no larger head here.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Serves until it is killed.
pub(crate) fn serve() -> io::Result<()> {
    let listeners = ADDRESSES.map(TcpListener::bind).into_iter().collect::<io::Result<Vec<_>>>()?;
    let mut origin = Origin::new(epoll::create(CreateFlags::CLOEXEC)?, listeners)?;
    let mut events = Vec::with_capacity(512);
    loop {
        events.clear();
        match epoll::wait(&origin.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            origin.on(event.data.u64() as usize, event.flags)?;
        }
    }
}

struct Origin {
    epoll: rustix::fd::OwnedFd,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    answers: Answers,
    scratch: Vec<u8>,
}

impl Origin {
    fn new(epoll: rustix::fd::OwnedFd, listeners: Vec<TcpListener>) -> io::Result<Self> {
        for (number, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true)?;
            epoll::add(&epoll, listener, EventData::new_u64(number as u64), EventFlags::IN)?;
        }
        let (connections, free) = (Vec::new(), Vec::new());
        Ok(Self { epoll, listeners, connections, free, answers: Answers::new(), scratch: vec![0; 64 * 1024] })
    }

    /// Listeners have the first numbers, connections those behind.
    fn on(&mut self, number: usize, flags: EventFlags) -> io::Result<()> {
        let Some(slot) = number.checked_sub(self.listeners.len()) else { return self.accept(number) };
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return Ok(()) };
        if !connection.go_on(flags, &self.answers, &mut self.scratch) {
            self.connections[slot] = None; // closing it takes it out of the epoll set
            self.free.push(slot);
        }
        Ok(())
    }

    fn accept(&mut self, number: usize) -> io::Result<()> {
        loop {
            let stream = match self.listeners[number].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or(self.connections.len());
            let data = EventData::new_u64((slot + self.listeners.len()) as u64);
            // Once and for all, edge by edge: no further call per request.
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &stream, data, flags)?;
            let connection = Some(Connection { stream, unread: Vec::new(), going_out: None });
            match self.connections.get_mut(slot) {
                Some(empty) => *empty = connection,
                None => self.connections.push(connection),
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Octets of a request that is not whole, or of those that wait behind the one being answered.
    unread: Vec<u8>,
    /// The answer that is on its way, and how much of it has gone.
    going_out: Option<(usize, usize)>,
}

impl Connection {
    /// Writes and reads as far as that goes. False when it is over.
    fn go_on(&mut self, flags: EventFlags, answers: &Answers, scratch: &mut [u8]) -> bool {
        // A short read has emptied the socket, unless the end of the connection is in it, too.
        let ends = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let mut readable = ends || flags.contains(EventFlags::IN);
        loop {
            match self.write(answers) {
                Ok(true) => {}
                Ok(false) => return true,
                Err(_) => return false,
            }
            if let Some(end) = end_of_head(&self.unread) {
                self.going_out = Some((answers.of(&self.unread), 0));
                self.unread.drain(..end);
                continue;
            }
            if !readable {
                return true;
            }
            let count = match self.stream.read(scratch) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            readable = ends || count == scratch.len();
            let new = &scratch[..count];
            // Mostly one whole request: answered from where it lies.
            if self.unread.is_empty() && end_of_head(new) == Some(count) {
                self.going_out = Some((answers.of(new), 0));
            } else {
                self.unread.extend_from_slice(new);
                if self.unread.len() > HEAD_BYTES_MAX && end_of_head(&self.unread).is_none() {
                    return false;
                }
            }
        }
    }

    /// Whether nothing is left to write.
    fn write(&mut self, answers: &Answers) -> io::Result<bool> {
        while let Some((which, gone)) = self.going_out {
            let rest = &answers.0[which][gone..];
            if rest.is_empty() {
                self.going_out = None;
                break;
            }
            match self.stream.write(rest) {
                Ok(count) => self.going_out = Some((which, gone + count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn end_of_head(octets: &[u8]) -> Option<usize> {
    octets.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Whole answers, heads included.
struct Answers([Vec<u8>; 4]);

impl Answers {
    fn new() -> Self {
        Self([0, 1024, 64 * 1024, 1024 * 1024].map(|octets| {
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
                 Cache-Control: max-age=60\r\nETag: \"{octets}\"\r\nContent-Length: {octets}\r\n\r\n"
            )
            .into_bytes();
            answer.resize(answer.len() + octets, b'x');
            answer
        }))
    }

    /// The one for this request.
    fn of(&self, head: &[u8]) -> usize {
        let path = head.iter().position(|octet| *octet == b' ').map_or(&[][..], |at| &head[at + 1..]);
        match path {
            [b'/', b'1', b'k', ..] => 1,
            [b'/', b'6', b'4', b'k', ..] => 2,
            [b'/', b'1', b'm', ..] => 3,
            _ => 0,
        }
    }
}
