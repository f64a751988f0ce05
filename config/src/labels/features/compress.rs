//! `fairway.compress`: with which codings answers are compressed.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::super::clients::one_of;
use super::super::flaw::{Flaw, shown};
use super::super::scalar;

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `gzip`
    Gzip,
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
}

impl Coding {
    /// As it stands in `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The level that is used where none is written: the knee of size against time.
    fn default_level(self) -> u8 {
        match self {
            Self::Gzip => 5,
            Self::Brotli => 4,
            Self::Zstd => 3,
        }
    }

    /// The levels that do not hold a worker up for long: a piece of 32 KiB stays well below 10 ms.
    fn levels(self) -> RangeInclusive<u32> {
        match self {
            Self::Gzip => 1..=9,
            Self::Brotli => 0..=6,
            Self::Zstd => 1..=9,
        }
    }
}

/// A coding and how much is spent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// The coding.
    pub coding: Coding,
    /// The level in the coding's own numbers.
    pub level: u8,
}

/// Codings in the order of preference, each perhaps with its level: `br:5, gzip`. `true` is `zstd, br, gzip`; `false` is
/// none.
pub(super) fn codings<'a>(
    value: &'a str,
    found: &mut Vec<(&'a str, Flaw)>,
) -> Result<Arc<[Compression]>, Flaw> {
    let plain = |coding: Coding| Compression { coding, level: coding.default_level() };
    if value.eq_ignore_ascii_case("true") {
        return Ok([Coding::Zstd, Coding::Brotli, Coding::Gzip].map(plain).into());
    }
    if value.eq_ignore_ascii_case("false") {
        return Ok(Arc::default());
    }
    let mut codings: Vec<Compression> = Vec::new();
    for text in value.split([',', ';', ' ']).map(str::trim).filter(|text| !text.is_empty()) {
        match compression(text) {
            Ok(new) if codings.iter().any(|old| old.coding == new.coding) => {
                let what = format!("`{}` is there twice; the first counts", new.coding.as_str());
                found.push((text, Flaw::warning("label-compress", what, "leave one of them out")));
            }
            Ok(new) => codings.push(new),
            Err(flaw) => found.push((text, flaw)),
        }
    }
    if codings.is_empty() && found.is_empty() {
        return Err(Flaw::refused(
            "label-compress",
            "there is no coding",
            "write `zstd, br, gzip`, `true` or `false`",
        ));
    }
    Ok(codings.into())
}

fn compression(text: &str) -> Result<Compression, Flaw> {
    let (name, level) = match text.split_once(':') {
        Some((name, level)) => (name.trim(), Some(level.trim())),
        None => (text, None),
    };
    let coding = match name {
        "gzip" => Coding::Gzip,
        "br" => Coding::Brotli,
        "zstd" => Coding::Zstd,
        "deflate" => {
            let what = format!("`{}` is not offered: clients disagree about what it is", shown(name));
            return Err(Flaw::refused("label-compress", what, "write `gzip`, which every client knows"));
        }
        "brotli" => {
            return Err(Flaw::refused(
                "label-compress",
                "`brotli` is no coding",
                "write `br`, its name in HTTP",
            ));
        }
        _ => return Err(one_of("label-compress", "coding", name, &["gzip", "br", "zstd"])),
    };
    let level = match level {
        Some(level) => scalar::whole(level, coding.levels(), "")
            .map_err(|flaw| Flaw { kind: "label-compress", ..flaw })
            .map(|level| u8::try_from(level).unwrap_or_default())?,
        None => coding.default_level(),
    };
    Ok(Compression { coding, level })
}
