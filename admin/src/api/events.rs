//! The event feed: a list, a list that waits for the next event, or a stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use fairway_catalog::event::Event;
use fairway_config::duration;
use futures_util::stream::{self, Stream, StreamExt};
use http::header::{ACCEPT, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use tokio::time::timeout;

use crate::extract::{Parameters, bad_query};
use crate::feed::Missed;
use crate::problem::Refusal;
use crate::state::{App, AppState, stopped};
use crate::types::{EventItem, List};
use crate::view;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Longest wait for an event.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A stream that has nothing to tell says so this often, so that nobody on the way takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What changed in the cluster. With `Accept: text/event-stream` a stream, whose ids are revisions.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "feed",
    params(
        ("after" = Option<u64>, Query, description = "Only events after this revision; default: all that are kept"),
        ("wait" = Option<String>, Query, description = "Wait for an event that long, `60s` at most, if there is none"),
        ("Last-Event-ID" = Option<u64>, Header, description = "In place of `after`"),
    ),
    responses(
        (status = 200, description = "The events, the oldest first; a stream when `text/event-stream` is asked for", content((List<EventItem> = "application/json"), (String = "text/event-stream"))),
        (status = 400, body = Refusal, content_type = "application/problem+json", description = "The query cannot be read"),
        (status = 410, body = Refusal, content_type = "application/problem+json", description = "Read the lists anew"),
    )
)]
pub(super) async fn events(
    State(app): AppState,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let after = after(&query, &headers)?;
    if wants_stream(&headers) {
        // What is missed is told by a status, not by a stream that ends.
        read(&app, after)?;
        return Ok(stream_from(app, after).into_response());
    }
    let wait = query.get("wait").map(wait).transpose()?.unwrap_or_default();
    let (mut events, mut revision) = read(&app, after)?;
    if events.is_empty() && !wait.is_zero() {
        let mut stop = app.stop.clone();
        tokio::select! {
            _ = timeout(wait, app.feed.wait_after(after.unwrap_or(revision))) => {}
            () = stopped(&mut stop) => {}
        }
        (events, revision) = read(&app, after)?;
    }
    let items = events.iter().map(|event| view::event(event)).collect();
    Ok(Json(List { items, revision }).into_response())
}

fn read(app: &App, after: Option<u64>) -> Result<(Vec<Arc<Event>>, u64), Refusal> {
    app.feed.after(after, app.catalog().revision).map_err(|missed| {
        let (kind, oldest) = match missed {
            Missed::Compacted { oldest, .. } => ("events-compacted", oldest),
            Missed::Ahead { newest, .. } => ("revision-ahead", newest),
        };
        Refusal::new(StatusCode::GONE, kind, "These events are not kept", missed.to_string())
            .with("revision", oldest)
            .with("remedy", "read the lists anew, and follow from their revision")
    })
}

fn after(query: &Parameters, headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let last_id = headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
    let number = |name: &str, text: &str| {
        text.parse().map_err(|_| bad_query(format!("{name}: `{text}` is not a revision")))
    };
    match (last_id, query.get("after")) {
        (Some(id), _) => number("Last-Event-ID", &id).map(Some),
        (None, Some(after)) => number("after", after).map(Some),
        (None, None) => Ok(None),
    }
}

fn wait(text: &str) -> Result<Duration, Refusal> {
    let wait = duration::parse(text).map_err(|error| bad_query(format!("wait: {error}")))?;
    Ok(wait.min(WAIT_MAX))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|field| field.to_str().ok());
    let mut types = accepted.flat_map(|field| field.split(',')).filter_map(|media| media.split(';').next());
    types.any(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Where a stream is.
struct Position {
    app: Arc<App>,
    /// The revision up to which everything was told, or is about to be.
    after: Option<u64>,
    /// To be told. Encoded one by one, so that a slow reader holds no more than what the feed holds anyway.
    next: VecDeque<Arc<Event>>,
}

fn stream_from(
    app: Arc<App>,
    after: Option<u64>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>> + Send> {
    let reconnect = sse::Event::default().retry(Duration::from_secs(1));
    let begin = Position { app, after, next: VecDeque::new() };
    let told = stream::unfold(begin, |mut position| async move {
        if position.next.is_empty() {
            position.wait().await?;
        }
        let event = position.next.pop_front()?;
        let is_last = position.next.front().is_none_or(|next| next.revision != event.revision);
        Some((Ok(encode(&event, is_last)), position))
    });
    Sse::new(stream::iter([Ok(reconnect)]).chain(told)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

impl Position {
    /// Waits for events; `None` ends the stream: at a stop, or when the reader was too slow for what is kept.
    async fn wait(&mut self) -> Option<()> {
        let (mut events, seen) = self.app.feed.after(self.after, u64::MAX).ok()?;
        if events.is_empty() {
            let mut stop = self.app.stop.clone();
            let after = self.after.unwrap_or(seen);
            tokio::select! {
                () = self.app.feed.wait_after(after) => {}
                () = stopped(&mut stop) => return None,
            }
            (events, _) = self.app.feed.after(self.after, u64::MAX).ok()?;
        }
        self.after = events.last().map(|event| event.revision).or(self.after);
        self.next = events.into();
        Some(())
    }
}

/// Only the last event of a revision has an id: a reader that is cut off between two of one revision begins with the
/// first again, rather than miss the second.
fn encode(event: &Event, is_last: bool) -> sse::Event {
    let data = serde_json::to_string(&view::event(event)).expect("it has string keys and fails on nothing");
    let message = sse::Event::default().data(data);
    if is_last { message.id(event.revision.to_string()) } else { message }
}
