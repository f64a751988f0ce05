//! The services below a name (SRV) and what is told about it (TXT), made when they are asked for.

use std::net::IpAddr;

use fairway_catalog::facts::UnitKind;
use fairway_catalog::{Backend, Instance};
use hickory_proto::rr::rdata::TXT;

use super::index::Index;
use super::share::{self, Part};

/// A service below a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// `_http`: every port with a route.
    Http,
    /// `_8080`.
    Port(u16),
}

impl Service {
    /// From the first label of `_http._tcp.<name>`, in lower case.
    pub(super) fn of_label(label: &[u8]) -> Option<Self> {
        match label {
            b"_http" => Some(Self::Http),
            [b'_', digits @ ..] if !digits.starts_with(b"0") && digits.iter().all(u8::is_ascii_digit) => {
                str::from_utf8(digits).ok()?.parse().ok().map(Self::Port)
            }
            _ => None,
        }
    }

    fn is_offered_by(self, backend: &Backend, instance: &Instance) -> bool {
        match self {
            Self::Http => instance.port != 0 && has_route(backend, instance),
            Self::Port(port) => instance.port == port,
        }
    }

    /// Whether it exists, which it does while no instance is ready, too.
    pub(super) fn exists(self, parts: &[Part<'_>]) -> bool {
        parts
            .iter()
            .any(|part| part.instances.iter().any(|instance| self.is_offered_by(part.backend, instance)))
    }
}

/// Whether there is any service.
pub(super) fn any_exists(parts: &[Part<'_>]) -> bool {
    parts.iter().flat_map(|part| &part.instances).any(|instance| instance.port != 0)
}

/// Whether a label or a static entry leads a route of requests to this port.
fn has_route(backend: &Backend, instance: &Instance) -> bool {
    match instance.unit.kind {
        UnitKind::Container => instance.unit.spec.ports.iter().any(|claim| claim.port == instance.port),
        UnitKind::Static => {
            backend.routes.iter().any(|route| route.front_port().is_none() && !route.is_tls())
        }
    }
}

/// One SRV record.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Relative to the zone asked.
    pub(super) name: &'a [u8],
    pub(super) address: IpAddr,
}

/// The instances that new clients of this service may be sent to, with their weights.
pub(super) fn targets<'a>(service: Service, mut parts: Vec<Part<'_>>, index: &'a Index) -> Vec<Target<'a>> {
    // The whole name decides who is the last: an instance that leaves is no answer while another port has a ready one.
    share::keep_answering(&mut parts);
    for part in &mut parts {
        let backend = part.backend;
        part.instances.retain(|instance| service.is_offered_by(backend, instance));
    }
    share::keep_weighted(&mut parts);
    let weights = share::srv_weights(&parts);
    let weighed = parts.iter().zip(weights).flat_map(|(part, weights)| part.instances.iter().zip(weights));
    weighed
        .filter_map(|(instance, weight)| {
            let name = index.target_of(&instance.unit.id)?;
            Some(Target { weight, port: instance.port, name, address: instance.unit.ip?.to_canonical() })
        })
        .collect()
}

/// What people and scripts want to know of a backend: `version=v2`, `state=active`, `ready=3`.
pub(super) fn text(part: &Part<'_>) -> TXT {
    let state = part.instances.iter().map(|instance| instance.state).min().unwrap_or(part.backend.state);
    let ready = part.instances.iter().filter(|instance| share::serves(instance)).count();
    let id = &part.backend.id;
    let strings = [
        format!("version={}", id.version),
        format!("state={state}"),
        format!("ready={ready}"),
        format!("backend={id}"),
    ];
    TXT::new(strings.into_iter().map(cut).collect())
}

/// A character-string has at most 255 octets (RFC 1035 section 3.3).
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(255));
    text
}
