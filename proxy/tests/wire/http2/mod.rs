//! Clients that speak HTTP/2 by prior knowledge: through the client of `h2`, and frame by frame.

mod bounds;
mod ends;
mod features;
pub(crate) mod kit;
mod limits;
mod messages;
mod over_tls;
mod refused;
mod streams;
mod tunnels;
