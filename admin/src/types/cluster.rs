//! Routes, backends, instances and problems.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::{LimitsOrdered, Ordered};

/// A host pattern and path prefix that lead to weighted backends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// `host/path`: `shop.company.com/`, `*.company.com/api`.
    pub id: String,
    /// The host, `*.` in front of a wildcard.
    pub host: String,
    /// The path prefix, from its leading `/`.
    pub path: String,
    /// `https` when only clients on TLS are served, else `http`.
    pub scheme: String,
    /// Changes with the split only; for `If-Match`, quotes included.
    pub etag: String,
    /// Where the weights come from; null: every ready instance gets an equal share.
    pub split: Option<Split>,
    /// To which backend copies of its requests go; null: there are none.
    #[serde(default)]
    pub mirror: Option<Mirror>,
    /// The timeouts and limits that this API sets; null: none. What holds of all is at `/api/v1/routes/{route}/limits`.
    #[serde(default)]
    pub limits: Option<LimitsOrdered>,
    /// By name, each once.
    pub backends: Vec<RouteBackend>,
    /// The project that owns the route; null for "no project".
    pub project: Option<String>,
    /// Whether sessions are sticky.
    pub sticky: bool,
    /// How the version is drawn: `request`, `client-ip`, `header:NAME`, `cookie:NAME`.
    pub split_by: String,
    /// Nothing claims it any more; it goes at this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
}

/// Where a route's weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Split {
    /// The layer.
    pub layer: Layer,
    /// Who: what an API client calls itself, the file's name, `labels`.
    pub author: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Until when; then what it replaced returns.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// Copies of a route's requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Mirror {
    /// The backend that gets them.
    pub to: String,
    /// Of which part of the requests: above 0 and up to 100.
    #[serde(serialize_with = "as_written")]
    pub percent: f64,
    /// Who ordered it.
    pub author: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// A whole number without a point: `10`, as it was ordered.
fn as_written<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match number.fract() == 0.0 && (0.0..=1e9).contains(number) {
        true => serializer.serialize_u64(*number as u64),
        false => serializer.serialize_f64(*number),
    }
}

/// The source of weights; a later one is above an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// `fairway.weight`.
    Label,
    /// `[[split]]` of the configuration file.
    File,
    /// This API.
    Api,
}

/// A backend within a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteBackend {
    /// `project/service@version` or `service@version`.
    pub id: String,
    /// Relative to the weights of the route's other backends; null when the route has no split. 0 to 1000 as people write it;
    /// larger where a release needs that to keep the others' proportions.
    pub weight: Option<u32>,
    /// The part of new requests that it gets now, 0 to 1.
    pub share: f64,
    /// How many of its instances serve this route now.
    pub ready: usize,
    /// How many instances are wanted, as far as anybody said.
    pub desired: Option<u32>,
    /// The stronger of what is set on the backend and on it in this route: a release that goes back disables its target in
    /// the route alone where other routes have nobody else.
    pub state: State,
}

/// All instances of one (project, service, version).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backend {
    /// `project/service@version` or `service@version`.
    pub id: String,
    /// The project; null for "no project".
    pub project: Option<String>,
    /// The service.
    pub service: String,
    /// The version.
    pub version: String,
    /// The routes that it serves.
    pub routes: Vec<String>,
    /// How many instances are ready and active.
    pub ready: usize,
    /// How many instances are wanted, as far as anybody said.
    pub desired: Option<u32>,
    /// Set on the backend as a whole.
    pub state: State,
    /// Who set it, when and why; null while it is active. A release that took it back says `rolled_back`.
    #[serde(default)]
    pub ordered: Option<Ordered>,
    /// How many instances there are.
    pub instances: usize,
    /// Requests in flight at them.
    pub in_flight: u64,
}

/// One container port, or static address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// The first 12 digits of the container id, `:` and the port; `service@version/host:port` for a static one.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// The full container id; null for a static one.
    pub container: Option<String>,
    /// Where it is reached; null while it has no address.
    pub address: Option<String>,
    /// Why there, or why nowhere.
    pub address_reason: String,
    /// Its backend.
    pub backend: String,
    /// The node that it runs on.
    pub node: String,
    /// The node's zone, empty for none.
    pub zone: String,
    /// Set by people: the stronger of what is set on it and on its backend.
    pub state: State,
    /// Who set that, when and why; null while it is active.
    #[serde(default)]
    pub ordered: Option<Ordered>,
    /// Seen by us.
    pub condition: Condition,
    /// Since when it is in this condition.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why it is in this condition.
    pub reason: String,
    /// Until when it is ejected, at the latest; null when it is not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// When its container started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Requests in flight there.
    pub in_flight: u64,
    /// When the drain that people ordered ended: nothing runs there any more, and nobody is sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub drained_at: Option<Timestamp>,
}

/// The instance that a name leads to. A container with several ports is several instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceFound {
    /// The first by id.
    #[serde(flatten)]
    pub instance: Instance,
    /// The other ports of the same container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Instance>,
}

/// Set by people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Gets new clients.
    Active,
    /// Finishes what runs; bound clients stay; nothing new.
    Draining,
    /// Nobody.
    Disabled,
}

/// Seen by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Not yet proven.
    Pending,
    /// Works.
    Ready,
    /// Its probe fails.
    Unhealthy,
    /// Out for a while after its own failures.
    Ejected,
    /// Its stop signal was seen.
    Stopping,
    /// Cannot be probed; counts as ready.
    Unknown,
}

/// One thing that is wrong and that a person can mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemItem {
    /// A stable word for scripts.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether anything that was asked for is lost.
    pub severity: Severity,
    /// Whom it concerns: a container's name, a route, a backend, a listener, an engine.
    pub subject: String,
    /// The label or configuration key, empty when there is none.
    pub key: String,
    /// The value found, empty when there is none.
    pub value: String,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// When it was first seen.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Everything that was asked for works.
    Warning,
    /// Something that was asked for is lost.
    Error,
}

macro_rules! word {
    ($type:ident from $catalog:path: $($name:ident $word:literal),+) => {
        impl From<$catalog> for $type {
            fn from(value: $catalog) -> Self {
                match value {
                    $(<$catalog>::$name => Self::$name,)+
                }
            }
        }

        impl $type {
            /// As it is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

word!(Layer from fairway_catalog::Layer: Label "label", File "file", Api "api");
word!(State from fairway_catalog::State: Active "active", Draining "draining", Disabled "disabled");
word!(Condition from fairway_catalog::Condition: Pending "pending", Ready "ready", Unhealthy "unhealthy",
    Ejected "ejected", Stopping "stopping", Unknown "unknown");
word!(Severity from fairway_config::labels::Severity: Warning "warning", Error "error");

impl From<State> for fairway_catalog::State {
    fn from(state: State) -> Self {
        match state {
            State::Active => Self::Active,
            State::Draining => Self::Draining,
            State::Disabled => Self::Disabled,
        }
    }
}
