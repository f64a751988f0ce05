//! What the future of one stream does: it answers one request.

use std::rc::Rc;

use tokio::time::Instant;

use crate::deadline::Timer;
use crate::downstream::{Call, Visit, refuse_unread};
use crate::h1::{Refused, RequestHead};
use crate::sides::http2::body::Body;
use crate::sides::http2::client::Answer;

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

/// Answers it, and gives back the timer.
pub(super) async fn answer(visit: Rc<Visit>, asked: Asked, mut timer: Timer) -> Timer {
    let Asked { head, body, down, began } = asked;
    // One that was asked and taken back in the same breath costs no instance anything.
    if !down.is_gone().await {
        match head {
            Ok(head) => {
                Call::new(&visit, &down, body, &mut timer, head, began).run().await;
            }
            Err(refused) => {
                refuse_unread(&visit, &down, &mut timer, refused, began).await;
            }
        }
    }
    timer
}
