//! A YAML text as a tree whose nodes know their line.
//!
//! An alias shares the node of its anchor instead of copying it, so a small file cannot become a large tree. After
//! a syntax error the tree holds what was complete until then.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Deepest nesting that is read; a tree is dropped by recursion.
const DEPTH_MAX: usize = 100;

/// One value.
#[derive(Debug)]
pub(super) struct Node {
    /// The line it begins on, from 1.
    pub(super) line: usize,
    /// Where it stands in the text, in characters.
    pub(super) chars: Range<usize>,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    /// The text, and whether it stands without quotes. An alias to what is not complete yet is an empty text.
    Scalar { text: String, plain: bool },
    /// A list.
    Sequence(Vec<Rc<Node>>),
    /// Keys and values in the order written, `<<` and repeated keys among them.
    Mapping(Vec<(Rc<Node>, Rc<Node>)>),
}

impl Node {
    /// The text of a scalar; one that YAML reads as null is empty.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, plain: true } if matches!(text.as_str(), "~" | "null" | "Null" | "NULL") => {
                Some("")
            }
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// Where a text stops being YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
    pub(super) text: String,
}

/// The documents of a text, and why there are no more.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) documents: Vec<Rc<Node>>,
    pub(super) error: Option<SyntaxError>,
}

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Parsed {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    let mut error = None;
    while let Some(next) = parser.next_event() {
        let taken = match next {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let mark = error.marker();
                let text = error.info().to_owned();
                Err(SyntaxError { line: mark.line(), column: mark.col() + 1, text })
            }
        };
        if let Err(first) = taken {
            error = Some(first);
            break;
        }
    }
    builder.close_all();
    Parsed { documents: builder.documents, error }
}

/// A list or map whose end has not come.
struct Open {
    line: usize,
    start: usize,
    anchor: usize,
    kind: Kind,
    /// The key of a map whose value has not come.
    key: Option<Rc<Node>>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    documents: Vec<Rc<Node>>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let (line, start) = (span.start.line(), span.start.index());
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let kind = Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.add(Node { line, chars: start..span.end.index(), kind }, anchor);
            }
            Event::Alias(anchor) => {
                let empty = || Kind::Scalar { text: String::new(), plain: true };
                let chars = start..span.end.index();
                match self.anchors.get(&anchor) {
                    Some(node) => self.add_shared(Rc::clone(node)),
                    None => self.add(Node { line, chars, kind: empty() }, 0),
                }
            }
            Event::SequenceStart(anchor, _) => self.begin(line, start, anchor, Kind::Sequence(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(line, start, anchor, Kind::Mapping(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.end(span.end.index()),
            _ => {}
        }
        if self.open.len() <= DEPTH_MAX {
            return Ok(());
        }
        Err(SyntaxError {
            line,
            column: span.start.col() + 1,
            text: format!("it is nested deeper than {DEPTH_MAX} levels"),
        })
    }

    fn begin(&mut self, line: usize, start: usize, anchor: usize, kind: Kind) {
        self.open.push(Open { line, start, anchor, kind, key: None });
    }

    fn end(&mut self, end: usize) {
        if let Some(Open { line, start, anchor, kind, .. }) = self.open.pop() {
            self.add(Node { line, chars: start..end.max(start), kind }, anchor);
        }
    }

    fn add(&mut self, node: Node, anchor: usize) {
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.add_shared(node);
    }

    fn add_shared(&mut self, node: Rc<Node>) {
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some(Open { kind: Kind::Sequence(items), .. }) => items.push(node),
            Some(Open { kind: Kind::Mapping(pairs), key, .. }) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
            Some(Open { kind: Kind::Scalar { .. }, .. }) => {} // never open
        }
    }

    fn close_all(&mut self) {
        while let Some(end) = self.open.last().map(|open| open.start) {
            self.end(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_line_and_aliases_share_a_node() {
        let parsed = parse("a: &x\n  - 1\n  - 'null'\nb: *x\nc: null\n");
        assert_eq!(parsed.error, None);
        let Kind::Mapping(pairs) = &parsed.documents[0].kind else { panic!("a map") };
        assert!(Rc::ptr_eq(&pairs[0].1, &pairs[1].1));
        let Kind::Sequence(items) = &pairs[0].1.kind else { panic!("a list") };
        let lines: Vec<_> = items.iter().map(|item| (item.line, item.text())).collect();
        assert_eq!(lines, [(2, Some("1")), (3, Some("null"))]);
        assert_eq!((pairs[2].0.line, pairs[2].1.text()), (5, Some("")));
    }

    #[test]
    fn what_was_complete_before_a_syntax_error_is_kept() {
        let parsed = parse("a: 1\nb:\n  c: 2\n  d: [x](y)\n");
        assert_eq!(parsed.error.as_ref().map(|error| error.line), Some(4));
        let Kind::Mapping(pairs) = &parsed.documents[0].kind else { panic!("a map") };
        assert_eq!(pairs.len(), 2);
    }

    #[test]
    fn a_tree_cannot_be_deep_and_an_anchor_cannot_hold_itself() {
        let deep = parse(&"[".repeat(100_000));
        assert!(deep.error.is_some());
        let own = parse("a: &a [*a]");
        assert_eq!(own.documents.len(), 1);
    }
}
