//! The instance's side of HTTP/2 streams: what the `h2` crate says and takes becomes heads in HTTP/1.1 text and pieces of
//! bodies.
//!
//! - [`asked`]: the head of a request as it goes to an instance; [`origin`]: the instance's side of it.
//! - [`fields`]: header fields from one form into the other, for answers and trailers alike.
//! - [`body`]: a body that comes on a stream; [`send`]: one that goes out on it.
//! - [`wire`]: the octets under `h2`, written once a turn; [`calm`]: what nobody may flood us with; [`sent`]: what came too
//!   late.
//!
//! Not here: connections and their bounds (see `upstream::channel`), clients (see `downstream::http2`), what an exchange does
//! with its sides (see `downstream`).

pub(crate) mod asked;
pub(crate) mod body;
pub(crate) mod calm;
pub(crate) mod fields;
pub(crate) mod origin;
pub(crate) mod send;
mod sent;
pub(crate) mod wire;
