//! Instances that speak HTTP/2: through the server of `h2`, and frame by frame.

mod bounds;
mod deploys;
mod ends;
mod grpc;
mod hedging;
pub(crate) mod kit;
mod messages;
mod races;
mod refusals;
mod tunnels;
