//! HTTP/2 as a server speaks it, without sockets: octets in, requests and bodies out; answers in, octets out (RFC 9113). No
//! runtime in here.
//!
//! - [`frame`]: the frames and their codes; [`hpack`]: header compression.
//! - [`connection`]: what is known of one connection, and what is sent on it.
//! - [`receive`]: what the frames that come mean.
//! - [`head`]: the head of a request as the text that the strict reader of HTTP/1.1 reads.
//! - [`stream`]: one request and its answer; [`calm`]: when a client floods.
//!
//! A client's connection belongs to one task, so nothing here is locked. What a stream sends is written into the
//! connection's octets at once, as far as the windows allow: nothing is queued here, what waits for a slow reader waits in
//! its source. Not here: sockets, turns and time (see `downstream::http2`), the side towards instances (see `sides::http2`).

mod calm;
pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod head;
pub(crate) mod hpack;
pub(crate) mod receive;
pub(crate) mod stream;

#[cfg(test)]
mod tests;
