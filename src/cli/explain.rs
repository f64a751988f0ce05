//! `fairway explain URL`: which rule, why, which instance would serve, and why not the others.

use std::io::Write;
use std::time::Duration;

use fairway_proxy::explain::{Explanation, explain_text};
use hyper::Method;
use serde_json::Value;

use super::args::{ExplainArgs, Format};
use super::client::{Client, component};
use super::failure::Failure;
use super::outline::Outline;
use super::table::printable;
use super::write_json;

pub(crate) async fn run(
    client: &Client,
    args: &ExplainArgs,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let answer = client.send(Method::GET, &path(args), None, Duration::ZERO).await?;
    match format {
        Format::Json => write_json(out, &answer),
        Format::Table => Ok(out.write_all(text(client.read(&answer)?, || client.read(&answer))?.as_bytes())?),
    }
}

/// The explanation for people; in outline where a Fairway of another version explains in another shape.
fn text(answer: Value, outline: impl FnOnce() -> Result<Outline, Failure>) -> Result<String, Failure> {
    match serde_json::from_value::<Explanation>(made_printable(answer)) {
        Ok(explanation) => Ok(explain_text(&explanation)),
        Err(_) => Ok(outline()?.print()),
    }
}

/// Labels, names and reasons are written by strangers.
fn made_printable(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable(&text)),
        Value::Array(items) => items.into_iter().map(made_printable).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, made_printable(value))).collect()
        }
        other => other,
    }
}

fn path(args: &ExplainArgs) -> String {
    let mut path = format!("/api/v1/explain?url={}", component(&args.url));
    if let Some(method) = &args.method {
        path.push_str(&format!("&method={}", component(method)));
    }
    for (name, value) in &args.headers {
        path.push_str(&format!("&header={}", component(&format!("{name}:{value}"))));
    }
    if let Some(client) = args.client {
        path.push_str(&format!("&client={}", component(&client.to_string())));
    }
    path
}

#[cfg(test)]
mod tests {
    use crate::cli::testing::{Exchange, against, http};

    #[tokio::test]
    async fn the_whole_request_is_asked_about() {
        let line = "explain http://a.com/x?y=1 -H cookie:beta=1 -H x-group:b --client 10.0.0.1 --method POST";
        let Exchange { result, out, requests } =
            against(line, vec![http("200 OK", r#"{"route":"a.com/"}"#)]).await;
        result.expect("it is explained");
        let want = "GET /api/v1/explain?url=http%3A%2F%2Fa.com%2Fx%3Fy%3D1&method=POST&header=cookie%3Abeta%3D1\
                    &header=x-group%3Ab&client=10.0.0.1 ";
        assert!(requests[0].starts_with(want), "{}", requests[0]);
        assert_eq!(out, "route: a.com/\n", "a shape that is not known is shown in outline");
    }

    #[tokio::test]
    async fn an_explanation_reads_as_the_proxy_words_it_and_obeys_nobody() {
        let answer = r#"{"request":{"method":"GET","host":"a.com","path":"/","client":"10.0.0.1","internal":true,
            "secure":false},"verdict":"404: no\u001b[2J route","reason":"no-route","status":404,
            "candidates":[{"route":"b.com/","chosen":false,"why":"another\nhost"}],"revision":7}"#;
        let Exchange { out, .. } = against("explain http://a.com/", vec![http("200 OK", answer)]).await;
        assert!(out.starts_with("GET http://a.com/\n  from 10.0.0.1 (internal), revision 7\n"), "{out}");
        assert!(
            out.contains("=> 404: no\\u{1b}[2J route\n") && out.contains("b.com/: another\\nhost\n"),
            "{out}"
        );
    }
}
