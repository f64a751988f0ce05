//! The connection between two processes: whole messages, with descriptors beside them.
//!
//! Blocking, with a time limit for each message: it is used on threads of its own.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};

use super::{Message, WORD};

/// Descriptors in one message; the kernel takes 253.
pub(super) const DESCRIPTORS_MAX: usize = 32;

/// Octets of one message: so many names of sockets are far less.
const OCTETS_MAX: usize = 16 * 1024;

/// One side's end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// Where others connect.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

fn new_socket() -> io::Result<OwnedFd> {
    // Messages keep their borders, so that descriptors cannot be taken for those of another.
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

impl Listener {
    /// Listens at this path, for our own user alone.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let socket = new_socket()?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        // Before anybody can connect.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listen(&socket, 4)?;
        Ok(Self(socket))
    }

    /// The next process that connects.
    pub(super) fn accept(&self) -> io::Result<Channel> {
        Ok(Channel(accept_with(&self.0, SocketFlags::CLOEXEC)?))
    }
}

impl Channel {
    /// To the process that listens at this path.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = new_socket()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// The user and the process at the other end.
    pub(super) fn peer(&self) -> io::Result<(u32, u32)> {
        let peer = socket_peercred(&self.0)?;
        Ok((peer.uid.as_raw(), u32::try_from(peer.pid.as_raw_pid()).unwrap_or(0)))
    }

    pub(super) fn send(&self, message: &Message) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// Sends a message with at most [`DESCRIPTORS_MAX`] descriptors.
    pub(super) fn send_with(&self, message: &Message, descriptors: &[&OwnedFd]) -> io::Result<()> {
        let text = serde_json::to_vec(message).map_err(io::Error::other)?;
        let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        set_socket_timeout(&self.0, Timeout::Send, Some(WORD))?;
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message; `UnexpectedEof` when the other side is gone, `TimedOut` when it is silent for so long.
    pub(super) fn receive(&self, patience: Duration) -> io::Result<(Message, Vec<OwnedFd>)> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(patience))?;
        let mut text = vec![0; OCTETS_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut text)];
            match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                received => break received?,
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            // A descriptor that is missing here was refused by our own limit.
            return Err(io::Error::other("a message is cut: too many open files?"));
        }
        let message = serde_json::from_slice(&text[..received.bytes])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok((message, descriptors))
    }
}
