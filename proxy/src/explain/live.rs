//! The account of one request in its answer: `X-Fairway-Explain`, a line that tells an internal client where its request went
//! and why. Names, counts and words only: nothing of the request itself, and nothing secret.
//!
//! Not here: who may ask (see `downstream::extras`), the whole decision with why not the others (see the module above).

use std::fmt::{self, Write};

use crate::pick::client::show_rule_key;
use crate::pick::{Pick, Why};
use crate::reason::Reason;
use crate::request::RequestView;
use crate::sticky::Said;
use crate::table::RouteEntry;

/// Longest value, in octets.
const VALUE_MAX: usize = 1024;

/// What is told of a request, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Where it failed and why.
    failed: Vec<(Box<str>, Reason)>,
}

impl Account {
    /// An instance failed the request.
    pub(crate) fn failed(&mut self, pick: &Pick, reason: Reason) {
        self.failed.push((pick.endpoint.key.id.as_str().into(), reason));
    }

    /// Appends the field for the answer of this instance.
    pub(crate) fn of_answer(
        &self,
        out: &mut Vec<u8>,
        entry: &RouteEntry,
        pick: &Pick,
        said: Option<&Said>,
        request: &RequestView<'_>,
    ) {
        let mut line = Line::start(Some(entry));
        let Pick { endpoint, version, why, .. } = pick;
        line.say("why", why.as_str());
        let mut rules =
            entry.rules_for(request).filter(|(of, _)| *why == Why::Rule && of.name == version.name);
        if let Some((_, rule)) = rules.next() {
            line.say("rule", show_rule_key(rule));
        }
        cookie(&mut line, said);
        line.say("backend", &version.name);
        if let Some(weight) = version.weight {
            line.say("weight", weight);
        }
        line.say("instance", &endpoint.key.id);
        line.say("in-flight", endpoint.state.in_flight());
        self.attempts(&mut line, 1);
        line.push_to(out);
    }

    /// Appends the field for a refusal of ours.
    pub(crate) fn of_refusal(
        &self,
        out: &mut Vec<u8>,
        entry: Option<&RouteEntry>,
        reason: Reason,
        said: Option<&Said>,
    ) {
        let mut line = Line::start(entry);
        line.say("refused", reason);
        cookie(&mut line, said);
        self.attempts(&mut line, 0);
        line.push_to(out);
    }

    fn attempts(&self, line: &mut Line, more: usize) {
        line.say("attempts", self.failed.len() + more);
        for (instance, reason) in &self.failed {
            line.say("failed", format_args!("{instance} {reason}"));
        }
    }
}

fn cookie(line: &mut Line, said: Option<&Said>) {
    match said {
        None => {}
        Some(Said { bound: Some(bound), .. }) => {
            line.say("cookie", format_args!("{} {}", bound.backend, bound.instance));
        }
        Some(Said { ignored: Some(why), .. }) => line.say("cookie", why.as_str()),
        Some(Said { .. }) => line.say("cookie", "none"),
    }
}

/// `key=value` pairs, separated by `; `.
struct Line(String);

impl Line {
    fn start(entry: Option<&RouteEntry>) -> Self {
        let mut line = Self(String::with_capacity(256));
        line.say("route", entry.map_or("none", |entry| &entry.name));
        line
    }

    fn say(&mut self, key: &str, value: impl fmt::Display) {
        let separator = if self.0.is_empty() { "" } else { "; " };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{separator}{key}={value}");
    }

    /// Names come from labels, which anybody may write who starts containers: what has no place in a field is shown as `?`.
    fn push_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-Fairway-Explain: ");
        let whole = self.0.len() <= VALUE_MAX;
        let shown = if whole { VALUE_MAX } else { VALUE_MAX - 3 };
        out.extend(self.0.bytes().take(shown).map(|b| if matches!(b, b' '..=b'~') { b } else { b'?' }));
        out.extend_from_slice(if whole { b"\r\n" } else { b"...\r\n" });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use fairway_config::labels::MatchRule;

    use super::*;
    use crate::pick::Tried;
    use crate::request::FieldList;
    use crate::sticky::Ignored;
    use crate::table::fixture::*;

    fn told(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn an_answer_tells_the_way_of_its_request_in_one_line() {
        let entry = entry(&[version("v1", &[READY]).weight(95)]);
        let fields = FieldList::default();
        let request = request("shop.test", "/", &fields);
        let pick = entry.pick(&request, &Tried::default(), &mut fastrand::Rng::new(), Instant::now());
        let pick = pick.expect("an instance");
        let (backend, instance) = (&pick.version.name, &pick.endpoint.key.id);
        let mut account = Account::default();
        assert_eq!(
            told(|out| account.of_answer(out, &entry, &pick, None, &request)),
            format!(
                "X-Fairway-Explain: route=shop.test/; why=split; backend={backend}; weight=95; instance={instance}; in-flight=1; attempts=1\r\n"
            )
        );
        account.failed(&pick, Reason::ConnectFailed);
        let said = Said { bound: None, ignored: Some(Ignored::Expired) };
        assert_eq!(
            told(|out| account.of_refusal(out, Some(&entry), Reason::NoReadyInstance, Some(&said))),
            format!(
                "X-Fairway-Explain: route=shop.test/; refused=no-ready-instance; cookie=expired; attempts=1; failed={instance} connect-failed\r\n"
            )
        );
    }

    #[test]
    fn a_rule_is_named_without_the_value_that_it_looks_for() {
        let rule = MatchRule::Header("x-group".into(), "beta-secret".into());
        let entry = entry(&[version("v1", &[READY]).with(|transport| transport.matches = vec![rule])]);
        let mut fields = FieldList::default();
        fields.push("x-group", "beta-secret");
        let request = request("shop.test", "/", &fields);
        let pick = entry.pick(&request, &Tried::default(), &mut fastrand::Rng::new(), Instant::now());
        let pick = pick.expect("an instance");
        let line = told(|out| Account::default().of_answer(out, &entry, &pick, None, &request));
        assert!(
            line.contains("; why=rule; rule=header:x-group; backend=") && !line.contains("secret"),
            "{line}"
        );
    }

    #[test]
    fn whatever_names_hold_the_line_stays_one_and_short() {
        let mut line = Line::start(None);
        line.say("backend", "a\r\nSet-Cookie: x\u{7f}ä");
        assert_eq!(
            told(|out| line.push_to(out)),
            "X-Fairway-Explain: route=none; backend=a??Set-Cookie: x???\r\n"
        );
        line.say("instance", "i".repeat(5000));
        let shown = told(|out| line.push_to(out));
        assert_eq!(shown.len(), "X-Fairway-Explain: \r\n".len() + VALUE_MAX);
        assert!(shown.ends_with("iii...\r\n"));
    }
}
