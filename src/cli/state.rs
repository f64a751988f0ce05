//! `fairway drain`, `disable` and `activate`: the state of an instance or of a whole backend, and the wait for what
//! follows from it.

use std::io::Write;
use std::time::Duration;

use fairway_admin::types::{Backend, Condition, Instance, InstanceFound, List, State, StateOrder};
use hyper::{Method, StatusCode};
use jiff::Timestamp;
use tokio::time::sleep;

use super::args::{Format, StateArgs};
use super::client::{Answer, Client, component};
use super::failure::Failure;
use super::{tables, write_json};

/// Between two looks at what is still in flight: requests end without an event that could be awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Looks with nothing in flight after which a drain that goes on is one of clients that are bound: other drains end at once.
const QUIET_LOOKS: u32 = 4;

/// What is told of such a drain.
const NOTHING: &str = "nothing in flight; where a cookie binds clients, they may still come";

/// What the order turned out to be for.
enum Subject {
    /// Instances by their ids: all ports of a container.
    Instances(Vec<String>),
    /// A backend by its full name.
    Backend(String),
}

impl Subject {
    fn concerns(&self, instance: &Instance) -> bool {
        match self {
            Self::Instances(ids) => ids.contains(&instance.id),
            Self::Backend(id) => instance.backend == *id,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Instances(ids) => ids.join(", "),
            Self::Backend(id) => id.clone(),
        }
    }
}

/// Orders the state and prints what then holds.
pub(crate) async fn run(
    client: &Client,
    state: State,
    args: &StateArgs,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (subject, answer) = order(client, state, args).await?;
    match format {
        Format::Json => write_json(out, &answer)?,
        Format::Table => {
            let instances = concerned(client, &subject).await?;
            out.write_all(became(&subject, state, &instances).as_bytes())?;
            out.write_all(tables::instances(&instances, Timestamp::now()).as_bytes())?;
        }
    }
    out.flush()?;
    if args.wait { wait(client, state, &subject).await } else { Ok(()) }
}

/// Tries the name as an instance's first, then as a backend's.
async fn order(client: &Client, state: State, args: &StateArgs) -> Result<(Subject, Answer), Failure> {
    let order = StateOrder { state, reason: args.reason.clone().unwrap_or_default() };
    let order = serde_json::to_value(order).map_err(|error| Failure::Usage(error.to_string()))?;
    let put = async |kind: &str| {
        let path = format!("/api/v1/{kind}/{}/state", component(&args.subject));
        client.send(Method::PUT, &path, Some(&order), Duration::ZERO).await
    };
    match put("instances").await {
        Ok(answer) => {
            let InstanceFound { instance, also } = client.read(&answer)?;
            let ids = std::iter::once(instance).chain(also).map(|instance| instance.id).collect();
            Ok((Subject::Instances(ids), answer))
        }
        Err(no_instance) if is_not_found(&no_instance) => match put("backends").await {
            Ok(answer) => {
                let backend: Backend = client.read(&answer)?;
                Ok((Subject::Backend(backend.id), answer))
            }
            Err(no_backend) if is_not_found(&no_backend) => {
                let name = &args.subject;
                Err(Failure::NoSuch(format!("`{name}` is neither an instance nor a backend\n{no_backend}")))
            }
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(failure),
    }
}

fn is_not_found(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.status == StatusCode::NOT_FOUND)
}

/// The instances that the order is for, as they are now. One that is gone is left out.
async fn concerned(client: &Client, subject: &Subject) -> Result<Vec<Instance>, Failure> {
    let list: List<Instance> = client.get("/api/v1/instances").await?;
    Ok(list.items.into_iter().filter(|instance| subject.concerns(instance)).collect())
}

/// What came of the order: of what is set on an instance and on its backend the stronger holds.
fn became(subject: &Subject, state: State, instances: &[Instance]) -> String {
    let held: Vec<&Instance> = instances.iter().filter(|instance| instance.state != state).collect();
    let whole = match subject {
        Subject::Instances(_) if !held.is_empty() => String::new(),
        _ => format!("{} is {state}\n", subject.shown()),
    };
    let by_whom = |instance: &&Instance| match subject {
        Subject::Instances(_) => {
            format!("{} stays {}: its backend {} is\n", instance.id, instance.state, instance.backend)
        }
        Subject::Backend(_) => format!("{} stays {}: that is set on it alone\n", instance.id, instance.state),
    };
    whole + &held.iter().map(by_whom).collect::<String>()
}

/// Until drains have ended, after `disable` until nothing is in flight, after `activate` until everything is ready. Tells on standard error what it waits for.
async fn wait(client: &Client, state: State, subject: &Subject) -> Result<(), Failure> {
    let mut told = String::new();
    let mut quiet = 0;
    loop {
        let instances = concerned(client, subject).await?;
        let Some(what) = awaited(state, &instances)? else { return Ok(()) };
        quiet = if state == State::Draining && what == NOTHING { quiet + 1 } else { 0 };
        if quiet > QUIET_LOOKS {
            return Ok(());
        }
        if what != told {
            eprintln!("{what}");
            told = what;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// What is still to come; `None` when nothing is.
fn awaited(state: State, instances: &[Instance]) -> Result<Option<String>, Failure> {
    if state == State::Active {
        let active = || instances.iter().filter(|instance| instance.state == State::Active);
        let is_ready =
            |instance: &&Instance| matches!(instance.condition, Condition::Ready | Condition::Unknown);
        let (ready, all) = (active().filter(is_ready).count(), active().count());
        if let (0, Some(held)) = (all, instances.first()) {
            let text = format!("{} stays {}, and nobody is sent to it", held.id, held.state);
            return Err(Failure::NoSuch(text));
        }
        return Ok((ready < all).then(|| format!("{ready} of {all} ready")));
    }
    if let Some(other) = instances.iter().find(|instance| instance.state == State::Active) {
        return Err(Failure::NoSuch(format!("{} was made active again in the meantime", other.id)));
    }
    let drains = |instance: &&Instance| instance.state == State::Draining && instance.drained_at.is_none();
    let still_drains = instances.iter().any(|instance| drains(&instance));
    match instances.iter().map(|instance| instance.in_flight).sum() {
        0u64 if still_drains => Ok(Some(NOTHING.to_owned())),
        0u64 => Ok(None),
        // What is being ended is not waited for.
        _ if state == State::Draining && !still_drains => Ok(None),
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
            r#"{{"id":"0123456789ab:80","name":"web-1","container":"0123456789abcdef","address":"10.0.0.1:80",
            "address_reason":"","backend":"web@v1","node":"n","zone":"","state":"{state}","condition":"{condition}",
            "since":"2026-11-21T10:00:00Z","reason":"","started_at":"2026-11-21T10:00:00Z","in_flight":{in_flight}}}"#
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
        assert!(out.starts_with("0123456789ab:80 is draining\n") && out.contains("web-1"), "{out}");
    }

    #[tokio::test]
    async fn a_backend_is_named_in_full_and_its_instances_are_listed() {
        let backend = r#"{"id":"web@v1","project":null,"service":"web","version":"v1","routes":[],"ready":0,
            "desired":null,"state":"disabled","instances":1,"in_flight":0}"#;
        let answers = vec![
            http("404 Not Found", NOT_FOUND),
            http("200 OK", backend),
            list(&instance("disabled", "ready", 0)),
        ];
        let Exchange { result, out, requests } = against("disable v1", answers).await;
        result.expect("it is disabled");
        assert!(requests[1].starts_with("PUT /api/v1/backends/v1/state "), "{}", requests[1]);
        assert!(out.starts_with("web@v1 is disabled\n") && out.contains("web-1"), "{out}");
    }

    #[tokio::test]
    async fn an_instance_that_its_backend_keeps_out_is_not_told_to_be_active() {
        let one = instance("disabled", "ready", 0);
        let answers = vec![http("200 OK", &one), list(&one)];
        let Exchange { result, out, .. } = against("activate web-1", answers).await;
        result.expect("the order is carried out");
        assert!(out.starts_with("0123456789ab:80 stays disabled: its backend web@v1 is\n"), "{out}");
    }

    #[tokio::test]
    async fn candidates_are_told_and_what_is_neither_is_said_so() {
        let ambiguous = r#"{"type":"/p/ambiguous","status":409,"title":"Conflict","detail":"`v1` may be several",
            "candidates":["a@v1","b@v1"]}"#;
        let answers = vec![http("404 Not Found", NOT_FOUND), http("409 Conflict", ambiguous)];
        let text = against("drain v1", answers).await.result.expect_err("two").to_string();
        assert!(text.contains("a@v1") && text.contains("b@v1"), "{text}");
        let answers = vec![http("404 Not Found", NOT_FOUND), http("404 Not Found", NOT_FOUND)];
        let text = against("drain v9", answers).await.result.expect_err("none").to_string();
        assert_eq!(text, "`v9` is neither an instance nor a backend\nthere is no such thing");
    }

    #[tokio::test]
    async fn the_wait_ends_with_the_drain() {
        let busy = instance("draining", "ready", 2);
        let idle = instance("draining", "ready", 0);
        let done = idle.replacen('{', r#"{"drained_at":"2026-11-21T10:00:09Z","#, 1);
        let answers = vec![http("200 OK", &busy), list(&busy), list(&busy), list(&idle), list(&done)];
        let Exchange { result, requests, .. } = against("drain web-1 --wait", answers).await;
        result.expect("it is drained");
        assert_eq!(requests.len(), 5);
    }

    #[tokio::test]
    async fn the_wait_for_a_disabled_instance_ends_when_nothing_is_in_flight() {
        let busy = instance("disabled", "ready", 2);
        let idle = instance("disabled", "ready", 0);
        let answers = vec![http("200 OK", &busy), list(&busy), list(&busy), list(&idle)];
        let Exchange { result, requests, .. } = against("disable web-1 --wait", answers).await;
        result.expect("nothing is in flight");
        assert_eq!(requests.len(), 4);
    }

    #[test]
    fn what_is_waited_for_depends_on_the_order() {
        let read =
            |text: String| -> Vec<Instance> { vec![serde_json::from_str(&text).expect("an instance")] };
        let busy = read(instance("draining", "ready", 1));
        assert_eq!(awaited(State::Draining, &busy).ok().flatten().as_deref(), Some("1 request in flight"));
        let pending = read(instance("active", "pending", 0));
        assert_eq!(awaited(State::Active, &pending).ok().flatten().as_deref(), Some("0 of 1 ready"));
        assert!(awaited(State::Draining, &pending).is_err(), "somebody activated it");
        let disabled = read(instance("disabled", "ready", 0));
        assert!(awaited(State::Active, &disabled).is_err(), "its backend is disabled");
        let both = [read(instance("active", "ready", 0)), disabled].concat();
        assert!(matches!(awaited(State::Active, &both), Ok(None)), "one of a backend may be out");
        assert!(matches!(awaited(State::Disabled, &[]), Ok(None)));
    }
}
