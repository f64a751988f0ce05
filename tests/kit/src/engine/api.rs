//! The engine's HTTP API over its socket, pinned to one version.

use std::path::{Path, PathBuf};

use http_body_util::BodyExt;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::client::{Answer, Request};
use crate::wait::{PATIENCE, within};

/// That of Docker 20.10, the oldest engine we serve.
pub(super) const VERSION: &str = "v1.41";

/// A way to call one engine; clones call the same one.
#[derive(Debug, Clone)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Calls `path` (`/containers/json?all=1`), whatever comes of it.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let request = request(method, path);
        let request = if let Some(body) = body { request.json(body) } else { request };
        request.send_to_socket(&self.socket).await
    }

    /// GET `path` as JSON.
    ///
    /// # Panics
    /// When the answer is not one of success.
    pub async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).await.ok(path).json()
    }

    /// POST `path`, with the JSON of the answer; null when that is empty.
    ///
    /// # Panics
    /// When the answer is neither one of success nor 304 (the state asked for holds already).
    pub async fn post(&self, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call("POST", path, body).await;
        if answer.status == 304 {
            return Value::Null;
        }
        let answer = answer.ok(path);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// DELETE `path`; that it is not there any more is fine.
    ///
    /// # Panics
    /// When the answer is neither one of success nor 404.
    pub async fn delete(&self, path: &str) {
        let answer = self.call("DELETE", path, None).await;
        if answer.status != 404 {
            answer.ok(path);
        }
    }

    /// POST `path` with a body that is not JSON.
    ///
    /// # Panics
    /// When the answer is not one of success.
    pub(super) async fn upload(&self, path: &str, body: Vec<u8>) -> Answer {
        let upload = Request { body: body.into(), ..request("POST", path) };
        upload.header("content-type", "application/x-tar").send_to_socket(&self.socket).await.ok(path)
    }

    /// What the engine tells from now on, as its `/events` does.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn events(&self) -> Events {
        let open = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| error.to_string())?;
            request("GET", "/events").open(stream).await
        };
        match within("the event stream of the engine", PATIENCE, open).await {
            Ok(response) => Events { body: response.into_body(), unread: Vec::new() },
            Err(why) => panic!("no events from {}: {why}", self.socket.display()),
        }
    }
}

fn request(method: &str, path: &str) -> Request {
    Request::new(method, "docker", &format!("/{VERSION}{path}"))
}

/// A stream of engine events.
#[derive(Debug)]
pub struct Events {
    body: hyper::body::Incoming,
    unread: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.unread.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.unread.extend_from_slice(data);
            }
        }
    }

    /// The next event of a container with this `action` (`die`) and container name.
    ///
    /// # Panics
    /// When none comes in 30 s, or the stream ends.
    pub async fn next_of(&mut self, action: &str, name: &str) -> Value {
        let find = async {
            while let Some(event) = self.next().await {
                if event["Action"] == action && event["Actor"]["Attributes"]["name"] == name {
                    return event;
                }
            }
            panic!("the event stream ended before `{action}` of {name}");
        };
        within(format_args!("the event `{action}` of {name}"), PATIENCE, find).await
    }
}
