//! Reads header blocks (RFC 7541 sections 5 and 6).

use super::TABLE_BYTES;
use super::huffman;
use super::tables::{Dynamic, field};

/// The block cannot be read: nobody knows what the table of the other side holds, so the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// One direction of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Dynamic,
    /// Memory for the text of one field.
    text: Vec<u8>,
}

impl Decoder {
    /// With an empty table.
    pub(crate) fn new() -> Self {
        Self { table: Dynamic::new(TABLE_BYTES), text: Vec::new() }
    }

    /// Reads a whole block and shows name and value of each field, in order. It is read to its end whatever becomes of the
    /// fields, because the table depends on it; unless `visit` says that they do harm, and the connection ends.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Unreadable> {
        let mut rest = Rest(block);
        let mut has_begun = false;
        while let Some(first) = rest.0.first().copied() {
            let goes_on = match first {
                0b1000_0000.. => {
                    let (name, value) = field(rest.number(7)?, &self.table).ok_or(Unreadable)?;
                    visit(name, value)
                }
                0b0010_0000..0b0100_0000 => {
                    let size = rest.number(5)?;
                    // Only in front, and no more than we offered (section 4.2).
                    if has_begun || size > TABLE_BYTES {
                        return Err(Unreadable);
                    }
                    self.table.resize(size);
                    continue;
                }
                _ => {
                    let is_kept = first & 0b0100_0000 != 0;
                    let name_len = self.literal(&mut rest, if is_kept { 6 } else { 4 })?;
                    let (name, value) = self.text.split_at(name_len);
                    let goes_on = visit(name, value);
                    if is_kept {
                        self.table.insert(&self.text, name_len);
                    }
                    goes_on
                }
            };
            if !goes_on {
                return Err(Unreadable);
            }
            has_begun = true;
        }
        // One long field is no reason to hold memory for as long as the connection lives.
        if self.text.capacity() > TABLE_BYTES {
            self.text = Vec::new();
        }
        Ok(())
    }

    /// Reads a field that is not in a table, or not with this value; gives how long its name is.
    fn literal(&mut self, rest: &mut Rest<'_>, prefix: u32) -> Result<usize, Unreadable> {
        self.text.clear();
        match rest.number(prefix)? {
            0 => rest.string(&mut self.text)?,
            number => {
                let (name, _) = field(number, &self.table).ok_or(Unreadable)?;
                self.text.extend_from_slice(name);
            }
        }
        let name_len = self.text.len();
        rest.string(&mut self.text)?;
        Ok(name_len)
    }
}

/// The rest of a block.
struct Rest<'b>(&'b [u8]);

impl Rest<'_> {
    fn octet(&mut self) -> Result<u8, Unreadable> {
        let (first, rest) = self.0.split_first().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number whose first octet has so many bits of it (section 5.1).
    fn number(&mut self, prefix: u32) -> Result<usize, Unreadable> {
        let full = (1 << prefix) - 1;
        let mut number = usize::from(self.octet()?) & full;
        if number < full {
            return Ok(number);
        }
        // No number here may be larger than a header block.
        for shift in [0, 7, 14, 21] {
            let octet = usize::from(self.octet()?);
            number += (octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Unreadable)
    }

    /// Appends a string (section 5.2).
    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let is_coded = self.0.first().ok_or(Unreadable)? & 0x80 != 0;
        let len = self.number(7)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Unreadable)?;
        self.0 = rest;
        if is_coded {
            return huffman::decode(text, out).map_err(|huffman::NoCode| Unreadable);
        }
        out.extend_from_slice(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Unreadable> {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let mut fields = Vec::new();
        decoder.decode(block, |name, value| {
            fields.push((text(name), text(value)));
            true
        })?;
        Ok(fields)
    }

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let pair = |pair: &[u8]| {
            u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits")
        };
        digits.chunks(2).map(pair).collect()
    }

    #[test]
    fn the_requests_of_the_rfc_are_read_with_and_without_huffman() {
        // Appendix C.3 and C.4.
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        let host = (":authority", "www.example.com");
        let wants: [Vec<(&str, &str)>; 3] = [
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), host],
            vec![
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                host,
                ("cache-control", "no-cache"),
            ],
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                host,
                ("custom-key", "custom-value"),
            ],
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::new();
            for (block, want) in blocks.iter().zip(&wants) {
                let want: Vec<_> = want.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
                assert_eq!(read(&mut decoder, &octets(block)), Ok(want));
            }
            assert_eq!(decoder.table.len(), 3);
        }
    }

    #[test]
    fn a_block_that_names_what_is_not_there_or_ends_too_early_is_unreadable() {
        for block in [
            "80",                   // number 0
            "be",                   // nothing is in the dynamic table
            "ff ff ff ff ff ff 01", // a number without end
            "40 0a 61",             // a string that is cut
            "41",                   // a value that is missing
            "7e 01 61",             // the name of an entry that is not there
            "3f e2 1f",             // a table larger than ours
            "82 20",                // a change of size behind a field
            "40 81 00 01 61",       // padding that is none
        ] {
            assert_eq!(read(&mut Decoder::new(), &octets(block)), Err(Unreadable), "{block}");
        }
        assert_eq!(read(&mut Decoder::new(), &octets("20 3f e1 1f")), Ok(Vec::new()), "twice in front");
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_or_not_and_never_panic(blocks in proptest::collection::vec(proptest::collection::vec(0u8.., 0..64), 1..8)) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _ = read(&mut decoder, &block);
            }
        }
    }
}
