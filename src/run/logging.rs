//! Where log lines go: standard error, as text for people or one JSON object per line.
//!
//! Not here: the access log, which `proxy` writes off the request path.

use std::io::IsTerminal;

use fairway_config::file::LogFormat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Starts logging. `RUST_LOG` sets the levels; default `info`, and of `h2` errors alone: any client can make it warn.
pub(crate) fn start(format: LogFormat) {
    let levels = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,h2=error"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(levels)
        .with_timer(SystemTime)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).try_init(),
    };
    // Only a second start in one process fails, and then the first one goes on.
    drop(started);
}
