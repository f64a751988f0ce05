//! Sockets that accept connections: one per worker on the same address, so that the kernel spreads connections.
//!
//! Not here: what is done with a connection (see `downstream`).

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// Room for datagrams that arrive while others are passed on, in octets.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Why a listener cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {text}; {remedy}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// The system's error, if it is one.
    pub source: Option<io::Error>,
}

/// Binds `sockets` sockets to one address; port 0 becomes one port for all of them, which is told with them.
pub fn bind(address: SocketAddr, sockets: usize) -> Result<(SocketAddr, Vec<TcpListener>), BindError> {
    let failed = |error| explain(address, error);
    if address.port() != 0 {
        // SO_REUSEPORT would let a second process of the same user take half of our connections in silence.
        alone(address).map_err(failed)?;
    }
    let first = open(address).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?;
    let mut all = vec![first];
    for _ in 1..sockets {
        all.push(open(bound).map_err(failed)?);
    }
    Ok((bound, all))
}

/// Binds `sockets` sockets for datagrams to one address, of a port that is not 0.
pub(crate) fn bind_udp(address: SocketAddr, sockets: usize) -> Result<Vec<UdpSocket>, BindError> {
    let failed = |error| explain_for(address, error, Type::DGRAM);
    // As above: without the option nobody else may have the port.
    datagram_socket(address).and_then(|socket| socket.bind(&address.into())).map_err(failed)?;
    (0..sockets).map(|_| open_udp(address).map_err(failed)).collect()
}

fn open_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = datagram_socket(address)?;
    socket.set_reuse_port(true)?;
    // As much as the kernel grants.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if address.ip().is_unspecified() {
        fairway_datagrams::tell_destination(&socket, address.ip())?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn datagram_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Why a socket of another process cannot be served on.
pub(crate) fn cannot_adopt(address: SocketAddr, error: io::Error) -> BindError {
    explain(address, error)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails when anybody listens there already.
fn alone(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections of an earlier run that linger must not keep us from the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn explain(address: SocketAddr, error: io::Error) -> BindError {
    explain_for(address, error, Type::STREAM)
}

fn explain_for(address: SocketAddr, error: io::Error, kind: Type) -> BindError {
    let (text, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let by = holder(address.port(), kind).map_or_else(String::new, |who| format!(" by {who}"));
            (
                format!("the address is in use{by}"),
                "stop what listens there, or listen on another port".to_owned(),
            )
        }
        io::ErrorKind::PermissionDenied => (
            format!("this user may not listen on port {}", address.port()),
            "run as root, grant CAP_NET_BIND_SERVICE, or listen on a port from 1024".to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{} is not an address of this machine", address.ip()),
            "listen on 0.0.0.0, or on one of the addresses that `ip addr` shows".to_owned(),
        ),
        _ => (error.to_string(), "check the address".to_owned()),
    };
    BindError { address, text, remedy, source: Some(error) }
}

/// The program that listens on this port, as far as /proc lets us see it: another user's processes are hidden.
fn holder(port: u16, kind: Type) -> Option<String> {
    // TCP_LISTEN and TCP_CLOSE, the state of a UDP socket that is not connected.
    let (tables, state) = match kind {
        Type::DGRAM => (["/proc/net/udp", "/proc/net/udp6"], "07"),
        _ => (["/proc/net/tcp", "/proc/net/tcp6"], "0A"),
    };
    let inodes: Vec<String> = tables.iter().flat_map(|table| with_port(table, port, state)).collect();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut who = None;
    for process in processes {
        let path = process.path();
        let is_holder =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok())
                && has_one_of(&path.join("fd"), &inodes);
        if is_holder {
            let pid = process.file_name();
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            let mut text = String::new();
            // Writing to a String does not fail.
            let _ = write!(text, "{} (pid {})", name.trim().escape_default(), pid.to_string_lossy());
            who = Some(text);
            break;
        }
    }
    who
}

/// The inodes of sockets with this port and state, from a table of /proc/net.
fn with_port(table: &str, port: u16, wanted: &str) -> Vec<String> {
    let text = std::fs::read_to_string(table).unwrap_or_default();
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let (_, hex) = local.rsplit_once(':')?;
        (*state == wanted && u16::from_str_radix(hex, 16) == Ok(port)).then(|| format!("socket:[{inode}]"))
    };
    text.lines().skip(1).filter_map(inode).collect()
}

fn has_one_of(descriptors: &Path, inodes: &[String]) -> bool {
    let Ok(entries) = std::fs::read_dir(descriptors) else { return false };
    let mut targets = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.any(|target| target.to_str().is_some_and(|target| inodes.iter().any(|inode| inode == target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sockets_of_port_0_share_one_port() {
        let (address, sockets) = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 3).expect("a free port");
        assert_ne!(address.port(), 0);
        for socket in sockets {
            assert_eq!(socket.local_addr().expect("an address"), address);
        }
    }

    #[test]
    fn a_port_in_use_is_refused_even_if_its_holder_would_share_it_and_the_holder_is_named() {
        let (address, _sockets) = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).expect("a free port");
        let error = bind(address, 1).expect_err("it is taken");
        let text = error.to_string();
        assert!(text.contains("in use by") && text.contains(&std::process::id().to_string()), "{text}");
    }

    #[test]
    fn an_address_of_another_machine_is_told_as_such() {
        let error = bind(SocketAddr::from(([192, 0, 2, 1], 18080)), 1).expect_err("it is not ours");
        assert!(error.to_string().contains("not an address of this machine"), "{error}");
    }
}
