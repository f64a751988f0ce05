//! Instances that speak HTTP/2: through the server of `h2`, and frame by frame.

mod ends;
mod grpc;
mod kit;
mod messages;
