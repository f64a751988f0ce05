//! An ACME authority for tests: the program `pebble` of Debian's package of that name, with a DNS that leads every host to
//! 127.0.0.1.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::process::{Log, Process};
use crate::tls::Authority;
use crate::wait::{PATIENCE, until};

/// A running authority. Dropped: killed.
#[derive(Debug)]
pub struct Pebble {
    folder: TempDir,
    address: SocketAddr,
    log: Log,
    _processes: [Process; 2],
}

impl Pebble {
    /// Starts it. It asks for hosts at these ports of 127.0.0.1, and its certificates hold this long.
    ///
    /// # Panics
    /// When it cannot be started: `apt-get install pebble`.
    pub async fn start(http_port: u16, tls_port: u16, validity_secs: u32) -> Self {
        let folder =
            TempDir::with_prefix("fairway-pebble-").expect("the folder for temporary files can be written");
        let authority = Authority::new();
        let (cert, key) = authority.certify(&["localhost"], |_| {}).write(folder.path());
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("the folder can be written");
        let (address, management, dns, answers) = (free(), free(), free_udp(), free());
        let config = serde_json::json!({"pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": cert,
            "privateKey": key,
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": validity_secs,
        }});
        let file = folder.path().join("pebble.json");
        std::fs::write(&file, config.to_string()).expect("the folder can be written");
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", "-dns01"]);
        names.arg(dns.to_string()).args(["-management", &answers.to_string()]);
        let (names, _) = Process::spawn_logged(&mut names);
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(&file).args(["-dnsserver", &dns.to_string()]);
        pebble.envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0")]);
        let (pebble, log) = Process::spawn_logged(&mut pebble);
        let listens = async || TcpStream::connect(address).await.ok();
        until("pebble listens", PATIENCE, listens).await;
        Self { folder, address, log, _processes: [pebble, names] }
    }

    /// Its directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.address.port())
    }

    /// The authority of its own certificate, for whoever asks it.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What it wrote.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// An address that was free a moment ago.
///
/// # Panics
/// When there is none.
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}

fn free_udp() -> SocketAddr {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("a bound socket has an address")
}
