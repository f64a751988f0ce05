//! Whole compose files and what is found in them.

use proptest::prelude::*;

use super::*;

/// `line service key kind` of each finding.
fn found(text: &str) -> Vec<String> {
    let word = |finding: Finding| {
        let Finding { line, service, key, kind, .. } = finding;
        format!("{line} {} {key} {kind}", service.unwrap_or_default())
    };
    lint("compose.yml", text).into_iter().map(word).collect()
}

/// Some labels of a service `web` as a map, the first on line 4.
fn as_map(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("      {line}\n")).collect();
    format!("services:\n  web:\n    labels:\n{lines}    image: x\n")
}

fn only(text: &str) -> Finding {
    let mut findings = lint("compose.yml", text);
    assert_eq!(findings.len(), 1, "{text}\n{findings:#?}");
    findings.remove(0)
}

#[test]
fn a_good_file_has_no_findings() {
    let text = "\
version: '2'
services:
  aixue:
    image: aixue
    labels:
      aliyun.routing.port_8085: aixue-recommender.local;aixue-recommender
      aliyun.probe.url: 'tcp://container:8085'
      aliyun.probe.timeout_seconds: '10'
      aliyun.probe.initial_delay_seconds: '3'
      aliyun.scale: 2
      aliyun.rolling_updates: 'true'
      aliyun.latest_image: true
      com.example.other: [1]
    external_links:
      - db
  list:
    labels:
      - aliyun.routing.port_80=http://a.com;http://b.com
      - \"fairway.weight=5\"
      - fairway.enable=true
      - unrelated
  none:
    labels:
";
    assert_eq!(found(text), Vec::<String>::new());
}

#[test]
fn a_dollar_in_a_hash_is_written_twice() {
    let hash = "$2y$05$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";
    let label = |hash: &str| as_map(&format!("fairway.auth.basic: 'alice:{hash}'"));
    assert_eq!(found(&label(&hash.replace('$', "$$"))), Vec::<String>::new());
    let finding = only(&label(hash));
    assert_eq!((finding.kind, finding.line, &*finding.value), ("yaml-dollar", 4, ""));
    assert!(finding.remedy.contains("`$$`"), "{}", finding.remedy);
    let allow = found(&as_map("fairway.allow: everybody"));
    assert_eq!(allow, ["4 web fairway.allow label-network-range", "4 web fairway.allow label-allow"]);
}

#[test]
fn every_version_of_the_format_is_read() {
    let version_1 =
        "web:\n  image: x\n  labels:\n    aliyun.routing.port_0: a\ndb:\n  labels:\n    - fairway.weight=x\n";
    assert_eq!(
        found(version_1),
        ["4 web aliyun.routing.port_0 label-bad-port", "7 db fairway.weight label-weight"]
    );
    let version_3 = "\
services:
  web:
    labels: [fairway.weight=x]
    deploy:
      replicas: 2
      labels:
        aliyun.routing.port_80: a_b
";
    assert_eq!(
        found(version_3),
        ["3 web fairway.weight label-weight", "7 web aliyun.routing.port_80 label-underscore"]
    );
}

#[test]
fn a_finding_has_file_line_service_key_value_and_remedy() {
    let finding = only(&as_map("aliyun.routing.port_80: good.com;http://a.com:8080/x"));
    assert_eq!(
        (finding.file.as_str(), finding.line, finding.service.as_deref()),
        ("compose.yml", 4, Some("web"))
    );
    assert_eq!(
        (finding.key.as_str(), finding.value.as_str()),
        ("aliyun.routing.port_80", "http://a.com:8080/x")
    );
    assert_eq!(
        finding.to_string(),
        "compose.yml:4: web: aliyun.routing.port_80: `a.com:8080` carries a port; \
         write `a.com`: the container's port belongs in the key, `aliyun.routing.port_8080`"
    );
    let finding = only(&as_map("aliyun.rooting.port_80: a"));
    assert!(finding.remedy.contains("did you mean `aliyun.routing.port_80`?"), "{finding}");
}

#[test]
fn values_that_yaml_reads_in_its_own_way_still_get_the_hint_of_the_label() {
    for (line, kind, advice) in [
        (
            "aliyun.routing.port_80: [http://wordpress](http://wordpress)",
            "label-markdown",
            "`http://wordpress`",
        ),
        ("aliyun.routing.port_80: [http://wordpress]", "label-markdown", "`http://wordpress`"),
        ("aliyun.routing.port_7001: http://{YOUR_DOMAIN_NAME}", "label-placeholder", "real name"),
        ("aliyun.routing.port_7001: {YOUR_DOMAIN_NAME}", "label-placeholder", "real name"),
        ("aliyun.routing.port_8080: 'http://$DOMAIN'", "label-unresolved-variable", "write the value itself"),
        (
            "aliyun.routing.port_80: \"http://a.com,http://b.com\"",
            "label-comma-list",
            "`http://a.com;http://b.com`",
        ),
        (
            "aliyun.monitoring.script：/opt/mp.sh",
            "label-fullwidth-colon",
            "`aliyun.monitoring.script: /opt/mp.sh`",
        ),
        ("aliyun.scale:2", "label-colon-in-key", "`aliyun.scale: 2`"),
        (
            "aliyun.routing.port_80: *.company.com",
            "yaml-needs-quotes",
            "`aliyun.routing.port_80: '*.company.com'`",
        ),
        ("aliyun.routing.port_80: `a.com`", "label-markdown", "`a.com`"),
        ("fairway.version: 1.10", "yaml-unquoted", "`'1.10'`"),
        ("fairway.enable: yes", "label-not-boolean", "`true` or `false`"),
        ("aliyun.logs: [stdout]", "yaml-not-a-text", "`'[stdout]'`"),
        ("aliyun.routing.port_80:", "label-no-entry", "write a host"),
        ("aliyum.routing.port_80: a", "label-unknown-family", "`aliyun.routing.port_80`"),
    ] {
        let finding = only(&as_map(line));
        assert_eq!(
            (finding.line, finding.service.as_deref(), finding.kind),
            (4, Some("web"), kind),
            "{line}: {finding}"
        );
        assert!(finding.remedy.contains(advice), "{line}: {finding}");
    }
}

#[test]
fn a_line_that_is_no_yaml_hides_no_other() {
    let text = as_map(
        "aliyun.scale: two\naliyun.routing.port_80: [http://a](http://a)\naliyun.monitoring.script：/opt/mp.sh\n\
         aliyun.routing.port_81: *.x.com\nfairway.weight: 2000",
    );
    assert_eq!(
        found(&text),
        [
            "4 web aliyun.scale label-not-a-number",
            "5 web aliyun.routing.port_80 label-markdown",
            "6 web aliyun.monitoring.script：/opt/mp.sh label-fullwidth-colon",
            "7 web aliyun.routing.port_81 yaml-needs-quotes",
            "8 web fairway.weight label-weight",
        ]
    );
}

#[test]
fn a_syntax_error_is_told_with_its_line_after_what_was_read_before() {
    let text =
        "services:\n  web:\n    labels:\n      fairway.weight: x\n  db:\n    image: [x](y)\n    labels: {}\n";
    let findings = lint("compose.yml", text);
    assert_eq!(
        findings.iter().map(|f| (f.line, f.kind)).collect::<Vec<_>>(),
        [(4, "label-weight"), (6, "yaml-syntax")]
    );
    assert_eq!(found("a:\n\t- b\n").len(), 1);
}

#[test]
fn slips_in_lists_and_places_are_told() {
    let list =
        "services:\n  web:\n    labels:\n      - aliyun.routing.port_80: a_b\n      - fairway.weight=\"5\"\n";
    assert_eq!(
        found(list),
        [
            "4 web aliyun.routing.port_80 label-underscore",
            "4 web aliyun.routing.port_80 yaml-map-in-list",
            "5 web fairway.weight label-weight",
        ]
    );
    let finding = only("services:\n  web:\n    labels:\n      - aliyun.probe.cmd=curl -H a: b\n");
    assert_eq!((finding.line, finding.kind), (4, "yaml-needs-quotes"));
    assert!(finding.remedy.contains("`- 'aliyun.probe.cmd=curl -H a: b'`"), "{finding}");
    let outside = "services:\n  web:\n    aliyun.routing.port_80: a\n";
    assert_eq!(found(outside), ["3 web aliyun.routing.port_80 yaml-outside-labels"]);
    let text = "services:\n  web:\n    labels: fairway.weight=1\n";
    assert_eq!(found(text), ["3 web fairway.weight yaml-labels"]);
    for text in ["", "- a\n- b\n", "just text", "services: []\n"] {
        assert_eq!(found(text), ["1   yaml-no-services"], "{text}");
    }
}

#[test]
fn a_key_written_twice_is_told() {
    assert_eq!(
        found(&as_map("fairway.weight: 1\nfairway.weight: 2")),
        ["5 web fairway.weight label-duplicate-key"]
    );
}

#[test]
fn anchors_and_merges_are_followed_and_told_once() {
    let text = "\
x-labels: &labels
  fairway.weight: x
  fairway.zone: a
x-base: &base
  labels:
    <<: *labels
    fairway.zone: b/c
services:
  web:
    <<: *base
  api:
    labels:
      <<: [*labels, {fairway.drain: 5}]
      fairway.weight: 3
  job:
    <<: *base
    labels: {}
";
    assert_eq!(
        found(text),
        [
            "2 web fairway.weight label-weight",
            "7 web fairway.zone label-not-a-name",
            "13 api fairway.drain label-not-a-duration"
        ]
    );
}

#[test]
fn aliases_that_multiply_are_bounded() {
    let mut text = String::from("a0: &a0 {k: 1}\n");
    for level in 1..=14 {
        let below = format!("*a{}", level - 1);
        let merged = vec![below; 10].join(", ");
        text.push_str(&format!("a{level}: &a{level}\n  <<: [{merged}]\n  k{level}: 1\n"));
    }
    text.push_str("services:\n  web:\n    labels: {<<: *a14}\n");
    assert!(lint("compose.yml", &text).iter().any(|finding| finding.kind == "yaml-too-large"));
}

#[test]
fn a_default_stands_for_its_variable() {
    assert_eq!(with_defaults("http://${DOMAIN:-a.com}/${P-x};${B}"), "http://a.com/x;${B}");
    assert_eq!(with_defaults("${}${:-a}${A:?must}${"), "${}${:-a}${A:?must}${");
    assert_eq!(found(&as_map("aliyun.routing.port_80: http://${DOMAIN:-a.com}")), Vec::<String>::new());
}

#[test]
fn carriage_returns_and_a_byte_order_mark_are_no_problem() {
    let text = format!(
        "\u{feff}{}",
        as_map("aliyun.routing.port_80: [a.com]\naliyun.scale：2").replace('\n', "\r\n")
    );
    assert_eq!(
        found(&text),
        ["4 web aliyun.routing.port_80 label-markdown", "5 web aliyun.scale：2 label-fullwidth-colon"]
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,60}|[a-z:&*<>\\[\\]{}'\"# \n.-]{0,120}") {
        let _ = lint("x", &text);
    }

    #[test]
    fn no_damage_to_a_file_panics(at in 0usize..180, len in 0usize..9, new in "[\\[\\]{}'\"&*:\n\t a-z-]{0,4}") {
        let mut text = as_map("aliyun.routing.port_80: &a http://a.com\naliyun.scale: 2\nfairway.zone: *a\n<<: {fairway.weight: 2}");
        let at = at.min(text.len());
        text.replace_range(at..(at + len).min(text.len()), &new);
        for finding in lint("x", &text) {
            prop_assert!(finding.line > 0, "{:?}", finding);
        }
    }
}
