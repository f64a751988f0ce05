//! What a route does with requests and answers beside choosing an instance, compiled once when its entry of the table is
//! made: a route that asks for nothing has none of this, and its requests pay one branch.
//!
//! The order for one request: who may ask at all ([`allow`]), how often ([`rate`]), who they are ([`auth`]), whether they should go elsewhere
//! ([`redirect`]); then the way to the instance ([`prefix`], [`edits`]) and the way back ([`edits`], [`compress`]).
//!
//! Pure: nothing here reads or writes a socket. Not here: what labels mean (see `fairway_config::labels::features`), when each
//! is asked (see `downstream`), how heads are written (see `forward`).

pub(crate) mod allow;
pub(crate) mod auth;
pub(crate) mod compress;
pub(crate) mod edits;
pub(crate) mod encoder;
pub(crate) mod prefix;
pub(crate) mod rate;
pub(crate) mod redirect;
pub(crate) mod show;

use std::sync::Arc;

use fairway_catalog::Route;
use fairway_config::labels::features as asked;

use allow::AllowList;
use auth::BasicAuth;
use compress::{Compress, Shape};
use edits::{Edits, Words};
use prefix::Prefixes;
use rate::Rates;
use redirect::Redirect;

use crate::h1::{RequestHead, ResponseHead};

/// The features of one route.
#[derive(Debug)]
pub(crate) struct Features {
    /// Who is served.
    pub(crate) allow: Option<AllowList>,
    /// How often.
    pub(crate) rates: Option<Rates>,
    /// Who may log in.
    pub(crate) auth: Option<BasicAuth>,
    /// Where clients are sent instead.
    pub(crate) redirect: Option<Redirect>,
    /// What becomes of the path.
    pub(crate) prefixes: Option<Prefixes>,
    /// What becomes of the fields of requests.
    pub(crate) request: Option<Edits>,
    /// What becomes of the fields of answers.
    pub(crate) response: Option<Edits>,
    /// How answers are compressed.
    pub(crate) compress: Option<Compress>,
    /// What all this was made of.
    asked: Arc<asked::Features>,
}

impl Features {
    /// Those of this route. What `before` has is kept as long as the same is asked for: it knows who has logged in.
    pub(crate) fn compile(route: &Route, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let asked = route.features.as_ref()?;
        if let Some(before) = before
            && before.asked == *asked
        {
            return Some(before.clone());
        }
        let auth = asked.auth.as_ref().map(|auth| BasicAuth::new(auth));
        let hides = auth.as_ref().is_some_and(|auth| !auth.forwards());
        Some(Arc::new(Self {
            allow: asked.allow.as_ref().map(|networks| AllowList::new(networks)),
            rates: Rates::new(
                asked.rate_limit,
                asked.client_rate_limit,
                before.and_then(|before| before.rates.as_ref()),
            ),
            auth,
            redirect: asked.redirect.as_ref().map(|redirect| Redirect::new(redirect)),
            prefixes: Prefixes::new(&route.id.path, asked.strip_prefix.as_ref(), asked.add_prefix.as_deref()),
            request: Edits::new(asked.request_headers.as_deref(), hides.then_some("authorization")),
            response: Edits::new(asked.response_headers.as_deref(), None),
            compress: asked.compress.as_ref().and_then(|codings| Compress::new(codings)),
            asked: asked.clone(),
        }))
    }

    /// Whether some requests are answered without an instance.
    pub(crate) fn answers_itself(&self) -> bool {
        self.allow.is_some() || self.rates.is_some() || self.auth.is_some() || self.redirect.is_some()
    }

    /// What is asked for, a line each, for people; without secrets.
    pub(crate) fn lines(&self) -> Vec<String> {
        show::lines(&self.asked)
    }
}

/// The features of a route with what they say of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied<'a> {
    /// The features.
    pub features: &'a Features,
    /// What variables stand for.
    pub words: Words<'a>,
}

impl<'a> Applied<'a> {
    /// What becomes of this answer to this request.
    pub(crate) fn answer(&self, request: &RequestHead, answer: &ResponseHead) -> AnswerChanges<'a> {
        let compress = self.features.compress.as_ref();
        AnswerChanges {
            edits: self.features.response.as_ref(),
            words: self.words,
            shape: compress.map(|compress| compress.shape(request, answer)).unwrap_or_default(),
        }
    }
}

/// What becomes of one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerChanges<'a> {
    edits: Option<&'a Edits>,
    words: Words<'a>,
    /// What compression makes of it.
    pub shape: Shape,
}

impl AnswerChanges<'_> {
    /// Whether a field of the instance goes on as it is.
    pub(crate) fn keeps(&self, name: &[u8]) -> bool {
        self.edits.is_none_or(|edits| !edits.drops(name)) && self.shape.keeps(name)
    }

    /// Whether a field is ours to write, or nobody's.
    pub(crate) fn settles(&self, name: &[u8]) -> bool {
        self.edits.is_some_and(|edits| edits.drops(name) || edits.adds(name))
    }

    /// Appends the fields that the answer has besides.
    pub(crate) fn write(&self, out: &mut Vec<u8>, head: &ResponseHead) {
        let may_pass = |name: &[u8]| self.edits.is_none_or(|edits| !edits.drops(name));
        self.shape.write(out, head, may_pass);
        if let Some(edits) = self.edits {
            edits.write(out, &self.words);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use bytes::Bytes;
    use fairway_catalog::Route;
    use fairway_config::labels;
    use proptest::prelude::*;

    use super::*;
    use crate::table::fixture::{READY, catalog, put_route, version};

    fn route(labels: &[(&str, &str)]) -> Arc<Route> {
        let asked = labels::parse(labels.iter().copied()).spec.features;
        let mut catalog = catalog();
        put_route(&mut catalog, "shop.test/a", &[version("v1", &[READY])], |route| {
            route.features = Some(Arc::new(asked));
        });
        catalog.routes.into_values().next().expect("the route")
    }

    #[test]
    fn what_is_asked_for_once_more_is_kept_and_what_changes_is_made_anew() {
        let first = Features::compile(&route(&[("fairway.allow", "10.0.0.0/8")]), None).expect("features");
        let same = Features::compile(&route(&[("fairway.allow", "10.0.0.0/8")]), Some(&first));
        assert!(Arc::ptr_eq(&first, &same.expect("features")));
        let other = Features::compile(&route(&[("fairway.allow", "11.0.0.0/8")]), Some(&first));
        assert!(!Arc::ptr_eq(&first, &other.expect("features")));
        let mut plain = Route::clone(&route(&[]));
        plain.features = None;
        assert!(Features::compile(&plain, Some(&first)).is_none());
    }

    proptest! {
        /// Labels are written by whoever may start a container.
        #[test]
        fn no_label_makes_a_head_that_could_be_read_in_two_ways(
            edits in "(set|add|remove|x)? ?[A-Za-z:_{} ;\"\\\\\r\n\0-]{0,40}",
            redirect in "(https://|http://|/)?[a-z{}./?: \r\n%\\\\@#]{0,40}",
            prefix in "/?[a-z/%. \r\n?#]{0,12}",
            path in "/[a-z/%]{0,12}",
        ) {
            let labels = [
                ("fairway.headers.request", &*edits),
                ("fairway.headers.response", &*edits),
                ("fairway.redirect", &*redirect),
                ("fairway.strip_prefix", &*prefix),
                ("fairway.add_prefix", &*prefix),
            ];
            let Some(features) = Features::compile(&route(&labels), None) else { return Ok(()) };
            let words = Words { host: "shop.test", client: IpAddr::V4(Ipv4Addr::LOCALHOST), id: "id", secure: true };
            let (front, rest) = match &features.prefixes {
                Some(prefixes) => prefixes.rewrite(&path, ("", path.as_bytes())).target,
                None => ("", path.as_bytes()),
            };
            let mut request = [b"GET ", front.as_bytes(), rest, b" HTTP/1.1\r\nHost: a\r\n"].concat();
            let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
            for (edits, out) in [(&features.request, &mut request), (&features.response, &mut answer)] {
                let before = out.len();
                if let Some(edits) = edits {
                    edits.write(out, &words);
                }
                let lines = out[before..].split(|b| *b == b'\n').count() - 1;
                prop_assert!(lines <= labels::parse(labels).spec.features.request_headers.map_or(0, |edits| edits.len()));
            }
            if let Some(redirect) = &features.redirect {
                let asked = redirect::Asked { secure: false, host: "shop.test", port: None, path: &path, query: None };
                if let Some(location) = redirect.location(&asked) {
                    answer.extend_from_slice(format!("Location: {location}\r\n").as_bytes());
                    prop_assert!(!location.starts_with("//"), "{}", location);
                }
            }
            request.extend_from_slice(b"\r\n");
            answer.extend_from_slice(b"\r\n");
            let head = RequestHead::read(Bytes::from(request)).expect("a request");
            prop_assert!(head.path().starts_with('/') && head.body == crate::h1::BodyLength::Empty);
            ResponseHead::read(Bytes::from(answer), false).expect("an answer");
        }
    }
}
