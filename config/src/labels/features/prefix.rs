//! `fairway.strip_prefix` and `fairway.add_prefix`: another path for the instance than for the client.

use std::sync::Arc;

use super::super::flaw::{Flaw, shown};
use super::super::path::parse_path;

/// What is taken from the front of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StripPrefix {
    /// `true`: the path of the route.
    Route,
    /// This prefix, where the path has it: from its leading `/`, without one at its end.
    Path(Arc<str>),
}

/// `true`, `false`, or a path.
pub(super) fn strip<'a>(
    value: &'a str,
    found: &mut Vec<(&'a str, Flaw)>,
) -> Result<Option<StripPrefix>, Flaw> {
    match () {
        () if value.eq_ignore_ascii_case("true") => Ok(Some(StripPrefix::Route)),
        () if value.eq_ignore_ascii_case("false") => Ok(None),
        () => path(value, "`true` for the route's own path, or a path: `/api`", found)
            .map(|path| Some(StripPrefix::Path(path))),
    }
}

/// A path.
pub(super) fn add<'a>(value: &'a str, found: &mut Vec<(&'a str, Flaw)>) -> Result<Arc<str>, Flaw> {
    path(value, "a path: `/v2`", found)
}

fn path<'a>(value: &'a str, form: &str, found: &mut Vec<(&'a str, Flaw)>) -> Result<Arc<str>, Flaw> {
    if !value.starts_with('/') {
        let text = format!("`{}` is no path", shown(value));
        return Err(Flaw::refused("label-prefix", text, format!("write {form}")));
    }
    let mut warnings = Vec::new();
    let path = parse_path(value, &mut warnings)?;
    found.extend(warnings.into_iter().map(|flaw| (value, flaw)));
    if &*path == "/" {
        let text = "`/` is in front of every path already";
        return Err(Flaw::refused("label-prefix", text, format!("write {form}; or leave it out")));
    }
    if path.contains(' ') || path.contains(['{', '}', '|', '^']) {
        let text = format!("no request can have the path `{}`", shown(&path));
        return Err(Flaw::refused(
            "label-prefix",
            text,
            "write such characters percent-encoded, `%20` for a space",
        ));
    }
    Ok(path)
}
