//! The time of a build: the date, which people and the network may set, and a clock for what lasts.
//!
//! What has a date of its own (an expiry that people ordered, an owner's last claim) goes by the date. What lasts so long from
//! something that was seen (the tombstone of a route, the grace of a stop, the first listing) goes by the other clock, so that a
//! clock that is set neither ends nor prolongs it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The time of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What the wall clock says.
    pub date: Timestamp,
    /// The date at the start, and what has passed since then by a clock that nobody sets.
    pub lasting: Timestamp,
}

/// The same as long as nobody sets the clock.
impl From<Timestamp> for Now {
    fn from(date: Timestamp) -> Self {
        Self { date, lasting: date }
    }
}

impl Now {
    /// So long from now.
    pub(crate) fn after(self, duration: Duration) -> End {
        let after = |time: Timestamp| time.saturating_add(duration).unwrap_or(time);
        End { date: after(self.date), lasting: after(self.lasting) }
    }

    /// The moment that has this date if nobody sets the clock until then.
    pub(crate) fn until(self, date: Timestamp) -> End {
        let left = date.duration_since(self.date);
        End { date, lasting: self.lasting.saturating_add(left).unwrap_or(Timestamp::MAX) }
    }
}

/// The end of what lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// What is told of it: its date, as it was to be expected.
    pub(crate) date: Timestamp,
    /// When it is, by the clock for what lasts.
    pub(crate) lasting: Timestamp,
}

/// Tells the time of builds.
#[derive(Debug)]
pub(crate) struct Clock {
    date: Timestamp,
    began: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { date: Timestamp::now(), began: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let passed = SignedDuration::try_from(self.began.elapsed()).unwrap_or(SignedDuration::MAX);
        let lasting = self.date.saturating_add(passed).unwrap_or(Timestamp::MAX);
        Now { date: Timestamp::now(), lasting }
    }
}
