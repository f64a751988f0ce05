//! `fairway drain`, `disable` and `activate`: the state of an instance or of a whole backend, and the wait for what
//! follows from it.

use std::io::Write;
use std::time::Duration;

use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::args::{Format, StateArgs};
use super::client::{Answer, Client, component};
use super::failure::Failure;
use super::shapes::{Instance, List};
use super::{tables, write_json};

/// Between two looks at what is still in flight: requests end without an event that could be awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Drain,
    Disable,
    Activate,
}

impl Order {
    /// The state that is asked for.
    fn state(self) -> &'static str {
        match self {
            Self::Drain => "draining",
            Self::Disable => "disabled",
            Self::Activate => "active",
        }
    }
}

/// What the order was given for.
enum Subject {
    Instances,
    Backend(String),
}

pub(crate) async fn run(
    client: &Client,
    order: Order,
    args: &StateArgs,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (subject, answer) = set(client, order, args).await?;
    let instances = concerned(client, &subject, &args.subject).await?;
    if format == Format::Json {
        write_json(out, &answer)?;
    } else {
        let what = match &subject {
            Subject::Backend(id) => format!("the backend {id}"),
            Subject::Instances => format!("the instance {}", args.subject),
        };
        writeln!(out, "{what} is {}", order.state())?;
        out.write_all(tables::instances(&instances, Timestamp::now()).as_bytes())?;
    }
    out.flush()?;
    if args.wait { wait(client, order, &subject, args).await } else { Ok(()) }
}

/// Tries the name as an instance's first, then as a backend's.
async fn set(client: &Client, order: Order, args: &StateArgs) -> Result<(Subject, Answer), Failure> {
    let mut body = json!({ "state": order.state() });
    if let Some(reason) = &args.reason {
        body["reason"] = reason.as_str().into();
    }
    let name = component(&args.subject);
    let put = |path: String| {
        let body = &body;
        async move { client.send(Method::PUT, &path, Some(body), Duration::ZERO).await }
    };
    match put(format!("/api/v1/instances/{name}/state")).await {
        Ok(answer) => Ok((Subject::Instances, answer)),
        Err(failure) if is_not_found(&failure) => {
            let answer = put(format!("/api/v1/backends/{name}/state")).await.map_err(|failure| {
                if is_not_found(&failure) { neither(&args.subject, &failure) } else { failure }
            })?;
            let backend: Value = client.read(&answer)?;
            let id = backend["id"].as_str().unwrap_or(&args.subject).to_owned();
            Ok((Subject::Backend(id), answer))
        }
        Err(failure) => Err(failure),
    }
}

fn is_not_found(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.status == StatusCode::NOT_FOUND)
}

fn neither(name: &str, failure: &Failure) -> Failure {
    Failure::NoSuch(format!("`{name}` is no instance, and as a backend: {failure}"))
}

/// The instances that the order was given for, as they are now. One that is gone is left out.
async fn concerned(client: &Client, subject: &Subject, name: &str) -> Result<Vec<Instance>, Failure> {
    let list: List<Instance> = client.get("/api/v1/instances").await?;
    let is_concerned = |instance: &Instance| match subject {
        Subject::Backend(id) => instance.backend == *id,
        Subject::Instances => is_named(instance, name),
    };
    Ok(list.items.into_iter().filter(is_concerned).collect())
}

/// By id, by the container's name, or by at least 12 digits of its id.
fn is_named(instance: &Instance, name: &str) -> bool {
    let short = instance.id.split(':').next().unwrap_or_default();
    instance.id == name || instance.name == name || (short.len() == 12 && name.starts_with(short))
}

/// Until nothing is in flight; after `activate` until everything is ready. Tells on standard error what it waits for.
async fn wait(client: &Client, order: Order, subject: &Subject, args: &StateArgs) -> Result<(), Failure> {
    let mut told = String::new();
    loop {
        let instances = concerned(client, subject, &args.subject).await?;
        let Some(what) = awaited(order, &instances)? else { return Ok(()) };
        if what != told {
            eprintln!("{what}");
            told = what;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// What is still to come; `None` when nothing is.
fn awaited(order: Order, instances: &[Instance]) -> Result<Option<String>, Failure> {
    if order == Order::Activate {
        let is_ready = |instance: &&Instance| matches!(instance.condition.as_str(), "ready" | "unknown");
        let ready = instances.iter().filter(is_ready).count();
        return Ok((ready < instances.len()).then(|| format!("{ready} of {} ready", instances.len())));
    }
    if let Some(other) = instances.iter().find(|instance| instance.state == "active") {
        return Err(Failure::NoSuch(format!("{} was made active again in the meantime", other.id)));
    }
    match instances.iter().map(|instance| instance.in_flight.unwrap_or(0)).sum() {
        0u64 => Ok(None),
        1 => Ok(Some("1 request in flight".to_owned())),
        n => Ok(Some(format!("{n} requests in flight"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Exchange, against, http};

    const NOT_FOUND: &str =
        r#"{"type":"/p/unknown","title":"Not Found","status":404,"detail":"there is no such thing"}"#;

    fn instance(state: &str, condition: &str, in_flight: u64) -> String {
        format!(
            r#"{{"id":"0123456789ab:80","name":"web-1","backend":"web@v1","state":"{state}","condition":"{condition}","in_flight":{in_flight}}}"#
        )
    }

    fn list(items: &str) -> String {
        http("200 OK", &format!(r#"{{"items":[{items}],"revision":1}}"#))
    }

    #[tokio::test]
    async fn an_instance_is_tried_before_a_backend() {
        let one = instance("draining", "ready", 0);
        let answers = vec![http("200 OK", &one), list(&one)];
        let Exchange { result, out, requests } = against("drain web-1 --reason disk", answers).await;
        result.expect("it drains");
        assert!(requests[0].starts_with("PUT /api/v1/instances/web-1/state "), "{}", requests[0]);
        assert!(requests[0].contains(r#""state":"draining""#) && requests[0].contains(r#""reason":"disk""#));
        assert!(
            out.starts_with("the instance web-1 is draining\n") && out.contains("0123456789ab:80"),
            "{out}"
        );
    }

    #[tokio::test]
    async fn a_backend_is_named_in_full_and_its_instances_are_listed() {
        let answers = vec![
            http("404 Not Found", NOT_FOUND),
            http("200 OK", r#"{"id":"web@v1","state":"disabled"}"#),
            list(&instance("disabled", "ready", 0)),
        ];
        let Exchange { result, out, requests } = against("disable v1", answers).await;
        result.expect("it is disabled");
        assert!(requests[1].starts_with("PUT /api/v1/backends/v1/state "), "{}", requests[1]);
        assert!(out.starts_with("the backend web@v1 is disabled\n") && out.contains("web-1"), "{out}");
    }

    #[tokio::test]
    async fn candidates_are_told_and_what_is_neither_is_said_so() {
        let ambiguous = r#"{"type":"/p/ambiguous","status":409,"title":"Conflict","detail":"`v1` may be several","candidates":["a@v1","b@v1"]}"#;
        let answers = vec![http("404 Not Found", NOT_FOUND), http("409 Conflict", ambiguous)];
        let text = against("drain v1", answers).await.result.expect_err("two").to_string();
        assert!(text.contains("a@v1") && text.contains("b@v1"), "{text}");
        let answers = vec![http("404 Not Found", NOT_FOUND), http("404 Not Found", NOT_FOUND)];
        let text = against("drain v9", answers).await.result.expect_err("none").to_string();
        assert!(text.contains("`v9` is no instance, and as a backend: there is no such thing"), "{text}");
    }

    #[tokio::test]
    async fn the_wait_ends_when_nothing_is_in_flight() {
        let busy = list(&instance("draining", "ready", 2));
        let idle = list(&instance("draining", "ready", 0));
        let answers = vec![http("200 OK", &instance("draining", "ready", 2)), busy.clone(), busy, idle];
        let Exchange { result, requests, .. } = against("drain web-1 --wait", answers).await;
        result.expect("it is drained");
        assert_eq!(requests.len(), 4);
    }

    #[test]
    fn what_is_waited_for_depends_on_the_order() {
        let read =
            |text: String| -> Vec<Instance> { vec![serde_json::from_str(&text).expect("an instance")] };
        let busy = read(instance("draining", "ready", 1));
        assert_eq!(awaited(Order::Drain, &busy).ok().flatten().as_deref(), Some("1 request in flight"));
        let pending = read(instance("active", "pending", 0));
        assert_eq!(awaited(Order::Activate, &pending).ok().flatten().as_deref(), Some("0 of 1 ready"));
        assert!(awaited(Order::Drain, &pending).is_err(), "somebody activated it");
        assert!(matches!(awaited(Order::Disable, &[]), Ok(None)));
    }
}
