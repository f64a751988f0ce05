//! How requests travel to an instance: what labels and the API say, and what holds where they say nothing.
//!
//! Not here: reading labels (the configuration's), the limits of clients (`[limits]`).

use std::sync::Arc;
use std::time::Duration;

use fairway_config::labels::{Balance, Hedge, Protocol, ProxyProtocol, Transport};

/// How requests travel to the instances of a backend: its labels, with the defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSettings {
    /// What is spoken.
    pub protocol: Protocol,
    /// The header that each connection starts with; `None`: no header.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How an instance is chosen.
    pub balance: Balance,
    /// Longest wait for a connection; default 1 s.
    pub connect_timeout: Duration,
    /// Longest wait for the response head once the request is sent; default 60 s.
    pub first_byte_timeout: Duration,
    /// Longest silence in a body, and longest life of an idle pooled connection; default 90 s.
    pub idle_timeout: Duration,
    /// Longest time for the whole exchange; default none.
    pub total_timeout: Option<Duration>,
    /// How often a request may be sent to another instance after a failure; default 1.
    pub retries: u8,
    /// Most requests in flight at one instance; `None`: as many as the configuration file says.
    pub in_flight_max: Option<u32>,
    /// When a second GET goes to another instance; `None`: never.
    pub hedge: Option<Hedge>,
    /// Whom its certificate must be for; `None`: the name it is known by.
    pub tls_server_name: Option<Arc<str>>,
    /// Whether an instance is ejected for its failures; default yes.
    pub outlier: bool,
    /// Whether its certificate is checked; `None`: as the configuration file says.
    pub tls_verify: Option<bool>,
}

impl UpstreamSettings {
    /// From the backend's labels.
    pub fn new(transport: &Transport) -> Self {
        let secs = Duration::from_secs;
        Self {
            protocol: transport.protocol.unwrap_or_default(),
            proxy_protocol: transport.proxy_protocol,
            balance: transport.balance.clone().unwrap_or_default(),
            connect_timeout: transport.connect_timeout.unwrap_or(secs(1)),
            first_byte_timeout: transport.first_byte_timeout.unwrap_or(secs(60)),
            idle_timeout: transport.idle_timeout.unwrap_or(secs(90)),
            total_timeout: transport.total_timeout,
            retries: transport.retries.unwrap_or(1),
            in_flight_max: transport.in_flight_max,
            outlier: transport.outlier.unwrap_or(true),
            hedge: transport.hedge,
            tls_server_name: transport.tls_server_name.clone(),
            tls_verify: transport.tls_verify,
        }
    }
}
