//! Whether a request gets to an instance at all: what the guards of its route say, and whether it should go elsewhere.
//!
//! Not here: the guards themselves (see `features`), how a refusal is answered (see `call`).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::refused;
use crate::features::Features;
use crate::features::auth::{self, Check, Checked, Look};
use crate::features::rate::{TooMany, Whose};
use crate::features::redirect::Asked;
use crate::forward::client::Client;
use crate::h1::{Known, Refused, RequestHead};
use crate::reason::Reason;
use crate::sides::Downstream;
use crate::turn;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Ruling<'f> {
    /// An instance gets it.
    Serve,
    /// There are too many requests; with the seconds after which one more is served.
    Wait(Reason, u64),
    /// The client must say who it is; with the value of `WWW-Authenticate`.
    LogIn(&'f str),
    /// The client is sent elsewhere, with this status.
    GoTo(u16, String),
}

/// What the features of the route make of this request: first who may ask, then how often, then who they are, then where they should go.
pub(super) async fn rule<'f>(
    features: &'f Features,
    head: &RequestHead,
    client: &Client,
    down: &impl Downstream,
) -> Result<Ruling<'f>, Refused> {
    if features.allow.as_ref().is_some_and(|list| !list.contains(client.address)) {
        let detail = "the route has a list of clients, and this is none of them";
        return Err(refused(Reason::ClientRefused, detail));
    }
    // Before passwords are looked at, which costs more than most requests.
    if let Some(Err(TooMany { whose, wait })) =
        features.rates.as_ref().map(|rates| rates.take(client.address))
    {
        let reason = match whose {
            Whose::Route => Reason::RateLimited,
            Whose::Client => Reason::ClientRateLimited,
        };
        return Ok(Ruling::Wait(reason, wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
    }
    if let Some(auth) = &features.auth {
        let known = match auth.look(head.values(Known::Authorization), turn::now().into_std()) {
            Look::Known => true,
            Look::Nobody => false,
            Look::Check(check) => is_right(check, down).await?,
        };
        if !known {
            return Ok(Ruling::LogIn(auth.challenge()));
        }
    }
    if let Some(redirect) = &features.redirect {
        let (host, path, query) = (head.host(), head.path(), head.query());
        let asked = Asked { secure: client.secure, host, port: head.port, path, query };
        if let Some(location) = redirect.location(&asked) {
            return Ok(Ruling::GoTo(redirect.status, location));
        }
    }
    Ok(Ruling::Serve)
}

/// Whether the password is right, unless the client leaves before that is known.
async fn is_right(check: Check, down: &impl Downstream) -> Result<bool, Refused> {
    let mut checking = pin!(auth::check(check));
    let checked = poll_fn(|cx| match checking.as_mut().poll(cx) {
        Poll::Ready(checked) => Poll::Ready(Some(checked)),
        Poll::Pending => down.poll_gone(cx).map(|()| None),
    });
    match checked.await {
        Some(Checked::Right) => Ok(true),
        Some(Checked::Wrong) => Ok(false),
        Some(Checked::Busy) => Err(refused(Reason::AuthBusy, "")),
        None => Err(refused(Reason::ClientLeft, "")),
    }
}
