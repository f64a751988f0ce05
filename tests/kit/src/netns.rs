//! A network namespace for one test, so that load, floods and listeners touch nothing else on the machine.
//!
//! A Docker engine makes the kernel track loopback connections; a full table drops SYNs on 127.0.0.1, and a test with
//! many connections would see failures that nobody caused. In a namespace of its own nothing is tracked.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

/// The calling thread's stay in a new, empty network namespace with loopback up; ends with this value.
///
/// Only this thread is moved: sockets it opens and processes and threads it starts from now on are inside. That covers
/// a `#[tokio::test]` of the default, single-threaded flavour. Hold it in the test function itself.
#[derive(Debug)]
pub struct Netns {
    outside: File,
    /// A namespace belongs to a thread, so this value must not move to another.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Netns {
    /// Moves the calling thread into a new namespace.
    ///
    /// # Panics
    /// Without the privilege for it.
    pub fn enter() -> Self {
        let outside = File::open("/proc/thread-self/ns/net").expect("every thread has a network namespace");
        // SAFETY: unshare(2) takes a number and touches no memory of ours.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(unshared, 0, "a network namespace needs root: {}", std::io::Error::last_os_error());
        run("ip", &["link", "set", "lo", "up"]);
        Self { outside, _not_send: std::marker::PhantomData }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // SAFETY: setns(2) takes an open descriptor, which `self` holds, and a number.
        let back = unsafe { libc::setns(self.outside.as_raw_fd(), libc::CLONE_NEWNET) };
        if back != 0 {
            eprintln!("cannot leave the network namespace: {}", std::io::Error::last_os_error());
        }
    }
}

/// Runs a system tool to its end.
///
/// # Panics
/// When it fails.
pub fn run(tool: &str, arguments: &[&str]) {
    if let Err(why) = try_run(tool, arguments) {
        panic!("{why}");
    }
}

/// Runs a system tool to its end; `Err` says what it said.
pub fn try_run(tool: &str, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(tool).args(arguments).output();
    let done = done.map_err(|error| format!("{tool}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(format!("{tool} {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim()))
}
