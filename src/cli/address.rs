//! Where the admin API is: `http://`, `https://` or `unix:`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hyper::Uri;

/// Where the admin API is by default.
pub(crate) const DEFAULT: &str = "http://127.0.0.1:9900";

/// Where the admin API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminAddress {
    /// As given.
    text: String,
    pub(crate) place: Place,
}

/// How it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// By TCP, in TLS or not.
    Tcp {
        tls: bool,
        /// A name or an address, without brackets.
        host: String,
        port: u16,
        /// As in a Host header field.
        authority: String,
        /// What stands before each path, empty or from its leading `/`, without a trailing one.
        base: String,
    },
    /// By a Unix socket.
    Unix(PathBuf),
}

/// A text that is no admin URL; says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an admin URL: {remedy}")]
pub(crate) struct NotAnAddress {
    given: String,
    remedy: String,
}

impl FromStr for AdminAddress {
    type Err = NotAnAddress;
    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let place = match text.strip_prefix("unix:") {
            Some(path) => unix(path),
            None => tcp(text),
        };
        let wrong = |remedy| NotAnAddress { given: text.to_owned(), remedy };
        Ok(Self { place: place.map_err(wrong)?, text: text.to_owned() })
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// `unix:/path`, and `unix:///path` as Docker writes it.
fn unix(path: &str) -> Result<Place, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if !Path::new(path).is_absolute() {
        return Err("write unix: and an absolute path, such as unix:/run/fairway.sock".to_owned());
    }
    Ok(Place::Unix(path.into()))
}

fn tcp(text: &str) -> Result<Place, String> {
    let forms = "write http://HOST:PORT, https://HOST:PORT or unix:/PATH";
    if !text.contains("://") {
        return Err(format!("{forms}; perhaps http://{text}"));
    }
    let uri: Uri = text.parse().map_err(|error| format!("{error}; {forms}"))?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(forms.to_owned()),
    };
    let authority = uri.authority().ok_or(forms)?;
    if authority.as_str().contains('@') {
        return Err("leave user and password out; a token comes from `--token-file`".to_owned());
    }
    if uri.query().is_some() {
        return Err("leave the query out".to_owned());
    }
    let port = authority.port_u16();
    if port.is_none() && authority.as_str() != authority.host() {
        return Err(format!("a port is a number from 1 to 65535; {forms}"));
    }
    Ok(Place::Tcp {
        tls,
        host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: port.unwrap_or(if tls { 443 } else { 80 }),
        authority: authority.to_string(),
        base: uri.path().trim_end_matches('/').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(tls: bool, host: &str, port: u16, authority: &str, base: &str) -> Place {
        Place::Tcp { tls, host: host.into(), port, authority: authority.into(), base: base.into() }
    }

    #[test]
    fn the_three_forms_are_read() {
        for (text, place) in [
            (DEFAULT, tcp(false, "127.0.0.1", 9900, "127.0.0.1:9900", "")),
            ("http://[::1]:9900/", tcp(false, "::1", 9900, "[::1]:9900", "")),
            ("https://ops.company.com", tcp(true, "ops.company.com", 443, "ops.company.com", "")),
            ("https://ops.company.com/edge/", tcp(true, "ops.company.com", 443, "ops.company.com", "/edge")),
            ("unix:/run/fairway.sock", Place::Unix("/run/fairway.sock".into())),
            ("unix:///run/fairway.sock", Place::Unix("/run/fairway.sock".into())),
        ] {
            assert_eq!(text.parse::<AdminAddress>().map(|address| address.place), Ok(place), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        for (text, remedy) in [
            ("127.0.0.1:9900", "perhaps http://127.0.0.1:9900"),
            ("tcp://127.0.0.1:9900", "write http://HOST:PORT"),
            ("unix:run.sock", "absolute path"),
            ("http://a:b@host:1", "--token-file"),
            ("http://", "write http://HOST:PORT"),
            ("http://host:port", "write http://HOST:PORT"),
            ("http://host/?x=1", "leave the query out"),
            ("", "write http://HOST:PORT"),
        ] {
            let error = text.parse::<AdminAddress>().expect_err(text).to_string();
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }
}
