//! The data plane: listeners, routing table, balancing, retries, drain.

mod accept;
pub mod access_log;
mod adopt;
mod buffers;
mod clock;
mod deadline;
mod downstream;
pub mod endpoint;
pub mod explain;
mod features;
mod forward;
mod gate;
pub mod h1;
pub mod hold;
mod http2;
mod l4;
pub mod listener;
pub mod metrics;
mod opening;
mod pace;
pub mod pick;
mod proxy_header;
mod queue;
pub mod reason;
mod refusal;
mod relay;
pub mod request;
pub mod running;
mod sides;
mod spread;
mod stream;
pub mod table;
pub mod tls;
mod turn;
mod upgrade;
mod upstream;
mod websocket;
#[doc(hidden)]
pub mod workbench;
mod worker;

pub use access_log::AccessLogConfig;
pub use adopt::Adopted;
pub use l4::{FrontSocket, FrontTrouble};
pub use listener::BindError;
pub use opening::Checked;
pub use running::{Drained, ProxyConfig, Running, StartError, start, worker_count};
