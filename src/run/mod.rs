//! `fairway run`: reads the configuration, starts every part, and ends them in order.
//!
//! Not here: what the parts do. `parts` wires them, `reload` takes a changed configuration over, `settings` and
//! `logging` translate the configuration for the catalog and the log.

mod acme;
mod certificates;
mod client;
mod conntrack;
mod exec;
mod file_limit;
pub(crate) mod files;
mod fronts;
mod handover;
mod logging;
mod parts;
mod persist;
mod reload;
mod settings;
mod sticky;
mod takeover;
mod tell;
mod trust;
mod watch_file;
mod watch_files;
mod webhook;

use std::process::ExitCode;
use std::time::Duration;

use fairway_config::file::{Flags, System};
use fairway_config::{Config, ConfigErrors};

/// Longest wait at the end for writes to the disk.
const DISK_WITHIN: Duration = Duration::from_secs(5);
/// Exit status for a configuration that cannot be used.
const BAD_CONFIG: u8 = 2;

/// Runs until a signal ends it. Exit status 2 for a bad configuration, 1 when a part cannot start.
pub(crate) fn run(flags: Flags) -> ExitCode {
    let loaded = load(&flags).and_then(|config| {
        let files = files::load(&config)?;
        Ok((config, files))
    });
    let (config, files) = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    logging::start(config.log.format);
    file_limit::raise();
    // Control work has a runtime of its own, so that it never delays a request.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("fairway-control")
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(parts::run(flags, config, files));
            // A disk that does not answer is not waited for: what was not on it is not stored, as after a crash.
            runtime.shutdown_timeout(DISK_WITHIN);
            ended
        }
        Err(error) => Err(format!("the system gives no threads for the control runtime: {error}").into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fairway: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The text of an error, and of what caused it where it does not say so itself.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text = format!("{text} ({why})");
        }
        cause = error.source();
    }
    text
}

/// The configuration as flags, environment and file have it now.
fn load(flags: &Flags) -> Result<Config, ConfigErrors> {
    let env = |name: &str| std::env::var(name).ok();
    Config::load(flags, &env, &System::detect(&env))
}
