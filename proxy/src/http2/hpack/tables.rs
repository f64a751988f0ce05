//! The tables that a header block refers to (RFC 7541 section 2.3): the static one, and a dynamic one for each direction.

use std::collections::VecDeque;

/// The static table (RFC 7541 appendix A). Numbers start at 1.
static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What the size of an entry counts beside its octets (section 4.1).
const OVERHEAD: usize = 32;

/// The number of the first dynamic entry.
pub(super) const FIRST: usize = STATIC.len() + 1;

/// The number of a field name of the static table, in lower case; pseudo-header fields are not looked for.
pub(super) fn static_name(name: &[u8]) -> Option<usize> {
    Some(match name {
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept-ranges" => 18,
        b"accept" => 19,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"etag" => 34,
        b"expect" => 35,
        b"expires" => 36,
        b"from" => 37,
        b"host" => 38,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"max-forwards" => 47,
        b"proxy-authenticate" => 48,
        b"proxy-authorization" => 49,
        b"range" => 50,
        b"referer" => 51,
        b"refresh" => 52,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => 55,
        b"strict-transport-security" => 56,
        b"transfer-encoding" => 57,
        b"user-agent" => 58,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        _ => return None,
    })
}

/// The number of a status that is in the static table.
pub(super) fn static_status(status: u16) -> Option<usize> {
    Some(match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => return None,
    })
}

/// The number of `:status` with another value.
pub(super) const STATUS: usize = 8;

/// A dynamic table: the newest entry is the first.
#[derive(Debug)]
pub(super) struct Dynamic {
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

/// A field.
#[derive(Debug)]
struct Entry {
    /// The name, and the value behind it.
    text: Box<[u8]>,
    name_len: usize,
}

impl Dynamic {
    /// An empty table of this size.
    pub(super) fn new(size_max: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, size_max }
    }

    /// Sets its size; gives how many entries are left.
    pub(super) fn resize(&mut self, size_max: usize) -> usize {
        self.size_max = size_max;
        self.make_room(0);
        self.entries.len()
    }

    /// Adds a field whose name takes the first octets of `text`; gives whether there is room for it at all.
    pub(super) fn insert(&mut self, text: &[u8], name_len: usize) -> bool {
        let size = text.len() + OVERHEAD;
        self.make_room(size);
        let fits = size <= self.size_max;
        if fits {
            self.size += size;
            self.entries.push_front(Entry { text: text.into(), name_len });
        }
        fits
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Name and value of an entry, counted from 0.
    pub(super) fn entry(&self, at: usize) -> Option<(&[u8], &[u8])> {
        self.entries.get(at).map(|entry| entry.text.split_at(entry.name_len))
    }

    fn make_room(&mut self, octets: usize) {
        while self.size + octets > self.size_max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.text.len() + OVERHEAD;
        }
    }
}

/// Name and value of a field by its number in both tables.
pub(super) fn field(number: usize, dynamic: &Dynamic) -> Option<(&[u8], &[u8])> {
    match number.checked_sub(FIRST) {
        Some(at) => dynamic.entry(at),
        None => {
            let (name, value) = STATIC.get(number.checked_sub(1)?)?;
            Some((name.as_bytes(), value.as_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_static_table_are_found_by_the_first_number_that_has_them() {
        for (at, (name, _)) in STATIC.iter().enumerate().filter(|(_, (name, _))| !name.starts_with(':')) {
            assert_eq!(static_name(name.as_bytes()), Some(at + 1), "{name}");
        }
        assert_eq!(static_name(b"x-other"), None);
        for status in (100..600).filter(|status| static_status(*status).is_some()) {
            let (name, value) = STATIC[static_status(status).expect("a number") - 1];
            assert_eq!((name, value), (":status", &*status.to_string()));
        }
    }

    #[test]
    fn the_oldest_entries_make_room_and_too_large_a_one_empties_the_table() {
        let mut table = Dynamic::new(3 * (OVERHEAD + 2));
        for text in [b"a1", b"b2", b"c3", b"d4"] {
            assert!(table.insert(text, 1));
        }
        let got: Vec<_> = (0..4).map(|at| table.entry(at)).collect();
        let want = |text: &'static [u8]| Some(text.split_at(1));
        assert_eq!(got, [want(b"d4"), want(b"c3"), want(b"b2"), None]);
        assert_eq!(field(FIRST + 1, &table), want(b"c3"));
        assert_eq!((field(0, &table), field(FIRST + 3, &table)), (None, None));
        assert_eq!(table.resize(OVERHEAD + 2), 1);
        assert!(!table.insert(b"too large", 3));
        assert_eq!(table.len(), 0);
    }
}
