//! `fairway.redirect`: where clients are sent instead.
//!
//! ```text
//! redirect = target [ status ]
//! target   = "www" | "apex" | [ origin ] [ path ] [ "{path}" ] [ "?" query ]
//! origin   = ( "http" | "https" ) "://" ( host | "{host}" ) [ ":" port ]
//! status   = 301 | 302 | 303 | 307 | 308          default 307
//! ```
//!
//! `{path}` stands for the path asked for, `{host}` for the host. The query goes along unless the target has a `?`.

use std::sync::Arc;

use super::super::flaw::{Flaw, shown};
use super::super::host::parse_host;
use super::super::scalar;
use crate::names::Host;

/// Longest target, in octets.
const TARGET_BYTES_MAX: usize = 1024;
/// What can be written.
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// Where clients are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The place.
    pub to: RedirectTo,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// The place of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectTo {
    /// `www`: the host with `www.` in front, where it is not there.
    Www,
    /// `apex`: the host without `www.`, where it is there.
    Apex,
    /// A URL.
    Url(Target),
}

/// A URL, as far as it does not depend on the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port; `None`: those of the request.
    pub origin: Option<Origin>,
    /// The path, or what stands before the one asked for: empty or from its leading `/`; without one at its end if
    /// `keeps_path`.
    pub path: Arc<str>,
    /// The path asked for comes behind it.
    pub keeps_path: bool,
    /// The query, without `?`; `None`: that of the request.
    pub query: Option<Arc<str>>,
}

/// Scheme, host and port of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `https`
    pub secure: bool,
    /// The host, lower case; `None`: that of the request.
    pub host: Option<Arc<str>>,
    /// The port, if one is written.
    pub port: Option<u16>,
}

pub(super) fn redirect(value: &str) -> Result<Redirect, Flaw> {
    let mut words = value.split_whitespace();
    let target = words.next().ok_or_else(|| wrong("there is no target"))?;
    let status = words.next().map_or(Ok(307), status)?;
    if words.next().is_some() || target.len() > TARGET_BYTES_MAX {
        return Err(wrong(format!("`{}` is more than a target and a status", shown(value))));
    }
    let to = match target {
        "www" => RedirectTo::Www,
        "apex" => RedirectTo::Apex,
        url => RedirectTo::Url(self::target(url)?),
    };
    Ok(Redirect { to, status })
}

fn wrong(text: impl Into<String>) -> Flaw {
    let remedy = "write `https://new.example.com{path} 308`, `/new{path}`, `www` or `apex`";
    Flaw::refused("label-redirect", text, remedy)
}

fn status(text: &str) -> Result<u16, Flaw> {
    let status = text.parse().ok().filter(|status| STATUSES.contains(status));
    status.ok_or_else(|| {
        let what = format!("`{}` is no status of a redirect", shown(text));
        Flaw::refused("label-redirect", what, "write 301 or 308 for good, 302, 303 or 307 for now")
    })
}

fn target(text: &str) -> Result<Target, Flaw> {
    let (origin, rest) = match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            // `{path}` may follow the host directly.
            let end = rest[..end].find("{path}").unwrap_or(end);
            (Some(origin(scheme, &rest[..end])?), &rest[end..])
        }
        None if text.starts_with('/') || text.starts_with("{path}") => (None, text),
        None => return Err(wrong(format!("`{}` is no URL and no path", shown(text)))),
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let (path, keeps_path) = match path.strip_suffix("{path}") {
        Some(front) => (front, true),
        None => (path, false),
    };
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&b));
    if !is_plain(path) || !query.is_none_or(is_plain) {
        let what = format!("`{}` has characters or variables that cannot stand there", shown(text));
        let remedy = "write other characters percent-encoded; `{path}` may stand at the end of the path, `{host}` for the host";
        return Err(Flaw::refused("label-redirect", what, remedy));
    }
    if keeps_path && path.ends_with('/') {
        let what = format!("`{}` leads to a path with two slashes: `{{path}}` begins with one", shown(text));
        return Err(Flaw::refused("label-redirect", what, "leave the `/` in front of `{path}` out"));
    }
    if origin.is_none() && path.is_empty() {
        let what = format!("`{}` leads every request back to itself", shown(text));
        return Err(Flaw::refused("label-redirect-loop", what, "write another host or another path"));
    }
    if origin.is_none() && path.starts_with("//") {
        return Err(wrong(format!("`{}` is read as a host by browsers", shown(text))));
    }
    Ok(Target { origin, path: path.into(), keeps_path, query: query.map(Arc::from) })
}

fn origin(scheme: &str, authority: &str) -> Result<Origin, Flaw> {
    let secure = match () {
        () if scheme.eq_ignore_ascii_case("https") => true,
        () if scheme.eq_ignore_ascii_case("http") => false,
        () => return Err(wrong(format!("`{}` is no scheme that a browser is sent to here", shown(scheme)))),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, digits)) => {
            let port =
                scalar::port(digits).ok_or_else(|| wrong(format!("`{}` is no port", shown(digits))))?;
            (host, Some(port))
        }
        None => (authority, None),
    };
    let host = match host {
        "{host}" => None,
        _ if host.contains(['{', '}']) => {
            let what = format!("`{}` mixes a variable into the host", shown(host));
            return Err(Flaw::refused(
                "label-redirect",
                what,
                "write `{host}` alone, a whole host, `www` or `apex`",
            ));
        }
        _ => match parse_host(host)? {
            Host::Exact(name) | Host::Prefix(name) => Some(name),
            Host::Wildcard(_) => return Err(wrong(format!("`{}` is not one host", shown(host)))),
        },
    };
    Ok(Origin { secure, host, port })
}
