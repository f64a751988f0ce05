//! Another path for the instance than for the client (`fairway.strip_prefix`, `fairway.add_prefix`).
//!
//! The octets that stay are those that were sent: nothing is decoded or merged.

use fairway_config::labels::features::StripPrefix;

use crate::table::path_match::covers;

/// What is taken from the front of a path and what is put there.
#[derive(Debug)]
pub(crate) struct Prefixes {
    strip: Option<Box<str>>,
    /// What is added, with a `/` at its end; `/` if nothing is.
    front: Box<str>,
}

/// A target as the instance gets it: two parts, and what was taken off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rewritten<'a> {
    /// The parts.
    pub target: (&'a str, &'a [u8]),
    /// The prefix that was stripped.
    pub stripped: Option<&'a str>,
}

impl Prefixes {
    /// On a route with this path; `None` when nothing changes.
    pub(crate) fn new(route: &str, strip: Option<&StripPrefix>, add: Option<&str>) -> Option<Self> {
        let strip = strip.map(|strip| match strip {
            StripPrefix::Route => route,
            StripPrefix::Path(path) => path,
        });
        let strip = strip.filter(|strip| *strip != "/");
        if strip.is_none() && add.is_none() {
            return None;
        }
        Some(Self { strip: strip.map(Box::from), front: format!("{}/", add.unwrap_or_default()).into() })
    }

    /// The target of a request with this path; `target` is what would go on otherwise, path and query.
    pub(crate) fn rewrite<'a>(&'a self, path: &str, target: (&'a str, &'a [u8])) -> Rewritten<'a> {
        let slashless = &self.front[..self.front.len() - 1];
        match target {
            // A target without a path, of the absolute form.
            ("/", rest) => Rewritten { target: (&self.front, rest), stripped: None },
            ("", rest @ [b'/', ..]) => {
                let strip = self.strip.as_deref().filter(|strip| covers(strip, path));
                let rest = &rest[strip.map_or(0, str::len)..];
                let front = if rest.first() == Some(&b'/') { slashless } else { &*self.front };
                Rewritten { target: (front, rest), stripped: strip }
            }
            // `*`
            other => Rewritten { target: other, stripped: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewritten(strip: Option<&str>, add: Option<&str>, target: &str) -> (String, Option<String>) {
        let strip = strip.map(|path| StripPrefix::Path(path.into()));
        let prefixes = Prefixes::new("/route", strip.as_ref(), add).expect("it changes something");
        let path = target.split('?').next().expect("a part");
        let Rewritten { target: (front, rest), stripped } = prefixes.rewrite(path, ("", target.as_bytes()));
        (format!("{front}{}", String::from_utf8_lossy(rest)), stripped.map(str::to_owned))
    }

    #[test]
    fn whole_segments_are_stripped_and_a_slash_stays() {
        for (target, want, stripped) in [
            ("/api", "/", true),
            ("/api?x=1", "/?x=1", true),
            ("/api/", "/", true),
            ("/api/v1", "/v1", true),
            ("/api//v1", "//v1", true),
            ("/api/%2F..x", "/%2F..x", true),
            ("/apix", "/apix", false),
            ("/API/v1", "/API/v1", false),
            ("/", "/", false),
            ("/x?/api", "/x?/api", false),
        ] {
            let want = (want.to_owned(), stripped.then(|| "/api".to_owned()));
            assert_eq!(rewritten(Some("/api"), None, target), want, "{target}");
        }
    }

    #[test]
    fn what_is_added_comes_in_front_of_what_is_left() {
        for (target, want) in
            [("/api", "/v2/"), ("/api/a?b", "/v2/a?b"), ("/other", "/v2/other"), ("/api?x", "/v2/?x")]
        {
            assert_eq!(rewritten(Some("/api"), Some("/v2"), target).0, want, "{target}");
        }
        assert_eq!(rewritten(None, Some("/v2"), "/a").0, "/v2/a");
    }

    #[test]
    fn targets_without_a_path_are_treated_as_the_root_and_an_asterisk_stays() {
        let prefixes = Prefixes::new("/", None, Some("/v2")).expect("a prefix");
        assert_eq!(prefixes.rewrite("/", ("/", b"?a")).target, ("/v2/", &b"?a"[..]));
        assert_eq!(prefixes.rewrite("/", ("*", b"")).target, ("*", &b""[..]));
        assert_eq!(prefixes.rewrite("/", ("", b"*")).target, ("", &b"*"[..]));
        assert!(Prefixes::new("/", Some(&StripPrefix::Route), None).is_none());
        let route = Prefixes::new("/shop", Some(&StripPrefix::Route), None).expect("a prefix");
        assert_eq!(route.rewrite("/shop/a", ("", b"/shop/a")).target, ("", &b"/a"[..]));
    }

    proptest! {
        #[test]
        fn the_result_begins_with_a_slash_and_ends_as_it_came(path in "(/[a-c%.]{0,4}){1,6}", query in "(\\?[a-z/]{0,5})?") {
            let target = format!("{path}{query}");
            let (got, stripped) = rewritten(Some("/a/b"), None, &target);
            prop_assert!(got.starts_with('/'));
            let back = format!("{}{got}", stripped.unwrap_or_default());
            // A slash is there that was not sent only where nothing was left of the path.
            prop_assert!(back == target || back == format!("/a/b/{query}"), "{} {}", target, got);
        }
    }
}
