//! The API over a real listener, a real store and the real builds of catalog and routing table; the units are made by
//! hand.

mod access;
mod described;
mod feed;
mod limits;
mod mirrors;
mod orders;
mod read;
mod releases;
mod restart;
mod wire;
mod world;
