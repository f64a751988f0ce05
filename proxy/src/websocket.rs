//! What the handshake of WebSocket proves (RFC 6455 section 1.3): that the server has read the request's key.
//!
//! Where one side speaks HTTP/2 there is no such handshake (RFC 8441 section 5), so the proxy has it with the other side: it
//! makes the key for an instance and checks the answer, and answers the key of a client.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;

/// What is added to a key before it is hashed.
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key: 16 random octets in base64 (RFC 6455 section 4.1).
pub(crate) fn random_key(rng: &mut Rng) -> String {
    STANDARD.encode(rng.u128(..).to_be_bytes())
}

/// `Sec-WebSocket-Accept` for this key (RFC 6455 section 4.2.2).
pub(crate) fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, SALT].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_answered_as_there() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_are_16_octets_and_differ() {
        let mut rng = Rng::with_seed(1);
        let (one, other) = (random_key(&mut rng), random_key(&mut rng));
        assert_eq!(STANDARD.decode(&one).map(|octets| octets.len()), Ok(16));
        assert_ne!(one, other);
    }
}
