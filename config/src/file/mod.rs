//! The configuration: file, environment and flags to one [`Config`].

mod types;

pub use types::*;
