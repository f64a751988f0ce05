//! The time of day as texts, made once a second by each worker: in the access log and in `Date`.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, tz::TimeZone};

/// One worker's texts of the present second.
#[derive(Debug, Default)]
pub(crate) struct Clock(RefCell<Texts>);

#[derive(Debug, Default)]
struct Texts {
    second: Option<i64>,
    /// `Mon, 01 Jan 2029 00:00:00 GMT`
    date: String,
    /// `2029-01-01T00:00:00`
    iso: String,
}

impl Clock {
    /// The present second as an HTTP date (RFC 9110 section 5.6.7).
    pub(crate) fn with_date<T>(&self, f: impl FnOnce(&str) -> T) -> T {
        let (second, _) = now();
        f(&self.at(second).date)
    }

    /// Appends the present time in UTC to the millisecond: `2029-01-01T00:00:00.000Z`.
    pub(crate) fn push_iso(&self, out: &mut Vec<u8>) {
        let (second, millis) = now();
        out.extend_from_slice(self.at(second).iso.as_bytes());
        let digit = |n: u32| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }

    fn at(&self, second: i64) -> std::cell::Ref<'_, Texts> {
        if self.0.borrow().second != Some(second) {
            // A clock set to beyond the year 9999 gives the epoch: a log line with a wrong time is better than none.
            let zoned =
                Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC);
            *self.0.borrow_mut() = Texts {
                second: Some(second),
                date: zoned.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
                iso: zoned.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            };
        }
        self.0.borrow()
    }
}

/// Seconds since 1970 and milliseconds.
fn now() -> (i64, u32) {
    // A clock set to before 1970 counts as 1970.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_written_in_both_forms() {
        let clock = Clock::default();
        let texts = clock.at(1_861_920_000);
        assert_eq!((&*texts.date, &*texts.iso), ("Mon, 01 Jan 2029 00:00:00 GMT", "2029-01-01T00:00:00"));
    }

    #[test]
    fn the_present_is_written_to_the_millisecond() {
        let mut out = Vec::new();
        Clock::default().push_iso(&mut out);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.len(), "2029-01-01T00:00:00.000Z".len());
        let back: Timestamp = text.parse().expect("a timestamp");
        assert!(Timestamp::now().duration_since(back).abs().as_secs() < 60);
    }
}
