//! What a route does with requests and answers beside choosing an instance: `fairway.allow`, `.rate_limit`, `.auth`, `.redirect`,
//! `.strip_prefix`, `.add_prefix`, `.headers` and `.compress`.
//!
//! Here: which keys there are and what their values come to, a file for each. Not here: what is done with them (that is
//! the proxy's). A guard that cannot be read guards all the same: nobody passes it, because whoever wrote it wanted some
//! kept out.

mod allow;
mod auth;
mod compress;
mod headers;
mod prefix;
mod rate;
mod redirect;

use std::sync::Arc;

use ipnet::IpNet;

pub use auth::{BasicAuth, PasswordHash, User, users};
pub use compress::{Coding, Compression};
pub use headers::{HeaderAction, HeaderEdit, ValuePart};
pub use prefix::StripPrefix;
pub use rate::RateLimit;
pub use redirect::{Origin as RedirectOrigin, Redirect, RedirectTo, Target as RedirectTarget};

use super::flaw::Flaw;
use super::scalar;

/// The keys that a route takes from the longest-standing backend that sets them; all optional.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// `fairway.allow`: the clients that are served; with an empty list nobody is.
    pub allow: Option<Arc<[IpNet]>>,
    /// `fairway.rate_limit`: of all clients together.
    pub rate_limit: Option<RateLimit>,
    /// `fairway.rate_limit.client`: of each.
    pub client_rate_limit: Option<RateLimit>,
    /// `fairway.auth.*`: who may log in; without a user nobody may.
    pub auth: Option<Arc<BasicAuth>>,
    /// `fairway.redirect`.
    pub redirect: Option<Arc<Redirect>>,
    /// `fairway.strip_prefix`.
    pub strip_prefix: Option<StripPrefix>,
    /// `fairway.add_prefix`: from its leading `/`, without one at its end.
    pub add_prefix: Option<Arc<str>>,
    /// `fairway.headers.request`.
    pub request_headers: Option<Arc<[HeaderEdit]>>,
    /// `fairway.headers.response`.
    pub response_headers: Option<Arc<[HeaderEdit]>>,
    /// `fairway.compress`: in the order of preference; empty when it is switched off.
    pub compress: Option<Arc<[Compression]>>,
}

impl Features {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What was read of features whose keys belong together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    users: Option<Vec<User>>,
    realm: Option<Arc<str>>,
    forward: Option<bool>,
}

/// Enters the value of `fairway.<name>`; false for a name that is none of these. Problems of single parts of the value are
/// added to `found`.
pub(super) fn apply<'a>(
    features: &mut Features,
    draft: &mut Draft,
    name: &str,
    value: &'a str,
    found: &mut Vec<(&'a str, Flaw)>,
) -> Result<bool, Flaw> {
    match name {
        "allow" => features.allow = Some(allow::list(value, found)),
        "rate_limit" => features.rate_limit = rate::limit(value)?,
        "rate_limit.client" => features.client_rate_limit = rate::limit(value)?,
        "auth.basic" => draft.users = Some(auth::users(value, found)),
        "auth.realm" => draft.realm = Some(auth::realm(value)?),
        "auth.forward" => draft.forward = Some(scalar::boolean(value)?),
        "redirect" => features.redirect = Some(Arc::new(redirect::redirect(value)?)),
        "strip_prefix" => features.strip_prefix = prefix::strip(value, found)?,
        "add_prefix" => features.add_prefix = Some(prefix::add(value, found)?),
        "headers.request" => features.request_headers = headers::edits(value, headers::Side::Request, found),
        "headers.response" => {
            features.response_headers = headers::edits(value, headers::Side::Response, found)
        }
        "compress" => features.compress = Some(compress::codings(value, found)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// What a guard comes to whose value cannot be looked at.
pub(super) fn close(features: &mut Features, draft: &mut Draft, name: &str) {
    match name {
        "allow" => features.allow = Some(Arc::default()),
        "auth.basic" => draft.users = Some(Vec::new()),
        _ => {}
    }
}

impl Draft {
    /// Puts together what belongs together. A realm without users is told.
    pub(super) fn finish(self, features: &mut Features) -> Option<(&'static str, Flaw)> {
        let Self { users, realm, forward } = self;
        let asked = realm.is_some().then_some("fairway.auth.realm");
        let asked = asked.or(forward.is_some().then_some("fairway.auth.forward"));
        let is_guarded = users.is_some();
        if is_guarded || asked.is_some() {
            let realm = realm.unwrap_or_else(|| auth::DEFAULT_REALM.into());
            let auth =
                BasicAuth { users: users.unwrap_or_default().into(), realm, forward: forward == Some(true) };
            features.auth = is_guarded.then(|| Arc::new(auth));
        }
        let text = "there are no users, and nobody is asked for a password";
        let flaw = Flaw::warning(
            "label-auth-without-users",
            text,
            "write `fairway.auth.basic` too, or leave it out",
        );
        asked.filter(|_| !is_guarded).map(|key| (key, flaw))
    }
}

/// Whether the value of this key holds what nobody should read in a log.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.trim().as_bytes();
    let start = b"fairway.auth";
    key.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests;
