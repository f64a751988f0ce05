//! REST API and metrics endpoint.
//!
//! - [`types`]: the shapes of requests and answers.

pub mod types;
