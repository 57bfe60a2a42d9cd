//! Commands on one id at the same time: who makes or removes a container is alone with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci_tests::{Bundle, Environment, Runtime, eventually};
use serde_json::{Value, json};

/// A hook that says that it is there and waits until the file `go` is there beside it.
fn waiting_hook(bundle: &Bundle) -> Value {
    let path = bundle.dir().join("hook");
    let dir = bundle.dir().display();
    let text = format!(
        "#!/bin/sh\necho x >> {dir}/there\ntries=0\nuntil [ -e {dir}/go ] || [ $tries = 100 ]; do sleep 0.05; tries=$((tries + 1)); done\n"
    );
    fs::write(&path, text).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    json!({ "path": path, "env": ["PATH=/usr/bin:/bin"] })
}

fn is_there(bundle: &Bundle) -> bool {
    bundle.dir().join("there").exists()
}

fn let_go(bundle: &Bundle) {
    fs::write(bundle.dir().join("go"), "").expect("a file");
}

/// Who waits for a container has its directory open.
fn holds_open(pid: i32, dir: &Path) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.filter_map(|link| fs::read_link(link.path()).ok()).any(|file: PathBuf| file == dir)
}

#[test]
fn a_delete_waits_for_the_create() {
    let Some(environment) = Environment::get() else { return };
    if !environment.is_ours() {
        return;
    }
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let hook = waiting_hook(&bundle);
    let bundle = bundle.push("/hooks/createRuntime", hook);
    runtime.prepare(&bundle);
    let (_, created) = runtime.beside(runtime.command_on("create", &bundle, &[]));
    eventually(30, "the hook", || is_there(&bundle));
    let (deleting, deleted) = runtime.beside(runtime.command(&["delete", "--force", bundle.id()]));
    let dir = runtime.root().join(bundle.id());
    eventually(30, "the wait", || holds_open(deleting, &dir));
    let_go(&bundle);
    let _ = created().ok();
    let _ = deleted().ok();
    assert!(!dir.exists(), "the container that was made is still there");
    assert_eq!(runtime.leftovers(), Vec::<String>::new());
}

/// A delete that was begun for a container that is gone leaves the next one of the same id alone.
#[test]
fn a_late_delete_does_not_hit_the_next_container() {
    let Some(environment) = Environment::get() else { return };
    if !environment.is_ours() {
        return;
    }
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let hook = waiting_hook(&bundle);
    let bundle = bundle.push("/hooks/poststop", hook);
    let dir = runtime.root().join(bundle.id());
    let container = runtime.start(&bundle);
    container.kill();
    let (_, first) = runtime.beside(runtime.command(&["delete", bundle.id()]));
    eventually(30, "the hook", || is_there(&bundle));
    let (second_pid, second) = runtime.beside(runtime.command(&["delete", "--force", bundle.id()]));
    eventually(30, "the wait", || holds_open(second_pid, &dir));
    // The second goes on when it looks again, 5 ms later; until then it is held.
    let held = rustix::process::Pid::from_raw(second_pid).expect("a number");
    rustix::process::kill_process(held, rustix::process::Signal::STOP).expect("to stop it");
    let_go(&bundle);
    let _ = first().ok();
    let next = runtime.start(&bundle);
    rustix::process::kill_process(held, rustix::process::Signal::CONT).expect("to let it go on");
    let _ = second().ok();
    assert_eq!(next.status(), "running", "the delete of another container hit it");
    let hooks = fs::read_to_string(bundle.dir().join("there")).expect("what the hook wrote");
    assert_eq!(hooks.lines().count(), 1, "poststop ran once for one container");
}
