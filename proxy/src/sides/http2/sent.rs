//! Which streams of a connection the other side's system had nothing of when it ended the connection: where each began
//! among the octets that were sent, and how many of these were acknowledged.
//!
//! Not here: what may be done about it (see `downstream::lost`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Streams whose beginnings are known: more than may be open.
const KNOWN: usize = 128;

/// What was sent on a connection.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Octets so far, those that wait to be written included.
    octets: Cell<u64>,
    /// The streams that we opened last, each with the octets that were sent before it, at least.
    streams: RefCell<VecDeque<(u32, u64)>>,
    /// The first stream that came too late, if the other side has ended the connection.
    late_from: Cell<Option<u32>>,
}

impl Sent {
    /// Octets are sent, and with them the streams up to this one are opened.
    pub(super) fn add(&self, octets: usize, opened: u32) {
        let mut streams = self.streams.borrow_mut();
        let last = streams.back().map_or(0, |(stream, _)| *stream);
        if opened > last {
            if streams.len() == KNOWN {
                streams.pop_front();
            }
            streams.push_back((opened, self.octets.get()));
        }
        self.octets.set(self.octets.get() + octets as u64);
    }

    /// The other side has ended its direction while so many octets still waited to be written. `took_none_of` says whether
    /// its system had none of so many, which were written last.
    pub(super) fn ended(&self, waiting: usize, took_none_of: impl Fn(u64) -> bool) {
        let written = self.octets.get().saturating_sub(waiting as u64);
        let streams = self.streams.borrow();
        let late = streams.iter().rev().take_while(|(_, before)| match written.checked_sub(*before) {
            None | Some(0) => true,
            Some(since) => took_none_of(since),
        });
        self.late_from.set(late.last().map(|(stream, _)| *stream));
    }

    /// Whether this stream was opened after the other side had ended the connection.
    pub(super) fn came_late(&self, stream: u32) -> bool {
        self.late_from.get().is_some_and(|from| stream >= from)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::stream::Stream;

    #[test]
    fn streams_of_which_nothing_was_acknowledged_came_late() {
        for (acknowledged, late_from) in [
            (100, Some(3)),
            (150, Some(5)),
            (99, Some(3)),
            (200, Some(7)),
            (300, None),
            (50, Some(1)),
            (0, Some(1)),
        ] {
            let sent = Sent::default();
            sent.add(50, 0);
            for stream in [1, 3, 5] {
                sent.add(50, stream);
            }
            sent.add(50, 5); // data
            sent.add(50, 7);
            sent.ended(0, |octets| 300 - acknowledged >= octets);
            assert_eq!(sent.late_from.get(), late_from, "{acknowledged}");
        }
    }

    #[test]
    fn what_still_waits_to_be_written_came_late_and_streams_opened_together_are_one() {
        let sent = Sent::default();
        sent.add(50, 1);
        sent.add(80, 5); // with 3
        sent.ended(80, |_| false);
        assert!(!sent.came_late(1) && sent.came_late(5));
        assert!(!sent.came_late(3), "it is not known where 3 began, so nothing is said of it");
        assert!(!Sent::default().came_late(1), "nothing has ended");
    }

    #[tokio::test]
    async fn the_system_tells_what_the_other_side_had() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let mut far = listener.accept().await.expect("it connected").0;
        let sent = Sent::default();
        sent.add(30, 1);
        near.write_all(&[0; 30]).await.expect("it takes octets");
        far.read_exact(&mut [0; 30]).await.expect("they came");
        drop(far);
        sent.add(30, 3);
        near.write_all(&[0; 30]).await.expect("the first octets behind an end are still taken by our system");
        assert_eq!(near.read(&mut [0]).await.expect("an orderly end"), 0);
        sent.ended(0, |octets| near.took_none_of(octets));
        assert!(!sent.came_late(1) && sent.came_late(3));
    }
}
