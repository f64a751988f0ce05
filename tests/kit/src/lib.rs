//! Programs and helpers that the end-to-end tests share.
//!
//! A test starts a private Docker engine ([`Engine`]), puts containers of the [`origin`] program on it, starts the
//! real binary ([`Fairway`]) against it, and asks: over HTTP ([`client`]), with raw octets ([`raw`]) also from the far
//! side ([`raw_origin`]), over a WebSocket ([`ws`]), through DNS ([`dns`]), or with a counted load ([`load`]).
//!
//! What fails here is a failed test, so these helpers panic, naming what was tried and what came back, where a library
//! would return an error. Whatever a test starts ends with the value that stands for it, also when the test panics.

pub mod client;
#[cfg(target_arch = "x86_64")]
pub mod clock;
pub mod dns;
pub mod engine;
pub mod fairway;
pub mod fake_engine;
pub mod grpc;
pub mod load;
pub mod netns;
pub mod origin;
pub mod pebble;
pub mod port;
pub mod process;
pub mod programs;
pub mod raw;
pub mod raw_origin;
pub mod tls;
pub mod wait;
pub mod ws;

pub use client::{Answer, Request};
pub use engine::{Container, ContainerOptions, Engine, EngineOptions, Health, Image, Network};
pub use fairway::{Fairway, FairwayOptions};
pub use wait::until;
