//! features.md, and the configuration that `spec` writes.

use std::fs;

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::{Value, json};

use crate::{refused_for, twin};

fn features(runtime: &Runtime) -> Value {
    serde_json::from_str(&runtime.call(&["features"]).ok().stdout).expect("JSON")
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn features_has_what_the_specification_asks_for() {
    let Some(_) = Environment::get() else { return };
    let features = features(&Runtime::new());
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["ociVersionMax"].as_str().is_some_and(|version| version.starts_with("1.")), "{features}");
    assert_eq!(list(&features["hooks"]).len(), 6);
    for option in ["rbind", "ro", "rro", "nosuid", "idmap", "tmpcopyup", "rprivate"] {
        assert!(list(&features["mountOptions"]).contains(&option), "{option}");
    }
    let linux = &features["linux"];
    let mut namespaces = list(&linux["namespaces"]);
    namespaces.sort_unstable();
    assert_eq!(namespaces, ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]);
    assert!(list(&linux["capabilities"]).contains(&"CAP_CHECKPOINT_RESTORE"));
    assert_eq!((&linux["cgroup"]["v1"], &linux["cgroup"]["v2"]), (&json!(true), &json!(true)));
    assert_eq!(linux["seccomp"]["enabled"], true);
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
    assert_eq!(linux["netDevices"]["enabled"], true);
    assert!(list(&linux["memoryPolicy"]["modes"]).contains(&"MPOL_BIND"));
}

#[test]
fn features_lacks_nothing_that_runc_has() {
    let Some(_) = Environment::get() else { return };
    let Some(runc) = twin::runc() else { return };
    let output = runc.call(&["features"]);
    if !output.success() {
        eprintln!("left out: this runc has no features command");
        return;
    }
    let theirs: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let ours = features(&Runtime::new());
    let own = |key: &String| key.starts_with("annotations") || key.starts_with("potentiallyUnsafe");
    let keys = twin::keys(&ours);
    let missing: Vec<_> = twin::keys(&theirs).into_iter().filter(|key| !own(key) && !keys.contains(key)).collect();
    assert!(missing.is_empty(), "keys of runc's that ours lacks: {missing:?}");
    for pointer in [
        "/hooks",
        "/mountOptions",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/seccomp/actions",
        "/linux/seccomp/operators",
        "/linux/seccomp/knownFlags",
        "/linux/memoryPolicy/modes",
        "/linux/memoryPolicy/flags",
    ] {
        let (ours, theirs) = (ours.pointer(pointer), theirs.pointer(pointer));
        let Some(theirs) = theirs else { continue };
        let ours = ours.map(list).unwrap_or_default();
        let missing: Vec<_> = list(theirs).into_iter().filter(|word| !ours.contains(word)).collect();
        assert!(missing.is_empty(), "{pointer}: words of runc's that ours lacks: {missing:?}");
    }
}

#[test]
fn every_mount_option_of_features_is_taken() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let options = features(&runtime);
    // One mount for each, of a kind that the option is for; mappings are tested where they belong.
    let mut bundle = Bundle::new();
    for option in list(&options["mountOptions"]).into_iter().filter(|option| !option.contains("idmap")) {
        let at = format!("/options/{option}");
        let mount = if option == "tmpcopyup" {
            json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": [option] })
        } else {
            json!({ "destination": at, "type": "bind", "source": "beside", "options": ["bind", option] })
        };
        bundle = bundle.mount(mount);
    }
    fs::create_dir(bundle.dir().join("beside")).expect("a directory");
    let _ = runtime.run(&bundle).ok();
}

#[test]
fn spec_writes_a_configuration_that_runs() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new();
    let dir = bundle.dir().to_str().expect("UTF-8");
    let _ = runtime.call(&["spec", "--bundle", dir]).ok();
    let path = bundle.dir().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("config.json")).expect("JSON");
    assert_eq!(config["process"]["terminal"], true);
    refused_for(runtime.call(&["spec", "--bundle", dir]), &["config.json"]);
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/echo", "ran"]);
    config["linux"]["cgroupsPath"] = json!(format!("/{}/{}", runtime.parent_group(), bundle.id()));
    fs::write(&path, config.to_string()).expect("config.json");
    assert_eq!(runtime.finish(runtime.command_on("run", &bundle, &[])).ok().stdout, "ran\n");
}

#[test]
fn spec_means_what_runcs_does() {
    let Some(_) = Environment::get() else { return };
    let Some(runc) = twin::runc() else { return };
    let write = |runtime: &Runtime, flags: &[&str]| {
        let dir = tempfile::tempdir().expect("a directory");
        let words: Vec<&str> =
            ["spec", "--bundle", dir.path().to_str().expect("UTF-8")].iter().chain(flags).copied().collect();
        let _ = runtime.call(&words).ok();
        let mut config: Value =
            serde_json::from_slice(&fs::read(dir.path().join("config.json")).expect("config.json")).expect("JSON");
        for own in ["ociVersion", "hostname"] {
            config[own] = Value::Null;
        }
        // Only runc before 1.2 writes this set.
        if let Some(sets) = config["process"]["capabilities"].as_object_mut() {
            sets.shift_remove("ambient");
        }
        config
    };
    let ours = Runtime::new();
    assert_eq!(twin::keys(&write(&ours, &[])), twin::keys(&write(&runc, &[])));
    let (one, two) = (write(&ours, &[]), write(&runc, &[]));
    for part in ["mounts", "root"] {
        assert_eq!(one[part], two[part], "{part}");
    }
    assert_eq!(one["process"], two["process"]);
}

#[test]
fn the_version_is_said() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for flag in ["--version", "-v"] {
        let output = runtime.call(&[flag]).ok();
        assert!(output.stdout.contains(" version ") && output.stdout.contains("\nspec: 1."), "{output}");
    }
}
