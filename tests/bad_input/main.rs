//! Octets that no well-made program sends, from clients and from instances, against the real binary.
//!
//! - [`table`]: one Fairway in front of a recorder; each row of a test says what is sent, what the client must see, what the
//!   instance must have seen, and which word the access log and the metrics must give for it.
//! - [`framing`], [`syntax`], [`target`], [`forwarding`], [`upgrade`]: what clients send.
//! - [`answers`]: what instances send.
//! - [`handshakes`]: what clients send where TLS is spoken.
//! - [`leaving`], [`crowds`]: clients that are slow, or leave, one by one and by the thousand.
//! - [`slow`]: instances that are.
//! - [`streams`]: what is long, or goes on for long.
//!
//! Not here: the same rules one by one (the unit tests of `proxy/src/h1`), behaviour within one process
//! (`proxy/tests/wire`).

mod answers;
mod crowds;
mod forwarding;
mod framing;
mod handshakes;
mod leaving;
mod slow;
mod streams;
mod syntax;
mod table;
mod target;
mod upgrade;
