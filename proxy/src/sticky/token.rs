//! The value of the cookie: route, version, instance and times, sealed with AES-256-GCM-SIV (RFC 8452), so that nobody
//! without the secret can read or make one. That mode does not break when a nonce comes twice: every node draws its nonces
//! at random, and none knows those of the others.
//!
//! ```text
//! value = base64url( nonce[12] seal( mark[8] since[4] renewed[4] len[2] backend len[2] instance zeros ) tag[16] )
//! ```
//!
//! Filled up to a multiple of 32 octets, so that not even the length of a name shows.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Bound;

/// Fewest octets of a secret: 128 bits as hexadecimal digits.
pub const SECRET_BYTES_MIN: usize = 32;

/// Most secrets at a time: the one that seals, and those before it.
const SECRETS_MAX: usize = 4;

/// Longest value that is read or made. Browsers keep no cookie above 4,096 octets.
const VALUE_MAX: usize = 2048;

/// What is sealed is filled up to a multiple of this.
const BLOCK: usize = 32;

/// Bound to every value: one of another format is none.
const FORMAT: &[u8] = b"fairway sticky 1";

/// What makes and reads tokens: the same on every node with the same secrets.
pub struct Keys {
    first: Key,
    others: Vec<Key>,
}

struct Key(RandomizedNonceKey);

/// Why secrets cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("there is no secret in it")]
    Empty,
    /// One is too short to be one.
    #[error("line {line} has {octets} octets, and a secret has {SECRET_BYTES_MIN} at least")]
    Short {
        /// Which, from 1.
        line: usize,
        /// How many octets it has.
        octets: usize,
    },
    /// There are more than anybody needs.
    #[error("it has more than {SECRETS_MAX} secrets")]
    Many,
    /// The cryptographic library refuses.
    #[error("no key can be made of it")]
    Refused,
}

/// Why a cookie of our name binds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Not ours: another secret, tampered with, or no token at all.
    Foreign,
    /// For another route.
    OtherRoute,
    /// Its time has passed.
    Expired,
    /// From a time that has not come.
    FromTheFuture,
}

impl Ignored {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::OtherRoute => "other-route",
            Self::Expired => "expired",
            Self::FromTheFuture => "from-the-future",
        }
    }

    /// One sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Foreign => "it was tampered with, or sealed with another secret",
            Self::OtherRoute => "it is for another route",
            Self::Expired => "its time has passed: 30 minutes without a request, or 8 hours",
            Self::FromTheFuture => "it is from a time that has not come: a clock has jumped",
        }
    }
}

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) backend: &'a str,
    pub(crate) instance: &'a str,
    /// Seconds since the epoch, up to the year 2106.
    pub(crate) since: u64,
    pub(crate) renewed: u64,
}

/// Tells a route from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteMark([u8; 8]);

impl RouteMark {
    /// Of the route of this name.
    pub(crate) fn of(name: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, name.as_bytes());
        Self(hash.as_ref()[..8].try_into().expect("SHA-256 has 32 octets"))
    }
}

/// A secret that nobody else has.
pub fn new_secret() -> [u8; SECRET_BYTES_MIN] {
    let mut secret = [0; SECRET_BYTES_MIN];
    // The library aborts rather than to go on without random numbers, and TLS needs them, too.
    rand::fill(&mut secret).expect("the system gives random numbers");
    secret
}

impl Keys {
    /// Of these secrets: the first one seals, all of them open.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s [u8]>) -> Result<Self, SecretError> {
        let mut keys = secrets.into_iter().zip(1..).map(|(secret, line)| match secret.len() {
            0..SECRET_BYTES_MIN => Err(SecretError::Short { line, octets: secret.len() }),
            _ => Key::new(secret),
        });
        let first = keys.next().ok_or(SecretError::Empty)??;
        let others = keys.collect::<Result<Vec<_>, _>>()?;
        if others.len() >= SECRETS_MAX { Err(SecretError::Many) } else { Ok(Self { first, others }) }
    }

    /// Of the contents of a file, a secret a line: lines that are empty or start with `#` do not count.
    pub fn from_lines(contents: &[u8]) -> Result<Self, SecretError> {
        let lines = contents.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        Self::new(lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")))
    }

    /// Of a secret that nobody else has, and that ends with the process.
    pub fn ephemeral() -> Self {
        Self::new([&new_secret()[..]]).expect("it is long enough")
    }

    /// The value of a cookie that says this; `None` when it would be longer than a cookie may be.
    pub(crate) fn seal(&self, token: &Token<'_>, mark: &RouteMark) -> Option<String> {
        let Token { backend, instance, since, renewed } = *token;
        let mut text = Vec::with_capacity(128 + backend.len() + instance.len());
        text.extend_from_slice(&mark.0);
        for secs in [since, renewed] {
            text.extend_from_slice(&u32::try_from(secs).unwrap_or(u32::MAX).to_be_bytes());
        }
        for name in [backend, instance] {
            text.extend_from_slice(&u16::try_from(name.len()).ok()?.to_be_bytes());
            text.extend_from_slice(name.as_bytes());
        }
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        let nonce = self.first.0.seal_in_place_append_tag(Aad::from(FORMAT), &mut text).ok()?;
        let sealed = [&nonce.as_ref()[..], &text].concat();
        Some(URL_SAFE_NO_PAD.encode(sealed)).filter(|value| value.len() <= VALUE_MAX)
    }

    /// What a value says to this route, whatever the time.
    pub(crate) fn open(&self, value: &[u8], mark: &RouteMark) -> Result<Bound, Ignored> {
        if value.len() > VALUE_MAX {
            return Err(Ignored::Foreign);
        }
        let sealed = URL_SAFE_NO_PAD.decode(value).map_err(|_| Ignored::Foreign)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Ignored::Foreign)?;
        let mut keys = std::iter::once(&self.first).chain(&self.others);
        let text = keys.find_map(|key| key.open(nonce, sealed)).ok_or(Ignored::Foreign)?;
        let (of, bound) = read(&text).ok_or(Ignored::Foreign)?;
        if of == *mark { Ok(bound) } else { Err(Ignored::OtherRoute) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys of {} secrets", 1 + self.others.len())
    }
}

impl Key {
    fn new(secret: &[u8]) -> Result<Self, SecretError> {
        // A key of its own, so that the secret may serve other ends as well.
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), FORMAT);
        RandomizedNonceKey::new(&AES_256_GCM_SIV, key.as_ref()).map(Self).map_err(|_| SecretError::Refused)
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut text = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = self.0.open_in_place(nonce, Aad::from(FORMAT), &mut text).ok()?.len();
        text.truncate(len);
        Some(text)
    }
}

/// Reads what was sealed.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number<const N: usize>(&mut self) -> Option<u64> {
        let (octets, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)))
    }

    fn name(&mut self) -> Option<Box<str>> {
        let len = usize::try_from(self.number::<2>()?).ok()?;
        let (name, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(name).ok().map(Box::from)
    }
}

fn read(text: &[u8]) -> Option<(RouteMark, Bound)> {
    let (mark, rest) = text.split_first_chunk::<8>()?;
    let mut reader = Reader(rest);
    let (since, renewed) = (reader.number::<4>()?, reader.number::<4>()?);
    let (backend, instance) = (reader.name()?, reader.name()?);
    Some((RouteMark(*mark), Bound { backend, instance, since, renewed }))
}
