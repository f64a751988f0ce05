//! `fairway limits`: the timeouts and limits of a route: shown with the layers they come from, set, or taken back.

use std::io::Write;
use std::time::Duration;

use fairway_admin::types::{LimitItem, RouteLimits};
use hyper::Method;
use serde_json::{Map, Value};

use super::args::{Format, LimitsArgs};
use super::client::{Client, component};
use super::failure::Failure;
use super::table::Table;
use super::write_json;

pub(crate) async fn run(
    client: &Client,
    args: &LimitsArgs,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let path = format!("/api/v1/routes/{}/limits", component(&args.route));
    if args.clear {
        client.send(Method::DELETE, &path, None, Duration::ZERO).await?;
    } else if !args.limits.is_empty() {
        client.send(Method::PUT, &path, Some(&body(args)?), Duration::ZERO).await?;
    } else if args.expires.is_some() || args.reason.is_some() {
        let text = "there is nothing to set: write LIMIT=VALUE too, such as timeout.total=5s";
        return Err(Failure::Usage(text.to_owned()));
    }
    let answer = client.send(Method::GET, &path, None, Duration::ZERO).await?;
    match format {
        Format::Json => write_json(out, &answer),
        Format::Table => Ok(out.write_all(table(&client.read::<RouteLimits>(&answer)?).as_bytes())?),
    }
}

fn body(args: &LimitsArgs) -> Result<Value, Failure> {
    let mut body = Map::new();
    for (limit, value) in &args.limits {
        if body.insert(limit.to_string(), value.as_str().into()).is_some() {
            return Err(Failure::Usage(format!("`{limit}` is given twice; give each limit one value")));
        }
    }
    if let Some(expires) = &args.expires {
        body.insert("expires_in".to_owned(), expires.as_str().into());
    }
    if let Some(reason) = &args.reason {
        body.insert("reason".to_owned(), reason.as_str().into());
    }
    Ok(body.into())
}

/// A line for each limit; where the backends of the route differ, one for each of them.
fn table(limits: &RouteLimits) -> String {
    let mut table = Table::new(&["LIMIT", "VALUE", "LAYER", "SET BY", "SINCE", "UNTIL", "BACKEND", "REASON"]);
    for item in &limits.items {
        let time = |time: Option<jiff::Timestamp>| time.map_or_else(String::new, |time| format!("{time:.0}"));
        let LimitItem { name, value, layer, author, at, expires_at, reason, backends } = item;
        let author = author.clone().unwrap_or_default();
        if backends.is_empty() {
            let (value, layer) = (value.clone().unwrap_or_default(), layer.to_string());
            let times = (time(*at), time(*expires_at));
            table.row([name.clone(), value, layer, author, times.0, times.1, String::new(), reason.clone()]);
            continue;
        }
        for backend in backends {
            // Whoever is named belongs to the uppermost layer.
            let (author, at, until) = match backend.layer == *layer {
                true => (author.clone(), time(*at), time(*expires_at)),
                false => Default::default(),
            };
            let (value, of) = (backend.value.clone(), backend.layer.to_string());
            table.row([name.clone(), value, of, author, at, until, backend.id.clone(), reason.clone()]);
        }
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Exchange, against, http};

    const LIMITS: &str = r#"{"route":"shop.a.com/","etag":"\"none\"","revision":3,"items":[
        {"name":"timeout.connect","value":"1s","layer":"default","author":null,"at":null,"expires_at":null,"reason":"","backends":[]},
        {"name":"retries","value":null,"layer":"label","author":"labels","at":"2026-11-21T10:00:00Z","expires_at":null,"reason":"",
         "backends":[{"id":"web@v1","value":"0","layer":"label"},{"id":"web@v2","value":"1","layer":"default"}]},
        {"name":"rate_limit","value":"5/s burst 5","layer":"api","author":"ops","at":"2026-11-21T10:00:00Z",
         "expires_at":"2026-11-21T12:00:00Z","reason":"a \u001b[2Jflood","backends":[]}]}"#;

    #[tokio::test]
    async fn a_route_alone_is_shown_with_the_layer_of_each_limit() {
        let Exchange { result, out, requests } =
            against("limits shop.a.com/", vec![http("200 OK", LIMITS)]).await;
        result.expect("it is shown");
        assert!(requests[0].starts_with("GET /api/v1/routes/shop.a.com%2F/limits "), "{}", requests[0]);
        let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["timeout.connect", "1s", "default", "-", "-", "-", "-", "-"]);
        let label = ["retries", "0", "label", "labels", "2026-11-21T10:00:00Z", "-", "web@v1", "-"];
        assert_eq!(lines[2], label);
        assert_eq!(lines[3], ["retries", "1", "default", "-", "-", "-", "web@v2", "-"]);
        assert!(lines[4].starts_with(&["rate_limit", "5/s", "burst", "5", "api", "ops"]), "{out}");
        assert!(out.contains("2026-11-21T12:00:00Z") && !out.contains('\u{1b}'), "{out}");
        let json = against("limits shop.a.com/ -o json", vec![http("200 OK", LIMITS)]).await;
        assert_eq!(json.out, format!("{LIMITS}\n"));
    }

    #[tokio::test]
    async fn limits_are_put_or_taken_back_and_what_then_holds_is_shown() {
        let line = "limits shop.a.com/ timeout.total=5s rate_limit=5/s retries=0 --expires 2h --reason flood";
        let answers = || vec![http("200 OK", "{}"), http("200 OK", LIMITS)];
        let Exchange { result, out, requests } = against(line, answers()).await;
        result.expect("they are set");
        assert!(requests[0].starts_with("PUT /api/v1/routes/shop.a.com%2F/limits "), "{}", requests[0]);
        let body = requests[0].split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        let body: Value = serde_json::from_str(&body.unwrap_or_default()).expect("json");
        let want = json!({"timeout.total": "5s", "rate_limit": "5/s", "retries": "0", "expires_in": "2h", "reason": "flood"});
        assert_eq!(body, want);
        assert!(requests[1].starts_with("GET ") && out.contains("rate_limit"), "{out}");
        let Exchange { result, requests, .. } = against("limits shop.a.com/ --clear", answers()).await;
        result.expect("they are taken back");
        assert!(requests[0].starts_with("DELETE /api/v1/routes/shop.a.com%2F/limits "), "{}", requests[0]);
    }

    #[tokio::test]
    async fn a_limit_given_twice_and_a_reason_for_nothing_are_wrong_use() {
        for line in [
            "limits shop.a.com/ retries=1 retries=2",
            "limits shop.a.com/ --reason why",
            "limits a.com --expires 2h",
        ] {
            let Exchange { result, requests, .. } = against(line, Vec::new()).await;
            assert!(matches!(result, Err(Failure::Usage(_))), "{line}");
            assert!(requests.is_empty());
        }
    }
}
