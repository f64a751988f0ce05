//! The parts of the engine's answers that are used, as they come.
//!
//! Of our own, because bollard's models refuse an answer whole for one word that they do not know: a new state or kind
//! of mount would cost every container of the engine. Here every word is text until somebody asks what it means.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// `GET /containers/ID/json`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Inspect {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) created: Option<String>,
    pub(super) image: Option<String>,
    pub(super) restart_count: Option<i64>,
    pub(super) state: Option<State>,
    pub(super) host_config: Option<HostConfig>,
    pub(super) config: Option<Config>,
    pub(super) network_settings: Option<NetworkSettings>,
}

/// `State`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    pub(super) status: Option<String>,
    pub(super) running: Option<bool>,
    pub(super) started_at: Option<String>,
    pub(super) health: Option<Health>,
}

/// `State.Health`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Health {
    pub(super) status: Option<String>,
}

/// `HostConfig`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostConfig {
    pub(super) network_mode: Option<String>,
    pub(super) restart_policy: Option<RestartPolicy>,
    pub(super) links: Option<Vec<String>>,
}

/// `HostConfig.RestartPolicy`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct RestartPolicy {
    pub(super) name: Option<String>,
    pub(super) maximum_retry_count: Option<i64>,
}

/// `Config`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Config {
    pub(super) image: Option<String>,
    pub(super) labels: Option<HashMap<String, String>>,
    pub(super) stop_signal: Option<String>,
    pub(super) stop_timeout: Option<i64>,
    pub(super) exposed_ports: Option<HashMap<String, IgnoredAny>>,
}

/// `NetworkSettings`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NetworkSettings {
    pub(super) ports: Option<HashMap<String, IgnoredAny>>,
    pub(super) networks: Option<HashMap<String, Endpoint>>,
}

/// `NetworkSettings.Networks.NAME`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoint {
    #[serde(rename = "NetworkID")]
    pub(super) network_id: Option<String>,
    #[serde(rename = "IPAddress")]
    pub(super) ip_address: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    pub(super) global_ipv6_address: Option<String>,
    #[serde(rename = "Links")]
    pub(super) links: Option<Vec<String>>,
}

/// One item of `GET /containers/json`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Summary {
    pub(super) id: Option<String>,
    pub(super) names: Option<Vec<String>>,
    pub(super) state: Option<String>,
    pub(super) labels: Option<HashMap<String, String>>,
    pub(super) network_settings: Option<NetworkSettings>,
}

/// One item of `GET /networks`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Network {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) driver: Option<String>,
    pub(super) ingress: Option<bool>,
    #[serde(rename = "IPAM")]
    pub(super) ipam: Option<Ipam>,
}

/// `IPAM`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Ipam {
    pub(super) config: Option<Vec<IpamConfig>>,
}

/// `IPAM.Config`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct IpamConfig {
    pub(super) subnet: Option<String>,
    pub(super) gateway: Option<String>,
}
