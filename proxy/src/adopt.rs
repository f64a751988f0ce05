//! Listening sockets of a process that this one takes over from: served on, together with their queues.
//!
//! Not here: how they come from one process to the other (the program's business), binding new ones (see `listener`).

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::l4::FrontSocket;

/// The listening sockets of another process.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Each with the address that was configured for it: port 0 finds what the system chose.
    pub sockets: Vec<(SocketAddr, TcpListener)>,
    /// Those of front ports.
    pub fronts: Vec<FrontSocket>,
    /// Nothing is accepted before [`Running::open`](crate::Running::open).
    pub waits: bool,
}

impl Adopted {
    /// The sockets of the listener that is configured so, and their address; `None` when there are none.
    ///
    /// All of them, however many workers there are: connections may wait in each, and are lost with the last descriptor. And
    /// no further ones: connections would wait there for a process that does not accept yet.
    pub(crate) fn take(
        &mut self,
        configured: SocketAddr,
    ) -> io::Result<Option<(SocketAddr, Vec<TcpListener>)>> {
        let Some((_, first)) = self.sockets.iter().find(|(address, _)| *address == configured) else {
            return Ok(None);
        };
        let bound = first.local_addr()?;
        let is_taken = |(address, socket): &mut (SocketAddr, TcpListener)| {
            *address == configured && socket.local_addr().is_ok_and(|address| address == bound)
        };
        let taken = self.sockets.extract_if(.., is_taken).map(|(_, socket)| socket).collect();
        Ok(Some((bound, taken)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::bind;

    #[test]
    fn each_listener_gets_all_its_sockets_and_no_others() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (first, sockets) = bind(any, 3).expect("a free port");
        let (second, others) = bind(any, 1).expect("a free port");
        let mut adopted = Adopted::default();
        adopted.sockets.extend(sockets.into_iter().chain(others).map(|socket| (any, socket)));
        let (address, taken) = adopted.take(any).expect("no error").expect("there are some");
        assert_eq!((address, taken.len()), (first, 3));
        let (address, taken) = adopted.take(any).expect("no error").expect("there are some");
        assert_eq!((address, taken.len()), (second, 1));
        assert!(adopted.take(any).expect("no error").is_none());
    }
}
