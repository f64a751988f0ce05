//! Connections that had one request each and are then held.

use std::io::Read;
use std::net::TcpStream;

use super::{Args, Told, connection, handshake, say};
use crate::Outcome;

/// Opens them one by one, tells, and holds them until standard input ends.
pub(super) fn run(args: &Args) -> Outcome<()> {
    let request = connection::request(&args.host, &args.path, "");
    let config = handshake::config()?;
    let (mut told, mut held, mut buffer) = (Told::default(), Vec::new(), Vec::new());
    let mut open = || -> std::io::Result<TcpStream> {
        if args.tls {
            // The state of TLS on this side may go: nothing more is said.
            let (mut tls, mut stream) = handshake::connect(&config, args.address)?;
            handshake::exchange(&mut tls, &mut stream, &request, &mut buffer)?;
            return Ok(stream);
        }
        let mut stream = connection::connect(args.address)?;
        connection::exchange(&mut stream, &request, &mut buffer)?;
        Ok(stream)
    };
    for _ in 0..args.connections {
        held.extend(told.count(open()));
    }
    say(&told)?;
    // An error is an end as well.
    let _ = std::io::stdin().read(&mut [0]);
    drop(held);
    Ok(())
}
