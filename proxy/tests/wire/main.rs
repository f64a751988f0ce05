//! The data plane over real sockets: raw octets from clients, origins that a test plays by hand.

mod balancers;
mod bodies;
mod datagrams;
mod ejections;
mod explained;
mod failures;
mod features;
mod figures;
mod fronts;
mod http2;
mod http2_origins;
mod http_fronts;
mod kit;
mod limits;
mod logged;
mod messages;
mod passthrough;
mod proxy_headers;
mod queued;
mod refusals;
mod secure_origins;
mod spreading;
mod sticky;
mod stopping;
mod tls;
mod upgrades;
