//! Opening a listener: a UDP and a TCP socket on one address.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::adopt::ListenerSockets;
use fairway_datagrams::tell_destination;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 256;
/// Room for requests that arrive while others are answered, in octets; the kernel may grant less.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Ports tried when the system is to choose one that is free for both.
const TRIES: usize = 16;

/// The two sockets of a listener, not blocking.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) sockets: ListenerSockets,
    /// As bound: the port is never 0.
    pub(crate) address: SocketAddr,
}

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot answer DNS on {address} ({protocol}): {source}; {}", self.remedy())]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// `UDP` or `TCP`.
    pub protocol: &'static str,
    source: io::Error,
}

impl BindError {
    /// Why, as the system says it.
    pub fn cause(&self) -> &io::Error {
        &self.source
    }

    /// What to do.
    pub fn remedy(&self) -> String {
        let port = self.address.port();
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "stop what has the port (`ss -lnptu 'sport = :{port}'` shows it), or set another `dns.listen`"
                )
            }
            io::ErrorKind::PermissionDenied => {
                "start as root or with CAP_NET_BIND_SERVICE, or set `dns.listen` to a port above 1023"
                    .to_owned()
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("set `dns.listen` to an address of this machine: {} is none", self.address.ip())
            }
            _ => "correct `dns.listen`".to_owned(),
        }
    }
}

/// Opens both sockets. `only_v6`: an IPv6 wildcard leaves IPv4 to another listener.
pub(crate) fn bind(address: SocketAddr, only_v6: bool) -> Result<Sockets, BindError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let udp = udp(address, only_v6).map_err(|source| BindError { address, protocol: "UDP", source })?;
        let bound = udp.local_addr().map_err(|source| BindError { address, protocol: "UDP", source })?;
        match tcp(bound, only_v6) {
            Ok(tcp) => {
                let sockets = ListenerSockets { configured: address, udp, tcp };
                return Ok(Sockets { sockets, address: bound });
            }
            Err(error)
                if address.port() == 0 && error.kind() == io::ErrorKind::AddrInUse && tries < TRIES => {}
            Err(source) => return Err(BindError { address, protocol: "TCP", source }),
        }
    }
}

/// The sockets of another process for this listener, else new ones.
pub(crate) fn adopt_or_bind(
    address: SocketAddr,
    only_v6: bool,
    adopted: &mut Vec<ListenerSockets>,
) -> Result<Sockets, BindError> {
    let Some(at) = adopted.iter().position(|sockets| sockets.configured == address) else {
        return bind(address, only_v6);
    };
    let sockets = adopted.swap_remove(at);
    let bound = sockets.udp.local_addr().map_err(|source| BindError { address, protocol: "UDP", source })?;
    Ok(Sockets { sockets, address: bound })
}

fn udp(address: SocketAddr, only_v6: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // No SO_REUSEADDR: with UDP it would let a second process share the port and take the requests.
    socket.set_nonblocking(true)?;
    let _best_effort = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if address.ip().is_unspecified() {
        tell_destination(&socket, address.ip())?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn tcp(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // So that a restart does not wait for the old connections' last packets.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
