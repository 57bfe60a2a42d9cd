//! The example on both engines, and what they say of it compared field by field: `compose ps`, events in their order,
//! networks, the volume, and the network settings of containers. Ids, addresses and names of images become names first;
//! what still may differ is in [`EXCEPTIONS`].

use std::collections::BTreeMap;

use e2e::http::request;
use e2e::{Daemon, Project};
use serde_json::{Value, json};

use super::recorder::Recorder;
use super::{free_address, name, pair};
use crate::eventually;
use crate::twin::same;

const SERVICES: [&str; 3] = ["db", "app", "proxy"];

/// Where the engines may differ, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    (".ps[].CreatedAt", "a time"),
    (".ps[].RunningFor", "a time"),
    (".ps[].Status", "has a time in it; `State` and `Health` are compared"),
    (".ps[].Size", "not asked for, and dockerd's text for it depends on its store"),
    (".volume[].CreatedAt", "a time"),
    (".volume[].Mountpoint", "below each engine's own directory"),
    (".networks[].Created", "a time"),
    (".settings[].SandboxID", "an id"),
    (".settings[].SandboxKey", "a path"),
    (".settings[].Bridge", "dockerd 28.5 still sends it, Docker 29 does not (API 1.52)"),
    (".settings[].HairpinMode", "likewise"),
    (".settings[].LinkLocalIPv6", "likewise"),
    (".settings[].SecondaryIP", "likewise"),
    (".settings[].EndpointID", "likewise"),
    (".settings[].Gateway", "likewise"),
    (".settings[].GlobalIPv6", "likewise"),
    (".settings[].IPAddress", "likewise"),
    (".settings[].IPPrefixLen", "likewise"),
    (".settings[].IPv6Gateway", "likewise"),
    (".settings[].MacAddress", "likewise"),
];

/// What one engine says.
struct Answers {
    documents: Value,
    up: Vec<Value>,
    restart: Vec<Value>,
    down: Vec<Value>,
}

fn ask(project: &Project, address: &str) -> Answers {
    let recorder = Recorder::start(project);
    project.up(&[]);
    let mut up = recorder.finish();
    let mut documents = documents(project);
    let names = names(project, &documents);
    let recorder = Recorder::start(project);
    project.run(&["restart"]);
    let mut restart = recorder.finish();
    eventually(60, "an answer after the restart", || {
        request(address, "GET", "/health", "").is_ok_and(|(status, _)| status == 200)
    });
    let recorder = Recorder::start(project);
    project.run(&["down", "--volumes"]);
    let mut down = recorder.finish();
    rename(&mut documents, &names);
    for event in up.iter_mut().chain(&mut restart).chain(&mut down) {
        rename(event, &names);
    }
    Answers { documents, up, restart, down }
}

fn documents(project: &Project) -> Value {
    let client = &project.client;
    let networks = ["back", "front"].map(|network| format!("{}_{network}", project.name));
    let mut ps = project.json_lines(&["ps", "--format", "json"]);
    ps.sort_by_key(|row| row["Service"].to_string());
    for row in &mut ps {
        // Lists in one text, in no order.
        for list in ["Labels", "Networks", "Mounts"] {
            let mut parts: Vec<&str> = row[list].as_str().unwrap_or_default().split(',').collect();
            parts.sort_unstable();
            row[list] = json!(parts);
        }
    }
    let inspected = client.json(&["network", "inspect", &networks[0], &networks[1]]);
    let volume = client.json(&["volume", "inspect", &format!("{}_data", project.name)]);
    let settings: Vec<Value> = SERVICES.map(|service| container(project, service)["NetworkSettings"].clone()).into();
    json!({ "ps": ps, "networks": inspected, "volume": volume, "settings": settings })
}

fn container(project: &Project, service: &str) -> Value {
    project.client.inspect(&project.ids(&[service])[0])
}

/// A name for everything that each engine chooses for itself.
fn names(project: &Project, documents: &Value) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    let mut put = |value: &Value, name: String| {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            names.insert(text.to_owned(), name);
        }
    };
    for (at, service) in SERVICES.iter().enumerate() {
        let container = container(project, service);
        put(&container["Id"], text(&container["Name"]).trim_start_matches('/').to_owned());
        put(&json!(container["Id"].as_str().map(|id| &id[..12])), format!("<short {service}>"));
        put(&container["Image"], format!("<image of {service}>"));
        for (network, endpoint) in documents["settings"][at]["Networks"].as_object().into_iter().flatten() {
            for field in ["EndpointID", "IPAddress", "MacAddress"] {
                put(&endpoint[field], format!("<{field} of {service} in {network}>"));
            }
        }
    }
    for network in documents["networks"].as_array().into_iter().flatten() {
        let name = network["Name"].as_str().unwrap_or_default();
        put(&network["Id"], format!("<{name}>"));
        for range in network["IPAM"]["Config"].as_array().into_iter().flatten() {
            put(&range["Subnet"], format!("<subnet of {name}>"));
            put(&range["Gateway"], format!("<gateway of {name}>"));
        }
    }
    names
}

/// Puts names in the place of what has one: whole words of texts, and keys. A length after an address goes with it.
fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => *text = renamed(text, names),
        Value::Array(list) => list.iter_mut().for_each(|inner| rename(inner, names)),
        Value::Object(map) => {
            let old = std::mem::take(map);
            for (key, mut inner) in old {
                rename(&mut inner, names);
                map.insert(renamed(&key, names), inner);
            }
        }
        _ => {}
    }
}

fn renamed(text: &str, names: &BTreeMap<String, String>) -> String {
    let known = |word: &str| names.get(word).or_else(|| names.get(word.split('/').next().unwrap_or_default()));
    text.split_inclusive([' ', ',', '='])
        .map(|part| {
            let word = part.trim_end_matches([' ', ',', '=']);
            known(word).map_or_else(|| part.to_owned(), |name| format!("{name}{}", &part[word.len()..]))
        })
        .collect()
}

/// What happened, in its order: kind, action and whose. Probes of health are many or few as the time falls, and networks
/// of one container or project are joined and left in no order; dockerd tells of an end now before and now after the stop
/// that brought it. What is done to all services at once has an order for
/// each container alone, and health comes when it comes.
fn sequence(events: &[Value], at_once: bool) -> Vec<String> {
    let mut lines: Vec<[&str; 4]> = Vec::new();
    for event in events {
        let (kind, action) = (text(&event["Type"]), text(&event["Action"]));
        if action.starts_with("exec_") || (action.starts_with("health_status") && at_once) {
            continue;
        }
        let attributes = &event["Actor"]["Attributes"];
        let name = attributes["name"].as_str().unwrap_or_else(|| text(&event["Actor"]["ID"]));
        let container = attributes["container"].as_str().unwrap_or(name);
        lines.push([container, kind, action, name]);
    }
    if at_once {
        lines.sort_by_key(|[container, ..]| *container);
    }
    let network = |line: &[&str; 4]| line[1] == "network";
    for run in lines.chunk_by_mut(|left, right| network(left) && network(right)) {
        run.sort_unstable();
    }
    let end = |line: &[&str; 4]| ["die", "stop", "unmount"].contains(&line[2]);
    for run in lines.chunk_by_mut(|left, right| end(left) && end(right) && left[0] == right[0]) {
        run.sort_unstable();
    }
    lines.iter().map(|line| line.join(" ")).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// One event of each kind and action with all it says, times aside; health likewise only where it was waited for.
fn kinds(events: &[Value], at_once: bool) -> Value {
    let mut kinds = serde_json::Map::new();
    for event in events {
        if at_once && ["exec_", "health_status"].iter().any(|begin| text(&event["Action"]).starts_with(begin)) {
            continue;
        }
        let mut event = event.clone();
        let action = text(&event["Action"]).split(':').next().unwrap_or_default().to_owned();
        for own in ["time", "timeNano"] {
            event[own] = json!(event[own].is_number());
        }
        let attributes = &mut event["Actor"]["Attributes"];
        for own in ["execID", "execDuration"] {
            if attributes.get(own).is_some() {
                attributes[own] = json!("its own");
            }
        }
        let container = text(&attributes["container"]).to_owned();
        kinds.insert(format!("{} {action} {} {container}", text(&event["Type"]), text(&event["Actor"]["ID"])), event);
    }
    Value::Object(kinds)
}

#[test]
fn what_is_said_of_the_example_agrees() {
    let Some(daemon) = Daemon::with_network() else { return };
    let (name, address) = (name(), free_address());
    let [theirs, ours] = pair().map(|engine| {
        let project = engine.three_tier(&daemon, &name, &address);
        ask(&project, &address)
    });
    let except: Vec<&str> = EXCEPTIONS.iter().map(|(path, _)| *path).collect();
    for (what, left, right, at_once) in [
        ("up", &theirs.up, &ours.up, false),
        ("restart", &theirs.restart, &ours.restart, true),
        ("down", &theirs.down, &ours.down, true),
    ] {
        let (left_lines, right_lines) = (sequence(left, at_once), sequence(right, at_once));
        assert!(left_lines == right_lines, "{what}\ndockerd: {left_lines:#?}\ndhowd: {right_lines:#?}");
        same(what, &kinds(left, at_once), &kinds(right, at_once), &[]);
    }
    same("documents", &theirs.documents, &ours.documents, &except);
}
