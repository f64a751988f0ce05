//! Where something listens or is reached, as people write it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::cursor::Wrong;
use super::{AdminListen, DockerEndpoint, StaticHost};
use crate::labels::{parse_host, shown};
use crate::names::Host;

/// `ADDRESS:PORT` for a listener; port 0 lets the system choose. `usual` is the port that such a listener mostly has.
pub(super) fn listener(text: &str, usual: u16) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let wrong = format!("`{}` is not an address with a port", shown(text));
        Wrong::new(wrong, listener_advice(text, usual))
    })
}

fn listener_advice(text: &str, usual: u16) -> String {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return format!("add the port: `{}`", SocketAddr::new(ip, usual));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    match (host, port.parse::<u16>()) {
        ("" | "*", Ok(port)) => format!("write `0.0.0.0:{port}`, or `[::]:{port}` for IPv6 too"),
        ("localhost", Ok(port)) => format!("write `127.0.0.1:{port}`"),
        _ => format!("write ADDRESS:PORT, such as `127.0.0.1:{usual}` or `[::1]:{usual}`"),
    }
}

/// A resolver: an address, port 53 unless written.
pub(super) fn resolver(text: &str) -> Result<SocketAddr, Wrong> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|addr| addr.port() != 0);
    with_port.or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))).ok_or_else(|| {
        let wrong = format!("`{}` is not the address of a resolver", shown(text));
        Wrong::new(wrong, "write an IP address, `10.0.0.2` or `10.0.0.2:5353`")
    })
}

/// `ADDRESS:PORT` or `unix:/path`.
pub(super) fn admin(text: &str) -> Result<AdminListen, Wrong> {
    let Some(path) = text.strip_prefix("unix:") else { return listener(text, 9900).map(AdminListen::Tcp) };
    unix_path(path).map(AdminListen::Unix).ok_or_else(|| {
        let wrong = format!("`{}` names no socket", shown(text));
        Wrong::new(wrong, "write an absolute path, `unix:/run/fairway.sock`")
    })
}

/// `/path`, also after the two slashes of a URL.
fn unix_path(path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix("//").unwrap_or(path);
    (path.len() > 1 && path.starts_with('/') && !path.contains('\0')).then(|| PathBuf::from(path))
}

/// The URL of a Docker engine: `unix:///path`, `tcp://host:port`, `http://`, `https://`.
pub(super) fn docker(url: &str) -> Result<DockerEndpoint, Wrong> {
    let wrong =
        |remedy: String| Wrong::new(format!("`{}` is not the address of an engine", shown(url)), remedy);
    let form = "write `unix:///var/run/docker.sock` or `tcp://HOST:2375`";
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(wrong(if url.starts_with('/') {
            format!("write `unix://{}`", shown(url))
        } else {
            form.into()
        }));
    };
    match scheme {
        "unix" => unix_path(rest)
            .map(DockerEndpoint::Unix)
            .ok_or_else(|| wrong("write an absolute path, `unix:///path`".into())),
        "tcp" | "http" | "https" => {
            let authority = rest.strip_suffix('/').unwrap_or(rest);
            if host_port(authority).is_some() {
                return Ok(DockerEndpoint::Tcp(authority.into()));
            }
            let port = if scheme == "https" { 2376 } else { 2375 };
            let alone = !authority.is_empty() && !authority.contains([':', '/']);
            let meant = if alone { shown(authority) } else { "HOST".to_owned() };
            Err(wrong(format!("write host and port: `{}://{meant}:{port}`", shown(scheme))))
        }
        "ssh" => Err(wrong("forward the engine's socket with ssh and write `unix:///path`".into())),
        _ => Err(wrong(form.into())),
    }
}

/// `HOST:PORT` of a static instance; IPv6 addresses in brackets.
pub(super) fn instance(text: &str) -> Result<(StaticHost, u16), Wrong> {
    host_port(text).ok_or_else(|| {
        let wrong = format!("`{}` is not an instance", shown(text));
        let remedy = match text.split_once("://") {
            Some((_, rest)) if host_port(rest).is_some() => {
                format!("write host and port alone: `{}`", shown(rest))
            }
            _ => "write HOST:PORT, such as `10.0.0.7:8080` or `db.example.com:3306`".to_owned(),
        };
        Wrong::new(wrong, remedy)
    })
}

fn host_port(text: &str) -> Option<(StaticHost, u16)> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return (addr.port() != 0).then(|| (StaticHost::Ip(addr.ip()), addr.port()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| port.parse().ok())
        .flatten()
        .filter(|port| *port != 0)?;
    let name = host.strip_suffix('.').unwrap_or(host);
    // Names of machines may have underscores; a last part of digits would be a mistyped address.
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fits);
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    let is_name = name.len() <= 253 && name.split('.').all(is_label) && !last_is_number;
    is_name.then(|| (StaticHost::Name(name.to_ascii_lowercase().into()), port))
}

/// A domain, lower case, without a trailing dot; one label will do.
pub(super) fn domain(text: &str) -> Result<Arc<str>, Wrong> {
    match parse_host(text)? {
        Host::Prefix(name) | Host::Exact(name) => Ok(name),
        Host::Wildcard(name) => {
            let wrong = format!("`{}` is a wildcard", shown(text));
            Err(Wrong::new(wrong, format!("write `{name}`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_listener_says_what_to_write() {
        assert_eq!(listener("[::]:80", 53).map(|addr| addr.port()), Ok(80));
        for (text, advice) in [
            (":80", "`0.0.0.0:80`"),
            ("*:80", "`0.0.0.0:80`"),
            ("80", "`0.0.0.0:80`"),
            ("localhost:80", "`127.0.0.1:80`"),
            ("10.0.0.1", "`10.0.0.1:53`"),
            ("::1", "`[::1]:53`"),
            ("10.0.0.1:99999", "ADDRESS:PORT"),
            ("", "ADDRESS:PORT"),
        ] {
            let wrong = listener(text, 53).expect_err(text);
            assert!(wrong.remedy.contains(advice), "{text}: {}", wrong.remedy);
        }
    }

    #[test]
    fn engines_are_reached_by_socket_or_address() {
        let tcp = |authority: &str| DockerEndpoint::Tcp(authority.into());
        for (url, want) in [
            ("unix:///var/run/docker.sock", DockerEndpoint::Unix("/var/run/docker.sock".into())),
            ("tcp://10.0.0.6:2376", tcp("10.0.0.6:2376")),
            ("http://engine.example:2375/", tcp("engine.example:2375")),
            ("tcp://[fd00::1]:2375", tcp("[fd00::1]:2375")),
        ] {
            assert_eq!(docker(url), Ok(want), "{url}");
        }
        for (url, advice) in [
            ("/var/run/docker.sock", "`unix:///var/run/docker.sock`"),
            ("unix://docker.sock", "absolute path"),
            ("tcp://engine", "`tcp://engine:2375`"),
            ("https://engine", "`https://engine:2376`"),
            ("tcp://engine:2375/v1", "`tcp://HOST:2375`"),
            ("ssh://engine", "forward"),
            ("docker", "`unix:///var/run/docker.sock`"),
        ] {
            let wrong = docker(url).expect_err(url);
            assert!(wrong.remedy.contains(advice), "{url}: {}", wrong.remedy);
        }
    }

    #[test]
    fn instances_are_addresses_or_names_with_a_port() {
        for (text, want) in [
            ("10.0.0.7:8080", Some((StaticHost::Ip([10, 0, 0, 7].into()), 8080))),
            ("[::1]:80", Some((StaticHost::Ip(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])), 80))),
            ("Db_1.Example.com.:3306", Some((StaticHost::Name("db_1.example.com".into()), 3306))),
            ("db:3306", Some((StaticHost::Name("db".into()), 3306))),
            ("db", None),
            ("db:0", None),
            ("db:+1", None),
            ("10.0.0.7", None),
            ("10.0.0.300:80", None),
            ("http://db:80", None),
            (":80", None),
            ("a b:80", None),
        ] {
            assert_eq!(instance(text).ok(), want, "{text}");
        }
        assert!(instance("http://db:80").expect_err("a URL").remedy.contains("`db:80`"));
    }

    #[test]
    fn the_admin_api_may_listen_on_a_socket() {
        assert_eq!(admin("unix:/run/f.sock"), Ok(AdminListen::Unix("/run/f.sock".into())));
        assert_eq!(admin("unix:///run/f.sock"), Ok(AdminListen::Unix("/run/f.sock".into())));
        assert!(admin("unix:f.sock").is_err() && admin("unix:").is_err());
    }
}
