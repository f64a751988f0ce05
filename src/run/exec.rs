//! Lets probes run commands inside the containers of the engines that discovery watches.

use std::time::Duration;

use fairway_catalog::SourceId;
use fairway_discovery::exec::{Engines, ExecError as Engine};
use fairway_health::{Exec, ExecError, ExecFuture};

/// The engines as health knows them.
pub(crate) struct InContainers(pub(crate) Engines);

impl Exec for InContainers {
    fn exec<'a>(
        &'a self,
        source: &'a SourceId,
        container: &'a str,
        shell: &'a str,
        timeout: Duration,
    ) -> ExecFuture<'a> {
        Box::pin(async move {
            match self.0.exec(source, container, shell, timeout).await {
                Ok(outcome) => Ok(outcome.exit_code),
                Err(Engine::Refused(answer)) => Err(ExecError::Refused(answer)),
                Err(Engine::Timeout) => Err(ExecError::Timeout),
                Err(Engine::Gone) => Err(ExecError::Gone),
                Err(Engine::Other(text)) => Err(ExecError::Other(text)),
            }
        })
    }
}
