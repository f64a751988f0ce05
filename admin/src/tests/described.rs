//! Whether an answer is what the description says: clients are made from it.
//!
//! As much of JSON Schema as the description uses. A member that it does not name is a misfit, too: else it would not be whole.

use serde_json::{Map, Value, json};

/// What in an answer does not fit the schema that the description has for it; `None`: all of it does.
pub(super) fn misfit(description: &Value, schema: &Value, answer: &Value) -> Option<String> {
    misfit_at("", description, schema, answer)
}

fn misfit_at(at: &str, description: &Value, schema: &Value, given: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = description.pointer(reference.trim_start_matches('#'));
        return target.map_or(Some(format!("{at}: nothing is at {reference}")), |schema| {
            misfit_at(at, description, schema, given)
        });
    }
    if schema["allOf"].is_array() {
        return misfit_at(at, description, &joined(description, array(&schema["allOf"])), given);
    }
    let any: Vec<&Value> = array(&schema["oneOf"]).iter().chain(array(&schema["anyOf"])).collect();
    if !any.is_empty() {
        let misfits: Vec<_> = any.iter().map(|one| misfit_at(at, description, one, given)).collect();
        return misfits.iter().all(Option::is_some).then(|| format!("{at}: none of {misfits:?}"));
    }
    if !is_of_type(&schema["type"], given) {
        return Some(format!("{at}: {given} is not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(given)) {
        return Some(format!("{at}: {given} is none of {}", schema["enum"]));
    }
    if schema["format"] == "date-time"
        && given.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err())
    {
        return Some(format!("{at}: {given} is no time"));
    }
    match given {
        Value::Array(items) => items.iter().enumerate().find_map(|(number, item)| {
            misfit_at(&format!("{at}[{number}]"), description, &schema["items"], item)
        }),
        Value::Object(members) => {
            let missing = array(&schema["required"])
                .iter()
                .find(|name| given.get(name.as_str().unwrap_or_default()).is_none());
            missing.map(|name| format!("{at}: {name} is missing")).or_else(|| {
                members.iter().find_map(|(name, member)| {
                    let at = format!("{at}.{name}");
                    match (schema["properties"].get(name), schema.get("additionalProperties")) {
                        (Some(known), _) => misfit_at(&at, description, known, member),
                        (None, Some(Value::Bool(true))) => None,
                        (None, Some(others @ Value::Object(_))) => {
                            misfit_at(&at, description, others, member)
                        }
                        (None, _) => Some(format!("{at} is not described")),
                    }
                })
            })
        }
        _ => None,
    }
}

/// Objects that are one: what each of them names may be there, and anything if one of them names nothing.
fn joined(description: &Value, parts: &[Value]) -> Value {
    let resolved = |part: &Value| match part["$ref"].as_str() {
        Some(reference) => {
            description.pointer(reference.trim_start_matches('#')).cloned().unwrap_or_default()
        }
        None => part.clone(),
    };
    let parts: Vec<Value> = parts.iter().map(resolved).collect();
    let named = |part: &Value| part["properties"].as_object().cloned().unwrap_or_default();
    let properties: Map<String, Value> = parts.iter().flat_map(named).collect();
    let required: Vec<Value> = parts.iter().flat_map(|part| array(&part["required"])).cloned().collect();
    let is_open = parts.iter().any(|part| named(part).is_empty());
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": is_open})
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// No type at all is any; an object without members says nothing of what it is.
fn is_of_type(wanted: &Value, given: &Value) -> bool {
    let is = |wanted: &str| match wanted {
        "object" => given.is_object(),
        "array" => given.is_array(),
        "string" => given.is_string(),
        "integer" => given.is_u64() || given.is_i64(),
        "number" => given.is_number(),
        "boolean" => given.is_boolean(),
        _ => given.is_null(),
    };
    match wanted {
        Value::String(wanted) => is(wanted),
        Value::Array(any) => any.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

#[test]
fn what_is_not_as_described_is_found() {
    let description = json!({"schemas": {"Side": {"type": "object", "required": ["n"], "properties": {
        "n": {"type": "integer"}, "at": {"type": ["string", "null"], "format": "date-time"},
        "word": {"type": "string", "enum": ["a", "b"]}, "more": {"type": "array", "items": {"$ref": "#/schemas/Side"}},
    }}}});
    let schema = json!({"oneOf": [{"type": "null"}, {"$ref": "#/schemas/Side"}]});
    for fits in [json!(null), json!({"n": 1, "at": null}), json!({"n": 1, "word": "b", "more": [{"n": 2}]})] {
        assert_eq!(misfit(&description, &schema, &fits), None);
    }
    for (wrong, says) in [
        (json!({}), "\"n\" is missing"),
        (json!({"n": "1"}), ".n: \"1\" is not \"integer\""),
        (json!({"n": 1, "at": "today"}), ".at: \"today\" is no time"),
        (json!({"n": 1, "word": "c"}), ".word: \"c\" is none of"),
        (json!({"n": 1, "more": [{"n": 1, "x": 1}]}), ".more[0].x is not described"),
    ] {
        let misfit = misfit(&description, &schema["oneOf"][1], &wrong).expect(says);
        assert!(misfit.contains(says), "{misfit}");
    }
}
