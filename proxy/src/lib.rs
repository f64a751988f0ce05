//! The data plane: listeners, routing table, balancing, retries, drain.
