//! Whether a new version is worse than the old one, judged request by request while it is released.
//!
//! Pure arithmetic: counts of seconds in, a verdict out. No clock, no network, no randomness.
//!
//! - [`latency`]: how long requests took, as counts.
//! - [`odds`]: how much likelier one second's counts are if the canary is worse.
//! - [`evidence`]: the same over all seconds, valid whenever it is looked at.
//! - [`comparison`]: failures and latencies together, and the verdict.

pub mod comparison;
pub mod evidence;
pub mod latency;
pub mod odds;
