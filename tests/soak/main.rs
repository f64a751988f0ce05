//! The soak: every kind of deploy and accident on a real engine, under a load that counts every request.
//!
//! One test per row, so that a failure names its row. `make test` runs each in a short form; `make soak` at full length,
//! and with `WRITE=docs/reliability.md` what was counted goes into the table of that page.
//!
//! Not here: what is sent (see `traffic`), what counts as a failure (see `count`), the engine and its containers (see
//! `stage`).

mod acts;
mod calls;
mod count;
mod page;
mod replacing;
mod sockets;
mod stage;
mod traffic;

/// How often a row does what it does: `whole` in `make soak`, `part` in `make test`.
fn times(whole: usize, part: usize) -> usize {
    if is_whole() { whole } else { part }
}

/// Whether this is `make soak`.
fn is_whole() -> bool {
    std::env::var_os("FAIRWAY_SOAK").is_some()
}
