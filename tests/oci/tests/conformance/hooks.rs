//! config.md "POSIX-platform Hooks" and runtime.md "Lifecycle": which hooks run when and where, what they are given,
//! and what their failure means.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::{Value, json};

use crate::refused_for;

/// In the order in which they run.
const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A bundle whose hooks all write a line: kind, mount namespace, state.
struct Hooked {
    bundle: Bundle,
    log: PathBuf,
}

fn script(bundle: &Bundle, name: &str, text: &str) -> PathBuf {
    let path = bundle.dir().join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    path
}

fn hooked() -> Hooked {
    let mut bundle = Bundle::new().idle();
    let log = bundle.dir().join("log");
    for kind in KINDS {
        // startContainer is looked for in the container.
        let (place, sink) = match kind {
            "startContainer" => (bundle.path("/hook"), "/log".to_owned()),
            _ => (bundle.dir().join(kind), log.display().to_string()),
        };
        let text = format!(
            "#!/bin/sh\nprintf '%s %s ' {kind} \"$(/bin/readlink /proc/self/ns/mnt || readlink /proc/self/ns/mnt)\" >> {sink}\ncat >> {sink}\necho >> {sink}\n"
        );
        fs::write(&place, text).expect("a script");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).expect("a mode");
        let path = if kind == "startContainer" { PathBuf::from("/hook") } else { place };
        let hook = json!({ "path": path, "args": [kind], "env": ["PATH=/usr/bin:/bin"] });
        bundle = bundle.push(&format!("/hooks/{kind}"), hook);
    }
    Hooked { bundle, log }
}

impl Hooked {
    /// Lines written so far: kind, mount namespace, state.
    fn lines(&self) -> Vec<(String, String, Value)> {
        let inside = fs::read_to_string(self.bundle.path("/log")).unwrap_or_default();
        let outside = fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines: Vec<_> = outside
            .lines()
            .chain(inside.lines())
            .map(|line| {
                let (kind, rest) = line.split_once(' ').expect("a kind");
                let (namespace, state) = rest.split_once(' ').expect("a namespace");
                (kind.to_owned(), namespace.to_owned(), serde_json::from_str(state).expect("the state as JSON"))
            })
            .collect();
        lines.sort_by_key(|(kind, ..)| KINDS.iter().position(|there| there == kind));
        lines
    }

    fn kinds(&self) -> Vec<String> {
        self.lines().into_iter().map(|(kind, ..)| kind).collect()
    }
}

#[test]
fn hooks_run_at_their_time_and_in_their_namespaces() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let hooked = hooked();
    let container = runtime.create(&hooked.bundle);
    assert_eq!(hooked.kinds(), KINDS[..3]);
    let written = fs::read_to_string(&hooked.log).expect("the log");
    let order: Vec<&str> = written.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(order, KINDS[..3], "in this order");
    let pid = container.pid();
    let own = fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("a namespace").display().to_string();
    container.start();
    assert_eq!(hooked.kinds(), KINDS[..5]);
    container.kill();
    assert_eq!(hooked.kinds(), KINDS[..5]);
    container.delete();
    assert_eq!(hooked.kinds(), KINDS);
    let host = fs::read_link("/proc/self/ns/mnt").expect("a namespace").display().to_string();
    for (kind, namespace, state) in hooked.lines() {
        let inside = kind == "createContainer" || kind == "startContainer";
        assert_eq!(namespace, if inside { own.clone() } else { host.clone() }, "{kind}");
        assert_eq!(state["id"], hooked.bundle.id(), "{kind}");
        assert_eq!(state["bundle"], hooked.bundle.dir().to_str().expect("UTF-8"), "{kind}");
        let status = match kind.as_str() {
            "startContainer" => "created",
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        assert_eq!(state["status"], status, "{kind}");
        if ["prestart", "createRuntime", "poststart"].contains(&kind.as_str()) {
            assert_eq!(state["pid"], pid, "{kind}");
        }
    }
}

#[test]
fn hooks_get_their_arguments_and_environment_only() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let out = tempfile::tempdir().expect("a directory");
    let seen = out.path().join("seen");
    let text =
        format!("(tr '\\0' '\\n' < /proc/$$/cmdline; echo --; tr '\\0' '\\n' < /proc/$$/environ) > {}", seen.display());
    let hook = json!({
        "path": "/bin/sh", "args": ["name", "-c", text, "x", "a b"], "env": ["A=1", "PATH=/usr/bin:/bin", "B=x y"],
    });
    let _ = runtime.run(&Bundle::new().push("/hooks/createRuntime", hook)).ok();
    let written = fs::read_to_string(&seen).expect("what the hook saw");
    let (command, environment) = written.split_once("--\n").expect("both");
    assert!(command.starts_with("name\n-c\n") && command.ends_with("\nx\na b\n"), "{command}");
    let mut environment: Vec<&str> = environment.lines().collect();
    environment.sort_unstable();
    assert_eq!(environment, ["A=1", "B=x y", "PATH=/usr/bin:/bin"]);
}

/// "If any […] hook fails, the runtime MUST generate an error, stop the container, and continue the lifecycle".
#[test]
fn a_failing_hook_before_the_start_makes_no_container() {
    let Some(_) = Environment::get() else { return };
    for kind in &KINDS[..3] {
        let runtime = Runtime::new();
        let bundle = Bundle::new().idle();
        let hook = script(&bundle, "fails", "echo because of this; exit 3");
        let after = bundle.dir().join("after");
        let second = script(&bundle, "second", &format!("touch {}", after.display()));
        let bundle = bundle
            .push(&format!("/hooks/{kind}"), json!({ "path": hook }))
            .push(&format!("/hooks/{kind}"), json!({ "path": second }));
        runtime.prepare(&bundle);
        refused_for(runtime.finish(runtime.command_on("create", &bundle, &[])), &[kind, "because of this"]);
        assert!(!after.exists(), "{kind}: the hook after the failed one ran");
        refused_for(runtime.call(&["state", bundle.id()]), &["does not exist"]);
        refused_for(runtime.run(&bundle), &[kind]);
    }
}

#[test]
fn a_failing_hook_of_the_start_stops_the_container() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("echo ran > /ran; exec sleep 100000").file("/hook", "#!/bin/sh\nexit 3\n", 0o755);
    let bundle = bundle.push("/hooks/startContainer", json!({ "path": "/hook" }));
    let container = runtime.create(&bundle);
    refused_for(runtime.call(&["start", container.id()]), &["startContainer"]);
    oci_tests::eventually(30, "the end of the container", || container.status() == "stopped");
    assert!(!bundle.path("/ran").exists(), "the program ran");
    drop(container);

    let bundle = Bundle::new().idle();
    let hook = script(&bundle, "fails", "exit 3");
    let bundle = bundle.push("/hooks/poststart", json!({ "path": hook }));
    let container = runtime.create(&bundle);
    refused_for(runtime.call(&["start", container.id()]), &["poststart"]);
    assert_eq!(container.status(), "stopped");
}

/// "If any poststop hook fails, the runtime MUST log a warning, but the remaining hooks and lifecycle continue as if
/// the hook had succeeded."
#[test]
fn a_failing_poststop_hook_is_a_warning() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let after = bundle.dir().join("after");
    let fails = script(&bundle, "fails", "exit 3");
    let works = script(&bundle, "works", &format!("touch {}", after.display()));
    let bundle =
        bundle.push("/hooks/poststop", json!({ "path": fails })).push("/hooks/poststop", json!({ "path": works }));
    let container = runtime.start(&bundle);
    container.kill();
    let output = runtime.call(&["delete", container.id()]).ok();
    assert!(output.stderr.contains("poststop"), "no warning: {output}");
    assert!(after.exists(), "the hook after the failed one did not run");
}

#[test]
fn a_hook_that_takes_too_long_is_ended() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new();
    let hook = script(&bundle, "slow", "exec sleep 1000");
    let bundle = bundle.push("/hooks/createRuntime", json!({ "path": hook, "timeout": 1 }));
    refused_for(runtime.run(&bundle), &["createRuntime", "timeout"]);
}

/// The largest number the document can have is no reason to fail, nor to keep a container from being deleted.
#[test]
fn a_timeout_beyond_every_clock_is_none() {
    let Some(_) = Environment::get() else { return };
    for kind in KINDS.into_iter().filter(|kind| *kind != "startContainer") {
        let hook = json!({ "path": "/bin/true", "timeout": i64::MAX });
        let bundle = Bundle::new().args(&["/bin/true"]).push(&format!("/hooks/{kind}"), hook);
        let runtime = Runtime::new();
        let _ = runtime.run(&bundle).ok();
        assert_eq!(runtime.leftovers(), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn hooks_get_no_descriptors_of_the_caller() {
    let Some(_) = Environment::get() else { return };
    let bundle = Bundle::new().args(&["/bin/true"]);
    let found = bundle.dir().join("found");
    let hook = script(&bundle, "look", &format!("[ ! -e /proc/self/fd/7 ] || echo open >> {}", found.display()));
    let kinds = KINDS.into_iter().filter(|kind| *kind != "startContainer");
    let bundle = kinds.fold(bundle, |bundle, kind| bundle.push(&format!("/hooks/{kind}"), json!({ "path": hook })));
    let runtime = Runtime::new().wrapped(["bash", "-c", "exec 7</; exec \"$0\" \"$@\""]);
    let _ = runtime.run(&bundle).ok();
    assert!(!found.exists(), "a hook had a descriptor of the caller's");
}

#[test]
fn hooks_that_are_none_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let with = |hook: Value| Bundle::new().push("/hooks/createRuntime", hook);
    refused_for(runtime.run(&with(json!({ "path": "relative" }))), &["hooks.createRuntime[0].path"]);
    refused_for(runtime.run(&with(json!({ "path": "/bin/true", "timeout": 0 }))), &["hooks.createRuntime[0].timeout"]);
    refused_for(runtime.run(&with(json!({ "path": "/no/such/hook" }))), &["/no/such/hook"]);
}

/// A hook need not read what it is given.
#[test]
fn hooks_may_leave_the_state_unread() {
    let Some(_) = Environment::get() else { return };
    let annotation = "x".repeat(200_000);
    let bundle = Bundle::new()
        .set("/annotations/large", json!(annotation))
        .push("/hooks/prestart", json!({ "path": "/bin/true" }));
    let _ = Runtime::new().run(&bundle).ok();
}
