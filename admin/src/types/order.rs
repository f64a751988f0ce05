//! What clients order.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::State;

/// Clients that write down every field write null for what they leave out.
pub(super) fn or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A route's whole split: what it does not name gets 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitOrder {
    /// Each backend's weight, a whole number from 0 to 1000; not all may be 0. A backend may be named by a part of its
    /// name that only it has: `v2`, `web@v2`, `shop/web@v2`.
    #[schema(value_type = std::collections::BTreeMap<String, u16>)]
    pub weights: Weights,
    /// How long it holds: `30m`, `2h`, `1h30m`. Then what it replaces returns; without a split before, the backends of
    /// now share equally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// Why, for those who look later.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Weights as they were written: not yet checked, and a name that stands twice is still there twice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights(pub Vec<(String, Value)>);

impl Serialize for Weights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, weight) in &self.0 {
            map.serialize_entry(name, weight)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WeightsVisitor)
    }
}

struct WeightsVisitor;

impl<'de> Visitor<'de> for WeightsVisitor {
    type Value = Weights;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of backends and their weights, such as {\"web@v1\": 95, \"web@v2\": 5}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Weights, M::Error> {
        let mut weights = Vec::new();
        while let Some(entry) = map.next_entry()? {
            weights.push(entry);
        }
        Ok(Weights(weights))
    }
}

/// Copies of a route's requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorOrder {
    /// The backend of the route that gets them; a part of its name will do that only it has.
    pub to: String,
    /// Of which part of the requests: above 0 and up to 100, with three decimals at most.
    #[schema(value_type = f64)]
    pub percent: Value,
    /// Why, for those who look later.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A state for an instance or a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateOrder {
    /// The state.
    pub state: State,
    /// Why, for those who look later.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A release of a route's backend: it takes over step by step, and goes back by itself when it is worse than the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOrder {
    /// The backend that is released; a part of its name will do, as in a split.
    pub to: String,
    /// Its shares in percent, whole numbers from 1 to 100, each above the one before; default 1, 5, 25, 50, 100. A last step
    /// of 100 is added to those that end below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<f64>>,
    /// How long a step takes, 1 to 86400; default 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_seconds: Option<f64>,
    /// Starts at 0; people move the weights, and confirm.
    #[serde(default)]
    pub manual: bool,
    /// The share of its requests that may fail, above 0 and below 1; more takes it back at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_error_rate: Option<f64>,
    /// Why, for those who look later.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What goes with an order about a release that runs; may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseEnd {
    /// For `confirm`: split and states stay as they are.
    #[serde(default)]
    pub keep_weights: bool,
    /// Why, for those who look later.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
