//! A connection per request, which the proxy closes.

use std::io::{self, Read};
use std::time::Instant;

use super::{Args, Told, connection, in_threads};

pub(super) fn run(args: &Args) -> Told {
    let request = connection::request(&args.host, &args.path, "Connection: close\r\n");
    in_threads(args, |_, until| {
        let (mut told, mut buffer) = (Told::default(), Vec::new());
        while Instant::now() < until {
            told.count(once(args, &request, &mut buffer));
        }
        told
    })
}

fn once(args: &Args, request: &[u8], buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut stream = connection::connect(args.address)?;
    connection::exchange(&mut stream, request, buffer)?;
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(io::Error::other("octets follow the answer")),
        Err(error) => Err(io::Error::other(format!("the proxy does not close the connection: {error}"))),
    }
}
