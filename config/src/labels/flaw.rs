//! What is wrong with one value and what to write instead, in words that are fit to be shown anywhere.

use super::{LabelProblem, Severity};

/// Longest piece of a label that is quoted in a message, in characters.
const SHOWN_CHARS_MAX: usize = 160;

/// One thing wrong with a value, not yet tied to the key it was found under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}; {remedy}")]
pub struct Flaw {
    /// Stable word for scripts, such as `label-port-in-host`.
    pub kind: &'static str,
    /// [`Severity::Error`] when the value was refused.
    pub severity: Severity,
    /// What is wrong, with the value.
    pub text: String,
    /// What to write instead.
    pub remedy: String,
}

impl Flaw {
    /// The value is refused.
    pub(crate) fn refused(kind: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, severity: Severity::Error, text: text.into(), remedy: remedy.into() }
    }

    /// The value is used, though not as written.
    pub(crate) fn warning(kind: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, severity: Severity::Warning, text: text.into(), remedy: remedy.into() }
    }

    /// The flaw as a problem of the label `key`.
    pub(super) fn at(self, key: &str, value: &str) -> LabelProblem {
        let Self { kind, severity, text, remedy } = self;
        LabelProblem { kind, severity, key: shown(key), value: shown(value), text, remedy }
    }
}

/// `text` for a message: what a terminal or a log line could misread is escaped, and it is cut at 160 characters.
///
/// Labels are written by whoever may start a container; a line feed or an escape sequence of theirs must not
/// reach a log.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(4 * SHOWN_CHARS_MAX));
    for (i, c) in text.chars().enumerate() {
        if i == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        match c {
            '"' | '\'' => out.push(c), // `escape_debug` would put a backslash in front
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_direction_characters_are_escaped_and_length_is_bounded() {
        assert_eq!(shown("a'b\"c"), "a'b\"c");
        assert_eq!(shown("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(shown("\u{202e}x\u{200b}"), "\\u{202e}x\\u{200b}");
        assert_eq!(shown("：ü"), "：ü");
        let long = shown(&"x".repeat(100_000));
        assert_eq!(long.chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
