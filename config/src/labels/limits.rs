//! The limits of one route as one value: those of a label that may be set anew while Fairway runs, each read by the code of
//! the label of its name.
//!
//! Not here: what the values mean (see `fairway`, `features`), which layer holds (that is the catalog's).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::features::{self, Features};
use super::flaw::{Flaw, shown};
use super::known_keys::nearest_of;
use super::{Hedge, ServiceSpec, Transport, VALUE_BYTES_MAX, fairway};
use crate::{duration, size};

/// One limit of a route, named as the `fairway.*` label that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// `timeout.connect`
    ConnectTimeout,
    /// `timeout.first_byte`
    FirstByteTimeout,
    /// `timeout.idle`
    IdleTimeout,
    /// `timeout.total`
    TotalTimeout,
    /// `retries`
    Retries,
    /// `hedge`
    Hedge,
    /// `in_flight_max`
    InFlightMax,
    /// `body_max`
    BodyMax,
    /// `rate_limit`
    RateLimit,
    /// `rate_limit.client`
    ClientRateLimit,
}

impl Limit {
    /// Every limit, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::ConnectTimeout,
        Self::FirstByteTimeout,
        Self::IdleTimeout,
        Self::TotalTimeout,
        Self::Retries,
        Self::Hedge,
        Self::InFlightMax,
        Self::BodyMax,
        Self::RateLimit,
        Self::ClientRateLimit,
    ];

    /// The label's name without `fairway.`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectTimeout => "timeout.connect",
            Self::FirstByteTimeout => "timeout.first_byte",
            Self::IdleTimeout => "timeout.idle",
            Self::TotalTimeout => "timeout.total",
            Self::Retries => "retries",
            Self::Hedge => "hedge",
            Self::InFlightMax => "in_flight_max",
            Self::BodyMax => "body_max",
            Self::RateLimit => "rate_limit",
            Self::ClientRateLimit => "rate_limit.client",
        }
    }

    /// Whether it belongs to the way to instances, so that each version of a route may have another.
    pub fn is_of_versions(self) -> bool {
        !matches!(self, Self::BodyMax | Self::RateLimit | Self::ClientRateLimit)
    }

    /// Whether it means something for connections whose octets are passed on as they are.
    pub fn holds_for_connections(self) -> bool {
        matches!(self, Self::ConnectTimeout | Self::IdleTimeout | Self::Retries | Self::InFlightMax)
    }

    /// What these say of it, as a label would; `None` when they leave the default as it is.
    pub fn written(self, transport: &Transport, features: Option<&Features>) -> Option<String> {
        let time = |time: &Option<std::time::Duration>| time.map(duration::print);
        match self {
            Self::ConnectTimeout => time(&transport.connect_timeout),
            Self::FirstByteTimeout => time(&transport.first_byte_timeout),
            Self::IdleTimeout => time(&transport.idle_timeout),
            Self::TotalTimeout => time(&transport.total_timeout),
            Self::Retries => transport.retries.map(|retries| retries.to_string()),
            Self::Hedge => transport.hedge.map(|hedge| match hedge {
                Hedge::P95 => "p95".to_owned(),
                Hedge::After(after) => duration::print(after),
            }),
            Self::InFlightMax => transport.in_flight_max.map(|most| most.to_string()),
            Self::BodyMax => transport.body_max.map(size::print),
            Self::RateLimit => features?.rate_limit.map(|rate| rate.to_string()),
            Self::ClientRateLimit => features?.client_rate_limit.map(|rate| rate.to_string()),
        }
    }

    /// The word that takes it away, for those that can be.
    fn none(self) -> &'static str {
        if self == Self::Hedge { "off" } else { "none" }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Limit {
    type Err = Flaw;

    fn from_str(name: &str) -> Result<Self, Flaw> {
        if let Some(limit) = Self::ALL.into_iter().find(|limit| limit.as_str() == name) {
            return Ok(limit);
        }
        let all = Self::ALL.map(Self::as_str);
        let bare = name.trim().to_ascii_lowercase();
        let bare = bare.strip_prefix("fairway.").unwrap_or(&bare);
        let meant = nearest_of(bare, all).map(|meant| format!("did you mean `{meant}`? "));
        let text = format!("`{}` is no limit of a route", shown(name));
        let list = all.map(|name| format!("`{name}`")).join(", ");
        let remedy = format!("{}the limits are {list}", meant.unwrap_or_default());
        Err(Flaw::refused("unknown-limit", text, remedy))
    }
}

/// Limits of one route that hold instead of what labels say; those that are not set leave it as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteLimits {
    set: BTreeSet<Limit>,
    /// Only the fields of limits that are set count, here and in `features`.
    transport: Transport,
    features: Features,
}

impl RouteLimits {
    /// Sets one limit, written as in the label of its name: `rate_limit` and `100/s burst 200`.
    pub fn set(&mut self, limit: Limit, value: &str) -> Result<(), Flaw> {
        let value = value.trim();
        if value.len() > VALUE_BYTES_MAX {
            let text = format!("the value has {} octets", value.len());
            return Err(Flaw::refused("label-too-long", text, format!("write at most {VALUE_BYTES_MAX}")));
        }
        let (mut spec, mut found) = (ServiceSpec::default(), Vec::new());
        let name = limit.as_str();
        if !features::apply(&mut spec.features, &mut features::Draft::default(), name, value, &mut found)? {
            fairway::apply(&mut spec, name, value, &mut found)?;
        }
        if let Some((_, flaw)) = found.into_iter().next() {
            return Err(flaw);
        }
        copy_way(limit, &spec.transport, &mut self.transport);
        copy_rate(limit, &spec.features, &mut self.features);
        self.set.insert(limit);
        Ok(())
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether this one is set.
    pub fn has(&self, limit: Limit) -> bool {
        self.set.contains(&limit)
    }

    /// Those that are set, as [`RouteLimits::set`] reads them.
    pub fn written(&self) -> impl Iterator<Item = (Limit, String)> {
        self.set.iter().filter_map(|limit| Some((*limit, self.value(*limit)?)))
    }

    /// What it is set to, if it is set.
    pub fn value(&self, limit: Limit) -> Option<String> {
        let written = || limit.written(&self.transport, Some(&self.features));
        self.has(limit).then(|| written().unwrap_or_else(|| limit.none().to_owned()))
    }

    /// `in_flight_max`, if it is set.
    pub fn in_flight_max(&self) -> Option<u32> {
        self.transport.in_flight_max
    }

    /// `body_max`, if it is set; `u64::MAX` for `none`.
    pub fn body_max(&self) -> Option<u64> {
        self.transport.body_max
    }

    /// Puts those that belong to the way to instances in place of what labels say.
    pub fn over_transport(&self, transport: &mut Transport) {
        self.set.iter().for_each(|limit| copy_way(*limit, &self.transport, transport));
    }

    /// Puts the rates in place of what labels say.
    pub fn over_features(&self, features: &mut Features) {
        self.set.iter().for_each(|limit| copy_rate(*limit, &self.features, features));
    }

    /// Whether a rate is among them.
    pub fn has_rates(&self) -> bool {
        self.has(Limit::RateLimit) || self.has(Limit::ClientRateLimit)
    }
}

impl fmt::Display for RouteLimits {
    /// `timeout.first_byte=200ms rate_limit="100/s burst 200"`, as the command line takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (limit, value)) in self.written().enumerate() {
            let (space, quote) =
                (if number > 0 { " " } else { "" }, if value.contains(' ') { "\"" } else { "" });
            write!(f, "{space}{limit}={quote}{value}{quote}")?;
        }
        Ok(())
    }
}

fn copy_way(limit: Limit, from: &Transport, to: &mut Transport) {
    match limit {
        Limit::ConnectTimeout => to.connect_timeout = from.connect_timeout,
        Limit::FirstByteTimeout => to.first_byte_timeout = from.first_byte_timeout,
        Limit::IdleTimeout => to.idle_timeout = from.idle_timeout,
        Limit::TotalTimeout => to.total_timeout = from.total_timeout,
        Limit::Retries => to.retries = from.retries,
        Limit::Hedge => to.hedge = from.hedge,
        Limit::InFlightMax => to.in_flight_max = from.in_flight_max,
        Limit::BodyMax => to.body_max = from.body_max,
        Limit::RateLimit | Limit::ClientRateLimit => {}
    }
}

fn copy_rate(limit: Limit, from: &Features, to: &mut Features) {
    match limit {
        Limit::RateLimit => to.rate_limit = from.rate_limit,
        Limit::ClientRateLimit => to.client_rate_limit = from.client_rate_limit,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(pairs: &[(&str, &str)]) -> RouteLimits {
        let mut limits = RouteLimits::default();
        for (name, value) in pairs {
            limits.set(name.parse().expect(name), value).expect(value);
        }
        limits
    }

    #[test]
    fn each_limit_is_read_as_its_label_and_written_as_it_is_read() {
        for (name, value, written) in [
            ("timeout.connect", "250ms", "250ms"),
            ("timeout.first_byte", "90s", "1m30s"),
            ("timeout.idle", "1h", "1h"),
            ("timeout.total", "5s", "5s"),
            ("timeout.total", "none", "none"),
            ("retries", "0", "0"),
            ("hedge", "p95", "p95"),
            ("hedge", "20ms", "20ms"),
            ("hedge", "off", "off"),
            ("in_flight_max", "7", "7"),
            ("body_max", "2048k", "2m"),
            ("body_max", "1000", "1000"),
            ("body_max", "0", "0"),
            ("body_max", "none", "none"),
            ("rate_limit", "100/s", "100/s burst 100"),
            ("rate_limit", "none", "none"),
            ("rate_limit.client", "5/m burst 3", "5/m burst 3"),
        ] {
            let one = limits(&[(name, value)]);
            let got: Vec<_> = one.written().map(|(limit, text)| (limit.as_str(), text)).collect();
            assert_eq!(got, [(name, written.to_owned())]);
            assert_eq!(limits(&[(name, written)]), one, "{name}={written} is read back");
            let label = super::super::parse([(&*format!("fairway.{name}"), value)]);
            assert_eq!(label.problems, [], "the label takes it, too");
            let limit: Limit = name.parse().expect(name);
            let said = limit.written(&label.spec.transport, Some(&label.spec.features));
            assert_eq!(said.unwrap_or_else(|| limit.none().to_owned()), written);
        }
        assert_eq!(Limit::ALL.map(Limit::as_str).len(), 10);
    }

    #[test]
    fn a_value_that_the_label_refuses_is_refused_in_its_words() {
        for limit in Limit::ALL {
            for value in ["", "-1", "x", "1e9", "100", "5s5s", "100/d", &"9".repeat(20_000)] {
                let label = super::super::parse([(&*format!("fairway.{limit}"), value)]);
                let said = label.problems.first().map(|p| (p.kind, p.text.clone(), p.remedy.clone()));
                let mut limits = RouteLimits::default();
                let flaw = limits.set(limit, value).err().map(|flaw| (flaw.kind, flaw.text, flaw.remedy));
                assert_eq!(flaw, said, "{limit}={value}");
                assert_eq!(limits.is_empty(), flaw.is_some());
            }
        }
    }

    #[test]
    fn only_what_is_set_goes_over_what_labels_say() {
        let label = super::super::parse([
            ("fairway.timeout.total", "5s"),
            ("fairway.retries", "3"),
            ("fairway.rate_limit", "1/s"),
            ("fairway.rate_limit.client", "1/m"),
            ("fairway.strip_prefix", "true"),
        ]);
        let (mut transport, mut features) = (label.spec.transport, label.spec.features);
        let over = limits(&[("timeout.total", "none"), ("timeout.idle", "9s"), ("rate_limit", "none")]);
        over.over_transport(&mut transport);
        over.over_features(&mut features);
        assert_eq!((transport.total_timeout, transport.retries), (None, Some(3)));
        assert_eq!(transport.idle_timeout, Some(std::time::Duration::from_secs(9)));
        assert_eq!(features.rate_limit, None);
        assert!(features.client_rate_limit.is_some() && features.strip_prefix.is_some());
    }

    #[test]
    fn a_name_that_is_none_is_told_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("timeout.firstbyte", "did you mean `timeout.first_byte`?"),
            ("fairway.retries", "did you mean `retries`?"),
            ("Rate_Limit", "did you mean `rate_limit`?"),
            ("drain", "the limits are `timeout.connect`"),
            ("", "the limits are"),
        ] {
            let flaw = name.parse::<Limit>().expect_err(name);
            assert_eq!(flaw.kind, "unknown-limit");
            assert!(flaw.remedy.contains(meant), "{name}: {}", flaw.remedy);
        }
    }

    #[test]
    fn limits_are_shown_as_the_command_line_takes_them() {
        let some = limits(&[("rate_limit", "10/s"), ("timeout.first_byte", "200ms")]);
        assert_eq!(some.to_string(), "timeout.first_byte=200ms rate_limit=\"10/s burst 10\"");
    }
}
