//! Waiting for something that is sure to come, with a deadline that names it when it does not.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Longest wait for anything that a test waits for, unless it says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at something that tells nobody when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Asks `look` until it gives a value, at most `longest`; for what offers no event to await.
///
/// # Panics
/// After `longest`, naming `what`.
pub async fn until<T, F>(what: impl Display, longest: Duration, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + longest;
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Some(found)) => return found,
            Ok(None) if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
            Ok(None) | Err(_) => panic!("waited {longest:?} in vain: {what}"),
        }
    }
}

/// The result of `work`, which must end within `longest`.
///
/// # Panics
/// After `longest`, naming `what`.
pub async fn within<T>(what: impl Display, longest: Duration, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(longest, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited {longest:?} in vain: {what}"),
    }
}
