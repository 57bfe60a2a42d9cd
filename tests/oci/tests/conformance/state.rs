//! runtime.md "State" and "Query State": the document of `state`, and runc's `list`.

use std::fs;
use std::path::Path;

use oci_tests::{Bundle, Environment, Runtime, eventually};
use serde_json::{Value, json};

use crate::{refused_for, twin};

#[test]
fn the_state_has_what_the_specification_asks_for() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle().set("/annotations", json!({ "org.example.key": "value", "empty": "" }));
    let container = runtime.create(&bundle);
    let state = container.state();
    assert_eq!(state["id"], bundle.id());
    assert_eq!(state["status"], "created");
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
    assert_eq!(state["bundle"], bundle.dir().to_str().expect("UTF-8"));
    assert_eq!(state["annotations"], json!({ "org.example.key": "value", "empty": "" }));
    assert!(fs::exists(format!("/proc/{}", container.pid())).expect("/proc"), "the process of the state is there");
    container.start();
    let running = container.state();
    assert_eq!((&running["status"], &running["pid"]), (&json!("running"), &state["pid"]));
    container.kill();
    // runc says 0, the specification asks for nothing.
    let stopped = container.state();
    assert_eq!(stopped["status"], "stopped");
    assert!(stopped["pid"].as_i64().unwrap_or(0) == 0, "{stopped}");
}

/// "bundle (string, REQUIRED) is the absolute path", whatever was given.
#[test]
fn the_bundle_of_the_state_is_absolute() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    runtime.prepare(&bundle);
    let mut command = runtime.command(&["create", "--bundle", ".", bundle.id()]);
    command.current_dir(bundle.dir());
    let _ = runtime.finish(command).ok();
    let state: Value = serde_json::from_str(&runtime.call(&["state", bundle.id()]).ok().stdout).expect("JSON");
    assert_eq!(state["bundle"], bundle.dir().to_str().expect("UTF-8"));
}

#[test]
fn state_and_list_have_runcs_keys() {
    let Some(_) = Environment::get() else { return };
    let Some(runc) = twin::runc() else { return };
    let ours = Runtime::new();
    let look = |runtime: &Runtime| {
        let bundle = Bundle::new().idle().set("/annotations/a", json!("b"));
        let container = runtime.start(&bundle);
        let list = runtime.call(&["list", "--format", "json"]).ok();
        let list: Value = serde_json::from_str(&list.stdout).expect("JSON");
        let state = container.state();
        assert_eq!(list[0]["id"], container.id());
        assert_eq!(list[0]["pid"], container.pid());
        let owner = list[0]["owner"].clone();
        container.kill();
        (twin::keys(&state), twin::keys(&list), twin::keys(&container.state()), owner)
    };
    let (mut ours_state, ours_list, ours_stopped, ours_owner) = look(&ours);
    let (runc_state, runc_list, runc_stopped, runc_owner) = look(&runc);
    assert_eq!(ours_state, runc_state);
    assert_eq!(ours_list, runc_list);
    assert_eq!(ours_stopped, runc_stopped);
    assert_eq!(ours_owner, runc_owner);
    ours_state.retain(|key| !key.starts_with("annotations"));
    assert_eq!(ours_state.len(), 8);
}

#[test]
fn lists_have_every_container() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    assert_eq!(runtime.call(&["list", "--format", "json"]).ok().stdout.trim(), "null");
    assert_eq!(runtime.call(&["list", "--quiet"]).ok().stdout, "");
    let (one, two) = (Bundle::new().idle(), Bundle::new().idle());
    let created = runtime.create(&one);
    let running = runtime.start(&two);
    let quiet = runtime.call(&["list", "--quiet"]).ok().stdout;
    let mut ids: Vec<&str> = quiet.lines().collect();
    ids.sort_unstable();
    let mut expected = [created.id(), running.id()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let table = runtime.call(&["list"]).ok().stdout;
    let heading: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heading, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert!(table.lines().any(|line| line.starts_with(created.id()) && line.contains(" created ")), "{table}");
    assert!(table.lines().any(|line| line.starts_with(running.id()) && line.contains(" running ")), "{table}");
    refused_for(runtime.call(&["list", "--format", "xml"]), &["format"]);
}

/// What a record that cannot be read as a whole still says is removed, by force; without, nothing of the container goes.
#[test]
fn a_damaged_record_is_used_for_what_it_says() {
    let Some(environment) = Environment::get() else { return };
    if !environment.is_ours() {
        return;
    }
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let pid = container.pid();
    let path = runtime.root().join(bundle.id()).join("state.json");
    let record = fs::read_to_string(&path).expect("the record");
    let mut changed: Value = serde_json::from_str(&record).expect("JSON");
    // What an older program did not write has its default.
    for later in ["memory_policy", "personality", "resctrl"] {
        changed.as_object_mut().expect("an object").remove(later);
    }
    fs::write(&path, changed.to_string()).expect("an older record");
    assert_eq!(container.status(), "running");
    changed["owner"] = json!("nobody");
    fs::write(&path, changed.to_string()).expect("a damaged record");
    refused_for(runtime.call(&["delete", bundle.id()]), &["cannot be read", "processes and groups", "--force"]);
    let _ = runtime.call(&["delete", "--force", bundle.id()]).ok();
    // Whoever inherits it may take its time to reap it.
    eventually(30, "the end of the container's process", || !Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(runtime.leftovers(), Vec::<String>::new());
}
