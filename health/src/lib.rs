//! Probes, and the verdicts they lead to.
