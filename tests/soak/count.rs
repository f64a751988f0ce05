//! What became of the requests of a row, by kind and cause, and what of it is a failure.
//!
//! What had been written to an instance and must not be sent twice, and answers that had begun, cannot be saved by
//! anybody when the instance dies in the middle. Rows in which that is the act itself count them apart; in all others
//! they are failures like the rest.

use std::collections::BTreeMap;
use std::fmt;

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// GET with a short answer.
    Get,
    /// POST with a body that Fairway keeps for another try.
    Post,
    /// POST with more than it keeps beyond its beginning.
    LargePost,
    /// GET with a long answer.
    Download,
    /// Server-sent events.
    Events,
    /// A session of WebSocket.
    Socket,
    /// GET over HTTP/2, with a short answer.
    Http2Get,
    /// POST over HTTP/2, with a body that Fairway keeps for another try.
    Http2Post,
    /// A call of gRPC with one message each way.
    Call,
    /// One with many messages to the client.
    CallDown,
    /// One with many messages each way.
    CallBoth,
}

impl Kind {
    /// Those of which instances note what they have taken.
    pub(crate) const POSTS: [Self; 4] = [Self::Post, Self::LargePost, Self::Http2Post, Self::Call];

    fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::LargePost => "POST of 100 KiB",
            Self::Download => "download",
            Self::Events => "events",
            Self::Socket => "WebSocket",
            Self::Http2Get => "GET over HTTP/2",
            Self::Http2Post => "POST over HTTP/2",
            Self::Call => "gRPC call",
            Self::CallDown => "gRPC server stream",
            Self::CallBoth => "gRPC stream both ways",
        }
    }

    /// Whether this failure is of a request that nobody may send again: written and not safe to repeat, or answered in part.
    fn is_beyond_repeat(self, cause: &str) -> bool {
        let is_post = matches!(self, Self::Post | Self::LargePost);
        let was_written = cause.starts_with(UPSTREAM_CLOSED) || cause.starts_with("status 504");
        cause.ends_with(" in the body") || cause.ends_with(" in the session") || is_post && was_written
    }
}

/// What is counted apart in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apart {
    Nothing,
    /// What nobody may repeat: instances die, or lose their network, without a warning.
    BeyondRepeat,
}

/// Most that are counted apart for each act: of the 26 clients some eight are in the middle of something at the instance. More
/// would be of others, at whom nothing was done.
const APART_MAX: u64 = 8;

const UPSTREAM_CLOSED: &str = "status 502 upstream-closed";

/// What became of the requests of a row.
#[derive(Debug, Default)]
pub(crate) struct Count {
    requests: BTreeMap<Kind, u64>,
    failures: BTreeMap<(Kind, String), u64>,
}

impl Count {
    /// Adds what one load counted.
    pub(crate) fn add(&mut self, kind: Kind, requests: u64, by_cause: BTreeMap<String, u64>) {
        *self.requests.entry(kind).or_default() += requests;
        for (cause, n) in by_cause {
            *self.failures.entry((kind, cause)).or_default() += n;
        }
    }

    /// The requests of a kind.
    pub(crate) fn of(&self, kind: Kind) -> u64 {
        self.requests.get(&kind).copied().unwrap_or(0)
    }

    /// Adds another count.
    pub(crate) fn and(mut self, other: Self) -> Self {
        other.requests.into_iter().for_each(|(kind, n)| *self.requests.entry(kind).or_default() += n);
        other.failures.into_iter().for_each(|(at, n)| *self.failures.entry(at).or_default() += n);
        self
    }

    /// Adds POSTs that more than one instance has taken, which no client can see.
    pub(crate) fn taken_twice(mut self, posts: u64) -> Self {
        if posts > 0 {
            let kind = if self.of(Kind::Post) > 0 { Kind::Post } else { Kind::Http2Post };
            *self.failures.entry((kind, "taken twice".to_owned())).or_default() += posts;
        }
        self
    }

    /// The verdict. `apart`: what is no failure of this row.
    pub(crate) fn verdict(self, apart: Apart) -> Verdict {
        let is_apart = |kind: Kind, cause: &str| match apart {
            Apart::Nothing => false,
            Apart::BeyondRepeat => kind.is_beyond_repeat(cause),
        };
        let (apart, failed) =
            self.failures.into_iter().partition(|((kind, cause), _)| is_apart(*kind, cause));
        Verdict { requests: self.requests, failed, apart }
    }
}

type Causes = BTreeMap<(Kind, String), u64>;

/// The count of a row.
#[derive(Debug)]
pub(crate) struct Verdict {
    requests: BTreeMap<Kind, u64>,
    failed: Causes,
    apart: Causes,
}

impl Verdict {
    /// All requests, sessions included.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Those that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Those that nobody could have saved.
    pub(crate) fn apart(&self) -> u64 {
        self.apart.values().sum()
    }

    /// Failures by cause, then what is counted apart; empty without any.
    pub(crate) fn causes(&self) -> String {
        let told = |causes: &Causes, mark: &str| -> Vec<String> {
            let one =
                |((kind, cause), n): (&(Kind, String), &u64)| format!("{mark}{} {cause}: {n}", kind.word());
            causes.iter().map(one).collect()
        };
        [told(&self.failed, ""), told(&self.apart, "apart: ")].concat().join("; ")
    }

    /// # Panics
    /// When a request failed, a kind was not sent at all, or more was counted apart than `times` acts can explain.
    pub(crate) fn assert_none_failed(&self, times: usize) {
        assert!(self.apart() <= APART_MAX * times as u64, "more than {times} acts explain: {self}");
        assert!(self.requests.values().all(|n| *n > 0), "every kind is sent: {self}");
        assert_eq!(self.failed(), 0, "{self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<String> =
            self.requests.iter().map(|(kind, n)| format!("{} {n}", kind.word())).collect();
        let (requests, failed, apart) = (self.requests(), self.failed(), self.apart());
        write!(
            f,
            "{requests} requests ({}), {failed} failed, {apart} apart; {}",
            kinds.join(", "),
            self.causes()
        )
    }
}
