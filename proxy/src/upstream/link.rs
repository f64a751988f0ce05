//! A connection to an instance, with or without TLS, as one type: pools and exchanges do not care.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::stream::Stream;
use crate::tls::stream::TlsStream;

/// A connection to an instance.
#[derive(Debug)]
pub(crate) enum Link {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over it; boxed, so that plain ones are not made larger by it.
    Tls(Box<TlsStream<ClientConnection>>),
}

macro_rules! either {
    ($link:expr, $io:ident => $work:expr) => {
        match $link {
            Link::Plain($io) => $work,
            Link::Tls($io) => $work,
        }
    };
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write(cx, octets))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}

impl Stream for Link {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_readable(cx))
    }

    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        either!(self, io => io.poll_reset(cx))
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        either!(self, io => io.poll_left(cx))
    }

    fn is_broken(&self) -> bool {
        either!(self, io => io.is_broken())
    }

    fn is_quiet(&mut self) -> bool {
        either!(self, io => io.is_quiet())
    }

    fn took_none_of(&self, octets: u64) -> bool {
        either!(self, io => io.took_none_of(octets))
    }

    fn tcp(&self) -> &TcpStream {
        either!(self, io => io.tcp())
    }

    fn reset_on_close(&self) {
        either!(self, io => io.reset_on_close())
    }
}
