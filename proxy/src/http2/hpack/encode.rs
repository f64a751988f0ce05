//! Makes header blocks (RFC 7541 section 6).
//!
//! What may well come again goes into the table, as other servers have it; what is told once does not.

use std::collections::VecDeque;

use super::TABLE_BYTES;
use super::huffman;
use super::tables::{Dynamic, FIRST, STATUS, static_name, static_status};
use crate::pick::stable_hash;

/// A field may take this much of the table, in quarters: a larger one would empty it for itself.
const QUARTERS_MAX: usize = 3;

/// One direction of one connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    table: Dynamic,
    /// Hashes of the entries, in the same order.
    hashes: VecDeque<u32>,
    size_max: usize,
    /// The smallest size since the last block, where it has changed: the other side must hear of it.
    changed: Option<usize>,
}

impl Encoder {
    /// With an empty table.
    pub(crate) fn new() -> Self {
        Self {
            table: Dynamic::new(TABLE_BYTES),
            hashes: VecDeque::new(),
            size_max: TABLE_BYTES,
            changed: None,
        }
    }

    /// The other side's table may have this size.
    pub(crate) fn resize(&mut self, size_max: usize) {
        let size_max = size_max.min(TABLE_BYTES);
        if size_max != self.size_max {
            self.size_max = size_max;
            self.changed = Some(self.changed.map_or(size_max, |least| least.min(size_max)));
        }
    }

    /// Starts a block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        let Some(least) = self.changed.take() else { return };
        // Both the smallest and the last one (section 4.2).
        for size in [least, self.size_max] {
            let left = self.table.resize(size);
            self.hashes.truncate(left);
            push_number(out, 0b0010_0000, 5, size);
        }
    }

    /// Adds `:status`.
    pub(crate) fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        match static_status(status) {
            Some(number) => push_number(out, 0b1000_0000, 7, number),
            None => {
                let digits =
                    [status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
                push_number(out, 0, 4, STATUS);
                push_string(out, &digits);
            }
        }
    }

    /// Adds a field; its name is in lower case.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let static_name = static_name(name);
        let size = (name.len() + value.len() + 32) * 4;
        if is_told_once(name) || size > self.size_max * QUARTERS_MAX {
            return push_literal(out, (0, 4), static_name, name, value);
        }
        let hash = hash(name, value);
        let known = self.hashes.iter().enumerate().filter(|(_, known)| **known == hash);
        for (at, _) in known {
            if self.table.entry(at) == Some((name, value)) {
                return push_number(out, 0b1000_0000, 7, FIRST + at);
            }
        }
        push_literal(out, (0b0100_0000, 6), static_name, name, value);
        // Room for it is made at the other end of both.
        let text = [name, value].concat();
        if self.table.insert(&text, name.len()) {
            self.hashes.push_front(hash);
        }
        self.hashes.truncate(self.table.len());
    }
}

/// Whether a field is another one in each answer, or should not lie in anybody's memory.
fn is_told_once(name: &[u8]) -> bool {
    matches!(name, b"age" | b"etag" | b"cookie" | b"location" | b"set-cookie" | b"authorization")
        || matches!(name, b"content-length" | b"content-range" | b"if-none-match" | b"if-modified-since")
}

fn hash(name: &[u8], value: &[u8]) -> u32 {
    stable_hash::both(stable_hash::of(name), stable_hash::of(value)) as u32
}

/// A field by its name's number, or with its name, and its value.
fn push_literal(
    out: &mut Vec<u8>,
    (kind, prefix): (u8, u32),
    number: Option<usize>,
    name: &[u8],
    value: &[u8],
) {
    push_number(out, kind, prefix, number.unwrap_or(0));
    if number.is_none() {
        push_string(out, name);
    }
    push_string(out, value);
}

/// A number behind the bits of `kind` (section 5.1).
fn push_number(out: &mut Vec<u8>, kind: u8, prefix: u32, number: usize) {
    let full = (1usize << prefix) - 1;
    if number < full {
        return out.push(kind | number as u8);
    }
    out.push(kind | full as u8);
    let mut rest = number - full;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A string in its shorter form (section 5.2).
fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    let coded = huffman::coded_len(text);
    if coded < text.len() {
        push_number(out, 0x80, 7, coded);
        huffman::encode(text, out);
    } else {
        push_number(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::decode::Decoder;
    use super::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn encode(encoder: &mut Encoder, fields: &Fields) -> Vec<u8> {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        for (name, value) in fields {
            encoder.field(name, value, &mut block);
        }
        block
    }

    fn read(decoder: &mut Decoder, block: &[u8]) -> Fields {
        let mut fields = Vec::new();
        let push = |name: &[u8], value: &[u8]| {
            fields.push((name.to_vec(), value.to_vec()));
            true
        };
        decoder.decode(block, push).expect("a block that can be read");
        fields
    }

    fn fields(fields: &[(&str, &str)]) -> Fields {
        fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_comes_again_is_one_octet_and_what_is_told_once_stays_out_of_the_table() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let told = fields(&[("server", "x"), ("x-other", "y"), ("etag", "\"a\""), ("set-cookie", "b=c")]);
        let first = encode(&mut encoder, &told);
        assert_eq!(read(&mut decoder, &first), told);
        let second = encode(&mut encoder, &told);
        assert_eq!(&second[..2], [0x80 | 63, 0x80 | 62], "both are in the table");
        assert_eq!(read(&mut decoder, &second), told);
        assert_eq!(encoder.table.len(), 2);
    }

    #[test]
    fn each_status_is_read_as_it_was_meant() {
        let mut encoder = Encoder::new();
        for status in [100, 200, 204, 302, 404, 418, 599, 999] {
            let mut block = Vec::new();
            encoder.status(status, &mut block);
            let want = vec![(b":status".to_vec(), status.to_string().into_bytes())];
            assert_eq!(read(&mut Decoder::new(), &block), want);
        }
    }

    #[test]
    fn a_change_of_size_is_told_in_front_of_the_next_block_with_the_smallest_between() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let told = fields(&[("server", "x")]);
        read(&mut decoder, &encode(&mut encoder, &told));
        encoder.resize(0);
        encoder.resize(100);
        encoder.resize(1_000_000);
        let block = encode(&mut encoder, &told);
        assert_eq!(&block[..4], [0x20, 0x3f, 0xe1, 0x1f], "0, then 4096");
        assert_eq!(read(&mut decoder, &block), told);
        assert_eq!(encode(&mut encoder, &told), [0x80 | 62]);
        encoder.resize(0);
        let block = encode(&mut encoder, &told);
        assert_eq!((read(&mut decoder, &block), encoder.table.len()), (told, 0));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_again_whatever_the_table_holds(
            blocks in vec(vec((vec(b'a'..=b'd', 1..3), vec(any::<u8>(), 0..200)), 0..12), 1..20),
            sizes in vec(proptest::option::of(0usize..6000), 20),
        ) {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            for (block, size) in blocks.iter().zip(sizes) {
                if let Some(size) = size {
                    encoder.resize(size);
                }
                let coded = encode(&mut encoder, block);
                prop_assert_eq!(&read(&mut decoder, &coded), block);
                let coded = encode(&mut encoder, block);
                prop_assert_eq!(&read(&mut decoder, &coded), block);
                prop_assert_eq!(encoder.hashes.len(), encoder.table.len());
            }
        }
    }
}
