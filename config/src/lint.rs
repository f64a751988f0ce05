//! Compose files: every label problem with its line.
