//! Where clients are sent instead (`fairway.redirect`).
//!
//! A request that is at its target already is served: so one redirect can lead several names to one of them, and it does not
//! go round. Loops over several routes are not seen.

use fairway_config::labels::features as asked;
use fairway_config::labels::features::{RedirectTarget, RedirectTo};

use crate::table::path_match::covers;

/// A redirect.
#[derive(Debug)]
pub(crate) struct Redirect {
    to: RedirectTo,
    /// The status of the answer.
    pub(crate) status: u16,
}

/// What a client asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// By TLS.
    pub secure: bool,
    /// The host, lower case, no port.
    pub host: &'a str,
    /// The port, if one was written.
    pub port: Option<u16>,
    /// The path, from its leading `/`.
    pub path: &'a str,
    /// The query without `?`.
    pub query: Option<&'a str>,
}

impl Redirect {
    pub(crate) fn new(redirect: &asked::Redirect) -> Self {
        Self { to: redirect.to.clone(), status: redirect.status }
    }

    /// Where this request is sent; `None`: it is served here.
    pub(crate) fn location(&self, asked: &Asked<'_>) -> Option<String> {
        match &self.to {
            RedirectTo::Www => {
                let is_name = asked.host.contains('.')
                    && !asked.host.ends_with(".local")
                    && !asked.host.starts_with("www.")
                    && asked.host.parse::<std::net::IpAddr>().is_err();
                is_name.then(|| url(asked.secure, &format!("www.{}", asked.host), asked.port, asked))
            }
            RedirectTo::Apex => {
                let apex = asked.host.strip_prefix("www.").filter(|apex| apex.contains('.'))?;
                Some(url(asked.secure, apex, asked.port, asked))
            }
            RedirectTo::Url(target) => (!is_there(target, asked)).then(|| filled(target, asked)),
        }
    }
}

/// The URL asked for at another host.
fn url(secure: bool, host: &str, port: Option<u16>, asked: &Asked<'_>) -> String {
    let mut url = origin(secure, host, port);
    url.push_str(asked.path);
    push_query(&mut url, asked.query);
    url
}

fn origin(secure: bool, host: &str, port: Option<u16>) -> String {
    let scheme = if secure { "https" } else { "http" };
    match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

fn push_query(url: &mut String, query: Option<&str>) {
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
}

/// Whether the request is where the target leads.
fn is_there(target: &RedirectTarget, asked: &Asked<'_>) -> bool {
    let same_origin = target.origin.as_ref().is_none_or(|origin| {
        let port = |port: Option<u16>, secure| port.unwrap_or(if secure { 443 } else { 80 });
        origin.secure == asked.secure
            && origin.host.as_deref().is_none_or(|host| host == asked.host)
            // A target that names no port is the client's port, whatever stands in between.
            && (origin.port.is_none() || port(origin.port, origin.secure) == port(asked.port, asked.secure))
    });
    let same_path = match (target.keeps_path, &*target.path) {
        (true, "") => true,
        (true, front) => covers(front, asked.path),
        (false, "") => asked.path == "/",
        (false, path) => path == asked.path,
    };
    same_origin && same_path
}

fn filled(target: &RedirectTarget, asked: &Asked<'_>) -> String {
    let mut url = match &target.origin {
        Some(to) => origin(to.secure, to.host.as_deref().unwrap_or(asked.host), to.port),
        None => String::new(),
    };
    url.push_str(&target.path);
    match target.keeps_path {
        true => url.push_str(asked.path),
        false if target.path.is_empty() => url.push('/'),
        false => {}
    }
    match target.query.as_deref() {
        Some("") => {}
        Some(query) => push_query(&mut url, Some(query)),
        None => push_query(&mut url, asked.query),
    }
    url
}

#[cfg(test)]
mod tests {
    use fairway_config::labels;

    use super::*;

    fn redirect(value: &str) -> Redirect {
        let parsed = labels::parse([("fairway.redirect", value)]);
        assert_eq!(parsed.problems, [], "{value}");
        Redirect::new(parsed.spec.features.redirect.as_deref().expect("a redirect"))
    }

    fn location(value: &str, url: &str) -> Option<String> {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (authority, rest) = rest.split_at(rest.find('/').expect("a path"));
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (authority, None),
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        redirect(value).location(&Asked { secure: scheme == "https", host, port, path, query })
    }

    #[test]
    fn a_client_is_sent_to_the_target_with_its_path_and_query() {
        for (value, from, want) in [
            ("https://new.a{path} 308", "http://old.a/x/y?q=1", "https://new.a/x/y?q=1"),
            ("https://new.a{path}", "https://old.a/", "https://new.a/"),
            ("https://new.a", "https://old.a/x?q", "https://new.a/?q"),
            ("https://new.a/?", "https://old.a/x?q", "https://new.a/"),
            ("https://new.a/y?z=1", "https://old.a/x?q", "https://new.a/y?z=1"),
            ("https://{host}{path}", "http://old.a:8080/x", "https://old.a/x"),
            ("https://{host}:8443{path}", "http://old.a/x", "https://old.a:8443/x"),
            ("/new{path}", "http://a.b/x?q", "/new/x?q"),
            ("/new{path}", "http://a.b//evil.com", "/new//evil.com"),
            ("/closed", "http://a.b/x", "/closed"),
            ("www", "http://a.b:8080/x?q", "http://www.a.b:8080/x?q"),
            ("apex", "https://www.a.b/x", "https://a.b/x"),
        ] {
            assert_eq!(location(value, from).as_deref(), Some(want), "{value} from {from}");
        }
        assert_eq!(redirect("https://a.b 308").status, 308);
    }

    #[test]
    fn a_request_that_is_at_its_target_is_served() {
        for (value, from) in [
            ("https://www.a.b{path}", "https://www.a.b/x?q"),
            ("https://www.a.b{path}", "https://www.a.b:8443/x"),
            ("https://{host}{path}", "https://a.b/x"),
            ("https://www.a.b:444{path}", "https://www.a.b:444/x"),
            ("http://a.b", "http://a.b/"),
            ("/new{path}", "http://a.b/new/x"),
            ("/new{path}", "http://a.b/new"),
            ("/closed", "http://a.b/closed?q"),
            ("www", "http://www.a.b/"),
            ("www", "http://shop.local/"),
            ("www", "http://localhost/"),
            ("www", "http://192.0.2.1/"),
            ("apex", "http://a.b/"),
            ("apex", "http://www.b/"),
        ] {
            assert_eq!(location(value, from), None, "{value} from {from}");
        }
        for (value, from) in [
            ("https://www.a.b{path}", "http://www.a.b/x"),
            ("https://www.a.b{path}", "https://a.b/x"),
            ("/new{path}", "http://a.b/newer"),
        ] {
            assert!(location(value, from).is_some(), "{value} from {from}");
        }
    }

    #[test]
    fn following_a_redirect_ends_on_the_same_route() {
        for value in
            ["https://www.a.b{path}", "/new{path}", "/x/y", "www", "apex", "https://{host}{path}?z=1"]
        {
            for from in ["http://a.b/", "http://www.a.b/x", "https://a.b/x/y?q", "http://a.b:81/new"] {
                let mut at = from.to_owned();
                let mut steps = 0;
                while let Some(next) = location(value, &at) {
                    let base = &at[..at.find("://").expect("a scheme") + 3];
                    let host = at[base.len()..].split('/').next().expect("a host");
                    at = if next.starts_with('/') { format!("{base}{host}{next}") } else { next };
                    steps += 1;
                    assert!(steps < 3, "{value} from {from} goes round");
                }
            }
        }
    }
}
