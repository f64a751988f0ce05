//! The query of a request, read with forgiveness: what is missing or malformed has the default.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// The pairs of `a=1&b=2`, percent-decoded, in their order.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        (decode(key), decode(value))
    })
}

/// The first value of `key`.
pub(super) fn text(query: &str, key: &str) -> Option<String> {
    pairs(query).find(|(name, _)| name == key).map(|(_, value)| value)
}

/// The first value of `key` as a number.
pub(super) fn number<T: FromStr>(query: &str, key: &str) -> Option<T> {
    text(query, key)?.parse().ok()
}
