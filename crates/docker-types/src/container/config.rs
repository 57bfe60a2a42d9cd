//! The portable part of a container's configuration and the create request.

use crate::StringMap;
use crate::container::HostConfig;
use crate::go::{Empty, StrSlice, go_struct};
use crate::network::NetworkingConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

go_struct! {
    /// What runs in the container.
    pub struct ContainerConfig {
        "Hostname" hostname: String,
        "Domainname" domainname: String,
        "User" user: String,
        "AttachStdin" attach_stdin: bool,
        "AttachStdout" attach_stdout: bool,
        "AttachStderr" attach_stderr: bool,
        "ExposedPorts" / "crate::go::omit" exposed_ports: Option<BTreeMap<String, Empty>>,
        "Tty" tty: bool,
        "OpenStdin" open_stdin: bool,
        "StdinOnce" stdin_once: bool,
        "Env" env: Option<Vec<String>>,
        "Cmd" cmd: Option<StrSlice>,
        "Healthcheck" / "crate::go::omit" healthcheck: Option<HealthConfig>,
        "ArgsEscaped" / "crate::go::omit" args_escaped: bool,
        "Image" image: String,
        "Volumes" volumes: Option<BTreeMap<String, Empty>>,
        "WorkingDir" working_dir: String,
        "Entrypoint" entrypoint: Option<StrSlice>,
        "NetworkDisabled" / "crate::go::omit" network_disabled: bool,
        /// Before 1.52 only; later versions set it per endpoint.
        "MacAddress" / "crate::go::omit" mac_address: String,
        "OnBuild" / "crate::go::omit" on_build: Option<Vec<String>>,
        "Labels" labels: Option<StringMap>,
        "StopSignal" / "crate::go::omit" stop_signal: String,
        /// Seconds.
        "StopTimeout" / "crate::go::omit" stop_timeout: Option<i64>,
        "Shell" / "crate::go::omit" shell: Option<StrSlice>,
    }
}

go_struct! {
    /// How to tell that a container is healthy. Durations are nanoseconds, zero inherits.
    pub struct HealthConfig {
        /// Empty inherits; `NONE`; `CMD` and arguments; `CMD-SHELL` and a command.
        "Test" / "crate::go::omit" test: Vec<String>,
        "Interval" / "crate::go::omit" interval: i64,
        "Timeout" / "crate::go::omit" timeout: i64,
        "StartPeriod" / "crate::go::omit" start_period: i64,
        "StartInterval" / "crate::go::omit" start_interval: i64,
        "Retries" / "crate::go::omit" retries: i64,
    }
}

/// Body of `POST /containers/create`: the configuration's fields with the host's part beside them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerCreateBody {
    /// The portable part, its fields inline.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// The host's part.
    #[serde(rename = "HostConfig")]
    pub host_config: Option<HostConfig>,
    /// Networks to join.
    #[serde(rename = "NetworkingConfig")]
    pub networking_config: Option<NetworkingConfig>,
}

go_struct! {
    /// Answer of `POST /containers/create`.
    pub struct ContainerCreateResponse {
        "Id" id: String,
        "Warnings" warnings: Vec<String>,
    }
}
