//! What the decision needs to know of a request, borrowed from wherever its head lies.
//!
//! Not here: parsing and refusing (see `h1`), which address is the client's (see `forward`).

use std::net::IpAddr;

/// One request, as far as the choice of route, version and instance depends on it.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The host asked for: lower case, no port, no trailing dot.
    pub host: &'a str,
    /// The path, exactly the octets that are forwarded, without the query; from its leading `/` (`*` and the empty
    /// path count as `/`).
    pub path: &'a str,
    /// What follows the first `?`, without it.
    pub query: Option<&'a str>,
    /// The method as sent.
    pub method: &'a str,
    /// The client's effective address, after PROXY header and trusted forwarding.
    pub client: IpAddr,
    /// Whether that client is internal (design rule 11).
    pub internal: bool,
    /// Whether the client uses TLS: our own, or a trusted proxy's that says so.
    pub secure: bool,
    /// The header fields.
    pub fields: &'a dyn Fields,
}

/// The header fields of a request.
pub trait Fields {
    /// Shows each value of the field to `visit`, in order, until it returns false. `name` is lower case.
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8]) -> bool);

    /// The first value of the field, without white space around it. `name` is lower case.
    fn get(&self, name: &str) -> Option<&[u8]> {
        let mut first = None;
        self.each(name, &mut |value| {
            first = Some(value);
            false
        });
        first
    }
}

/// Fields as a list of lower-case names and values: for requests that nobody sent, such as those that are explained.
#[derive(Debug, Clone, Default)]
pub struct FieldList(pub Vec<(String, Vec<u8>)>);

impl FieldList {
    /// Adds a field; the name may be in any case.
    pub fn push(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.to_ascii_lowercase(), value.into()));
    }
}

impl Fields for FieldList {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8]) -> bool) {
        for (_, value) in self.0.iter().filter(|(field, _)| field == name) {
            if !visit(value) {
                return;
            }
        }
    }
}

impl<'a> RequestView<'a> {
    /// The value of a cookie (RFC 6265 section 4.2), without quotes around it; the first of several.
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        let mut found = None;
        self.fields.each("cookie", &mut |line| {
            found = cookie_in(line, name);
            found.is_none()
        });
        found
    }

    /// The value of a query parameter, octets as sent; the first of several; empty for one without `=`.
    pub fn query_value(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

fn cookie_in<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.split(|b| *b == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(fields: &FieldList, query: Option<&str>, ask: impl Fn(&RequestView<'_>) -> T) -> T {
        let client = IpAddr::from([192, 0, 2, 1]);
        let (host, path, method) = ("shop.company.com", "/", "GET");
        ask(&RequestView { host, path, query, method, client, internal: false, secure: false, fields })
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_in_any_cookie_field() {
        let mut fields = FieldList::default();
        fields.push("Cookie", "abeta=0; beta=1;c=\"x\"");
        fields.push("cookie", "late=2");
        for (name, want) in
            [("beta", Some("1")), ("eta", None), ("c", Some("x")), ("late", Some("2")), ("b", None)]
        {
            let got = with(&fields, None, |r| r.cookie(name).map(<[u8]>::to_vec));
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{name}");
        }
    }

    #[test]
    fn a_query_parameter_is_found_by_its_whole_name() {
        let query = Some("previews=0&preview=1&flag&preview=2");
        for (name, want) in [("preview", Some("1")), ("flag", Some("")), ("view", None)] {
            let got = with(&FieldList::default(), query, |r| r.query_value(name).map(str::to_owned));
            assert_eq!(got.as_deref(), want, "{name}");
        }
    }
}
