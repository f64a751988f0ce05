//! What is given outside the file: flags, environment variables, and what the machine says of itself.

use std::path::PathBuf;

use super::cursor::Spot;

/// The flags of `fairway run` that set something; empty means not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config FILE`
    pub config: Option<PathBuf>,
    /// `--docker URL`, each time it was given
    pub docker: Vec<String>,
    /// `--http ADDR`, each time it was given
    pub http: Vec<String>,
    /// `--https ADDR`, each time it was given
    pub https: Vec<String>,
    /// `--dns ADDR`, each time it was given
    pub dns: Vec<String>,
    /// `--admin ADDR`
    pub admin: Option<String>,
    /// `--state-dir DIR`
    pub state_dir: Option<PathBuf>,
    /// `--log-format text|json`
    pub log_format: Option<String>,
    /// `--replace`
    pub replace: bool,
}

/// What the machine says, for defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The host name.
    pub host_name: String,
    /// Where state goes when nobody says: `/var/lib/fairway` for root, else `$XDG_STATE_HOME/fairway` or
    /// `~/.local/state/fairway`.
    pub state_dir: PathBuf,
}

impl System {
    /// The machine this runs on. Reads `/proc`; where it is not there, the host name is `localhost`.
    pub fn detect(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host_name = match host_name.trim() {
            "" => "localhost".to_owned(),
            name => name.to_owned(),
        };
        Self { host_name, state_dir: state_dir(is_root(), env) }
    }
}

/// `/proc/self` belongs to the effective user.
fn is_root() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
    }
    #[cfg(not(unix))]
    false
}

fn state_dir(is_root: bool, env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    // A relative path in XDG_STATE_HOME is to be ignored (XDG Base Directory Specification).
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_user = || {
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
        Some(state.join("fairway"))
    };
    if is_root { None } else { of_user() }.unwrap_or_else(|| PathBuf::from("/var/lib/fairway"))
}

/// Values from a flag or, without one, from its environment variable.
pub(super) struct Given {
    /// `--http` or `FAIRWAY_HTTP`.
    place: String,
    pub(super) values: Vec<String>,
}

impl Given {
    pub(super) fn spot(&self, value: &str) -> Spot {
        Spot::outside(&self.place, value)
    }

    /// Each value with its place.
    pub(super) fn placed(&self) -> impl Iterator<Item = (Spot, &str)> {
        self.values.iter().map(|value| (self.spot(value), value.as_str()))
    }
}

/// What takes precedence over the file.
pub(super) struct Overrides {
    pub(super) docker: Option<Given>,
    pub(super) http: Option<Given>,
    pub(super) https: Option<Given>,
    pub(super) dns: Option<Given>,
    pub(super) admin: Option<Given>,
    pub(super) state_dir: Option<Given>,
    pub(super) log_format: Option<Given>,
    pub(super) replace: Option<Given>,
}

impl Overrides {
    pub(super) fn new(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let Flags { config: _, docker, http, https, dns, admin, state_dir, log_format, replace } = flags;
        let replace = if *replace { &["true".to_owned()][..] } else { &[] };
        let state_dir = state_dir.iter().map(|dir| dir.to_string_lossy().into_owned()).collect::<Vec<_>>();
        Self {
            docker: list("docker", docker, env),
            http: list("http", http, env),
            https: list("https", https, env),
            dns: list("dns", dns, env),
            admin: one("admin", admin.as_slice(), env),
            state_dir: one("state-dir", &state_dir, env),
            log_format: one("log-format", log_format.as_slice(), env),
            replace: one("replace", replace, env),
        }
    }
}

/// The file to read: `--config`, else `FAIRWAY_CONFIG`, else none.
pub(super) fn config_file(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    flags.config.clone().or_else(|| variable("FAIRWAY_CONFIG", env).map(PathBuf::from))
}

fn one(flag: &str, given: &[String], env: &dyn Fn(&str) -> Option<String>) -> Option<Given> {
    from(flag, given, env, |value| vec![value.trim().to_owned()])
}

fn list(flag: &str, given: &[String], env: &dyn Fn(&str) -> Option<String>) -> Option<Given> {
    from(flag, given, env, |value| {
        value.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    })
}

fn from(
    flag: &str,
    given: &[String],
    env: &dyn Fn(&str) -> Option<String>,
    read: impl Fn(&str) -> Vec<String>,
) -> Option<Given> {
    if !given.is_empty() {
        return Some(Given { place: format!("--{flag}"), values: given.to_vec() });
    }
    let name = format!("FAIRWAY_{}", flag.to_ascii_uppercase().replace('-', "_"));
    let value = variable(&name, env)?;
    Some(Given { place: name, values: read(&value) })
}

/// A variable that is set to nothing counts as not set: that is how shells and compose files leave one out.
pub(super) fn variable(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    env(name).filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_state_folder_follows_user_and_environment() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        for (is_root, pairs, want) in [
            (true, &[("XDG_STATE_HOME", "/x")][..], "/var/lib/fairway"),
            (false, &[("XDG_STATE_HOME", "/x"), ("HOME", "/home/a")][..], "/x/fairway"),
            (false, &[("XDG_STATE_HOME", "x"), ("HOME", "/home/a")][..], "/home/a/.local/state/fairway"),
            (false, &[("HOME", "/home/a")][..], "/home/a/.local/state/fairway"),
            (false, &[][..], "/var/lib/fairway"),
        ] {
            assert_eq!(state_dir(is_root, &env(pairs)), Path::new(want), "{pairs:?}");
        }
        assert!(!System::detect(&|_| None).host_name.is_empty());
    }
}
