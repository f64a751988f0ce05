//! Docker's events, reduced to what changes something here.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::models::{EventMessage, EventMessageTypeEnum};
use fairway_catalog::facts::DockerHealth;
use jiff::Timestamp;

use super::container::{health_of_word, is_interesting, is_reference, plain_name};
use super::signal::Signal;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// When, by the engine's clock.
    pub(super) at: Option<Timestamp>,
    pub(super) what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// To the container with this id.
    Container(Arc<str>, Change),
    /// A network was made.
    NetworkMade,
    /// The network with this id is gone.
    NetworkGone(Arc<str>),
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It was started; says whether its labels make it worth an inspect.
    Started {
        interesting: bool,
    },
    /// A signal was sent to it.
    Signalled(Option<Signal>),
    /// Its process ended with this code.
    Died {
        exit_code: i64,
    },
    /// Somebody stopped it, and it has ended.
    Stopped,
    Paused,
    Unpaused,
    Destroyed,
    Renamed {
        name: Arc<str>,
    },
    /// Its HEALTHCHECK changed its mind.
    Health(DockerHealth),
    /// Its settings were changed.
    Updated,
    /// It was connected to a network.
    Connected,
    /// It was disconnected from the network with this id.
    Disconnected(Arc<str>),
}

/// The words an engine is asked to tell; it filters the rest, such as the `exec_*` of every probe, at its side.
pub(super) fn filters() -> HashMap<&'static str, Vec<&'static str>> {
    let events = [
        "start",
        "kill",
        "die",
        "stop",
        "pause",
        "unpause",
        "destroy",
        "rename",
        "health_status",
        "update",
        "connect",
        "disconnect",
        "create",
    ];
    HashMap::from([("type", vec!["container", "network"]), ("event", events.to_vec())])
}

/// Of these the ones that leave no trace in what an inspect answers.
pub(super) fn signals() -> HashMap<&'static str, Vec<&'static str>> {
    HashMap::from([("type", vec!["container"]), ("event", vec!["kill"])])
}

impl Event {
    /// Reads an event; `None` for one that changes nothing here, or that makes no sense.
    pub(super) fn read(message: EventMessage) -> Option<Self> {
        let at = message.time_nano.filter(|nanos| *nanos > 0);
        let at = at.and_then(|nanos| Timestamp::from_nanosecond(nanos.into()).ok());
        let action = message.action?;
        let actor = message.actor?;
        let id = actor.id.filter(|id| is_reference(id))?;
        let attributes = actor.attributes.unwrap_or_default();
        let what = match message.typ? {
            EventMessageTypeEnum::CONTAINER => What::Container(id.into(), container(&action, &attributes)?),
            EventMessageTypeEnum::NETWORK => network(&action, id.into(), &attributes)?,
            _ => return None,
        };
        Some(Self { at, what })
    }
}

fn container(action: &str, attributes: &HashMap<String, String>) -> Option<Change> {
    let get = |key: &str| attributes.get(key).map(String::as_str);
    Some(match action {
        "start" => Change::Started { interesting: is_interesting(attributes) },
        "kill" => Change::Signalled(get("signal").and_then(Signal::parse)),
        "die" => {
            Change::Died { exit_code: get("exitCode").and_then(|code| code.parse().ok()).unwrap_or_default() }
        }
        "stop" => Change::Stopped,
        "pause" => Change::Paused,
        "unpause" => Change::Unpaused,
        "destroy" => Change::Destroyed,
        "rename" => Change::Renamed { name: plain_name(get("name")?) },
        "update" => Change::Updated,
        _ => Change::Health(health_of_word(action.strip_prefix("health_status:")?.trim())?),
    })
}

fn network(action: &str, id: Arc<str>, attributes: &HashMap<String, String>) -> Option<What> {
    let container =
        || attributes.get("container").filter(|id| is_reference(id)).map(|id| Arc::from(id.as_str()));
    Some(match action {
        "create" => What::NetworkMade,
        "destroy" => What::NetworkGone(id),
        "connect" => What::Container(container()?, Change::Connected),
        "disconnect" => What::Container(container()?, Change::Disconnected(id)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, action: &str, attributes: &[(&str, &str)]) -> Option<What> {
        let attributes: HashMap<_, _> = attributes.iter().copied().collect();
        let message = serde_json::json!({
            "Type": kind, "Action": action, "scope": "local", "time": 1_700_000_000, "timeNano": 1_700_000_000_123_456_789_i64,
            "Actor": { "ID": "abc", "Attributes": attributes },
        });
        let event = Event::read(serde_json::from_value(message).expect("an event of the API"))?;
        assert_eq!(event.at.map(|at| at.as_nanosecond()), Some(1_700_000_000_123_456_789));
        Some(event.what)
    }

    #[test]
    fn each_word_of_docker_has_its_meaning() {
        for (action, attributes, want) in [
            ("kill", &[("signal", "15")][..], Change::Signalled(Some(Signal::TERM))),
            ("kill", &[("signal", "SIGKILL")], Change::Signalled(Some(Signal::KILL))),
            ("kill", &[], Change::Signalled(None)),
            ("die", &[("exitCode", "137")], Change::Died { exit_code: 137 }),
            ("die", &[("exitCode", "x")], Change::Died { exit_code: 0 }),
            ("stop", &[], Change::Stopped),
            ("pause", &[], Change::Paused),
            ("unpause", &[], Change::Unpaused),
            ("destroy", &[], Change::Destroyed),
            ("rename", &[("name", "/new"), ("oldName", "/old")], Change::Renamed { name: "new".into() }),
            ("update", &[], Change::Updated),
            ("health_status: healthy", &[], Change::Health(DockerHealth::Healthy)),
            ("health_status: unhealthy", &[], Change::Health(DockerHealth::Unhealthy)),
        ] {
            assert_eq!(
                read("container", action, attributes),
                Some(What::Container("abc".into(), want)),
                "{action}"
            );
        }
    }

    #[test]
    fn a_start_tells_from_its_labels_whether_the_container_concerns_us() {
        for (labels, want) in [
            (&[("image", "web"), ("name", "web")][..], false),
            (&[("aliyun.routing.port_80", "shop")], true),
            (&[("aliyun.routing.port_80", "a.com:8080")], true), // nothing to route, something to tell
            (&[("aliyun.routing.port_80", "shop"), ("fairway.enable", "false")], false),
            (&[("aliyun.routing.port_80", "shop"), ("com.docker.compose.oneoff", "True")], false),
            (&[("aliyun.logs.access", "stdout")], false),
        ] {
            let want = Change::Started { interesting: want };
            assert_eq!(
                read("container", "start", labels),
                Some(What::Container("abc".into(), want)),
                "{labels:?}"
            );
        }
    }

    #[test]
    fn network_events_name_the_container_they_concern() {
        let about = [("container", "c1"), ("name", "front"), ("type", "bridge")];
        assert_eq!(read("network", "connect", &about), Some(What::Container("c1".into(), Change::Connected)));
        let gone = Change::Disconnected("abc".into());
        assert_eq!(read("network", "disconnect", &about), Some(What::Container("c1".into(), gone)));
        assert_eq!(read("network", "create", &[]), Some(What::NetworkMade));
        assert_eq!(read("network", "destroy", &[]), Some(What::NetworkGone("abc".into())));
    }

    #[test]
    fn what_changes_nothing_or_makes_no_sense_is_no_event() {
        for (kind, action, attributes) in [
            ("container", "create", &[][..]),
            ("container", "restart", &[]),
            ("container", "exec_create: sh", &[]),
            ("container", "health_status: running", &[]),
            ("container", "rename", &[]),
            ("network", "connect", &[]),
            ("network", "connect", &[("container", "../../images")]),
            ("network", "remove", &[]),
            ("image", "pull", &[]),
        ] {
            assert_eq!(read(kind, action, attributes), None, "{kind} {action}");
        }
        for message in [
            "{}",
            r#"{"Type":"container","Action":"die"}"#,
            r#"{"Type":"container","Action":"die","Actor":{"ID":"a/b"}}"#,
        ] {
            let message = serde_json::from_str(message).expect("an event of the API");
            assert_eq!(Event::read(message), None);
        }
    }

    #[test]
    fn what_a_real_engine_told_of_one_life_is_understood() {
        let recorded = include_str!("../../tests/fixtures/events.json");
        let messages: Vec<EventMessage> = serde_json::from_str(recorded).expect("events of the API");
        let changes: Vec<String> = messages
            .into_iter()
            .filter_map(|message| match Event::read(message)?.what {
                What::Container(_, change) => Some(format!("{change:?}")),
                other => Some(format!("{other:?}")),
            })
            .map(|text| text.split([' ', '(']).next().unwrap_or_default().to_owned())
            .collect();
        let start = ["Connected", "Connected", "Started"];
        let life =
            ["Health", "Paused", "Unpaused", "Renamed", "Signalled", "Died", "Disconnected", "Disconnected"];
        let end = ["Disconnected", "Disconnected", "Signalled", "Died", "Disconnected", "Destroyed"];
        let want = [&start[..], &life, &["Stopped"], &start, &end].concat();
        assert_eq!(changes, want);
    }
}
