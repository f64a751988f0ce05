//! `fairway mirror`: copies of a route's requests, ordered or taken back; prints what then holds.

use std::io::Write;
use std::time::Duration;

use fairway_admin::types::Route;
use hyper::Method;
use serde_json::{Value, json};

use super::args::{Format, MirrorArgs};
use super::client::{Client, component};
use super::failure::Failure;
use super::{tables, write_json};

pub(crate) async fn run(
    client: &Client,
    args: &MirrorArgs,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let route = format!("/api/v1/routes/{}", component(&args.route));
    let path = format!("{route}/mirror");
    let answer = if args.off {
        client.send(Method::DELETE, &path, None, Duration::ZERO).await?;
        client.send(Method::GET, &route, None, Duration::ZERO).await?
    } else {
        client.send(Method::PUT, &path, Some(&body(args)), Duration::ZERO).await?
    };
    match format {
        Format::Json => write_json(out, &answer),
        Format::Table => Ok(out.write_all(tables::one_route(&client.read::<Route>(&answer)?).as_bytes())?),
    }
}

fn body(args: &MirrorArgs) -> Value {
    let mut body = json!({ "to": args.backend, "percent": args.percent.map(|percent| percent.get()) });
    if let Some(reason) = &args.reason {
        body["reason"] = reason.as_str().into();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Exchange, against, http};

    const ROUTE: &str = r#"{"id":"shop.a.com/","host":"shop.a.com","path":"/","scheme":"http","etag":"\"1\"","project":null,
        "sticky":false,"split_by":"request","ends_at":null,"split":null,
        "mirror":{"to":"web@v2","percent":0.5,"author":"ops","at":"2026-11-21T10:00:00Z","reason":"a look"},
        "backends":[{"id":"web@v2","weight":null,"share":1.0,"ready":1,"desired":null,"state":"active"}]}"#;

    #[tokio::test]
    async fn a_mirror_is_put_and_what_holds_is_printed() {
        let line = "mirror shop.a.com/ v2 --percent 0.5 --reason look";
        let Exchange { result, out, requests } = against(line, vec![http("200 OK", ROUTE)]).await;
        result.expect("it is set");
        assert!(requests[0].starts_with("PUT /api/v1/routes/shop.a.com%2F/mirror "), "{}", requests[0]);
        let body = requests[0].split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        let body: Value = serde_json::from_str(&body.unwrap_or_default()).expect("json");
        assert_eq!(body, json!({"to": "v2", "percent": 0.5, "reason": "look"}));
        assert!(out.contains("equal, copies 0.5 %"), "{out}");
        assert!(
            out.ends_with("0.5 % copied to web@v2, ordered by ops at 2026-11-21T10:00:00Z: a look\n"),
            "{out}"
        );
    }

    #[tokio::test]
    async fn taken_back_it_shows_what_holds_afterwards() {
        let answers = vec![http("200 OK", ROUTE), http("200 OK", ROUTE)];
        let Exchange { result, requests, .. } = against("mirror shop.a.com/ --off", answers).await;
        result.expect("it is taken back");
        assert!(requests[0].starts_with("DELETE /api/v1/routes/shop.a.com%2F/mirror "), "{}", requests[0]);
        assert!(requests[1].starts_with("GET /api/v1/routes/shop.a.com%2F "), "{}", requests[1]);
    }
}
