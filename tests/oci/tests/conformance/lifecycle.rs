//! runtime.md "Lifecycle" and "Operations": what create, start, kill and delete do, when they are refused, and that a
//! refusal leaves everything as it was.

use std::fs;

use oci_tests::{Bundle, Environment, Runtime, eventually};
use serde_json::json;

use crate::{refused_for, twin};

#[test]
fn create_waits_for_start_and_start_runs_the_program() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("echo ran > /ran; exec sleep 100000");
    let container = runtime.create(&bundle);
    assert_eq!(container.status(), "created");
    assert!(!bundle.path("/ran").exists(), "the program ran before it was started");
    container.start();
    assert_eq!(container.status(), "running");
    eventually(30, "the program", || bundle.path("/ran").exists());
    container.kill();
    assert_eq!(container.status(), "stopped");
    container.delete();
    refused_for(runtime.call(&["state", bundle.id()]), &["does not exist"]);
}

#[test]
fn start_is_for_created_containers_only() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let _ = runtime.call(&["start", container.id()]).refused();
    assert_eq!(container.status(), "running", "a refused start changes nothing");
    container.kill();
    let _ = runtime.call(&["start", container.id()]).refused();
    assert_eq!(container.status(), "stopped");
}

#[test]
fn an_id_is_taken_once() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let pid = container.pid();
    for verb in ["create", "run"] {
        refused_for(runtime.finish(runtime.command_on(verb, &bundle, &[])), &["exists"]);
    }
    assert_eq!((container.status().as_str(), container.pid()), ("running", pid));
}

#[test]
fn ids_that_are_no_names_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new();
    runtime.prepare(&bundle);
    let dir = bundle.dir().to_str().expect("UTF-8");
    for id in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\nb"] {
        let _ = runtime.call(&["create", "--bundle", dir, id]).refused();
        let _ = runtime.call(&["state", id]).refused();
        let _ = runtime.call(&["delete", "--force", id]).refused();
    }
}

#[test]
fn delete_is_for_stopped_containers_unless_forced() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    refused_for(runtime.call(&["delete", container.id()]), &["not stopped"]);
    assert_eq!(container.status(), "running", "a refused delete changes nothing");
    let _ = runtime.call(&["delete", "--force", container.id()]).ok();
    refused_for(runtime.call(&["state", container.id()]), &["does not exist"]);
    refused_for(runtime.call(&["delete", container.id()]), &["does not exist"]);
    let _ = runtime.call(&["delete", "--force", container.id()]).ok();
}

/// As runc has it: nothing of the user's has run.
#[test]
fn a_created_container_may_be_deleted() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("echo ran > /ran");
    let container = runtime.create(&bundle);
    container.delete();
    assert!(!bundle.path("/ran").exists());
}

#[test]
fn unknown_containers_are_errors_of_every_command() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for verb in ["state", "start", "kill", "delete", "ps", "pause", "resume", "events", "update", "checkpoint"] {
        refused_for(runtime.call(&[verb, "nobody"]), &["does not exist"]);
    }
    refused_for(runtime.call(&["exec", "nobody", "true"]), &["does not exist"]);
}

/// "Any updates to config.json after this step will not affect the container."
#[test]
fn the_configuration_is_read_once() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("echo first > /said; exec sleep 100000").set("/annotations/a", json!("before"));
    let container = runtime.create(&bundle);
    fs::write(bundle.dir().join("config.json"), "{}").expect("config.json");
    container.start();
    eventually(30, "the program", || bundle.path("/said").exists());
    assert_eq!(container.state()["annotations"]["a"], "before");
}

#[test]
fn a_program_that_is_not_there_is_an_error_and_leaves_nothing() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().args(&["/no/such/program"]);
    for flags in [&[][..], &["--detach"]] {
        let output = runtime.run_with(&bundle, flags).refused();
        assert!(output.stderr.contains("no such file or directory"), "{output}");
    }
    let bundle = Bundle::new().args(&["nosuchprogram"]);
    refused_for(runtime.run(&bundle), &["executable file not found in $PATH"]);
    let bundle = Bundle::new().file("/plain", "text", 0o644).args(&["/plain"]);
    refused_for(runtime.run(&bundle), &["permission denied"]);
}

#[test]
fn refused_configurations_leave_nothing() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let cases = [
        (Bundle::new().remove("/ociVersion"), "ociVersion"),
        (Bundle::new().set("/ociVersion", json!("1.0")), "ociVersion"),
        (Bundle::new().set("/ociVersion", json!("2.0.0")), "ociVersion"),
        (Bundle::new().remove("/root"), "root"),
        (Bundle::new().remove("/process"), "process"),
        (Bundle::new().set("/process/args", json!([])), "process.args"),
        (Bundle::new().set("/process/cwd", json!("relative")), "process.cwd"),
        (Bundle::new().set("/root/path", json!("nowhere")), "root.path"),
        (Bundle::new().set("/process/args", json!("text")), "process.args"),
    ];
    for (bundle, word) in &cases {
        refused_for(runtime.run(bundle), &[word]);
        refused_for(runtime.finish(runtime.command_on("create", bundle, &[])), &[word]);
    }
    let empty = tempfile::tempdir().expect("a directory");
    let dir = empty.path().to_str().expect("UTF-8");
    refused_for(runtime.call(&["create", "--bundle", dir, "x"]), &["config.json"]);
    fs::write(empty.path().join("config.json"), "{ no json").expect("config.json");
    refused_for(runtime.call(&["create", "--bundle", dir, "x"]), &["config.json"]);
}

/// config.md "Extensibility": "Runtimes MUST NOT generate an error when encountering an unknown property".
#[test]
fn unknown_properties_are_passed_over() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new()
        .set("/ociVersion", json!("1.99.0"))
        .set("/novelty", json!({ "a": 1 }))
        .set("/process/novelty", json!(true))
        .set("/linux/resources/novelty", json!([]))
        .set("/solaris", json!({ "milestone": "x" }))
        .set("/windows", json!({ "layerFolders": [] }))
        .shell("echo ran");
    assert_eq!(runtime.run(&bundle).ok().stdout, "ran\n");
}

#[test]
fn run_ends_as_its_program_does() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    assert_eq!(runtime.run(&Bundle::new().shell("exit 7")).code, Some(7));
    assert_eq!(runtime.run(&Bundle::new().shell("exit 255")).code, Some(255));
    // The first process of a pid namespace is safe from its own signals, but not from the host's.
    let bundle = Bundle::new().shell("kill -TERM $$; exit 9").without_namespace("pid");
    assert_eq!(runtime.run(&bundle).code, Some(128 + 15));
}

#[test]
fn run_deletes_unless_told_to_keep() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new();
    let _ = runtime.run(&bundle).ok();
    refused_for(runtime.call(&["state", bundle.id()]), &["does not exist"]);
    if !Environment::get().is_some_and(Environment::is_ours) {
        return;
    }
    let _ = runtime.run_with(&bundle, &["--keep"]).ok();
    let state = runtime.call(&["state", bundle.id()]).ok();
    assert!(state.stdout.contains("\"stopped\""), "{state}");
    let _ = runtime.call(&["delete", bundle.id()]).ok();
}

#[test]
fn run_in_the_foreground_passes_signals_on() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("trap 'exit 42' USR1; echo up > /up; while :; do sleep 0.1; done");
    runtime.prepare(&bundle);
    let (pid, end) = runtime.beside(runtime.command_on("run", &bundle, &[]));
    eventually(30, "the program", || bundle.path("/up").exists());
    let pid = rustix::process::Pid::from_raw(pid).expect("a process number");
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).expect("a signal");
    assert_eq!(end().code, Some(42));
}

/// A bundle without `--bundle` is the working directory.
#[test]
fn the_bundle_is_the_working_directory_by_default() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("echo here");
    runtime.prepare(&bundle);
    let mut command = runtime.command(&["run", bundle.id()]);
    command.current_dir(bundle.dir());
    assert_eq!(runtime.finish(command).ok().stdout, "here\n");
}

/// Callers tell failures apart by the exit code.
#[test]
fn failures_end_with_runcs_codes() {
    let Some(_) = Environment::get() else { return };
    let Some(runc) = twin::runc() else { return };
    let ours = Runtime::new();
    let codes = |runtime: &Runtime| {
        let missing = Bundle::new().args(&["/no/such/program"]);
        let idle = Bundle::new().idle();
        let container = runtime.start(&idle);
        let id = container.id();
        let mut codes = vec![
            ("run of a missing program", runtime.run(&missing).code),
            ("exec of a missing program", runtime.call(&["exec", id, "/no/such/program"]).code),
            ("exec in no container", runtime.call(&["exec", "nobody", "true"]).code),
            ("exec without a command", runtime.call(&["exec", id]).code),
            ("exec that fails", runtime.call(&["exec", id, "sh", "-c", "exit 9"]).code),
            ("exec that is killed", runtime.call(&["exec", id, "sh", "-c", "kill -KILL $$"]).code),
            ("create of an id that exists", runtime.finish(runtime.command_on("create", &idle, &[])).code),
            ("start of a running container", runtime.call(&["start", id]).code),
            ("start of no container", runtime.call(&["start", "nobody"]).code),
            ("kill of no container", runtime.call(&["kill", "nobody", "KILL"]).code),
            ("kill with no signal", runtime.call(&["kill", id, "NOSUCH"]).code),
            ("delete of a running container", runtime.call(&["delete", id]).code),
            ("delete of no container", runtime.call(&["delete", "nobody"]).code),
            ("forced delete of no container", runtime.call(&["delete", "--force", "nobody"]).code),
            ("state of no container", runtime.call(&["state", "nobody"]).code),
            ("resume of a running container", runtime.call(&["resume", id]).code),
        ];
        container.kill();
        codes.push(("kill of a stopped container", runtime.call(&["kill", id, "KILL"]).code));
        codes.push(("exec in a stopped container", runtime.call(&["exec", id, "true"]).code));
        codes.push(("pause of a stopped container", runtime.call(&["pause", id]).code));
        codes
    };
    assert_eq!(codes(&ours), codes(&runc));
}

/// `process` may be left out of a configuration; a container without one is not made, by name.
#[test]
fn commands_and_flags_that_do_not_exist_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    refused_for(runtime.call(&["frobnicate"]), &["frobnicate"]);
    refused_for(runtime.call(&["create", "--frobnicate", "x"]), &["frobnicate"]);
    refused_for(runtime.call(&["create"]), &[]);
}
