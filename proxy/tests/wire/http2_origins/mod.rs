//! Instances that speak HTTP/2: through the server of `h2`, and frame by frame.

mod bounds;
mod deploys;
mod ends;
mod grpc;
pub(crate) mod kit;
mod messages;
mod tunnels;
