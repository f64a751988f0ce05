//! What a split may say: at least one backend of the route, each once, whole weights from 0 to 1000, not all 0; and for
//! how long.

use std::collections::BTreeMap;

use fairway_catalog::Catalog;
use fairway_catalog::model::NotOneBackend;
use fairway_config::duration;
use fairway_config::names::{BackendId, Weight};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::OrderError;
use crate::types::Weights;

/// Longest time until an expiry.
const EXPIRY_MAX: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);

/// One thing that is wrong with a split.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum WeightError {
    #[error("a split names at least one backend of the route; to remove it, send DELETE")]
    Empty,
    #[error("all weights are zero, so that nobody could be served; `disabled` takes a backend out")]
    AllZero,
    #[error("the weight of {backend} is {given}, and a weight is not negative: write 0 to 1000")]
    Negative { backend: String, given: Value },
    #[error(
        "the weight of {backend} is {given}, and a weight is a whole number: write 95 and 5, or 199 and 1"
    )]
    Fraction { backend: String, given: Value },
    #[error("the weight of {backend} is {given}, and 1000 is the largest")]
    TooLarge { backend: String, given: Value },
    #[error("the weight of {backend} is {given}, and not a number")]
    NotANumber { backend: String, given: Value },
    #[error("{backend} is named twice: as {first} and as {second}")]
    Twice { backend: BackendId, first: String, second: String },
    #[error("the route has no backend `{given}`")]
    Unknown { given: String, known: Vec<BackendId> },
    #[error("`{given}` may be any of several backends of the route; write more of the name")]
    Ambiguous { given: String, candidates: Vec<BackendId> },
}

/// The weights by full names; else everything that is wrong with them.
pub(super) fn check<'a>(
    weights: &Weights,
    known: impl Iterator<Item = &'a BackendId> + Clone,
) -> Result<BTreeMap<BackendId, Weight>, OrderError> {
    let mut checked: BTreeMap<BackendId, (Weight, &str)> = BTreeMap::new();
    let mut errors = Vec::new();
    for (reference, value) in &weights.0 {
        let weight = weight(reference, value);
        match (resolve(reference, known.clone()), weight) {
            (Ok(backend), Ok(weight)) => match checked.get(&backend) {
                Some((_, first)) => errors.push(WeightError::Twice {
                    backend,
                    first: (*first).to_owned(),
                    second: reference.clone(),
                }),
                None => {
                    checked.insert(backend, (weight, reference));
                }
            },
            (backend, weight) => errors.extend(backend.err().into_iter().chain(weight.err())),
        }
    }
    if weights.0.is_empty() {
        errors.push(WeightError::Empty);
    } else if errors.is_empty() && checked.values().all(|(weight, _)| *weight == Weight::ZERO) {
        errors.push(WeightError::AllZero);
    }
    match errors.is_empty() {
        true => Ok(checked.into_iter().map(|(backend, (weight, _))| (backend, weight)).collect()),
        false => Err(OrderError::Weights(errors)),
    }
}

/// The backend among those of a route that a reference leads to.
pub(super) fn resolve<'a>(
    reference: &str,
    known: impl Iterator<Item = &'a BackendId>,
) -> Result<BackendId, WeightError> {
    Catalog::resolve_backend(reference, known).map_err(|error| match error {
        NotOneBackend::Unknown { reference, known } => WeightError::Unknown { given: reference, known },
        NotOneBackend::Ambiguous { reference, candidates } => {
            WeightError::Ambiguous { given: reference, candidates }
        }
    })
}

fn weight(reference: &str, value: &Value) -> Result<Weight, WeightError> {
    let (backend, given) = (reference.to_owned(), value.clone());
    let Value::Number(number) = value else { return Err(WeightError::NotANumber { backend, given }) };
    // `5.0` is whole, however it is written.
    let whole = |n: f64| (n.fract() == 0.0 && (0.0..=1e15).contains(&n)).then_some(n as u64);
    match number.as_u64().or_else(|| number.as_f64().and_then(whole)) {
        Some(whole) => Weight::new(whole).map_err(|_| WeightError::TooLarge { backend, given }),
        None if number.as_f64().is_some_and(|n| n < 0.0) => Err(WeightError::Negative { backend, given }),
        None if number.as_f64().is_some_and(|n| n > 1e15) => Err(WeightError::TooLarge { backend, given }),
        None => Err(WeightError::Fraction { backend, given }),
    }
}

/// When what is ordered now ends.
pub(super) fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, OrderError> {
    let length = duration::parse(text).map_err(|error| OrderError::Expiry(format!("expires_in: {error}")))?;
    if length.is_zero() {
        return Err(OrderError::Expiry(format!(
            "expires_in: `{text}` is over at once; to take away what is set, send DELETE"
        )));
    }
    let end = SignedDuration::try_from(length).ok().filter(|length| *length <= EXPIRY_MAX);
    end.and_then(|length| now.checked_add(length).ok()).ok_or_else(|| {
        OrderError::Expiry(format!("expires_in: `{text}` is more than ten years; leave it out instead"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn known() -> Vec<BackendId> {
        ["shop/web@v1", "shop/web@v2", "shop/api@v2"].map(|id| id.parse().expect("a backend")).into()
    }

    fn check(weights: Value) -> Result<Vec<String>, Vec<WeightError>> {
        let weights = serde_json::from_value(weights).expect("an object");
        match super::check(&weights, known().iter()) {
            Ok(weights) => Ok(weights.iter().map(|(id, weight)| format!("{id}={weight}")).collect()),
            Err(OrderError::Weights(errors)) => Err(errors),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn references_become_full_names() {
        let got = check(json!({"v1": 0, "web@v2": 1000, "shop/api@v2": 5.0}));
        assert_eq!(got.expect("a split"), ["shop/api@v2=5", "shop/web@v1=0", "shop/web@v2=1000"]);
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_own_message_that_names_the_backend() {
        for (weights, says) in [
            (json!({}), "at least one"),
            (json!({"v1": 0, "web@v2": 0}), "all weights are zero"),
            (json!({"v1": -1}), "v1 is -1, and a weight is not negative"),
            (json!({"v1": -0.5}), "v1 is -0.5, and a weight is not negative"),
            (json!({"v1": 0.5}), "v1 is 0.5, and a weight is a whole number"),
            (json!({"v1": 1001}), "v1 is 1001, and 1000 is the largest"),
            (json!({"v1": 1e300}), "and 1000 is the largest"),
            (json!({"v1": "5"}), "v1 is \"5\", and not a number"),
            (json!({"v1": null}), "not a number"),
            (json!({"v1": 1, "web@v1": 2}), "shop/web@v1 is named twice: as v1 and as web@v1"),
            (json!({"v3": 1}), "no backend `v3`"),
            (json!({"v2": 1}), "`v2` may be any of several"),
        ] {
            let errors = check(weights.clone()).expect_err(&weights.to_string());
            assert!(errors[0].to_string().contains(says), "{weights}: {errors:?}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let errors =
            check(json!({"v3": -1, "v1": 0.5, "web@v2": 3})).expect_err("two bad names, two bad weights");
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn a_name_that_stands_twice_in_the_text_is_not_overlooked() {
        let weights: Weights = serde_json::from_str(r#"{"v1": 1, "v1": 2}"#).expect("JSON allows it");
        let error = super::check(&weights, known().iter()).expect_err("which of the two?");
        assert!(error.to_string().contains("named twice"), "{error}");
    }

    #[test]
    fn an_expiry_is_a_duration_from_now() {
        let now = Timestamp::from_second(1_000).expect("in range");
        assert_eq!(expiry("2h", now).expect("a time").as_second(), 1_000 + 7_200);
        for text in ["", "2", "0s", "-1s", "soon", "1000000h", "18446744073709551615ms"] {
            let error = expiry(text, now).expect_err(text);
            assert!(error.to_string().starts_with("expires_in: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_split_that_is_let_through_is_a_split(text in r#"\{("(v1|v2|web@v2|shop/api@v2|x)":(-?[0-9]{1,5}(\.[05])?(e[0-9]{1,3})?|null|"5"),?){0,3}\}"#) {
            let text = text.replace(",}", "}");
            if let Ok(weights) = serde_json::from_str::<Weights>(&text)
                && let Ok(split) = super::check(&weights, known().iter())
            {
                prop_assert_eq!(split.len(), weights.0.len());
                prop_assert!(split.keys().all(|id| known().contains(id)));
                prop_assert!(split.values().any(|weight| *weight > Weight::ZERO));
            }
        }

        #[test]
        fn any_expiry_is_read_or_refused(text in "\\PC{0,12}|[0-9hms]{0,24}") {
            let now = Timestamp::from_second(1_000).expect("in range");
            if let Ok(end) = expiry(&text, now) {
                prop_assert!(end > now);
            }
        }
    }
}
