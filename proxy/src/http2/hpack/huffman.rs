//! The Huffman code of strings (RFC 7541 appendix B). It is canonical, so its lengths say all of it: the codes of one length
//! follow each other in the order of their symbols, and each length goes on where the one before has stopped.

/// Bits of the longest code. Its last one, all ones, is the end of string, which must not be sent.
const LONGEST: usize = 30;

/// Bits of each symbol's code.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    /// The lowest code.
    first: u32,
    count: u32,
    /// Where the symbols start among all, which stand in the order of their codes.
    at: u32,
}

struct Code {
    codes: [u32; 256],
    groups: [Group; LONGEST + 1],
    /// Symbols in the order of their codes.
    symbols: [u8; 256],
    /// Symbol and length of the code that eight bits start with; a length of 0: it is longer.
    short: [(u8, u8); 256],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut code = Code {
        codes: [0; 256],
        groups: [Group { first: 0, count: 0, at: 0 }; LONGEST + 1],
        symbols: [0; 256],
        short: [(0, 0); 256],
    };
    let (mut next, mut at, mut length) = (0u32, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.groups[length] = Group { first: next, count: 0, at: at as u32 };
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = next;
                code.symbols[at] = symbol as u8;
                code.groups[length].count += 1;
                if length <= 8 {
                    let (start, span) = ((next as usize) << (8 - length), 1 << (8 - length));
                    let mut slot = start;
                    while slot < start + span {
                        code.short[slot] = (symbol as u8, length as u8);
                        slot += 1;
                    }
                }
                next += 1;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
}

/// The string is no code: it holds the end of string, or ends in something else than a few ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoCode;

/// Appends what `coded` stands for.
pub(crate) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), NoCode> {
    const ALL: u32 = (1 << LONGEST) - 1;
    let mut rest = coded.iter();
    let (mut bits, mut have) = (0u64, 0usize);
    loop {
        while have <= 48
            && let Some(octet) = rest.next()
        {
            bits = bits << 8 | u64::from(*octet);
            have += 8;
        }
        // The next bits, with ones behind the last.
        let window = match have.checked_sub(LONGEST) {
            Some(more) => (bits >> more) as u32 & ALL,
            None => ((bits << (LONGEST - have)) as u32 | ((1 << (LONGEST - have)) - 1)) & ALL,
        };
        match symbol(window) {
            Some((symbol, length)) if length <= have => {
                out.push(symbol);
                have -= length;
                bits &= (1 << have) - 1;
            }
            // What is left must be the start of the end of string, and less than an octet (section 5.2).
            _ if have < 8 && window == ALL => return Ok(()),
            _ => return Err(NoCode),
        }
    }
}

/// The symbol that these bits start with, and how many of them it takes.
fn symbol(window: u32) -> Option<(u8, usize)> {
    let (symbol, length) = CODE.short[(window >> (LONGEST - 8)) as usize];
    if length > 0 {
        return Some((symbol, usize::from(length)));
    }
    (9..=LONGEST).find_map(|length| {
        let group = &CODE.groups[length];
        let number = (window >> (LONGEST - length)).checked_sub(group.first)?;
        (number < group.count).then(|| (CODE.symbols[(group.at + number) as usize], length))
    })
}

/// Octets of the code of this text.
pub(crate) fn coded_len(text: &[u8]) -> usize {
    text.iter().map(|octet| usize::from(LENGTHS[usize::from(*octet)])).sum::<usize>().div_ceil(8)
}

/// Appends the code of this text.
pub(crate) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut have) = (0u64, 0u32);
    for octet in text {
        let at = usize::from(*octet);
        bits = bits << LENGTHS[at] | u64::from(CODE.codes[at]);
        have += u32::from(LENGTHS[at]);
        while have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    if have > 0 {
        out.push((bits << (8 - have)) as u8 | (0xff >> have));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, NoCode> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn the_examples_of_the_rfc_are_coded_as_they_are_there() {
        for (text, coded) in [
            (
                &b"www.example.com"[..],
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
            ),
            (b"no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            (b"custom-key", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f]),
            (b"302", &[0x64, 0x02]),
        ] {
            let mut out = Vec::new();
            encode(text, &mut out);
            assert_eq!(out, coded);
            assert_eq!(coded_len(text), coded.len());
            assert_eq!(decoded(coded).as_deref(), Ok(text));
        }
    }

    #[test]
    fn every_octet_comes_back_alone_and_among_others() {
        let all: Vec<u8> = (0..=255).collect();
        for text in all.iter().map(|octet| vec![*octet]).chain([all.clone(), all.repeat(3), Vec::new()]) {
            let mut out = Vec::new();
            encode(&text, &mut out);
            assert_eq!(decoded(&out), Ok(text));
        }
    }

    #[test]
    fn the_end_of_string_and_wrong_padding_are_no_code() {
        // The end of string; eight ones and more; zeros where ones should be.
        for coded in [
            &[0xff, 0xff, 0xff, 0xff][..],
            &[0xff],
            &[0x64, 0x02, 0xff],
            &[0b0000_0000],
            &[0x07, 0b0001_1000],
        ] {
            assert_eq!(decoded(coded), Err(NoCode), "{coded:x?}");
        }
    }
}
