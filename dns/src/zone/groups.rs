//! Services with their backends, and the units behind them: what names are made from.
//!
//! Not here: which names they get (see `index`).

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fairway_catalog::config::names::BackendId;
use fairway_catalog::{Backend, Catalog, Problem, Unit};

use super::index::collision;
use super::key;

/// A project; "no project" is one, too.
pub(super) type Project = Option<Arc<str>>;

/// All backends of one service of one project.
pub(super) struct Group<'a> {
    pub(super) project: Project,
    pub(super) service: Arc<str>,
    pub(super) project_label: Option<String>,
    pub(super) label: String,
    pub(super) backends: Vec<&'a Arc<Backend>>,
}

impl Group<'_> {
    /// `<service>.<project>`, or `<service>` without a project.
    pub(super) fn dotted(&self) -> String {
        match &self.project_label {
            Some(project) => format!("{}.{project}", self.label),
            None => self.label.clone(),
        }
    }

    pub(super) fn subject(&self) -> String {
        match &self.project {
            Some(project) => format!("{project}/{}", self.service),
            None => self.service.to_string(),
        }
    }
}

/// The services that have their names; of two whose names are alike, the one that is written so, else the first.
pub(super) struct Groups<'a>(Vec<Group<'a>>);

impl<'a> Groups<'a> {
    pub(super) fn all(&self) -> &[Group<'a>] {
        &self.0
    }

    pub(super) fn of(catalog: &'a Catalog, problems: &mut Vec<Problem>) -> Self {
        let mut by_name: BTreeMap<(Project, &Arc<str>), Vec<&'a Arc<Backend>>> = BTreeMap::new();
        for backend in catalog.backends.values() {
            by_name.entry((backend.id.project.clone(), &backend.id.service)).or_default().push(backend);
        }
        let mut groups: Vec<Group<'a>> = Vec::with_capacity(by_name.len());
        for ((project, service), backends) in by_name {
            let Some(label) = key::label(service) else { continue };
            let project_label = project.as_deref().and_then(key::label);
            groups.push(Group { project, service: service.clone(), project_label, label, backends });
        }
        groups.sort_by_cached_key(|group| {
            !(key::is_label(&group.service) && group.project.as_deref().is_none_or(key::is_label))
        });
        let mut owners: HashMap<(Option<String>, String), String> = HashMap::new();
        groups.retain(|group| match owners.entry((group.project_label.clone(), group.label.clone())) {
            Slot::Vacant(free) => {
                free.insert(group.subject());
                true
            }
            Slot::Occupied(owner) => {
                problems.push(collision(
                    &group.subject(),
                    &group.dotted(),
                    &format!("the service {}", owner.get()),
                ));
                false
            }
        });
        Self(groups)
    }
}

/// Every container and static instance once, with its backend.
pub(super) fn units(catalog: &Catalog) -> Vec<(&Arc<Unit>, &BackendId)> {
    let instances = catalog
        .backends
        .values()
        .flat_map(|backend| backend.instances.iter().map(|i| (&i.unit, &backend.id)));
    let mut units: Vec<(&Arc<Unit>, &BackendId)> = instances.collect();
    units.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    units.dedup_by(|(a, _), (b, _)| a.id == b.id);
    units
}
