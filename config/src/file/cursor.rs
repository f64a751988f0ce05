//! A walk over a parsed TOML file that goes on after an error, so that all of them can be told at once.
//!
//! Here: where a value stands (line and key), what type it must have, which keys of a table nobody asked for. Not
//! here: what the keys mean (see `sections`, `service`).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{ConfigError, ConfigErrors};
use crate::labels::{Flaw, nearest_of, shown};

/// Most errors that are told; a file of a million wrong lines has one thing wrong with it.
const ERRORS_MAX: usize = 100;

/// What is wrong with a value and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) text: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { text: text.into(), remedy: remedy.into() }
    }
}

impl From<Flaw> for Wrong {
    fn from(flaw: Flaw) -> Self {
        Self { text: flaw.text, remedy: flaw.remedy }
    }
}

/// Where something was written, for errors found later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    place: String,
    /// The octet in the file; what was not written in the file comes last.
    offset: usize,
    given: String,
}

impl Spot {
    /// A flag, a variable or a default.
    pub(super) fn outside(place: impl Into<String>, given: &str) -> Self {
        Self { place: place.into(), offset: usize::MAX, given: shown(given) }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }
}

/// The file being read, and what was found wrong so far.
pub(super) struct Cx<'a> {
    name: String,
    text: &'a str,
    folder: PathBuf,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    errors: Vec<(usize, ConfigError)>,
    warnings: Vec<(usize, ConfigError)>,
    /// Lines with a syntax error: what follows from it there is not told as well.
    broken_lines: BTreeSet<usize>,
}

impl<'a> Cx<'a> {
    /// `path` is the file's, as given; relative paths in it start from its folder.
    pub(super) fn new(path: Option<&Path>, text: &'a str) -> Self {
        let name = path.map(|path| shown(&path.to_string_lossy())).unwrap_or_default();
        let folder = path.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        Self { name, text, folder, found: RefCell::default() }
    }

    /// A path written in the file.
    pub(super) fn path(&self, written: &str) -> PathBuf {
        self.folder.join(written)
    }

    pub(super) fn error(&self, spot: &Spot, wrong: Wrong) {
        let mut found = self.found.borrow_mut();
        if spot.offset == usize::MAX || !found.broken_lines.contains(&self.line(spot.offset)) {
            found.errors.push((spot.offset, as_error(spot, wrong)));
        }
    }

    pub(super) fn warning(&self, spot: &Spot, wrong: Wrong) {
        self.found.borrow_mut().warnings.push((spot.offset, as_error(spot, wrong)));
    }

    /// A file that is not TOML, with line and column. An error that only repeats another on its line is not told.
    pub(super) fn syntax_error(&self, error: &toml::de::Error) {
        let offset = error.span().map_or(self.text.len(), |span| span.start).min(self.text.len());
        let line = self.line(offset);
        let before = self.text.get(..offset).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let mut found = self.found.borrow_mut();
        if found.broken_lines.insert(line) {
            let given = self.text.lines().nth(line - 1).unwrap_or_default().trim();
            let spot = Spot { place: format!("{}:{line}:{column}", self.name), offset, given: shown(given) };
            let text = format!("the file is not TOML here: {}", shown(error.message().trim()));
            let remedy = match given {
                "" => "complete what was begun above".to_owned(),
                _ => format!("correct the line `{}`", spot.given),
            };
            found.errors.push((offset, as_error(&spot, Wrong::new(text, remedy))));
        }
    }

    /// Whether a line before this octet is not TOML, so that it may belong to another table than the one it is found in.
    fn follows_a_broken_line(&self, offset: usize) -> bool {
        self.found.borrow().broken_lines.first().is_some_and(|line| *line < self.line(offset))
    }

    fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        self.text.as_bytes()[..end].iter().filter(|b| **b == b'\n').count() + 1
    }

    fn spot(&self, key: &str, span: Range<usize>, with_value: bool) -> Spot {
        let given = if with_value { self.text.get(span.clone()).unwrap_or_default() } else { "" };
        let place = format!("{}:{}: {key}", self.name, self.line(span.start));
        Spot { place, offset: span.start, given: shown(given) }
    }

    /// Everything that was found, in the order of the file.
    pub(super) fn finish(self) -> Result<Vec<ConfigError>, ConfigErrors> {
        let Found { mut errors, mut warnings, .. } = self.found.into_inner();
        errors.sort_by_key(|(offset, _)| *offset);
        warnings.sort_by_key(|(offset, _)| *offset);
        errors.truncate(ERRORS_MAX);
        warnings.truncate(ERRORS_MAX);
        let plain = |found: Vec<(usize, ConfigError)>| found.into_iter().map(|(_, error)| error).collect();
        if errors.is_empty() { Ok(plain(warnings)) } else { Err(ConfigErrors(plain(errors))) }
    }
}

fn as_error(spot: &Spot, wrong: Wrong) -> ConfigError {
    ConfigError {
        place: spot.place.clone(),
        given: spot.given.clone(),
        text: wrong.text,
        remedy: wrong.remedy,
    }
}

/// One value with its place.
#[derive(Clone)]
pub(super) struct Node<'a> {
    cx: &'a Cx<'a>,
    key: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Node<'a> {
    pub(super) fn spot(&self) -> Spot {
        let is_scalar = !matches!(self.value, DeValue::Array(_) | DeValue::Table(_));
        self.cx.spot(&self.key, self.span.clone(), is_scalar)
    }

    pub(super) fn error(&self, wrong: Wrong) {
        self.cx.error(&self.spot(), wrong);
    }

    /// As [`Node::error`], for a value that nobody should read.
    pub(super) fn error_without_value(&self, wrong: Wrong) {
        self.cx.error(&self.cx.spot(&self.key, self.span.clone(), false), wrong);
    }

    pub(super) fn warning(&self, wrong: Wrong) {
        self.cx.warning(&self.spot(), wrong);
    }

    fn wrong_type(&self, want: &str, remedy: &str) {
        self.error(Wrong::new(format!("{} is not {want}", self.kind()), remedy));
    }

    fn kind(&self) -> String {
        let literal = shown(self.cx.text.get(self.span.clone()).unwrap_or_default());
        match self.value {
            DeValue::String(_) => format!("the text `{literal}`"),
            DeValue::Integer(_) | DeValue::Float(_) => format!("the number `{literal}`"),
            DeValue::Boolean(_) => format!("`{literal}`"),
            DeValue::Datetime(_) => format!("the date `{literal}`"),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }

    pub(super) fn string(&self) -> Option<&'a str> {
        if let DeValue::String(text) = self.value {
            return Some(text);
        }
        self.wrong_type("a text", "write a text in quotes");
        None
    }

    /// A text that `read` understands.
    pub(super) fn parsed<T>(&self, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        read(self.string()?).map_err(|wrong| self.error(wrong)).ok()
    }

    /// A text, a number or a boolean that `read` understands: who writes a number without its unit is told of the unit.
    pub(super) fn parsed_scalar<T>(&self, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        read(&self.scalar()?).map_err(|wrong| self.error(wrong)).ok()
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        if let DeValue::Boolean(value) = self.value {
            return Some(*value);
        }
        self.wrong_type("true or false", "write `true` or `false`, without quotes");
        None
    }

    /// A whole number within `range`.
    pub(super) fn whole(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let remedy =
            format!("write a whole number from {} to {}, without quotes", range.start(), range.end());
        let DeValue::Integer(number) = self.value else {
            self.wrong_type("a whole number", &remedy);
            return None;
        };
        let value =
            u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|value| range.contains(value));
        if value.is_none() {
            self.error(Wrong::new(
                format!("the number `{}` is out of range", shown(&number.to_string())),
                remedy,
            ));
        }
        value
    }

    /// The value as a label would hold it: texts, numbers and booleans.
    pub(super) fn scalar(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => Some(match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) => value.to_string(),
                Err(_) => number.as_str().to_owned(),
            }),
            DeValue::Float(number) => Some(number.as_str().to_owned()),
            DeValue::Boolean(value) => Some(value.to_string()),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                self.wrong_type("a text", "write a text in quotes, a number, or `true` or `false`");
                None
            }
        }
    }

    /// The elements of a list.
    pub(super) fn array(&self) -> Option<Vec<Node<'a>>> {
        let DeValue::Array(items) = self.value else {
            self.wrong_type("a list", "write a list in brackets, `[...]`");
            return None;
        };
        let node = |(i, item): (usize, &'a toml::Spanned<DeValue<'a>>)| Node {
            cx: self.cx,
            key: format!("{}[{i}]", self.key),
            span: item.span(),
            value: item.get_ref(),
        };
        Some(items.iter().enumerate().map(node).collect())
    }

    pub(super) fn is_array(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    /// How many elements a list has; `None` for what is no list.
    pub(super) fn array_len(&self) -> Option<usize> {
        if let DeValue::Array(items) = self.value { Some(items.len()) } else { None }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type("a table", "write a table, `{ key = value }` or a section of its own");
            return None;
        };
        Some(Table::new(self.cx, self.key.clone(), self.span.clone(), table))
    }
}

/// A table, and which of its keys there may be: those that were asked for.
pub(super) struct Table<'a> {
    cx: &'a Cx<'a>,
    key: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    fn new(cx: &'a Cx<'a>, key: String, span: Range<usize>, table: &'a DeTable<'a>) -> Self {
        Self { cx, key, span, table, known: Vec::new() }
    }

    pub(super) fn root(cx: &'a Cx<'a>, table: &'a DeTable<'a>) -> Self {
        Self::new(cx, String::new(), 0..0, table)
    }

    pub(super) fn spot(&self) -> Spot {
        self.cx.spot(&self.key, self.span.clone(), false)
    }

    pub(super) fn error(&self, wrong: Wrong) {
        self.cx.error(&self.spot(), wrong);
    }

    /// The value of a key that there may be.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Node<'a>> {
        self.known.push(name);
        let (_, item) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(self.node(name, item))
    }

    /// The value of a key that there must be.
    pub(super) fn require(&mut self, name: &'static str, remedy: &str) -> Option<Node<'a>> {
        let node = self.get(name);
        if node.is_none() {
            self.error(Wrong::new(format!("`{name}` is missing"), remedy));
        }
        node
    }

    /// Another table in this one.
    pub(super) fn section(&mut self, name: &'static str) -> Option<Table<'a>> {
        self.get(name)?.table()
    }

    /// The tables of a list of tables, `[[name]]`.
    pub(super) fn sections(&mut self, name: &'static str) -> Vec<Table<'a>> {
        let Some(node) = self.get(name) else { return Vec::new() };
        if node.is_table() {
            node.error(Wrong::new(format!("`[{name}]` is a single table"), format!("write `[[{name}]]`")));
            return Vec::new();
        }
        node.array().unwrap_or_default().iter().filter_map(Node::table).collect()
    }

    /// Every key with its value, for tables whose keys are names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> + '_ {
        self.table.iter().map(|(key, item)| (key.get_ref().as_ref(), self.node(key.get_ref(), item)))
    }

    fn node(&self, name: &str, item: &'a toml::Spanned<DeValue<'a>>) -> Node<'a> {
        Node { cx: self.cx, key: self.join(name), span: item.span(), value: item.get_ref() }
    }

    fn join(&self, name: &str) -> String {
        let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let name = if name.bytes().all(bare) { name.to_owned() } else { format!("\"{}\"", shown(name)) };
        if self.key.is_empty() { name } else { format!("{}.{name}", self.key) }
    }

    /// Tells the keys that nobody asked for.
    pub(super) fn finish(self) {
        let is_unknown = |key: &toml::Spanned<_>| {
            let key: (&str, usize) = (AsRef::<str>::as_ref(key.get_ref()), key.span().start);
            !self.known.contains(&key.0) && !self.cx.follows_a_broken_line(key.1)
        };
        for (key, _) in self.table.iter().filter(|(key, _)| is_unknown(key)) {
            let name: String = key.get_ref().chars().take(80).collect();
            let remedy = match nearest_of(&name, &self.known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            let spot = self.cx.spot(&self.join(key.get_ref()), key.span(), false);
            self.cx
                .error(&spot, Wrong::new(format!("`{}` is no key that Fairway knows", shown(&name)), remedy));
        }
    }
}
