//! The first message of a client over TLS, where TLS of some hosts is passed on.

use fairway_proxy::workbench::{ClientHello, client_hello};

/// What is known of it is the same however it arrives, stays so with whatever follows, and no octet of it is lost: they go on
/// to an instance or to a handshake.
pub fn check(input: &[u8]) {
    let (whole, kept) = client_hello([input]);
    assert_eq!(kept, input, "all that was read goes on");
    let (alone, kept) = client_hello(input.chunks(1));
    assert!(input.starts_with(&kept), "what was read goes on as it came");
    assert_eq!(alone, whole, "it is the same, octet by octet");
    if let ClientHello::For(host) = &whole {
        assert!(!host.is_empty() && host.is_ascii(), "{host:?}");
        assert!(!host.bytes().any(|octet| octet.is_ascii_uppercase()), "{host:?}");
        for size in [2, 5, 64] {
            assert_eq!(client_hello(input.chunks(size)).0, whole, "in pieces of {size}");
        }
        let more = [input, b"\x16\x03\x01"].concat();
        assert_eq!(client_hello([&more[..]]).0, whole, "whatever follows");
    }
}
