//! Encoders that take a body piece by piece, with memory that does not grow with it.
//!
//! Not here: when there is something to flush (see `downstream::compressed`).

use std::fmt;
use std::io::{self, Write};

use brotli::enc::BrotliEncoderParams;
use fairway_config::labels::features::{Coding, Compression};
use flate2::write::GzEncoder;

/// The window of brotli and zstd, as a power of two: 256 KiB, as much memory for each answer that is under way.
const WINDOW_LOG: u32 = 18;

/// What brotli collects before it writes.
const BROTLI_BUFFER: usize = 4096;

/// Compresses one body.
pub(crate) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    /// Boxed: it is large.
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl Encoder {
    /// For one body. Fails when there is no memory for it.
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        let level = compression.level;
        Ok(match compression.coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(level.into()))),
            Coding::Brotli => {
                let lgwin = WINDOW_LOG.cast_signed();
                let params =
                    BrotliEncoderParams { quality: level.into(), lgwin, ..BrotliEncoderParams::default() };
                Self::Brotli(Box::new(brotli::CompressorWriter::with_params(
                    Vec::new(),
                    BROTLI_BUFFER,
                    &params,
                )))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level.into())?;
                encoder.window_log(WINDOW_LOG)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Takes a piece.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(piece),
            Self::Brotli(encoder) => encoder.write_all(piece),
            Self::Zstd(encoder) => encoder.write_all(piece),
        }
    }

    /// Makes everything that was taken readable for the other side.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }

    /// What has come out so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        })
    }

    /// Ends the body, and gives what comes out last.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
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
