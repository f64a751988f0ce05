//! What cannot be used or does not hold, told to people with its remedy.

use std::sync::Arc;

use fairway_config::labels::{LabelProblem, Severity};
use jiff::Timestamp;

/// One thing that is wrong and that a person can mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable word for scripts, such as `route-owned-elsewhere`. The API's `type`.
    pub kind: &'static str,
    /// Whether anything that was asked for is lost.
    pub severity: Severity,
    /// Whom it concerns: a container's name, a route, a backend, a listener, an engine.
    pub subject: Arc<str>,
    /// The label or configuration key, empty when there is none.
    pub key: Arc<str>,
    /// The value found, empty when there is none.
    pub value: Arc<str>,
    /// What is wrong, one sentence.
    pub text: Arc<str>,
    /// What to do, one sentence.
    pub remedy: Arc<str>,
    /// When it was first seen; kept while it lasts. Sources leave `Timestamp::UNIX_EPOCH`: the build fills it.
    pub since: Timestamp,
}

impl Problem {
    /// A problem with neither key nor value.
    pub fn new(
        kind: &'static str,
        severity: Severity,
        subject: impl Into<Arc<str>>,
        text: impl Into<Arc<str>>,
        remedy: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            kind,
            severity,
            subject: subject.into(),
            key: "".into(),
            value: "".into(),
            text: text.into(),
            remedy: remedy.into(),
            since: Timestamp::UNIX_EPOCH,
        }
    }

    /// The same, with the key and value it is about.
    pub fn at(mut self, key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        self.key = key.into();
        self.value = value.into();
        self
    }

    /// A label's problem, of this container.
    pub fn of_label(subject: impl Into<Arc<str>>, label: &LabelProblem) -> Self {
        let LabelProblem { kind, severity, key, value, text, remedy } = label;
        Self::new(kind, *severity, subject, text.as_str(), remedy.as_str()).at(key.as_str(), value.as_str())
    }

    /// What makes it the same problem from one catalog to the next.
    pub(crate) fn identity(&self) -> (&'static str, &str, &str, &str) {
        (self.kind, &self.subject, &self.key, &self.value)
    }
}
