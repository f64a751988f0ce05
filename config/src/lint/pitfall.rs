//! What YAML and Compose do to a value between the file and the label.

use crate::labels::features::is_secret;
use crate::labels::{Severity, shown};

/// Something that is wrong with the file though perhaps not with the label.
pub(super) struct Pitfall {
    pub(super) kind: &'static str,
    pub(super) severity: Severity,
    pub(super) text: String,
    pub(super) remedy: String,
}

/// A key whose family is one or two letters away from one of ours.
pub(super) fn misspelt_family(key: &str) -> Option<String> {
    let (family, rest) = key.split_once(['.', '_'])?;
    let near = |ours: &str| {
        family.len() < 12 && (1..=2).contains(&strsim::osa_distance(&family.to_ascii_lowercase(), ours))
    };
    let ours = ["aliyun", "fairway"].into_iter().find(|ours| near(ours))?;
    Some(format!("{ours}.{}", shown(rest)))
}

pub(super) fn needs_quotes(key: &str, value: &str) -> Pitfall {
    Pitfall {
        kind: "yaml-needs-quotes",
        severity: Severity::Error,
        text: "YAML cannot read the value without quotes".to_owned(),
        remedy: format!("put it into quotes: `{}: '{}'`", shown(key), shown(value)),
    }
}

pub(super) fn quote_item(item: &str) -> Pitfall {
    let remedy = format!("put it into quotes: `- '{}'`", shown(item));
    Pitfall { remedy, ..needs_quotes("", "") }
}

pub(super) fn unquoted_pitfall(written: &str, becomes: &str) -> Pitfall {
    Pitfall {
        kind: "yaml-unquoted",
        severity: Severity::Warning,
        text: format!("without quotes `{}` can become `{becomes}`", shown(written)),
        remedy: format!("put it into quotes: `'{}'`", shown(written)),
    }
}

pub(super) fn map_in_list(key: &str, value: &str) -> Pitfall {
    Pitfall {
        kind: "yaml-map-in-list",
        severity: Severity::Error,
        text: "the label is a map inside a list, which Compose refuses".to_owned(),
        remedy: format!("write `- {}={}`", shown(key), shown(value)),
    }
}

/// A `$` in a password's hash that Compose takes for the start of a variable.
pub(super) fn lone_dollar(key: &str, written: &str) -> Option<Pitfall> {
    let is_lone = is_secret(key) && written.replace("$$", "").contains('$');
    is_lone.then(|| Pitfall {
        kind: "yaml-dollar",
        severity: Severity::Error,
        text: "Compose reads a `$` as the start of a variable, and the hash would lose a part".to_owned(),
        remedy: "write each `$` of the hash as `$$`".to_owned(),
    })
}

/// Compose puts variables in before it starts a container. Which are set is not known here, but a default is:
/// `${NAME:-default}` and `${NAME-default}` are read as the default. `$$` stands for one `$`.
pub(super) fn with_defaults(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((default, after)) = default_of(rest) {
            out.push_str(default);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

/// The default in `{NAME:-default}` or `{NAME-default}`, and what follows.
fn default_of(text: &str) -> Option<(&str, &str)> {
    let (inside, after) = text.strip_prefix('{')?.split_once('}')?;
    let name =
        inside.len() - inside.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
    let default = inside[name..].strip_prefix(":-").or_else(|| inside[name..].strip_prefix('-'))?;
    (name > 0).then_some((default, after))
}
