//! A TLS connection as a [`Stream`]: rustls between our octets and those of the socket.
//!
//! While nothing comes it holds no buffer of its own: what the socket gives lies in memory that all connections of the
//! thread share until TLS has taken it. What is written is sent at once, in one system call as long as the socket takes
//! it. Either side: `C` is rustls's connection of a server or of a client. Not here: the handshake's limits (see
//! `handshake`).

use std::cell::RefCell;
use std::io::{self, BufRead, IoSlice, Write};
use std::ops::DerefMut;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{ConnectionCommon, SideData};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::stream::Stream;

/// Octets read from a socket at once: two records of the largest size.
const READ: usize = 33 * 1024;

thread_local! {
    /// What a socket gives, for the moment until TLS has taken it.
    static READING: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// A TLS connection over TCP.
#[derive(Debug)]
pub(crate) struct TlsStream<C> {
    tcp: TcpStream,
    /// Boxed: it is large, and a future that is given a stream keeps room for it more than once.
    tls: Box<C>,
    /// Octets from the socket that TLS has not taken, because what it has deciphered waits to be read.
    untaken: Vec<u8>,
    /// It broke: what came before is still read.
    broken: Option<io::ErrorKind>,
}

impl<C, D> TlsStream<C>
where
    C: DerefMut<Target = ConnectionCommon<D>>,
    D: SideData,
{
    pub(crate) fn new(tcp: TcpStream, tls: C) -> Self {
        Self { tcp, tls: Box::new(tls), untaken: Vec::new(), broken: None }
    }

    /// Of a connection whose first octets have been read already.
    pub(crate) fn behind(early: Vec<u8>, tcp: TcpStream, tls: C) -> Self {
        Self { untaken: early, ..Self::new(tcp, tls) }
    }

    /// What TLS knows of the connection.
    pub(crate) fn tls(&self) -> &C {
        &self.tls
    }

    /// The socket alone.
    pub(crate) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// Goes on with the handshake. What TLS 1.3 has to send behind it, session tickets, goes with the first octets that are
    /// written. `first` sees the first octets that come and may refuse them.
    pub(crate) fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        first: impl Fn(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        loop {
            let over = !self.tls.is_handshaking();
            if over && self.tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_send(cx))?;
            if over {
                return Poll::Ready(Ok(()));
            }
            if !self.untaken.is_empty() {
                let early = std::mem::take(&mut self.untaken);
                self.take(cx, &early, &first)?;
            } else if ready!(self.poll_take(cx, &first))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads from the socket once and lets TLS work on it: how many octets came, 0 at the end.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        look: impl Fn(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<usize>> {
        READING.with_borrow_mut(|memory| {
            let mut octets = ReadBuf::new(memory);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut octets))?;
            let taken = self.take(cx, octets.filled(), look);
            Poll::Ready(taken.map(|()| octets.filled().len()))
        })
    }

    /// Lets TLS work on octets of the socket, unless `look` refuses them.
    fn take(
        &mut self,
        cx: &mut Context<'_>,
        octets: &[u8],
        look: impl Fn(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        look(octets)?;
        let taken = self.feed(octets);
        if taken.is_err() {
            // The alert that says why, if the socket takes it.
            let _ = self.poll_send(cx);
        }
        taken
    }

    /// Lets TLS work on these octets; none are the end.
    fn feed(&mut self, mut octets: &[u8]) -> io::Result<()> {
        loop {
            match self.tls.read_tls(&mut octets) {
                Ok(read) => {
                    self.tls
                        .process_new_packets()
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    // Nothing is read behind the end that the other side announced.
                    if read == 0 || octets.is_empty() {
                        return Ok(());
                    }
                }
                // What is deciphered must be read first.
                Err(error) if error.kind() == io::ErrorKind::Other => {
                    self.untaken = octets.to_vec();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ready when there is something to read, the end or an error.
    fn poll_deciphered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let waits = matches!(self.tls.reader().into_first_chunk(), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            if !waits || self.broken.is_some() {
                return Poll::Ready(());
            }
            let taken = if self.untaken.is_empty() {
                ready!(self.poll_take(cx, |_| Ok(()))).map(|_| ())
            } else {
                let octets = std::mem::take(&mut self.untaken);
                self.feed(&octets)
            };
            self.broken = taken.err().map(|error| error.kind());
        }
    }

    /// Sends what TLS has to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Socket { tcp: &mut self.tcp, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Enciphers what `write` takes and sends it, as far as the socket takes it.
    fn poll_encipher(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut C) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?; // so that what waits in TLS has a bound
        let taken = write(&mut self.tls)?;
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }
}

/// The socket as rustls writes to it.
struct Socket<'a, 'c> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'c>,
}

impl Write for Socket<'_, '_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.tcp).poll_write(self.cx, octets))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at_once(written: Poll<io::Result<usize>>) -> io::Result<usize> {
    match written {
        Poll::Ready(written) => written,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<C, D> AsyncRead for TlsStream<C>
where
    C: DerefMut<Target = ConnectionCommon<D>> + Unpin,
    D: SideData,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_deciphered(cx));
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            // Not `read`, which wants the memory that it writes to filled with zeros first.
            let read = match self.tls.reader().into_first_chunk() {
                Ok(chunk) => {
                    let read = chunk.len().min(buf.remaining());
                    buf.put_slice(&chunk[..read]);
                    read
                }
                Err(_) if buf.filled().len() > before => break,
                Err(error) => {
                    let kind = self.broken.filter(|_| error.kind() == io::ErrorKind::WouldBlock);
                    return Poll::Ready(Err(kind.map_or(error, io::Error::from)));
                }
            };
            if read == 0 {
                break;
            }
            self.tls.reader().consume(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<C, D> AsyncWrite for TlsStream<C>
where
    C: DerefMut<Target = ConnectionCommon<D>> + Unpin,
    D: SideData,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_encipher(cx, |tls| tls.writer().write(octets))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_encipher(cx, |tls| tls.writer().write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tls.send_close_notify(); // does nothing when it was sent before
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl<C, D> Stream for TlsStream<C>
where
    C: DerefMut<Target = ConnectionCommon<D>> + Unpin + 'static,
    D: SideData,
{
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_deciphered(cx).map(Ok)
    }

    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.tcp.poll_reset(cx)
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_deciphered(cx));
        match self.tls.reader().into_first_chunk() {
            Ok(octets) if !octets.is_empty() => self.tcp.poll_reset(cx),
            Ok(_) | Err(_) => Poll::Ready(()),
        }
    }

    fn is_broken(&self) -> bool {
        self.tcp.is_broken()
    }

    fn is_quiet(&mut self) -> bool {
        // Session tickets and other news of TLS itself are no answer that nobody asked for.
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        self.poll_deciphered(&mut nobody).is_pending()
    }

    fn took_none_of(&self, _: u64) -> bool {
        false // how many octets these became is known to nobody
    }

    fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn reset_on_close(&self) {
        self.tcp.reset_on_close();
    }
}
