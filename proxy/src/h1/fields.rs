//! The header fields of one head, left where they lie: an index of spans into its octets.
//!
//! Not here: what single fields mean (see `request`, `response`).

use std::ops::Range;

use super::known::Known;
use super::syntax::{field_value_len, is_token_octet};

/// Where one field lies in its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    name: u32,
    value: u32,
    value_len: u32,
    name_len: u16,
    /// What the name means, if anything.
    pub known: Known,
    /// Its line is `name: value`, with one space and no other white space around the value.
    is_plain: bool,
}

/// Where the fields of one head lie, in the order sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldIndex {
    fields: Vec<Field>,
    /// A bit for each [`Known`] that is among them: most of what is asked for is not there.
    known: u64,
}

/// Why a line is no header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldError {
    /// It starts with white space: a folded line.
    Folded,
    /// It has no colon.
    NoColon,
    /// Its name is empty, endless, or holds an octet that no token has, white space before the colon among them.
    Name,
    /// Its value holds CR, NUL or another control octet.
    Value,
}

impl FieldError {
    /// One sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Folded => "a header line is folded, or starts with white space",
            Self::NoColon => "a header line has no colon",
            Self::Name => "a header field's name is empty or holds an octet that is not allowed there",
            Self::Value => "a header field's value holds a control octet",
        }
    }
}

impl FieldIndex {
    /// Reads the field lines of `section`, a part of `head` that holds whole lines, each ended by CRLF, and no empty one.
    pub fn read(head: &[u8], section: Range<usize>) -> Result<Self, FieldError> {
        let mut index = Self { fields: Vec::with_capacity(16), known: 0 };
        let mut at = section.start;
        while at < section.end {
            let (field, next) = read_line(head, at)?;
            index.known |= field.known.bit();
            index.fields.push(field);
            at = next;
        }
        Ok(index)
    }

    /// The fields in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether a known field is there.
    pub fn has(&self, known: Known) -> bool {
        self.known & known.bit() != 0
    }

    /// The values of one known field, in the order sent.
    pub fn values<'a>(&'a self, known: Known, head: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let fields = if self.has(known) { &self.fields[..] } else { &[] };
        fields.iter().filter(move |field| field.known == known).map(|field| field.value(head))
    }

    /// Octets of all values of one known field.
    pub fn octets(&self, known: Known, head: &[u8]) -> usize {
        self.values(known, head).map(<[u8]>::len).sum()
    }

    /// The first value of a known field.
    pub fn first<'a>(&'a self, known: Known, head: &'a [u8]) -> Option<&'a [u8]> {
        self.values(known, head).next()
    }
}

impl Field {
    /// Its name as sent.
    pub fn name<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.name as usize..][..usize::from(self.name_len)]
    }

    /// Its value, white space around it removed.
    pub fn value<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.value_range()]
    }

    /// Where its value lies.
    pub fn value_range(&self) -> Range<usize> {
        self.value as usize..(self.value + self.value_len) as usize
    }

    /// Where its line lies, CRLF included, if that is how the field would be written anew.
    pub(super) fn plain_line(&self) -> Option<Range<usize>> {
        self.is_plain.then(|| self.name as usize..self.value_range().end + 2)
    }
}

/// Reads the line that starts at `at`, and gives where the next one does.
fn read_line(head: &[u8], at: usize) -> Result<(Field, usize), FieldError> {
    let rest = &head[at..];
    let name_len = rest.iter().take_while(|b| is_token_octet(**b)).count();
    if rest.get(name_len) != Some(&b':') || name_len == 0 {
        return Err(no_name(rest));
    }
    // A name longer than its number can say would be another name.
    let Ok(short) = u16::try_from(name_len) else { return Err(FieldError::Name) };
    let after = at + name_len + 1;
    // Only CR, and LF behind it, may be the first octet that no value has.
    let end = after + field_value_len(&head[after..]);
    if head.get(end..end + 2) != Some(b"\r\n") {
        return Err(FieldError::Value);
    }
    let is_blank = |at: usize| matches!(head[at], b' ' | b'\t');
    let (mut start, mut stop) = (after, end);
    while start < stop && is_blank(start) {
        start += 1;
    }
    while start < stop && is_blank(stop - 1) {
        stop -= 1;
    }
    // A head is bounded to 1 MiB, a trailer section to less: the numbers fit.
    let field = Field {
        name: at as u32,
        name_len: short,
        value: start as u32,
        value_len: (stop - start) as u32,
        known: Known::of(&rest[..name_len]),
        is_plain: start == after + 1 && head[after] == b' ' && stop == end && start < stop,
    };
    Ok((field, end + 2))
}

/// What is wrong with a line that does not start with a name and a colon.
fn no_name(rest: &[u8]) -> FieldError {
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    match rest.first() {
        Some(b' ' | b'\t') => FieldError::Folded,
        _ if !rest[..end].contains(&b':') => FieldError::NoColon,
        _ => FieldError::Name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, FieldError> {
        let head = text.as_bytes();
        let index = FieldIndex::read(head, 0..head.len())?;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Ok(index.iter().map(|field| (text(field.name(head)), text(field.value(head)))).collect())
    }

    #[test]
    fn names_and_values_are_found_with_blanks_removed() {
        let got = read("Host: a\r\nX:\r\nY:  \t \r\nZ:\tv w \t\r\n").expect("they are fields");
        let want = [("Host", "a"), ("X", ""), ("Y", ""), ("Z", "v w")];
        assert_eq!(got, want.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn lines_that_two_parsers_could_read_differently_are_refused() {
        for (line, want) in [
            (" a: b\r\n", FieldError::Folded),
            ("a: b\r\n\tc\r\n", FieldError::Folded),
            ("a : b\r\n", FieldError::Name),
            ("a\t: b\r\n", FieldError::Name),
            (": b\r\n", FieldError::Name),
            ("a(b: c\r\n", FieldError::Name),
            ("a\0: c\r\n", FieldError::Name),
            ("é: c\r\n", FieldError::Name),
            ("a\r\n", FieldError::NoColon),
            ("a: b\rc\r\n", FieldError::Value),
            ("a: b\r\r\n", FieldError::Value),
            ("a: b\0\r\n", FieldError::Value),
            ("a: \x1b[31m\r\n", FieldError::Value),
            ("a: \x7f\r\n", FieldError::Value),
        ] {
            assert_eq!(read(line), Err(want), "{line:?}");
        }
    }

    #[test]
    fn octets_above_ascii_stay_in_values() {
        assert_eq!(read("a: ä\r\n").expect("a field")[0].1, "ä");
    }
}
