//! A client that is `h2`'s, and one that sends any frames.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use crate::kit::*;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const CALM: u32 = 11;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client on a connection of its own.
pub(crate) async fn client(plane: &Plane) -> SendRequest<Bytes> {
    client_with(plane, &h2::client::Builder::new()).await
}

/// The same with settings of its own.
pub(crate) async fn client_with(plane: &Plane, builder: &h2::client::Builder) -> SendRequest<Bytes> {
    client_at(plane.address, builder).await
}

/// The same of the data plane at this address.
pub(crate) async fn client_at(address: SocketAddr, builder: &h2::client::Builder) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("the data plane accepts");
    let (client, connection) = within("the handshake", builder.handshake(stream)).await.expect("HTTP/2");
    tokio::spawn(async move {
        // How it ends is seen by its streams.
        let _ = connection.await;
    });
    within("the connection", client.ready()).await.expect("it is open")
}

/// A GET of `path` at `shop.test`.
pub(crate) fn ask(path: &str) -> Request<()> {
    Request::get(format!("http://shop.test{path}")).body(()).expect("a request")
}

/// Sends a request that has this body, and waits for the head of its answer.
pub(crate) async fn send(
    client: &SendRequest<Bytes>,
    request: Request<()>,
    body: Option<&[u8]>,
) -> Result<Response<RecvStream>, h2::Error> {
    let mut client = client.clone().ready().await?;
    let (response, mut stream) = client.send_request(request, body.is_none())?;
    if let Some(body) = body {
        stream.send_data(Bytes::copy_from_slice(body), true)?;
    }
    within("an answer", response).await
}

/// The rest of an answer.
pub(crate) async fn read(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut octets = Vec::new();
    while let Some(data) = within("more of the answer", body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        octets.extend_from_slice(&data);
    }
    Ok((octets, within("the trailers", body.trailers()).await?))
}

/// The status of the answer to a request without a body, and its body as text.
pub(crate) async fn get(client: &SendRequest<Bytes>, request: Request<()>) -> (u16, String) {
    let response = send(client, request, None).await.expect("an answer");
    let status = response.status().as_u16();
    let (body, _) = read(response.into_body()).await.expect("a body");
    (status, String::from_utf8(body).expect("text"))
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four octets"))
    }
}

/// The octets of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut octets = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    octets.extend_from_slice(&[kind, flags]);
    octets.extend_from_slice(&stream.to_be_bytes());
    octets.extend_from_slice(payload);
    octets
}

/// A header block of literal fields, without tables or Huffman (RFC 7541 section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A number with a prefix of seven bits.
fn push_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return block.push(length as u8) };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The fields of a GET of `/` at `shop.test`.
pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "shop.test"), (":path", "/")];

/// The HEADERS frame of such a request, with further fields.
pub(crate) fn request(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[&GET, more].concat()))
}

/// The whole frames among these octets.
pub(crate) fn frames(mut octets: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = octets.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..9].try_into().expect("four octets"));
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        frames.push(Frame { kind: head[3], flags: head[4], stream, payload: payload.to_vec() });
        octets = rest;
    }
    frames
}

/// A client that sends any frames.
pub(crate) struct Frames(pub Wire);

impl Frames {
    /// Behind preface and settings.
    pub(crate) async fn connect(plane: &Plane) -> Self {
        Self::with_settings(plane, &[]).await
    }

    /// The same with some settings.
    pub(crate) async fn with_settings(plane: &Plane, settings: &[(u16, u32)]) -> Self {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let mut wire = plane.connect().await;
        wire.send([PREFACE, &frame(SETTINGS, 0, 0, &payload), &frame(SETTINGS, ACK, 0, &[])].concat()).await;
        Self(wire)
    }

    pub(crate) async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.0.send(octets).await;
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let head = self.exactly(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..9].try_into().expect("four octets"));
        let payload = self.exactly(length).await?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        self.0.try_read_exactly(count).await
    }

    /// The next frame of this kind.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            match self.next().await {
                Some(frame) if frame.kind == kind => return frame,
                Some(_) => {}
                None => panic!("the end came before a frame of kind {kind}"),
            }
        }
    }

    /// The code of the GOAWAY that the connection ends with.
    pub(crate) async fn goaway(&mut self) -> u32 {
        let mut last = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                last = Some(frame.code());
            }
        }
        last.expect("a GOAWAY")
    }
}
