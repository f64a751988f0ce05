//! A connection that requests are sent on one by one, each answer read to its end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

/// Longest wait for anything.
const LONGEST: Duration = Duration::from_secs(5);

/// Connects. Closing it will be a reset: no port waits for its time, however many connections there were.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, LONGEST)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LONGEST))?;
    stream.set_write_timeout(Some(LONGEST))?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

/// A GET, with further lines if any.
pub(super) fn request(host: &str, path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: side-by-side\r\nAccept: */*\r\n{more}\r\n")
        .into_bytes()
}

/// Sends a request and reads the whole answer, which must be 200 and have a length.
pub(super) fn exchange(
    stream: &mut (impl Read + Write),
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    stream.write_all(request)?;
    buffer.clear();
    let mut piece = [0; 16 * 1024];
    let mut whole = None;
    while whole.is_none_or(|whole| buffer.len() < whole) {
        match stream.read(&mut piece)? {
            0 => return Err(io::Error::other("the connection ended before the answer did")),
            count => buffer.extend_from_slice(&piece[..count]),
        }
        if whole.is_none() {
            whole = length_of_answer(buffer)?;
        }
    }
    Ok(())
}

/// Octets of the answer that starts here, its head included; `None` until the head is whole.
fn length_of_answer(octets: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = octets.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&octets[..head]);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(format!("the answer is `{status}`")));
    }
    let is_length =
        |line: &&str| line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case("content-length:"));
    let length = lines.find(is_length).and_then(|line| line[15..].trim().parse::<usize>().ok());
    length.map(|length| Some(head + 4 + length)).ok_or_else(|| io::Error::other("the answer has no length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_its_head_says() {
        assert_eq!(length_of_answer(b"HTTP/1.1 200 OK\r\nA: b\r\n").ok(), Some(None));
        assert_eq!(length_of_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na").ok(), Some(Some(41)));
        for bad in ["HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            assert!(length_of_answer(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
