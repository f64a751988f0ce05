//! What the future of a stream does: it answers one request after the other.

use std::rc::Rc;

use tokio::time::Instant;

use super::sides::{Answer, Body};
use super::slots::Desk;
use crate::deadline::Timer;
use crate::downstream::{Call, Visit, refuse_unread, tell_unserved};
use crate::h1::{Refused, RequestHead};
use crate::http2::stream::Ended;
use crate::reason::Reason;

/// A request that was read, or refused.
pub(super) struct Asked {
    /// Its head.
    pub(super) head: Result<Box<RequestHead>, Refused>,
    /// Its body.
    pub(super) body: Body,
    /// Where the answer goes.
    pub(super) down: Answer,
    /// When it had come.
    pub(super) began: Instant,
}

/// Answers the requests on a desk, one after the other.
pub(super) async fn answer(visit: Rc<Visit>, desk: Rc<Desk<Asked>>) {
    let mut timer = Timer::new();
    loop {
        let Asked { head, body, down, began } = desk.next().await;
        // One that was asked and taken back in the same breath costs no instance anything.
        if let Some(ended) = down.ended() {
            let (status, reason) = match ended {
                Ended::Broken => (400, Reason::Http2Invalid),
                Ended::ByClient | Ended::Lost | Ended::ByUs => (499, Reason::ClientLeft),
            };
            tell_unserved(&visit, head.as_deref().ok(), status, reason, began);
            continue;
        }
        match head {
            Ok(head) => {
                Call::new(&visit, &down, body, &mut timer, head, began).run().await;
            }
            Err(refused) => {
                refuse_unread(&visit, &down, &mut timer, refused, began).await;
            }
        }
    }
}
