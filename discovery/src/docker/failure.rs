//! Why an engine gives no answer, in words that name the remedy.

use std::error::Error as StdError;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use fairway_config::file::{DockerEndpoint, DockerHost};
use fairway_config::labels::shown;

/// Why a Docker engine cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is no such path.
    #[error("there is no socket at {path}; is the engine running?")]
    SocketMissing {
        /// The path.
        path: String,
    },
    /// The path is a file or folder.
    #[error("{path} is not a socket but a {what}")]
    NotASocket {
        /// The path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The socket may not be opened.
    #[error("permission denied at {path}; run as root or as a member of the socket's group")]
    PermissionDenied {
        /// The path.
        path: String,
    },
    /// Nobody accepts connections.
    #[error("nothing listens at {place}; is the engine running?")]
    Refused {
        /// The path or address.
        place: String,
    },
    /// The connection could not be made for another reason.
    #[error("no connection to {place}: {why}")]
    Unreachable {
        /// The path or address.
        place: String,
        /// The system's words.
        why: String,
    },
    /// Something answers that is no Docker engine.
    #[error("what answers at {place} is not a Docker engine: {why}")]
    NotDocker {
        /// The path or address.
        place: String,
        /// How that shows.
        why: String,
    },
    /// The engine does not speak the API we need.
    #[error("{peer} speaks API {api} at most; Docker Engine 20.10 or newer (API 1.41) is needed")]
    TooOld {
        /// Its name and version.
        peer: String,
        /// Its newest API version.
        api: String,
    },
    /// No answer in time.
    #[error("no answer to {call} within {} s", .after.as_secs())]
    Timeout {
        /// What was asked.
        call: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// It answered with an error.
    #[error("the engine answered {call} with {status}: {message}")]
    Status {
        /// What was asked.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its words, escaped and cut.
        message: String,
    },
    /// It answered with something else than the API says.
    #[error("the engine's answer to {call} makes no sense: {why}")]
    Garbage {
        /// What was asked.
        call: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The connection broke before the answer was whole.
    #[error("the connection broke during {call}: {why}")]
    Broken {
        /// What was asked.
        call: &'static str,
        /// How that showed.
        why: String,
    },
    /// The files for TLS cannot be used.
    #[error("TLS cannot be set up: {why}")]
    Tls {
        /// Which file, and why.
        why: String,
    },
    /// The stream of events ended.
    #[error("the engine ended the stream of events{0}")]
    StreamEnded(String),
}

impl EngineError {
    /// What a failed call means. `call` is named to people: `/version`.
    pub(super) fn of(host: &DockerHost, call: &'static str, error: &bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Status { call, status: *status_code, message: shown(message.trim()) }
            }
            Error::JsonDataError { message, .. } => Self::Garbage { call, why: shown(message) },
            Error::JsonSerdeError { err } => Self::Garbage { call, why: shown(&err.to_string()) },
            Error::SocketNotFoundError(_) => of_path(host, None),
            Error::CertPathError { path } | Error::CertParseError { path } => {
                Self::Tls { why: shown(&format!("{} cannot be read as PEM", path.display())) }
            }
            Error::CertMultipleKeys { path, .. } => {
                Self::Tls { why: shown(&format!("{} holds more than one key", path.display())) }
            }
            Error::LoadNativeCertsErrors { .. } | Error::NoNativeCertsError { .. } => {
                Self::Tls { why: shown(&error.to_string()) }
            }
            _ => of_transport(host, call, error),
        }
    }

    /// Whether the engine itself answered, so that the failure concerns this one call.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Garbage { .. })
    }
}

/// The path or address of an engine, for people.
pub(super) fn place(host: &DockerHost) -> String {
    match &host.endpoint {
        DockerEndpoint::Unix(path) => shown(&path.display().to_string()),
        DockerEndpoint::Tcp(address) => shown(address),
    }
}

fn of_transport(host: &DockerHost, call: &'static str, error: &bollard::errors::Error) -> EngineError {
    let place = place(host);
    if let Some(io) = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()) {
        return match (io.kind(), &host.endpoint) {
            (_, DockerEndpoint::Unix(_)) => of_path(host, Some(io)),
            (io::ErrorKind::ConnectionRefused, _) => EngineError::Refused { place },
            _ => EngineError::Unreachable { place, why: shown(&last_cause(error)) },
        };
    }
    // Without an error of the system it was the answer that could not be read.
    let why = shown(&last_cause(error));
    match call {
        "/version" => EngineError::NotDocker { place, why },
        _ => EngineError::Broken { call, why },
    }
}

/// Why a Unix socket cannot be used: looks at the path, then at the system's error.
fn of_path(host: &DockerHost, error: Option<&io::Error>) -> EngineError {
    let place = place(host);
    let DockerEndpoint::Unix(path) = &host.endpoint else { return EngineError::Refused { place } };
    match what_is_at(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            EngineError::SocketMissing { path: place }
        }
        Err(denied) if denied.kind() == io::ErrorKind::PermissionDenied => {
            EngineError::PermissionDenied { path: place }
        }
        Err(other) => EngineError::Unreachable { place, why: shown(&other.to_string()) },
        Ok(Some(what)) => EngineError::NotASocket { path: place, what },
        Ok(None) => match error.map(io::Error::kind) {
            Some(io::ErrorKind::PermissionDenied) => EngineError::PermissionDenied { path: place },
            Some(io::ErrorKind::ConnectionRefused) | None => EngineError::Refused { place },
            Some(_) => {
                let why = error.map(ToString::to_string).unwrap_or_default();
                EngineError::Unreachable { place, why: shown(&why) }
            }
        },
    }
}

/// What stands at a path, if it is no socket.
fn what_is_at(path: &Path) -> io::Result<Option<&'static str>> {
    let kind = std::fs::metadata(path)?.file_type();
    Ok(match () {
        () if kind.is_socket() => None,
        () if kind.is_dir() => Some("folder"),
        () if kind.is_file() => Some("file"),
        () => Some("device or pipe"),
    })
}

fn last_cause(error: &bollard::errors::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The error, and what led to it.
fn causes(error: &bollard::errors::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |error| (**error).source())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn at(path: &Path) -> DockerHost {
        let url = format!("unix://{}", path.display()).into();
        DockerHost { url, endpoint: DockerEndpoint::Unix(path.into()), tls: None, zone: None }
    }

    #[test]
    fn what_stands_at_the_path_is_told_before_what_the_system_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker.sock");
        let told = |error: Option<io::ErrorKind>| {
            let text = of_path(&at(&path), error.map(io::Error::from).as_ref()).to_string();
            text.replace(&path.display().to_string(), "PATH")
        };
        let denied = Some(io::ErrorKind::PermissionDenied);
        assert_eq!(told(None), "there is no socket at PATH; is the engine running?");
        std::fs::write(&path, "").expect("a file");
        assert_eq!(told(denied), "PATH is not a socket but a file");
        std::fs::remove_file(&path).expect("the file");
        let listener = UnixListener::bind(&path).expect("a socket");
        let remedy = "run as root or as a member of the socket's group";
        assert_eq!(told(denied), format!("permission denied at PATH; {remedy}"));
        assert_eq!(
            told(Some(io::ErrorKind::ConnectionRefused)),
            "nothing listens at PATH; is the engine running?"
        );
        assert!(told(Some(io::ErrorKind::ConnectionReset)).starts_with("no connection to PATH: "));
        drop(listener);
    }

    #[test]
    fn words_of_the_engine_are_escaped_and_cut() {
        let message = format!("no\u{1b}[31m{}", "x".repeat(1000));
        let error = bollard::errors::Error::DockerResponseServerError { status_code: 500, message };
        let told = EngineError::of(&at(Path::new("/x")), "/info", &error).to_string();
        assert!(told.starts_with("the engine answered /info with 500: no\\u{1b}[31mxxx"), "{told}");
        assert!(told.len() < 250, "{}", told.len());
    }
}
