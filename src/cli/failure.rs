//! Why a command failed, as a person reads it, and the exit code that goes with it.

use std::io;
use std::process::ExitCode;

use hyper::StatusCode;
use serde_json::Value;

use super::table::printable;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command was used wrongly, or a file that it was given cannot be used: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers at the admin URL.
    #[error("cannot reach the admin API at {url}: {why}\n{remedy}")]
    Unreachable {
        /// As given.
        url: String,
        /// What happened.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Somebody answers there, but not as the admin API does.
    #[error(
        "{url} does not answer as the admin API of this version does: {why}\npoint `--admin` or FAIRWAY_ADMIN_URL to the admin listener of `fairway run`"
    )]
    NotOurs {
        /// As given.
        url: String,
        /// What was wrong.
        why: String,
    },
    /// The API refused.
    #[error("{}", .0.text())]
    Refused(Refusal),
    /// What was named is not there, or is no longer as it was ordered.
    #[error("{0}")]
    NoSuch(String),
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// What the command looked for is not so; everything has been said already.
    #[error("")]
    Found,
}

impl Failure {
    /// 2 for wrong use and bad files, else 1. A reader that left (`| head`) is no failure.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    /// The text for standard error; `None` when nothing is left to say.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Found => None,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            _ => Some(format!("fairway: {self}")),
        }
    }
}

/// A refusal of the API: problem details (RFC 9457).
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    members: Value,
}

impl Refusal {
    /// Reads problem details; `None` if the body holds none.
    pub(crate) fn read(status: StatusCode, body: &[u8]) -> Option<Self> {
        let members: Value = serde_json::from_slice(body).ok()?;
        (members.get("type").is_some() || members.get("title").is_some()).then_some(Self { status, members })
    }

    fn text_of(&self, member: &str) -> Option<String> {
        self.members.get(member)?.as_str().filter(|text| !text.is_empty()).map(printable)
    }

    /// What was refused, each thing the API adds in a line of its own.
    fn text(&self) -> String {
        let status = || self.status.canonical_reason().unwrap_or("refused").to_lowercase();
        let mut text = self.text_of("detail").or_else(|| self.text_of("title")).unwrap_or_else(status);
        for member in ["candidates", "known", "errors"] {
            let Some(Value::Array(items)) = self.members.get(member) else { continue };
            let missing = |item: &&Value| !text_of_item(item).is_empty();
            for item in items.iter().filter(missing) {
                text.push_str(&format!("\n  {}", text_of_item(item)));
            }
        }
        if let Some(remedy) = self.text_of("remedy") {
            text.push_str(&format!("\n{remedy}"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            text.push_str("\ngive the token's file with `--token-file` or FAIRWAY_TOKEN_FILE");
        }
        text
    }
}

fn text_of_item(item: &Value) -> String {
    match item {
        Value::String(text) => printable(text),
        Value::Object(members) => members
            .get("id")
            .or_else(|| members.get("detail"))
            .and_then(Value::as_str)
            .map_or_else(|| item.to_string(), printable),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_its_candidates_and_remedy() {
        let body =
            br#"{"type":"/problems/ambiguous","title":"Conflict","status":409,"detail":"`v1` may be two",
            "candidates":["a/web@v1","b/web@v1"],"remedy":"write more of the name"}"#;
        let refusal = Refusal::read(StatusCode::CONFLICT, body).expect("problem details");
        let text = Failure::Refused(refusal).to_string();
        assert_eq!(text, "`v1` may be two\n  a/web@v1\n  b/web@v1\nwrite more of the name");
    }

    #[test]
    fn what_is_not_problem_details_is_no_refusal_of_ours() {
        for body in [&b"<html>"[..], b"{}", b"[]", b""] {
            assert!(Refusal::read(StatusCode::NOT_FOUND, body).is_none());
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let failure = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(failure.exit_code(), ExitCode::SUCCESS);
        assert_eq!(failure.message(), None);
        assert_eq!(Failure::Usage("x".into()).exit_code(), ExitCode::from(2));
    }
}
