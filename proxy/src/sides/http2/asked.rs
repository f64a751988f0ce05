//! The head of a request in the words of HTTP/2, from the text that an instance of HTTP/1.1 would get.
//!
//! Not here: what the text says (see `forward`).

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Method, Request, Uri};

use super::fields::read_lines;
use crate::h1::Refused;
use crate::reason::Reason;
use crate::websocket;

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// A request as it is sent on a stream.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Its head.
    pub request: Request<()>,
    /// It asks for another protocol: what a client of HTTP/1.1 is told when that is granted.
    pub accept: Option<Accept>,
}

/// What a client of HTTP/1.1 is told that asked for another protocol.
#[derive(Debug)]
pub(crate) struct Accept {
    /// The protocol.
    pub protocol: String,
    /// The answer to its WebSocket key: over HTTP/2 nobody else gives it (RFC 8441 section 5.1).
    pub key: Option<Vec<u8>>,
}

impl Asked {
    /// From the text of a request, whose lines are checked. `secure`: the connection uses TLS.
    pub(crate) fn read(text: &[u8], secure: bool, upgrade: Option<&str>) -> Result<Self, Refused> {
        let text = Bytes::copy_from_slice(text);
        let line_end = memchr::memchr(b'\n', &text).unwrap_or(text.len());
        let mut words = text[..line_end].splitn(3, |octet| *octet == b' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut fields = read_lines(&text.slice((line_end + 1).min(text.len())..));
        let uri = uri(target, &mut fields, secure)?;
        let accept = upgrade.map(|protocol| Accept {
            protocol: protocol.to_owned(),
            key: fields.remove(KEY).map(|key| websocket::accept(key.as_bytes()).into_bytes()),
        });
        let mut request = Request::new(());
        *request.method_mut() = match upgrade {
            Some(_) => Method::CONNECT,
            None => Method::from_bytes(method)
                .map_err(|_| Refused::new(Reason::MethodRefused, "HTTP/2 cannot carry this method"))?,
        };
        if let Some(protocol) = upgrade {
            request.extensions_mut().insert(Protocol::from(protocol));
        }
        *request.uri_mut() = uri;
        *request.headers_mut() = fields;
        Ok(Self { request, accept })
    }
}

fn uri(target: &[u8], fields: &mut HeaderMap, secure: bool) -> Result<Uri, Refused> {
    let host = fields.remove(HOST);
    let host = host.as_ref().map_or(&b""[..], |host| host.as_bytes());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    let unfit = |reason, text| move |_| Refused::new(reason, text);
    let authority = Authority::try_from(host);
    parts.authority = Some(authority.map_err(unfit(Reason::HostInvalid, "HTTP/2 cannot carry this host"))?);
    let path = PathAndQuery::try_from(target);
    let path = path.map_err(unfit(Reason::PathInvalid, "HTTP/2 cannot carry an octet of this path"))?;
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| Refused::new(Reason::PathInvalid, "HTTP/2 cannot carry this path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, upgrade: Option<&str>) -> Result<Asked, Refused> {
        Asked::read(text.as_bytes(), false, upgrade)
    }

    #[test]
    fn the_text_becomes_a_request_without_the_fields_of_a_connection() {
        let text = "POST /a%2f?b=c HTTP/1.1\r\nHost: Shop.test:81\r\nX-A: 1\r\nConnection: TE\r\nTE: trailers\r\n\
                    Transfer-Encoding: chunked\r\nX-A: 2\r\n\r\n";
        let request = asked(text, None).expect("a request").request;
        assert_eq!(request.uri(), "http://Shop.test:81/a%2f?b=c");
        assert_eq!(request.method(), "POST");
        let mut fields: Vec<_> = request.headers().iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        fields.sort_unstable(); // fields of different names have no order
        assert_eq!(fields, [("te", &b"trailers"[..]), ("x-a", b"1"), ("x-a", b"2")]);
        let star = asked("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", None).expect("a request").request;
        assert_eq!(star.uri().path(), "*");
        let secure = Asked::read(b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", true, None).expect("a request");
        assert_eq!(secure.request.uri(), "https://[::1]/");
    }

    #[test]
    fn what_http2_cannot_carry_is_refused_rather_than_changed() {
        for (text, reason) in [
            ("GET /a<b HTTP/1.1\r\nHost: a\r\n\r\n", Reason::PathInvalid),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Reason::HostInvalid),
        ] {
            assert_eq!(asked(text, None).expect_err("it is refused").reason, reason, "{text}");
        }
    }

    #[test]
    fn an_upgrade_becomes_an_extended_connect_and_its_key_is_answered_here() {
        let text = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let Asked { request, accept } = asked(text, Some("websocket")).expect("a request");
        assert_eq!((request.method().as_str(), request.uri().path()), ("CONNECT", "/chat"));
        assert_eq!(request.extensions().get::<Protocol>().map(Protocol::as_str), Some("websocket"));
        let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["sec-websocket-version"]);
        // The example of RFC 6455 section 1.3.
        let accept = accept.expect("an answer");
        assert_eq!(accept.key.as_deref(), Some(&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]));
        assert_eq!(accept.protocol, "websocket");
    }
}
