//! What a name in a path leads to; else the names that are near it.

use std::collections::BTreeSet;
use std::sync::Arc;

use fairway_catalog::model::NotOneBackend;
use fairway_catalog::{Backend, Catalog, Instance, Route};
use fairway_config::names::RouteId;

use super::OrderError;

/// Most names that a refusal offers.
const NEAR_MAX: usize = 8;
/// How alike two names are at least (Jaro-Winkler), that one is offered for the other.
const NEAR: f64 = 0.75;

/// The route of this name.
pub(crate) fn find_route(catalog: &Catalog, name: &str) -> Result<Arc<Route>, OrderError> {
    let id = name.parse::<RouteId>().ok();
    id.and_then(|id| catalog.routes.get(&id)).cloned().ok_or_else(|| {
        let near = near(name, catalog.routes.keys());
        OrderError::UnknownRoute { given: name.to_owned(), near: near.into_iter().cloned().collect() }
    })
}

/// The backend that this reference leads to.
pub(crate) fn find_backend(catalog: &Catalog, reference: &str) -> Result<Arc<Backend>, OrderError> {
    match Catalog::resolve_backend(reference, catalog.backends.keys()) {
        Ok(id) => {
            let unknown = || OrderError::UnknownBackend { given: reference.to_owned(), known: Vec::new() };
            catalog.backends.get(&id).cloned().ok_or_else(unknown)
        }
        Err(NotOneBackend::Unknown { reference, mut known }) => {
            if known.len() > NEAR_MAX {
                let near = near(&reference, known.iter()).into_iter().cloned().collect();
                known = near;
            }
            Err(OrderError::UnknownBackend { given: reference, known })
        }
        Err(NotOneBackend::Ambiguous { reference, candidates }) => Err(OrderError::Ambiguous {
            given: reference,
            candidates: candidates.iter().map(ToString::to_string).collect(),
        }),
    }
}

/// One instance, or all ports of one container, by id.
pub(crate) fn find_instances(catalog: &Catalog, reference: &str) -> Result<Vec<Arc<Instance>>, OrderError> {
    let found = catalog.instances_named(reference);
    let containers: BTreeSet<&str> = found.iter().map(|instance| &*instance.unit.id).collect();
    if containers.len() > 1 {
        let candidates = found.iter().map(|instance| instance.id.to_string()).collect();
        return Err(OrderError::Ambiguous { given: reference.to_owned(), candidates });
    }
    if found.is_empty() {
        let ids = catalog.instances.keys().map(ToString::to_string);
        let names = catalog.instances.values().map(|instance| instance.unit.name.to_string());
        let known: BTreeSet<String> = ids.chain(names).collect();
        let near = near(reference, known.iter()).into_iter().cloned().collect();
        return Err(OrderError::UnknownInstance { given: reference.to_owned(), near });
    }
    Ok(found)
}

/// The names that look like this one, the nearest first.
fn near<'a, T: ToString>(name: &str, known: impl Iterator<Item = &'a T>) -> Vec<&'a T> {
    // What is compared is bounded, so that a long name costs no more than a short one.
    let name: String = name.chars().take(256).collect();
    let score = |known: &'a T| (strsim::jaro_winkler(&name, &known.to_string()), known);
    let mut scored: Vec<(f64, &T)> = known.map(score).filter(|(score, _)| *score >= NEAR).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(NEAR_MAX).map(|(_, known)| known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_the_nearest_first_and_far_ones_not() {
        let known = ["shop.company.com/", "shop.company.com/api", "blog.other.org/"].map(str::to_owned);
        assert_eq!(near("shop.company.com/ap", known.iter()), [&known[1], &known[0]]);
        assert!(near("zzz", known.iter()).is_empty());
    }
}
