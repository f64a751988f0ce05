//! What the keys of features come to, and what is told of those that cannot be used.

use super::*;
use crate::labels::{LabelProblem, Severity, parse};

const BCRYPT: &str = "$2y$05$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";

fn features(labels: &[(&str, &str)]) -> (Features, Vec<LabelProblem>) {
    let parsed = parse(labels.iter().copied());
    (parsed.spec.features, parsed.problems)
}

fn good(key: &str, value: &str) -> Features {
    let (features, problems) = features(&[(key, value)]);
    assert_eq!(problems, [], "{key}: {value}");
    features
}

/// The kinds and remedies of what is told.
fn told(key: &str, value: &str) -> (Features, Vec<(&'static str, String)>) {
    let (features, problems) = features(&[(key, value)]);
    (features, problems.into_iter().map(|problem| (problem.kind, problem.remedy)).collect())
}

#[test]
fn a_list_of_clients_is_networks_and_addresses() {
    let allow = good("fairway.allow", "10.0.0.0/8, 192.0.2.7;fd00::/8").allow.expect("a list");
    let texts: Vec<String> = allow.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]);
}

#[test]
fn a_guard_that_cannot_be_read_lets_nobody_in() {
    for value in ["", "everybody", "10.0.0.0/33"] {
        let (features, told) = told("fairway.allow", value);
        assert_eq!(features.allow.as_deref(), Some(&[][..]), "{value}");
        assert!(told.iter().any(|(kind, _)| *kind == "label-allow"), "{value}: {told:?}");
    }
    let (features, _) = told("fairway.allow", "10.0.0.0/8, nonsense");
    assert_eq!(features.allow.expect("a list").len(), 1, "the good ones hold");
    for value in ["", "alice", "alice:secret", "alice:$apr1$x$y", &format!("alice:{BCRYPT},").repeat(1000)] {
        let (features, told) = told("fairway.auth.basic", value);
        assert_eq!(features.auth.map(|auth| auth.users.len()), Some(0), "{value}");
        assert!(!told.is_empty(), "{value}");
    }
}

#[test]
fn users_are_lines_of_htpasswd_with_modern_hashes() {
    let sha = "{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";
    let salted = "{SSHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCghzYWx0";
    let value = format!("# staff\nalice:{BCRYPT}\n\nbob:{sha},carol:{salted}");
    let (features, problems) = features(&[
        ("fairway.auth.basic", &value),
        ("fairway.auth.realm", "Staff only"),
        ("fairway.auth.forward", "true"),
    ]);
    assert_eq!(problems, []);
    let auth = features.auth.expect("users");
    let names: Vec<&str> = auth.users.iter().map(|user| &*user.name).collect();
    assert_eq!((names, &*auth.realm, auth.forward), (vec!["alice", "bob", "carol"], "Staff only", true));
    assert!(matches!(&auth.users[0].password, PasswordHash::Bcrypt(text) if **text == *BCRYPT));
    assert!(matches!(&auth.users[2].password, PasswordHash::Sha256(_, salt) if **salt == *b"salt"));
}

#[test]
fn no_hash_reaches_a_message_or_a_debug_text() {
    let sha1 = "{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=";
    for value in [format!("alice:{sha1}"), sha1.to_owned(), format!("alice:{BCRYPT}x"), "s3cret".to_owned()] {
        let (features, problems) =
            features(&[("fairway.auth.basic", &value), ("fairway.auth.basci", &value)]);
        let shown = format!("{features:?} {problems:?}");
        for secret in ["qUqP5", "abcdefghi", "s3cret"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(problems.iter().any(|problem| problem.remedy.contains("htpasswd -nB")), "{problems:?}");
    }
    assert!(!format!("{:?}", good("fairway.auth.basic", &format!("a:{BCRYPT}"))).contains("abcdefghi"));
}

#[test]
fn hashes_that_cannot_be_used_have_their_own_remedy() {
    let short = BCRYPT.replace("$05$", "$31$");
    for (hash, advice) in [
        ("$apr1$abc$def", "htpasswd -nB"),
        ("$$2y$$05$$abc", "each `$` once"),
        ("y$05$abc", "each `$` as `$$`"),
        (&short, "from 4 to 14"),
        ("{SHA256}AAAA", "htpasswd -nB"),
        ("{SSHA256}AAAA", "htpasswd -nB"),
    ] {
        let (_, told) = told("fairway.auth.basic", &format!("alice:{hash}"));
        assert_eq!(told[told.len() - 1].0, "label-auth-user", "nobody is left");
        assert!(
            told.iter().any(|(kind, remedy)| *kind == "label-auth-hash" && remedy.contains(advice)),
            "{hash}"
        );
    }
}

#[test]
fn a_realm_needs_users_and_a_file_of_users_is_no_label() {
    let (features, told) = told("fairway.auth.realm", "x");
    assert_eq!((features.auth, told[0].0), (None, "label-auth-without-users"));
    let (_, told) = self::told("fairway.auth.basic_file", "/etc/shadow");
    assert_eq!(told[0].0, "label-unsupported");
    assert!(told[0].1.contains("`fairway.auth.basic`"));
    assert_eq!(self::told("fairway.auth.realm", "a\"b").1[0].0, "label-auth-realm");
}

#[test]
fn prefixes_are_paths() {
    assert_eq!(good("fairway.strip_prefix", "true").strip_prefix, Some(StripPrefix::Route));
    assert_eq!(good("fairway.strip_prefix", "false").strip_prefix, None);
    assert_eq!(good("fairway.strip_prefix", "/api/").strip_prefix, Some(StripPrefix::Path("/api".into())));
    assert_eq!(good("fairway.add_prefix", "/v2").add_prefix.as_deref(), Some("/v2"));
    for (key, value, kind) in [
        ("fairway.strip_prefix", "api", "label-prefix"),
        ("fairway.strip_prefix", "/", "label-prefix"),
        ("fairway.strip_prefix", "/a/../b", "label-path-never-matches"),
        ("fairway.add_prefix", "true", "label-prefix"),
        ("fairway.add_prefix", "/a b", "label-prefix"),
        ("fairway.add_prefix", "/a\r\nX: y", "label-path-never-matches"),
    ] {
        let (features, told) = told(key, value);
        assert_eq!((told[0].0, features.is_empty()), (kind, true), "{key}: {value}");
    }
}

#[test]
fn codings_keep_their_order_and_levels() {
    let read = |value| {
        let codings = good("fairway.compress", value).compress.expect("a list");
        codings.iter().map(|one| (one.coding.as_str(), one.level)).collect::<Vec<_>>()
    };
    assert_eq!(read("gzip, br, zstd"), [("gzip", 5), ("br", 4), ("zstd", 3)]);
    assert_eq!(read("br:6 gzip:1"), [("br", 6), ("gzip", 1)]);
    assert_eq!(read("true"), [("zstd", 3), ("br", 4), ("gzip", 5)]);
    assert_eq!(read("false"), []);
    for (value, advice) in [
        ("", "`true` or `false`"),
        ("deflate", "`gzip`"),
        ("brotli", "`br`"),
        ("gzpi", "did you mean `gzip`"),
        ("br:11", "from 0 to 6"),
        ("gzip:fast", "from 1 to 9"),
    ] {
        let (_, told) = told("fairway.compress", value);
        assert!(told[0].0 == "label-compress" && told[0].1.contains(advice), "{value}: {told:?}");
    }
    let (features, told) = told("fairway.compress", "gzip, nonsense");
    assert_eq!((features.compress.map(|list| list.len()), told.len()), (Some(1), 1));
}

#[test]
fn edits_may_have_semicolons_in_quotes_and_variables_in_values() {
    let value = "set X-Frame-Options: DENY; add X-A: b ;; remove Server; \
        set Content-Security-Policy: \"default-src 'self'; img-src \\\"*\\\"\"; set X-From: {client_ip} by {host}; \
        add Report-To: {\"group\":\"default\"}";
    let edits = good("fairway.headers.response", value).response_headers.expect("edits");
    let shown: Vec<(HeaderAction, &str, Vec<ValuePart>)> =
        edits.iter().map(|edit| (edit.action, &*edit.name, edit.value.to_vec())).collect();
    let text = |text: &str| ValuePart::Text(text.into());
    assert_eq!(
        shown,
        [
            (HeaderAction::Set, "X-Frame-Options", vec![text("DENY")]),
            (HeaderAction::Add, "X-A", vec![text("b")]),
            (HeaderAction::Remove, "Server", vec![]),
            (HeaderAction::Set, "Content-Security-Policy", vec![text("default-src 'self'; img-src \"*\"")]),
            (HeaderAction::Set, "X-From", vec![ValuePart::ClientIp, text(" by "), ValuePart::Host]),
            (HeaderAction::Add, "Report-To", vec![text("{\"group\":\"default\"}")]),
        ]
    );
    let tag = good("fairway.headers.response", "set ETag: W/\"a\"; set X: https: \"y\"").response_headers;
    assert_eq!(tag.expect("edits").len(), 2, "a quote in the middle is a part of the value");
    let empty = good("fairway.headers.request", "set X-Empty:").request_headers.expect("edits");
    assert!(empty[0].value.is_empty());
}

#[test]
fn an_edit_that_cannot_be_made_is_told_and_the_others_hold() {
    for (side, edit, kind) in [
        ("request", "put X: y", "label-headers"),
        ("request", "set X", "label-headers"),
        ("request", "remove X: y", "label-headers"),
        ("request", "set X Y: z", "label-headers"),
        ("request", "set X: \"y", "label-headers"),
        ("request", "set X: \"y\" z", "label-headers"),
        ("request", "set X: a\r\nEvil: b", "label-headers-value"),
        ("request", "set X: a\nEvil: b", "label-headers-value"),
        ("request", "set X: a\0b", "label-headers-value"),
        ("request", "set X: {clientip}", "label-headers-variable"),
        ("request", "set Host: x", "label-headers-own"),
        ("request", "set X-Forwarded-For: 1.1.1.1", "label-headers-own"),
        ("request", "remove x_real_ip", "label-headers-own"),
        ("request", "set Transfer-Encoding: chunked", "label-headers-own"),
        ("response", "set Content-Length: 0", "label-headers-own"),
        ("response", "remove Connection", "label-headers-own"),
        ("response", "set Content-Encoding: gzip", "label-headers-own"),
        ("response", "set Good: twice", "label-headers"),
    ] {
        let key = format!("fairway.headers.{side}");
        let value = format!("set Good: 1; {edit}");
        let (features, problems) = features(&[(&key, &value)]);
        let edits = if side == "request" { features.request_headers } else { features.response_headers };
        assert_eq!(edits.expect("the good one").len(), 1, "{edit}");
        assert_eq!(problems.iter().map(|p| p.kind).collect::<Vec<_>>(), [kind], "{edit}");
        assert!(problems.iter().all(|p| p.severity == Severity::Error && !p.remedy.is_empty()), "{edit}");
    }
    assert_eq!(told("fairway.headers.request", " ; ").1[0].0, "label-headers");
    good("fairway.headers.response", "set X-Request-Id: {request_id}");
}

#[test]
fn redirects_have_a_target_and_a_status() {
    let url = |value: &str| {
        let redirect = good("fairway.redirect", value).redirect.expect("a redirect");
        match &redirect.to {
            RedirectTo::Url(target) => (target.clone(), redirect.status),
            other => panic!("{value}: {other:?}"),
        }
    };
    let origin =
        |secure, host: Option<&str>, port| Some(RedirectOrigin { secure, host: host.map(Arc::from), port });
    let target = |origin, path: &str, keeps_path, query: Option<&str>| RedirectTarget {
        origin,
        path: path.into(),
        keeps_path,
        query: query.map(Arc::from),
    };
    let new = || origin(true, Some("new.example.com"), None);
    for (value, want) in [
        ("https://new.example.com{path} 308", (target(new(), "", true, None), 308)),
        ("https://New.Example.com", (target(new(), "", false, None), 307)),
        ("https://new.example.com/a{path}?x=1 301", (target(new(), "/a", true, Some("x=1")), 301)),
        ("https://new.example.com? 302", (target(new(), "", false, Some("")), 302)),
        ("https://{host}{path}", (target(origin(true, None, None), "", true, None), 307)),
        ("http://a.b:8080/x", (target(origin(false, Some("a.b"), Some(8080)), "/x", false, None), 307)),
        ("/new{path}", (target(None, "/new", true, None), 307)),
        ("/maintenance.html 303", (target(None, "/maintenance.html", false, None), 303)),
    ] {
        assert_eq!(url(value), want, "{value}");
    }
    for (value, want) in [("www", RedirectTo::Www), ("apex 301", RedirectTo::Apex)] {
        assert_eq!(good("fairway.redirect", value).redirect.expect("a redirect").to, want);
    }
    for (value, kind) in [
        ("", "label-redirect"),
        ("new.example.com", "label-redirect"),
        ("ftp://x.y", "label-redirect"),
        ("https://x.y 200", "label-redirect"),
        ("https://x.y 308 more", "label-redirect"),
        ("{path}", "label-redirect-loop"),
        ("/{path}", "label-redirect"),
        ("//evil.com", "label-redirect"),
        ("https://a.b/{path}", "label-redirect"),
        ("https://www.{host}/x", "label-redirect"),
        ("https://a.b/{query}", "label-redirect"),
        ("https://u@a.b/", "label-user-in-host"),
        ("https://a.b:0/", "label-redirect"),
        ("https://a.b/#x", "label-redirect"),
        ("https://a.b/\u{7f}", "label-redirect"),
    ] {
        let (features, told) = told("fairway.redirect", value);
        assert_eq!((told[0].0, features.is_empty()), (kind, true), "{value}");
        assert!(!told[0].1.is_empty(), "{value}");
    }
}
