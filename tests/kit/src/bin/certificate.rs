//! `certificate FOLDER HOST...`: a self-signed certificate for these hosts as `cert.pem` and `key.pem`, unless both are there.
//! For the demo and for tries on one's own machine, where no other tool needs to be installed.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, hosts @ ..] = &args[..] else {
        eprintln!("usage: certificate FOLDER HOST...");
        return ExitCode::from(2);
    };
    match make(Path::new(folder), hosts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("certificate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(folder: &Path, hosts: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok(());
    }
    if hosts.is_empty() {
        return Err("name the hosts that it is for".into());
    }
    let made = rcgen::generate_simple_self_signed(hosts)?;
    std::fs::create_dir_all(folder)?;
    write(&key, &made.signing_key.serialize_pem(), 0o600)?;
    write(&cert, &made.cert.pem(), 0o644)?;
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    io::Write::write_all(&mut &file, text.as_bytes())
}
