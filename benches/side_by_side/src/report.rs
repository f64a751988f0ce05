//! The tables, in Markdown: figures with ratios, then what each proxy did at the same time.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::measure::{Measured, Sample, Turns, last};
use crate::peer::Kind;
use crate::rows::{self, Beside, Row};
use crate::{Outcome, machine};

/// The marks between which tables are put into a file.
const MARKS: [&str; 2] = ["<!-- side-by-side: begin -->\n", "<!-- side-by-side: end -->"];

/// Prints the tables of what was measured last, and puts them into a file if one is given.
pub(crate) fn show(write: Option<&Path>) -> Outcome<()> {
    let mut measured = Vec::new();
    for row in rows::all() {
        measured.extend(last(&row)?.map(|measured| (row, measured)));
    }
    let text = tables(&measured);
    print!("{text}");
    let path = machine::folder()?.join("report.md");
    fs::write(&path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
    write.map_or(Ok(()), |path| put_into(path, &text))
}

fn put_into(path: &Path, text: &str) -> Outcome<()> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let page = fs::read_to_string(path).map_err(told)?;
    let marks =
        page.split_once(MARKS[0]).and_then(|(front, rest)| Some((front, rest.split_once(MARKS[1])?.1)));
    let Some((front, back)) = marks else {
        return Err(format!("{} has no `{}` and `{}`", path.display(), MARKS[0].trim(), MARKS[1]));
    };
    fs::write(path, [front, MARKS[0], text, MARKS[1], back].concat()).map_err(told)
}

fn tables(measured: &[(Row, Measured)]) -> String {
    let mut text = String::new();
    conditions(&mut text, measured);
    let of = |peers: bool| measured.iter().filter(move |(row, _)| (row.beside == Beside::Peers) == peers);
    let names = Kind::ALL.map(Kind::name).join(" | ");
    if of(true).next().is_some() {
        text +=
            &format!("\n| | {names} | Fairway / haproxy | Fairway / nginx |\n|---|---|---|---|---|---|\n");
        of(true).for_each(|(row, measured)| beside_peers(&mut text, row, measured));
    }
    if of(false).next().is_some() {
        text += &format!("\n| each with itself | {names} |\n|---|---|---|---|\n");
        of(false).for_each(|(row, measured)| beside_itself(&mut text, row, measured));
    }
    if of(true).next().is_some() {
        text += &format!("\n| requests/s (cores busy) | {names} |\n|---|---|---|---|\n");
        of(true).for_each(|(row, measured)| rates(&mut text, row, measured));
    }
    let reasons = |(row, measured): &(Row, Measured)| {
        let what = row.what;
        measured.turns.iter().filter_map(reason).map(|why| format!("- {what}: {why}\n")).collect::<String>()
    };
    let reasons: String = measured.iter().map(reasons).collect();
    if reasons.is_empty() { text } else { text + "\n" + &reasons }
}

/// When, on what, with what; one line for all rows that were measured alike.
fn conditions(text: &mut String, measured: &[(Row, Measured)]) {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for (row, Measured { date, machine, load_before, rounds, seconds, .. }) in measured {
        let mut line =
            format!("{date}, {}. {}. {rounds} rounds of {seconds} s", machine.hardware, machine.programs);
        if *load_before > machine::QUIET {
            line += ". **The machine was busy with other work, so that the figures are of little worth**";
        }
        match lines.iter_mut().find(|(other, _)| *other == line) {
            Some((_, rows)) => rows.push(row.name),
            None => lines.push((line, vec![row.name])),
        }
    }
    let several = lines.len() > 1;
    for (line, rows) in &lines {
        let which = if several { format!(" ({})", rows.join(", ")) } else { String::new() };
        text.push_str(&format!("Measured {line}{which}.\n\n"));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

fn beside_peers(text: &mut String, row: &Row, measured: &Measured) {
    let cells = Kind::ALL.map(|kind| cell(find(measured, kind, 0)));
    let ratios = [Kind::Haproxy, Kind::Nginx].map(|other| {
        ratio(find(measured, Kind::Fairway, 0), find(measured, other, 0)).unwrap_or_else(|| "-".into())
    });
    let _ = writeln!(text, "| {}: {} | {} | {} |", row.what, row.unit, cells.join(" | "), ratios.join(" | "));
}

fn beside_itself(text: &mut String, row: &Row, measured: &Measured) {
    let Beside::Ways(first, second) = row.beside else { return };
    let cells = Kind::ALL.map(|kind| {
        let ways = [0, 1].map(|way| find(measured, kind, way));
        let both = ways.map(cell).join(" → ");
        ratio(ways[1], ways[0]).map_or_else(|| both.clone(), |ratio| format!("{both}: {ratio}"))
    });
    let _ = writeln!(text, "| {}, {first} → {second}: {} | {} |", row.what, row.unit, cells.join(" | "));
}

fn rates(text: &mut String, row: &Row, measured: &Measured) {
    let cells = Kind::ALL.map(|kind| match find(measured, kind, 0).filter(|turns| is_valid(turns)) {
        Some(turns) if turns.samples.iter().any(|sample| sample.rate > 0.0) => {
            let [rate, cores] = [|sample: &Sample| sample.rate, |sample: &Sample| sample.cores]
                .map(|figure| median(turns.samples.iter().map(figure).collect()));
            format!("{rate:.0} ({cores:.2})")
        }
        _ => "-".into(),
    });
    if cells.iter().any(|cell| cell != "-") {
        let _ = writeln!(text, "| {} | {} |", row.what, cells.join(" | "));
    }
}

/// One line for the terminal.
pub(crate) fn in_words(turns: &Turns) -> String {
    let figures: Vec<_> = turns.samples.iter().map(|sample| format!("{:.2}", sample.value)).collect();
    let (name, way) = (turns.kind.name(), ["", " (second way)"][turns.way.min(1)]);
    let why = reason(turns).map_or_else(String::new, |why| format!("; {why}"));
    format!("{name}{way}: {} from {}{why}", cell(Some(turns)), figures.join(" "))
}

fn find(measured: &Measured, kind: Kind, way: usize) -> Option<&Turns> {
    measured.turns.iter().find(|turns| turns.kind == kind && turns.way == way)
}

fn is_valid(turns: &Turns) -> bool {
    turns.failure.is_none()
        && !turns.samples.is_empty()
        && turns.samples.iter().all(|sample| sample.errors == 0)
}

/// The median, or that there is none; the reason stands below the tables.
fn cell(turns: Option<&Turns>) -> String {
    match turns {
        None => "-".into(),
        Some(Turns { failure: Some(_), .. }) => "not measured".into(),
        Some(turns) if !is_valid(turns) => "invalid".into(),
        Some(turns) => figure(median(turns.samples.iter().map(|sample| sample.value).collect())),
    }
}

/// Three digits that count, or all in front of the point.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// Why there is no figure.
fn reason(turns: &Turns) -> Option<String> {
    let name = turns.kind.name();
    if let Some(failure) = &turns.failure {
        let words = failure.split_whitespace().collect::<Vec<_>>().join(" ");
        return Some(format!("{name} was not measured: {}", words.chars().take(400).collect::<String>()));
    }
    let errors: u64 = turns.samples.iter().map(|sample| sample.errors).sum();
    let first = turns.samples.iter().find_map(|sample| sample.first_error.as_deref());
    (errors > 0).then(|| format!("{name} had {errors} errors, the first: {}", first.unwrap_or("unknown")))
}

/// Median and range of the ratios of each round.
fn ratio(ours: Option<&Turns>, others: Option<&Turns>) -> Option<String> {
    let (ours, others) = (ours.filter(|turns| is_valid(turns))?, others.filter(|turns| is_valid(turns))?);
    let mut ratios: Vec<f64> =
        ours.samples.iter().zip(&others.samples).map(|(our, other)| our.value / other.value).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, most) = (ratios.first().copied()?, ratios.last().copied()?);
    Some(format!("{:.2} ({least:.2} to {most:.2})", median(ratios)))
}

/// Of an even number the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(kind: Kind, values: &[f64], errors: u64) -> Turns {
        let sample = |value: &f64| Sample {
            value: *value,
            rate: 1e6 / value,
            cores: 1.0,
            errors,
            first_error: (errors > 0).then(|| "503".into()),
        };
        Turns { kind, way: 0, samples: values.iter().map(sample).collect(), failure: None }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let (ours, theirs) =
            (turns(Kind::Fairway, &[10.0, 20.0, 9.0], 0), turns(Kind::Nginx, &[20.0, 20.0, 10.0], 0));
        assert_eq!(ratio(Some(&ours), Some(&theirs)).as_deref(), Some("0.90 (0.50 to 1.00)"));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_row_with_errors_has_no_figure() {
        let wrong = turns(Kind::Fairway, &[10.0], 3);
        assert_eq!(cell(Some(&wrong)), "invalid");
        assert_eq!(reason(&wrong).as_deref(), Some("Fairway had 3 errors, the first: 503"));
        assert_eq!(ratio(Some(&wrong), Some(&turns(Kind::Nginx, &[10.0], 0))), None);
        let failed = Turns { failure: Some("no\n port".into()), ..turns(Kind::Fairway, &[], 0) };
        assert_eq!(cell(Some(&failed)), "not measured");
        assert_eq!(reason(&failed).as_deref(), Some("Fairway was not measured: no port"));
        assert_eq!(reason(&turns(Kind::Fairway, &[10.0], 0)), None);
    }

    #[test]
    fn a_busy_machine_is_told_in_front_of_its_tables() {
        let row = rows::named("h1").expect("a row");
        let page = |load_before| {
            let machine = machine::Machine { hardware: "2 cores".into(), programs: "nginx".into() };
            let (date, turns) = ("2026-11-21".into(), vec![turns(Kind::Nginx, &[10.0], 0)]);
            let measured =
                Measured { row: "h1".into(), date, machine, load_before, rounds: 1, seconds: 1, turns };
            tables(&[(row, measured)])
        };
        assert!(
            page(0.1).starts_with("Measured 2026-11-21, 2 cores. nginx. 1 rounds of 1 s.\n"),
            "{}",
            page(0.1)
        );
        assert!(page(3.0).contains("busy"));
        assert!(
            page(0.1).contains("| HTTP/1.1, 1 KiB, 1 worker: CPU µs per request | 10.0 | - | - | - | - |")
        );
    }

    #[test]
    fn tables_go_between_the_marks_and_nowhere_else() {
        let folder = std::env::temp_dir().join(format!("side-by-side-{}", std::process::id()));
        fs::write(&folder, format!("front\n{}old\n{}\nback\n", MARKS[0], MARKS[1])).expect("a file");
        put_into(&folder, "new\n").expect("there are marks");
        let page = fs::read_to_string(&folder).expect("a file");
        assert_eq!(page, format!("front\n{}new\n{}\nback\n", MARKS[0], MARKS[1]));
        fs::write(&folder, "none").expect("a file");
        assert!(put_into(&folder, "new").is_err());
        fs::remove_file(&folder).expect("it is there");
    }
}
