//! Finds the end of a head that arrives in pieces, looking at each octet once, and refuses early what can never become
//! one: a line that is not ended by CRLF, a head that is too large.
//!
//! Not here: what the lines say (see `request`, `response`).

use super::HeadLimits;

/// How far a head has been looked at.
#[derive(Debug, Clone, Default)]
pub struct HeadScanner {
    /// Octets looked at.
    seen: usize,
    /// Where the line that is being looked at starts.
    line: usize,
    /// Lines ended so far.
    lines: usize,
    limits: HeadLimits,
}

/// What is known of a head so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// Its end is not there yet.
    Partial,
    /// It ends before this octet.
    Complete(usize),
}

/// Why it can never become a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanError {
    /// A line is ended by LF alone.
    BareLf,
    /// More fields or octets than [`HeadLimits`] allow.
    TooLarge,
}

impl HeadScanner {
    /// For fields without a first line: trailers.
    pub fn of_fields() -> Self {
        Self { lines: 1, ..Self::default() }
    }

    /// For a head of this size at most.
    pub fn within(limits: HeadLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Looks at what is new in `input`, which starts with the head's first octet and only ever grows.
    pub fn scan(&mut self, input: &[u8]) -> Result<Scan, ScanError> {
        let start = self.seen;
        for at in memchr::memchr_iter(b'\n', input.get(start..).unwrap_or_default()) {
            let lf = start + at;
            if lf == self.line || input[lf - 1] != b'\r' {
                return Err(ScanError::BareLf);
            }
            let is_empty = lf == self.line + 1;
            self.seen = lf + 1;
            self.line = self.seen;
            self.lines += 1;
            if is_empty && self.lines > 1 {
                return if self.seen > self.limits.bytes {
                    Err(ScanError::TooLarge)
                } else {
                    Ok(Scan::Complete(self.seen))
                };
            }
            // The first line, the fields, and the empty line that ended it above.
            if self.lines > 1 + self.limits.fields {
                return Err(ScanError::TooLarge);
            }
        }
        self.seen = input.len();
        if self.seen > self.limits.bytes { Err(ScanError::TooLarge) } else { Ok(Scan::Partial) }
    }

    /// Whether the first line has ended.
    pub fn has_first_line(&self) -> bool {
        self.lines > 0
    }

    /// Whether nothing has been looked at.
    pub fn is_fresh(&self) -> bool {
        self.seen == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::HEAD_BYTES_MAX;

    #[test]
    fn the_end_is_found_wherever_the_octets_are_split() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for split in 0..=head.len() {
            let mut scanner = HeadScanner::default();
            let first = scanner.scan(&head[..split]);
            let want = if split == head.len() { Scan::Complete(head.len()) } else { Scan::Partial };
            assert_eq!(first, Ok(want), "{split}");
            if split < head.len() {
                assert_eq!(scanner.scan(head), Ok(Scan::Complete(head.len())), "{split}");
            }
        }
    }

    #[test]
    fn what_follows_the_head_is_left() {
        let input = b"GET / HTTP/1.1\r\n\r\nGET /next";
        assert_eq!(HeadScanner::default().scan(input), Ok(Scan::Complete(18)));
    }

    #[test]
    fn a_line_feed_alone_is_refused_as_soon_as_it_is_seen() {
        for head in [&b"GET / HTTP/1.1\n"[..], b"\n", b"GET / HTTP/1.1\r\nHost: a\n", b"GET / HTTP/1.1\r\n\n"]
        {
            assert_eq!(HeadScanner::default().scan(head), Err(ScanError::BareLf), "{head:?}");
        }
    }

    #[test]
    fn a_hundred_fields_pass_and_one_more_does_not() {
        let head = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
        assert!(matches!(HeadScanner::default().scan(head(100).as_bytes()), Ok(Scan::Complete(_))));
        assert_eq!(HeadScanner::default().scan(head(101).as_bytes()), Err(ScanError::TooLarge));
    }

    #[test]
    fn fields_without_a_first_line_end_with_the_first_empty_one_and_are_counted_alike() {
        assert_eq!(HeadScanner::of_fields().scan(b"\r\nGET /"), Ok(Scan::Complete(2)));
        assert_eq!(HeadScanner::of_fields().scan(b"\r"), Ok(Scan::Partial));
        let section = |fields: usize| format!("{}\r\n", "a: b\r\n".repeat(fields));
        assert!(matches!(HeadScanner::of_fields().scan(section(100).as_bytes()), Ok(Scan::Complete(_))));
        assert_eq!(HeadScanner::of_fields().scan(section(101).as_bytes()), Err(ScanError::TooLarge));
    }

    #[test]
    fn a_head_of_64_kib_passes_and_one_octet_more_does_not() {
        let around = "GET / HTTP/1.1\r\na: \r\n\r\n".len();
        let head = |size: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "v".repeat(size - around));
        let (fits, large) = (head(HEAD_BYTES_MAX), head(HEAD_BYTES_MAX + 1));
        assert_eq!(HeadScanner::default().scan(fits.as_bytes()), Ok(Scan::Complete(HEAD_BYTES_MAX)));
        assert_eq!(HeadScanner::default().scan(large.as_bytes()), Err(ScanError::TooLarge));
        assert_eq!(HeadScanner::default().scan(&vec![b'a'; HEAD_BYTES_MAX + 1]), Err(ScanError::TooLarge));
    }

    #[test]
    fn a_smaller_head_may_be_all_that_is_wanted() {
        let limits = HeadLimits { bytes: 40, fields: 1, ..HeadLimits::default() };
        let scan = |head: &str| HeadScanner::within(limits).scan(head.as_bytes());
        assert!(matches!(scan("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Scan::Complete(_))));
        assert_eq!(scan("GET / HTTP/1.1\r\nHost: a\r\nb: c\r\n\r\n"), Err(ScanError::TooLarge));
        assert_eq!(scan("GET / HTTP/1.1\r\nHost: a.long.name.com\r\n\r\n"), Err(ScanError::TooLarge));
    }
}
