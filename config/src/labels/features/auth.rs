//! `fairway.auth.*`: who may log in by name and password (RFC 7617).
//!
//! Users are lines as `htpasswd` writes them, with hashes that are fit for passwords today. What is wrong with one is told
//! by its user's name alone: a hash belongs in no log. Not here: checking a password (that is the proxy's).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::flaw::{Flaw, shown};

/// Where no realm is written.
pub(super) const DEFAULT_REALM: &str = "restricted";

/// Most users of one route.
const USERS_MAX: usize = 10_000;
/// Longest name and longest realm, in octets.
const NAME_BYTES_MAX: usize = 128;
/// Highest cost of bcrypt: each step doubles the time, and 14 is a second or more.
const BCRYPT_COST_MAX: u8 = 14;

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// `fairway.auth.basic`; without any nobody may.
    pub users: Arc<[User]>,
    /// `fairway.auth.realm`: what a browser tells the person it asks; no quotes or control characters in it.
    pub realm: Arc<str>,
    /// `fairway.auth.forward`: the instance gets `Authorization` too.
    pub forward: bool,
}

/// One user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name, without a colon.
    pub name: Arc<str>,
    /// What the password must come to.
    pub password: PasswordHash,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.name)
    }
}

/// The hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// `$2y$`, `$2b$` or `$2a$`, cost 4 to 14, the text as written.
    Bcrypt(Arc<str>),
    /// `{SHA256}`, or `{SSHA256}` with a salt behind the password.
    Sha256([u8; 32], Arc<[u8]>),
    /// `{SHA512}`, or `{SSHA512}` with a salt behind the password.
    Sha512([u8; 64], Arc<[u8]>),
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt(_) => "Bcrypt",
            Self::Sha256(..) => "Sha256",
            Self::Sha512(..) => "Sha512",
        })
    }
}

/// The good users of a text with `NAME:HASH` on each line, or separated by `,` or `;`; the others are added to `found` with
/// their names. Lines that begin with `#` are comments.
pub fn users<'a>(text: &'a str, found: &mut Vec<(&'a str, Flaw)>) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut written =
        lines.flat_map(|line| line.split([',', ';'])).map(str::trim).filter(|user| !user.is_empty());
    for written in written.by_ref().take(USERS_MAX) {
        let (name, hash) = written.split_once(':').unwrap_or(("", written));
        match user(name, hash) {
            Ok(user) if users.iter().any(|other| other.name == user.name) => {
                let text = format!("the user `{}` is there twice; the first counts", shown(name));
                found.push((name, Flaw::warning("label-auth-user", text, "leave one of them out")));
            }
            Ok(user) => users.push(user),
            Err(flaw) => found.push((name, flaw)),
        }
    }
    if written.next().is_some() {
        let text = format!("there are more than {USERS_MAX} users; the rest cannot log in");
        found.push(("", Flaw::refused("label-auth-user", text, "let the service itself ask for passwords")));
    }
    if users.is_empty() {
        let text = "there is no user in it that can be used, so that nobody can log in";
        found.push(("", Flaw::refused("label-auth-user", text, "write what `htpasswd -nB NAME` prints")));
    }
    users
}

fn user(name: &str, hash: &str) -> Result<User, Flaw> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let text = "a user is not written as `NAME:HASH`";
        return Err(Flaw::refused("label-auth-user", text, "write what `htpasswd -nB NAME` prints"));
    }
    let password = self::hash(hash).map_err(|(text, remedy)| {
        Flaw::refused("label-auth-hash", format!("the hash of the user `{}` {text}", shown(name)), remedy)
    })?;
    Ok(User { name: name.into(), password })
}

/// What is wrong with a hash, and what to write instead.
type NotAHash = (&'static str, &'static str);

const REMEDY: &str = "write what `htpasswd -nB NAME` prints; in a compose file each `$` as `$$`";

fn hash(text: &str) -> Result<PasswordHash, NotAHash> {
    let salted = |rest: &str, len: usize| {
        let octets =
            STANDARD.decode(rest).ok().filter(|octets| octets.len() > len && octets.len() <= len + 64);
        octets.ok_or(("is not base64 of a digest with a salt behind it", REMEDY))
    };
    let plain = |rest: &str| STANDARD.decode(rest).map_err(|_| ("is not base64", REMEDY));
    let short = ("is not a digest of the length that it says", REMEDY);
    match text {
        _ if text.starts_with("$$") => {
            Err(("has `$$`, which only a compose file has", "write each `$` once"))
        }
        _ if text.starts_with("$2") => bcrypt(text),
        _ if text.starts_with("{SHA256}") => {
            let digest = plain(&text[8..])?.try_into().map_err(|_| short)?;
            Ok(PasswordHash::Sha256(digest, Arc::default()))
        }
        _ if text.starts_with("{SSHA256}") => {
            let octets = salted(&text[9..], 32)?;
            let (digest, salt) = octets.split_first_chunk().ok_or(short)?;
            Ok(PasswordHash::Sha256(*digest, salt.into()))
        }
        _ if text.starts_with("{SHA512}") => {
            let digest = plain(&text[8..])?.try_into().map_err(|_| short)?;
            Ok(PasswordHash::Sha512(digest, Arc::default()))
        }
        _ if text.starts_with("{SSHA512}") => {
            let octets = salted(&text[9..], 64)?;
            let (digest, salt) = octets.split_first_chunk().ok_or(short)?;
            Ok(PasswordHash::Sha512(*digest, salt.into()))
        }
        _ if text.starts_with("$apr1$") || text.starts_with("$1$") => {
            Err(("is MD5, which is guessed in no time", REMEDY))
        }
        _ if text.starts_with("{SHA}") => Err(("is SHA-1 without salt, which is guessed in no time", REMEDY)),
        _ => Err(("is of no kind that is known here", REMEDY)),
    }
}

/// `$2y$05$` and 53 digits.
fn bcrypt(text: &str) -> Result<PasswordHash, NotAHash> {
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/');
    let cost = match text.as_bytes() {
        [b'$', b'2', b'a' | b'b' | b'y', b'$', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'$', rest @ ..]
            if rest.len() == 53 && rest.iter().all(|b| is_digit(*b)) =>
        {
            (tens - b'0') * 10 + (ones - b'0')
        }
        _ => return Err(("is not a whole bcrypt hash", REMEDY)),
    };
    match cost {
        4..=BCRYPT_COST_MAX => Ok(PasswordHash::Bcrypt(text.into())),
        _ => {
            Err(("has a cost out of range", "write one with a cost from 4 to 14: `htpasswd -nB -C 10 NAME`"))
        }
    }
}

/// What stands in quotes in the challenge.
pub(super) fn realm(value: &str) -> Result<Arc<str>, Flaw> {
    let fits = |c: char| !c.is_control() && c != '"' && c != '\\';
    if !value.is_empty() && value.len() <= NAME_BYTES_MAX && value.chars().all(fits) {
        return Ok(value.into());
    }
    let remedy = "write 1 to 128 octets without `\"`, `\\` and control characters";
    Err(Flaw::refused("label-auth-realm", format!("`{}` cannot be a realm", shown(value)), remedy))
}
