//! WebSocket (RFC 6455), as much as a test needs: the handshake from both sides, and whole messages in single frames.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::raw::Raw;
use crate::wait::{PATIENCE, within};

/// Longest message taken, in octets.
const LONGEST: u64 = 1 << 24;

/// What a frame carries (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text.
    Text,
    /// Octets.
    Binary,
    /// The end; nothing follows.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    const ALL: [(Self, u8); 5] =
        [(Self::Text, 1), (Self::Binary, 2), (Self::Close, 8), (Self::Ping, 9), (Self::Pong, 10)];

    fn number(self) -> u8 {
        Self::ALL.iter().find(|(opcode, _)| *opcode == self).map_or(0, |(_, number)| *number)
    }

    fn read(number: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == number).map(|(opcode, _)| *opcode)
    }
}

/// One side of an open WebSocket.
#[derive(Debug)]
pub struct Ws<S> {
    stream: S,
    /// What a client sends is masked, what a server sends is not (section 5.1).
    client: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Ws<S> {
    /// The server's side, after the 101.
    pub fn server(stream: S) -> Self {
        Self { stream, client: false }
    }

    /// Sends one message.
    pub async fn send(&mut self, opcode: Opcode, payload: &[u8]) -> std::io::Result<()> {
        let mut frame = vec![0x80 | opcode.number()];
        let mask_bit = if self.client { 0x80 } else { 0 };
        match payload.len() {
            short @ 0..126 => frame.push(mask_bit | short as u8),
            middle @ 126..=0xffff => {
                frame.push(mask_bit | 126);
                frame.extend_from_slice(&(middle as u16).to_be_bytes());
            }
            long => {
                frame.push(mask_bit | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        if self.client {
            frame.extend_from_slice(&MASK);
            frame.extend(masked(payload, MASK));
        } else {
            frame.extend_from_slice(payload);
        }
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }

    /// The next message; `None` at the end of the stream, also an early one, and for a frame that is not understood.
    pub async fn receive(&mut self) -> Option<(Opcode, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let second = self.stream.read_u8().await.ok()?;
        let length = match second & 0x7f {
            126 => u64::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()?,
            short => u64::from(short),
        };
        if length > LONGEST || first & 0x80 == 0 {
            return None;
        }
        let mut mask = [0; 4];
        if second & 0x80 != 0 {
            self.stream.read_exact(&mut mask).await.ok()?;
        }
        let mut payload = vec![0; usize::try_from(length).ok()?];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((Opcode::read(first & 0x0f)?, masked(&payload, mask).collect()))
    }
}

/// Any mask will do between a test and its own server; a fixed one makes a failed run repeatable.
const MASK: [u8; 4] = [0x17, 0x2a, 0x5c, 0x91];

fn masked(payload: &[u8], mask: [u8; 4]) -> impl Iterator<Item = u8> {
    payload.iter().zip(mask.into_iter().cycle()).map(|(octet, key)| octet ^ key)
}

/// Sends back every message until the other side closes.
pub async fn echo<S: AsyncRead + AsyncWrite + Unpin>(ws: Ws<S>) {
    echo_until(ws, std::future::pending()).await;
}

/// What the server's close says: 1001 and a word, so that nobody else's close is taken for it.
pub const GOING_AWAY: [u8; 6] = *b"\x03\xe9away";

/// Longest wait for a client to go that was told the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// The same until `end`; then says that the server goes away (1001, section 7.4.1), and waits for the client to go.
pub async fn echo_until<S: AsyncRead + AsyncWrite + Unpin>(mut ws: Ws<S>, end: impl Future<Output = ()>) {
    let mut end = std::pin::pin!(end);
    loop {
        let received = tokio::select! {
            () = end.as_mut() => break,
            received = ws.receive() => received,
        };
        let Some((opcode, payload)) = received else { return };
        let opcode = if opcode == Opcode::Ping { Opcode::Pong } else { opcode };
        // A close is echoed like the rest (section 5.5.1), and then nothing more is sent.
        if ws.send(opcode, &payload).await.is_err() || opcode == Opcode::Close {
            return;
        }
    }
    let went = async {
        ws.send(Opcode::Close, &GOING_AWAY).await?;
        // Octets that nobody has read would make the close a reset, and that could overtake what was just sent.
        tokio::io::copy(&mut ws.stream, &mut tokio::io::sink()).await
    };
    // A client that stays is left.
    let _ = timeout(GOODBYE, went).await;
}

/// The field of a handshake, and what must come back for it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Opens a WebSocket to `http://host/path` at `address`; `Err` is the head of an answer other than 101.
///
/// # Panics
/// When the connection is refused, or nothing is answered, or 101 comes with the wrong `Sec-WebSocket-Accept`.
pub async fn connect(
    address: SocketAddr,
    host: &str,
    path: &str,
) -> Result<Ws<tokio::net::TcpStream>, String> {
    connect_told(address, host, path).await.map(|(ws, _)| ws)
}

/// The same, with the head of the answer.
///
/// # Panics
/// As [`connect`].
pub async fn connect_told(
    address: SocketAddr,
    host: &str,
    path: &str,
) -> Result<(Ws<tokio::net::TcpStream>, String), String> {
    let mut raw = Raw::connect(address).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    raw.send(request).await;
    let head = within("the answer to a WebSocket handshake", PATIENCE, raw.read_until("\r\n\r\n")).await;
    let head = String::from_utf8_lossy(&head).into_owned();
    if !head.starts_with("HTTP/1.1 101 ") {
        return Err(head);
    }
    assert!(head.contains(&accept_for(KEY)), "no Sec-WebSocket-Accept for {KEY} in {head}");
    Ok((Ws { stream: raw.stream, client: true }, head))
}

/// The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
pub fn accept_for(key: &str) -> String {
    base64(&sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()))
}

/// SHA-1 (RFC 3174). The handshake wants it to tell a server that understood from one that echoes, not for secrecy.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0_u32; 80];
        for (word, octets) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = octets.iter().fold(0, |word, octet| word << 8 | u32::from(*octet));
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (round, word) in words.iter().enumerate() {
            let (mixed, constant) = match round {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e);
            (e, d, c, b) = (d, c, b.rotate_left(30), a);
            a = next.wrapping_add(constant).wrapping_add(*word);
        }
        for (sum, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(value);
        }
    }
    let mut digest = [0; 20];
    for (octets, word) in digest.chunks_exact_mut(4).zip(state) {
        octets.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

/// Base 64 with padding (RFC 4648 section 4).
fn base64(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in octets.chunks(3) {
        let bits =
            (0..3).fold(0_usize, |bits, at| bits << 8 | usize::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * at) & 63];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_accepted_as_there() {
        assert_eq!(accept_for(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn sha1_gives_the_digests_of_its_standard() {
        let hex = |digest: [u8; 20]| digest.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        assert_eq!(hex(sha1(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hex(sha1(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
        );
    }

    #[test]
    fn base64_pads_to_four() {
        for (octets, want) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(octets.as_bytes()), want);
        }
    }

    #[tokio::test]
    async fn messages_of_every_length_form_come_back_from_an_echo() {
        let (near, far) = tokio::io::duplex(1 << 10);
        let server = tokio::spawn(echo(Ws::server(far)));
        let mut ws = Ws { stream: near, client: true };
        for length in [0, 125, 126, 65_535, 65_536] {
            let message: Vec<u8> = (0..length).map(|at| at as u8).collect();
            // The pipe is short: both sides must run at once.
            let (read, write) = tokio::io::split(&mut ws.stream);
            let mut sender = Ws { stream: tokio::io::join(tokio::io::empty(), write), client: true };
            let mut receiver = Ws { stream: tokio::io::join(read, tokio::io::sink()), client: true };
            let (sent, got) = tokio::join!(sender.send(Opcode::Binary, &message), receiver.receive());
            assert!(sent.is_ok());
            assert_eq!(got, Some((Opcode::Binary, message)));
        }
        ws.send(Opcode::Close, &[]).await.expect("the server still reads");
        assert_eq!(ws.receive().await, Some((Opcode::Close, vec![])));
        server.await.expect("the echo ends after a close");
    }
}
