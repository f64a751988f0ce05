//! `fairway check`: the configuration as `fairway run` would read it, certificate files too, every error at once.

use std::io::Write;
use std::path::PathBuf;

use fairway_config::Config;
use fairway_config::file::{Flags, System};

use super::failure::Failure;
use super::table::printable;
use crate::run::{certificates, trust};

/// Fails with every error. Warnings are printed; they stop nothing.
pub(crate) fn run(
    file: Option<PathBuf>,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let flags = Flags { config: file, ..Flags::default() };
    let loaded = Config::load(&flags, env, &System::detect(env)).and_then(|config| {
        certificates::load(&config)?;
        trust::load(&config.upstream_tls)?;
        Ok(config)
    });
    let config = loaded.map_err(|errors| {
        let count = errors.0.len();
        let lines: Vec<_> =
            errors.0.iter().map(|error| format!("  {}", printable(&error.to_string()))).collect();
        let errors = if count == 1 { "1 error".to_owned() } else { format!("{count} errors") };
        Failure::Usage(format!("the configuration has {errors}\n{}", lines.join("\n")))
    })?;
    for warning in &config.warnings {
        writeln!(out, "warning: {}", printable(&warning.to_string()))?;
    }
    match &config.file {
        Some(file) => writeln!(out, "{}: good", file.display())?,
        None => writeln!(out, "good: no configuration file is named, the defaults hold")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_told_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fairway.toml");
        std::fs::write(&file, "[http]\nlisten = [\"nowhere\"]\n[proxy]\nthreds = 1\n").expect("a file");
        let mut out = Vec::new();
        let failure = run(Some(file), &|_| None, &mut out).expect_err("two errors");
        assert_eq!(failure.exit_code(), std::process::ExitCode::from(2));
        let text = failure.to_string();
        assert!(text.contains("2 errors") && text.contains("nowhere") && text.contains("threds"), "{text}");
        assert!(out.is_empty());
    }

    #[test]
    fn without_a_file_the_defaults_are_good() {
        let mut out = Vec::new();
        run(None, &|_| None, &mut out).expect("the defaults are good");
        assert!(String::from_utf8(out).expect("text").starts_with("good"));
    }
}
