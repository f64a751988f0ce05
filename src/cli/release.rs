//! `fairway release`: begun, looked at, held, confirmed, taken back; prints where it then is.

use std::io::Write;
use std::time::Duration;

use fairway_admin::types::{Evidence, Release, Side};
use hyper::Method;
use serde_json::{Value, json};

use super::args::{Format, ReleaseCommand, ReleaseStartArgs, ReleaseStepArgs};
use super::client::{Client, component};
use super::failure::Failure;
use super::table::{Table, printable};
use super::{list, write_json};

pub(crate) async fn run(
    client: &Client,
    command: &ReleaseCommand,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (method, path, body) = match command {
        ReleaseCommand::Status(args) => match &args.route {
            None => return list(client, "releases", format, many, out).await,
            Some(route) => (Method::GET, path(route, ""), None),
        },
        ReleaseCommand::Start(args) => (Method::POST, path(&args.route, ""), Some(start(args))),
        ReleaseCommand::Confirm(args) => {
            let body = with_reason(json!({ "keep_weights": args.keep_weights }), args.reason.as_deref());
            (Method::POST, path(&args.route, "/confirm"), Some(body))
        }
        ReleaseCommand::Rollback(args) => step(args, "/rollback"),
        ReleaseCommand::Pause(args) => step(args, "/pause"),
        ReleaseCommand::Resume(args) => step(args, "/resume"),
    };
    let answer = client.send(method, &path, body.as_ref(), Duration::ZERO).await?;
    match format {
        Format::Json => write_json(out, &answer),
        Format::Table => Ok(out.write_all(one(&client.read(&answer)?).as_bytes())?),
    }
}

fn path(route: &str, end: &str) -> String {
    format!("/api/v1/routes/{}/release{end}", component(route))
}

fn step(args: &ReleaseStepArgs, end: &str) -> (Method, String, Option<Value>) {
    (Method::POST, path(&args.route, end), Some(with_reason(json!({}), args.reason.as_deref())))
}

fn start(args: &ReleaseStartArgs) -> Value {
    let ReleaseStartArgs { route: _, to, steps, step_seconds, manual, max_error_rate, reason, api: _ } = args;
    let mut body = json!({ "to": to, "manual": manual });
    if let Some(steps) = steps {
        body["steps"] = json!(steps);
    }
    if let Some(seconds) = step_seconds {
        body["step_seconds"] = json!(seconds);
    }
    if let Some(rate) = max_error_rate {
        body["max_error_rate"] = json!(rate);
    }
    with_reason(body, reason.as_deref())
}

fn with_reason(mut body: Value, reason: Option<&str>) -> Value {
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    body
}

fn many(releases: &[Release]) -> String {
    let mut table = Table::new(&["ROUTE", "TO", "STATE", "WEIGHT", "STEP", "WHY"]);
    for release in releases {
        let Release { route, to, state, weight, reason, .. } = release;
        let (weight, step) = (format!("{weight}%"), steps(release));
        table.row([route.clone(), to.clone(), state.clone(), weight, step, reason.clone()]);
    }
    if table.is_empty() { "no releases\n".to_owned() } else { table.print() }
}

fn steps(release: &Release) -> String {
    match release.manual {
        true => "manual".to_owned(),
        false => format!("{} of {}", release.step, release.steps.len()),
    }
}

/// One release with its evidence, each figure on a line of its own.
fn one(release: &Release) -> String {
    let Release { route, state, to, from, weight, since, reason, ending, evidence, ordered, .. } = release;
    let ending = ending.as_ref().map(|ending| format!(" ({ending})")).unwrap_or_default();
    let time = match release.steps.is_empty() || ["waiting", "done", "rolled_back"].contains(&state.as_str())
    {
        true => String::new(),
        false => format!(", {} of {} s", release.step_seconds_over, release.step_seconds),
    };
    let why = if ordered.reason.is_empty() { String::new() } else { format!(": {}", ordered.reason) };
    let lines = [
        ("route", route.clone()),
        ("release", format!("{to} from {}", from.join(", "))),
        ("state", format!("{state}{ending} since {since:.0}")),
        ("why", reason.clone()),
        ("weight", format!("{weight}%, step {}{time}", steps(release))),
        ("canary", side(&evidence.canary)),
        ("stable", side(&evidence.stable)),
        ("evidence", against(evidence)),
        ("ordered", format!("by {} at {:.0}{why}", ordered.author, ordered.at)),
    ];
    lines.iter().map(|(name, value)| format!("{name:<9} {}\n", printable(value))).collect()
}

fn against(evidence: &Evidence) -> String {
    let Evidence { odds, odds_needed, most, .. } = evidence;
    // It wavers about 1 while there is nothing to be seen.
    let what = if *odds < 2.0 { "none against it" } else { most };
    let odds = if *odds < 10.0 { format!("{odds:.2}") } else { format!("{odds:.0}") };
    format!("{what} ({odds}:1; {odds_needed:.0}:1 takes it back)")
}

fn side(side: &Side) -> String {
    let Side { requests, failures, failure_rate, p50_ms, p90_ms, p99_ms } = side;
    let Some(rate) = failure_rate else { return "no requests".to_owned() };
    let mut text = format!("{failures} of {requests} requests failed ({:.2} %)", rate * 100.0);
    for (name, millis) in [("p50", p50_ms), ("p90", p90_ms), ("p99", p99_ms)] {
        if let Some(millis) = millis {
            text.push_str(&format!(", {name} {millis:.1} ms"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Exchange, against, http};

    const RELEASE: &str = r#"{"route":"shop.a.com/","state":"rolled_back","to":"web@v2","from":["web@v1"],"step":2,
        "steps":[1,5,100],"step_seconds":60,"step_seconds_over":12,"weight":0,"manual":false,"max_error_rate":null,
        "since":"2026-11-21T10:00:00Z","reason":"more of its requests fail","ending":"failures",
        "evidence":{"canary":{"requests":200,"failures":10,"failure_rate":0.05,"p50_ms":20.5,"p90_ms":40.0,"p99_ms":80.0},
        "stable":{"requests":0,"failures":0,"failure_rate":null,"p50_ms":null,"p90_ms":null,"p99_ms":null},
        "odds":310.5,"odds_needed":125.0,"most":"more of its requests fail"},
        "ordered":{"author":"ops","at":"2026-11-21T09:58:00Z","reason":"1.2.3"}}"#;

    fn body(request: &str) -> Value {
        let body = request.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        serde_json::from_str(body).expect("json")
    }

    #[tokio::test]
    async fn a_start_says_what_was_written_and_leaves_the_rest_to_the_defaults() {
        let line = "release start shop.a.com/ --to v2 --steps 1,5 --step-seconds 30 --max-error-rate 0.05 --reason 1.2.3";
        let Exchange { result, out, requests } = against(line, vec![http("201 Created", RELEASE)]).await;
        result.expect("it has begun");
        assert!(requests[0].starts_with("POST /api/v1/routes/shop.a.com%2F/release "), "{}", requests[0]);
        let want = json!({"to": "v2", "manual": false, "steps": [1.0, 5.0], "step_seconds": 30, "max_error_rate": 0.05,
            "reason": "1.2.3"});
        assert_eq!(body(&requests[0]), want);
        let want = "route     shop.a.com/\n\
                    release   web@v2 from web@v1\n\
                    state     rolled_back (failures) since 2026-11-21T10:00:00Z\n\
                    why       more of its requests fail\n\
                    weight    0%, step 2 of 3\n\
                    canary    10 of 200 requests failed (5.00 %), p50 20.5 ms, p90 40.0 ms, p99 80.0 ms\n\
                    stable    no requests\n\
                    evidence  more of its requests fail (310:1; 125:1 takes it back)\n\
                    ordered   by ops at 2026-11-21T09:58:00Z: 1.2.3\n";
        assert_eq!(out, want);
    }

    #[tokio::test]
    async fn each_order_has_its_own_path() {
        for (line, path, want) in [
            ("release confirm a.com/ --keep-weights", "confirm", json!({"keep_weights": true})),
            ("release rollback a.com/ --reason slow", "rollback", json!({"reason": "slow"})),
            ("release pause a.com/", "pause", json!({})),
            ("release resume a.com/", "resume", json!({})),
        ] {
            let Exchange { result, requests, .. } = against(line, vec![http("200 OK", RELEASE)]).await;
            result.expect(line);
            assert!(
                requests[0].starts_with(&format!("POST /api/v1/routes/a.com%2F/release/{path} ")),
                "{line}"
            );
            assert_eq!(body(&requests[0]), want, "{line}");
        }
    }

    #[tokio::test]
    async fn the_status_is_a_table_of_all_or_one_with_its_evidence() {
        let all = format!(r#"{{"items":[{RELEASE}],"revision":3}}"#);
        let Exchange { out, requests, .. } = against("release status", vec![http("200 OK", &all)]).await;
        assert!(requests[0].starts_with("GET /api/v1/releases "), "{}", requests[0]);
        assert_eq!(
            out,
            "ROUTE        TO      STATE        WEIGHT  STEP    WHY\n\
             shop.a.com/  web@v2  rolled_back  0%      2 of 3  more of its requests fail\n"
        );
        let Exchange { out, requests, .. } =
            against("release status shop.a.com/ -o json", vec![http("200 OK", RELEASE)]).await;
        assert!(requests[0].starts_with("GET /api/v1/routes/shop.a.com%2F/release "), "{}", requests[0]);
        assert_eq!(out, format!("{RELEASE}\n"));
    }
}
