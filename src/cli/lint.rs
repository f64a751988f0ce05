//! `fairway lint FILE...`: every label problem of compose files.

use std::io::Write;
use std::path::{Path, PathBuf};

use fairway_config::lint::{Finding, lint};

use super::failure::Failure;
use super::table::printable;

/// Prints each finding; fails if there is any, a file that cannot be read counting as one.
pub(crate) fn run(files: &[PathBuf], out: &mut impl Write) -> Result<(), Failure> {
    let mut found = 0;
    for file in files {
        match std::fs::read(file) {
            Err(error) => {
                found += 1;
                writeln!(out, "{}: cannot be read: {error}", file.display())?;
            }
            Ok(bytes) => found += lint_file(file, &String::from_utf8_lossy(&bytes), out)?,
        }
    }
    if found == 0 { Ok(()) } else { Err(Failure::Found) }
}

fn lint_file(file: &Path, text: &str, out: &mut impl Write) -> Result<usize, Failure> {
    let findings = lint(&file.display().to_string(), text);
    for finding in &findings {
        out.write_all(told(finding).as_bytes())?;
    }
    Ok(findings.len())
}

/// `file:line: key: text`, then value and remedy, each in a line of its own.
fn told(finding: &Finding) -> String {
    let Finding { file, line, service, key, value, severity: _, kind: _, text, remedy } = finding;
    let mut told = format!("{}:{line}: ", printable(file));
    if !key.is_empty() {
        told.push_str(&format!("{}: ", printable(key)));
    }
    told.push_str(&printable(text));
    told.push('\n');
    if let Some(service) = service {
        told.push_str(&format!("    service: {}\n", printable(service)));
    }
    if !value.is_empty() {
        told.push_str(&format!("    value:   {}\n", printable(value)));
    }
    told.push_str(&format!("    remedy:  {}\n", printable(remedy)));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_file_line_key_value_and_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let bad = folder.path().join("bad.yml");
        let text =
            "services:\n  web:\n    labels:\n      aliyun.routing.port_80: \"http://a.com,http://b.com\"\n";
        std::fs::write(&bad, text).expect("a file");
        let mut out = Vec::new();
        let result = run(&[bad, folder.path().join("none.yml")], &mut out);
        assert!(matches!(result, Err(Failure::Found)));
        let out = String::from_utf8(out).expect("text");
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[0].contains("bad.yml:4: aliyun.routing.port_80: "), "{out}");
        assert!(lines[1].ends_with("service: web"), "{out}");
        assert!(lines[2].contains("value:   http://a.com,http://b.com"), "{out}");
        assert!(lines[3].contains("remedy:  ") && lines[3].contains(';'), "{out}");
        assert!(lines[4].contains("none.yml: cannot be read: "), "{out}");
    }

    #[test]
    fn a_good_file_is_silence() {
        let folder = tempfile::tempdir().expect("a folder");
        let good = folder.path().join("good.yml");
        std::fs::write(&good, "web:\n  labels:\n    - aliyun.routing.port_80=wordpress\n").expect("a file");
        let mut out = Vec::new();
        assert!(run(&[good], &mut out).is_ok());
        assert!(out.is_empty());
    }
}
