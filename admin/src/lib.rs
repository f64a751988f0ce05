//! REST API, metrics endpoint.
