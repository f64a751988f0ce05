//! REST API, event feed and metrics endpoint of one Fairway.
//!
//! - [`types`]: the shapes of requests and answers.
//! - [`control`]: the only place that changes decisions.
//! - [`start`]: the listener; `serve` its connections, `guard` who may ask.
//! - `api`: a file for each kind of endpoint; `view` makes the shapes of a catalog; `problem` the refusals.
//! - `feed`: what changed, for those who follow.

mod adopt;
mod api;
pub mod control;
mod extract;
mod feed;
mod guard;
pub mod problem;
mod serve;
pub mod start;
pub mod state;
#[cfg(test)]
mod tests;
pub mod types;
mod view;

pub use adopt::{Adopted, ListeningSocket};
pub use control::{Control, Figures};
pub use guard::TokenError;
pub use start::{BindError, Running, start};
pub use state::{AdminState, Listeners};
