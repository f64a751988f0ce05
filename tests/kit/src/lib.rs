//! Programs and helpers that the end-to-end tests share.
