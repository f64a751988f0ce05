//! The buffers of one worker, lent while octets are on their way: an idle connection holds none.

use std::cell::RefCell;
use std::io;

use bytes::BytesMut;

use crate::stream::{Duplex, Stream};

/// Octets of a relay buffer. Larger ones were measured to be slower.
pub(crate) const BUFFER_BYTES: usize = 32 * 1024;

/// Octets that wait to be written to a client that speaks HTTP/2 before its streams wait, too.
pub(crate) const OUT_BYTES: usize = 64 * 1024;

/// Most buffers kept for later; further ones are freed.
const KEPT: usize = 256;

/// Largest outgoing head buffer that is kept.
const HEAD_KEPT: usize = 16 * 1024;

/// One worker's buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    relay: RefCell<Vec<BytesMut>>,
    heads: RefCell<Vec<Vec<u8>>>,
    outs: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer to read into.
    pub(crate) fn lend(&self) -> BytesMut {
        self.relay.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
    }

    /// Takes a buffer back, whatever it holds. One that something still refers to is left to that.
    pub(crate) fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut kept = self.relay.borrow_mut();
        if kept.len() < KEPT && buffer.capacity() <= 2 * BUFFER_BYTES && buffer.try_reclaim(BUFFER_BYTES) {
            kept.push(buffer);
        }
    }

    /// An empty buffer to collect what is said to a client that speaks HTTP/2.
    pub(crate) fn lend_out(&self) -> Vec<u8> {
        self.outs.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(OUT_BYTES + HEAD_KEPT))
    }

    /// Takes it back.
    pub(crate) fn give_back_out(&self, mut out: Vec<u8>) {
        out.clear();
        let mut kept = self.outs.borrow_mut();
        if kept.len() < KEPT && (OUT_BYTES..=2 * OUT_BYTES).contains(&out.capacity()) {
            kept.push(out);
        }
    }

    /// An empty buffer to write heads into.
    pub(crate) fn lend_head(&self) -> Vec<u8> {
        self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(2048))
    }

    /// Takes it back.
    pub(crate) fn give_back_head(&self, mut head: Vec<u8>) {
        head.clear();
        let mut kept = self.heads.borrow_mut();
        if kept.len() < KEPT && head.capacity() <= HEAD_KEPT {
            kept.push(head);
        }
    }
}

/// Reads behind what `buffer` holds. While it holds nothing and nothing comes, it has no memory: thousands of requests may
/// wait for slow instances.
pub(crate) async fn read_lent<S: Stream>(
    io: &Duplex<S>,
    buffer: &mut BytesMut,
    buffers: &Buffers,
) -> io::Result<usize> {
    if buffer.is_empty() {
        buffers.give_back(std::mem::take(buffer));
        io.readable().await?;
        *buffer = buffers.lend();
    } else {
        make_room(buffer);
    }
    io.read(buffer).await
}

/// Makes room for a read behind what the buffer holds, without growing it as long as it holds nothing.
pub(crate) fn make_room(buffer: &mut BytesMut) {
    let wanted = if buffer.is_empty() { BUFFER_BYTES } else { 4096 };
    if buffer.capacity() - buffer.len() < wanted {
        buffer.reserve(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_whole_once_nothing_refers_to_it() {
        let buffers = Buffers::default();
        let mut buffer = buffers.lend();
        buffer.extend_from_slice(b"head and body");
        let head = buffer.split_to(4).freeze();
        buffers.give_back(buffer);
        assert_eq!(buffers.relay.borrow().len(), 0, "the head still lies in it");
        drop(head);

        let mut buffer = buffers.lend();
        buffer.extend_from_slice(b"head and body");
        drop(buffer.split_to(4).freeze());
        buffers.give_back(buffer);
        let again = buffers.lend();
        assert!(again.is_empty() && again.capacity() >= BUFFER_BYTES);
    }
}
