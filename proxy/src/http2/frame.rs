//! Frames: their heads, kinds, flags and codes (RFC 9113 sections 4, 6 and 7).

/// Octets of a frame's head.
pub(crate) const HEAD: usize = 9;

/// Largest payload of a frame that we take, as HTTP/2 starts with.
pub(crate) const PAYLOAD_MAX: usize = 16_384;

/// Largest window (section 6.9.1).
pub(crate) const WINDOW_MAX: i64 = 0x7fff_ffff;

/// A window that no setting has changed.
pub(crate) const WINDOW: i64 = 65_535;

/// What a client sends first (section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(crate) mod flag {
    /// Of SETTINGS and PING.
    pub(crate) const ACK: u8 = 1;
    /// Of DATA and HEADERS.
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Settings that mean something here (section 6.5.2; RFC 8441 section 3).
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Why a stream or a connection ends (section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Octets of the payload.
    pub(crate) len: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    /// Reads the first octets of a frame, if they are there.
    pub(crate) fn read(octets: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *octets.first_chunk::<HEAD>()?;
        Some(Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The highest bit means nothing.
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        })
    }

    /// Appends it.
    pub(crate) fn push(self, out: &mut Vec<u8>) {
        let [_, a, b, c] = (self.len as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        out.extend_from_slice(&[a, b, c, self.kind, self.flags, d, e, f, g]);
    }

    /// Whether this flag is set.
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a whole frame.
pub(crate) fn push(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    Head { len: payload.len(), kind, flags, stream }.push(out);
    out.extend_from_slice(payload);
}

/// The first four octets of a payload as a number.
pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_without_the_reserved_bit() {
        let head = Head { len: 0x01_02_03, kind: kind::HEADERS, flags: 5, stream: 0x7fff_fffd };
        let mut out = Vec::new();
        head.push(&mut out);
        assert_eq!(out, [1, 2, 3, 1, 5, 0x7f, 0xff, 0xff, 0xfd]);
        out[5] |= 0x80;
        assert_eq!(Head::read(&out), Some(head));
        assert_eq!(Head::read(&out[..8]), None);
    }
}
