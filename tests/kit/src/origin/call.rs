//! Calls from inside a container: names resolved as every program there resolves them.

use std::time::Duration;

use crate::client::{Answer, Request};

/// The answer of `http://host[:port]/path`; `Err` says why there is none.
pub(super) async fn get(url: &str) -> Result<Answer, String> {
    let (host, port, target) = parts(url, "http://", 80)?;
    let authority = if port == 80 { host.clone() } else { format!("{host}:{port}") };
    let mut failed = format!("{host} has no address");
    for address in resolve(&host, port).await? {
        match Request::get(&authority, &target).try_send(address).await {
            Ok(answer) => return Ok(answer),
            Err(why) => failed = format!("{address}: {why}"),
        }
    }
    Err(failed)
}

/// Whether `http://...` answers with a status below 400, or `tcp://host:port` takes a connection, within `longest`.
pub(super) async fn check(url: &str, longest: Duration) -> Result<(), String> {
    let check = async {
        if url.starts_with("tcp://") {
            let (host, port, _) = parts(url, "tcp://", 0)?;
            let connected = tokio::net::TcpStream::connect((host, port)).await;
            return connected.map(drop).map_err(|error| error.to_string());
        }
        let answer = get(url).await?;
        if answer.status < 400 { Ok(()) } else { Err(format!("status {}", answer.status)) }
    };
    tokio::time::timeout(longest, check).await.unwrap_or_else(|_| Err(format!("nothing in {longest:?}")))
}

/// The addresses of a name by the system's resolver: `/etc/hosts`, then the servers in `/etc/resolv.conf`.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    found.map(Iterator::collect).map_err(|error| format!("resolving {host}: {error}"))
}

fn parts(url: &str, scheme: &str, default_port: u16) -> Result<(String, u16, String), String> {
    let rest = url.strip_prefix(scheme).ok_or_else(|| format!("`{url}` does not start with {scheme}"))?;
    let (authority, target) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let Some((host, port)) = authority.rsplit_once(':') else {
        return Ok((authority.to_owned(), default_port, target.to_owned()));
    };
    let port = port.parse().map_err(|_| format!("`{port}` in `{url}` is not a port"))?;
    Ok((host.to_owned(), port, target.to_owned()))
}
