//! Follows the kernel's table of tracked connections: when it is full, packets that open one are dropped without a word.
//!
//! Docker makes the kernel track connections, those on loopback too. Not here: the two numbers in the status (see `admin`).

use std::path::Path;
use std::time::Duration;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::{InputsHandle, Problem};
use tokio::time::sleep;

/// Our name in [`InputsHandle::report`].
const PART: &str = "conntrack";

/// Where the numbers are.
const FOLDER: &str = "/proc/sys/net/netfilter";

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// From here on it is a problem, in percent.
const FULL_PERCENT: u64 = 90;

/// Reports the table for as long as it is nearly full. Where the kernel tracks nothing there is nothing to tell.
pub(crate) async fn follow(inputs: InputsHandle) {
    let mut was_full = false;
    if let Some((count, max)) = read(Path::new(FOLDER)) {
        tracing::info!(count, max, "tracked connections");
    }
    // The module may be loaded later, as Docker does.
    loop {
        let problem = read(Path::new(FOLDER)).and_then(|(count, max)| nearly_full(count, max));
        // The numbers change all the time: it is told once, and taken back once.
        if problem.is_some() != was_full {
            was_full = problem.is_some();
            inputs.report(PART, problem.into_iter().collect());
        }
        sleep(LOOK).await;
    }
}

/// How many there are, and may be.
fn read(folder: &Path) -> Option<(u64, u64)> {
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok();
    Some((number("nf_conntrack_count")?, number("nf_conntrack_max")?))
}

fn nearly_full(count: u64, max: u64) -> Option<Problem> {
    if max == 0 || count.saturating_mul(100) / max < FULL_PERCENT {
        return None;
    }
    let text = format!(
        "the kernel tracks {count} of {max} connections it can; beyond that it drops those that are opened, without a word"
    );
    let remedy = format!(
        "raise it with `sysctl net.netfilter.nf_conntrack_max={}`, or find out who opens so many (`conntrack -L`)",
        max.saturating_mul(2)
    );
    Some(Problem::new("conntrack-full", Severity::Warning, "machine", text, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_a_problem_from_nine_tenths_on() {
        for (count, max, want) in
            [(0, 100, false), (89, 100, false), (90, 100, true), (200, 100, true), (0, 0, false)]
        {
            assert_eq!(nearly_full(count, max).is_some(), want, "{count} of {max}");
        }
        assert!(nearly_full(u64::MAX, 1).is_some());
    }

    #[test]
    fn the_numbers_are_read_where_there_are_some() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read(folder.path()), None);
        std::fs::write(folder.path().join("nf_conntrack_count"), "12\n").expect("written");
        std::fs::write(folder.path().join("nf_conntrack_max"), "262144\n").expect("written");
        assert_eq!(read(folder.path()), Some((12, 262_144)));
    }
}
