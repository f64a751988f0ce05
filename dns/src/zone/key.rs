//! Names as keys: the wire form in lower case, without the root's zero, so that a dot inside a label is never mistaken
//! for one between labels.

use hickory_proto::rr::Name;

/// Longest label (RFC 1035 section 2.3.4).
const LABEL_MAX: usize = 63;
/// Longest name in wire form, without the root's zero.
const NAME_MAX: usize = 254;

/// A name, or the front part of one, as a key.
pub(super) type Key = Box<[u8]>;

/// The key of a name in a question, without allocating.
pub(super) struct Wire {
    bytes: [u8; NAME_MAX],
    len: usize,
}

impl Wire {
    pub(super) fn of(name: &Name) -> Self {
        let mut wire = Self { bytes: [0; NAME_MAX], len: 0 };
        for label in name.iter() {
            wire.push(label);
        }
        wire
    }

    /// A [`Name`] is never longer than what fits, so nothing is lost.
    fn push(&mut self, label: &[u8]) {
        let Some(room) = self.bytes.get_mut(self.len..=self.len + label.len()) else { return };
        if let (Some((first, rest)), Ok(length)) = (room.split_first_mut(), u8::try_from(label.len())) {
            *first = length;
            rest.copy_from_slice(label);
            rest.make_ascii_lowercase();
            self.len += 1 + label.len();
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The key of a name written with dots; `None` when a label is empty or too long, or the whole too long.
pub(super) fn key(dotted: &str) -> Option<Key> {
    let mut key = Vec::with_capacity(dotted.len() + 1);
    for label in dotted.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..=LABEL_MAX).contains(&usize::from(*n)))?;
        key.push(length);
        key.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    (key.len() <= NAME_MAX).then(|| key.into())
}

/// A key as people write it.
pub(super) fn shown(key: &[u8]) -> String {
    let labels: Vec<_> = labels(key).map(String::from_utf8_lossy).collect();
    labels.join(".")
}

/// The labels of a key, from the left.
pub(super) fn labels(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = key;
    std::iter::from_fn(move || {
        let (label, after) = split_label(rest)?;
        rest = after;
        Some(label)
    })
}

/// The first label and the rest; `None` at the end.
pub(super) fn split_label(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = key.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// The key and each name above it, the empty one last.
pub(super) fn ancestors(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(key), |key| split_label(key).map(|(_, parent)| parent))
}

/// Any text as one label: lower case, characters outside a-z 0-9 - become `-`, cut at 63. `None` when nothing is left.
pub(super) fn label(text: &str) -> Option<String> {
    let near = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '-') => c,
        _ => '-',
    };
    let label: String = text.chars().take(LABEL_MAX).map(near).collect();
    (!label.is_empty()).then_some(label)
}

/// Whether a text is a label as it stands: [`label`] changes nothing.
pub(super) fn is_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=LABEL_MAX).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_what_the_text_says_as_far_as_a_name_can() {
        for (text, want) in [
            ("web", Some("web")),
            ("My_Web.1", Some("my-web-1")),
            ("naïve", Some("na-ve")),
            ("", None),
            (&"x".repeat(80), Some(&*"x".repeat(63))),
        ] {
            assert_eq!(label(text).as_deref(), want, "{text}");
            assert_eq!(is_label(text), want == Some(text), "{text}");
        }
    }

    #[test]
    fn a_dot_inside_a_label_is_not_one_between_labels() {
        let odd = Name::from_labels([&b"a.b"[..]]).expect("a name");
        assert_ne!(Wire::of(&odd).as_slice(), &*key("a.b").expect("a key"));
        let plain = Name::from_ascii("A.b.").expect("a name");
        assert_eq!(Wire::of(&plain).as_slice(), &*key("a.B").expect("a key"));
    }

    #[test]
    fn the_longest_name_fits() {
        let dotted = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        let name = Name::from_ascii(&dotted).expect("254 octets and the root");
        assert_eq!(Wire::of(&name).as_slice(), &*key(&dotted).expect("a key"));
        assert_eq!(key(&format!("{dotted}b")), None);
    }

    #[test]
    fn empty_labels_have_no_key() {
        for text in ["", ".", "a..b", "a.", ".a"] {
            assert_eq!(key(text), None, "{text:?}");
        }
    }

    #[test]
    fn ancestors_end_at_the_apex() {
        let key = key("v1.web.shop").expect("a key");
        let shown: Vec<_> = ancestors(&key).map(shown).collect();
        assert_eq!(shown, ["v1.web.shop", "web.shop", "shop", ""]);
    }
}
