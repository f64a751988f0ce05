//! The routes of one host by path prefix: whole segments, compared octet by octet, the longest wins.

use std::sync::Arc;

/// The number of a route within its table.
pub(super) type RouteIndex = u32;

const NONE: u32 = u32::MAX;

/// The path prefixes of one host.
#[derive(Debug)]
pub(super) enum Paths {
    /// By far the most hosts have one route.
    One(Arc<str>, RouteIndex),
    /// Sorted by octets.
    Many(Box<[Prefix]>),
}

#[derive(Debug)]
pub(super) struct Prefix {
    path: Arc<str>,
    route: RouteIndex,
    /// The longest of the others that this one begins with, octet by octet; `NONE` if there is none.
    shorter: u32,
}

impl Paths {
    /// From prefixes that are all different.
    pub(super) fn new(mut prefixes: Vec<(Arc<str>, RouteIndex)>) -> Self {
        if prefixes.len() == 1
            && let Some((path, route)) = prefixes.pop()
        {
            return Self::One(path, route);
        }
        prefixes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut sorted: Vec<Prefix> = Vec::with_capacity(prefixes.len());
        for (path, route) in prefixes {
            // What the path before this one does not begin with, this one does not either: the chain is enough.
            let mut shorter = index(sorted.len()).wrapping_sub(1);
            while let Some(before) = sorted.get(shorter as usize) {
                if path.starts_with(&*before.path) {
                    break;
                }
                shorter = before.shorter;
            }
            sorted.push(Prefix { path, route, shorter });
        }
        Self::Many(sorted.into())
    }

    /// The route with the longest prefix that covers `path`.
    pub(super) fn find(&self, path: &str) -> Option<RouteIndex> {
        match self {
            Self::One(prefix, route) => covers(prefix, path).then_some(*route),
            // Everything that begins `path` also begins the greatest prefix that is not greater than `path`.
            Self::Many(sorted) => {
                let mut at = index(sorted.partition_point(|prefix| &*prefix.path <= path)).wrapping_sub(1);
                loop {
                    let prefix = sorted.get(at as usize)?;
                    if covers(&prefix.path, path) {
                        return Some(prefix.route);
                    }
                    at = prefix.shorter;
                }
            }
        }
    }

    /// Heap memory in octets, but for the paths, which belong to the catalog.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::One(..) => 0,
            Self::Many(sorted) => size_of_val(&**sorted),
        }
    }
}

fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(NONE)
}

/// Whether `prefix` (`/`, or a path without a trailing slash) covers `path` by whole segments.
pub(crate) fn covers(prefix: &str, path: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || prefix == "/",
        // `*` of an OPTIONS request, and the empty path.
        None => prefix == "/",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        for (prefix, path, want) in [
            ("/", "/anything", true),
            ("/", "*", true),
            ("/", "", true),
            ("/api", "/api", true),
            ("/api", "/api/", true),
            ("/api", "/api/v1", true),
            ("/api", "/apix", false),
            ("/api", "/Api", false),
            ("/api", "/a", false),
            ("/api", "//api", false),
            ("/a%2fb", "/a/b", false),
            ("/a%2fb", "/a%2fb/c", true),
            ("/a%2fb", "/a%2Fb", false),
        ] {
            assert_eq!(covers(prefix, path), want, "{prefix} over {path}");
        }
    }

    fn path() -> impl Strategy<Value = String> {
        // Octets on both sides of `/` in the order, so that sorting and nesting disagree as often as they can.
        "(/[-ab0~]{0,2}){1,4}".prop_map(|path| match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            trimmed => trimmed.to_owned(),
        })
    }

    proptest! {
        #[test]
        fn the_longest_covering_prefix_is_found(
            prefixes in proptest::collection::btree_set(path(), 1..20),
            asked in path(),
        ) {
            let numbered: Vec<(Arc<str>, u32)> = prefixes.iter().map(|p| p.as_str().into()).zip(0..).collect();
            let longest = numbered.iter().filter(|(p, _)| covers(p, &asked)).max_by_key(|(p, _)| p.len());
            let want = longest.map(|(_, route)| *route);
            prop_assert_eq!(Paths::new(numbered.into_iter().rev().collect()).find(&asked), want);
        }
    }
}
