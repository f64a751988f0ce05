//! Timeouts and limits of a route: what is ordered, and what holds.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::order::or_null;

/// All limits of a route that the API sets, each named and written as the `fairway.*` label: `"timeout.total": "5s"`. What is
/// not named is as labels and the configuration file say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitsOrder {
    /// The limits, one at least.
    #[serde(flatten)]
    #[schema(value_type = LimitValues)]
    pub limits: LimitsGiven,
    /// How long they hold: `30m`, `2h`, `1h30m`. Then what they replace returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// Why, for those who look later.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Limits by name, as the labels write them; whole numbers may be JSON numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitValues {
    /// Longest wait for a connection to an instance, 1ms to 24h: `500ms`.
    #[serde(rename = "timeout.connect")]
    pub connect: Option<String>,
    /// Longest wait for the head of its answer, 1ms to 24h.
    #[serde(rename = "timeout.first_byte")]
    pub first_byte: Option<String>,
    /// Longest silence in a body, on an idle or upgraded connection, 1ms to 24h.
    #[serde(rename = "timeout.idle")]
    pub idle: Option<String>,
    /// Longest time for the whole exchange, 1ms to 24h, or `none`.
    #[serde(rename = "timeout.total")]
    pub total: Option<String>,
    /// How often a request may go elsewhere after a failure, 0 to 10.
    #[schema(value_type = Option<u8>)]
    pub retries: Option<String>,
    /// When a second GET goes to another instance: `p95`, 1ms to 1h, or `off`.
    pub hedge: Option<String>,
    /// Most requests in flight at one instance, 1 to 1000000.
    #[schema(value_type = Option<u32>)]
    pub in_flight_max: Option<String>,
    /// Most octets of a request's body: `10m`, or `none`.
    pub body_max: Option<String>,
    /// Requests of all clients together: `100/s burst 200`, or `none`.
    pub rate_limit: Option<String>,
    /// Requests of each client, or `none`.
    #[serde(rename = "rate_limit.client")]
    pub client_rate_limit: Option<String>,
}

/// Limits as they were written: not yet checked, and a name that stands twice is still there twice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LimitsGiven(pub Vec<(String, Value)>);

impl Serialize for LimitsGiven {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for LimitsGiven {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(GivenVisitor)
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = LimitsGiven;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of limits, such as {\"timeout.total\": \"5s\", \"retries\": 0}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<LimitsGiven, M::Error> {
        let mut limits = Vec::new();
        while let Some(entry) = map.next_entry()? {
            limits.push(entry);
        }
        Ok(LimitsGiven(limits))
    }
}

/// The limits of a route that the API sets now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitsOrdered {
    /// By name, as labels write them.
    pub values: BTreeMap<String, String>,
    /// Who ordered them.
    pub author: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Until when; then what they replaced returns.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// Each limit of a route as it holds now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteLimits {
    /// The route.
    pub route: String,
    /// Changes with each order about its limits; for `If-Match`, quotes included.
    pub etag: String,
    /// Every limit there is, in a fixed order.
    pub items: Vec<LimitItem>,
    /// The revision of the cluster that it shows.
    pub revision: u64,
}

/// One limit of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitItem {
    /// As the label is named, without `fairway.`: `timeout.total`.
    pub name: String,
    /// What holds, as the label would say it; null where `backends` differ.
    pub value: Option<String>,
    /// Where it comes from; where `backends` differ, the uppermost of them.
    pub layer: LimitLayer,
    /// Who set it: what an API client calls itself, the file's name, `labels`; null for a default.
    pub author: Option<String>,
    /// Since when; null for a default.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// Until when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// What holds for each backend of the route, if it is not the same for all.
    pub backends: Vec<BackendLimit>,
}

/// A limit as one backend of the route has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackendLimit {
    /// The backend.
    pub id: String,
    /// What holds.
    pub value: String,
    /// Where it comes from.
    pub layer: LimitLayer,
}

/// The source of a limit; a later one is above an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitLayer {
    /// Nobody says anything.
    Default,
    /// `[limits]` of the configuration file, for all routes.
    File,
    /// The `fairway.*` label of a container, or the key of a `[[service]]`.
    Label,
    /// This API.
    Api,
}

impl fmt::Display for LimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Label => "label",
            Self::Api => "api",
        })
    }
}
