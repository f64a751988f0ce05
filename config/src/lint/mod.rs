//! Compose files: every label problem with its line.
//!
//! Here: where the labels stand in the three versions of the format, and the pitfalls of YAML between a written
//! value and the label. Not here: what labels mean (see [`crate::labels`]), lines and aliases (`yaml`), lines that
//! are no YAML (`repair`), what YAML and Compose do to a value (`pitfall`, `unquoted`).

mod pitfall;
mod repair;
mod unquoted;
mod yaml;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use pitfall::{
    Pitfall, lone_dollar, map_in_list, misspelt_family, needs_quotes, quote_item, unquoted_pitfall,
    with_defaults,
};
use repair::Repaired;
use yaml::{Kind, Node};

use crate::labels::features::is_secret;
use crate::labels::{self, Severity, shown};

/// Most keys that are looked at, those that aliases repeat counted each time.
const KEYS_MAX: usize = 100_000;
/// Deepest chain of `<<` that is followed.
const MERGES_MAX: usize = 16;

/// One thing wrong in a compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, as given.
    pub file: String,
    /// The line of the label, from 1.
    pub line: usize,
    /// The service whose label it is; of a label that several share, the first.
    pub service: Option<String>,
    /// The label's key; empty when it is about the file.
    pub key: String,
    /// The label's value, or the entry of it.
    pub value: String,
    /// Whether anything that was asked for is lost.
    pub severity: Severity,
    /// Stable word for scripts: `label-...` for what a running container would show too, `yaml-...` for the file.
    pub kind: &'static str,
    /// What is wrong.
    pub text: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(service) = &self.service {
            write!(f, "{service}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.text, self.remedy)
    }
}

/// Looks at every label of ours in a compose file of version 1, 2 or 3; by ascending line.
///
/// Never fails and never panics: what is no YAML is a finding with its line.
pub fn lint(file_name: &str, text: &str) -> Vec<Finding> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let repaired = repair::parse(text);
    let mut lint = Lint::new(file_name, &repaired);
    for document in &repaired.parsed.documents {
        lint.document(document);
    }
    if let Some(error) = &repaired.parsed.error {
        let text = format!("the file is not YAML here (column {}): {}", error.column, shown(&error.text));
        let remedy = "correct the line or the one above; what follows was not looked at";
        lint.tell(At::line(error.line), Severity::Error, "yaml-syntax", text, remedy);
    } else if lint.services == 0 {
        let text = "the file has no services".to_owned();
        let remedy = "name a compose file: `services:` with a map, or services at the top level";
        lint.tell(At::line(1), Severity::Warning, "yaml-no-services", text, remedy);
    }
    lint.unread_lines(text);
    lint.finish()
}

/// One label as it was found.
struct Label<'t> {
    line: usize,
    key: &'t str,
    value: String,
    /// What YAML makes of the value before it becomes a label.
    pitfall: Option<Pitfall>,
}

/// Where a finding is, and about what.
#[derive(Clone, Copy, Default)]
struct At<'a> {
    line: usize,
    service: Option<&'a str>,
    key: &'a str,
    value: &'a str,
}

impl At<'_> {
    fn line(line: usize) -> Self {
        Self { line, ..Self::default() }
    }
}

struct Lint<'t> {
    file: String,
    text: &'t str,
    /// Lines that had to be put into quotes.
    quoted: &'t BTreeSet<usize>,
    findings: Vec<Finding>,
    told: HashSet<(usize, &'static str, String, String)>,
    services: usize,
    keys_left: usize,
}

impl<'t> Lint<'t> {
    fn new(file: &str, read: &'t Repaired) -> Self {
        let Repaired { text, lines, parsed: _ } = read;
        let (findings, told) = (Vec::new(), HashSet::new());
        Self { file: shown(file), text, quoted: lines, findings, told, services: 0, keys_left: KEYS_MAX }
    }

    fn document(&mut self, root: &Node) {
        let entries = self.entries(root, 0);
        let is_key = |name: &'static str| move |(key, _): &&(&Node, &Node)| key.text() == Some(name);
        match entries.iter().find(is_key("services")) {
            Some((_, services)) => {
                for (name, service) in self.entries(services, 0) {
                    self.service(name, service);
                }
            }
            // Version 1: every map at the top level is a service.
            None => {
                for (name, service) in entries {
                    if matches!(service.kind, Kind::Mapping(_)) {
                        self.service(name, service);
                    }
                }
            }
        }
    }

    fn service(&mut self, name: &Node, service: &Node) {
        let Some(name) = name.text().filter(|name| !name.starts_with("x-")) else { return };
        self.services += 1;
        for (key, value) in self.entries(service, 0) {
            match key.text() {
                Some("labels") => self.labels(name, value),
                Some("deploy") => {
                    for (_, labels) in
                        self.entries(value, 0).into_iter().filter(|(key, _)| key.text() == Some("labels"))
                    {
                        self.labels(name, labels);
                    }
                }
                Some(key_text) if is_ours(key_text) => {
                    let at = At {
                        line: key.line,
                        service: Some(name),
                        key: key_text,
                        value: value.text().unwrap_or_default(),
                    };
                    let text = "the label stands beside `labels`, where Compose refuses it";
                    self.tell(
                        at,
                        Severity::Error,
                        "yaml-outside-labels",
                        text.to_owned(),
                        "move it under `labels:`",
                    );
                }
                _ => {}
            }
        }
    }

    fn labels(&mut self, service: &str, node: &Node) {
        let labels = match &node.kind {
            Kind::Mapping(_) => {
                let entries = self.entries(node, 0);
                entries.into_iter().filter_map(|(key, value)| self.of_map(key, value)).collect()
            }
            Kind::Sequence(items) => items.iter().flat_map(|item| self.of_list(item)).collect(),
            Kind::Scalar { .. } if node.text() == Some("") => Vec::new(),
            Kind::Scalar { text, .. } => {
                let pitfall = Pitfall {
                    kind: "yaml-labels",
                    severity: Severity::Error,
                    text: "`labels` is a text".to_owned(),
                    remedy: "write a map, `KEY: VALUE`, or a list, `- KEY=VALUE`".to_owned(),
                };
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                vec![Label { line: node.line, key, value: with_defaults(value), pitfall: Some(pitfall) }]
            }
        };
        self.check(service, &labels);
    }

    /// `key: value`. A value that is no scalar is taken as it is written.
    fn of_map<'n>(&self, key: &'n Node, value: &Node) -> Option<Label<'n>> {
        let key_text = key.text()?;
        let (value, pitfall) = match &value.kind {
            Kind::Scalar { text, plain } => (
                value.text().unwrap_or_default().to_owned(),
                match self.quoted.contains(&key.line) {
                    true => Some(needs_quotes(key_text, text)),
                    false => {
                        unquoted::becomes(text).filter(|_| *plain).map(|other| unquoted_pitfall(text, &other))
                    }
                },
            ),
            _ => {
                let raw = self.raw(value);
                let remedy = format!("put it into quotes: `'{}'`", shown(&raw));
                let text = "YAML reads the value as a list or a map".to_owned();
                (raw, Some(Pitfall { kind: "yaml-not-a-text", severity: Severity::Error, text, remedy }))
            }
        };
        let pitfall = pitfall.or_else(|| lone_dollar(key_text, &value));
        Some(Label { line: key.line, key: key_text, value: with_defaults(&value), pitfall })
    }

    /// `- key=value`, or what a slip of the pen makes of it: `- key: value`.
    fn of_list<'n>(&self, item: &'n Node) -> Vec<Label<'n>> {
        match &item.kind {
            Kind::Scalar { text, .. } => {
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                let pitfall = self.quoted.contains(&item.line).then(|| quote_item(text));
                let pitfall = pitfall.or_else(|| lone_dollar(key, value));
                vec![Label { line: item.line, key, value: with_defaults(value), pitfall }]
            }
            Kind::Mapping(pairs) => {
                let labels = pairs.iter().filter_map(|(key, value)| match key.text()?.split_once('=') {
                    // `- key=a: b` is a map for YAML, though a `: ` in the value is all that is wrong.
                    Some((name, start)) => {
                        let value = format!("{start}: {}", value.text().unwrap_or_default());
                        let pitfall = Some(quote_item(&format!("{name}={value}")));
                        Some(Label { line: key.line, key: name, value: with_defaults(&value), pitfall })
                    }
                    None => self
                        .of_map(key, value)
                        .map(|label| Label { pitfall: Some(map_in_list(label.key, &label.value)), ..label }),
                });
                labels.collect()
            }
            Kind::Sequence(_) => Vec::new(),
        }
    }

    /// The text of a value as it stands in the file.
    fn raw(&self, node: &Node) -> String {
        let raw: String = self.text.chars().skip(node.chars.start).take(node.chars.len()).collect();
        raw.trim().to_owned()
    }

    fn check(&mut self, service: &str, labels: &[Label<'_>]) {
        let lines: HashMap<String, usize> =
            labels.iter().map(|label| (shown(label.key), label.line)).collect();
        let parsed = labels::parse(labels.iter().map(|label| (label.key, label.value.as_str())));
        let wrong: HashSet<String> = parsed.problems.iter().map(|problem| problem.key.clone()).collect();
        for problem in parsed.problems {
            let line = lines.get(&problem.key).copied().unwrap_or_default();
            let at = At { line, service: Some(service), key: &problem.key, value: &problem.value };
            self.tell(at, problem.severity, problem.kind, problem.text, &problem.remedy);
        }
        for label in labels {
            let value = if is_secret(label.key) { "" } else { &*label.value };
            let at = At { line: label.line, service: Some(service), key: label.key, value };
            if let Some(meant) = misspelt_family(label.key) {
                let text = "the label is of no family that Fairway reads".to_owned();
                self.tell(
                    at,
                    Severity::Warning,
                    "label-unknown-family",
                    text,
                    &format!("did you mean `{meant}`?"),
                );
            }
            // What is wrong with the label says it better than what is wrong with the YAML, unless both must change.
            let is_told = wrong.contains(&shown(label.key));
            if let Some(pitfall) = &label.pitfall
                && is_ours(label.key)
                && !(is_told
                    && matches!(pitfall.kind, "yaml-not-a-text" | "yaml-labels" | "yaml-needs-quotes"))
            {
                self.tell(at, pitfall.severity, pitfall.kind, pitfall.text.clone(), &pitfall.remedy);
            }
        }
    }

    /// Lines that had to be put into quotes, stand nowhere among labels, and that nothing else is wrong with.
    fn unread_lines(&mut self, text: &str) {
        for line in self.quoted {
            if self.findings.iter().any(|finding| finding.line == *line) {
                continue;
            }
            let written = text.split('\n').nth(line - 1).unwrap_or_default().trim().trim_start_matches("- ");
            let (key, value) = written.split_once(':').unwrap_or((written, ""));
            let at = At { line: *line, service: None, key, value: value.trim() };
            let Pitfall { kind, severity, text, remedy } = needs_quotes(key, value.trim());
            self.tell(at, severity, kind, text, &remedy);
        }
    }

    /// The entries of a map with those that `<<` brings in; a key of the map itself goes before them.
    fn entries<'n>(&mut self, node: &'n Node, depth: usize) -> Vec<(&'n Node, &'n Node)> {
        let Kind::Mapping(pairs) = &node.kind else { return Vec::new() };
        let is_merge = |key: &Node| matches!(&key.kind, Kind::Scalar { text, plain: true } if text == "<<");
        let mut entries: Vec<_> =
            pairs.iter().filter(|(key, _)| !is_merge(key)).map(|(k, v)| (&**k, &**v)).collect();
        if self.keys_left < entries.len() || depth > MERGES_MAX {
            let text = "the file repeats too much by aliases and `<<`";
            self.tell(
                At::line(node.line),
                Severity::Error,
                "yaml-too-large",
                text.to_owned(),
                "write fewer of them",
            );
            return Vec::new();
        }
        self.keys_left -= entries.len();
        let mut known: HashSet<&str> = entries.iter().filter_map(|(key, _)| key.text()).collect();
        for (_, merged) in pairs.iter().filter(|(key, _)| is_merge(key)) {
            let maps: Vec<&Node> = match &merged.kind {
                Kind::Sequence(maps) => maps.iter().map(|map| &**map).collect(),
                _ => vec![merged],
            };
            for map in maps {
                let brought = self.entries(map, depth + 1);
                entries.extend(
                    brought.into_iter().filter(|(key, _)| key.text().is_none_or(|text| known.insert(text))),
                );
            }
        }
        entries
    }

    /// A label that several services share is told once.
    fn tell(&mut self, at: At<'_>, severity: Severity, kind: &'static str, text: String, remedy: &str) {
        let (key, value) = (shown(at.key), shown(at.value));
        if self.told.insert((at.line, kind, key.clone(), value.clone())) {
            let (file, service) = (self.file.clone(), at.service.map(shown));
            self.findings.push(Finding {
                file,
                line: at.line,
                service,
                key,
                value,
                severity,
                kind,
                text,
                remedy: remedy.to_owned(),
            });
        }
    }

    fn finish(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| finding.line);
        self.findings
    }
}

fn is_ours(key: &str) -> bool {
    key.starts_with("aliyun.") || key.starts_with("fairway.")
}

#[cfg(test)]
mod tests;
