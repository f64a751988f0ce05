//! Why an order is not carried out. Nothing is changed then.

use std::sync::Arc;

use fairway_config::names::{BackendId, RouteId};
use fairway_release::plan::PlanError;
use fairway_store::StoreError;

use super::limits::LimitError;
use super::weights::WeightError;

/// Most characters of a reason.
const REASON_CHARS_MAX: usize = 1000;

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("there is no route `{given}`")]
    UnknownRoute { given: String, near: Vec<RouteId> },
    #[error("there is no backend `{given}`")]
    UnknownBackend { given: String, known: Vec<BackendId> },
    #[error("there is no instance or container `{given}`")]
    UnknownInstance { given: String, near: Vec<String> },
    #[error("`{given}` may be any of several")]
    Ambiguous { given: String, candidates: Vec<String> },
    #[error("the split of {route} was changed in the meantime: its etag is {etag}; read it again")]
    Changed { route: RouteId, etag: Arc<str> },
    #[error("the limits of {route} were changed in the meantime: their etag is {etag}; read them again")]
    LimitsChanged { route: RouteId, etag: Arc<str> },
    #[error("{}", first(.0))]
    Weights(Vec<WeightError>),
    #[error("{}", first(.0))]
    Limits(Vec<LimitError>),
    #[error("{0}")]
    Expiry(String),
    #[error("percent: {0}")]
    Percent(String),
    #[error("{route} carries connections, not requests: nothing of it can be copied")]
    NotRequests { route: RouteId },
    #[error(
        "{most} orders about this route already wait for each other's expiry; put one without an expiry first"
    )]
    TooManyExpiries { most: usize },
    #[error("the reason has more than {REASON_CHARS_MAX} characters")]
    ReasonTooLong,
    #[error("{}", first(.0))]
    Plan(Vec<PlanError>),
    #[error("{to} is being released on {route}")]
    ReleaseRunning { route: RouteId, to: BackendId },
    #[error("the weights of {route} belong to the release of {to} while it runs")]
    ReleaseHasSplit { route: RouteId, to: BackendId },
    #[error("there is no release of {route}")]
    NoRelease { route: RouteId },
    #[error("the release of {route} has ended: it is {state}")]
    ReleaseEnded { route: RouteId, state: &'static str },
    #[error("{to} has no ready instance: nobody would be served")]
    TargetNotReady { to: BackendId },
    #[error("{to} is disabled: it would never be ready")]
    TargetDisabled { to: BackendId },
    #[error(
        "{to} may not be released here while the release of {other} runs: one takes from the backend that the other releases"
    )]
    Contradiction { to: BackendId, other: RouteId },
    #[error("no other version of {route} has anything that {to} could take over")]
    NothingToTakeFrom { route: RouteId, to: BackendId },
    #[error(
        "{route} carries connections, not requests: nothing tells whether one version fails more than another"
    )]
    NothingToCompare { route: RouteId, to: BackendId },
    #[error("there is no store, so that no order would survive a restart")]
    NoStore,
    #[error("the order cannot be stored: {}", chain(.0))]
    Store(#[from] StoreError),
    #[error("an order before this one still waits for the store; this one has not begun")]
    Busy,
    #[error("the store has not answered; the order is carried out as soon as it does, unless it refuses")]
    Waits,
    #[error("the order met a bug; the log has more")]
    Failed,
}

pub(super) fn check_reason(reason: &str) -> Result<(), OrderError> {
    match reason.chars().nth(REASON_CHARS_MAX) {
        Some(_) => Err(OrderError::ReasonTooLong),
        None => Ok(()),
    }
}

fn first<E: ToString>(errors: &[E]) -> String {
    errors.first().map(ToString::to_string).unwrap_or_default()
}

fn chain(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
