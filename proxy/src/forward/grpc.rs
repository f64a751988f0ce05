//! What a proxy knows of gRPC: which messages are its
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

/// Whether the content of a message is gRPC: `application/grpc`, with or without `+proto` and the like. gRPC-Web is none:
/// its trailers are in the body.
pub(crate) fn is_grpc<'v>(mut content_type: impl Iterator<Item = &'v [u8]>) -> bool {
    let Some(value) = content_type.next() else { return false };
    const NAME: &[u8] = b"application/grpc";
    let Some((start, rest)) = value.split_at_checked(NAME.len()) else { return false };
    start.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (value, want) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(std::iter::once(value.as_bytes())), want, "{value}");
        }
        assert!(!is_grpc(std::iter::empty()));
    }
}
