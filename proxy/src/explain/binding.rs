//! What binds a request before or beside the draw: its cookie, its client; and where it would go after a failure.

use std::sync::Arc;

use fairway_config::labels::{MatchRule, SplitBy};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OtherRule;
use crate::endpoint::Endpoint;
use crate::pick::client::{show_key, show_rule};
use crate::pick::{Foresight, client};
use crate::request::RequestView;
use crate::sticky::Said;
use crate::table::{RouteEntry, Version};

/// What the request's cookie says on a sticky route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CookieView {
    /// `none`, `bound`, or why it is ignored: `foreign`, `other-route`, `expired`, `from-the-future`.
    pub state: String,
    /// The backend that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The instance that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Since when the client is bound to that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// What follows, one sentence.
    pub text: String,
}

/// What would become of the request if the first instance failed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetryView {
    /// How often it may go elsewhere after a failure (`fairway.retries`).
    pub retries: u8,
    /// The backend that it would go to next; absent when there is nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The instance that it would go to next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The plan, one sentence.
    pub text: String,
}

/// The cookie, and whether the route has the version and the instance that it names.
pub(super) fn cookie(entry: &RouteEntry, said: &Said) -> CookieView {
    let none = |state: &str, text: &str| {
        let (state, text) = (state.to_owned(), text.to_owned());
        CookieView { state, backend: None, instance: None, since: None, text }
    };
    let Some(bound) = &said.bound else {
        return match said.ignored {
            Some(why) => none(why.as_str(), &format!("ignored: {}; the answer brings a new one", why.text())),
            None => none("none", "there is none: the answer binds the client to where it comes from"),
        };
    };
    let version = entry.versions().iter().find(|version| *version.name == *bound.backend);
    let has_instance = |version: &Version| {
        version.keeping().iter().any(|endpoint| endpoint.key.id.as_str() == &*bound.instance)
    };
    let text = match version {
        None => "the route has no such version any more: the client is drawn anew",
        Some(version) if has_instance(version) => "its instance serves it, whatever the weights",
        Some(version) if version.keeping().is_empty() => {
            "no instance of its version may serve it: the client is drawn anew"
        }
        Some(_) => "its instance may not serve it: another one of its version does, and the cookie follows",
    };
    CookieView {
        state: "bound".to_owned(),
        backend: Some(bound.backend.to_string()),
        instance: Some(bound.instance.to_string()),
        since: i64::try_from(bound.since).ok().and_then(|secs| Timestamp::from_second(secs).ok()),
        text: text.to_owned(),
    }
}

/// How the version is found, one sentence. What binds the client is named, and not shown: it may be a session.
pub(super) fn draw(
    entry: &RouteEntry,
    foresight: &Foresight<'_>,
    kept: Option<&Version>,
    request: &RequestView<'_>,
) -> String {
    if let Some((version, rule)) = foresight.rule {
        return format!("no draw: the rule {} leads to {}", show_rule(rule), version.name);
    }
    if let Some(version) = kept {
        return format!("no draw: the cookie leads to {}", version.name);
    }
    match &entry.route.split_by {
        SplitBy::Request => "at random, anew for every request".to_owned(),
        SplitBy::Client(key) => {
            let key_text = show_key(key, "client-ip");
            match (client::hash(key, request), foresight.bound) {
                (Some(hash), Some(version)) => format!(
                    "by {key_text}, whose hash is {hash:016x}: {} on every node, as long as the weights stay",
                    version.name
                ),
                (Some(_), None) => format!("by {key_text}, but there is no version to draw"),
                (None, _) => format!("at random: the request has no {key_text} to draw by"),
            }
        }
    }
}

/// The rules of the route's versions that do not decide for the request, and why not.
pub(super) fn other_rules(
    entry: &RouteEntry,
    foresight: &Foresight<'_>,
    request: &RequestView<'_>,
) -> Vec<OtherRule> {
    let decides = |version: &Version, rule: &MatchRule| {
        foresight.rule.is_some_and(|(chosen, chosen_rule)| {
            std::ptr::eq(&**chosen, version) && std::ptr::eq(chosen_rule, rule)
        })
    };
    let of_version = |version: &'_ Arc<Version>| {
        let others = version.backend.transport.matches.iter().filter(|rule| !decides(version, rule));
        let view = |rule| other_rule(version, rule, foresight, request);
        others.map(view).collect::<Vec<_>>()
    };
    entry.versions().iter().flat_map(of_version).collect()
}

fn other_rule(
    version: &Version,
    rule: &MatchRule,
    foresight: &Foresight<'_>,
    request: &RequestView<'_>,
) -> OtherRule {
    let fits = client::matches(rule, request);
    let why = match foresight.rule {
        _ if !fits => "it does not fit".to_owned(),
        _ if version.serving().is_empty() => format!("it fits, but {} serves no new client", version.name),
        Some((_, first)) => format!("it fits, too, but {} goes first", show_rule(first)),
        None => format!("it fits, but every instance of {} is full", version.name),
    };
    OtherRule { backend: version.name.to_string(), rule: show_rule(rule), fits, why }
}

/// The plan for a failure at the instance that would serve.
pub(super) fn retry(entry: &RouteEntry, version: &Version, next: Option<(&str, &Endpoint)>) -> RetryView {
    let retries = version.settings.retries;
    let text = match (retries, next) {
        (0, _) => "none (retries is 0), but when the instance is known to stop".to_owned(),
        (_, None) => format!("held for another instance: nobody else of {} could serve it", entry.name),
        (count, Some((backend, endpoint))) => {
            let times = if count == 1 { "once".to_owned() } else { format!("{count} times at most") };
            format!(
                "{times}, first to {} of {backend}: after a refused connection, or before any answer if it can be sent again, as far as the route's budget goes (20 % of its requests and 10/s)",
                endpoint.key.id
            )
        }
    };
    let (backend, instance) = next.map(|(backend, at)| (backend.to_owned(), at.key.id.to_string())).unzip();
    RetryView { retries, backend, instance, text }
}
