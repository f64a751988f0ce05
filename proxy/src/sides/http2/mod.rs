//! The sides of HTTP/2 streams: what the `h2` crate says and takes becomes heads in HTTP/1.1 text and pieces of bodies.
//!
//! - [`fields`]: header fields from one form into the other, for requests, answers and trailers alike.
//! - [`request`]: the head of a client's request as the text that the strict reader of HTTP/1.1 reads.
//! - [`body`]: a body that comes on a stream; [`send`]: one that goes out on it.
//! - [`client`]: the client's side of one request.
//! - [`asked`]: the head of a request as it goes to an instance; [`origin`]: the instance's side of it.
//! - [`wire`]: the octets under `h2`, written once a turn; [`calm`]: what nobody may flood us with; [`unseen`]: requests
//!   that `h2` refuses by itself.
//!
//! Not here: connections and their bounds (see `downstream::http2`), what an exchange does with its sides (see
//! `downstream`).

pub(crate) mod asked;
pub(crate) mod body;
pub(crate) mod calm;
pub(crate) mod client;
pub(crate) mod fields;
pub(crate) mod origin;
pub(crate) mod request;
pub(crate) mod send;
pub(crate) mod unseen;
pub(crate) mod wire;
