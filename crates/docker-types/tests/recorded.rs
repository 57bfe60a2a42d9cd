//! Bodies recorded from Docker's clients and daemon (API 1.51) must survive a round trip through
//! our types without losing, adding or changing a field.

use docker_types::container::*;
use docker_types::image::*;
use docker_types::network::*;
use docker_types::{ApiVersion, Versioned, exec::*, system::*, volume::*};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

fn recorded(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn round_trip<T: Serialize + DeserializeOwned>(name: &str) {
    let recorded = recorded(name);
    let typed: T = serde_json::from_value(recorded.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(serde_json::to_value(&typed).unwrap(), recorded, "{name}");
}

fn old_round_trip<T: Versioned + DeserializeOwned>(name: &str, patch: impl Fn(&mut Value)) {
    let mut recorded = recorded(name);
    let typed: T = serde_json::from_value(recorded.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let shown: Value = serde_json::from_slice(&typed.at_version(ApiVersion::new(1, 51)).unwrap()).unwrap();
    patch(&mut recorded);
    assert_eq!(shown, recorded, "{name}");
}

#[test]
fn answers() {
    round_trip::<ContainerStats>("container_stats");
    round_trip::<ContainerTop>("container_top");
    round_trip::<Vec<FilesystemChange>>("container_changes");
    round_trip::<Version>("version");
    round_trip::<Vec<ImageSummary>>("image_list");
    round_trip::<Vec<Network>>("network_list");
    round_trip::<Network>("network_inspect");
    round_trip::<Volume>("volume");
    round_trip::<Vec<HistoryItem>>("image_history");
    round_trip::<ExecInspect>("exec_inspect");
    round_trip::<Vec<ContainerSummary>>("container_list");
}

#[test]
fn answers_before_1_52() {
    old_round_trip::<ContainerInspect>("container_inspect", |_| ());
    old_round_trip::<ImageInspect>("image_inspect", |_| ());
    old_round_trip::<SystemInfo>("info", |recorded| {
        // Set on cgroup v1 only and meaningless since kernel 5.4.
        recorded.as_object_mut().unwrap().remove("KernelMemoryTCP");
    });
}

#[test]
fn container_inspect_since_1_52_has_no_repeated_network_facts() {
    let typed: ContainerInspect = serde_json::from_value(recorded("container_inspect")).unwrap();
    let shown: Value = serde_json::from_slice(&typed.at_version(ApiVersion::CURRENT).unwrap()).unwrap();
    let settings = shown["NetworkSettings"].as_object().unwrap();
    let keys: std::collections::BTreeSet<&str> = settings.keys().map(String::as_str).collect();
    assert_eq!(keys, ["Networks", "Ports", "SandboxID", "SandboxKey"].into());
    assert!(shown["Config"].get("OnBuild").is_none());
}

#[test]
fn requests() {
    let body: ContainerCreateBody = serde_json::from_value(recorded("create_request")).unwrap();
    assert_eq!(body.config.cmd.as_ref().unwrap()[0], "sh");
    assert_eq!(body.config.healthcheck.as_ref().unwrap().interval, 1_000_000_000);
    let host = body.host_config.as_ref().unwrap();
    assert_eq!((host.memory, host.memory_swappiness), (67_108_864, Some(-1)));
    assert_eq!(host.port_bindings.as_ref().unwrap()["80/tcp"].as_ref().unwrap()[0].host_port, "18099");
    assert_eq!(host.resources().memory, 67_108_864);
    let mut sent = recorded("create_request");
    // An unset ONBUILD is left out since 1.52.
    sent.as_object_mut().unwrap().remove("OnBuild");
    assert_eq!(serde_json::to_value(&body).unwrap(), sent);
    round_trip::<ContainerUpdateBody>("update_request");
    round_trip::<NetworkCreateBody>("network_create_request");
    let exec: ExecCreateBody = serde_json::from_value(recorded("exec_request")).unwrap();
    assert_eq!(&exec.cmd.unwrap()[..], ["echo", "in"]);
    let connect: NetworkConnectBody = serde_json::from_value(recorded("network_connect_request")).unwrap();
    assert_eq!(connect.endpoint_config.unwrap().aliases.unwrap(), ["al2"]);
}

#[test]
fn leniency_of_requests() {
    let all_null = r#"{"Hostname":null,"Cmd":"echo hi","Env":null,"Labels":null,"StopTimeout":null,"Unknown":{"a":[1]},
        "ExposedPorts":{"80/tcp":null},"HostConfig":{"Memory":null,"LogConfig":null,"Mounts":null,"ConsoleSize":null,
        "RestartPolicy":null,"PortBindings":{"80/tcp":null}},"NetworkingConfig":{"EndpointsConfig":{"x":null}}}"#;
    let body: ContainerCreateBody = serde_json::from_str(all_null).unwrap();
    assert_eq!(&body.config.cmd.unwrap()[..], ["echo hi"]);
    let empty: ContainerCreateBody = serde_json::from_str("{}").unwrap();
    assert!(empty.host_config.is_none() && empty.config == ContainerConfig::default());
    assert!(serde_json::from_str::<ContainerCreateBody>(r#"{"HostConfig":{"Memory":"64m"}}"#).is_err());
    let deep = format!("{{\"Unknown\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(serde_json::from_str::<ContainerCreateBody>(&deep).is_err());
}

#[test]
fn disk_usage_by_version() {
    let full = DiskUsage {
        layers_size: Some(1),
        images: Some(vec![ImageSummary::default()]),
        image_usage: Some(UsageSummary {
            items: vec![ImageSummary::default()],
            total_count: 1,
            ..UsageSummary::default()
        }),
        ..DiskUsage::default()
    };
    let keys = |v: ApiVersion, verbose| {
        let shown = serde_json::to_value(full.clone().trim(v, verbose)).unwrap();
        let items = shown.pointer("/ImageUsage/Items").is_some();
        (shown.get("Images").is_some(), shown.get("ImageUsage").is_some(), items)
    };
    assert_eq!(keys(ApiVersion::new(1, 51), false), (true, false, false));
    assert_eq!(keys(ApiVersion::new(1, 52), false), (true, true, false));
    assert_eq!(keys(ApiVersion::new(1, 52), true), (false, true, true));
    assert_eq!(keys(ApiVersion::new(1, 55), false), (false, true, false));
}

#[test]
fn path_stat_header() {
    let header = "eyJuYW1lIjoicGFzc3dkIiwic2l6ZSI6MzAsIm1vZGUiOjQyMCwibXRpbWUiOiIyMDI2LTExLTIzVDE0OjU5OjUyWiIsImxpbmtUYXJnZXQiOiIifQ==";
    let stat = PathStat::from_header(header).unwrap();
    assert_eq!((stat.name.as_str(), stat.size, stat.mode), ("passwd", 30, 0o644));
    assert_eq!(stat.to_header(), header);
    assert_eq!(go_file_mode(0o041_777), GO_MODE_DIR | GO_MODE_STICKY | 0o777);
}
