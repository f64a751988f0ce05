//! What the commands read of the API's answers.
//!
//! Only what is shown, and all of it optional but the names: the Fairway that answers may be older or newer than this
//! one, and `-o json` shows its answer as it came in any case.

use jiff::Timestamp;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Route {
    pub(crate) id: String,
    pub(crate) split: Option<Split>,
    #[serde(default)]
    pub(crate) backends: Vec<Member>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Split {
    pub(crate) layer: String,
    #[serde(default)]
    pub(crate) author: String,
    pub(crate) at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) reason: String,
}

/// A backend within a route.
#[derive(Debug, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) weight: Option<u64>,
    pub(crate) share: Option<f64>,
    #[serde(default)]
    pub(crate) ready: u64,
    pub(crate) desired: Option<u64>,
    #[serde(default)]
    pub(crate) state: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Backend {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) routes: Vec<String>,
    #[serde(default)]
    pub(crate) ready: u64,
    pub(crate) desired: Option<u64>,
    #[serde(default)]
    pub(crate) state: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) address: Option<String>,
    #[serde(default)]
    pub(crate) backend: String,
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) condition: String,
    pub(crate) since: Option<Timestamp>,
    #[serde(default)]
    pub(crate) reason: String,
    pub(crate) in_flight: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) severity: String,
    #[serde(default)]
    pub(crate) subject: String,
    #[serde(default)]
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) remedy: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) at: Option<Timestamp>,
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) subject: String,
    #[serde(default)]
    pub(crate) from: String,
    #[serde(default)]
    pub(crate) to: String,
    #[serde(default)]
    pub(crate) reason: String,
}
