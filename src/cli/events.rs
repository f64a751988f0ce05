//! `fairway events`: what changed, so far or as it happens.

use std::io::Write;
use std::time::Duration;

use fairway_admin::types::{EventItem, List};
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::args::{EventsArgs, Format};
use super::client::{Answer, Client};
use super::failure::Failure;
use super::table::printable;
use super::write_json;

/// How long the API waits for an event before it answers that there is none.
const LONG_POLL: Duration = Duration::from_secs(30);
/// Pause before the API is asked again after it could not be reached.
const TRY_AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(
    client: &Client,
    args: &EventsArgs,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let answer = client.send(Method::GET, &path(args.after, None), None, Duration::ZERO).await?;
    if !args.follow && format == Format::Json {
        return write_json(out, &answer);
    }
    let last = print(client, &answer, format, out)?.or(args.after);
    if args.follow { follow(client, last, format, out).await } else { Ok(()) }
}

/// Prints what comes, for ever. A Fairway that is restarted in the meantime is waited for.
async fn follow(
    client: &Client,
    mut last: Option<u64>,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    loop {
        last = match next(client, last).await {
            Ok(answer) => print(client, &answer, format, out)?.or(last),
            Err(failure @ Failure::Unreachable { .. }) => {
                eprintln!("fairway: {failure}; trying again");
                sleep(TRY_AGAIN).await;
                last
            }
            Err(failure) if is_compacted(&failure) && last.is_some() => {
                eprintln!("fairway: {failure}; going on with the oldest that is kept");
                None
            }
            Err(failure) => return Err(failure),
        };
    }
}

async fn next(client: &Client, after: Option<u64>) -> Result<Answer, Failure> {
    client.send(Method::GET, &path(after, Some(LONG_POLL)), None, LONG_POLL).await
}

fn path(after: Option<u64>, wait: Option<Duration>) -> String {
    let mut query = Vec::new();
    query.extend(after.map(|revision| format!("after={revision}")));
    query.extend(wait.map(|wait| format!("wait={}s", wait.as_secs())));
    if query.is_empty() { "/api/v1/events".into() } else { format!("/api/v1/events?{}", query.join("&")) }
}

fn is_compacted(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.status == StatusCode::GONE)
}

/// Prints each event as a line, and gives the last one's revision.
fn print(
    client: &Client,
    answer: &Answer,
    format: Format,
    out: &mut impl Write,
) -> Result<Option<u64>, Failure> {
    let raw: List<Value> = client.read(answer)?;
    let list: List<EventItem> = client.read(answer)?;
    for (raw, event) in raw.items.iter().zip(&list.items) {
        match format {
            Format::Json => writeln!(out, "{raw}")?,
            Format::Table => writeln!(out, "{}", line(event))?,
        }
    }
    out.flush()?;
    Ok(list.items.iter().map(|event| event.revision).max())
}

/// `REVISION TIME TYPE SUBJECT FROM -> TO (REASON)`. Lines come one by one, so columns are fixed rather than fitted.
fn line(event: &EventItem) -> String {
    let EventItem { revision, at, kind, subject, from, to, reason } = event;
    let change = match (from.as_str(), to.as_str()) {
        ("", "") => String::new(),
        ("", to) => format!("  {to}"),
        (from, "") => format!("  was {from}"),
        (from, to) => format!("  {from} -> {to}"),
    };
    let reason = if reason.is_empty() { String::new() } else { format!("  ({reason})") };
    printable(&format!("{revision:<6} {at:.3}  {kind:<18}  {subject}{change}{reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Exchange, against, http};

    const LIST: &str = r#"{"items":[
        {"revision":7,"at":"2026-11-21T10:00:00.1234Z","type":"instance-condition","subject":"0123456789ab:80",
         "from":"pending","to":"ready","reason":"GET / answered 200"},
        {"revision":8,"at":"2026-11-21T10:00:01Z","type":"route-removed","subject":"a.com/","from":"equal","to":"","reason":""}
        ],"revision":9}"#;

    #[tokio::test]
    async fn each_event_is_a_line() {
        let Exchange { result, out, requests } =
            against("events --after 6", vec![http("200 OK", LIST)]).await;
        result.expect("they are listed");
        assert!(requests[0].starts_with("GET /api/v1/events?after=6 "), "{}", requests[0]);
        assert_eq!(
            out,
            "7      2026-11-21T10:00:00.123Z  instance-condition  0123456789ab:80  pending -> ready  (GET / answered 200)\n\
             8      2026-11-21T10:00:01.000Z  route-removed       a.com/  was equal\n"
        );
    }

    #[tokio::test]
    async fn following_goes_on_after_the_last_event_and_starts_over_when_it_was_compacted() {
        let gone = r#"{"type":"/p/compacted","title":"Gone","status":410,"detail":"too long ago"}"#;
        let refused =
            r#"{"type":"/p/token","title":"Unauthorized","status":401,"detail":"a token is needed"}"#;
        let answers = vec![
            http("200 OK", LIST),
            http("200 OK", r#"{"items":[],"revision":9}"#),
            http("410 Gone", gone),
            http("401 Unauthorized", refused),
        ];
        let Exchange { result, out, requests } = against("events --follow -o json", answers).await;
        assert!(matches!(result, Err(Failure::Refused(_))), "{result:?}");
        let paths: Vec<_> = requests.iter().filter_map(|request| request.split(' ').nth(1)).collect();
        let polled = "/api/v1/events?after=8&wait=30s";
        assert_eq!(paths, ["/api/v1/events", polled, polled, "/api/v1/events?wait=30s"]);
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["type"], "route-removed");
    }
}
