//! Makes new heads, appended to a buffer that goes out as it is.
//!
//! Not here: which fields go into them (see `forward`).

use super::fields::Field;
use super::framing::BodyLength;

/// Appends one head to a buffer. Names and values were checked when they were read, or are our own.
#[derive(Debug)]
pub struct HeadWriter<'a>(&'a mut Vec<u8>);

impl<'a> HeadWriter<'a> {
    /// Starts with a request line; the target in two parts, so that a missing `/` needs no copy.
    pub fn request(out: &'a mut Vec<u8>, method: &str, target: (&str, &[u8])) -> Self {
        for part in [method.as_bytes(), b" ", target.0.as_bytes(), target.1, b" HTTP/1.1\r\n"] {
            out.extend_from_slice(part);
        }
        Self(out)
    }

    /// Starts with a status line.
    pub fn response(out: &'a mut Vec<u8>, status: u16, reason: &[u8]) -> Self {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason);
        out.extend_from_slice(b"\r\n");
        Self(out)
    }

    /// Goes on with a head whose first fields stand in `out`.
    pub fn behind(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    /// Adds a field.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        self.parts(name, &[value])
    }

    /// Adds fields of the head `raw`, in the order given. Lines that stand side by side there are copied together.
    pub fn fields<'f>(&mut self, raw: &[u8], fields: impl Iterator<Item = &'f Field>) -> &mut Self {
        let mut lines = 0..0;
        for field in fields {
            match field.plain_line() {
                Some(line) if line.start == lines.end => lines.end = line.end,
                Some(line) => {
                    self.0.extend_from_slice(&raw[std::mem::replace(&mut lines, line)]);
                }
                None => {
                    self.0.extend_from_slice(&raw[std::mem::take(&mut lines)]);
                    self.field(field.name(raw), field.value(raw));
                }
            }
        }
        self.0.extend_from_slice(&raw[lines]);
        self
    }

    /// Adds a field whose value stands in parts.
    pub fn parts(&mut self, name: &[u8], value: &[&[u8]]) -> &mut Self {
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
        for part in value {
            self.0.extend_from_slice(part);
        }
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a field whose value is a number.
    pub fn number(&mut self, name: &[u8], value: u64) -> &mut Self {
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
        push_number(self.0, value);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Adds the field that frames a body of this length, if one does.
    pub fn framing(&mut self, length: BodyLength) -> &mut Self {
        match length {
            BodyLength::Exactly(octets) => self.number(b"Content-Length", octets),
            BodyLength::Chunked => self.field(b"Transfer-Encoding", b"chunked"),
            BodyLength::Empty | BodyLength::UntilClose => self,
        }
    }

    /// Ends the head.
    pub fn end(&mut self) {
        self.0.extend_from_slice(b"\r\n");
    }
}

/// Appends a number in decimal.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::FieldIndex;

    #[test]
    fn heads_are_written_as_they_are_read() {
        let mut out = Vec::new();
        HeadWriter::request(&mut out, "GET", ("/", b"?a"))
            .field(b"Host", b"a")
            .framing(BodyLength::Exactly(10))
            .end();
        assert_eq!(out, b"GET /?a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
        out.clear();
        HeadWriter::response(&mut out, 200, b"OK")
            .parts(b"Via", &[b"1.1 ", b"node"])
            .framing(BodyLength::Chunked)
            .end();
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nVia: 1.1 node\r\nTransfer-Encoding: chunked\r\n\r\n");
    }

    #[test]
    fn fields_of_another_head_keep_their_order_and_lose_white_space_around_values() {
        let raw = b"A: 1\r\nB: 2\r\nC:3\r\nD: 4 \r\nE:  5\r\nF:\r\nG: \r\nH:\t8\r\nI: 9\r\nJ: 10\r\n";
        let index = FieldIndex::read(raw, 0..raw.len()).expect("they are fields");
        let written = |passes: fn(&[u8]) -> bool| {
            let mut out = Vec::new();
            HeadWriter::behind(&mut out).fields(raw, index.iter().filter(|field| passes(field.name(raw))));
            String::from_utf8(out).expect("text")
        };
        let all = "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: \r\nG: \r\nH: 8\r\nI: 9\r\nJ: 10\r\n";
        assert_eq!(written(|_| true), all);
        assert_eq!(
            written(|name| !b"BI".contains(&name[0])),
            all.replace("B: 2\r\n", "").replace("I: 9\r\n", "")
        );
        assert_eq!(written(|_| false), "");
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 404, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
