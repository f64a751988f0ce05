//! Authoritative names and forwarding.
