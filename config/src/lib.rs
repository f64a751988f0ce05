//! Configuration and container labels, parsed once into types that can be trusted. Opens no sockets.
//!
//! - [`names`]: the words that labels, file and API share: weights, versions, hosts, paths, routes, backends.
//! - [`labels`]: the label language of containers, `aliyun.*` and `fairway.*`, to a [`labels::ServiceSpec`].
//! - [`mod@file`]: file, environment and flags to a [`Config`], with every error at once.
//! - [`lint`]: compose files, every label problem with its line.

pub mod duration;
pub mod file;
pub mod labels;
pub mod lint;
pub mod names;
pub mod size;

pub use file::{Config, ConfigError, ConfigErrors, Flags, System};
