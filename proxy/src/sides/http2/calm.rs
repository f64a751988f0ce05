//! Counts the frames of an instance's connection as they pass, and says when it floods: what costs us work and brings nobody
//! an answer is paid from budgets that time and what we send refill.
//!
//! `h2` itself bounds header blocks and their continuations, streams reset before they were looked at, small and empty
//! DATA, and streams that break the protocol. What it does not bound is counted here: resets over time (rapid reset), PING,
//! SETTINGS, PRIORITY, WINDOW_UPDATE and frames of unknown kinds; and answers that come before the one that counts: `h2`
//! keeps as many as come.
//!
//! Not here: what follows (see `upstream::channel`), clients (see `crate::http2::calm`, which spends the same budgets).

use tokio::time::Instant;

const HEAD: usize = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// The octets in front of the first frame.
const PREFACE: usize = 24;

/// The head of a frame (RFC 9113 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHead {
    len: u32,
    kind: Kind,
    flags: u8,
    stream: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Headers,
    Reset,
    Settings,
    Ping,
    GoAway,
    Continuation,
    /// PRIORITY, WINDOW_UPDATE, PUSH_PROMISE and what is unknown.
    Other,
}

impl FrameHead {
    fn read(octets: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = octets;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            3 => Kind::Reset,
            4 => Kind::Settings,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            9 => Kind::Continuation,
            _ => Kind::Other,
        };
        Self { len: u32::from_be_bytes([0, a, b, c]), kind, flags, stream: u32::from_be_bytes(stream) }
    }
}

/// Walks from frame to frame.
#[derive(Debug)]
struct Walk {
    head: [u8; HEAD],
    /// Octets of the head that are there.
    have: usize,
    /// Octets until the next head.
    skip: usize,
}

impl Walk {
    /// The first frame comes behind so many octets.
    fn behind(skip: usize) -> Self {
        Self { head: [0; HEAD], have: 0, skip }
    }

    /// Goes on over these octets.
    fn over(&mut self, mut octets: &[u8], mut seen: impl FnMut(FrameHead)) {
        loop {
            let skip = self.skip.min(octets.len());
            self.skip -= skip;
            octets = &octets[skip..];
            if octets.is_empty() {
                return;
            }
            // Mostly the whole head is there.
            if self.have == 0
                && let Some((head, rest)) = octets.split_first_chunk::<HEAD>()
            {
                let head = FrameHead::read(*head);
                (octets, self.skip) = (rest, head.len as usize);
                seen(head);
                continue;
            }
            let more = (HEAD - self.have).min(octets.len());
            self.head[self.have..self.have + more].copy_from_slice(&octets[..more]);
            self.have += more;
            octets = &octets[more..];
            if self.have == HEAD {
                let head = FrameHead::read(self.head);
                (self.have, self.skip) = (0, head.len as usize);
                seen(head);
            }
        }
    }
}

/// What may be spent at once, and what comes back with time.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u32,
    most: u32,
    per_second: u32,
    since: Instant,
}

impl Budget {
    /// So much at once, and so much per second.
    pub(crate) fn new((most, per_second): (u32, u32), now: Instant) -> Self {
        Self { left: most, most, per_second, since: now }
    }

    /// More may be spent.
    pub(crate) fn earn(&mut self, amount: u32) {
        self.left = (self.left + amount).min(self.most);
    }

    /// False when there is nothing left to spend.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        if self.left == 0 {
            let passed = now.saturating_duration_since(self.since);
            let earned = passed.as_millis() * u128::from(self.per_second) / 1000;
            if earned > 0 {
                self.since = now;
                self.earn(u32::try_from(earned).unwrap_or(u32::MAX).min(self.most));
            }
        }
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }
}

/// Streams that a client may reset at once, and per second, beside one for each answer that it took.
pub(crate) const RESETS: (u32, u32) = (200, 20);

/// Other frames without an answer that it may send at once, and per second, beside some for each frame that we send.
pub(crate) const FRAMES: (u32, u32) = (1000, 100);

/// Frames that one HEADERS or DATA frame of ours may cause: two window updates, a ping to measure with, and as much again;
pub(crate) const CAUSED: u32 = 6;
/// and two window updates more for each piece of this size, as readers with small buffers send them.
pub(crate) const READ_AT_ONCE: u32 = 2048;

/// Heads without an end of their stream that an instance may send at once, and per second, beside some for each request.
const HEADS: (u32, u32) = (128, 10);

/// Such heads that one request may cause: its answer's, and a few before it.
const HEADS_CAUSED: u32 = 4;

/// What has come on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The first frame was the one that HTTP/2 starts with; `None`: none has come.
    pub starts_well: Option<bool>,
    /// What it allows is known: its first settings have been taken, as we have told it.
    pub settled: bool,
    /// The other side takes no new streams.
    pub goes_away: bool,
    /// The last stream that was opened by us; they go up.
    pub opened: u32,
}

/// Watches a connection.
#[derive(Debug)]
pub(crate) struct Calm {
    inbound: Walk,
    outbound: Walk,
    frames: Budget,
    resets: Budget,
    heads: Budget,
    seen: Seen,
    flood: Option<&'static str>,
}

impl Calm {
    /// A connection to an instance.
    pub(crate) fn of_instance(now: Instant) -> Self {
        Self {
            inbound: Walk::behind(0),
            outbound: Walk::behind(PREFACE),
            frames: Budget::new(FRAMES, now),
            resets: Budget::new(RESETS, now),
            heads: Budget::new(HEADS, now),
            seen: Seen::default(),
            flood: None,
        }
    }

    /// The other side sent these octets.
    pub(crate) fn received(&mut self, octets: &[u8], now: Instant) {
        let Self { inbound, frames, resets, heads, seen, flood, .. } = self;
        inbound.over(octets, |frame| {
            seen.starts_well.get_or_insert(frame.kind == Kind::Settings && frame.flags & ACK == 0);
            seen.goes_away |= frame.kind == Kind::GoAway;
            let calm = match frame.kind {
                Kind::Reset => resets.spend(now),
                Kind::Data if frame.len > 0 || frame.flags & END_STREAM != 0 => true,
                Kind::Headers if frame.flags & END_STREAM != 0 => true,
                Kind::Headers => heads.spend(now),
                // Ours are few, and each is answered once.
                Kind::Settings if frame.flags & ACK != 0 => true,
                _ => frames.spend(now),
            };
            if !calm {
                *flood = Some(match frame.kind {
                    Kind::Reset => "resets",
                    Kind::Headers => "heads",
                    _ => "frames",
                });
            }
        });
    }

    /// We sent these octets.
    pub(crate) fn sent(&mut self, octets: &[u8]) {
        let Self { outbound, frames, resets, heads, seen, .. } = self;
        outbound.over(octets, |frame| match frame.kind {
            Kind::Settings if frame.flags & ACK != 0 => seen.settled = true,
            Kind::Data | Kind::Headers => {
                frames.earn(CAUSED + 2 * (frame.len / READ_AT_ONCE));
                if frame.kind == Kind::Headers {
                    heads.earn(HEADS_CAUSED);
                    seen.opened = seen.opened.max(frame.stream);
                }
                resets.earn(u32::from(frame.flags & END_STREAM != 0));
            }
            _ => {}
        });
    }

    /// What has come.
    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// What the other side sends too much of, if anything.
    pub(crate) fn flood(&self) -> Option<&'static str> {
        self.flood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let mut frame = (len as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD + len, 0);
        frame
    }

    #[test]
    fn frames_are_found_wherever_the_octets_are_split() {
        let octets = [vec![0xff; PREFACE], frame(1, 5, 30), frame(0, 0, 0), frame(6, 0, 8)].concat();
        for size in 1..octets.len() {
            let (mut walk, mut seen) = (Walk::behind(PREFACE), Vec::new());
            for piece in octets.chunks(size) {
                walk.over(piece, |frame| seen.push((frame.kind, frame.len)));
            }
            assert_eq!(seen, [(Kind::Headers, 30), (Kind::Data, 0), (Kind::Ping, 8)], "{size}");
        }
    }

    #[test]
    fn an_instance_may_send_some_heads_before_an_answer_and_no_flood_of_them() {
        let now = Instant::now();
        let mut calm = Calm::of_instance(now);
        calm.sent(&[0xff; PREFACE]);
        for _ in 0..10 * HEADS.0 {
            calm.sent(&frame(1, 5, 10));
            calm.received(&[frame(1, 4, 10), frame(1, 4, 10), frame(1, 5, 10)].concat(), now);
        }
        assert_eq!(calm.flood(), None);
        for _ in 2..HEADS.0 {
            calm.received(&frame(1, 4, 10), now);
        }
        assert_eq!(calm.flood(), None);
        calm.received(&frame(1, 4, 10), now);
        assert_eq!(calm.flood(), Some("heads"));
    }

    #[test]
    fn what_an_instance_starts_and_ends_with_is_seen() {
        for (first, want) in
            [(frame(4, 0, 6), true), (frame(4, 1, 0), false), (b"HTTP/1.1 400 Bad".to_vec(), false)]
        {
            let mut calm = Calm::of_instance(Instant::now());
            assert_eq!(calm.seen(), Seen::default());
            calm.received(&first, Instant::now());
            assert_eq!(calm.seen(), Seen { starts_well: Some(want), ..Seen::default() });
            calm.sent(&[&[0xff; PREFACE][..], &frame(4, 0, 6)].concat());
            assert!(!calm.seen().settled, "our own settings say nothing");
            calm.sent(&frame(4, 1, 0));
            assert!(calm.seen().settled);
        }
        let mut calm = Calm::of_instance(Instant::now());
        calm.received(&[frame(4, 0, 0), frame(7, 0, 8)].concat(), Instant::now());
        assert!(calm.seen().goes_away);
    }
}
