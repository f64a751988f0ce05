//! One request's way to instances that have just started and do not listen yet: whose turn it is to ask again.
//!
//! Not here: the wait itself (see `hold`), which refusals say no more than that (`Endpoint::may_yet_listen`).

use std::time::Instant;

use crate::endpoint::EndpointState;

/// What one request knows of such instances.
#[derive(Debug, Default)]
pub(crate) struct Knocking {
    /// The instance that it is this request's turn to ask.
    at: Option<u64>,
    /// Nobody else was to be had.
    looked_again: bool,
}

/// What to do with an instance that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask it.
    Ask,
    /// Another request asks it at this moment: choose again, others are preferred now.
    Choose,
    /// The choice is the same: wait until it listens, or there is news.
    Wait,
}

impl Knocking {
    pub(crate) fn next(&mut self, state: &EndpointState, now: Instant) -> Next {
        if self.at == Some(state.uid) || state.standing.may_knock(now) {
            *self = Self::default();
            return Next::Ask;
        }
        if std::mem::replace(&mut self.looked_again, true) { Next::Wait } else { Next::Choose }
    }

    /// The wait is over: it is this request's turn.
    pub(crate) fn waited_for(&mut self, state: &EndpointState) {
        self.at = Some(state.uid);
    }
}
