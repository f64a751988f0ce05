//! Which certificate a client gets: by the name that it asks for, exactly, then by wildcard, then the first of all.
//!
//! One value for all listeners and workers, replaced whole; a handshake reads it once and allocates nothing. Not here:
//! where certificates come from.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{Certificate, Shown};
use super::challenges::{ACME_TLS, Challenges};

/// The certificates that are served.
#[derive(Debug, Default)]
pub struct Certificates {
    served: ArcSwap<Choices>,
    /// What authorities ask for before they certify a host.
    pub challenges: Challenges,
}

/// Certificates by the names in them.
#[derive(Debug, Default)]
struct Choices {
    exact: HashMap<Box<str>, Candidates>,
    /// `*.company.com` under `company.com`.
    wildcard: HashMap<Box<str>, Candidates>,
    /// For every other name, and for clients that ask for none.
    default: Option<Shown>,
}

/// The certificates for one name, the best first: never empty.
type Candidates = Vec<Shown>;

impl Certificates {
    /// With these.
    pub fn new(all: &[Certificate], now: Timestamp) -> Arc<Self> {
        let certificates = Self::default();
        certificates.replace(all, now);
        Arc::new(certificates)
    }

    /// Serves these from the next handshake on, the first one where no other fits. Of several for one name the first that
    /// the client can use; one that has expired only when there is no other.
    pub fn replace(&self, all: &[Certificate], now: Timestamp) {
        let mut choices =
            Choices { default: all.first().map(|first| first.key.clone()), ..Choices::default() };
        let (expired, valid): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.is_expired(now));
        for certificate in valid.into_iter().chain(expired) {
            for name in &certificate.facts.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut choices.wildcard, rest),
                    None => (&mut choices.exact, &**name),
                };
                map.entry(name.into()).or_default().push(certificate.key.clone());
            }
        }
        self.served.store(Arc::new(choices));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.served.load().default.is_none()
    }
}

impl Choices {
    fn for_name(&self, name: &str) -> Option<&Candidates> {
        let by_wildcard = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(name).or_else(by_wildcard)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if self.challenges.are_open() && is_challenge(&hello) {
            return self.challenges.handshake(hello.server_name()?);
        }
        let choices = self.served.load();
        let fitting = hello.server_name().and_then(|name| choices.for_name(name));
        match fitting.map(Vec::as_slice) {
            Some([only]) => Some(only.now()),
            Some(several @ [first, ..]) => {
                let schemes = hello.signature_schemes();
                let usable = several.iter().find(|one| one.bare.key.choose_scheme(schemes).is_some());
                Some(usable.unwrap_or(first).now())
            }
            Some([]) | None => choices.default.as_ref().map(Shown::now),
        }
    }
}

fn is_challenge(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.next() == Some(ACME_TLS) && protocols.next().is_none())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Valid until the end of this year.
    fn certificate(names: &[&str], until: i32) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        Certificate::from_pem(made.pem().as_bytes(), key.serialize_pem().as_bytes(), None)
            .expect("it is good")
    }

    #[test]
    fn an_exact_name_goes_before_a_wildcard_which_covers_one_label() {
        let all = [
            certificate(&["default.test"], 2099),
            certificate(&["*.shop.test", "shop.test"], 2099),
            certificate(&["a.shop.test"], 2020),
            certificate(&["old.test"], 2020),
            certificate(&["old.test"], 2099),
        ];
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let certificates = Certificates::new(&all, now);
        let choices = certificates.served.load();
        for (name, want) in [
            ("a.shop.test", Some(2)),
            ("b.shop.test", Some(1)),
            ("shop.test", Some(1)),
            ("a.b.shop.test", None),
            ("old.test", Some(4)),
            ("other.test", None),
            ("test", None),
        ] {
            let found = choices.for_name(name).map(|found| Arc::as_ptr(&found[0].bare));
            let want = want.map(|index: usize| Arc::as_ptr(&all[index].key.bare));
            assert_eq!(found, want, "{name}");
        }
        assert!(choices.default.as_ref().is_some_and(|default| Arc::ptr_eq(&default.bare, &all[0].key.bare)));
    }
}
