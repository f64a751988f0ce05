//! The shape of an explanation: what the API answers, and the CLI reads.
//!
//! Not here: how it is found out (see the files beside this one).

use fairway_catalog::SplitInfo;
use fairway_catalog::inputs::{LimitsRecord, MirrorRecord};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CookieView, InstanceView, RetryView, RouteCandidate};

/// The whole decision for one request, as it would be at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The request as the decision sees it.
    pub request: RequestSeen,
    /// What comes of it, one sentence.
    pub verdict: String,
    /// The word for a refusal, as in the access log; absent when an instance would serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The status of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The routes whose host fits, the most specific first, and why each is or is not the one.
    pub candidates: Vec<RouteCandidate>,
    /// The route, and what happens in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteView>,
    /// The revision of the catalog that was asked.
    pub revision: u64,
}

/// A request as the decision sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestSeen {
    /// The method.
    pub method: String,
    /// The host, lower case, no port.
    pub host: String,
    /// The path without the query.
    pub path: String,
    /// The client's effective address.
    pub client: String,
    /// Whether that is an internal client.
    pub internal: bool,
    /// Whether the client uses TLS.
    pub secure: bool,
}

/// The chosen route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    /// Its name.
    pub id: String,
    /// Where its weights come from; absent when every ready instance gets an equal share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitView>,
    /// How the version is drawn: `request`, `client-ip`, `header:NAME`, `cookie:NAME`.
    pub split_by: String,
    /// To which version copies of its requests go; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorView>,
    /// The timeouts and limits that the API sets, above what labels say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsView>,
    /// What the route does with requests and answers besides, a line each: `redirect: www 308`; without secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The rule of `fairway.match` that decides for this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleView>,
    /// The other rules of `fairway.match` of its versions, and why they do not decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_rules: Vec<OtherRule>,
    /// Whether its clients are bound by a cookie.
    #[serde(default)]
    pub sticky: bool,
    /// What the request's cookie says, on a sticky route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<CookieView>,
    /// How the version is found, one sentence.
    #[serde(default)]
    pub draw: String,
    /// How many requests of the route wait for a place, because all instances that would do are at their limit.
    #[serde(default)]
    pub queued: u32,
    /// What would follow a failure; absent when no instance would serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryView>,
    /// Why the version is chosen: `rule`, `sticky`, `split`, `client`, `equal`, `stand-in`, `stopping`; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The instance that would serve now: of the version that is certain, or of the one with the largest share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Its versions by name.
    pub versions: Vec<VersionView>,
}

/// Where a route's weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SplitView {
    /// `label`, `file` or `api`.
    pub layer: String,
    /// Who wrote them.
    pub author: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

impl From<&SplitInfo> for SplitView {
    fn from(info: &SplitInfo) -> Self {
        let SplitInfo { layer, author, at, expires_at, reason } = info;
        let (layer, author, reason) = (layer.as_str().to_owned(), author.to_string(), reason.to_string());
        Self { layer, author, at: *at, expires_at: *expires_at, reason }
    }
}

/// Copies of a route's requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorView {
    /// The backend that gets them.
    pub to: String,
    /// Of which part of the requests, above 0 and up to 100.
    pub percent: f64,
    /// Who ordered it.
    pub author: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

impl From<&MirrorRecord> for MirrorView {
    fn from(record: &MirrorRecord) -> Self {
        let MirrorRecord { to, percent, author, at, reason } = record;
        let (to, author, reason) = (to.to_string(), author.to_string(), reason.to_string());
        Self { to, percent: percent.get(), author, at: *at, reason }
    }
}

/// Timeouts and limits of a route that the API sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitsView {
    /// `timeout.total=5s retries=0`, each named as its label.
    pub set: String,
    /// Who ordered them.
    pub author: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

impl From<&LimitsRecord> for LimitsView {
    fn from(record: &LimitsRecord) -> Self {
        let LimitsRecord { limits, author, at, expires_at, reason, then: _ } = record;
        let (set, author, reason) = (limits.to_string(), author.to_string(), reason.to_string());
        Self { set, author, at: *at, expires_at: *expires_at, reason }
    }
}

/// A rule that fits the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleView {
    /// The backend that it leads to.
    pub backend: String,
    /// As the label says it.
    pub rule: String,
}

/// A rule that does not decide for the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OtherRule {
    /// The backend that has it.
    pub backend: String,
    /// As the label says it.
    pub rule: String,
    /// Whether it fits the request.
    pub fits: bool,
    /// Why it does not decide.
    pub why: String,
}

/// One version of the route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The backend.
    pub backend: String,
    /// Its weight; absent without a split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The chance that this request goes to it, 0 to 1.
    pub chance: f64,
    /// Why that much, one sentence.
    pub why: String,
    /// How an instance is chosen: `p2c-ewma`, `round-robin`, ...
    pub balance: String,
    /// How many of the route's waiting requests take a place of this version only: a rule, a cookie, the draw bind them to it.
    #[serde(default)]
    pub queued: u32,
    /// The instance of it that would serve now, if the version were drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_serve: Option<String>,
    /// All its instances that claim the route.
    pub instances: Vec<InstanceView>,
}
