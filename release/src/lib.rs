//! Releases: a new version takes over a route step by step, and goes back when it is worse than the old one.
//!
//! Pure: seconds in, changes out. No clock, no network, no randomness. Two halves:
//!
//! - The judgement, arithmetic alone. [`latency`]: how long requests took, as counts. [`odds`]: how much likelier one second's
//!   counts are if the canary is worse. [`evidence`]: the same over all seconds, valid whenever it is looked at.
//!   [`comparison`]: failures and latencies together, and the verdict. [`limit`]: a failure rate that nobody may exceed.
//! - The course. [`plan`]: steps and weights. [`model`]: a release as it is kept. [`machine`]: what it does next, and why.
//!   [`restore`]: what holds after a rollback. [`figures`]: the figures as people read them.
//!
//! Not here: who carries the changes out and keeps them (`admin`), who counts requests (`proxy`).

pub mod comparison;
pub mod evidence;
pub mod figures;
pub mod latency;
pub mod limit;
pub mod machine;
pub mod model;
pub mod odds;
pub mod plan;
pub mod restore;
