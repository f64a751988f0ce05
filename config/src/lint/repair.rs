//! Label lines that YAML cannot read as they stand, put into quotes so that the rest of the file can be.
//!
//! `aliyun.routing.port_80: [http://a](http://a)` ends the parse of the whole file; but what is wrong with it is
//! wrong with the label, and the reader wants to hear of the other lines too.

use std::collections::BTreeSet;

use super::yaml::{self, Parsed, SyntaxError};

/// Most lines that are put into quotes.
const REPAIRS_MAX: usize = 50;
/// How far above the place of an error its cause is looked for, in lines.
const LINES_ABOVE: usize = 3;

/// A text as far as it could be read.
pub(super) struct Repaired {
    /// The text with lines put into quotes.
    pub(super) text: String,
    /// Its tree; the error is what no quotes could help.
    pub(super) parsed: Parsed,
    /// The lines put into quotes, from 1.
    pub(super) lines: BTreeSet<usize>,
}

/// Reads a text, putting label lines into quotes for as long as that moves the first error on.
pub(super) fn parse(text: &str) -> Repaired {
    let mut all = Repaired { text: text.to_owned(), parsed: yaml::parse(text), lines: BTreeSet::new() };
    while let Some(error) = all.parsed.error.clone() {
        let Some((line, text, parsed)) = better(&all, &error).filter(|_| all.lines.len() < REPAIRS_MAX)
        else {
            break;
        };
        all.lines.insert(line);
        (all.text, all.parsed) = (text, parsed);
    }
    all
}

/// The first line at or above the error whose quoting lets more of the text be read.
fn better(all: &Repaired, error: &SyntaxError) -> Option<(usize, String, Parsed)> {
    let candidates = (error.line.saturating_sub(LINES_ABOVE)..=error.line).rev();
    candidates.filter(|line| *line > 0 && !all.lines.contains(line)).find_map(|line| {
        let text = with_quotes(&all.text, line)?;
        let parsed = yaml::parse(&text);
        let reached =
            parsed.error.as_ref().is_none_or(|now| (now.line, now.column) > (error.line, error.column));
        reached.then_some((line, text, parsed))
    })
}

fn with_quotes(text: &str, line: usize) -> Option<String> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let quoted = quote(lines.get(line - 1)?)?;
    lines[line - 1] = &quoted;
    Some(lines.join("\n"))
}

/// A line with one of our labels, its value in quotes; a line without a value, the whole in quotes.
fn quote(line: &str) -> Option<String> {
    let line = line.trim_end_matches('\r');
    let body = line.trim_start();
    let (dash, label) = match body.strip_prefix("- ") {
        Some(label) => ("- ", label.trim()),
        None => ("", body.trim()),
    };
    if !label.starts_with("aliyun.") && !label.starts_with("fairway.") {
        return None;
    }
    let indent = &line[..line.len() - body.len()];
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let colon = label.find(": ").filter(|at| dash.is_empty() || !label[..*at].contains('='));
    match colon.map(|at| (&label[..at], label[at + 1..].trim())) {
        Some((_, value)) if value.is_empty() || is_quoted(value) => None,
        Some((key, value)) => Some(format!("{indent}{dash}{key}: {}", quoted(value))),
        None if label.ends_with(':') => None,
        None if dash.is_empty() => Some(format!("{indent}{}: ''", quoted(label))),
        None => Some(format!("{indent}{dash}{}", quoted(label))),
    }
}

fn is_quoted(value: &str) -> bool {
    value.len() > 1 && ['"', '\''].into_iter().any(|quote| value.starts_with(quote) && value.ends_with(quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_line_is_quoted_and_others_are_not() {
        for (line, want) in [
            ("    aliyun.routing.port_80: [a](b)", Some("    aliyun.routing.port_80: '[a](b)'")),
            ("    - aliyun.routing.port_80: it's", Some("    - aliyun.routing.port_80: 'it''s'")),
            ("    - fairway.match=header:a: b", Some("    - 'fairway.match=header:a: b'")),
            ("    aliyun.scale：2", Some("    'aliyun.scale：2': ''")),
            ("    aliyun.scale:2\r", Some("    'aliyun.scale:2': ''")),
            ("    aliyun.scale: \"2\" x", Some("    aliyun.scale: '\"2\" x'")),
            ("    aliyun.scale: '2'", None),
            ("    aliyun.scale:", None),
            ("    image: [a](b)", None),
            ("", None),
        ] {
            assert_eq!(quote(line).as_deref(), want, "{line}");
        }
    }

    #[test]
    fn the_first_error_that_quotes_cannot_help_ends_the_reading() {
        let text = "labels:\n  aliyun.a: [x](y)\n  aliyun.b: *.x.com\nimage: [x](y)\n";
        let repaired = parse(text);
        assert_eq!(repaired.lines, BTreeSet::from([2, 3]));
        assert_eq!(repaired.parsed.error.map(|error| error.line), Some(4));
    }
}
