//! Clients that do not do a TLS handshake as it is meant: in crumbs, half, or not at all.
//!
//! Not here: certificates that cannot be used (see `tests/https.rs`), what is agreed upon (`proxy/tests/wire/tls.rs`), what
//! is said within TLS (the other modules; it makes no difference).

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::raw::{End, Raw};
use fairway_testkit::tls::{Authority, Client};
use fairway_testkit::wait::PATIENCE;
use fairway_testkit::{Fairway, FairwayOptions, until};
use rustls::{ClientConnection, ProtocolVersion, version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::table::BINARY;

/// A Fairway that speaks TLS for `a.test`, with these lines of `[https]`.
struct World {
    fairway: Fairway,
    client: Client,
    _origin: Origin,
    _folder: TempDir,
}

impl World {
    async fn with(https: &str) -> Self {
        let authority = Authority::new();
        let folder = TempDir::with_prefix("fairway-certs-").expect("a folder");
        authority.server(&["a.test"]).write(folder.path());
        let origin = Origin::start(Identity::new("one", "v1")).await;
        let config = format!(
            "[https]\nlisten = [\"127.0.0.1:0\"]\n{https}\n[[certificate]]\ncert = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n\
             [[service]]\nname = \"web\"\nroutes = [\"a.test\"]\ninstances = [\"{1}\"]\n",
            folder.path().display(),
            origin.address()
        );
        let fairway = FairwayOptions::new(BINARY).config(config).start().await;
        fairway.ready().await;
        Self { fairway, client: authority.client(), _origin: origin, _folder: folder }
    }

    async fn raw(&self) -> Raw {
        Raw::connect(self.fairway.https()).await
    }

    async fn serves(&self) {
        assert_eq!(self.client.get(self.fairway.https(), "a.test", "/").await.status, 200);
    }

    /// How many handshakes have ended so.
    async fn ended(&self, result: &str) -> u64 {
        let metrics = self.fairway.admin("GET", "/metrics", None).await.text();
        let line = metrics.lines().find(|line| {
            line.starts_with("fairway_tls_handshakes_total") && line.contains(&format!("result=\"{result}\""))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    async fn counts(&self, result: &str, count: u64) {
        let there = async || (self.ended(result).await == count).then_some(());
        until(format!("{count} handshakes that ended as {result}"), PATIENCE, there).await;
    }
}

/// What the client says first.
fn hello(tls: &mut ClientConnection) -> Vec<u8> {
    let mut octets = Vec::new();
    tls.write_tls(&mut octets).expect("it is written to memory");
    octets
}

/// Goes on with a handshake whose hello was sent, asks for `/`, and gives the answer.
async fn finish(tls: &mut ClientConnection, mut stream: TcpStream) -> String {
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    tls.writer().write_all(request).expect("it waits for the handshake");
    let mut octets = vec![0; 32 * 1024];
    let mut answer = Vec::new();
    loop {
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out).expect("it is written to memory");
        }
        // An end that was told may be followed by one that was not.
        let _ = stream.write_all(&out).await;
        let read = stream.read(&mut octets).await.expect("it is not reset");
        if read == 0 {
            return String::from_utf8(answer).expect("text");
        }
        let mut came = &octets[..read];
        while !came.is_empty() {
            tls.read_tls(&mut came).expect("it takes it");
            let state = tls.process_new_packets().expect("the server keeps the rules");
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut plain).expect("it is there");
            answer.extend(plain);
        }
    }
}

/// The same octets of a handshake, each in a record of its own.
fn in_records_of_one_octet(hello: &[u8]) -> Vec<u8> {
    hello[5..].iter().flat_map(|octet| [0x16, 3, 1, 0, 1, *octet]).collect()
}

#[tokio::test]
async fn a_hello_in_single_octets_or_in_records_of_one_octet_is_read_in_both_versions() {
    let world = World::with("").await;
    for (version, want) in
        [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        for records in [false, true] {
            let mut tls = Client::trusting_anybody_in(&[version]).begin("a.test");
            let hello = hello(&mut tls);
            let sent = if records { in_records_of_one_octet(&hello) } else { hello };
            let mut stream = TcpStream::connect(world.fairway.https()).await.expect("it accepts");
            stream.set_nodelay(true).expect("it is open");
            for octet in sent {
                stream.write_all(&[octet]).await.expect("it takes it");
            }
            let answer = finish(&mut tls, stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{want:?}, records {records}: {answer}");
            assert_eq!(tls.protocol_version(), Some(want));
        }
    }
    world.counts("full", 4).await;
}

#[tokio::test]
async fn a_handshake_that_is_not_done_is_given_up_in_time_and_others_are_served_meanwhile() {
    let world = World::with("handshake_timeout = \"1s\"").await;
    let whole = hello(&mut Client::trusting_anybody().begin("a.test"));
    let half = &whole[..whole.len() / 2];
    let mut open = Vec::new();
    for _ in 0..100 {
        for sent in [&b""[..], half, &whole] {
            let mut raw = world.raw().await;
            assert!(raw.send(sent).await);
            open.push(raw);
        }
    }
    // One octet now and then makes the time no longer.
    let mut dripping = world.raw().await;
    let began = Instant::now();
    let ended = async {
        for octet in half {
            if !dripping.send([*octet]).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        dripping.read_to_end().await;
    };
    let served = async {
        for _ in 0..10 {
            world.serves().await;
        }
    };
    tokio::join!(ended, served);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    for mut raw in open {
        raw.read_to_end().await;
    }
    world.counts("timeout", 301).await;
    world.serves().await;
}

#[tokio::test]
async fn what_is_no_handshake_ends_its_connection_alone() {
    let world = World::with("").await;
    let whole = hello(&mut Client::trusting_anybody().begin("a.test"));
    let changed = |at: usize, octet: u8| {
        let mut octets = whole.clone();
        octets[at] = octet;
        octets
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("octets of no meaning", vec![0xff; 100]),
        ("a hello of SSL 2", vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10]),
        ("an alert", vec![0x15, 3, 3, 0, 2, 2, 40]),
        ("data before the handshake", vec![0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5]),
        ("a change of ciphers", vec![0x14, 3, 3, 0, 1, 1]),
        ("a record beyond every size", vec![0x16, 3, 1, 0xff, 0xff]),
        ("a record of nothing", vec![0x16, 3, 1, 0, 0]),
        ("the answer instead of the hello", changed(5, 2)),
        ("a hello longer than 16 MB", changed(6, 0xff)),
        ("a session id beyond its size", changed(43, 0xff)),
        ("a hello twice", [whole.clone(), whole.clone()].concat()),
        ("data behind the hello", [&whole[..], &[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5]].concat()),
    ];
    let before = world.ended("refused").await;
    for (number, (what, octets)) in cases.iter().enumerate() {
        let mut raw = world.raw().await;
        raw.send(octets).await;
        raw.finish().await;
        let (answer, _) = raw.read_to_end().await;
        // At most a hello of ours, and the alert that says why.
        assert!(answer.first().is_none_or(|kind| [0x15, 0x16].contains(kind)), "{what}: {answer:?}");
        let ended = async || {
            let ended = world.ended("refused").await + world.ended("client-left").await;
            (ended - before == number as u64 + 1).then_some(())
        };
        until(format!("{what} is counted"), PATIENCE, ended).await;
    }
    world.serves().await;
    let mut plain = world.raw().await;
    plain.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let (answer, end) = plain.read_to_end().await;
    let text = String::from_utf8(answer).expect("text");
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("use https://"), "{text}");
    assert_eq!(end, End::Closed);
    world.counts("plain-http", 1).await;
}
