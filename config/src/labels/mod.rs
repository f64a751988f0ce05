//! The label language of containers: what `aliyun.*` and `fairway.*` labels say, as one [`ServiceSpec`].
//!
//! One bad label or one bad entry never removes a good one: what cannot be used is left out and named in a
//! [`LabelProblem`]. `[[service]]` entries of the configuration file are read by the same code.
//!
//! Here: the walk over all labels of one container, and what only several labels together can tell. Not here:
//! which keys there are (`known_keys`), and the values: `routing` with `entry`, `host` and `path`; `balancer`;
//! `probe`; `fairway` with `clients`; `features`; `limits`, those that the API sets, too; `scalar` for single words.

mod balancer;
mod clients;
mod entry;
mod fairway;
pub mod features;
mod flaw;
mod host;
mod known_keys;
mod limits;
mod path;
mod probe;
mod routing;
mod scalar;
mod spec;

use std::sync::Arc;

pub use balancer::parse_balancer;
pub(crate) use clients::network;
pub use entry::parse_entry;
pub use flaw::{Flaw, shown};
pub(crate) use host::parse_host;
use known_keys::Key;
pub(crate) use known_keys::nearest_of;
pub use limits::{Limit, RouteLimits};
pub(crate) use scalar::name as parse_name;
pub use spec::*;

/// Longest value that is looked at, in octets.
const VALUE_BYTES_MAX: usize = 16 * 1024;
/// Most labels of ours on one container that are looked at.
const LABELS_MAX: usize = 512;
/// Most problems told of one container.
const PROBLEMS_MAX: usize = 200;
/// Most services in `aliyun.depends`.
const DEPENDS_MAX: usize = 64;

/// What the labels of one container come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ParsedLabels {
    /// What can be used.
    pub spec: ServiceSpec,
    /// What cannot, or not as written; by ascending key, those of one key in the order of its value.
    pub problems: Vec<LabelProblem>,
}

/// Reads all labels of one container; those of other families are ignored.
///
/// Never fails and never panics: labels come from whoever may start a container. Equal labels in any order give
/// equal results.
pub fn parse<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> ParsedLabels {
    let mut own: Vec<_> = labels.into_iter().filter(|(key, _)| known_keys::is_ours(key)).collect();
    own.sort_unstable();
    let mut reader = Reader::default();
    for (i, (key, value)) in own.iter().copied().enumerate() {
        if i == LABELS_MAX {
            let text = format!(
                "the container has more than {LABELS_MAX} labels of ours; those from here on are left out"
            );
            reader.tell(key, value, Flaw::refused("label-too-many", text, "use fewer labels"));
            break;
        }
        if i > 0 && own[i - 1].0 == key {
            let text = format!("`{}` is there more than once", shown(key));
            reader.tell(key, value, Flaw::refused("label-duplicate-key", text, "leave all but one out"));
            continue;
        }
        reader.read(key, value.trim());
    }
    reader.finish()
}

/// Holds what was read so far.
#[derive(Default)]
struct Reader {
    spec: ServiceSpec,
    probe: probe::Draft,
    features: features::Draft,
    problems: Vec<LabelProblem>,
}

impl Reader {
    fn read(&mut self, key: &str, value: &str) {
        if let Some(flaw) = known_keys::misspelt(key, value) {
            return self.tell(key, value, flaw);
        }
        let kind = known_keys::classify(key);
        if value.len() > VALUE_BYTES_MAX && kind != Key::Ignored {
            let text = format!("the value has {} octets", value.len());
            let remedy = format!("write at most {VALUE_BYTES_MAX}");
            if let Key::Fairway(name) = kind {
                features::close(&mut self.spec.features, &mut self.features, name);
            }
            return self.tell(key, value, Flaw::refused("label-too-long", text, remedy));
        }
        let mut found = Vec::new();
        let done = self.enter(kind, value, &mut found);
        for (part, flaw) in found {
            self.tell(key, part, flaw);
        }
        if let Err(flaw) = done {
            self.tell(key, value, flaw);
        }
    }

    /// Enters one label whose key is known. Flaws of parts of the value go to `found`, with the part.
    fn enter<'v>(
        &mut self,
        key: Key<'_>,
        value: &'v str,
        found: &mut Vec<(&'v str, Flaw)>,
    ) -> Result<(), Flaw> {
        match key {
            Key::Route(port) => self.spec.ports.extend(routing::parse(port, value, found)),
            Key::Balancer(port) => {
                self.spec.balancers.push(balancer::parse(port, value)?);
                self.spec.has_own_labels = true;
            }
            Key::Aliyun(name) => self.enter_aliyun(name, value, found)?,
            Key::Fairway(name) => {
                let before = found.len();
                let is_feature =
                    features::apply(&mut self.spec.features, &mut self.features, name, value, found)?;
                if !is_feature {
                    fairway::apply(&mut self.spec, name, value, found)?;
                }
                let is_empty = match name {
                    "match" => self.spec.transport.matches.is_empty(),
                    "tls.passthrough" => self.spec.passthrough.is_none(),
                    _ => false,
                };
                let nothing_usable = is_empty && found.len() > before;
                let hides = name == "enable" && self.spec.enable == Some(false);
                self.spec.has_own_labels |= !hides && !nothing_usable;
            }
            Key::Unsupported(instead) => {
                let text = "the label is known but does nothing here";
                return Err(Flaw::warning("label-unsupported", text, instead));
            }
            Key::Proxy => self.spec.custom_proxy = true,
            Key::Ignored | Key::Unknown => {}
        }
        Ok(())
    }

    fn enter_aliyun<'v>(
        &mut self,
        name: &str,
        value: &'v str,
        found: &mut Vec<(&'v str, Flaw)>,
    ) -> Result<(), Flaw> {
        match name {
            "routing.session_sticky" => self.spec.session_sticky = Some(scalar::boolean(value)?),
            "probe.url" => {
                let mut warnings = Vec::new();
                self.probe.url = Some(probe::url(value, &mut warnings)?);
                found.extend(warnings.into_iter().map(|flaw| (value, flaw)));
                self.spec.has_own_labels = true;
            }
            "probe.cmd" => {
                self.probe.command = Some(probe::command(value)?);
                self.spec.has_own_labels = true;
            }
            "probe.timeout_seconds" => self.probe.timeout = Some(probe::timeout(value)?),
            "probe.initial_delay_seconds" => self.probe.initial_delay = Some(probe::initial_delay(value)?),
            "scale" => self.spec.scale = Some(scalar::whole(value, 0..=100_000, "")?),
            "global" => self.spec.global = scalar::boolean(value)?,
            "depends" => self.spec.depends = depends(value, found),
            "rolling_updates" => self.spec.rolling_updates = scalar::boolean(value)?,
            "rolling_updates.parallelism" => {
                self.spec.rolling_parallelism = Some(scalar::whole(value, 1..=100_000, "")?);
            }
            _ => {}
        }
        Ok(())
    }

    fn tell(&mut self, key: &str, value: &str, flaw: Flaw) {
        // Of a secret value only the parts that may be shown have become parts.
        let value = if features::is_secret(key) { "" } else { value };
        self.problems.push(flaw.at(key, value));
    }

    fn finish(mut self) -> ParsedLabels {
        if self.probe.url.is_some() && self.probe.command.is_some() {
            let text = "both a url and a command are set; the url is used";
            let shell = match &self.probe.command {
                Some(ProbeCheck::Command { shell }) => Arc::clone(shell),
                _ => Arc::default(),
            };
            self.tell(
                "aliyun.probe.cmd",
                &shell,
                Flaw::warning("label-two-probes", text, "leave one of them out"),
            );
        }
        if let Some((key, flaw)) = std::mem::take(&mut self.features).finish(&mut self.spec.features) {
            self.tell(key, "", flaw);
        }
        self.spec.probe = self.probe.finish();
        self.spec.ports.sort_by_key(|claim| claim.port);
        self.spec.balancers.sort_by_key(|claim| claim.port);
        self.problems.sort_by(|a, b| a.key.cmp(&b.key)); // stable: the order within a value stays
        if self.problems.len() > PROBLEMS_MAX {
            let left_out = self.problems.len() - PROBLEMS_MAX;
            self.problems.truncate(PROBLEMS_MAX);
            if let Some(last) = self.problems.last_mut() {
                last.text = format!("{} (and {left_out} more problems)", last.text);
            }
        }
        ParsedLabels { spec: self.spec, problems: self.problems }
    }
}

/// `aliyun.depends`: a comma list of services.
fn depends<'v>(value: &'v str, found: &mut Vec<(&'v str, Flaw)>) -> Vec<Arc<str>> {
    let mut services: Vec<Arc<str>> = Vec::new();
    for text in value.split([',', ';']).map(str::trim).filter(|text| !text.is_empty()).take(DEPENDS_MAX) {
        match scalar::name(text) {
            Ok(name) if services.contains(&name) => {}
            Ok(name) => services.push(name),
            Err(flaw) => found.push((text, flaw)),
        }
    }
    services
}

#[cfg(test)]
mod tests;
