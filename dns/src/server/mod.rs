//! Sockets: requests in, replies out. What is answered is decided in [`crate::answer`].
//!
//! - `udp`, `tcp`: the two transports.
//! - `under_way`: what is still being answered at the end. `bind`: opening the sockets. `limit`: how many replies strangers get.

pub(crate) mod bind;
mod limit;
mod shared;
pub(crate) mod tcp;
pub(crate) mod udp;
pub(crate) mod under_way;

pub(crate) use limit::ReplyLimit;
pub(crate) use shared::{Missing, Shared};
