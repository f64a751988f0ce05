//! The data plane over real sockets: raw octets from clients, origins that a test plays by hand.

mod kit;
mod messages;
