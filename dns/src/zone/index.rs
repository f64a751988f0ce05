//! Which names there are and what each leads to, in the order of precedence: routed names, services, containers,
//! `<service>.<project>`, `<version>.<service>.<project>`.
//!
//! Every name is relative and exists in each zone. Not here: what stands at a name (see `node`), which changes far more
//! often.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::config::names::{BackendId, HostPattern, RouteId};
use fairway_catalog::facts::UnitKind;
use fairway_catalog::{Catalog, Problem, Unit};

use super::groups::{Group, Groups, Project, units};
use super::key::{self, Key};

/// The name of this server, below each zone; two labels, so that no service of that name is hidden by it.
pub(super) const NAME_SERVER: &str = "ns.dns";

/// The place of a node in the zone's list.
pub(super) type NodeId = u32;

/// What a node is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// This server.
    NameServer,
    /// The routes of one host, the one with the shortest path first.
    Routed(Vec<RouteId>),
    /// All instances of these backends.
    Backends(Vec<BackendId>),
    /// One container.
    Unit { backend: BackendId, unit: Arc<str> },
    /// An address, for an instance that no other name leads to alone.
    Fixed(IpAddr),
}

/// What a name leads to.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// For everybody; `None` when only names below exist, or only clients of some projects see it.
    pub(super) public: Option<NodeId>,
    /// A service that several projects have: each for its own clients.
    pub(super) of_projects: Vec<(Project, NodeId)>,
    /// Whether others are below it: then it exists for everybody (RFC 8020).
    pub(super) has_below: bool,
}

/// The names and where they lead.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) names: HashMap<Key, Entry>,
    /// Routed `*.x`, by `x`.
    pub(super) wildcards: HashMap<Key, NodeId>,
    /// What each node is made of.
    pub(super) sources: Vec<Source>,
    /// The nodes that a backend takes part in.
    pub(super) of_backend: HashMap<BackendId, Vec<NodeId>>,
    /// Names of addresses, relative to the first zone.
    pub(super) reverse: HashMap<IpAddr, Vec<Key>>,
    /// The project of a client by its address; `None` where several share it.
    projects: HashMap<IpAddr, Option<Project>>,
    /// The name that leads to one unit alone.
    targets: HashMap<Arc<str>, Key>,
    pub(super) problems: Vec<Problem>,
}

impl Index {
    /// Pure. `zones`: under which a routed host counts.
    pub(super) fn build(catalog: &Catalog, zones: &[Arc<str>]) -> Self {
        let mut index = Self::default();
        let server = index.add(Source::NameServer);
        if let Some(name) = key::key(NAME_SERVER) {
            index.names.insert(name, Entry { public: Some(server), ..Entry::default() });
        }
        index.add_routed(catalog, zones);
        let groups = Groups::of(catalog, &mut index.problems);
        let group_nodes = index.add_group_nodes(&groups);
        index.add_services(&groups, &group_nodes, catalog);
        let units = units(catalog);
        index.add_containers(&units, catalog);
        index.add_services_of_projects(&groups, &group_nodes, catalog);
        index.add_versions(&groups, catalog);
        index.add_targets(&units);
        index.add_reverse(&units, &groups);
        index.add_clients(&units);
        index.add_names_between();
        index
    }

    /// The project of the client at this address, where it is known.
    pub(super) fn project_of(&self, client: IpAddr) -> Option<&Project> {
        self.projects.get(&client).and_then(Option::as_ref)
    }

    /// The name that leads to this unit alone.
    pub(super) fn target_of(&self, unit: &str) -> Option<&[u8]> {
        self.targets.get(unit).map(|key| &**key)
    }

    fn add(&mut self, source: Source) -> NodeId {
        let id = NodeId::try_from(self.sources.len()).unwrap_or(NodeId::MAX);
        match &source {
            Source::Backends(backends) => {
                for backend in backends {
                    self.of_backend.entry(backend.clone()).or_default().push(id);
                }
            }
            Source::Unit { backend, .. } => self.of_backend.entry(backend.clone()).or_default().push(id),
            Source::NameServer | Source::Routed(_) | Source::Fixed(_) => {}
        }
        self.sources.push(source);
        id
    }

    fn add_routed(&mut self, catalog: &Catalog, zones: &[Arc<str>]) {
        let mut exact: BTreeMap<Key, Vec<RouteId>> = BTreeMap::new();
        let mut wildcards: BTreeMap<Key, Vec<RouteId>> = BTreeMap::new();
        for id in catalog.routes.keys().filter(|id| id.front_port().is_none()) {
            let Some(relative) = relative(id.host.name(), zones) else { continue };
            let names = match id.host {
                HostPattern::Exact(_) => &mut exact,
                HostPattern::Wildcard(_) => &mut wildcards,
            };
            names.entry(relative).or_default().push(id.clone());
        }
        for (name, routes) in exact {
            let node = self.add(Source::Routed(routes));
            self.names.entry(name).or_insert(Entry { public: Some(node), ..Entry::default() });
        }
        for (name, routes) in wildcards {
            let node = self.add(Source::Routed(routes));
            self.wildcards.insert(name, node);
        }
    }

    /// One node for each service, shared by its names.
    fn add_group_nodes(&mut self, groups: &Groups<'_>) -> Vec<NodeId> {
        let source =
            |group: &Group<'_>| Source::Backends(group.backends.iter().map(|b| b.id.clone()).collect());
        groups.all().iter().map(source).map(|source| self.add(source)).collect()
    }

    /// `<service>`: for everybody when one project has it, else for the clients of each project.
    fn add_services(&mut self, groups: &Groups<'_>, nodes: &[NodeId], catalog: &Catalog) {
        let mut by_name: BTreeMap<&str, Vec<(&Group<'_>, NodeId)>> = BTreeMap::new();
        for (group, node) in groups.all().iter().zip(nodes) {
            by_name.entry(&group.label).or_default().push((group, *node));
        }
        for (name, groups) in by_name {
            let Some(name) = key::key(name) else { continue };
            match groups.as_slice() {
                [(group, node)] => self.claim(name, *node, &group.subject(), catalog),
                several if !self.names.contains_key(&name) => {
                    let of_projects =
                        several.iter().map(|(group, node)| (group.project.clone(), *node)).collect();
                    self.names.insert(name, Entry { of_projects, ..Entry::default() });
                }
                several => {
                    several
                        .iter()
                        .for_each(|(group, node)| self.claim(name.clone(), *node, &group.subject(), catalog));
                }
            }
        }
    }

    /// `<container>`. The same name on two engines, or two names alike: the older container has it.
    fn add_containers(&mut self, units: &[(&Arc<Unit>, &BackendId)], catalog: &Catalog) {
        let mut containers: Vec<_> =
            units.iter().filter(|(unit, _)| unit.kind == UnitKind::Container).collect();
        containers
            .sort_by_cached_key(|(unit, _)| (!key::is_label(&unit.name), unit.created, unit.id.clone()));
        let mut owners: HashMap<String, &Arc<Unit>> = HashMap::new();
        for (unit, backend) in containers {
            let Some(label) = key::label(&unit.name) else { continue };
            match owners.entry(label) {
                Slot::Occupied(owner) => {
                    self.problems.push(collision(
                        &unit.name,
                        owner.key(),
                        &format!("the container {}", owner.get().name),
                    ));
                }
                Slot::Vacant(free) => {
                    if let Some(name) = key::key(free.key()) {
                        let source = Source::Unit { backend: (*backend).clone(), unit: unit.id.clone() };
                        let node = self.add(source);
                        self.claim(name, node, &unit.name, catalog);
                    }
                    free.insert(unit);
                }
            }
        }
    }

    /// `<service>.<project>`.
    fn add_services_of_projects(&mut self, groups: &Groups<'_>, nodes: &[NodeId], catalog: &Catalog) {
        for (group, node) in groups.all().iter().zip(nodes) {
            if let Some(name) = group.project_label.as_ref().and_then(|_| key::key(&group.dotted())) {
                self.claim(name, *node, &group.subject(), catalog);
            }
        }
    }

    /// `<version>.<service>.<project>`; for a service without a project `<version>.<service>`.
    fn add_versions(&mut self, groups: &Groups<'_>, catalog: &Catalog) {
        for group in groups.all() {
            let mut backends = group.backends.clone();
            backends.sort_by_key(|backend| (!key::is_label(backend.id.version.as_str()), backend.id.clone()));
            let mut owners: HashMap<String, &BackendId> = HashMap::new();
            for backend in backends {
                let Some(label) = key::label(backend.id.version.as_str()) else { continue };
                let name = format!("{label}.{}", group.dotted());
                if let Some(owner) = owners.get(&label) {
                    self.problems.push(collision(&backend.id.to_string(), &name, &owner.to_string()));
                    continue;
                }
                owners.insert(label, &backend.id);
                if let Some(name) = key::key(&name) {
                    let node = self.add(Source::Backends(vec![backend.id.clone()]));
                    self.claim(name, node, &backend.id.to_string(), catalog);
                }
            }
        }
    }

    /// Gives a name away unless a stronger claim has it. Hidden behind something that it is no part of: a problem.
    fn claim(&mut self, name: Key, node: NodeId, subject: &str, catalog: &Catalog) {
        let entry = self.names.entry(name.clone()).or_default();
        let stronger: Vec<NodeId> = match entry.public {
            None if entry.of_projects.is_empty() => {
                entry.public = Some(node);
                return;
            }
            None => {
                // Who sees no service of this name sees the container.
                entry.public = Some(node);
                entry.of_projects.iter().map(|(_, node)| *node).collect()
            }
            Some(other) => vec![other],
        };
        let own = self.backends_of(node, catalog);
        let hidden =
            !stronger.iter().any(|other| self.backends_of(*other, catalog).iter().any(|b| own.contains(b)));
        if let (true, Some(owner)) = (hidden, stronger.first()) {
            let owner = self.describe(*owner);
            self.problems.push(collision(subject, &key::shown(&name), &owner));
        }
    }

    fn backends_of<'a>(&'a self, node: NodeId, catalog: &'a Catalog) -> Vec<&'a BackendId> {
        match self.sources.get(node as usize) {
            Some(Source::Routed(routes)) => {
                let routes = routes.iter().filter_map(|id| catalog.routes.get(id));
                routes.flat_map(|route| &route.members).map(|member| &member.backend.id).collect()
            }
            Some(Source::Backends(backends)) => backends.iter().collect(),
            Some(Source::Unit { backend, .. }) => vec![backend],
            Some(Source::NameServer | Source::Fixed(_)) | None => Vec::new(),
        }
    }

    fn describe(&self, node: NodeId) -> String {
        match self.sources.get(node as usize) {
            Some(Source::Routed(routes)) => match routes.first() {
                Some(route) => format!("the route {route}"),
                None => "a route".to_owned(),
            },
            Some(Source::Backends(backends)) => match backends.first() {
                Some(id) => format!("the service of {id}"),
                None => "a service".to_owned(),
            },
            Some(Source::Unit { unit, .. }) => format!("the container {}", unit.get(..12).unwrap_or(unit)),
            Some(Source::NameServer | Source::Fixed(_)) | None => "this name server".to_owned(),
        }
    }

    /// A name that leads to each unit alone, for SRV: its container's, else one made from its address.
    fn add_targets(&mut self, units: &[(&Arc<Unit>, &BackendId)]) {
        for (unit, backend) in units {
            let Some(ip) = unit.ip else { continue };
            let own = key::label(&unit.name)
                .and_then(|label| key::key(&label))
                .filter(|name| self.leads_to(name, unit));
            let Some(name) = own.or_else(|| self.add_address(ip, backend)) else { continue };
            self.targets.insert(unit.id.clone(), name);
        }
    }

    fn leads_to(&self, name: &[u8], unit: &Unit) -> bool {
        let Some(Entry { public: Some(node), of_projects, .. }) = self.names.get(name) else { return false };
        of_projects.is_empty()
            && matches!(self.sources.get(*node as usize), Some(Source::Unit { unit: other, .. }) if *other == unit.id)
    }

    /// `ip-10-0-0-7.<version>.<service>.<project>`.
    fn add_address(&mut self, ip: IpAddr, backend: &BackendId) -> Option<Key> {
        let mut labels = vec![
            format!("ip-{}", ip.to_canonical()),
            backend.version.to_string(),
            backend.service.to_string(),
        ];
        labels.extend(backend.project.iter().map(ToString::to_string));
        let labels: Option<Vec<String>> = labels.iter().map(|text| key::label(text)).collect();
        let name = key::key(&labels?.join("."))?;
        let known = self.names.get(&name).and_then(|entry| entry.public);
        match known.and_then(|node| self.sources.get(node as usize)) {
            Some(Source::Fixed(other)) if *other == ip => return Some(name),
            Some(_) => return None,
            None => {}
        }
        let node = self.add(Source::Fixed(ip));
        self.names.entry(name.clone()).or_default().public = Some(node);
        Some(name)
    }

    /// An address is its container; a static one is its service.
    fn add_reverse(&mut self, units: &[(&Arc<Unit>, &BackendId)], groups: &Groups<'_>) {
        let of_backend =
            groups.all().iter().flat_map(|group| group.backends.iter().map(move |b| (&b.id, group)));
        let of_backend: HashMap<&BackendId, &Group<'_>> = of_backend.collect();
        for (unit, backend) in units {
            let Some(ip) = unit.ip else { continue };
            let name = match unit.kind {
                UnitKind::Container => self.targets.get(&unit.id).cloned(),
                UnitKind::Static => of_backend.get(backend).and_then(|group| key::key(&group.dotted())),
            };
            let names = self.reverse.entry(ip.to_canonical()).or_default();
            if let Some(name) = name.filter(|name| !names.contains(name)) {
                names.push(name);
            }
        }
    }

    fn add_clients(&mut self, units: &[(&Arc<Unit>, &BackendId)]) {
        for (unit, backend) in units {
            let Some(ip) = unit.ip else { continue };
            match self.projects.entry(ip.to_canonical()) {
                Slot::Vacant(free) => {
                    free.insert(Some(backend.project.clone()));
                }
                Slot::Occupied(mut known) => {
                    if known.get().as_ref() != Some(&backend.project) {
                        known.insert(None);
                    }
                }
            }
        }
    }

    /// Names that exist because others are below them (RFC 4592 section 2.2.2).
    fn add_names_between(&mut self) {
        let names: Vec<Key> = self.names.keys().cloned().collect();
        let below_names = names.iter().flat_map(|name| key::ancestors(name).skip(1));
        let wildcards: Vec<Key> = self.wildcards.keys().cloned().collect();
        for above in below_names.chain(wildcards.iter().flat_map(|name| key::ancestors(name))) {
            match self.names.get_mut(above) {
                Some(entry) => entry.has_below = true,
                None => {
                    self.names.insert(above.into(), Entry { has_below: true, ..Entry::default() });
                }
            }
        }
    }
}

/// The part of a host before the longest zone that it is in; empty for the zone itself. A `.local` host counts in every
/// zone, whether `local` is one or not.
fn relative(host: &str, zones: &[Arc<str>]) -> Option<Key> {
    let under = |zone: &str| {
        let front = host.strip_suffix(zone)?;
        if front.is_empty() { Some("") } else { front.strip_suffix('.') }
    };
    let local = "local";
    let zones = zones.iter().map(|zone| &**zone).chain([local]);
    let front =
        zones.filter_map(|zone| under(zone).map(|front| (zone.len(), front))).max_by_key(|(len, _)| *len)?.1;
    if front.is_empty() { Some(Key::default()) } else { key::key(front) }
}

/// A name that somebody else has.
pub(super) fn collision(subject: &str, name: &str, owner: &str) -> Problem {
    let text = format!("{subject} would be `{name}` in the DNS, but {owner} has that name");
    let remedy = "give one of them another name, or ask for it by a longer one, `<service>.<project>`";
    Problem::new("dns-name-collision", Severity::Warning, subject, text, remedy).at("", name)
}
