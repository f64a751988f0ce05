//! Orders that are not carried out, as the API answers them.

use fairway_release::plan::PlanError;
use http::StatusCode;
use http::header::{ETAG, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};

use super::error::OrderError;
use super::limits::LimitError;
use super::weights::WeightError;
use crate::problem::{Refusal, names};

impl From<OrderError> for Refusal {
    fn from(error: OrderError) -> Self {
        let detail = error.to_string();
        let unavailable = |kind, title| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, &detail)
                .field(RETRY_AFTER, HeaderValue::from_static("5"))
        };
        match error {
            OrderError::UnknownRoute { near, .. } => Refusal::not_found(
                "unknown-route",
                "Unknown route",
                detail,
            )
            .with("known", names(near))
            .with(
                "remedy",
                "`fairway routes` or GET /api/v1/routes lists them; in a path of the API `/` is written %2F",
            ),
            OrderError::UnknownBackend { known, .. } => {
                Refusal::not_found("unknown-backend", "Unknown backend", detail).with("known", names(known))
            }
            OrderError::UnknownInstance { near, .. } => {
                Refusal::not_found("unknown-instance", "Unknown instance", detail).with("known", names(near))
            }
            OrderError::Ambiguous { candidates, .. } => {
                Refusal::new(StatusCode::CONFLICT, "ambiguous-name", "Ambiguous name", detail)
                    .with("candidates", names(candidates))
            }
            OrderError::Changed { etag, .. } => {
                let refusal = Refusal::new(
                    StatusCode::PRECONDITION_FAILED,
                    "split-changed",
                    "The split was changed",
                    detail,
                );
                with_etag(refusal, &etag)
            }
            OrderError::LimitsChanged { etag, .. } => {
                let refusal = Refusal::new(
                    StatusCode::PRECONDITION_FAILED,
                    "limits-changed",
                    "The limits were changed",
                    detail,
                );
                with_etag(refusal, &etag)
            }
            OrderError::Limits(errors) => of_limits(&errors, detail),
            OrderError::Weights(errors) => of_weights(&errors, detail),
            OrderError::Expiry(_) => Refusal::unprocessable("bad-expiry", "No such expiry", detail),
            OrderError::Percent(_) => Refusal::unprocessable("bad-percent", "No such percentage", detail),
            OrderError::NothingToCompare { ref route, ref to } => {
                let remedy = format!(
                    "release it by hand: `fairway release start {route} --to {to} --manual`, `fairway split`, then `fairway \
                     release confirm {route}`; it is still taken back when its probe fails or nothing of it is ready"
                );
                Refusal::unprocessable("not-requests", "The route carries no requests", detail).with("remedy", remedy)
            }
            OrderError::NotRequests { .. } => {
                Refusal::unprocessable("not-requests", "The route carries no requests", detail)
            }
            OrderError::TooManyExpiries { .. } => {
                Refusal::new(StatusCode::CONFLICT, "too-many-expiries", "Too many expiries", detail)
            }
            OrderError::ReasonTooLong => {
                Refusal::unprocessable("reason-too-long", "The reason is too long", detail)
            }
            OrderError::Plan(errors) => of_plan(&errors, detail),
            error @ (OrderError::ReleaseRunning { .. }
            | OrderError::ReleaseHasSplit { .. }
            | OrderError::NoRelease { .. }
            | OrderError::ReleaseEnded { .. }
            | OrderError::TargetNotReady { .. }
            | OrderError::TargetDisabled { .. }
            | OrderError::Contradiction { .. }
            | OrderError::NothingToTakeFrom { .. }) => of_release(&error, detail),
            OrderError::NoStore => unavailable("no-store", "Nothing can be stored")
                .with("remedy", "GET /api/v1/problems says why there is none; nothing was changed"),
            OrderError::Store(error) => {
                let remedy = format!("{}; nothing was changed", error.remedy());
                unavailable(error.kind(), "The order cannot be stored").with("remedy", remedy)
            }
            OrderError::Busy => unavailable("store-silent", "The store does not answer").with(
                "remedy",
                "look at the disk of `state_dir` (GET /api/v1/problems) and order it again; nothing was changed",
            ),
            OrderError::Waits => unavailable("store-silent", "The store does not answer").with(
                "remedy",
                "look at the disk of `state_dir` (GET /api/v1/problems), and read what is in force before you order it again",
            ),
            OrderError::Failed => {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "Internal error", detail)
            }
        }
    }
}

fn with_etag(refusal: Refusal, etag: &str) -> Refusal {
    let refusal = refusal.with("etag", etag);
    match HeaderValue::from_str(etag) {
        Ok(field) => refusal.field(ETAG, field),
        Err(_) => refusal,
    }
}

/// The first error speaks for all; the others are in `errors`.
fn of_limits(errors: &[LimitError], detail: String) -> Refusal {
    let Some(first) = errors.first() else {
        return Refusal::unprocessable("bad-limit", "No such limits", detail);
    };
    let refusal = Refusal::unprocessable(first.kind, "No such limits", detail).with("remedy", &*first.remedy);
    if errors.len() == 1 {
        return refusal;
    }
    let one =
        |error: &LimitError| json!({"type": error.kind, "detail": error.to_string(), "remedy": error.remedy});
    refusal.with("errors", errors.iter().map(one).collect::<Value>())
}

/// The first error speaks for all; the others are in `errors`.
fn of_weights(errors: &[WeightError], detail: String) -> Refusal {
    let Some(first) = errors.first() else {
        return Refusal::unprocessable("bad-weights", "No such split", detail);
    };
    let (kind, title) = words(first);
    let mut refusal = match first {
        WeightError::Ambiguous { .. } => Refusal::new(StatusCode::CONFLICT, kind, title, detail),
        _ => Refusal::unprocessable(kind, title, detail),
    };
    let known = errors.iter().find_map(|error| match error {
        WeightError::Unknown { known, .. } => Some(known),
        _ => None,
    });
    if let Some(known) = known {
        refusal = refusal.with("known", names(known));
    }
    if let WeightError::Ambiguous { candidates, .. } = first {
        refusal = refusal.with("candidates", names(candidates));
    }
    if errors.len() > 1 {
        let list = errors.iter().map(|error| json!({"type": words(error).0, "detail": error.to_string()}));
        refusal = refusal.with("errors", list.collect::<Value>());
    }
    refusal
}

/// What stands against an order about a release, each with what to do instead.
fn of_release(error: &OrderError, detail: String) -> Refusal {
    let conflict = |kind, title| Refusal::new(StatusCode::CONFLICT, kind, title, &detail);
    match error {
        OrderError::ReleaseRunning { route, .. } => conflict("release-running", "A release is running").with(
            "remedy",
            format!("wait for it, or end it first: `fairway release confirm {route}` or `fairway release rollback {route}`"),
        ),
        OrderError::ReleaseHasSplit { route, .. } => conflict("release-running", "A release is running").with(
            "remedy",
            format!(
                "end it first: `fairway release confirm {route}` or `fairway release rollback {route}`; a pause holds the weights \
                 and does not give them away"
            ),
        ),
        OrderError::ReleaseEnded { .. } => conflict("release-ended", "The release has ended")
            .with("remedy", "start another one: `fairway release start`"),
        OrderError::TargetNotReady { to } => conflict("target-not-ready", "The target is not ready")
            .with("remedy", format!("start instances of {to}; `fairway instances` tells why one is not ready")),
        OrderError::TargetDisabled { to } => conflict("target-disabled", "The target is disabled")
            .with("remedy", format!("`fairway activate {to}` first")),
        OrderError::Contradiction { other, .. } => conflict("release-contradicts", "Another release stands against it")
            .with("remedy", format!("let the release of {other} end first")),
        OrderError::NothingToTakeFrom { to, .. } => {
            Refusal::unprocessable("nothing-to-take-over", "Nothing to take over", &detail).with(
                "remedy",
                format!("{to} has everything already, unless another version is active and has a weight above 0"),
            )
        }
        _ => Refusal::not_found("no-release", "No release", &detail)
            .with("remedy", "`fairway release start ROUTE --to BACKEND` begins one"),
    }
}

/// The first error speaks for all; the others are in `errors`.
fn of_plan(errors: &[PlanError], detail: String) -> Refusal {
    let refusal = Refusal::unprocessable("bad-release", "No such release", detail);
    match errors {
        [] | [_] => refusal,
        several => refusal.with("errors", names(several)),
    }
}

fn words(error: &WeightError) -> (&'static str, &'static str) {
    match error {
        WeightError::Empty => ("weights-empty", "No weights"),
        WeightError::AllZero => ("weights-all-zero", "All weights are zero"),
        WeightError::Negative { .. } => ("weight-negative", "A weight is negative"),
        WeightError::Fraction { .. } => ("weight-fractional", "A weight is no whole number"),
        WeightError::TooLarge { .. } => ("weight-too-large", "A weight is too large"),
        WeightError::NotANumber { .. } => ("weight-not-a-number", "A weight is no number"),
        WeightError::Twice { .. } => ("backend-named-twice", "A backend is named twice"),
        WeightError::Unknown { .. } => ("unknown-backend", "Unknown backend"),
        WeightError::Ambiguous { .. } => ("ambiguous-name", "Ambiguous name"),
    }
}
