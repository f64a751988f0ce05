//! Many datagrams per system call, each with the address of ours that it was sent to: `recvmmsg` and `sendmmsg`.
//!
//! All `unsafe` of datagrams is here. The buffers are plain octets; the structures that the kernel wants are made on the
//! stack for each call, so that nothing here holds a pointer longer than that. Not here: what is in them (see `dns` and
//! `proxy`).

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{SockAddr, SockAddrStorage};

/// Datagrams per system call.
pub const BATCH: usize = 64;
/// Room for one control message with a packet's addresses.
const CONTROL_MAX: usize = 64;

/// Control messages must be aligned like their header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_MAX]);

/// Room for one batch of datagrams, and those of the last call.
pub struct Inbox {
    /// Zeroed by the system: what no datagram has filled yet takes no memory.
    buffers: Vec<u8>,
    /// Octets of one.
    size: usize,
    received: Vec<Received>,
}

/// One datagram of the last call.
#[derive(Debug, Clone, Copy)]
struct Received {
    slot: usize,
    length: usize,
    source: SocketAddr,
    sent_to: Option<IpAddr>,
}

/// A datagram that came.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// What is in it.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// The address of ours it was sent to, where the socket tells it.
    pub sent_to: Option<IpAddr>,
}

/// A datagram that goes.
#[derive(Debug)]
pub struct Outgoing {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Whom it goes to.
    pub to: SocketAddr,
    /// The address it leaves from, on a socket that is bound to all.
    pub from: Option<IpAddr>,
}

impl Inbox {
    /// For datagrams of at most `size` octets; at least one.
    pub fn new(size: usize) -> Self {
        let size = size.max(1);
        Self { buffers: vec![0; size * BATCH], size, received: Vec::with_capacity(BATCH) }
    }

    /// The datagrams of the last call.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.received.iter().map(|received| Datagram {
            bytes: &self.buffers[received.slot * self.size..][..received.length],
            source: received.source,
            sent_to: received.sent_to,
        })
    }

    /// Reads what is there, up to a batch, without waiting. Datagrams that are cut or without a source are left out.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received.clear();
        let mut names: Vec<SockAddrStorage> = (0..BATCH).map(|_| SockAddrStorage::zeroed()).collect();
        let mut controls = [Control([0; CONTROL_MAX]); BATCH];
        let mut vectors: Vec<libc::iovec> = Vec::with_capacity(BATCH);
        vectors.extend(
            self.buffers
                .chunks_exact_mut(self.size)
                .map(|b| libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() }),
        );
        let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(BATCH);
        for ((vector, name), control) in vectors.iter_mut().zip(&mut names).zip(&mut controls) {
            // SAFETY: `mmsghdr` is a C structure of integers and pointers, for which all zeros are a value.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = name.size_of();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_MAX as _;
            headers.push(header);
        }
        // SAFETY: each header points to a name, a vector with its buffer and a control buffer of the lengths given, all
        // alive and not otherwise used until the call returns; there are as many headers as told.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (slot, (header, name)) in headers.iter().zip(names).enumerate().take(count) {
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                continue;
            }
            // SAFETY: the kernel wrote an address of this length into the storage, which it keeps within its size.
            let name = unsafe { SockAddr::new(name, header.msg_hdr.msg_namelen) };
            let Some(source) = name.as_socket() else { continue };
            // SAFETY: the kernel filled this header, and its control buffer is alive.
            let sent_to = unsafe { destination(&header.msg_hdr) };
            self.received.push(Received { slot, length: header.msg_len as usize, source, sent_to });
        }
        Ok(count)
    }
}

/// The address of ours in a datagram's control messages.
///
/// # Safety
/// `header` was filled by `recvmsg` and its control buffer is alive.
unsafe fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: as the caller promises; the macros walk within `msg_controllen`, and a message of a type was written as
    // the structure of that type, which is read without assuming its alignment.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            match (control.cmsg_level, control.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = std::ptr::read_unaligned(libc::CMSG_DATA(control).cast());
                    // The local address of the packet, also where it was sent to a broadcast address.
                    return Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = std::ptr::read_unaligned(libc::CMSG_DATA(control).cast());
                    return Some(IpAddr::from(info.ipi6_addr.s6_addr));
                }
                _ => message = libc::CMSG_NXTHDR(header, control),
            }
        }
    }
    None
}

/// Sends without waiting; says how many of them, at least one, were taken. An error is the first one's.
pub fn send(socket: BorrowedFd<'_>, replies: &[Outgoing]) -> io::Result<usize> {
    let replies = &replies[..replies.len().min(BATCH)];
    let names: Vec<SockAddr> = replies.iter().map(|reply| reply.to.into()).collect();
    let mut controls = [Control([0; CONTROL_MAX]); BATCH];
    let mut vectors: Vec<libc::iovec> = replies
        .iter()
        .map(|r| libc::iovec { iov_base: r.bytes.as_ptr().cast_mut().cast(), iov_len: r.bytes.len() })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(replies.len());
    for (((reply, name), vector), control) in replies.iter().zip(&names).zip(&mut vectors).zip(&mut controls)
    {
        // SAFETY: as in `receive`.
        let mut header: libc::mmsghdr = unsafe { zeroed() };
        header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = name.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        if let Some(from) = reply.from {
            // SAFETY: the control buffer is aligned, larger than any message written, and outlives the header.
            unsafe { set_origin(&mut header.msg_hdr, control, from) };
        }
        headers.push(header);
    }
    // SAFETY: each header points to a name, a vector with its buffer and perhaps a control buffer, all alive until the
    // call returns, which only reads them; there are as many headers as told.
    let count = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as libc::c_uint,
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Sends one without waiting; it leaves from `from`, on a socket that is bound to all addresses.
pub fn send_one(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<usize> {
    let name = SockAddr::from(to);
    let mut control = Control([0; CONTROL_MAX]);
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: as in `receive`.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = name.as_ptr().cast_mut().cast();
    header.msg_namelen = name.len();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if let Some(from) = from {
        // SAFETY: as in `send`.
        unsafe { set_origin(&mut header, &mut control, from) };
    }
    // SAFETY: the header points to a name, a vector with its buffer and perhaps a control buffer, all alive until the call
    // returns, which only reads them.
    let count = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Lets each datagram tell which address it was sent to, so that a reply can leave from there. For sockets of this family
/// that are bound to all addresses.
pub fn tell_destination(socket: &impl AsFd, family: IpAddr) -> io::Result<()> {
    let (level, option) = match family {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option value is a whole `c_int` that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a datagram leave from this address.
///
/// # Safety
/// `control` outlives the use of `header`.
unsafe fn set_origin(header: &mut libc::msghdr, control: &mut Control, from: IpAddr) {
    // SAFETY: `CMSG_SPACE` of either structure is below CONTROL_MAX, so the first header and its data are within the
    // buffer, which is aligned for them.
    unsafe {
        let (level, kind, length) = match from {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>()),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>()),
        };
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = libc::CMSG_SPACE(length as libc::c_uint) as _;
        let Some(message) = libc::CMSG_FIRSTHDR(header).as_mut() else { return };
        message.cmsg_level = level;
        message.cmsg_type = kind;
        message.cmsg_len = libc::CMSG_LEN(length as libc::c_uint) as _;
        match from {
            IpAddr::V4(v4) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(v4.octets());
                std::ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
            }
            IpAddr::V6(v6) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = v6.octets();
                std::ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_datagram_tells_where_it_was_sent_to_and_its_reply_leaves_from_there() {
        let all = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        tell_destination(&all, IpAddr::from([0, 0, 0, 0])).expect("the option is known");
        let port = all.local_addr().expect("an address").port();
        let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        for (to, text) in [("127.0.0.1", "one"), ("127.0.0.2", "two")] {
            client.send_to(text.as_bytes(), (to, port)).expect("it is sent");
            let mut inbox = Inbox::new(16);
            // Loopback delivers within the call that sends.
            assert_eq!(inbox.receive(all.as_fd()).expect("it is there"), 1);
            let datagram = inbox.datagrams().next().expect("one");
            assert_eq!((datagram.bytes, datagram.sent_to), (text.as_bytes(), to.parse().ok()));
            send_one(all.as_fd(), b"back", datagram.source, datagram.sent_to).expect("it is sent");
            let mut back = [0; 16];
            let (length, from) = client.recv_from(&mut back).expect("it comes");
            assert_eq!((&back[..length], from.ip().to_string().as_str()), (&b"back"[..], to));
        }
    }

    #[test]
    fn a_datagram_that_is_too_long_is_left_out() {
        let (one, other) = (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0"));
        let (one, other) = (one.expect("a free port"), other.expect("a free port"));
        let to = one.local_addr().expect("an address");
        other.send_to(&[b'x'; 17], to).expect("it is sent");
        other.send_to(&[b'y'; 16], to).expect("it is sent");
        let mut inbox = Inbox::new(16);
        inbox.receive(one.as_fd()).expect("they are there");
        let lengths: Vec<usize> = inbox.datagrams().map(|datagram| datagram.bytes.len()).collect();
        assert_eq!(lengths, [16]);
    }
}
