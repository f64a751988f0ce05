//! An origin that is `h2`'s, and one that sends any frames.

use std::net::SocketAddr;

use bytes::Bytes;
use fairway_config::labels::Protocol;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::http2::kit::{ACK, Frame, Frames, PREFACE, SETTINGS, frame};
use crate::kit::*;

/// One request that an origin got.
#[derive(Debug)]
pub(crate) struct Asked {
    pub head: Request<()>,
    pub body: RecvStream,
    pub respond: SendResponse<Bytes>,
    /// Which of its connections it came on, from 0.
    pub connection: usize,
}

impl Asked {
    /// Answers with status 200 and this body.
    pub(crate) fn answer(&mut self, body: &str) {
        let mut stream = self.head_of(Response::new(()));
        stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).expect("it is open");
    }

    /// Answers with this head, and a body to come.
    pub(crate) fn head_of(&mut self, response: Response<()>) -> SendStream<Bytes> {
        self.respond.send_response(response, false).expect("it is open")
    }

    /// The whole body, and whether it ended well.
    pub(crate) async fn read(&mut self) -> Result<Vec<u8>, h2::Error> {
        let mut octets = Vec::new();
        while let Some(data) = within("more of the request", self.body.data()).await {
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            octets.extend_from_slice(&data);
        }
        Ok(octets)
    }
}

/// An origin that speaks HTTP/2 without TLS; requests come out of it one by one.
pub(crate) struct H2Origin {
    pub address: SocketAddr,
    pub asked: mpsc::UnboundedReceiver<Asked>,
}

impl H2Origin {
    pub(crate) async fn new() -> Self {
        Self::with(&Builder::new()).await
    }

    pub(crate) async fn with(builder: &Builder) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (tell, asked) = mpsc::unbounded_channel();
        let builder = builder.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (tell, builder) = (tell.clone(), builder.clone());
                tokio::spawn(async move {
                    let mut connection = builder.handshake(stream).await.expect("HTTP/2");
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let (head, body) = request.into_parts();
                        let head = Request::from_parts(head, ());
                        let _ = tell.send(Asked { head, body, respond, connection: number });
                    }
                });
            }
        });
        Self { address, asked }
    }

    /// The next request.
    pub(crate) async fn asked(&mut self) -> Asked {
        within("a request", self.asked.recv()).await.expect("the origin runs")
    }

    /// Answers every request with this text until the test ends.
    pub(crate) fn serve(mut self, body: &'static str) -> SocketAddr {
        let address = self.address;
        tokio::spawn(async move {
            while let Some(mut asked) = self.asked.recv().await {
                asked.answer(body);
            }
        });
        address
    }
}

/// The labels of a container that speaks HTTP/2 without TLS.
pub(crate) const H2C: (&str, &str) = ("fairway.protocol", "h2c");

/// A plane with instances that speak HTTP/2 without TLS.
pub(crate) fn plane(origins: &[SocketAddr], labels: &[(&str, &str)]) -> Plane {
    assert_eq!(Protocol::default(), Protocol::Http1, "so it must be said");
    Plane::with(Options::default(), |cluster| {
        let labels: Vec<_> = std::iter::once(H2C).chain(labels.iter().copied()).collect();
        for origin in origins {
            cluster.add(*origin, "shop.test", &labels);
        }
    })
}

/// An origin that sends any frames.
pub(crate) struct RawOrigin(Origin);

impl RawOrigin {
    pub(crate) async fn new() -> Self {
        Self(Origin::new().await)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The next connection, behind its preface; nothing has been sent.
    pub(crate) async fn accept_silently(&self) -> Frames {
        Self::prefaced(self.0.accept().await).await
    }

    async fn prefaced(mut wire: Wire) -> Frames {
        assert_eq!(wire.read_exactly(PREFACE.len()).await, PREFACE);
        Frames(wire)
    }

    /// The next connection, greeted, however long it takes.
    pub(crate) async fn accept_when_asked(&self) -> Frames {
        let wire = self.0.accept_when_there_is_one().await;
        Self::greeted(Self::prefaced(wire).await, &[]).await
    }

    /// The next connection, greeted with these settings.
    pub(crate) async fn accept_with(&self, settings: &[(u16, u32)]) -> Frames {
        Self::greeted(self.accept_silently().await, settings).await
    }

    async fn greeted(mut frames: Frames, settings: &[(u16, u32)]) -> Frames {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frames.send([frame(SETTINGS, 0, 0, &payload), frame(SETTINGS, ACK, 0, &[])].concat()).await;
        frames
    }

    /// The next connection, greeted.
    pub(crate) async fn accept(&self) -> Frames {
        self.accept_with(&[]).await
    }
}

/// The HEADERS frame of the next request.
pub(crate) async fn request_on(frames: &mut Frames) -> Frame {
    frames.next_of(crate::http2::kit::HEADERS).await
}
