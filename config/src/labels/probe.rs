//! `aliyun.probe.*`: how to tell that an instance works.
//!
//! The four labels are read one by one into a [`Draft`]; what they come to is known when all have been seen.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::entry;
use super::flaw::{Flaw, shown};
use super::{ProbeCheck, ProbeSpec, scalar};

/// Longest command, in octets.
const COMMAND_BYTES_MAX: usize = 8 * 1024;
/// Longest path and query, in octets.
const PATH_BYTES_MAX: usize = 2 * 1024;
/// `aliyun.probe.timeout_seconds`.
const TIMEOUT_SECS: RangeInclusive<u32> = 1..=3_600;
/// `aliyun.probe.initial_delay_seconds`.
const INITIAL_DELAY_SECS: RangeInclusive<u32> = 0..=86_400;

/// What the labels read so far say.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) url: Option<ProbeCheck>,
    pub(super) command: Option<ProbeCheck>,
    pub(super) timeout: Option<Duration>,
    pub(super) initial_delay: Option<Duration>,
}

impl Draft {
    /// The probe, if there is anything to try: the url before the command. The other labels alone are none.
    pub(super) fn finish(self) -> Option<ProbeSpec> {
        Some(ProbeSpec {
            check: self.url.or(self.command)?,
            timeout: self.timeout.unwrap_or(Duration::from_secs(1)),
            initial_delay: self.initial_delay.unwrap_or_default(),
        })
    }
}

/// `timeout_seconds`
pub(super) fn timeout(value: &str) -> Result<Duration, Flaw> {
    seconds(value, TIMEOUT_SECS)
}

/// `initial_delay_seconds`
pub(super) fn initial_delay(value: &str) -> Result<Duration, Flaw> {
    seconds(value, INITIAL_DELAY_SECS)
}

fn seconds(value: &str, range: RangeInclusive<u32>) -> Result<Duration, Flaw> {
    scalar::whole(value, range, " seconds").map(|secs| Duration::from_secs(secs.into()))
}

/// `cmd`
pub(super) fn command(value: &str) -> Result<ProbeCheck, Flaw> {
    if value.is_empty() || value.contains('\0') {
        let text = "there is no command to run";
        return Err(Flaw::refused("label-probe-cmd", text, "write a shell command, or leave it out"));
    }
    if value.len() > COMMAND_BYTES_MAX {
        let text = format!("the command has {} octets", value.len());
        let remedy = format!("write at most {COMMAND_BYTES_MAX}; put the script into the image");
        return Err(Flaw::refused("label-probe-cmd", text, remedy));
    }
    Ok(ProbeCheck::Command { shell: value.into() })
}

/// `url`, with what was dropped from it.
pub(super) fn url(value: &str, warnings: &mut Vec<Flaw>) -> Result<ProbeCheck, Flaw> {
    if let Some(flaw) = entry::residue(value) {
        return Err(flaw);
    }
    let form = "write `http://container:PORT/PATH`, `tcp://container:PORT` or `grpc://container:PORT`";
    let refused =
        |kind, what: &str, remedy: String| Flaw::refused(kind, format!("`{}` {what}", shown(value)), remedy);
    let Some((scheme, rest)) = value.split_once("://") else {
        let remedy = if value.starts_with('/') {
            format!("write `http://container{}`", shown(value))
        } else {
            form.into()
        };
        return Err(refused("label-probe-form", "has no scheme", remedy));
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let number = port.and_then(scalar::port);
    if !host.eq_ignore_ascii_case("container") {
        let port = number.map(|number| format!(":{number}")).unwrap_or_default();
        let meant = format!("{}://container{port}{}", shown(scheme), shown(path));
        let remedy = format!("write `{meant}`: a probe reaches its own container only");
        return Err(refused("label-probe-host", "names another host than `container`", remedy));
    }
    if port.is_some() && number.is_none() {
        let remedy = "write a port from 1 to 65535 after `container:`".to_owned();
        return Err(refused("label-probe-port", "has no usable port", remedy));
    }
    let needs_port = || refused("label-probe-port", "has no port", "write it after `container:`".into());
    let no_path =
        || refused("label-probe-path", "has a path, which a connection has none of", "leave it out".into());
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {
            Ok(ProbeCheck::Http { port: number.unwrap_or(80), path: http_path(path, warnings)?.into() })
        }
        "tcp" if path.trim_end_matches('/').is_empty() => {
            Ok(ProbeCheck::Tcp { port: number.ok_or_else(needs_port)? })
        }
        "tcp" => Err(no_path()),
        "grpc" => {
            Ok(ProbeCheck::Grpc { port: number.ok_or_else(needs_port)?, service: grpc_service(path)?.into() })
        }
        "https" => Err(refused(
            "label-probe-scheme",
            "asks for TLS",
            "write `http://`, or `tcp://` for a port that speaks TLS".into(),
        )),
        _ => Err(refused("label-probe-scheme", "has an unknown scheme", form.into())),
    }
}

/// Path and query as they go into the request. A path is a path: what could be read as an absolute URL, or as the
/// name of another host, would let a label choose where the probe goes.
fn http_path(path: &str, warnings: &mut Vec<Flaw>) -> Result<String, Flaw> {
    let (path, fragment) = path.split_at(path.find('#').unwrap_or(path.len()));
    if !fragment.is_empty() {
        let text = format!("`{}` is never sent and was dropped", shown(fragment));
        warnings.push(Flaw::warning("label-fragment", text, "leave it out"));
    }
    let refused = |what: &str, remedy: &str| {
        Err(Flaw::refused("label-probe-path", format!("the path `{}` {what}", shown(path)), remedy))
    };
    if path.starts_with("//") || path.starts_with("/http:") || path.starts_with("/https:") {
        return refused("could be read as another address", "write a path with one `/` at its beginning");
    }
    if path.bytes().any(|b| !b.is_ascii_graphic() || b == b'\\') {
        return refused(
            "has characters that no request can carry",
            "write them percent-encoded, `%20` for a space",
        );
    }
    if path.len() > PATH_BYTES_MAX {
        return refused("is too long", "write at most 2048 characters");
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

fn grpc_service(path: &str) -> Result<&str, Flaw> {
    let service = path.strip_prefix('/').unwrap_or(path);
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_');
    if service.len() <= 256 && service.bytes().all(fits) {
        return Ok(service);
    }
    let text = format!("`{}` is no gRPC service", shown(service));
    Err(Flaw::refused(
        "label-probe-path",
        text,
        "write its full name, `package.Service`, or nothing for the whole server",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(port: u16, path: &str) -> ProbeCheck {
        ProbeCheck::Http { port, path: path.into() }
    }

    #[test]
    fn the_three_schemes_are_read() {
        for (value, want) in [
            ("http://container/license.txt", http(80, "/license.txt")),
            ("http://container:4000/index.html", http(4000, "/index.html")),
            ("HTTP://Container", http(80, "/")),
            ("http://container:81?full=1&x=$", http(81, "/?full=1&x=$")),
            ("tcp://container:8085", ProbeCheck::Tcp { port: 8085 }),
            ("tcp://container:8085/", ProbeCheck::Tcp { port: 8085 }),
            ("grpc://container:50051", ProbeCheck::Grpc { port: 50051, service: "".into() }),
            (
                "grpc://container:50051/shop.Cart",
                ProbeCheck::Grpc { port: 50051, service: "shop.Cart".into() },
            ),
        ] {
            let mut warnings = Vec::new();
            assert_eq!(url(value, &mut warnings), Ok(want), "{value}");
            assert_eq!(warnings, [], "{value}");
        }
    }

    #[test]
    fn each_refusal_has_its_own_kind_and_says_what_to_write() {
        for (value, kind, advice) in [
            ("", "label-probe-form", "`http://container:PORT/PATH`"),
            ("/health", "label-probe-form", "`http://container/health`"),
            ("container:80", "label-probe-form", "`http://container:PORT/PATH`"),
            ("http://127.0.0.1:8080/health", "label-probe-host", "`http://container:8080/health`"),
            ("http://evil.example/health", "label-probe-host", "`http://container/health`"),
            ("http://user@container/", "label-probe-host", "own container only"),
            ("http://container:0/", "label-probe-port", "1 to 65535"),
            ("http://container:/", "label-probe-port", "1 to 65535"),
            ("tcp://container", "label-probe-port", "after `container:`"),
            ("tcp://container:80/x", "label-probe-path", "leave it out"),
            ("grpc://container/x", "label-probe-port", "after `container:`"),
            ("grpc://container:1/a b", "label-probe-path", "package.Service"),
            ("https://container/", "label-probe-scheme", "`tcp://`"),
            ("ftp://container/", "label-probe-scheme", "tcp://container"),
            ("http://container//evil.example/", "label-probe-path", "one `/`"),
            ("http://container/http://evil.example/", "label-probe-path", "one `/`"),
            ("http://container/a b", "label-probe-path", "`%20`"),
            ("http://container/a\r\nX: y", "label-probe-path", "`%20`"),
            ("http://container/$PATH_X", "label-unresolved-variable", "write the value itself"),
            ("[http://container](http://container)", "label-markdown", "`http://container`"),
        ] {
            let flaw = url(value, &mut Vec::new()).expect_err(value);
            assert_eq!(flaw.kind, kind, "{value}: {flaw}");
            assert!(flaw.remedy.contains(advice), "{value}: {}", flaw.remedy);
        }
    }

    #[test]
    fn a_fragment_is_dropped_with_a_warning() {
        let mut warnings = Vec::new();
        assert_eq!(url("http://container/a#b", &mut warnings), Ok(http(80, "/a")));
        assert_eq!(warnings[0].kind, "label-fragment");
    }

    #[test]
    fn commands_are_bounded() {
        assert!(matches!(command("exit 0"), Ok(ProbeCheck::Command { shell }) if &*shell == "exit 0"));
        for value in [String::new(), "a\0b".into(), "x".repeat(COMMAND_BYTES_MAX + 1)] {
            assert_eq!(command(&value).expect_err("refused").kind, "label-probe-cmd");
        }
    }
}
