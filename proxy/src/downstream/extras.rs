//! What few requests carry along: the client's cookie on a route that binds its clients (see `sticky`), and the account that an
//! internal client asks for with `X-Fairway-Explain: 1` (see `explain::live`). Others pay one branch.
//!
//! Not here: who reads the cookie and why (see `pick`), how heads are written (see `forward`).

use crate::explain::live::Account;
use crate::forward::client::Client;
use crate::h1::syntax::list;
use crate::h1::{Known, RequestHead, ResponseHead};
use crate::pick::Pick;
use crate::reason::Reason;
use crate::sticky::{self, Bound, Said};
use crate::table::RouteEntry;

/// What one request carries along.
#[derive(Debug)]
pub(crate) struct Extras {
    /// What its cookies say on a sticky route.
    said: Option<Said>,
    /// Our cookie is among them: it is for us alone.
    pub(super) hides_cookie: bool,
    /// Seconds since the epoch.
    now: u64,
    /// What is told of it, if its client asks and may.
    account: Option<Account>,
    /// Fields of ours that the answer gets, the cookie first.
    lines: Vec<u8>,
    cookie_len: usize,
}

impl Extras {
    /// Those of a request that leads to this route; mostly none.
    pub(super) fn of(head: &RequestHead, client: &Client, entry: Option<&RouteEntry>) -> Option<Box<Self>> {
        let sticky = entry.and_then(|entry| entry.sticky.as_ref());
        let asks = client.internal && head.first(Known::XFairwayExplain) == Some(b"1");
        if sticky.is_none() && !asks {
            return None;
        }
        let now = sticky::unix_now();
        Some(Box::new(Self {
            said: sticky.map(|sticky| sticky.read(head, now)),
            hides_cookie: sticky.is_some() && head.values(Known::Cookie).any(sticky::cookie::is_among),
            now,
            account: asks.then(Account::default),
            lines: Vec::new(),
            cookie_len: 0,
        }))
    }

    /// Where the client belongs.
    pub(super) fn bound(&self) -> Option<&Bound> {
        self.said.as_ref()?.bound.as_ref()
    }

    /// The request goes to this instance: makes what its answer gets.
    pub(super) fn goes_to(&mut self, pick: &Pick, entry: &RouteEntry, head: &RequestHead, client: &Client) {
        self.lines.clear();
        if let Some(sticky) = &entry.sticky {
            let line = sticky.set_cookie(pick, self.bound(), client.secure, self.now);
            self.lines.extend(line.unwrap_or_default());
        }
        self.cookie_len = self.lines.len();
        if let Some(account) = &self.account {
            let view = head.view(client.address, client.internal, client.secure);
            account.of_answer(&mut self.lines, entry, pick, self.said.as_ref(), &view);
        }
    }

    /// The instance failed the request.
    pub(super) fn failed(&mut self, pick: &Pick, reason: Reason) {
        if let Some(account) = &mut self.account {
            account.failed(pick, reason);
        }
    }

    /// The fields of ours that this answer of the instance gets. One that everybody may share would bind whoever is given it
    /// from a cache, and one by which the instance says that it cannot serve is nothing to be bound to: neither gets a
    /// cookie.
    pub(super) fn lines_for(&self, answer: &ResponseHead) -> &[u8] {
        let binds = !matches!(answer.status, 502..=504) && !is_shared(answer);
        if binds { &self.lines } else { &self.lines[self.cookie_len..] }
    }

    /// The field that a refusal of ours gets.
    pub(super) fn line_of_refusal(&self, reason: Reason, entry: Option<&RouteEntry>) -> Vec<u8> {
        let mut line = Vec::new();
        if let Some(account) = &self.account {
            account.of_refusal(&mut line, entry, reason, self.said.as_ref());
        }
        line
    }
}

/// Whether the answer says that caches may give it to anybody (RFC 9111 sections 5.2.2.9 and 5.2.2.10).
fn is_shared(answer: &ResponseHead) -> bool {
    let directives = answer.values(Known::CacheControl).flat_map(list);
    directives
        .map(|directive| directive.split(|b| *b == b'=').next().unwrap_or_default())
        .any(|name| name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage"))
}
