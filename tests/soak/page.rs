//! The table of docs/reliability.md: what each row counted, put there by the row itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::count::Verdict;

/// The rows in the order of the page.
pub(crate) const ROWS: [&str; 19] = [
    "rolling replacement, stop then start",
    "rolling replacement, start then stop",
    "scale 1 → 5 → 1",
    "blue-green flip by the API",
    "`docker restart`",
    "`docker kill -s KILL`",
    "an instance that exits at once on SIGTERM",
    "an instance that ignores SIGTERM",
    "an instance that closes its listener at once on SIGTERM",
    "`docker pause`, `unpause`",
    "`docker network disconnect`, `connect`",
    "dockerd stopped and started, `--live-restore`",
    "an address goes on to another service",
    "the only instance is replaced, as `docker compose up -d` does",
    "the same with one that ends when its clients have closed their connections",
    "`fairway run --replace` while an instance that ignores SIGTERM is stopped",
    "`docker stop -t 0`, `docker rm -f` by turns",
    "rolling replacement, stop then start, HTTP/2 and gRPC",
    "rolling replacement, start then stop, HTTP/2 and gRPC",
];

const BEGIN: &str = "<!-- soak: begin -->";
const END: &str = "<!-- soak: end -->";
const HEAD: &str = "| what is done | times | minutes | requests | failed | counted apart | causes | when, commit |\n|---|---|---|---|---|---|---|---|\n";

/// Tells what a row counted, here and on the page that `FAIRWAY_SOAK_WRITE` names, and fails the test if a request failed.
pub(crate) fn tell(row: &str, times: usize, took: Duration, verdict: &Verdict) {
    println!("{row}, {times} times in {took:.0?}: {verdict}");
    if let Some(path) = std::env::var_os("FAIRWAY_SOAK_WRITE").filter(|path| !path.is_empty()) {
        let page = std::fs::read_to_string(&path).expect("the page can be read");
        let line = format!(
            "| {row} | {times} | {:.1} | {} | {} | {} | {} | {} |",
            took.as_secs_f64() / 60.0,
            verdict.requests(),
            verdict.failed(),
            verdict.apart(),
            verdict.causes(),
            when_and_what(Path::new(&path)),
        );
        std::fs::write(&path, with_row(&page, row, &line)).expect("the page can be written");
    }
    verdict.assert_none_failed(times);
}

/// The page with this line for the row, in place of the one it had.
fn with_row(page: &str, row: &str, line: &str) -> String {
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (table, after) = rest.split_once(END).expect("the page has an end of the table");
    let line_of = |wanted: &str| {
        if wanted == row {
            return Some(line.to_owned());
        }
        table.lines().find(|had| had.starts_with(&format!("| {wanted} |"))).map(str::to_owned)
    };
    let lines: Vec<String> = ROWS.iter().filter_map(|row| line_of(row)).map(|line| line + "\n").collect();
    format!("{before}{BEGIN}\n{HEAD}{}{END}{after}", lines.concat())
}

/// Today, and the commit; whether files differ from it, this page not counted, which the rows before have changed.
fn when_and_what(page: &Path) -> String {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let day = said("date", &["-u", "+%F"]).unwrap_or_default();
    let commit = said("git", &["describe", "--always"]).unwrap_or_default();
    let changed = said("git", &["diff", "--name-only", "HEAD"]).unwrap_or_default();
    let dirty = if is_dirty(&changed, page) { "-dirty" } else { "" };
    format!("{day} {commit}{dirty}").trim().to_owned()
}

/// Whether a file of this list, whose names count from the root of the repository, is another one than the page.
fn is_dirty(changed: &str, page: &Path) -> bool {
    changed.lines().any(|name| !page.ends_with(name))
}

#[test]
fn the_page_itself_makes_no_commit_dirty() {
    let page = Path::new("/src/fairway/docs/reliability.md");
    for (changed, dirty) in [
        ("", false),
        ("docs/reliability.md", false),
        ("docs/reliability.md\nMakefile", true),
        ("src/main.rs", true),
    ] {
        assert_eq!(is_dirty(changed, page), dirty, "{changed:?}");
    }
}

#[test]
fn a_row_takes_the_place_of_its_former_line_and_leaves_the_others() {
    let [first, second, ..] = ROWS;
    let page = format!("above\n{BEGIN}\n{HEAD}| {second} | old |\n{END}\nbelow\n");
    let both = with_row(&page, first, &format!("| {first} | new |"));
    assert_eq!(both, format!("above\n{BEGIN}\n{HEAD}| {first} | new |\n| {second} | old |\n{END}\nbelow\n"));
    let again = with_row(&both, second, &format!("| {second} | newer |"));
    assert!(again.contains("newer") && !again.contains("old") && again.contains(first));
}
