//! Sticky sessions (`aliyun.routing.session_sticky`): a client is bound to a version and an instance by a cookie that only
//! nodes with the same secret can read.
//!
//! - [`token`]: what the cookie's value says, and how it is sealed.
//! - [`cookie`]: our cookie among others in a request, and the field that sets it.
//!
//! A token is never an order: it names a version and an instance, and whether these may still serve the client is the
//! table's to say. Not here: where a bound client goes (see `pick`), when an answer gets the cookie (see `downstream`), where
//! the secret comes from (the program's business).

pub(crate) mod cookie;
pub mod token;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use fairway_catalog::Route;

use crate::pick::Pick;
use crate::request::Fields;
pub use token::{Ignored, Keys, SECRET_BYTES_MIN, SecretError, new_secret};
use token::{RouteMark, Token};

/// A client that says nothing for this long is free again.
pub const IDLE: Duration = Duration::from_secs(30 * 60);

/// A client is bound for this long at most.
pub const LONGEST: Duration = Duration::from_secs(8 * 3600);

/// How often a client's cookie is renewed, at most: it counts as idle since the last renewal.
pub const RENEWAL: Duration = Duration::from_secs(60);

/// The clocks of two nodes may differ by this much. A token from further in the future is none: a clock has jumped.
const SKEW_SECS: u64 = 5 * 60;

/// Most cookies of our name that are looked at: those of routes with shorter paths come with a request, too.
const READ_MAX: usize = 8;

/// A route whose clients are bound.
#[derive(Debug)]
pub(crate) struct Sticky {
    mark: RouteMark,
    path: Box<str>,
    keys: Arc<ArcSwap<Keys>>,
}

/// Where a client belongs, as its cookie says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The backend's name.
    pub backend: Box<str>,
    /// The instance's id.
    pub instance: Box<str>,
    /// Since when it is bound to that version, in seconds since the epoch.
    pub(crate) since: u64,
    /// When its cookie was made, in the same seconds.
    pub(crate) renewed: u64,
}

/// What the cookies of a request say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Where the client belongs.
    pub(crate) bound: Option<Bound>,
    /// Why a cookie of our name says nothing, if none does.
    pub(crate) ignored: Option<Ignored>,
}

impl Sticky {
    /// `None` for a route that binds nobody.
    pub(crate) fn of(route: &Route, name: &str, keys: &Arc<ArcSwap<Keys>>) -> Option<Self> {
        // What cannot stand in an attribute cannot be claimed by a label either: `;` separates entries there.
        let fits = route.id.path.bytes().all(|b| b.is_ascii_graphic() && b != b';');
        let path: &str = if fits { &route.id.path } else { "/" };
        route.sticky.then(|| Self { mark: RouteMark::of(name), path: path.into(), keys: keys.clone() })
    }

    /// What the cookies of this request say at this time, in seconds since the epoch. The first one that binds the client to
    /// this route counts.
    pub(crate) fn read(&self, fields: &dyn Fields, now: u64) -> Said {
        let (mut said, mut left) = (Said::default(), READ_MAX);
        let keys = self.keys.load();
        fields.each("cookie", &mut |line| {
            for value in cookie::ours(line) {
                left -= 1;
                match keys.open(value, &self.mark).and_then(|bound| in_time(bound, now)) {
                    Ok(bound) => said.bound = Some(bound),
                    Err(why) => said.ignored = said.ignored.or(Some(why)),
                }
                if said.bound.is_some() || left == 0 {
                    return false;
                }
            }
            true
        });
        said
    }

    /// The field that binds the client to where its request went, with its CRLF; `None` when its cookie says so already and
    /// is not due to be renewed.
    pub(crate) fn set_cookie(
        &self,
        pick: &Pick,
        bound: Option<&Bound>,
        secure: bool,
        now: u64,
    ) -> Option<Vec<u8>> {
        let (backend, instance) = (&*pick.version.name, pick.endpoint.key.id.as_str());
        let same_version = bound.filter(|bound| *bound.backend == *backend);
        let same = same_version.filter(|bound| *bound.instance == *instance);
        if same.is_some_and(|bound| now.saturating_sub(bound.renewed) < RENEWAL.as_secs()) {
            return None;
        }
        // Another instance of the version is no new session with it.
        let since = same_version.map_or(now, |bound| bound.since.min(now));
        let value = self.keys.load().seal(&Token { backend, instance, since, renewed: now }, &self.mark)?;
        let left = (since + LONGEST.as_secs()).saturating_sub(now).min(IDLE.as_secs());
        Some(cookie::set(&value, &self.path, left, secure))
    }
}

fn in_time(bound: Bound, now: u64) -> Result<Bound, Ignored> {
    let Bound { since, renewed, .. } = bound;
    if since.max(renewed) > now + SKEW_SECS {
        return Err(Ignored::FromTheFuture);
    }
    if now.saturating_sub(renewed) >= IDLE.as_secs() || now.saturating_sub(since) >= LONGEST.as_secs() {
        return Err(Ignored::Expired);
    }
    Ok(bound)
}

/// Seconds since the epoch.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
