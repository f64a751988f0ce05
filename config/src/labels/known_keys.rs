//! Which keys there are, and which one was meant by a key that there is not.
//!
//! Not here: what the values mean (see `routing`, `balancer`, `probe`, `fairway`).

use super::flaw::{Flaw, shown};

/// Every `fairway.*` key, without the family.
pub(crate) const FAIRWAY: [&str; 38] = [
    "add_prefix",
    "allow",
    "auth.basic",
    "auth.forward",
    "auth.realm",
    "balance",
    "body_max",
    "compress",
    "dns",
    "drain",
    "enable",
    "headers.request",
    "headers.response",
    "hedge",
    "in_flight_max",
    "match",
    "network",
    "outlier",
    "project",
    "protocol",
    "proxy_protocol",
    "rate_limit",
    "rate_limit.client",
    "redirect",
    "retries",
    "service",
    "split_by",
    "strip_prefix",
    "timeout.connect",
    "timeout.first_byte",
    "timeout.idle",
    "timeout.total",
    "tls.passthrough",
    "tls.server_name",
    "tls.verify",
    "version",
    "weight",
    "zone",
];

/// The `aliyun.*` keys that are read, without the family; `port_N` stands for every port.
const ALIYUN: [&str; 14] = [
    "depends",
    "global",
    "lb.port_N",
    "probe.cmd",
    "probe.initial_delay_seconds",
    "probe.timeout_seconds",
    "probe.url",
    "rolling_updates",
    "rolling_updates.parallelism",
    "routing.port_N",
    "routing.session_sticky",
    "scale",
    "latest_image",
    "monitoring.script",
];

/// What a key of one of the two families is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    /// `aliyun.routing.port_N`, with what stands for N.
    Route(&'a str),
    /// `aliyun.lb.port_N`, with what stands for N.
    Balancer(&'a str),
    /// Another `aliyun.*` key that is read, without the family.
    Aliyun(&'a str),
    /// A `fairway.*` key, without the family.
    Fairway(&'a str),
    /// `aliyun.proxy.*`: told as a custom proxy label.
    Proxy,
    /// Meant for other parts of the original product.
    Ignored,
    /// Meant for what Fairway does in another way or not at all, with what to do instead.
    Unsupported(&'static str),
    /// None of these.
    Unknown,
}

/// Whether the key is of one of the two families, or would be if it were spelt with care.
pub(super) fn is_ours(key: &str) -> bool {
    let start = key.trim_start().as_bytes();
    let begins = |family: &[u8]| start.get(..family.len()).is_some_and(|s| s.eq_ignore_ascii_case(family));
    begins(b"aliyun.") || begins(b"fairway.")
}

/// Sorts a key into its kind.
pub(crate) fn classify(key: &str) -> Key<'_> {
    if let Some(name) = key.strip_prefix("fairway.") {
        return match name {
            "auth.basic_file" => Key::Unsupported(
                "write the users into `fairway.auth.basic`; only the configuration file may name files of this machine",
            ),
            _ if FAIRWAY.contains(&name) => Key::Fairway(name),
            _ => Key::Unknown,
        };
    }
    let Some(name) = key.strip_prefix("aliyun.") else { return Key::Unknown };
    if let Some(port) = name.strip_prefix("routing.port_") {
        return Key::Route(port);
    }
    if let Some(port) = name.strip_prefix("lb.port_") {
        return Key::Balancer(port);
    }
    if let Some(instead) = unsupported(name) {
        return Key::Unsupported(instead);
    }
    if name.strip_prefix("proxy.").is_some_and(|rest| !rest.is_empty()) {
        return Key::Proxy;
    }
    if is_ignored(name) {
        return Key::Ignored;
    }
    if ALIYUN.contains(&name) { Key::Aliyun(name) } else { Key::Unknown }
}

fn is_ignored(name: &str) -> bool {
    matches!(name, "latest_image" | "addon" | "custom_addon" | "gpu")
        || ["log", "monitoring.", "auto_scaling."].iter().any(|family| name.starts_with(family))
}

/// What `unsupported` tells of by name.
const UNSUPPORTED: [&str; 5] = [
    "routing.weight",
    "routing.ssl_cert",
    "routing.extra_setting",
    "routing.timeout_setting",
    "routing.worker",
];

fn unsupported(name: &str) -> Option<&'static str> {
    if name.starts_with("vip.") {
        return Some("publish a listener of Fairway instead: `aliyun.lb.port_N: tcp://NAME:FRONT_PORT`");
    }
    match name {
        "routing.weight" => Some("write `fairway.weight`, a whole number from 0 to 1000"),
        "routing.ssl_cert" => Some("name the certificate in the configuration file, under `[[certificate]]`"),
        "routing.extra_setting" => Some("leave it out; the `fairway.*` labels hold what can be set"),
        "routing.timeout_setting" => {
            Some("write `fairway.timeout.first_byte`, `.connect`, `.idle` or `.total`")
        }
        "routing.worker" => Some("leave it out; `[proxy] threads` in the configuration file is the nearest"),
        _ => None,
    }
}

/// What is wrong with a key that cannot be used whatever its value.
pub(super) fn misspelt(key: &str, value: &str) -> Option<Flaw> {
    if let Some((name, rest)) = key.split_once('：') {
        let value = if value.is_empty() { rest } else { value };
        let text = format!("the key `{}` has a full-width colon `：`", shown(key));
        let remedy =
            format!("write an ASCII colon and a space: `{}: {}`", shown(name.trim()), shown(value.trim()));
        return Some(Flaw::refused("label-fullwidth-colon", text, remedy));
    }
    if let Some((name, rest)) = key.split_once(':') {
        let value = if value.is_empty() { rest } else { value };
        let text = format!("the key `{}` has a colon in it", shown(key));
        let remedy =
            format!("write `{}={}` in a YAML list, `{0}: {1}` in a map", shown(name), shown(value.trim()));
        return Some(Flaw::refused("label-colon-in-key", text, remedy));
    }
    if key.contains(char::is_whitespace) {
        let bare: String = key.chars().filter(|c| !c.is_whitespace()).collect();
        let text = format!("the key `{}` has white space in it", shown(key));
        return Some(Flaw::refused("label-space-in-key", text, format!("write `{}`", shown(&bare))));
    }
    (classify(key) == Key::Unknown).then(|| unknown(key))
}

fn unknown(key: &str) -> Flaw {
    let text = format!("`{}` is no label that Fairway knows", shown(key));
    let remedy = match nearest(key) {
        Some(meant) => match meant.strip_prefix("aliyun.").and_then(unsupported) {
            Some(instead) => format!("did you mean `{meant}`? For that, {instead}"),
            None => format!("did you mean `{meant}`?"),
        },
        None if key.len() > 8 && key.get(..8).is_some_and(|s| s.eq_ignore_ascii_case("fairway.")) => {
            format!(
                "leave it out; the keys are {}",
                FAIRWAY.map(|name| format!("`fairway.{name}`")).join(", ")
            )
        }
        None => "leave it out, or see the list of `aliyun.*` labels in the documentation".to_owned(),
    };
    Flaw::refused("label-unknown-key", text, remedy)
}

/// The known key nearest to one that is not known, if any is near. A number at its end is kept as the port.
fn nearest(key: &str) -> Option<String> {
    let key: String = key.chars().take(80).collect::<String>().to_ascii_lowercase();
    let (family, name) = key.trim().split_once('.')?;
    let digits = &name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    let port = if digits.is_empty() { "N" } else { digits };
    // What is not supported comes last: of two names equally near, the one that works is meant.
    let aliyun: Vec<String> = ALIYUN
        .iter()
        .chain(&UNSUPPORTED)
        .map(|name| name.replace("port_N", &format!("port_{port}")))
        .collect();
    let fairway = FAIRWAY.map(str::to_owned);
    let [(own, own_names), (other, other_names)]: [(&str, &[String]); 2] = match family {
        "aliyun" => [("aliyun", &aliyun), ("fairway", &fairway)],
        _ => [("fairway", &fairway), ("aliyun", &aliyun)],
    };
    match nearest_of(name, own_names) {
        Some(meant) => Some(format!("{own}.{meant}")),
        None => other_names.iter().find(|known| *known == name).map(|meant| format!("{other}.{meant}")),
    }
}

/// The candidate nearest to `given`, if any is within a third of its length; one that begins with `given` is near
/// too. Ties go to the first.
pub(crate) fn nearest_of<S: AsRef<str>>(given: &str, candidates: impl IntoIterator<Item = S>) -> Option<S> {
    let chars = given.chars().count();
    let distance = |candidate: &str| match candidate.starts_with(given) && chars >= 3 {
        true => 1,
        false => strsim::osa_distance(given, candidate),
    };
    let near = candidates.into_iter().map(|candidate| (distance(candidate.as_ref()), candidate));
    near.filter(|(distance, _)| *distance <= (chars / 3).clamp(1, 6))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_line_in_the_documentation() {
        let text = include_str!("../../../docs/labels.md");
        for key in FAIRWAY {
            let start = format!("| `fairway.{key}` |");
            let line = text.lines().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| {
                panic!("docs/labels.md has no line `{start} meaning | default | example |`")
            });
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{line}");
            let value =
                cells[3].trim_matches('`').replace("$2y$05$...", &format!("$2y$05${}", "a".repeat(53)));
            let problems = super::super::parse([(&*format!("fairway.{key}"), &*value)]).problems;
            let alone = ["fairway.auth.realm", "fairway.auth.forward"]; // they need users beside them
            assert!(problems.is_empty() || alone.contains(&&*problems[0].key), "{key}: {problems:?}");
        }
        for key in ALIYUN {
            assert!(
                text.contains(&format!("`aliyun.{key}`")),
                "docs/labels.md does not tell of aliyun.{key}"
            );
        }
    }

    #[test]
    fn keys_are_sorted_into_their_kinds() {
        for (key, want) in [
            ("aliyun.routing.port_80", Key::Route("80")),
            ("aliyun.routing.port_", Key::Route("")),
            ("aliyun.lb.port_3306", Key::Balancer("3306")),
            ("aliyun.routing.session_sticky", Key::Aliyun("routing.session_sticky")),
            ("aliyun.probe.url", Key::Aliyun("probe.url")),
            ("aliyun.scale", Key::Aliyun("scale")),
            ("fairway.timeout.first_byte", Key::Fairway("timeout.first_byte")),
            ("fairway.timeout", Key::Unknown),
            ("aliyun.latest_image", Key::Ignored),
            ("aliyun.logs", Key::Ignored),
            ("aliyun.log_store_access", Key::Ignored),
            ("aliyun.log.timestamp", Key::Ignored),
            ("aliyun.monitoring.script", Key::Ignored),
            ("aliyun.auto_scaling.max_cpu", Key::Ignored),
            ("aliyun.addon", Key::Ignored),
            ("aliyun.custom_addon", Key::Ignored),
            ("aliyun.gpu", Key::Ignored),
            ("aliyun.proxy.VIRTUAL_HOST", Key::Proxy),
            ("aliyun.proxy.", Key::Unknown),
            ("aliyun.rooting.port_80", Key::Unknown),
            ("Aliyun.scale", Key::Unknown),
        ] {
            assert_eq!(classify(key), want, "{key}");
        }
        for name in ["weight", "ssl_cert", "extra_setting", "timeout_setting", "worker"] {
            assert!(matches!(classify(&format!("aliyun.routing.{name}")), Key::Unsupported(_)), "{name}");
        }
        assert!(matches!(classify("aliyun.vip.port"), Key::Unsupported(_)));
    }

    #[test]
    fn the_key_that_was_meant_is_named() {
        for (key, meant) in [
            ("aliyun.rooting.port_80", "`aliyun.routing.port_80`"),
            ("aliyun.routing.prot_8080", "`aliyun.routing.port_8080`"),
            ("aliyun.routing.port", "`aliyun.routing.port_N`"),
            ("aliyun.routing.port80", "`aliyun.routing.port_80`"),
            ("ALIYUN.Routing.Port_80", "`aliyun.routing.port_80`"),
            ("aliyun.probe.uri", "`aliyun.probe.url`"),
            ("aliyun.probe.timeout", "`aliyun.probe.timeout_seconds`"),
            ("aliyun.scales", "`aliyun.scale`"),
            ("fairway.wieght", "`fairway.weight`"),
            ("aliyun.weight", "`fairway.weight`"),
            ("aliyun.routing.weigth", "`aliyun.routing.weight`? For that, write `fairway.weight`"),
            ("aliyun.routing.ssl_certs", "`[[certificate]]`"),
            ("fairway.probe.url", "`aliyun.probe.url`"),
            ("fairway.timeout.firstbyte", "`fairway.timeout.first_byte`"),
        ] {
            let flaw = misspelt(key, "x").expect(key);
            assert_eq!(flaw.kind, "label-unknown-key", "{key}");
            assert!(flaw.remedy.contains(meant), "{key}: {}", flaw.remedy);
        }
        assert!(misspelt("fairway.zzzzzzzz", "").expect("unknown").remedy.contains("`fairway.weight`"));
    }

    #[test]
    fn colons_and_spaces_in_a_key_are_reported_with_the_right_spelling() {
        for (key, value, kind, advice) in [
            (
                "aliyun.monitoring.script：/opt/mp.sh",
                "",
                "label-fullwidth-colon",
                "`aliyun.monitoring.script: /opt/mp.sh`",
            ),
            ("aliyun.routing.port_80：shop", "x", "label-fullwidth-colon", "`aliyun.routing.port_80: x`"),
            ("aliyun.routing.port_80: shop", "", "label-colon-in-key", "`aliyun.routing.port_80=shop`"),
            ("aliyun.routing.port_80 ", "shop", "label-space-in-key", "`aliyun.routing.port_80`"),
            (" fairway.weight", "1", "label-space-in-key", "`fairway.weight`"),
        ] {
            assert!(is_ours(key), "{key}");
            let flaw = misspelt(key, value).expect(key);
            assert_eq!(flaw.kind, kind, "{key}");
            assert!(flaw.remedy.contains(advice), "{key}: {}", flaw.remedy);
        }
        assert!(!is_ours("com.docker.compose.project") && !is_ours("aliyun") && !is_ours("ali"));
    }
}
