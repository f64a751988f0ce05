//! Any JSON answer as an outline for people: `name: value`, what is within it indented.
//!
//! For answers whose members matter more than their comparison: what a newer Fairway adds is shown too. Lists that are
//! compared by column have tables (see `tables`).

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::table::printable;

/// A JSON value for people, its members in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outline {
    /// Anything that fits a line.
    Line(String),
    List(Vec<Outline>),
    Members(Vec<(String, Outline)>),
}

impl Outline {
    /// The text, a line feed after each line.
    pub(crate) fn print(&self) -> String {
        self.lines().into_iter().map(|line| line + "\n").collect()
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Members(members) if !members.is_empty() => {
                members.iter().flat_map(|(name, value)| member(name, value)).collect()
            }
            Self::List(items) if self.is_nested() => items.iter().flat_map(item).collect(),
            _ => vec![self.line()],
        }
    }

    /// Whether it takes more than one line.
    fn is_nested(&self) -> bool {
        match self {
            Self::Line(_) => false,
            Self::List(items) => items.iter().any(|item| !matches!(item, Self::Line(_))),
            Self::Members(members) => !members.is_empty(),
        }
    }

    /// One line for what is not nested; nothing says so rather than vanish.
    fn line(&self) -> String {
        match self {
            Self::Line(text) if text.is_empty() => "-".to_owned(),
            Self::Line(text) => printable(text),
            Self::List(items) if !items.is_empty() => {
                items.iter().map(Self::line).collect::<Vec<_>>().join(", ")
            }
            Self::List(_) | Self::Members(_) => "none".to_owned(),
        }
    }
}

fn member(name: &str, value: &Outline) -> Vec<String> {
    let name = printable(&name.replace('_', " "));
    if !value.is_nested() {
        return vec![format!("{name}: {}", value.line())];
    }
    let within = value.lines().into_iter().map(|line| format!("  {line}"));
    std::iter::once(format!("{name}:")).chain(within).collect()
}

/// A dash in front of the first line, the others below it.
fn item(item: &Outline) -> Vec<String> {
    let dashed = |(n, line)| if n == 0 { format!("- {line}") } else { format!("  {line}") };
    item.lines().into_iter().enumerate().map(dashed).collect()
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// `serde_json::Value` sorts the members by name; an answer has them in the order in which they are best read.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Outline, E> {
        Ok(Outline::Line(String::new()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Outline, E> {
        Ok(Outline::Line(if value { "yes" } else { "no" }.to_owned()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Outline, E> {
        Ok(Outline::Line(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Outline, E> {
        Ok(Outline::Line(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Outline, E> {
        Ok(Outline::Line(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Outline, E> {
        Ok(Outline::Line(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Outline, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Outline::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Outline, A::Error> {
        let mut members = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            members.push(entry);
        }
        Ok(Outline::Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(json: &str) -> String {
        serde_json::from_str::<Outline>(json).expect("json").print()
    }

    #[test]
    fn members_keep_their_order_and_lists_of_objects_have_dashes() {
        let json = r#"{"revision": 7, "is_settled": true, "file": "", "listeners": ["0.0.0.0:80", "[::]:80"],
            "sources": [{"id": "unix:///x", "lost": {"error": "gone\u001b[2J"}}, {"id": "file", "lost": null}],
            "problems": [], "limits": {}}"#;
        assert_eq!(
            print(json),
            "revision: 7\nis settled: yes\nfile: -\nlisteners: 0.0.0.0:80, [::]:80\nsources:\n  - id: unix:///x\n    \
             lost:\n      error: gone\\u{1b}[2J\n  - id: file\n    lost: -\nproblems: none\nlimits: none\n"
        );
    }

    #[test]
    fn any_value_has_an_outline() {
        for (json, text) in [
            ("null", "-\n"),
            ("[]", "none\n"),
            ("{}", "none\n"),
            ("[[1, -2], [], 0.5]", "- 1, -2\n- none\n- 0.5\n"),
            ("\"ö\"", "ö\n"),
        ] {
            assert_eq!(print(json), text, "{json}");
        }
    }
}
