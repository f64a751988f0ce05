//! Whose container it is: project, service and version, from labels, compose, swarm, or its name.

use std::collections::HashMap;
use std::sync::Arc;

use fairway_config::labels::ServiceSpec;
use fairway_config::names::BackendId;

use super::image;

const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_ONE_OFF: &str = "com.docker.compose.oneoff";
const SWARM_SERVICE: &str = "com.docker.swarm.service.name";
const STACK: &str = "com.docker.stack.namespace";

/// Longest part of a name, in characters.
const NAME_CHARS_MAX: usize = 128;

/// The labels of others that say whose a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The compose project or swarm stack.
    pub(super) project: Option<Arc<str>>,
    /// The compose or swarm service.
    service: Option<Arc<str>>,
    /// `docker compose run`: never exposed.
    pub(super) one_off: bool,
}

impl Origin {
    /// Reads them. A swarm service of a stack is named as in its compose file, without `stack_` in front.
    pub(super) fn of(labels: &HashMap<String, String>) -> Self {
        let get = |key: &str| labels.get(key).map(String::as_str).and_then(plain);
        let one_off = labels.get(COMPOSE_ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if let Some(service) = get(COMPOSE_SERVICE) {
            return Self { project: get(COMPOSE_PROJECT), service: Some(service), one_off };
        }
        let stack = get(STACK);
        let service = get(SWARM_SERVICE).map(|service| {
            let prefix = stack.as_deref().map(|stack| format!("{stack}_"));
            let short = prefix.and_then(|prefix| service.strip_prefix(&prefix).and_then(plain));
            short.unwrap_or(service)
        });
        Self { project: stack.filter(|_| service.is_some()), service, one_off }
    }
}

/// The backend of a container: each part from our label, else from compose or swarm; without a service there the
/// container's name is the service, in no project.
pub(super) fn backend(
    spec: &ServiceSpec,
    origin: &Origin,
    name: &str,
    image_reference: &str,
    image_id: &str,
) -> BackendId {
    let project = spec.project.clone().or_else(|| origin.project.clone());
    let service = spec.service.clone().or_else(|| origin.service.clone()).or_else(|| plain(name));
    let version = spec.version.clone().unwrap_or_else(|| image::version(image_reference, image_id));
    BackendId { project, service: service.unwrap_or_else(|| "unnamed".into()), version }
}

/// The nearest name to what others wrote: `/` and `@` would be read as parts of a backend's name, and no label reaches a
/// log or a zone unescaped.
fn plain(text: &str) -> Option<Arc<str>> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text = text.trim().trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let near: String = text.chars().take(NAME_CHARS_MAX).map(|c| if fits(c) { c } else { '-' }).collect();
    (!near.is_empty()).then(|| near.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(labels: &[(&str, &str)]) -> String {
        let map = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let spec = fairway_config::labels::parse(labels.iter().copied()).spec;
        backend(&spec, &Origin::of(&map), "shop-web-1", "web:v7", "sha256:00").to_string()
    }

    #[test]
    fn each_part_comes_from_the_most_explicit_label() {
        let compose = [(COMPOSE_PROJECT, "shop"), (COMPOSE_SERVICE, "web")];
        let with = |more: &[(&'static str, &'static str)]| named(&[&compose[..], more].concat());
        assert_eq!(named(&[]), "shop-web-1@v7");
        assert_eq!(named(&compose), "shop/web@v7");
        assert_eq!(with(&[("fairway.service", "front")]), "shop/front@v7");
        assert_eq!(with(&[("fairway.project", "mall")]), "mall/web@v7");
        assert_eq!(with(&[("fairway.version", "blue")]), "shop/web@blue");
        assert_eq!(with(&[(SWARM_SERVICE, "other"), (STACK, "stack")]), "shop/web@v7");
        assert_eq!(named(&[("fairway.project", "mall")]), "mall/shop-web-1@v7");
    }

    #[test]
    fn a_swarm_service_is_named_as_in_its_stack_file() {
        assert_eq!(named(&[(SWARM_SERVICE, "stack_web"), (STACK, "stack")]), "stack/web@v7");
        assert_eq!(named(&[(SWARM_SERVICE, "stack_web")]), "stack_web@v7");
        assert_eq!(named(&[(SWARM_SERVICE, "other"), (STACK, "stack")]), "stack/other@v7");
        assert_eq!(named(&[(SWARM_SERVICE, "stack_"), (STACK, "stack")]), "stack/stack_@v7");
        assert_eq!(named(&[(STACK, "stack")]), "shop-web-1@v7");
    }

    #[test]
    fn a_name_that_would_read_as_another_backend_is_made_plain() {
        let long = "p".repeat(300);
        for (project, service, want) in [
            ("a/b", "c@d", "a-b/c-d@v7".to_owned()),
            ("-a", "\u{1b}[31mred", "a/31mred@v7".to_owned()),
            ("/@", "web", "web@v7".to_owned()),
            (&long, "web", format!("{}/web@v7", &long[..128])),
        ] {
            let got = named(&[(COMPOSE_PROJECT, project), (COMPOSE_SERVICE, service)]);
            assert_eq!(got, want, "{project} {service}");
            assert_eq!(got.parse::<BackendId>().expect("prints what parses").to_string(), want);
        }
    }

    #[test]
    fn a_one_off_container_is_known_by_its_label() {
        for (value, want) in [("True", true), ("true", true), ("False", false), ("", false)] {
            let labels = HashMap::from([(COMPOSE_ONE_OFF.to_owned(), value.to_owned())]);
            assert_eq!(Origin::of(&labels).one_off, want, "{value}");
        }
    }
}
