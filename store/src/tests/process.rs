//! Other processes with the store open: this test program started again, in a role.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use super::{audit, route, split};
use crate::Store;

const ROLE: &str = "FAIRWAY_STORE_TEST_ROLE";
const FOLDER: &str = "FAIRWAY_STORE_TEST_FOLDER";
/// Before what a role says, to tell it from what the test harness says.
const SAYS: &str = "says: ";
/// The user `nobody`.
const NOBODY: u32 = 65534;

/// A process in a role. Its input is closed at its end; then it ends too.
pub(super) struct Other {
    child: Child,
    input: Option<ChildStdin>,
    output: Mutex<BufReader<ChildStdout>>,
}

/// Starts this test program in a role.
pub(super) fn start(role: &str, folder: &Path) -> Other {
    let script = match role {
        // 1.6 MB is room for a new file and some splits; the signal at the limit is ignored, so that the write fails.
        "fill" => "trap '' XFSZ; ulimit -f 3200; exec \"$0\" \"$@\"",
        _ => "exec \"$0\" \"$@\"",
    };
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(program);
    spawn(command, role, folder)
}

/// The same as a user without rights, if this one has all.
pub(super) fn start_unprivileged(role: &str, folder: &Path) -> Other {
    // By this name the program is reached even where the folders above it are closed.
    let mut command = Command::new("/proc/self/exe");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    spawn(command, role, folder)
}

pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").expect("the process file system").uid() == 0
}

fn spawn(mut command: Command, role: &str, folder: &Path) -> Other {
    command.args(["--exact", "tests::process::role", "--ignored", "--nocapture"]);
    command.env(ROLE, role).env(FOLDER, folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("this program can be started again");
    let input = child.stdin.take();
    let output = child.stdout.take().expect("it was asked for");
    Other { child, input, output: Mutex::new(BufReader::new(output)) }
}

impl Other {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next thing that it says.
    pub(super) fn next(&self) -> String {
        let mut output = self.output.lock().expect("one test, one thread");
        let mut line = String::new();
        while output.read_line(&mut line).expect("its output can be read") > 0 {
            if let Some((_, said)) = line.trim_end().split_once(SAYS) {
                return said.to_owned();
            }
            line.clear();
        }
        panic!("the other process ended")
    }

    /// Lets it end.
    pub(super) fn end(mut self) {
        drop(self.input.take());
        let mut rest = String::new();
        let mut output = self.output.into_inner().expect("one test, one thread");
        output.read_to_string(&mut rest).expect("its output can be read");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{status}: {rest}");
    }

    /// Kills it; what it had said until then.
    pub(super) fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it still runs");
        self.child.wait().expect("it is our child");
        let output = self.output.into_inner().expect("one test, one thread");
        let lines = output.lines().map_while(Result::ok);
        lines.filter_map(|line| line.split_once(SAYS).map(|(_, said)| said.to_owned())).collect()
    }
}

#[test]
#[ignore = "the other process of other tests"]
fn role() {
    let (Ok(role), Ok(folder)) = (std::env::var(ROLE), std::env::var(FOLDER)) else { return };
    let opened = Store::open(Path::new(&folder));
    match (role.as_str(), opened) {
        ("open", Err(error)) => println!("{SAYS}{}", error.kind()),
        ("open", Ok(_)) => println!("{SAYS}opened"),
        ("hold", Ok(_store)) => {
            println!("{SAYS}open");
            wait_for_the_end();
        }
        ("write", Ok(store)) => write(&store, u64::MAX),
        ("fill", Ok(store)) => {
            write(&store, 100_000);
            println!("{SAYS}kept {}", store.load().expect("load").decisions.splits.len());
            wait_for_the_end();
        }
        (role, opened) => panic!("{role}: {opened:?}"),
    }
}

/// Puts splits of ever new routes, and says how many are in the store after each; then why it stopped.
fn write(store: &Store, most: u64) {
    let have = store.load().expect("load").decisions.splits.len() as u64;
    for number in have + 1..most {
        let name = format!("shop{number}.com/");
        let mut record = split(&[("web@v1", number % 1000), ("web@v2", 1)]);
        record.reason = "x".repeat(2000).into();
        match store.put_split(&route(&name), &record, &audit(&name)) {
            Ok(()) => println!("{SAYS}{number}"),
            Err(error) => return println!("{SAYS}{}", error.kind()),
        }
    }
}

fn wait_for_the_end() {
    let mut nothing = String::new();
    std::io::stdin().read_to_string(&mut nothing).expect("the input can be read");
}
