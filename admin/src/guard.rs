//! Who may ask: the Host must be ours (DNS rebinding), a browser must come from our own page (CSRF), and a token must be
//! right where one is needed.

mod token;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::problem::Refusal;
pub(crate) use token::Token;
pub use token::TokenError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// What a watcher of the process asks; it has no token.
const OPEN_PATHS: [&str; 2] = ["/livez", "/readyz"];

/// What is checked before any handler runs.
pub(crate) struct Guard {
    /// Accepted Host names beside IP literals and `localhost`, lower case; `None` accepts any: browsers do not reach a
    /// Unix socket.
    pub(crate) hosts: Option<Vec<Arc<str>>>,
    pub(crate) token: Option<Token>,
}

/// The outermost layer.
pub(crate) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.refuse(request.method(), request.uri(), request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

impl Guard {
    fn refuse(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Refusal> {
        let host = match authority(uri, headers) {
            Ok(host) => host,
            Err(refusal) => return Some(refusal),
        };
        if self.hosts.as_ref().is_some_and(|hosts| !is_ours(&host, hosts)) {
            let detail = format!("`{host}` is not a name of this API; it may be added to `admin.hosts`");
            let title = "Not our host";
            return Some(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "host-not-allowed", title, detail));
        }
        if is_from_elsewhere(method, uri, headers, &host) {
            let detail = "a browser sent this from a page of another site";
            return Some(Refusal::new(StatusCode::FORBIDDEN, "cross-origin", "Another origin", detail));
        }
        let token = self.token.as_ref().filter(|_| !OPEN_PATHS.contains(&uri.path()))?;
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        (!given.is_some_and(|given| token.fits(given))).then(|| unauthorized(given.is_some()))
    }
}

/// The Host that the request names. An absolute-form target must name the same.
fn authority(uri: &Uri, headers: &HeaderMap) -> Result<String, Refusal> {
    let wrong = |detail: &str| Refusal::bad_request("bad-host", "No usable Host", detail);
    let mut fields = headers.get_all(HOST).iter();
    let host = match (fields.next(), fields.next(), uri.authority()) {
        (Some(host), None, _) => host.to_str().map_err(|_| wrong("Host is no text"))?.to_ascii_lowercase(),
        (Some(_), Some(_), _) => return Err(wrong("there are several Host fields")),
        (None, _, Some(authority)) => authority.as_str().to_ascii_lowercase(),
        (None, _, None) => return Err(wrong("there is no Host")),
    };
    match uri.authority() {
        Some(authority) if !authority.as_str().eq_ignore_ascii_case(&host) => {
            Err(wrong("Host differs from the target"))
        }
        _ => Ok(host),
    }
}

fn is_ours(host: &str, hosts: &[Arc<str>]) -> bool {
    let Some(name) = without_port(host) else { return false };
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let name = name.trim_end_matches('.');
    literal.parse::<IpAddr>().is_ok() || name == "localhost" || hosts.iter().any(|host| **host == *name)
}

/// `None` when what follows the colon is no port.
fn without_port(host: &str) -> Option<&str> {
    if host.ends_with(']') {
        return Some(host);
    }
    match host.rsplit_once(':') {
        None => Some(host),
        Some((name, port)) if port.parse::<u16>().is_ok() => Some(name),
        Some(_) => None,
    }
}

/// What browsers tell (Fetch standard, `Origin` and `Sec-Fetch-Site`); other clients send neither. A link on another site
/// may lead to our page, and to nothing else.
fn is_from_elsewhere(method: &Method, uri: &Uri, headers: &HeaderMap, host: &str) -> bool {
    let ours = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    };
    if headers.get_all(ORIGIN).iter().any(|origin| !ours(origin)) {
        return true;
    }
    let page = uri.path() == "/" && matches!(*method, Method::GET | Method::HEAD);
    let follows_link = page && headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate");
    let same = |site: &HeaderValue| site == "same-origin" || site == "none" || follows_link;
    headers.get_all(SEC_FETCH_SITE).iter().any(|site| !same(site))
}

fn unauthorized(given: bool) -> Refusal {
    let detail = match given {
        true => "the token is not the right one",
        false => "a token is needed: send `Authorization: Bearer` and the token of `admin.token_file`",
    };
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not authorized", detail)
        .field(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fairway\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(guard: &Guard, method: &str, target: &str, fields: &[(&str, &str)]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        let method = method.parse().expect("a method");
        guard.refuse(&method, &target.parse().expect("a target"), &headers).map(|refusal| refusal.kind)
    }

    #[test]
    fn only_hosts_of_ours_are_answered() {
        let guard = Guard { hosts: Some(vec!["node7".into(), "admin.company.com".into()]), token: None };
        for (host, ours) in [
            ("127.0.0.1:9900", true),
            ("10.0.0.7", true),
            ("[::1]:9900", true),
            ("[::1]", true),
            ("localhost:9900", true),
            ("LOCALHOST", true),
            ("localhost.:9900", true),
            ("node7:9900", true),
            ("admin.company.com", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:9900", false),
            ("admin.company.com:port", false),
            ("", false),
        ] {
            let got = refusal(&guard, "GET", "/", &[("host", host)]);
            assert_eq!(got, (!ours).then_some("host-not-allowed"), "{host}");
        }
        assert_eq!(refusal(&guard, "GET", "/", &[]), Some("bad-host"));
        assert_eq!(refusal(&guard, "GET", "/", &[("host", "localhost"), ("host", "a")]), Some("bad-host"));
        assert_eq!(refusal(&guard, "GET", "http://a/", &[("host", "localhost")]), Some("bad-host"));
        assert_eq!(refusal(&guard, "GET", "http://localhost/", &[("host", "localhost")]), None);
        let socket = Guard { hosts: None, token: None };
        assert_eq!(refusal(&socket, "GET", "/", &[("host", "fairway")]), None);
    }

    #[test]
    fn what_a_browser_sends_from_another_site_is_refused() {
        let guard = Guard { hosts: Some(Vec::new()), token: None };
        let host = ("host", "127.0.0.1:9900");
        let elsewhere = Some("cross-origin");
        for (method, path, field, want) in [
            ("PUT", "/api/v1/x", ("origin", "http://127.0.0.1:9900"), None),
            ("PUT", "/api/v1/x", ("origin", "http://evil.example"), elsewhere),
            ("PUT", "/api/v1/x", ("origin", "http://127.0.0.1:9901"), elsewhere),
            ("PUT", "/api/v1/x", ("origin", "null"), elsewhere),
            ("GET", "/api/v1/x", ("origin", "http://evil.example"), elsewhere),
            ("PUT", "/api/v1/x", ("sec-fetch-site", "same-origin"), None),
            ("GET", "/api/v1/x", ("sec-fetch-site", "none"), None),
            ("GET", "/api/v1/x", ("sec-fetch-site", "cross-site"), elsewhere),
            ("GET", "/", ("sec-fetch-site", "same-site"), elsewhere),
        ] {
            assert_eq!(refusal(&guard, method, path, &[host, field]), want, "{method} {path} {field:?}");
        }
        let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(refusal(&guard, "GET", "/", &link), None, "a link to our page");
        assert_eq!(refusal(&guard, "GET", "/api/v1/x", &link), elsewhere);
    }
}
