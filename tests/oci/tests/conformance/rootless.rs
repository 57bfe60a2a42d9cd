//! A caller without privileges: the user nobody, with a user namespace of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use oci_tests::{Bundle, Environment, Output, Runtime};
use serde_json::json;

const NOBODY: u32 = 65534;

/// A runtime whose program and state the user nobody can reach.
struct Rootless {
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Rootless {
    fn new(environment: &Environment) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let program = dir.path().join(environment.runtime.file_name().expect("a name"));
        fs::copy(&environment.runtime, &program).expect("a copy of the runtime");
        let runtime = Runtime::with_program(&program);
        chown(runtime.root(), Some(NOBODY), Some(NOBODY)).expect("the owner of the state");
        Self { runtime, _dir: dir }
    }

    fn call(&self, mut command: std::process::Command) -> Output {
        command.uid(NOBODY).gid(NOBODY).env_remove("XDG_RUNTIME_DIR");
        self.runtime.finish(command)
    }
}

/// What `spec --rootless` describes: one id, no network, no limits.
fn bundle() -> Bundle {
    let map = json!([{ "containerID": 0, "hostID": NOBODY, "size": 1 }]);
    let bundle = Bundle::new()
        .without_namespace("network")
        .namespace("user", None)
        .namespace("cgroup", None)
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .set("/linux/cgroupsPath", json!(null))
        .remove("/linux/resources")
        .without_mount("/sys")
        .without_mount("/sys/fs/cgroup")
        .without_mount("/dev/pts")
        .mount(json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                       "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }))
        .mount(json!({ "destination": "/sys", "type": "none", "source": "/sys",
                       "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] }));
    own(bundle.dir());
    bundle
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).expect("an owner");
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        for entry in fs::read_dir(path).expect("a directory").flatten() {
            own(&entry.path());
        }
    }
}

/// Some hosts let nobody but root make user namespaces.
fn may() -> bool {
    let mut probe = std::process::Command::new("unshare");
    probe.args(["-U", "true"]).uid(NOBODY).gid(NOBODY);
    let may = probe.status().is_ok_and(|status| status.success());
    if !may {
        eprintln!("left out: this host lets users make no user namespaces");
    }
    may
}

#[test]
fn a_user_runs_a_container() {
    let Some(environment) = Environment::get() else { return };
    if !may() {
        return;
    }
    let rootless = Rootless::new(environment);
    let bundle = bundle().shell("id -u; touch /made; hostname; exit 6");
    rootless.runtime.prepare(&bundle);
    let output = rootless.call(rootless.runtime.command_on("run", &bundle, &[]));
    assert_eq!((output.code, output.stdout.as_str()), (Some(6), "0\ncontainer\n"), "{output}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(bundle.path("/made")).expect("the file").uid(), NOBODY);
}

#[test]
fn a_user_does_everything_else_too() {
    let Some(environment) = Environment::get() else { return };
    if !may() {
        return;
    }
    let rootless = Rootless::new(environment);
    let bundle = bundle().idle();
    rootless.runtime.prepare(&bundle);
    let id = bundle.id();
    let _ = rootless.call(rootless.runtime.command_on("create", &bundle, &[])).ok();
    let _ = rootless.call(rootless.runtime.command(&["start", id])).ok();
    let state = rootless.call(rootless.runtime.command(&["state", id])).ok();
    let state: serde_json::Value = serde_json::from_str(&state.stdout).expect("JSON");
    assert_eq!((&state["status"], &state["owner"]), (&json!("running"), &json!("nobody")));
    let output = rootless.call(rootless.runtime.command(&["exec", id, "/bin/id", "-u"])).ok();
    assert_eq!(output.stdout, "0\n");
    let _ = rootless.call(rootless.runtime.command(&["kill", id, "KILL"])).ok();
    oci_tests::eventually(30, "the end", || {
        rootless.call(rootless.runtime.command(&["state", id])).stdout.contains("\"stopped\"")
    });
    let _ = rootless.call(rootless.runtime.command(&["delete", id])).ok();
}

#[test]
fn a_user_gets_no_more_than_its_own_ids() {
    let Some(environment) = Environment::get() else { return };
    if !may() {
        return;
    }
    let rootless = Rootless::new(environment);
    let map = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    let bundle = bundle().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    rootless.runtime.prepare(&bundle);
    let _ = rootless.call(rootless.runtime.command_on("run", &bundle, &[])).refused();
}

/// The configuration that `spec --rootless` writes runs as it stands, but for the terminal.
#[test]
fn the_configuration_of_spec_is_one_for_users() {
    let Some(environment) = Environment::get() else { return };
    if !may() {
        return;
    }
    let rootless = Rootless::new(environment);
    let bundle = bundle();
    let _ = fs::remove_file(bundle.dir().join("config.json"));
    let dir = bundle.dir().to_str().expect("UTF-8");
    let _ = rootless.call(rootless.runtime.command(&["spec", "--rootless", "--bundle", dir])).ok();
    let path = bundle.dir().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("config.json")).expect("JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/id", "-u"]);
    fs::write(&path, config.to_string()).expect("config.json");
    let output = rootless.call(rootless.runtime.command_on("run", &bundle, &[])).ok();
    assert_eq!(output.stdout, "0\n");
}
