//! `fairway split`: a route's weights, set or taken back; prints what then holds.

use std::io::Write;
use std::time::Duration;

use fairway_admin::types::Route;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::args::{Format, SplitArgs};
use super::client::{Client, component};
use super::failure::Failure;
use super::{tables, write_json};

pub(crate) async fn run(
    client: &Client,
    args: &SplitArgs,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let route = format!("/api/v1/routes/{}", component(&args.route));
    let path = format!("{route}/split");
    let answer = if args.clear {
        client.send(Method::DELETE, &path, None, Duration::ZERO).await?;
        client.send(Method::GET, &route, None, Duration::ZERO).await?
    } else {
        client.send(Method::PUT, &path, Some(&body(args)?), Duration::ZERO).await?
    };
    match format {
        Format::Json => write_json(out, &answer),
        Format::Table => Ok(out.write_all(tables::one_route(&client.read::<Route>(&answer)?).as_bytes())?),
    }
}

fn body(args: &SplitArgs) -> Result<Value, Failure> {
    let mut weights = Map::new();
    for (backend, weight) in &args.weights {
        if weights.insert(backend.clone(), weight.get().into()).is_some() {
            return Err(Failure::Usage(format!("`{backend}` is given twice; give each backend one weight")));
        }
    }
    let mut body = json!({ "weights": weights });
    if let Some(expires) = &args.expires {
        body["expires_in"] = expires.as_str().into();
    }
    if let Some(reason) = &args.reason {
        body["reason"] = reason.as_str().into();
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Exchange, against, http};

    const ROUTE: &str = r#"{"id":"shop.a.com/","host":"shop.a.com","path":"/","scheme":"http","etag":"\"1\"","project":null,
        "sticky":false,"split_by":"request","ends_at":null,
        "split":{"layer":"api","author":"ops","at":"2026-11-21T10:00:00Z","expires_at":null,"reason":""},
        "backends":[{"id":"web@v1","weight":95,"share":0.95,"ready":1,"desired":null,"state":"active"}]}"#;

    #[tokio::test]
    async fn weights_are_put_and_what_holds_is_printed() {
        let line = "split shop.a.com/ web@v1=95 v2=5 --expires 2h --reason first";
        let Exchange { result, out, requests } = against(line, vec![http("200 OK", ROUTE)]).await;
        result.expect("it is set");
        assert!(requests[0].starts_with("PUT /api/v1/routes/shop.a.com%2F/split "), "{}", requests[0]);
        let body = requests[0].split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        let body: Value = serde_json::from_str(&body.unwrap_or_default()).expect("json");
        assert_eq!(body, json!({"weights": {"web@v1": 95, "v2": 5}, "expires_in": "2h", "reason": "first"}));
        assert!(out.contains("web@v1   95      95%") && out.contains("set by ops (api)"), "{out}");
    }

    #[tokio::test]
    async fn a_clearing_shows_what_holds_afterwards() {
        let answers = vec![http("204 No Content", ""), http("200 OK", ROUTE)];
        let Exchange { result, out, requests } = against("split shop.a.com/ --clear", answers).await;
        result.expect("it is cleared");
        assert!(requests[0].starts_with("DELETE /api/v1/routes/shop.a.com%2F/split "), "{}", requests[0]);
        assert!(requests[1].starts_with("GET /api/v1/routes/shop.a.com%2F "), "{}", requests[1]);
        assert!(out.contains("shop.a.com/"), "{out}");
    }

    #[tokio::test]
    async fn a_backend_given_twice_is_wrong_use() {
        let Exchange { result, requests, .. } = against("split shop.a.com/ v1=1 v1=2", Vec::new()).await;
        assert!(matches!(result, Err(Failure::Usage(_))));
        assert!(requests.is_empty());
    }
}
