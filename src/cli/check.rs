//! `fairway check`: the configuration as `fairway run` would read it, certificate files too, every error at once.

use std::io::Write;
use std::path::PathBuf;

use fairway_config::Config;
use fairway_config::file::{Flags, System};

use super::failure::Failure;
use super::table::printable;
use crate::run::files;

/// Fails with every error. Warnings are printed; they stop nothing.
pub(crate) fn run(
    file: Option<PathBuf>,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let flags = Flags { config: file, ..Flags::default() };
    let loaded = Config::load(&flags, env, &System::detect(env)).and_then(|config| {
        files::load(&config)?;
        Ok(config)
    });
    let config = loaded.map_err(|errors| {
        let count = errors.0.len();
        let lines: Vec<_> =
            errors.0.iter().map(|error| format!("  {}", printable(&error.to_string()))).collect();
        let errors = if count == 1 { "1 error".to_owned() } else { format!("{count} errors") };
        Failure::Usage(format!("the configuration has {errors}\n{}", lines.join("\n")))
    })?;
    for warning in config.warnings.iter().chain(&files::warnings(&config)) {
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
    fn files_that_are_named_and_cannot_be_used_are_told_with_their_keys() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fairway.toml");
        std::fs::write(folder.path().join("empty"), " \n").expect("a file");
        let write = |text: &str| std::fs::write(&file, text).expect("a file");
        write(
            "https.listen = ['127.0.0.1:443']\nadmin.token_file = 'empty'\nacme = { agree_terms = true, ca = 'none' }\n\
             upstream_tls.ca = 'none'\n[[certificate]]\ncert = 'none'\nkey = 'none'\n",
        );
        let failure =
            run(Some(file.clone()), &|_| None, &mut Vec::new()).expect_err("four errors").to_string();
        for told in ["4 errors", "admin.token_file ", "acme.ca ", "upstream_tls ", "certificate[0] "] {
            assert!(failure.contains(told), "{told}: {failure}");
        }
        write(
            "[[webhook]]\nurl = 'http://a/1'\nsecret_file = 'none'\n[[webhook]]\nurl = 'http://a/2'\n[[webhook]]\nurl = 'http://a/3'\n\
             secret_file = 'empty'\n[[webhook]]\nurl = 'http://a/4'\nsecret_file = 'fairway.toml'\n\
             [[webhook]]\nurl = 'https://a/5'\nca = 'none.pem'\n[[webhook]]\nurl = 'https://a/6'\nca = 'fairway.toml'\n",
        );
        let failure =
            run(Some(file.clone()), &|_| None, &mut Vec::new()).expect_err("four errors").to_string();
        for told in [
            "4 errors",
            "webhook[0].secret_file ",
            "cannot be read",
            "webhook[2].secret_file ",
            "is empty",
            "webhook[4].ca ",
            "webhook[5].ca ",
        ] {
            assert!(failure.contains(told), "{told}: {failure}");
        }
        write(
            "[docker]\nhosts = [{ url = 'tcp://10.0.0.6:2376', ca = 'none', cert = 'empty', key = 'empty' }]\n",
        );
        let mut out = Vec::new();
        run(Some(file), &|_| None, &mut out).expect("engines may come later");
        let told = String::from_utf8(out).expect("text");
        assert!(told.starts_with("warning: docker.hosts[0].ca ") && told.lines().count() == 2, "{told}");
    }

    #[test]
    fn without_a_file_the_defaults_are_good() {
        let mut out = Vec::new();
        run(None, &|_| None, &mut out).expect("the defaults are good");
        assert!(String::from_utf8(out).expect("text").starts_with("good"));
    }
}
