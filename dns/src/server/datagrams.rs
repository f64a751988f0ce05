//! Many datagrams per system call, each with the address of ours that it was sent to: `recvmmsg` and `sendmmsg`.
//!
//! All `unsafe` of this crate's data path is here. The buffers are plain octets; the structures that the kernel wants
//! are made on the stack for each call, so that nothing here holds a pointer longer than that.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{SockAddr, SockAddrStorage};

/// Datagrams per system call.
pub(super) const BATCH: usize = 64;
/// Octets of a request that are read. A question with options is far smaller; a longer datagram is none of ours.
const REQUEST_MAX: usize = 2048;
/// Room for one control message with a packet's addresses.
const CONTROL_MAX: usize = 64;

/// Control messages must be aligned like their header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_MAX]);

/// Room for one batch of requests, and the requests of the last call.
pub(super) struct Inbox {
    buffers: Vec<[u8; REQUEST_MAX]>,
    received: Vec<Received>,
}

/// One request of the last call.
#[derive(Debug, Clone, Copy)]
struct Received {
    slot: usize,
    length: usize,
    source: SocketAddr,
    sent_to: Option<IpAddr>,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) source: SocketAddr,
    /// The address of ours it was sent to, where the socket tells it.
    pub(super) sent_to: Option<IpAddr>,
}

/// A reply.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    pub(super) to: SocketAddr,
    /// The address it leaves from, on a socket that is bound to all.
    pub(super) from: Option<IpAddr>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { buffers: vec![[0; REQUEST_MAX]; BATCH], received: Vec::with_capacity(BATCH) }
    }

    /// The requests of the last call.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.received.iter().map(|received| Datagram {
            bytes: &self.buffers[received.slot][..received.length],
            source: received.source,
            sent_to: received.sent_to,
        })
    }

    /// Reads what is there, up to a batch, without waiting. Datagrams that are cut or without a source are left out.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received.clear();
        let mut names: Vec<SockAddrStorage> = (0..BATCH).map(|_| SockAddrStorage::zeroed()).collect();
        let mut controls = [Control([0; CONTROL_MAX]); BATCH];
        let mut vectors: Vec<libc::iovec> = Vec::with_capacity(BATCH);
        vectors.extend(
            self.buffers
                .iter_mut()
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

/// The address of ours in a request's control messages.
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
pub(super) fn send(socket: BorrowedFd<'_>, replies: &[Outgoing]) -> io::Result<usize> {
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

/// Makes a reply leave from this address.
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
