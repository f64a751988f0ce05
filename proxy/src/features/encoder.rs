//! Encoders that take a body piece by piece, with memory that does not grow with it.
//!
//! Not here: when there is something to flush (see `downstream::compressed`).

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use brotli::enc::BrotliEncoderParams;
use fairway_config::labels::features::{Coding, Compression};
use flate2::write::GzEncoder;

/// The window of zstd, as a power of two: 256 KiB.
const ZSTD_WINDOW_LOG: u32 = 18;
/// The window of brotli and what it looks at in one go, as powers of two; 0: its own choice. Larger ones would gain a tenth
/// up to level 4 and take half as much memory again; above it they are what makes the level worth it.
fn brotli_logs(level: u8) -> (i32, i32) {
    if level <= 4 { (17, 16) } else { (18, 0) }
}

/// What brotli collects before it writes.
const BROTLI_BUFFER: usize = 4096;

const KIB: usize = 1024;

/// Most memory of all encoders of the process, in octets: clients that read slowly keep theirs for long.
const MEMORY_MAX: usize = 256 * 1024 * KIB;

/// Memory of all encoders that are under way, in octets.
static MEMORY: AtomicUsize = AtomicUsize::new(0);

/// Memory of one encoder, in octets, for as long as it lives. At most what was measured, rounded up.
#[derive(Debug)]
struct Share {
    octets: usize,
    /// What it is a part of.
    of: &'static AtomicUsize,
}

impl Share {
    /// `None` when all of them together would have too much.
    fn take(compression: Compression, of: &'static AtomicUsize) -> Option<Self> {
        let octets = KIB
            * match (compression.coding, compression.level) {
                (Coding::Gzip, _) => 256,
                (Coding::Brotli, ..=3) => 1280,
                (Coding::Brotli, 4) => 2560,
                (Coding::Brotli, _) => 5632,
                (Coding::Zstd, ..=3) => 1280,
                (Coding::Zstd, _) => 4096,
            };
        let share = Self { octets, of }; // given back if it is too much
        (of.fetch_add(octets, Ordering::Relaxed) + octets <= MEMORY_MAX).then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

/// Compresses one body.
pub(crate) struct Encoder {
    kind: Kind,
    /// Given back with it.
    _share: Share,
}

enum Kind {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Gzip(_) => "Gzip",
            Kind::Brotli(_) => "Brotli",
            Kind::Zstd(_) => "Zstd",
        })
    }
}

impl Encoder {
    /// For one body; `None` when there is no memory for it.
    pub(crate) fn new(compression: Compression) -> Option<Self> {
        let share = Share::take(compression, &MEMORY)?;
        let level = compression.level;
        let kind = match compression.coding {
            Coding::Gzip => Kind::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(level.into()))),
            Coding::Brotli => {
                let (lgwin, lgblock) = brotli_logs(level);
                let params = BrotliEncoderParams {
                    quality: level.into(),
                    lgwin,
                    lgblock,
                    ..BrotliEncoderParams::default()
                };
                let writer = brotli::CompressorWriter::with_params(Vec::new(), BROTLI_BUFFER, &params);
                Kind::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level.into()).ok()?;
                encoder.window_log(ZSTD_WINDOW_LOG).ok()?;
                Kind::Zstd(encoder)
            }
        };
        Some(Self { kind, _share: share })
    }

    /// Takes a piece.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.kind {
            Kind::Gzip(encoder) => encoder.write_all(piece),
            Kind::Brotli(encoder) => encoder.write_all(piece),
            Kind::Zstd(encoder) => encoder.write_all(piece),
        }
    }

    /// Makes everything that was taken readable for the other side.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Gzip(encoder) => encoder.flush(),
            Kind::Brotli(encoder) => encoder.flush(),
            Kind::Zstd(encoder) => encoder.flush(),
        }
    }

    /// What has come out so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.kind {
            Kind::Gzip(encoder) => encoder.get_mut(),
            Kind::Brotli(encoder) => encoder.get_mut(),
            Kind::Zstd(encoder) => encoder.get_mut(),
        })
    }

    /// Ends the body, and gives what comes out last.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self.kind {
            Kind::Gzip(encoder) => encoder.finish(),
            Kind::Brotli(encoder) => Ok(encoder.into_inner()),
            Kind::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

    fn encoder(coding: Coding) -> Encoder {
        Encoder::new(Compression { coding, level: 3 }).expect("an encoder")
    }

    /// As much as can be read of what came so far.
    fn decoded(coding: Coding, octets: &[u8]) -> Vec<u8> {
        let mut reader: Box<dyn Read> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(octets)),
            Coding::Brotli => Box::new(brotli::Decompressor::new(octets, 4096)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(octets).expect("a decoder")),
        };
        let mut out = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = reader.read(&mut buffer) {
            out.extend_from_slice(&buffer[..read]);
        }
        out
    }

    #[test]
    fn what_was_flushed_can_be_read_before_the_end() {
        for coding in CODINGS {
            let mut encoder = encoder(coding);
            let mut sent = Vec::new();
            for event in ["data: 1\n\n", "data: 2\n\n"] {
                encoder.write(event.as_bytes()).expect("it takes it");
                encoder.flush().expect("it flushes");
                sent.extend(encoder.take());
                assert!(decoded(coding, &sent).ends_with(event.as_bytes()), "{coding:?}");
            }
            sent.extend(encoder.finish().expect("it ends"));
            assert_eq!(decoded(coding, &sent), b"data: 1\n\ndata: 2\n\n", "{coding:?}");
        }
    }

    #[test]
    fn a_long_body_comes_out_as_it_goes_in() {
        let piece: Vec<u8> = (0..32 * 1024_u32).map(|i| (i.wrapping_mul(i) >> 7) as u8 & 0x3f).collect();
        for coding in CODINGS {
            let mut encoder = encoder(coding);
            let mut kept = 0;
            for _ in 0..256 {
                encoder.write(&piece).expect("it takes it");
                let out = encoder.take();
                assert!(out.len() < 1024 * 1024, "{coding:?} keeps back what it could say");
                kept += out.len();
            }
            kept += encoder.finish().expect("it ends").len();
            assert!(kept < 256 * piece.len(), "{coding:?} made it larger: {kept}");
        }
    }

    #[test]
    fn encoders_that_would_take_too_much_memory_are_not_made_until_others_have_ended() {
        static MEMORY: AtomicUsize = AtomicUsize::new(0);
        let take = || Share::take(Compression { coding: Coding::Brotli, level: 6 }, &MEMORY);
        let mut taken: Vec<Share> = std::iter::from_fn(take).take(1000).collect();
        assert_eq!(taken.len(), MEMORY_MAX / (5632 * KIB));
        assert!(take().is_none());
        taken.pop();
        assert!(take().is_some());
        drop(taken);
        assert_eq!(MEMORY.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_pieces_with_any_flushes_come_back(pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), any::<bool>()), 0..12)) {
            for coding in CODINGS {
                let mut encoder = encoder(coding);
                let (mut sent, mut want) = (Vec::new(), Vec::new());
                for (piece, flush) in &pieces {
                    encoder.write(piece).expect("it takes it");
                    want.extend_from_slice(piece);
                    if *flush {
                        encoder.flush().expect("it flushes");
                    }
                    sent.extend(encoder.take());
                }
                sent.extend(encoder.finish().expect("it ends"));
                prop_assert_eq!(&decoded(coding, &sent), &want);
            }
        }
    }
}
