use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::token::{Keys, RouteMark, Token};
use super::*;
use crate::pick::{Pick, Tried};
use crate::request::FieldList;
use crate::table::RouteEntry;
use crate::table::fixture::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER: &[u8] = b"another secret, and as long as it";
const NOW: u64 = 1_800_000_000;

fn keys(secrets: &[&'static [u8]]) -> Keys {
    Keys::new(secrets.iter().copied()).expect("good secrets")
}

fn token(since: u64, renewed: u64) -> Token<'static> {
    Token { backend: "shop/web@v1", instance: "0123456789ab:80", since, renewed }
}

fn bound(since: u64, renewed: u64) -> Bound {
    let Token { backend, instance, .. } = token(0, 0);
    Bound { backend: backend.into(), instance: instance.into(), since, renewed }
}

fn sticky(secrets: &[&'static [u8]]) -> Sticky {
    let entry = entry_with(&[version("v1", &[READY])], |route| route.sticky = true);
    Sticky::of(&entry.route, &entry.name, &Arc::new(ArcSwap::from_pointee(keys(secrets))))
        .expect("it is sticky")
}

fn cookies(lines: &[&str]) -> FieldList {
    let mut fields = FieldList::default();
    lines.iter().for_each(|line| fields.push("cookie", *line));
    fields
}

fn sealed(secret: &'static [u8], route: &str, since: u64, renewed: u64) -> String {
    keys(&[secret]).seal(&token(since, renewed), &RouteMark::of(route)).expect("a value")
}

#[test]
fn a_token_is_read_by_every_node_with_the_secret_and_shows_nothing() {
    let mark = RouteMark::of("shop.test/");
    let value = sealed(SECRET, "shop.test/", NOW - 100, NOW);
    assert_eq!(keys(&[SECRET]).open(value.as_bytes(), &mark), Ok(bound(NOW - 100, NOW)));
    assert_eq!(keys(&[OTHER, SECRET]).open(value.as_bytes(), &mark), Ok(bound(NOW - 100, NOW)));
    assert_ne!(value, sealed(SECRET, "shop.test/", NOW - 100, NOW), "no two are alike");
    let octets = URL_SAFE_NO_PAD.decode(&value).expect("base64url");
    for name in [&b"web"[..], b"v1", b"0123456789ab", b"shop"] {
        assert!(!octets.windows(name.len()).any(|window| window == name));
    }
    assert!(value.len() < 160, "{} octets in every request", value.len());
    let other = Token { backend: "shop/web@v1-rc", ..token(NOW, NOW) };
    let other = keys(&[SECRET]).seal(&other, &mark).expect("a value");
    assert_eq!(other.len(), value.len(), "nor does its length");
}

#[test]
fn a_token_that_is_not_ours_is_ignored_and_told_why() {
    let mark = RouteMark::of("shop.test/");
    let open = |value: &[u8]| keys(&[SECRET]).open(value, &mark).expect_err("it binds nobody");
    assert_eq!(open(sealed(OTHER, "shop.test/", NOW, NOW).as_bytes()), Ignored::Foreign);
    assert_eq!(open(sealed(SECRET, "shop.test/api", NOW, NOW).as_bytes()), Ignored::OtherRoute);
    let value = sealed(SECRET, "shop.test/", NOW, NOW);
    let octets = URL_SAFE_NO_PAD.decode(&value).expect("base64url");
    for at in 0..octets.len() {
        let mut tampered = octets.clone();
        tampered[at] ^= 1;
        assert_eq!(open(URL_SAFE_NO_PAD.encode(&tampered).as_bytes()), Ignored::Foreign, "octet {at}");
        assert_eq!(open(URL_SAFE_NO_PAD.encode(&octets[..at]).as_bytes()), Ignored::Foreign, "{at} octets");
    }
    for value in ["", "x", "====", "\u{0}", &"A".repeat(5000), &format!("{value}=")] {
        assert_eq!(open(value.as_bytes()), Ignored::Foreign, "{value}");
    }
}

#[test]
fn secrets_are_refused_that_are_none() {
    for (contents, want) in [
        (&b""[..], Err(SecretError::Empty)),
        (b" \n# a comment that is long enough to be one\n\n", Err(SecretError::Empty)),
        (b"short\n", Err(SecretError::Short { line: 1, octets: 5 })),
        (b"0123456789abcdef0123456789abcdef\r\nshort", Err(SecretError::Short { line: 2, octets: 5 })),
        (b"0123456789abcdef0123456789abcdef", Ok(())),
    ] {
        assert_eq!(Keys::from_lines(contents).map(drop), want, "{}", String::from_utf8_lossy(contents));
    }
    let lines = |count: usize| [SECRET, b"\n"].concat().repeat(count);
    assert!(Keys::from_lines(&lines(4)).is_ok());
    assert_eq!(Keys::from_lines(&lines(5)).map(drop), Err(SecretError::Many));
    assert_eq!(format!("{:?}", keys(&[SECRET])), "Keys of 1 secrets");
}

#[test]
fn a_client_is_bound_for_half_an_hour_of_silence_and_eight_hours_at_most() {
    let sticky = sticky(&[SECRET]);
    let said = |since, renewed| {
        let value = sealed(SECRET, "shop.test/", since, renewed);
        sticky.read(&cookies(&[&format!("FAIRWAY={value}")]), NOW)
    };
    let hour = 3600;
    for (since, renewed, want) in [
        (NOW, NOW, Ok(())),
        (NOW - 1799, NOW - 1799, Ok(())),
        (NOW - 1800, NOW - 1800, Err(Ignored::Expired)),
        (NOW - 8 * hour + 1, NOW, Ok(())),
        (NOW - 8 * hour, NOW, Err(Ignored::Expired)),
        (NOW + 300, NOW + 300, Ok(())),
        (NOW, NOW + 301, Err(Ignored::FromTheFuture)),
        (NOW + 301, NOW, Err(Ignored::FromTheFuture)),
    ] {
        let want = match want {
            Ok(()) => Said { bound: Some(bound(since, renewed)), ignored: None },
            Err(why) => Said { bound: None, ignored: Some(why) },
        };
        assert_eq!(said(since, renewed), want, "{since} {renewed}");
    }
    assert_eq!(sticky.read(&cookies(&["a=b"]), NOW), Said::default());
}

#[test]
fn the_first_cookie_that_fits_counts_and_a_crowd_of_them_costs_little() {
    let sticky = sticky(&[SECRET]);
    let good = format!("FAIRWAY={}", sealed(SECRET, "shop.test/", NOW, NOW));
    let of_api = format!("FAIRWAY={}", sealed(SECRET, "shop.test/api", NOW, NOW));
    let both = sticky.read(&cookies(&[&format!("{of_api}; a=b; {good}")]), NOW);
    assert_eq!(both, Said { bound: Some(bound(NOW, NOW)), ignored: Some(Ignored::OtherRoute) });
    assert!(sticky.read(&cookies(&["FAIRWAY=x", "a=b", &good]), NOW).bound.is_some());
    let crowd = "FAIRWAY=x; ".repeat(READ_MAX) + &good;
    assert_eq!(sticky.read(&cookies(&[&crowd]), NOW).bound, None);
}

fn picked(entry: &RouteEntry) -> Pick {
    let fields = FieldList::default();
    let request = request("shop.test", "/", &fields);
    entry.pick(&request, &Tried::default(), &mut fastrand::Rng::new(), Instant::now()).expect("an instance")
}

#[test]
fn a_cookie_is_set_at_first_once_a_minute_and_when_the_client_moves() {
    let entry = entry_with(&[version("v1", &[READY])], |route| route.sticky = true);
    let (pick, sticky) = (picked(&entry), entry.sticky.as_ref().expect("it is sticky"));
    let at = |since, renewed| Bound {
        backend: (&*pick.version.name).into(),
        instance: pick.endpoint.key.id.as_str().into(),
        since,
        renewed,
    };
    let set = |bound: Option<&Bound>| {
        let line = sticky.set_cookie(&pick, bound, true, NOW)?;
        let line = String::from_utf8(line).expect("text");
        assert!(
            line.starts_with("Set-Cookie: FAIRWAY=")
                && line.ends_with("; HttpOnly; SameSite=Lax; Secure\r\n")
        );
        let age = line.split("Max-Age=").nth(1)?.split(';').next()?.parse::<u64>().ok()?;
        let said = sticky.read(&cookies(&[line.strip_prefix("Set-Cookie: ")?.split(';').next()?]), NOW);
        let Bound { backend, instance, since, renewed } = said.bound.expect("it can be read");
        assert_eq!(
            (&*backend, &*instance, renewed),
            (&*pick.version.name, pick.endpoint.key.id.as_str(), NOW)
        );
        Some((since, age))
    };
    assert_eq!(set(None), Some((NOW, 1800)));
    assert_eq!(set(Some(&at(NOW - 1000, NOW - 59))), None);
    assert_eq!(set(Some(&at(NOW - 1000, NOW - 60))), Some((NOW - 1000, 1800)));
    assert_eq!(set(Some(&at(NOW + 10, NOW + 10))), None, "another node's clock is ahead");
    let end = NOW - LONGEST.as_secs() + 700;
    assert_eq!(set(Some(&at(end, NOW - 60))), Some((end, 700)), "not longer than eight hours in all");
    let elsewhere = Bound { instance: "gone:80".into(), ..at(NOW - 1000, NOW) };
    assert_eq!(set(Some(&elsewhere)), Some((NOW - 1000, 1800)), "the same version, the same session");
    let other = Bound { backend: "shop@v0".into(), ..at(NOW - 1000, NOW) };
    assert_eq!(set(Some(&other)), Some((NOW, 1800)));
}

proptest! {
    #[test]
    fn any_octets_in_a_cookie_bind_nobody(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        let sticky = sticky(&[SECRET]);
        let mut fields = FieldList::default();
        fields.push("cookie", [b"FAIRWAY=", &line[..]].concat());
        fields.push("cookie", line);
        prop_assert_eq!(sticky.read(&fields, NOW).bound, None);
    }

    #[test]
    fn names_of_any_length_come_back_or_make_no_cookie(backend in "\\PC{0,300}", instance in "\\PC{0,800}") {
        let (keys, mark) = (keys(&[SECRET]), RouteMark::of("a/"));
        let token = Token { backend: &backend, instance: &instance, since: 1, renewed: 2 };
        let Some(value) = keys.seal(&token, &mark) else {
            prop_assert!(backend.len() + instance.len() > 1000);
            return Ok(());
        };
        let bound = keys.open(value.as_bytes(), &mark).expect("ours");
        prop_assert_eq!((&*bound.backend, &*bound.instance, bound.since, bound.renewed), (&*backend, &*instance, 1, 2));
    }
}
