//! A connection as the data plane uses it: both directions at once from one task, readiness without a buffer.
//!
//! Not here: what is spoken on it.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Most octets that are copied together for one write.
const GATHERED_MAX: usize = 4096;

/// What asks how many octets wait to be sent (`linux/sockios.h`).
const SIOCOUTQNSD: libc::Ioctl = 0x894B;

thread_local! {
    /// Where a worker copies them.
    static GATHERED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(GATHERED_MAX));
}

/// What the data plane needs of a connection beside reading and writing. A TLS stream can give it too.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Ready when a read would give octets, the end or an error: so that waiting needs no buffer.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready once the other side has reset the connection. An end of its sending alone is no reset: it may still read.
    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready once the other side has reset the connection or ended its direction, and nothing that it sent before lies unread.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether the other side is known to have reset the connection, also while octets lie unread. Asks nobody: it is what
    /// the runtime has been told.
    fn is_broken(&self) -> bool;

    /// Whether it is open and nothing has arrived: what a pooled connection must be.
    fn is_quiet(&mut self) -> bool;

    /// Whether nothing has arrived, the end and a reset included, as the system knows at this moment: [`Stream::is_quiet`]
    /// goes by what the runtime was told at its last turn. Costs a system call.
    fn is_quiet_now(&mut self) -> bool {
        let (tcp, mut octet) = (self.tcp(), [0_u8]);
        let looked = rustix::net::recv(tcp, &mut octet, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        looked.err() == Some(Errno::AGAIN) && self.is_quiet()
    }

    /// Whether the other side's system has taken none of the last `octets` written: it has acknowledged none. Behind the
    /// end of the other side's direction that is final, for that end acknowledges whatever came before it. False when
    /// nobody can say.
    fn took_none_of(&self, octets: u64) -> bool;

    /// The connection below.
    fn tcp(&self) -> &TcpStream;

    /// Writes few octets, which will mostly go at once.
    fn poll_send(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, octets)
    }

    /// Makes closing it a reset, so that the other side sees that something is missing.
    fn reset_on_close(&self);
}

impl Stream for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        match look(self, cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            // A pipelined request, or the end of the client's sending: it may well wait for the answer.
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match look(self, cx) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    fn is_broken(&self) -> bool {
        self.try_io(Interest::ERROR, || Ok(())).is_ok()
    }

    fn is_quiet(&mut self) -> bool {
        // No system call as long as nothing has arrived since the last short read.
        matches!(self.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn took_none_of(&self, octets: u64) -> bool {
        // SIOCOUTQ, which has the number of TIOCOUTQ: what is not acknowledged.
        waiting(self, libc::TIOCOUTQ).is_some_and(|left| left >= octets)
    }

    fn tcp(&self) -> &TcpStream {
        self
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        // The reactor is only asked when the system has no room.
        match self.try_write(octets) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pin::new(self).poll_write(cx, octets),
            written => Poll::Ready(written),
        }
    }

    fn reset_on_close(&self) {
        // If it cannot be set, the close is an ordinary one: nothing better is possible.
        let _ = SockRef::from(self).set_linger(Some(std::time::Duration::ZERO));
    }
}

/// Whether an octet is there (1), the end (0), or an error.
fn look(tcp: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    ready!(tcp.poll_read_ready(cx))?;
    if tcp.is_broken() {
        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
    }
    tcp.poll_peek(cx, &mut ReadBuf::new(&mut [0]))
}

/// Whether nothing of what was written waits to be sent.
fn is_all_sent(tcp: &TcpStream) -> io::Result<bool> {
    Ok(is_writable(tcp)? && waiting(tcp, SIOCOUTQNSD) == Some(0))
}

/// With a low-water mark of 1: until nothing waits to be sent.
fn poll_all_sent(tcp: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let look = || if is_writable(tcp)? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) };
    loop {
        ready!(tcp.poll_write_ready(cx))?;
        // The runtime knows of the room there was before the mark was set: the system says what is.
        match tcp.try_io(Interest::WRITABLE, look) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            looked => return Poll::Ready(looked),
        }
    }
}

/// Whether the system takes more at this moment; if not, it tells the runtime when it does. An error when it is broken.
fn is_writable(tcp: &TcpStream) -> io::Result<bool> {
    let mut asked = libc::pollfd { fd: tcp.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: poll(2) writes to the one pollfd that the pointer points to, and waits for nothing.
    let mut look = || match unsafe { libc::poll(&raw mut asked, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    while let Err(error) = look() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    match asked.revents {
        told if told & (libc::POLLERR | libc::POLLHUP) != 0 => Err(io::ErrorKind::ConnectionReset.into()),
        told => Ok(told & libc::POLLOUT != 0),
    }
}

/// How many octets wait, by one of the questions that sockets answer with an int.
fn waiting(tcp: &TcpStream, question: libc::Ioctl) -> Option<u64> {
    let mut octets: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (tcp(7)) and SIOCOUTQNSD write one int to where the pointer points.
    let asked = unsafe { libc::ioctl(tcp.as_raw_fd(), question, &raw mut octets) };
    if asked == 0 { u64::try_from(octets).ok() } else { None }
}

/// A connection whose two directions are used at once by parts of one task. The stream is borrowed within each poll only.
#[derive(Debug)]
pub(crate) struct Duplex<S>(RefCell<S>);

impl<S: Stream> Duplex<S> {
    /// Around this stream.
    pub(crate) fn new(stream: S) -> Self {
        Self(RefCell::new(stream))
    }

    /// The stream itself, for what is done within one poll.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut S) -> T) -> T {
        work(&mut self.0.borrow_mut())
    }

    /// The stream again.
    pub(crate) fn into_inner(self) -> S {
        self.0.into_inner()
    }

    /// Waits until there is something to read, the end or an error included.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.0.borrow_mut().poll_readable(cx)).await
    }

    /// [`Stream::poll_readable`]
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_readable(cx)
    }

    /// [`Stream::poll_reset`]
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow().poll_reset(cx)
    }

    /// [`Stream::poll_left`]
    pub(crate) fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().poll_left(cx)
    }

    /// [`Stream::is_broken`]
    pub(crate) fn is_broken(&self) -> bool {
        self.0.borrow().is_broken()
    }

    /// [`Stream::is_quiet`]
    pub(crate) fn is_quiet(&self) -> bool {
        self.0.borrow_mut().is_quiet()
    }

    /// [`Stream::is_quiet_now`]
    pub(crate) fn is_quiet_now(&self) -> bool {
        self.0.borrow_mut().is_quiet_now()
    }

    /// [`Stream::took_none_of`]
    pub(crate) fn took_none_of(&self, octets: u64) -> bool {
        self.0.borrow().took_none_of(octets)
    }

    /// Whether the connection is one still: not after a reset that a write has met, which tells the read behind it nothing.
    pub(crate) fn is_connected(&self) -> bool {
        self.0.borrow().tcp().peer_addr().is_ok()
    }

    /// [`Stream::reset_on_close`]
    pub(crate) fn reset_on_close(&self) {
        self.0.borrow().reset_on_close();
    }

    /// Reads what is there behind what `buffer` holds; 0 is the end. May be dropped without losing an octet.
    pub(crate) async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        // The future of `read_buf` keeps nothing from one poll to the next, so it is made anew in each.
        poll_fn(|cx| {
            let mut stream = self.0.borrow_mut();
            let read = pin!(stream.read_buf(buffer));
            read.poll(cx)
        })
        .await
    }

    /// Writes all parts, in one system call as long as the other side takes them. `progress` is told each number of octets
    /// that was taken.
    pub(crate) async fn write_all(
        &self,
        parts: &mut [IoSlice<'_>],
        mut progress: impl FnMut(usize),
    ) -> io::Result<()> {
        let mut left = parts;
        IoSlice::advance_slices(&mut left, 0); // empty ones in front would look like the end
        while !left.is_empty() {
            let written = poll_fn(|cx| self.poll_write(cx, left)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            progress(written);
            IoSlice::advance_slices(&mut left, written);
        }
        poll_fn(|cx| Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)).await
    }

    /// Few octets are copied together first: that was measured to cost less than a vectored write.
    fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut stream = self.0.borrow_mut();
        let octets: usize = parts.iter().map(|part| part.len()).sum();
        match parts {
            [one, ..] if one.len() == octets => stream.poll_send(cx, one),
            _ if octets > GATHERED_MAX => Pin::new(&mut *stream).poll_write_vectored(cx, parts),
            _ => GATHERED.with_borrow_mut(|gathered| {
                gathered.clear();
                parts.iter().for_each(|part| gathered.extend_from_slice(part));
                stream.poll_send(cx, gathered)
            }),
        }
    }

    /// Waits until the other side's system has had room for all that was written: nothing of it waits in ours. An error: the
    /// connection is broken.
    pub(crate) async fn all_sent(&self) -> io::Result<()> {
        if self.with(|io| is_all_sent(io.tcp()))? {
            return Ok(());
        }
        // With it the system tells of room only when nothing waits to be sent; 0 is what it was.
        self.with(|io| SockRef::from(io.tcp()).set_tcp_notsent_lowat(1))?;
        poll_fn(|cx| self.with(|io| poll_all_sent(io.tcp(), cx))).await?;
        self.with(|io| SockRef::from(io.tcp()).set_tcp_notsent_lowat(0))
    }

    /// Ends our direction.
    pub(crate) async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)).await
    }
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The other side's address.
    pub peer: SocketAddr,
    /// Our address, the one that the other side asked for.
    pub local: SocketAddr,
}
