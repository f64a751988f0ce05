//! Orders about timeouts and limits of a route.
//!
//! Not here: how a value is written (that is `config`'s, the same for labels), which layer holds (that is the catalog's).

use std::sync::Arc;

use fairway_catalog::Route;
use fairway_catalog::inputs::LimitsRecord;
use fairway_config::labels::{Flaw, Limit, RouteLimits, shown};
use fairway_config::names::RouteId;
use jiff::Timestamp;
use serde_json::Value;

use super::mirror::carries_requests;
use super::weights::expiry;
use super::{Control, Done, EXPIRIES_MAX, OrderError, Shared, Who, audit, error, find_route, is_matched_by};
use crate::types::{LimitsGiven, LimitsOrder};

/// One thing that is wrong with the limits of an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}{text}")]
pub(crate) struct LimitError {
    /// A stable word: `unknown-limit`, `bad-limit`, ...
    pub(crate) kind: &'static str,
    /// The limit and its value as they were given: `timeout.total = 5: `; empty where it is no one's.
    place: String,
    text: String,
    pub(crate) remedy: String,
}

impl Control {
    /// Sets limits of a route, in place of what was ordered before.
    pub(crate) async fn put_limits(
        &self,
        route: String,
        order: LimitsOrder,
        if_match: Option<String>,
        who: Who,
    ) -> Result<Done<Arc<Route>>, OrderError> {
        self.carry_out(move |shared| async move {
            shared.put_limits(&route, &order, if_match.as_deref(), &who).await
        })
        .await
    }

    /// Takes the API's limits of a route away; `now` is `None` when the route itself is gone.
    pub(crate) async fn delete_limits(
        &self,
        route: String,
        if_match: Option<String>,
        who: Who,
    ) -> Result<Done<Option<Arc<Route>>>, OrderError> {
        self.carry_out(
            move |shared| async move { shared.delete_limits(&route, if_match.as_deref(), &who).await },
        )
        .await
    }
}

impl Shared {
    async fn put_limits(
        &self,
        route: &str,
        order: &LimitsOrder,
        if_match: Option<&str>,
        who: &Who,
    ) -> Result<Done<Arc<Route>>, OrderError> {
        let route = find_route(&self.catalog(), route)?;
        check_etag(&route, if_match)?;
        error::check_reason(&order.reason)?;
        let limits = check(&order.limits, &route.id).map_err(OrderError::Limits)?;
        let now = Timestamp::now();
        let expires_at = order.expires_in.as_deref().map(|text| expiry(text, now)).transpose()?;
        let record = Arc::new(LimitsRecord {
            limits,
            author: who.name.as_str().into(),
            at: now,
            expires_at,
            reason: order.reason.as_str().into(),
            then: expires_at.and_then(|end| self.limits_after(&route.id, now, end)),
        });
        let chain = std::iter::successors(Some(&*record), |record| record.then.as_deref());
        if chain.count() > EXPIRIES_MAX {
            return Err(OrderError::TooManyExpiries { most: EXPIRIES_MAX });
        }
        let audit = audit(who, "put-limits", &route.id, describe(&record), &order.reason, now);
        let (id, stored) = (route.id.clone(), record.clone());
        self.store(move |store| store.put_limits(&id, &stored, &audit)).await?;
        let live = self
            .decide(|decisions| {
                decisions.limits.insert(route.id.clone(), record);
            })
            .await;
        Ok(Done { now: self.catalog().routes.get(&route.id).cloned().unwrap_or(route), live })
    }

    /// The order of before that would hold at `end`; `None` for the layers below.
    fn limits_after(&self, route: &RouteId, now: Timestamp, end: Timestamp) -> Option<Arc<LimitsRecord>> {
        let decisions = self.inputs.current().decisions;
        let replaced = decisions.limits.get(route).filter(|old| old.effective(now).is_some())?;
        replaced.effective(end).cloned()
    }

    async fn delete_limits(
        &self,
        route: &str,
        if_match: Option<&str>,
        who: &Who,
    ) -> Result<Done<Option<Arc<Route>>>, OrderError> {
        let stored = |id: &RouteId| self.inputs.current().decisions.limits.contains_key(id);
        let id = self.there_or_remembered(route, stored, |found| check_etag(found, if_match))?;
        let mut live = true;
        if stored(&id) {
            let audit = audit(who, "delete-limits", &id, String::new(), "", Timestamp::now());
            let gone = id.clone();
            self.store(move |store| store.delete_limits(&gone, &audit)).await?;
            live = self
                .decide(|decisions| {
                    decisions.limits.remove(&id);
                })
                .await;
        }
        Ok(Done { now: self.catalog().routes.get(&id).cloned(), live })
    }
}

fn check_etag(route: &Route, if_match: Option<&str>) -> Result<(), OrderError> {
    let etag = LimitsRecord::etag(route.limits.as_deref());
    match is_matched_by(&etag, if_match) {
        true => Ok(()),
        false => Err(OrderError::LimitsChanged { route: route.id.clone(), etag: etag.into() }),
    }
}

/// The limits that are given; else everything that is wrong with them.
fn check(given: &LimitsGiven, route: &RouteId) -> Result<RouteLimits, Vec<LimitError>> {
    let (mut limits, mut errors) = (RouteLimits::default(), Vec::new());
    // Clients that write down every field write null for what they leave out.
    let written =
        || given.0.iter().filter(|(name, value)| !value.is_null() || name.parse::<Limit>().is_err());
    for (name, value) in written() {
        if let Err(error) = set(&mut limits, name, value, route) {
            errors.push(error);
        }
    }
    if written().next().is_none() {
        errors.push(LimitError {
            kind: "limits-empty",
            place: String::new(),
            text: "the order names no limit".to_owned(),
            remedy: "name one at least, such as {\"timeout.total\": \"5s\"}; to take away what is set, send DELETE"
                .to_owned(),
        });
    }
    if errors.is_empty() { Ok(limits) } else { Err(errors) }
}

fn set(limits: &mut RouteLimits, name: &str, value: &Value, route: &RouteId) -> Result<(), LimitError> {
    let place = format!("{} = {}: ", shown(name), shown(&value.to_string()));
    let wrong = |kind, text: String, remedy: &str| {
        let (place, remedy) = (place.clone(), remedy.to_owned());
        LimitError { kind, place, text, remedy }
    };
    let limit: Limit = name.parse().map_err(|flaw: Flaw| LimitError {
        kind: "unknown-limit",
        place: String::new(),
        text: flaw.text,
        remedy: flaw.remedy,
    })?;
    if limits.has(limit) {
        let text = format!("`{limit}` is there twice");
        return Err(wrong("limit-named-twice", text, "leave all but one out"));
    }
    if !carries_requests(route) && !limit.holds_for_connections() {
        let text = format!("{route} carries connections, not requests: `{limit}` does nothing there");
        let held = Limit::ALL.into_iter().filter(|limit| limit.holds_for_connections());
        let held: Vec<_> = held.map(|limit| format!("`{limit}`")).collect();
        return Err(wrong(
            "limit-not-served",
            text,
            &format!("leave it out; what holds there is {}", held.join(", ")),
        ));
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => {
            let text = "it is neither a text nor a number".to_owned();
            return Err(wrong(
                "bad-limit",
                text,
                "write it as in the label, such as \"5s\"; leave out what is not to be set",
            ));
        }
    };
    limits.set(limit, &text).map_err(|flaw| wrong("bad-limit", flaw.text, &flaw.remedy))
}

/// `timeout.total=5s retries=0 until 2026-01-01T02:00:00Z`
fn describe(record: &LimitsRecord) -> String {
    match record.expires_at {
        Some(end) => format!("{} until {end}", record.limits),
        None => record.limits.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(route: &str, given: &str) -> Result<String, Vec<LimitError>> {
        let given: LimitsOrder = serde_json::from_str(given).expect("an object");
        super::check(&given.limits, &route.parse().expect("a route")).map(|limits| limits.to_string())
    }

    #[test]
    fn values_are_texts_as_in_labels_or_plain_numbers() {
        let given = json!({
            "timeout.connect": "500ms", "timeout.total": "none", "retries": 2, "hedge": "p95", "body_max": 1024,
            "rate_limit": "100/s burst 200", "rate_limit.client": null, "reason": "why", "expires_in": "2h"
        });
        assert_eq!(
            check("shop.com/", &given.to_string()).expect("limits"),
            "timeout.connect=500ms timeout.total=none retries=2 hedge=p95 body_max=1k rate_limit=\"100/s burst 200\""
        );
        let tcp = r#"{"timeout.idle":"1h","timeout.connect":"1s","retries":"0","in_flight_max":5}"#;
        assert!(check("tcp://:3306", tcp).is_ok() && check("tls://db.com", tcp).is_ok());
        assert!(check("http://:8080", r#"{"body_max":"1m"}"#).is_ok(), "a front port for HTTP has requests");
    }

    #[test]
    fn each_thing_that_is_wrong_is_told_with_place_value_and_remedy() {
        for (given, kind, text, remedy) in [
            ("{}", "limits-empty", "names no limit", "send DELETE"),
            (r#"{"reason":"x"}"#, "limits-empty", "names no limit", "name one"),
            (r#"{"timeout":"5s"}"#, "unknown-limit", "`timeout` is no limit", "timeout.connect"),
            (r#"{"retrys":1}"#, "unknown-limit", "`retrys` is no limit", "did you mean `retries`?"),
            (r#"{"retries":11}"#, "bad-limit", "retries = 11: `11` is not a number", "from 0 to 10"),
            (r#"{"retries":-1}"#, "bad-limit", "retries = -1: ", "from 0 to 10"),
            (r#"{"retries":1.5}"#, "bad-limit", "retries = 1.5: ", "from 0 to 10"),
            (r#"{"retries":null}"#, "limits-empty", "names no limit", "name one"),
            (r#"{"retrys":null}"#, "unknown-limit", "`retrys` is no limit", "did you mean `retries`?"),
            (r#"{"retries":true}"#, "bad-limit", "retries = true: ", "leave out what is not to be set"),
            (r#"{"retries":[1]}"#, "bad-limit", "retries = [1]: ", "as in the label"),
            (r#"{"timeout.total":5}"#, "bad-limit", "timeout.total = 5: ", "add a unit"),
            (r#"{"timeout.total":"0s"}"#, "bad-limit", "timeout.total = \"0s\": ", "1ms to 24h"),
            (
                r#"{"timeout.connect":"none"}"#,
                "bad-limit",
                "`none` is not a duration",
                "whole number and a unit",
            ),
            (r#"{"rate_limit":"fast"}"#, "bad-limit", "`fast` is no rate", "`100/s`"),
            (r#"{"rate_limit.client":"0/s"}"#, "bad-limit", "`0/s` is no rate", "`100/s`"),
            (r#"{"body_max":"10t"}"#, "bad-limit", "`10t` is not a size", "`10m`"),
            (r#"{"in_flight_max":0}"#, "bad-limit", "in_flight_max = 0: ", "from 1 to 1000000"),
            (r#"{"hedge":"p99"}"#, "bad-limit", "`p99` is not a duration", "`p95` or `off`"),
            (r#"{"retries":1,"retries":2}"#, "limit-named-twice", "twice", "all but one"),
            (r#"{"\u001b[2J":1}"#, "unknown-limit", "\\u{1b}", "the limits are"),
        ] {
            let errors = check("shop.com/", given).expect_err(given);
            assert_eq!(errors.len(), 1, "{given}: {errors:?}");
            assert_eq!(errors[0].kind, kind, "{given}: {errors:?}");
            assert!(errors[0].to_string().contains(text), "{given}: {}", errors[0]);
            assert!(errors[0].remedy.contains(remedy), "{given}: {}", errors[0].remedy);
        }
        let errors = check("shop.com/", r#"{"a":1,"retries":99,"hedge":"x","body_max":"1m"}"#);
        assert_eq!(errors.expect_err("three").len(), 3, "everything is told at once");
        for name in ["body_max", "rate_limit", "hedge", "timeout.total"] {
            let errors = check("tcp://:3306", &format!("{{\"{name}\":\"5s\"}}")).expect_err(name);
            assert_eq!(errors[0].kind, "limit-not-served", "{errors:?}");
        }
    }
}
