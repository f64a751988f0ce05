//! What clients send that speak HTTP/2.

use fairway_proxy::workbench::http2;

use super::lines_are_plain;

/// Whatever comes is answered with whole frames, the same however it was cut; a request becomes a head of plain lines.
pub fn check(input: &[u8]) {
    let whole = http2(input, input.len());
    for cut in [1, 7, 100] {
        assert_eq!(http2(input, cut), whole, "{cut} octets at a time");
    }
    let mut rest = &whole.octets[..];
    while let Some((head, behind)) = rest.split_at_checked(9) {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        assert!(len <= 16_384, "no client has to take more");
        rest = behind.get(len..).expect("frames are whole");
    }
    assert!(rest.is_empty(), "frames are whole");
    for head in &whole.heads {
        lines_are_plain(head);
    }
}
