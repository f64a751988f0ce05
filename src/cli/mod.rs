//! The commands of the command line but `run`: those that ask a running Fairway, and those that look at files.
//!
//! `args` reads the line; each family of commands has a file of its own; `client` asks the admin API.

mod address;
pub(crate) mod args;
mod check;
mod client;
mod completions;
mod events;
mod explain;
mod failure;
mod limits;
mod lint;
mod mirror;
mod outline;
mod release;
mod split;
mod state;
mod status;
mod table;
mod tables;
#[cfg(test)]
mod testing;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use args::{ApiArgs, Ask, Format, Tool};
use client::{Answer, Client};
use failure::Failure;
use fairway_admin::types::{List, State, Status};
use hyper::Method;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

/// Runs a command to its end. Output goes to standard output, complaints to standard error.
pub(crate) fn run(tool: Tool, before: ApiArgs) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match execute(tool, before, &mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                eprintln!("{message}");
            }
            failure.exit_code()
        }
    }
}

fn execute(tool: Tool, before: ApiArgs, out: &mut impl Write) -> Result<(), Failure> {
    let env = |name: &str| std::env::var(name).ok();
    match tool {
        Tool::Ask(ask) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(execute_ask(ask, before, &env, out))
        }
        _ if !before.is_empty() => {
            let text = "this command asks no running Fairway: leave --admin, --token-file and --output in front of it out";
            Err(Failure::Usage(text.to_owned()))
        }
        Tool::Check(args) => check::run(args.config, &env, out),
        Tool::Lint(args) => lint::run(&args.files, out),
        Tool::Completions(args) => completions::run(args.shell, out),
    }
}

/// The commands that ask a running Fairway.
async fn execute_ask(
    ask: Ask,
    before: ApiArgs,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let api = ask.api().clone().over(before);
    let client = &Client::new(&api, env)?;
    let format = api.output.unwrap_or_default();
    match ask {
        Ask::Routes(_) => list(client, "routes", format, tables::routes, out).await,
        Ask::Backends(_) => list(client, "backends", format, tables::backends, out).await,
        Ask::Instances(_) => {
            let table = |items: &[_]| tables::instances(items, Timestamp::now());
            list(client, "instances", format, table, out).await
        }
        Ask::Problems(_) => list(client, "problems", format, tables::problems, out).await,
        Ask::Status(_) => {
            let answer = client.send(Method::GET, "/api/v1/status", None, Duration::ZERO).await?;
            match format {
                Format::Json => write_json(out, &answer),
                Format::Table => {
                    let status: Status = client.read(&answer)?;
                    Ok(out.write_all(status::text(&status, Timestamp::now()).as_bytes())?)
                }
            }
        }
        Ask::Explain(args) => explain::run(client, &args, format, out).await,
        Ask::Split(args) => split::run(client, &args, format, out).await,
        Ask::Release(command) => release::run(client, &command, format, out).await,
        Ask::Limits(args) => limits::run(client, &args, format, out).await,
        Ask::Mirror(args) => mirror::run(client, &args, format, out).await,
        Ask::Drain(args) => state::run(client, State::Draining, &args, format, out).await,
        Ask::Disable(args) => state::run(client, State::Disabled, &args, format, out).await,
        Ask::Activate(args) => state::run(client, State::Active, &args, format, out).await,
        Ask::Events(args) => events::run(client, &args, format, out).await,
    }
}

/// GET of a list, shown as a table or as it came.
async fn list<T: DeserializeOwned>(
    client: &Client,
    name: &str,
    format: Format,
    table: impl FnOnce(&[T]) -> String,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let answer = client.send(Method::GET, &format!("/api/v1/{name}"), None, Duration::ZERO).await?;
    match format {
        Format::Json => write_json(out, &answer),
        Format::Table => {
            let list: List<T> = client.read(&answer)?;
            Ok(out.write_all(table(&list.items).as_bytes())?)
        }
    }
}

/// The API's answer as it came, and a line feed if it has none.
fn write_json(out: &mut impl Write, answer: &Answer) -> Result<(), Failure> {
    out.write_all(&answer.body)?;
    if answer.body.last().is_some_and(|last| *last != b'\n') {
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Exchange, against, http};

    #[tokio::test]
    async fn a_list_is_a_table_or_the_answer_as_it_came() {
        let body = r#"{"items":[{"id":"web@v1","project":null,"service":"web","version":"v1","routes":[],
            "ready":1,"desired":null,"state":"active","instances":1,"in_flight":0,"new_field":{"a":1}}],"revision":3}"#;
        let Exchange { result, out, requests } = against("backends", vec![http("200 OK", body)]).await;
        result.expect("it is listed");
        assert_eq!(out, "BACKEND  READY  STATE   REASON  ROUTES\nweb@v1   1      active  -       -\n");
        assert!(requests[0].starts_with("GET /api/v1/backends "), "{}", requests[0]);
        let Exchange { out, .. } = against("backends -o json", vec![http("200 OK", body)]).await;
        assert_eq!(out, format!("{body}\n"));
    }

    #[tokio::test]
    async fn an_answer_of_another_shape_is_told_as_such() {
        let Exchange { result, .. } = against("routes", vec![http("200 OK", r#"{"status":"ok"}"#)]).await;
        assert!(matches!(result, Err(Failure::NotOurs { .. })), "{result:?}");
    }

    #[test]
    fn options_of_the_api_are_refused_where_no_api_is_asked() {
        let before = ApiArgs { admin: Some("http://a:1".into()), ..ApiArgs::default() };
        let lint = Tool::Lint(args::LintArgs { files: Vec::new() });
        assert!(matches!(execute(lint, before, &mut Vec::new()), Err(Failure::Usage(_))));
    }
}
