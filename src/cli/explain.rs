//! `fairway explain URL`: which rule, why, which instance would serve, and why not the others.

use std::io::Write;
use std::time::Duration;

use hyper::Method;

use super::args::{ExplainArgs, Format};
use super::client::{Client, component};
use super::failure::Failure;
use super::outline::Outline;
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
        Format::Table => Ok(out.write_all(client.read::<Outline>(&answer)?.print().as_bytes())?),
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
        assert_eq!(out, "route: a.com/\n");
    }
}
