//! What one attempt says of the version that it was made at, for its figures: releases compare versions by them.
//!
//! What a version is not to blame for is left out: clients that leave or send their bodies badly, and our own limits.
//! Not here: the counters (see `metrics/figures.rs`), what an attempt says of its instance (see `endpoint`).

use crate::forward::grpc::Status;
use crate::reason::Reason;

/// What an attempt counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The version answered, and not with a failure of its own.
    Served,
    /// It failed the request.
    Failed,
    /// It is not to blame, or nothing is known.
    Nothing,
}

/// Of an attempt that ended so, with this status of the answer and of its call of gRPC.
pub(super) fn outcome(reason: Reason, status: u16, grpc: Option<Status>) -> Outcome {
    match reason {
        Reason::Ok if status >= 500 || grpc.is_some_and(is_failure) => Outcome::Failed,
        Reason::Ok => Outcome::Served,
        Reason::OutOfFiles => Outcome::Nothing,
        Reason::UpstreamCut => Outcome::Failed,
        reason if reason.is_of_the_way() => Outcome::Failed,
        _ => Outcome::Nothing,
    }
}

/// Whether the call failed by the server's doing. `UNIMPLEMENTED` is among them, as 501 is: a new version that has lost a
/// method is what a release is to find, and calls of methods that never were reach old versions as often.
fn is_failure(status: Status) -> bool {
    matches!(
        status,
        Status::UNKNOWN
            | Status::DEADLINE_EXCEEDED
            | Status::UNIMPLEMENTED
            | Status::INTERNAL
            | Status::UNAVAILABLE
            | Status::DATA_LOSS
            | Status::OTHER
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_answers_for_what_it_says_and_for_what_it_leaves_out() {
        for (reason, status, want) in [
            (Reason::Ok, 200, Outcome::Served),
            (Reason::Ok, 404, Outcome::Served),
            (Reason::Ok, 429, Outcome::Served),
            (Reason::Ok, 500, Outcome::Failed),
            (Reason::Ok, 501, Outcome::Failed),
            (Reason::ConnectFailed, 502, Outcome::Failed),
            (Reason::ConnectTimeout, 504, Outcome::Failed),
            (Reason::UpstreamTlsFailed, 502, Outcome::Failed),
            (Reason::UpstreamTimeout, 504, Outcome::Failed),
            (Reason::TotalTimeout, 504, Outcome::Failed),
            (Reason::UpstreamInvalid, 502, Outcome::Failed),
            (Reason::UpstreamCut, 200, Outcome::Failed),
            (Reason::OutOfFiles, 503, Outcome::Nothing),
            (Reason::ClientLeft, 499, Outcome::Nothing),
            (Reason::ClientTimeout, 408, Outcome::Nothing),
            (Reason::BodyTooLarge, 413, Outcome::Nothing),
            (Reason::InstancesFull, 503, Outcome::Nothing),
            (Reason::Internal, 500, Outcome::Nothing),
        ] {
            assert_eq!(outcome(reason, status, None), want, "{reason} {status}");
        }
    }

    #[test]
    fn calls_of_grpc_fail_by_their_own_status() {
        for (status, want) in [
            ("0", Outcome::Served),
            ("1", Outcome::Served),
            ("2", Outcome::Failed),
            ("3", Outcome::Served),
            ("4", Outcome::Failed),
            ("5", Outcome::Served),
            ("8", Outcome::Served),
            ("12", Outcome::Failed),
            ("13", Outcome::Failed),
            ("14", Outcome::Failed),
            ("15", Outcome::Failed),
            ("16", Outcome::Served),
            ("99", Outcome::Failed),
        ] {
            assert_eq!(outcome(Reason::Ok, 200, Some(Status::read(status.as_bytes()))), want, "{status}");
        }
    }
}
